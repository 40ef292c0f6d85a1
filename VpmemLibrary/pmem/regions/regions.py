"""Regions of one machine: enabled, disabled and given labels by its own ndctl.

ndctl may fail at a region and exit 0, so each change is proven by a fresh listing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from VpmemLibrary.errors import BusyError, CommandError, InvalidValueError, UnsupportedError, VpmemError
from VpmemLibrary.pmem.guard import REGION, region_on_dimm, region_target
from VpmemLibrary.pmem.labels.dimm import init_area, read_areas, require_dimms, switch_dimm
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.prediction import checked_label_version
from VpmemLibrary.pmem.records import Dimm, Inventory, NamespaceMode, Region

_DISABLED = "disabled"
_CXL = "CXL"

Confirm: TypeAlias = Callable[[], None]
"""Says once more whether a change may be made, when nothing can come between any more: it raises if not."""


def confirmed() -> None:
    """Confirm a change that needs no confirmation."""


class LabelState(StrEnum):
    """What the kernel makes of the labels of a region's DIMMs.

    A DIMM that the kernel has seen labels on goes on as one with labels until the machine boots again, also when the
    labels are gone (``NDD_LABELING``, kernel ``drivers/nvdimm/dimm_devs.c``).
    """

    labeled = "labeled"
    """Namespaces come from labels; of CXL memory also before there are any."""
    lost = "lost"
    """Namespaces come from labels, and a DIMM has none any more: the next create writes labels 1.2 there."""
    unlabeled = "unlabeled"
    """There are label areas without labels: one raw namespace fills the region."""
    ignored = "ignored"
    """There are labels, and the kernel does not go by them: one raw namespace fills the region."""
    none = "none"
    """There is no label area: one namespace fills the region."""


@dataclass(frozen=True, slots=True)
class OutOfUse:
    """A region that is disabled for a while, and those that lie on a DIMM of it.

    Args:
        dimms: The DIMMs of the region, in its order.
        again: Filled afterwards: each region that is enabled again, by name, as it is listed then.
    """

    dimms: tuple[Dimm, ...]
    again: dict[str, Region] = field(default_factory=dict)


class Regions:
    """The regions of one machine.

    Args:
        ndctl: The machine's ndctl.

    Example::

        regions = Regions(Ndctl(transport))
        regions.initialize_labels("region0")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def unlabeled(self, inventory: Inventory | None = None) -> tuple[Region, ...]:
        """Return the regions that lie on DIMMs and have no labels: one raw namespace fills each of them.

        Args:
            inventory: What was listed just now; a fresh listing by default.
        """
        listed = self._ndctl.inventory() if inventory is None else inventory
        regions = [region for region in listed.regions if region.dimms and region.holds_namespaces]
        labeled = self._ndctl.labeled(regions)
        return tuple(region for region in regions if region.dev not in labeled)

    def label_state(self, region: Region | str) -> LabelState:
        """Return what the kernel makes of a region's labels.

        Raises:
            NotFoundError: There is no such region.
        """
        found = self._ndctl.region(region)
        try:
            areas = read_areas(self._ndctl, found)
        except UnsupportedError:
            return LabelState.none
        there = all(area.version for area in areas)
        if self._ndctl.labeled([found]):
            # The kernel takes labels of CXL memory before there are any.
            return LabelState.labeled if there or found.provider == _CXL else LabelState.lost
        return LabelState.ignored if there else LabelState.unlabeled

    def enable(self, region: Region | str) -> Region:
        """Enable a region, and prove it: ``ndctl enable-region`` can fail and exit 0.

        Raises:
            NotFoundError: There is no such region.
            CommandError: It is not enabled afterwards.
        """
        listed = self._ndctl.inventory()
        before = self._ndctl.regions_beside(region, listed)[0]
        if before.state != _DISABLED:
            return before
        return self._switch_region(before, listed.dimms, "enable", wanted="")

    def disable(self, region: Region | str) -> Region:
        """Disable a region and so its namespaces, and prove it.

        Raises:
            NotFoundError: There is no such region.
            BusyError: One of its namespaces is in use.
            CommandError: It is not disabled afterwards.
        """
        listed = self._ndctl.inventory()
        before = self._ndctl.regions_beside(region, listed)[0]
        if before.state == _DISABLED:
            return before
        return self._switch_region(before, listed.dimms, "disable", wanted=_DISABLED)

    def enable_dimm(self, dimm: Dimm | str) -> Dimm:
        """Enable a DIMM, and prove it.

        Raises:
            NotFoundError: There is no such DIMM.
            CommandError: It is not enabled afterwards.
        """
        return self._switch_dimm(dimm, enabled=True)

    def disable_dimm(self, dimm: Dimm | str) -> Dimm:
        """Disable a DIMM, and prove it. Its regions must be disabled; those with labels cannot be enabled without it.

        Raises:
            NotFoundError: There is no such DIMM.
            CommandError: It is not disabled afterwards, as when a region of it is enabled.
        """
        return self._switch_dimm(dimm, enabled=False)

    @contextmanager
    def out_of_use(self, region: Region | str, confirm: Confirm = confirmed) -> Iterator[OutOfUse]:
        """Have a region disabled for a while, and every other one that lies on a DIMM of it, so that labels can change.

        Afterwards those that were enabled are enabled again, whatever happened, and that is proven.

        Args:
            region: The region's record or name.
            confirm: Called once nobody can create a namespace there any more; it raises to leave all as it is.

        Yields:
            The region's DIMMs, and a table that is filled afterwards.

        Raises:
            NotFoundError: There is no such region.
            BusyError: A namespace is in use; what was disabled before it is enabled again.
            CommandError: A region could not be disabled or, afterwards, not be enabled.
        """
        listed = self._ndctl.inventory()
        beside = self._ndctl.regions_beside(region, listed)
        enabled = [each for each in beside if each.state != _DISABLED]
        out = OutOfUse(tuple(self._ndctl.dimm(dimm, listed) for dimm in beside[0].dimms))
        try:
            for each in enabled:
                self._switch_region(each, listed.dimms, "disable", wanted=_DISABLED)
            confirm()
            yield out
        except BaseException as error:
            self._enable_again(enabled, out.again, error)
            raise
        self._enable_again(enabled, out.again)

    def initialize_labels(
        self, region: Region | str, *, version: str = "1.2", overwrite: bool = False, confirm: Confirm = confirmed
    ) -> Region:
        """Give every DIMM of a region a fresh label area, so that namespaces can be cut from the region.

        Args:
            region: The region's record or name; always exactly one.
            version: The label version: 1.1, or 1.2 (UEFI 2.7), under which small sector namespaces work.
            overwrite: End the labels, and so the namespaces, that there are.
            confirm: See `out_of_use`.

        Raises:
            InvalidValueError: The version is unknown; or there are namespaces, and `overwrite` is not set.
            UnsupportedError: The region lies on no DIMM, so there is no label area.
            BusyError: One of its namespaces is in use.
            CommandError: ndctl failed; the region was enabled again.
        """
        checked_label_version(version)
        before = self._ndctl.region(region)
        require_dimms(self._ndctl, before)
        if not overwrite and (losses := self._losses(before)):
            raise InvalidValueError(
                "overwrite", overwrite, f"True, to end what {before.dev} of {self._ndctl.transport.name} has: {losses}"
            )
        with self.out_of_use(before, confirm) as out:
            for dimm in out.dimms:
                init_area(self._ndctl, before, dimm, version, force=overwrite)
        return out.again.get(before.dev) or self.enable(before)

    def _switch_region(self, region: Region, dimms: Sequence[Dimm], verb: str, *, wanted: str) -> Region:
        under = next((dimm for dimm in dimms if dimm.dev in region.dimms), None)
        targets = (region_target(region),) if under is None else region_on_dimm(region, under)
        try:
            result = self._ndctl.change(["ndctl", f"{verb}-region", REGION], *targets, unused=wanted == _DISABLED)
        except BusyError as error:
            error.add(f"It has {', '.join(f'namespace {each.called}' for each in region.namespaces)}.")
            raise
        checked(result, f"{verb} {region.dev}")
        after = self._ndctl.region(region)
        count = re.search(rf"{verb}d ([0-9]+) region", result.error_text)
        if after.state != wanted or (count is not None and count[1] != "1"):
            raise CommandError(
                result,
                f"Could not {verb} {region.dev}: it is {after.state or 'enabled'} though ndctl exited 0, "
                "and its count is on stderr",
            )
        return after

    def _switch_dimm(self, dimm: Dimm | str, *, enabled: bool) -> Dimm:
        listed = self._ndctl.inventory()
        before = self._ndctl.dimm(dimm, listed)
        if (before.state != _DISABLED) is enabled:
            return before
        above = next((each for each in listed.regions if before.dev in each.dimms), None)
        return switch_dimm(self._ndctl, before, enabled=enabled, region=above)

    def _enable_again(
        self, regions: list[Region], again: dict[str, Region], error: BaseException | None = None
    ) -> None:
        """Enable what was enabled before; what cannot be is told, beside the failure that came first."""
        failures: list[VpmemError] = []
        for region in regions:
            try:
                again[region.dev] = self._enable_with_dimms(region)
            except VpmemError as failure:
                failures.append(failure)
        if not failures:
            return
        if error is None:
            raise failures[0]
        more = "\n".join(f"What was disabled for it could not be enabled again: {failure}" for failure in failures)
        if isinstance(error, VpmemError):
            error.add(more)
        else:
            error.add_note(more)

    def _enable_with_dimms(self, region: Region) -> Region:
        listed = self._ndctl.inventory()
        for dimm in listed.dimms:
            if dimm.dev in region.dimms and dimm.state == _DISABLED:
                switch_dimm(self._ndctl, dimm, enabled=True, region=region)
        now = next((each for each in listed.regions if each.dev == region.dev), None)
        if now is not None and now.state != _DISABLED:
            return now
        return self._switch_region(region, listed.dimms, "enable", wanted="")

    def _losses(self, region: Region) -> str:
        """Tell what initialising labels would end; the raw namespace that fills a region without labels is nothing."""
        labeled = bool(self._ndctl.labeled([region]))
        ended = [ns.called for ns in region.namespaces if labeled or ns.mode is not NamespaceMode.raw]
        areas = read_areas(self._ndctl, region)
        ended += [
            f"{label.name or 'a namespace'} (UUID {label.uuid})"
            for area in areas
            for label in area.labels
            if label.uuid not in {namespace.label_uuid for namespace in region.namespaces}
        ]
        return ", ".join(ended) or ("labels, without a namespace" if any(area.version for area in areas) else "")
