"""Claim namespaces on one host, or on any host of a fleet. A namespace has one tenant at a time.

The key of a claim's lease is the UUID of the namespace's label. So the claim is for the same bytes after a reboot, even
if the kernel then gives the device another name. The lease record of a dead tenant shows the namespace that the tenant
left. The library cleans this namespace before the next tenant gets it.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError, NotFoundError, OutOfSpaceError, VpmemError
from VpmemLibrary.leases.leases import Entry, Holder, Leases, LeasesHeldError
from VpmemLibrary.pmem.records import Inventory, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted

_MOST_SHOWN = 20
"""Maximum number of holders in the message of an exhausted fleet."""

Clean = Callable[[Namespace, Holder], None]
"""Clean a namespace that a dead holder left."""


class ExhaustedError(OutOfSpaceError):
    """Every namespace that matches a request is held. The message says by whom and since when. Nothing was claimed."""


class ClaimRequest(Struct, frozen=True):
    """The properties that a claimed namespace must have. A property that is empty or None does not matter.

    Args:
        label: The namespace's label in the setting.
        name: The namespace's name.
        size: The usable size, in bytes.
        mode: The mode.
        node: The NUMA node.
    """

    label: str = ""
    name: str = ""
    size: Size | None = None
    mode: NamespaceMode | None = None
    node: int | None = None

    def matches(self, offer: Offer) -> bool:
        """Return whether a namespace matches this request."""
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


class Offer(Struct, frozen=True):
    """One namespace that may be claimed.

    Args:
        namespace: The namespace. The UUID of its label on the DIMM identifies it.
        label: The namespace's label in the setting; empty without a label.
    """

    namespace: Namespace
    label: str = ""

    @property
    def key(self) -> str:
        """The key of the namespace's lease."""
        return self.namespace.label_uuid


class Claim(Struct, frozen=True):
    """One claimed namespace.

    Args:
        host: The alias of the namespace's host.
        namespace: The current record of the namespace.
        label: The namespace's label in the setting; empty without a label.
    """

    host: str
    namespace: Namespace
    label: str = ""

    @property
    def key(self) -> str:
        """The key of the namespace's lease."""
        return self.namespace.label_uuid

    def __str__(self) -> str:
        return f"{quoted(self.namespace.name or self.namespace.dev)} on {self.host}"


class ClaimableHost:
    """The namespaces of one host that may be claimed.

    Args:
        alias: The host's alias.
        leases: The leases of this worker on the host.
        read: Reads the host's inventory.
        clean: Cleans a namespace that a dead holder left.
        spread: A number that selects the region of the first claim. Workers with different numbers spread over the
            regions of a host.
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
        """The namespaces that may be claimed, in the order of `offer`."""
        return self._offers

    def offer(self, offers: Iterable[Offer]) -> None:
        """Set the namespaces that may be claimed. Each needs a label on its DIMM, because a label survives a reboot.

        Raises:
            InvalidValueError: A namespace has no label on its DIMM.
        """
        new = tuple(offers)
        for each in new:
            if not each.key:
                raise InvalidValueError(
                    "namespace",
                    each.namespace.called,
                    "a namespace with a label, because only such a namespace can be claimed",
                )
        self._offers = new

    def candidates(self, request: ClaimRequest) -> list[Offer]:
        """Return the namespaces that match a request, in the order in which `claim` tries them."""
        found = [offer for offer in self._offers if request.matches(offer)]
        regions = list(dict.fromkeys(offer.namespace.region for offer in found))
        turn = self._spread % len(regions) if regions else 0
        rank = {region: place for place, region in enumerate(regions[turn:] + regions[:turn])}
        return sorted(found, key=lambda offer: rank[offer.namespace.region])

    def claim(self, requests: Sequence[ClaimRequest]) -> tuple[Claim, ...]:
        """Claim one namespace for each request, in the order of the requests. Claim all, or none.

        If a dead holder left a namespace, clean it first. If the cleaning fails, mark the namespace as unfit and raise.

        Raises:
            InvalidValueError: Too few namespaces of this host match a request, whether they are held or not.
            ExhaustedError: Every namespace that matches a request is held.
            NotFoundError: An offered namespace is no longer on the host.
        """
        candidates = [self.candidates(request) for request in requests]
        self.require_enough(requests, candidates)
        offers = {offer.key: offer for each in candidates for offer in each}
        try:
            taken = self.leases.take([[offer.key for offer in each] for each in candidates])
        except LeasesHeldError as error:
            raise self.exhausted_error(requests[error.slot], error.entries) from error
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
            except VpmemError as error:
                # The failed namespace is unfit now. The other leases are released as usual.
                failures.append(error)
        if failures:
            self.leases.release([*back, *(claim.key for claim in claims)])
            raise failures[0]
        return tuple(claims)

    def release(self, claims: Iterable[Claim], wipe: Callable[[Namespace], object] | None = None) -> None:
        """Wipe the namespaces of claims, then release the claims.

        If a wipe fails, mark the namespace as unfit, so that nobody gets its bytes.

        Args:
            claims: The claims.
            wipe: Wipes a namespace. With None, the next tenant gets the content of the namespaces.

        Raises:
            LeaseLostError: A claim was no longer held. Nothing was wiped.
            VpmemError: A wipe failed. The other claims were released.
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
                self._release_as_unfit(claim, error)
                failures.append(error)
        self.leases.release(clean)
        if failures:
            raise failures[0]

    def used(self) -> Mapping[str, Entry]:
        """Return the lease records of the offered namespaces, by key. Only a free namespace has no record."""
        offered = {offer.key for offer in self._offers}
        return {entry.key: entry for entry in self.leases.entries() if entry.key in offered}

    def require_enough(self, requests: Sequence[ClaimRequest], candidates: Sequence[Sequence[Offer]]) -> None:
        """Raise if too few namespaces match the requests, whether they are held or not.

        Raises:
            InvalidValueError: Too few namespaces match a request. The message lists the offered namespaces.
        """
        for request, each in zip(requests, candidates, strict=True):
            count = requests.count(request)
            if count > len(each):
                there = ", ".join(
                    f"{offer.namespace.name or offer.namespace.dev} ({request_for(offer)})" for offer in self._offers
                )
                raise InvalidValueError(
                    "claim",
                    f"{count} of {request}",
                    f"at most {len(each)}, because {self.alias} offers only {there or 'nothing'}",
                )

    def exhausted_error(self, request: ClaimRequest, entries: Sequence[Entry]) -> ExhaustedError:
        """Return the error that names the holders of the namespaces that match a request."""
        lines = [f"All namespaces of {request} on {self.alias} are held:", *self.describe_holders(entries)]
        return ExhaustedError("\n".join(lines))

    def describe_holders(self, entries: Iterable[Entry]) -> list[str]:
        """Describe each holder in one line."""
        names = {offer.key: quoted(offer.namespace.name or offer.namespace.dev) for offer in self._offers}
        return [f"- {names.get(entry.key, entry.key)} on {self.alias} is {entry.description}" for entry in entries]

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
            self._release_as_unfit(claim, error)
            error.add(f"{claim} was left by {left_by}. Cleaning it failed, so nobody can claim it.")
            raise

    def _release_as_unfit(self, claim: Claim, error: VpmemError) -> None:
        """Release a claim as unfit because of an error. If the release fails, this worker keeps the lease."""
        try:
            self.leases.release_as_unfit(claim.key, str(error).splitlines()[0])
        except VpmemError as refusal:
            error.add(f"{claim} could not be marked as unfit. {refusal}")


