"""Manage the labels of a region on all its DIMMs. A namespace has a label on each DIMM of its region.

The region is disabled during a change, and enabled afterwards even if the change fails. This module does not know which
run made a namespace, so the caller decides which namespaces may be destroyed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.labels.area import Label, LabelArea, set_problems
from VpmemLibrary.pmem.labels.dimm import read_areas, require_dimms, write_area, zero_area
from VpmemLibrary.pmem.labels.file import SavedArea, SavedLabels
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Dimm, Region
from VpmemLibrary.pmem.regions.regions import Confirm, Regions, confirmed
from VpmemLibrary.transport.base import query
from VpmemLibrary.visible import quoted

_COUNT = "(?a)[0-9]{1,9}"

_SLOTS = r"""
for dimm in "$@"; do
    slots=
    read -r slots <"/sys/bus/nd/devices/$dimm/available_slots"
    printf '%s %s\n' "$dimm" "$slots"
done
"""


class Labels:
    """The labels of the regions of one machine.

    Args:
        ndctl: The machine's ndctl.
        regions: Its regions.

    Example::

        labels = Labels(ndctl, Regions(ndctl))
        saved = labels.saved("region0")
        labels.zero("region0")
        labels.restore("region0", saved)
    """

    def __init__(self, ndctl: Ndctl, regions: Regions) -> None:
        self._ndctl = ndctl
        self._regions = regions

    def read(self, region: Region | str) -> tuple[LabelArea, ...]:
        """Return the label area of each DIMM of a region, even if it has no valid labels.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region has no DIMMs, or one of its DIMMs has no label area.
        """
        return read_areas(self._ndctl, self._ndctl.region(region))

    def labeled(self, region: Region | str) -> tuple[LabelArea, ...]:
        """Return the label area of each DIMM of a region. All must have the same version and size.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: A DIMM has no labels, or the label areas differ in version or size.
        """
        found = self._ndctl.region(region)
        areas = read_areas(self._ndctl, found)
        if bare := [area.dimm for area in areas if not area.version]:
            raise UnsupportedError(
                f"{found.dev} on {self._ndctl.transport.name} has no labels: {', '.join(bare)} has no valid index "
                "block. Initialize its labels first (initialize_labels)."
            )
        if len({(area.version, area.nslot) for area in areas}) > 1:
            kinds = ", ".join(f"{area.dimm} {area.version} with {area.nslot} slots" for area in areas)
            raise UnsupportedError(f"The DIMMs of {found.dev} have labels of several kinds: {kinds}.")
        return areas

    def available_slots(self, region: Region | str) -> int:
        """Return the number of labels that the kernel can still write for a region. One slot per DIMM is reserved.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region has no DIMMs.
            UnreadableOutputError: The kernel does not report the number, for example for a disabled DIMM.
        """
        dimms = require_dimms(self._ndctl, self._ndctl.region(region))
        result = self._ndctl.run(query(_SLOTS, *dimms)).check()
        counts = [line.partition(" ")[2] for line in result.lines]
        if len(counts) != len(dimms) or not all(re.fullmatch(_COUNT, count) for count in counts):
            raise UnreadableOutputError(result, f"The kernel does not report the free slots of {', '.join(dimms)}")
        return min(int(count) for count in counts)

    def problems(self, region: Region | str) -> tuple[str, ...]:
        """Return every inconsistency of a region's labels, one per line. Return an empty tuple for consistent labels.

        The method checks the bytes of each label area, and compares the labels of each namespace between the DIMMs. It
        checks that the kernel has exactly the namespaces that the labels describe. It also runs ``ndctl check-labels``.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region has no DIMMs, or one of its DIMMs has no label area.
        """
        found, *beside = self._ndctl.regions_beside(region)
        areas = read_areas(self._ndctl, found)
        # Another region on the same DIMMs has labels in these label areas, and may have labels on other DIMMs.
        uuids = {namespace.label_uuid for each in beside for namespace in each.namespaces}
        cookies = {each.iset_id for each in beside} - {found.iset_id, None}

        def others(label: Label) -> bool:
            return label.uuid in uuids or label.isetcookie in cookies

        lines = list(set_problems(areas, skip=others))
        if found.state != "disabled" and any(area.version for area in areas):
            described = {
                label.uuid: label for area in areas for label in area.labels if label.valid and not others(label)
            }
            listed = {namespace.label_uuid: namespace for namespace in found.namespaces}
            lines += [
                f"the kernel has no namespace for the label "
                f"{quoted(label.name) if label.name else 'without a name'} (UUID {uuid})"
                for uuid, label in described.items()
                if uuid not in listed
            ]
            lines += [
                f"namespace {namespace.called} (UUID {uuid or 'none'}) has no label"
                for uuid, namespace in listed.items()
                if uuid not in described
            ]
        for area in areas:
            verdict = self._ndctl.run(["ndctl", "check-labels", area.dimm])
            if (verdict.exit_status == 0) is not bool(area.version):
                lines.append(
                    f"{area.dimm}: ndctl check-labels exits {verdict.exit_status}: {verdict.error_text.strip()}"
                )
        return tuple(lines)

    def zero(self, region: Region | str, *, confirm: Confirm = confirmed) -> Region:
        """Fill the label areas of a region's DIMMs with zeros. Its namespaces disappear, but their bytes stay.

        Until the next boot, the kernel still treats the region as a region with labels. So the whole region is free,
        and the next create writes labels 1.2.

        Args:
            region: The region's record or name.
            confirm: See `Regions.disabled_with_neighbours`.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region has no label area, or the label areas are already all zeros.
            BusyError: A namespace is in use. Nothing was changed.
            CommandError: The label areas are not all zeros afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        if all(area.blank for area in read_areas(self._ndctl, found)):
            raise UnsupportedError(
                f"{found.dev} on {self._ndctl.transport.name} has no labels to zero: the label area of "
                f"{', '.join(found.dimms)} is all zeros."
            )
        return self._change(found, lambda dimm: zero_area(self._ndctl, found, dimm), confirm)

    def write(self, region: Region | str, data: Mapping[str, bytes], *, confirm: Confirm = confirmed) -> Region:
        """Write the label areas of a region's DIMMs. The bytes may be valid or invalid labels.

        Args:
            region: The region's record or name.
            data: For each DIMM of the region, all bytes of its label area.
            confirm: See `Regions.disabled_with_neighbours`.

        Raises:
            NotFoundError: The region does not exist.
            InvalidValueError: The data are for other DIMMs or have the wrong size. Nothing was changed.
            BusyError: A namespace is in use. Nothing was changed.
            CommandError: A label area has different bytes afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        return self._write(found, read_areas(self._ndctl, found), data, confirm)

    def saved(self, region: Region | str) -> SavedLabels:
        """Return the label areas of a region with the names of their host, region and DIMMs, ready for a file.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region has no label area.
        """
        found = self._ndctl.region(region)
        areas = read_areas(self._ndctl, found)
        return SavedLabels(
            host=self._ndctl.transport.name,
            region=found.dev,
            areas=tuple(
                SavedArea(dimm.dev, dimm.id, area.data) for dimm, area in zip(self._dimms(found), areas, strict=True)
            ),
        )

    def restore(
        self, region: Region | str, saved: SavedLabels, *, elsewhere: bool = False, confirm: Confirm = confirmed
    ) -> Region:
        """Write saved label areas back to their DIMMs.

        Args:
            region: The region's record or name.
            saved: The saved label areas.
            elsewhere: Accept label areas of other DIMMs. Their sizes must still be equal.
            confirm: See `Regions.disabled_with_neighbours`.

        Raises:
            NotFoundError: The region does not exist.
            InvalidValueError: The label areas are from other DIMMs, or have another size. Nothing was changed.
            BusyError: A namespace is in use. Nothing was changed.
            CommandError: A label area has different bytes afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        areas = read_areas(self._ndctl, found)
        data = saved.matched(self._dimms(found), [area.size for area in areas], elsewhere=elsewhere)
        return self._write(found, areas, data, confirm)

    def _write(self, region: Region, areas: Sequence[LabelArea], data: Mapping[str, bytes], confirm: Confirm) -> Region:
        if set(data) != set(region.dimms):
            given = ", ".join(data) or "none"
            raise InvalidValueError("labels", given, f"labels of all DIMMs of the region: {', '.join(region.dimms)}")
        for area in areas:
            if len(data[area.dimm]) != area.size:
                raise InvalidValueError(
                    "labels", f"{len(data[area.dimm])} bytes", f"{int(area.size)} bytes, the label area of {area.dimm}"
                )
        return self._change(region, lambda dimm: write_area(self._ndctl, region, dimm, data[dimm.dev]), confirm)

    def _dimms(self, region: Region) -> list[Dimm]:
        listed = self._ndctl.inventory()
        return [self._ndctl.dimm(dimm, listed) for dimm in region.dimms]

    def _change(self, region: Region, change: Callable[[Dimm], LabelArea], confirm: Confirm) -> Region:
        with self._regions.disabled_with_neighbours(region, confirm) as out:
            for dimm in out.dimms:
                change(dimm)
        return out.again.get(region.dev) or self._ndctl.region(region)
