"""Enable and disable the regions of one machine, and initialize their labels, with the machine's own ndctl.

ndctl may fail for a region and exit 0. Therefore a fresh listing proves each change.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TypeAlias

from msgspec import Struct, field

from VpmemLibrary.errors import BusyError, CommandError, InvalidValueError, UnsupportedError, VpmemError
from VpmemLibrary.pmem.guard import REGION, region_on_dimm, region_target
from VpmemLibrary.pmem.labels.dimm import init_area, read_areas, require_dimms, switch_dimm
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.prediction import checked_label_version
from VpmemLibrary.pmem.records import Dimm, Inventory, Region

_DISABLED = "disabled"
_CXL = "CXL"

Confirm: TypeAlias = Callable[[], None]
"""A function that confirms a change, or raises to refuse it. No other worker can interfere after its call."""


def confirmed() -> None:
    """Accept a change without a check."""


class LabelState(StrEnum):
    """The kernel's state of the labels of a region's DIMMs.

    A DIMM that had labels since the last boot stays labeled for the kernel until the next boot. This is also true if
    the labels are gone (``NDD_LABELING``, kernel ``drivers/nvdimm/dimm_devs.c``).
    """

    labeled = "labeled"
    """Namespaces come from labels. CXL memory has this state even before there are labels."""
    lost = "lost"
    """Namespaces come from labels, but a DIMM has lost its labels. The next create writes labels 1.2 to this DIMM."""
    unlabeled = "unlabeled"
    """The label areas contain no labels. One raw namespace fills the region."""
    ignored = "ignored"
    """The label areas contain labels, but the kernel ignores them. One raw namespace fills the region."""
    none = "none"
    """The region has no label area. One namespace fills the region."""


class DisabledRegion(Struct, frozen=True):
    """A region that is temporarily disabled, together with the regions that share a DIMM with it.

    Args:
        dimms: The DIMMs of the region, in the region's order.
        again: Each region that was enabled again, by name, from a fresh listing. Empty until the block ends.
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
        """Return the regions on DIMMs without labels. One raw namespace fills each of these regions.

        Args:
            inventory: A recent listing to use. By default, the method lists again.
        """
        listed = self._ndctl.inventory() if inventory is None else inventory
        regions = [region for region in listed.regions if region.dimms and region.holds_namespaces]
        labeled = self._ndctl.labeled(regions)
        return tuple(region for region in regions if region.dev not in labeled)

    def initializable(self) -> tuple[Region, ...]:
        """Return the regions of `unlabeled` that are not read-only. In a read-only region, labels have no use."""
        regions = self.unlabeled()
        read_only = self._ndctl.read_only(regions)
        return tuple(region for region in regions if region.dev not in read_only)

    def label_state(self, region: Region | str) -> LabelState:
        """Return the kernel's state of a region's labels.

        Raises:
            NotFoundError: The region does not exist.
        """
        found = self._ndctl.region(region)
        try:
            areas = read_areas(self._ndctl, found)
        except UnsupportedError:
            return LabelState.none
        there = all(area.version for area in areas)
        if self._ndctl.labeled([found]):
            # For CXL memory, the kernel takes namespaces from labels even before the first label exists.
            return LabelState.labeled if there or found.provider == _CXL else LabelState.lost
        return LabelState.ignored if there else LabelState.unlabeled

    def enable(self, region: Region | str) -> Region:
        """Enable a region. Prove it by a fresh listing, because ``ndctl enable-region`` can fail and exit 0.

        Raises:
            NotFoundError: The region does not exist.
            CommandError: The region is not enabled afterwards.
        """
        listed = self._ndctl.inventory()
        before = self._ndctl.regions_beside(region, listed)[0]
        if before.state != _DISABLED:
            return before
        return self._switch_region(before, listed.dimms, "enable", wanted="")

    def disable(self, region: Region | str) -> Region:
        """Disable a region and its namespaces. Prove it by a fresh listing.

        Raises:
            NotFoundError: The region does not exist.
            BusyError: A namespace of the region is in use.
            CommandError: The region is not disabled afterwards.
        """
        listed = self._ndctl.inventory()
        before = self._ndctl.regions_beside(region, listed)[0]
        if before.state == _DISABLED:
            return before
        return self._switch_region(before, listed.dimms, "disable", wanted=_DISABLED)

    def enable_dimm(self, dimm: Dimm | str) -> Dimm:
        """Enable a DIMM. Prove it by a fresh listing.

        Raises:
            NotFoundError: The DIMM does not exist.
            CommandError: The DIMM is not enabled afterwards.
        """
        return self._switch_dimm(dimm, enabled=True)

    def disable_dimm(self, dimm: Dimm | str) -> Dimm:
        """Disable a DIMM. Prove it by a fresh listing.

        The DIMM's regions must be disabled. A region with labels cannot be enabled while the DIMM is disabled.

        Raises:
            NotFoundError: The DIMM does not exist.
            CommandError: The DIMM is not disabled afterwards, for example because one of its regions is enabled.
        """
        return self._switch_dimm(dimm, enabled=False)

    @contextmanager
    def disabled_with_neighbours(self, region: Region | str, confirm: Confirm = confirmed) -> Iterator[DisabledRegion]:
        """Disable a region, and the regions that share a DIMM with it, inside the ``with`` block.

        The labels can change inside the block. Afterwards, the regions that were enabled before are enabled again, even
        after an error. A fresh listing proves this.

        Args:
            region: The region's record or name.
            confirm: Called when no worker can create namespaces in the region any more. It raises to refuse the change.

        Yields:
            The region's DIMMs, and a table of the enabled regions that is filled after the block.

        Raises:
            NotFoundError: The region does not exist.
            BusyError: A namespace is in use. The regions that were already disabled are enabled again.
            CommandError: A region could not be disabled, or could not be enabled again.
        """
        listed = self._ndctl.inventory()
        beside = self._ndctl.regions_beside(region, listed)
        enabled = [each for each in beside if each.state != _DISABLED]
        out = DisabledRegion(tuple(self._ndctl.dimm(dimm, listed) for dimm in beside[0].dimms))
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
        """Write a new label area to every DIMM of a region, so that namespaces can be created in the region.

        Args:
            region: The record or name of exactly one region.
            version: The label version: 1.1, or 1.2 (UEFI 2.7). Small sector namespaces work only under 1.2.
            overwrite: Destroy the existing labels and their namespaces.
            confirm: See `disabled_with_neighbours`.

        Raises:
            InvalidValueError: The version is unknown, or there are namespaces and `overwrite` is not set.
            UnsupportedError: The region has no DIMMs, so it has no label area.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed. The region was enabled again.
        """
        checked_label_version(version)
        before = self._ndctl.region(region)
        require_dimms(self._ndctl, before)
        if not overwrite and (losses := self._losses(before)):
            raise InvalidValueError(
                "overwrite",
                overwrite,
                f"True, because {before.dev} on {self._ndctl.transport.name} would lose: {losses}",
            )
        with self.disabled_with_neighbours(before, confirm) as out:
            for dimm in out.dimms:
                init_area(self._ndctl, before, dimm, version, force=overwrite)
        return out.again.get(before.dev) or self.enable(before)

    def _switch_region(self, region: Region, dimms: Sequence[Dimm], verb: str, *, wanted: str) -> Region:
        under = next((dimm for dimm in dimms if dimm.dev in region.dimms), None)
        targets = (region_target(region),) if under is None else region_on_dimm(region, under)
        try:
            result = self._ndctl.change(
                ["ndctl", f"{verb}-region", REGION], *targets, must_be_unused=wanted == _DISABLED
            )
        except BusyError as error:
            error.add(f"The region has {', '.join(f'namespace {each.called}' for each in region.namespaces)}.")
            raise
        checked(result, f"{verb} {region.dev}")
        after = self._ndctl.region(region)
        count = re.search(rf"{verb}d ([0-9]+) region", result.error_text)
        if after.state != wanted or (count is not None and count[1] != "1"):
            raise CommandError(
                result,
                f"Could not {verb} {region.dev}: it is {after.state or 'enabled'} though ndctl exited 0 "
                "(its count is on stderr)",
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
        """Enable the regions that were enabled before. Add each failure to `error`."""
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
        more = "\n".join(
            f"A region that was disabled for this change could not be enabled again: {failure}" for failure in failures
        )
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
        """Describe the namespaces that new labels would destroy. Ignore the bare namespace of an unlabeled region."""
        labeled = bool(self._ndctl.labeled([region]))
        ended = [ns.called for ns in region.namespaces if labeled or not ns.bare]
        areas = read_areas(self._ndctl, region)
        ended += [
            f"{label.name or 'a namespace'} (UUID {label.uuid})"
            for area in areas
            for label in area.labels
            if label.uuid not in {namespace.label_uuid for namespace in region.namespaces}
        ]
        return ", ".join(ended) or ("labels, without a namespace" if any(area.version for area in areas) else "")