class Fleet:
    """A group of hosts. A claim takes all its namespaces from one of these hosts.

    The fleet searches once for the hosts that could match a list of requests. Each claim then starts at a random one
    of the found hosts, so that workers do not all wait for the first host. The cost of a claim does not depend on the
    number of hosts.

    Args:
        hosts: The hosts.
        seed: The seed of the random choice. Each worker has its own seed.
    """

    def __init__(self, hosts: Iterable[ClaimableHost], seed: str = "") -> None:
        self._hosts = {host.alias: host for host in hosts}
        self._suitable: dict[tuple[ClaimRequest, ...], list[ClaimableHost]] = {}
        self._random = random.Random(zlib.crc32(seed.encode()))  # noqa: S311  it spreads workers and protects no secret

    def claim(self, requests: Sequence[ClaimRequest]) -> tuple[Claim, ...]:
        """Claim one namespace for each request, all on one host.

        Raises:
            InvalidValueError: No host has enough namespaces that match the requests, whether they are held or not.
            ExhaustedError: On each host with enough namespaces, other workers hold too many. The message says who.
        """
        kind = tuple(requests)
        if kind not in self._suitable:
            self._suitable[kind] = [host for host in self._hosts.values() if _suitable(host, kind)]
        suitable = self._suitable[kind]
        if not suitable:
            requested = "; ".join(map(str, kind))
            raise InvalidValueError(
                "claim", requested, f"namespaces that one of the hosts has: {', '.join(self._hosts) or 'none'}"
            )
        start = self._random.randrange(len(suitable))
        refusals: list[str] = []
        for step in range(len(suitable)):
            try:
                return suitable[(start + step) % len(suitable)].claim(kind)
            except ExhaustedError as error:
                refusals += str(error).splitlines()[1:]
        more = [f"- and {len(refusals) - _MOST_SHOWN} more"] if len(refusals) > _MOST_SHOWN else []
        raise ExhaustedError(
            "\n".join([f"All namespaces of {'; '.join(map(str, kind))} are held:", *refusals[:_MOST_SHOWN], *more])
        )


def request_for(offer: Offer) -> ClaimRequest:
    """Return a request for the label, size, mode and NUMA node of an offer."""
    namespace = offer.namespace
    return replace(ClaimRequest(offer.label, size=namespace.size, mode=namespace.mode), node=namespace.numa_node)


def _suitable(host: ClaimableHost, requests: Sequence[ClaimRequest]) -> bool:
    try:
        host.require_enough(requests, [host.candidates(request) for request in requests])
    except InvalidValueError:
        return False
    return True
