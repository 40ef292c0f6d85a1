"""Claims: namespaces handed out to one tenant at a time, on one host or on whichever host of a fleet has them.

A claim is a lease of the namespace's label UUID, so it means the same bytes whatever the kernel calls the device after
a reboot. What a tenant that died left is found by its record, and is made clean before the next one gets it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from VpmemLibrary.errors import InvalidValueError, NotFoundError, OutOfSpaceError, VpmemError
from VpmemLibrary.leases.leases import Entry, Holder, Leases, LeasesHeldError
from VpmemLibrary.pmem.records import Inventory, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted

_TOLD = 20
"""How many holders the message of an exhausted fleet names at most."""

Clean = Callable[[Namespace, Holder], None]
"""Makes a namespace clean that a dead holder left."""


class ExhaustedError(OutOfSpaceError):
    """Every namespace that meets a wish is held; the message says by whom and since when. Nothing was claimed."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What one claimed namespace has to be; what is empty or None does not matter.

    Args:
        label: Its label in the setting.
        name: Its own name.
        size: Its usable bytes.
        mode: Its mode.
        node: Its NUMA node.
    """

    label: str = ""
    name: str = ""
    size: Size | None = None
    mode: NamespaceMode | None = None
    node: int | None = None

    def met_by(self, offer: Offer) -> bool:
        """Whether a namespace is what is wished for."""
        namespace = offer.namespace
        return (
            (not self.label or offer.label == self.label)
            and (not self.name or namespace.name == self.name)
            and (self.size is None or namespace.size == self.size)
            and (self.mode is None or namespace.mode is self.mode)
            and (self.node is None or namespace.numa_node == self.node)
        )

    def __str__(self) -> str:
        parts = [
            f"label {self.label}" if self.label else "",
            f"name {self.name}" if self.name else "",
            f"{self.size}" if self.size is not None else "",
            f"mode {self.mode}" if self.mode else "",
            f"NUMA node {self.node}" if self.node is not None else "",
        ]
        return ", ".join(filter(None, parts)) or "any namespace"


@dataclass(frozen=True, slots=True)
class Offer:
    """One namespace that may be claimed.

    Args:
        namespace: The namespace; identified by its label UUID.
        label: Its label in the setting; empty without one.
    """

    namespace: Namespace
    label: str = ""

    @property
    def key(self) -> str:
        """What is held of it."""
        return self.namespace.label_uuid


@dataclass(frozen=True, slots=True)
class Claim:
    """One namespace that is held.

    Args:
        host: The alias of its host.
        namespace: The namespace as it is now.
        label: Its label in the setting; empty without one.
    """

    host: str
    namespace: Namespace
    label: str = ""

    @property
    def key(self) -> str:
        """What is held of it."""
        return self.namespace.label_uuid

    def __str__(self) -> str:
        return f"{quoted(self.namespace.name or self.namespace.dev)} on {self.host}"


class ClaimableHost:
    """The namespaces of one host that may be claimed.

    Args:
        alias: The host's alias.
        leases: Its leases.
        read: Reads what it has.
        clean: Makes a namespace clean that a dead holder left.
        spread: In which region claims begin: workers with different ones spread over the regions of a host.
    """

    def __init__(
        self, alias: str, leases: Leases, read: Callable[[], Inventory], clean: Clean, *, spread: int = 0
    ) -> None:
        self.alias = alias
        self.leases = leases
        self._read = read
        self._clean = clean
        self._spread = spread
        self._offers: tuple[Offer, ...] = ()

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What may be claimed, in order."""
        return self._offers

    def offer(self, offers: Iterable[Offer]) -> None:
        """Say what may be claimed: namespaces with a label, as nothing else stays the same over a reboot.

        Raises:
            InvalidValueError: One has no label on its DIMM.
        """
        new = tuple(offers)
        for each in new:
            if not each.key:
                raise InvalidValueError(
                    "namespace", each.namespace.called, "one with a label: only that can be claimed"
                )
        self._offers = new

    def candidates(self, wish: Wish) -> list[Offer]:
        """Return what meets a wish, in the order in which it is tried."""
        found = [offer for offer in self._offers if wish.met_by(offer)]
        regions = list(dict.fromkeys(offer.namespace.region for offer in found))
        turn = self._spread % len(regions) if regions else 0
        rank = {region: place for place, region in enumerate(regions[turn:] + regions[:turn])}
        return sorted(found, key=lambda offer: rank[offer.namespace.region])

    def claim(self, wishes: Sequence[Wish]) -> tuple[Claim, ...]:
        """Claim one namespace for each wish, in their order: all of them or none.

        What a dead holder left is made clean first; one that cannot be made so is given up and not handed out.

        Raises:
            InvalidValueError: Nothing here could ever meet a wish, or not as often as it is wished.
            ExhaustedError: All that would meet a wish is held.
            NotFoundError: A namespace that was offered is no longer on the host.
        """
        candidates = [self.candidates(wish) for wish in wishes]
        self.refuse_impossible(wishes, candidates)
        offers = {offer.key: offer for each in candidates for offer in each}
        try:
            taken = self.leases.take([[offer.key for offer in each] for each in candidates])
        except LeasesHeldError as error:
            raise self.exhausted(wishes[error.slot], error.entries) from error
        now = {namespace.label_uuid: namespace for namespace in self._read().namespaces}
        claims: list[Claim] = []
        back: list[str] = []
        failures: list[VpmemError] = []
        for each in taken:
            try:
                claim = self._claimed(offers[each.key], now)
            except NotFoundError as error:
                back.append(each.key)
                failures.append(error)
                continue
            try:
                self._cleaned(claim, each.left_by)
                claims.append(claim)
            except VpmemError as error:  # it was given up; the others are given back as they should be
                failures.append(error)
        if failures:
            self.leases.release([*back, *(claim.key for claim in claims)])
            raise failures[0]
        return tuple(claims)

    def release(self, claims: Iterable[Claim], wipe: Callable[[Namespace], object] | None = None) -> None:
        """Give claims back, each wiped before; one that cannot be wiped is given up, so that nobody gets its bytes.

        Args:
            claims: The claims.
            wipe: Wipes a namespace; None to leave its content to the next one on purpose.

        Raises:
            LeaseLostError: A claim was no longer held; nothing of it was wiped.
            VpmemError: A wipe failed; the other claims were given back.
        """
        held = list(claims)
        self.leases.require(claim.key for claim in held)
        failures: list[VpmemError] = []
        clean = []
        now = {namespace.label_uuid: namespace for namespace in self._read().namespaces} if wipe and held else {}
        for claim in held:
            try:
                if wipe is not None:
                    wipe(now.get(claim.key, claim.namespace))
                clean.append(claim.key)
            except VpmemError as error:
                self._give_up(claim, error)
                failures.append(error)
        self.leases.release(clean)
        if failures:
            raise failures[0]

    def used(self) -> Mapping[str, Entry]:
        """Return, by key, who holds what of the offers; what was left or is unfit is there as well."""
        offered = {offer.key for offer in self._offers}
        return {entry.key: entry for entry in self.leases.entries() if entry.key in offered}

    def refuse_impossible(self, wishes: Sequence[Wish], candidates: Sequence[Sequence[Offer]]) -> None:
        """Raise if there is not enough that meets the wishes, whoever holds it.

        Raises:
            InvalidValueError: Says what there is.
        """
        for wish, each in zip(wishes, candidates, strict=True):
            wished = wishes.count(wish)
            if wished > len(each):
                there = ", ".join(
                    f"{offer.namespace.name or offer.namespace.dev} ({wish_of(offer)})" for offer in self._offers
                )
                raise InvalidValueError(
                    "claim",
                    f"{wished} of {wish}",
                    f"what {self.alias} has {len(each)} of; it offers {there or 'nothing'}",
                )

    def exhausted(self, wish: Wish, entries: Sequence[Entry]) -> ExhaustedError:
        """Return the error that tells who holds what meets a wish."""
        lines = [f"All that meets {wish} on {self.alias} is held:", *self.told(entries)]
        return ExhaustedError("\n".join(lines))

    def told(self, entries: Iterable[Entry]) -> list[str]:
        """Return a line for each holder."""
        names = {offer.key: quoted(offer.namespace.name or offer.namespace.dev) for offer in self._offers}
        return [f"- {names.get(entry.key, entry.key)} on {self.alias} is {entry.told}" for entry in entries]

    def _claimed(self, offer: Offer, now: Mapping[str, Namespace]) -> Claim:
        if offer.key not in now:
            raise NotFoundError(
                "namespace",
                f"{offer.namespace.name or offer.namespace.dev} ({offer.key})",
                [namespace.called for namespace in now.values()],
                where=self.alias,
            )
        return Claim(self.alias, now[offer.key], offer.label)

    def _cleaned(self, claim: Claim, left_by: Holder | None) -> None:
        if left_by is None:
            return
        try:
            self._clean(claim.namespace, left_by)
        except VpmemError as error:
            self._give_up(claim, error)
            error.add(f"{claim} was left by {left_by}, could not be made clean, and is not handed out.")
            raise

    def _give_up(self, claim: Claim, error: VpmemError) -> None:
        """Give a claim back as unfit because of an error. If that fails, the lease stays, so nobody else gets it."""
        try:
            self.leases.give_up(claim.key, str(error).splitlines()[0])
        except VpmemError as refusal:
            error.add(f"{claim} could not be marked as unfit. {refusal}")


