"""Claim namespaces of one host: the namespaces in the host's setting, and the namespaces that this run made."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec.structs import replace

from VpmemLibrary.claims.claims import Claim, ClaimableHost, ClaimRequest, Clean, Offer
from VpmemLibrary.claims.setting import SETTING, PmemSetting, parse_setting, resolve_setting
from VpmemLibrary.errors import ForeignError, InvalidValueError, NotFoundError
from VpmemLibrary.host.host import Host
from VpmemLibrary.leases.leases import Entry, Leases, is_namespace_key
from VpmemLibrary.ownership.cleanup import wipe_namespace
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size


class HostClaims:
    """The claimable namespaces of one host, and the claims of this worker on them.

    Args:
        host: The host.
        run: This run.
        leases: The leases of this worker on the host.
        clean: Cleans a namespace that a dead holder left.
        before_marking: The function to call before a namespace gets this run's mark.
        spread: A text that selects the region of the first claim. Each worker has its own text.
    """

    def __init__(
        self,
        host: Host,
        run: RunMark,
        leases: Leases,
        clean: Clean,
        *,
        before_marking: Callable[[], None],
        spread: str = "",
    ) -> None:
        self._host = host
        self._before_marking = before_marking
        self._run = run
        self._leases = leases
        self._claimable = ClaimableHost(
            host.alias, leases, host.ndctl.inventory, clean, spread=zlib.crc32(spread.encode())
        )
        self._setting = PmemSetting()
        self._labelled: Mapping[str, tuple[Namespace, ...]] = {}
        self._claims: dict[str, Claim] = {}

    @property
    def setting(self) -> PmemSetting:
        """The current setting."""
        return self._setting

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The claims of this worker on this host, except lost claims, in the order of claiming."""
        held = self._leases.held
        self._claims = {key: claim for key, claim in self._claims.items() if key in held}
        return tuple(self._claims.values())

    def set_setting(self, text: str, *, foreign: bool = False) -> Mapping[str, tuple[Namespace, ...]]:
        """Set which namespaces may be claimed under which label, and return these namespaces.

        Args:
            text: The setting; see `parse_setting`. An empty setting removes all labels.
            foreign: Allow namespaces that this run did not make. A tenant writes to its namespaces, and a release
                wipes them.

        Raises:
            InvalidValueError: The setting breaks a rule, or lacks a namespace that this run now holds under a label.
            NotFoundError: The host has no namespace with one of the names.
            AmbiguousError: Two namespaces of the host have the same name.
            ForeignError: This run did not make one of the namespaces, and `foreign` is not set.
        """
        setting = parse_setting(text)
        found = resolve_setting(setting, self._host.ndctl.inventory, self._host.alias)
        if not foreign:
            for namespace in (each for namespaces in found.values() for each in namespaces):
                self._require_own(namespace)
        self._refuse_held({each.label_uuid for namespaces in found.values() for each in namespaces})
        self._setting = setting
        self._labelled = found
        self._offer_anew(())
        return found

    def make(self, text: str, sizes: Mapping[str, Size]) -> Mapping[str, tuple[Namespace, ...]]:
        """Create the missing namespaces of a setting, with this run's mark. Then make this the current setting.

        As Nova's operators do, create devdax namespaces with the page map in memory. Create each namespace in the
        region with the largest free extent, and wipe it, so that no tenant reads the data of an earlier namespace.

        Args:
            text: The setting.
            sizes: For each label: the bytes that each new namespace takes from its region.

        Raises:
            InvalidValueError: A label has no size, a size has no label, or the setting breaks a rule.
            OutOfSpaceError: No region has enough room. The namespaces made before remain, with this run's mark.
        """
        setting = parse_setting(text)
        if unknown := [label for label in sizes if label not in setting.labels]:
            raise InvalidValueError("label", unknown[0], f"a label of {SETTING}: {', '.join(setting.labels) or 'none'}")
        there = {namespace.name for namespace in self._host.ndctl.inventory().namespaces}
        missing = {name: label for label, names in setting.labels.items() for name in names if name not in there}
        if without := [label for label in missing.values() if label not in sizes]:
            raise InvalidValueError("size", "none", f"one for label {without[0]}, e.g. {without[0]}=128MiB")
        self._before_marking()
        for name, label in missing.items():
            regions = self._host.ndctl.inventory().regions
            labeled = self._host.ndctl.labeled(regions)
            roomy = sorted(
                (each for each in regions if each.dev in labeled), key=lambda each: each.free_extent, reverse=True
            )
            if not roomy:
                raise NotFoundError("region with labels for", name, [each.dev for each in regions], self._host.alias)
            made = self._host.namespaces.create(
                roomy[0],
                mode=NamespaceMode.devdax,
                map_location=MapLocation.mem,
                size=sizes[label],
                name=name,
                uuid=self._run.new_uuid(),
            )
            # A region keeps the data of an earlier namespace.
            self._wipe(made)
        return self.set_setting(text)

    def claim(self, requests: Sequence[ClaimRequest], *, foreign: bool = False) -> tuple[Claim, ...]:
        """Claim one namespace for each request, in the order of the requests. Claim all, or none.

        Args:
            requests: The requests. Any namespace of the setting or of this run may match a request without a label.
            foreign: Let any namespace of the host match a request without a label.

        Raises:
            InvalidValueError: A label is not in the setting, or this host has too few namespaces that match a request.
            ExhaustedError: Every namespace that matches a request is held. The message says by whom and since when.
        """
        self.prepare(requests, foreign=foreign)
        return self.keep(self._claimable.claim(requests))

    def prepare(self, requests: Iterable[ClaimRequest], *, foreign: bool = False) -> ClaimableHost:
        """Offer the namespaces that the requests may match. Return the host's part of a claim on a fleet; see `claim`.

        Raises:
            InvalidValueError: A label is not in the setting.
        """
        requested = list(requests)
        for request in requested:
            if request.label:
                self._setting.require_label(request.label)
        if any(not request.label for request in requested):
            namespaces = self._host.ndctl.inventory().namespaces
            self._offer_anew(each for each in namespaces if each.active and (foreign or self._run.owns(each)))
        return self._claimable

    def keep(self, claims: Iterable[Claim]) -> tuple[Claim, ...]:
        """Record claims as claims of this worker, and return them."""
        kept = tuple(claims)
        self._claims |= {claim.key: claim for claim in kept}
        return kept

    def release(self, claims: Iterable[Claim], wipe: bool = True) -> None:
        """Release claims. Wipe each namespace first, unless `wipe` is false.

        Raises:
            InvalidValueError: This worker does not have one of the claims.
            LeaseLostError: A claim was no longer held. Nothing was wiped.
            VpmemError: A wipe failed. The namespace is unfit now. The other claims were released.
        """
        held = list(claims)
        mine = {claim.key for claim in self.claims}
        for claim in held:
            if claim.key not in mine:
                raise InvalidValueError(
                    "claim", str(claim), "a claim that this worker has, and did not release or lose"
                )
        self._claimable.release(held, self._wipe if wipe else None)

    def wipe(self, claims: Iterable[Claim]) -> None:
        """Wipe the namespaces of claims. This worker still holds the claims afterwards.

        Raises:
            LeaseLostError: A claim was no longer held. Nothing was wiped.
            VpmemError: A wipe failed.
        """
        held = list(claims)
        self.require(held)
        for claim in held:
            self._wipe(self.now(claim).namespace)

    def require(self, claims: Iterable[Claim]) -> None:
        """Raise unless claims are still held.

        Raises:
            LeaseLostError: A claim is no longer held.
        """
        self._leases.require(claim.key for claim in claims)

    def now(self, claim: Claim) -> Claim:
        """Return a claim with the current record of its namespace. The device may have another name now.

        Raises:
            NotFoundError: The namespace is gone.
        """
        return replace(claim, namespace=self._host.ndctl.namespace(claim.namespace))

    def totals(self) -> dict[str, int]:
        """Return the number of namespaces for each label of the setting."""
        return {label: len(namespaces) for label, namespaces in self._labelled.items()}

    def used(self) -> dict[str, int]:
        """Return for each label the number of namespaces that are held by any worker, left by a dead run, or unfit."""
        entries = self._claimable.used()
        return {
            label: sum(1 for each in namespaces if each.label_uuid in entries)
            for label, namespaces in self._labelled.items()
        }

    def holders(self) -> tuple[tuple[Entry, str], ...]:
        """Return the lease records of namespaces on the host, for all holders, each with the namespace's name."""
        names = {each.label_uuid: each.name or each.dev for each in self._host.ndctl.inventory().namespaces}
        return tuple(
            (entry, names.get(entry.key, "(gone)")) for entry in self._leases.entries() if is_namespace_key(entry.key)
        )

    def _wipe(self, namespace: Namespace) -> None:
        wipe_namespace(self._host, namespace)

    def _offer_anew(self, more: Iterable[Namespace]) -> None:
        offers = {
            each.label_uuid: Offer(each, label) for label, namespaces in self._labelled.items() for each in namespaces
        }
        for namespace in more:
            if namespace.label_uuid:
                offers.setdefault(namespace.label_uuid, Offer(namespace))
        self._claimable.offer(offers.values())

    def _require_own(self, namespace: Namespace) -> None:
        try:
            self._run.require_own(namespace)
        except ForeignError as error:
            error.add("A claimed namespace is written to and wiped.")
            raise

    def _refuse_held(self, keys: set[str]) -> None:
        before = {
            each.label_uuid: (each.name, label) for label, namespaces in self._labelled.items() for each in namespaces
        }
        if not before.keys() - keys:
            return
        for entry in self._leases.entries():
            if entry.key in before and entry.key not in keys and entry.holder.run_id == self._run.run_id:
                name, label = before[entry.key]
                raise InvalidValueError(
                    SETTING,
                    f"without {name}",
                    f"a setting with {label}:{name}, which is in use: it is {entry.description}",
                )