class Fleet:
    """Hosts of which any may have what is wished for.

    Which hosts could meet a wish is worked out once for each kind of wish. A claim then begins at a host by chance, so
    that workers do not all queue at the first one, and costs the same however many hosts there are.

    Args:
        hosts: The hosts.
        seed: What chance goes by; each worker's own.
    """

    def __init__(self, hosts: Iterable[ClaimableHost], seed: str = "") -> None:
        self._hosts = {host.alias: host for host in hosts}
        self._able: dict[tuple[Wish, ...], list[ClaimableHost]] = {}
        self._random = random.Random(zlib.crc32(seed.encode()))  # noqa: S311  it spreads workers, no secret hangs on it

    def claim(self, wishes: Sequence[Wish]) -> tuple[Claim, ...]:
        """Claim one namespace for each wish, all on one host.

        Raises:
            InvalidValueError: No host could ever meet them all.
            ExhaustedError: On every host that could, something is held; the message says by whom.
        """
        kind = tuple(wishes)
        if kind not in self._able:
            self._able[kind] = [host for host in self._hosts.values() if _able(host, kind)]
        able = self._able[kind]
        if not able:
            wished = "; ".join(map(str, kind))
            raise InvalidValueError("claim", wished, f"what one of the hosts has: {', '.join(self._hosts) or 'none'}")
        start = self._random.randrange(len(able))
        refusals: list[str] = []
        for step in range(len(able)):
            try:
                return able[(start + step) % len(able)].claim(kind)
            except ExhaustedError as error:
                refusals += str(error).splitlines()[1:]
        more = [f"- and {len(refusals) - _TOLD} more"] if len(refusals) > _TOLD else []
        raise ExhaustedError(
            "\n".join([f"All that meets {'; '.join(map(str, kind))} is held:", *refusals[:_TOLD], *more])
        )


def wish_of(offer: Offer) -> Wish:
    """Return the wish that an offer meets, whole."""
    namespace = offer.namespace
    return replace(Wish(offer.label, size=namespace.size, mode=namespace.mode), node=namespace.numa_node)


def _able(host: ClaimableHost, wishes: Sequence[Wish]) -> bool:
    try:
        host.refuse_impossible(wishes, [host.candidates(wish) for wish in wishes])
    except InvalidValueError:
        return False
    return True
