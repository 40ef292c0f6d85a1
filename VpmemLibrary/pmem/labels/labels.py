"""The labels of a region: those of all its DIMMs together, as a namespace's labels are spread over them.

They change while the region is disabled; it is enabled again whatever happens. Whoever calls says whose namespaces may
be ended: nothing here knows who made them.
"""

from __future__ import annotations

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
        """Return the label area of each DIMM of a region, whatever is in it.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It lies on no DIMM, or a DIMM of it has no label area.
        """
        return read_areas(self._ndctl, self._ndctl.region(region))

    def labeled(self, region: Region | str) -> tuple[LabelArea, ...]:
        """Return the label area of each DIMM of a region that has labels of one version and size on all of them.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: A DIMM has no labels, or they are of several kinds.
        """
        found = self._ndctl.region(region)
        areas = read_areas(self._ndctl, found)
        if bare := [area.dimm for area in areas if not area.version]:
            raise UnsupportedError(
                f"{found.dev} on {self._ndctl.transport.name} has no labels: {', '.join(bare)} has no valid index "
                "block. Give it labels first (initialize_labels)."
            )
        if len({(area.version, area.nslot) for area in areas}) > 1:
            kinds = ", ".join(f"{area.dimm} {area.version} with {area.nslot} slots" for area in areas)
            raise UnsupportedError(f"The DIMMs of {found.dev} have labels of several kinds: {kinds}.")
        return areas

    def available_slots(self, region: Region | str) -> int:
        """Return how many labels more the kernel would write for a region; it keeps one slot of each DIMM for itself.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It lies on no DIMM.
            UnreadableOutputError: The kernel does not tell, as of a disabled DIMM.
        """
        dimms = require_dimms(self._ndctl, self._ndctl.region(region))
        result = self._ndctl.run(query(_SLOTS, *dimms)).check()
        counts = [line.partition(" ")[2] for line in result.lines]
        if len(counts) != len(dimms) or not all(count.isdigit() for count in counts):
            raise UnreadableOutputError(result, f"The kernel does not tell the free slots of {', '.join(dimms)}")
        return min(int(count) for count in counts)

    def problems(self, region: Region | str) -> tuple[str, ...]:
        """Return every inconsistency of a region's labels, a line each; nothing when they are consistent.

        Looked at are the bytes of each label area, what the DIMMs say of each namespace, whether the kernel has the
        namespaces that the labels describe and no others, and what ``ndctl check-labels`` says.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It lies on no DIMM, or a DIMM of it has no label area.
        """
        found, *beside = self._ndctl.regions_beside(region)
        areas = read_areas(self._ndctl, found)
        # A region that shares DIMMs with this one has its labels in the same areas, and more of them on other DIMMs.
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
                f"the kernel has no namespace of the label "
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
        """Fill the label areas of a region's DIMMs with zeros: its namespaces are gone, their bytes stay.

        The kernel goes on to treat the region as one with labels until the machine boots again, so all of it is free
        and the next create writes labels 1.2.

        Args:
            region: The region's record or name.
            confirm: See `Regions.out_of_use`.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It has no label area, or there is nothing in it.
            BusyError: A namespace is in use; nothing was changed.
            CommandError: They are not all zeros afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        if all(area.blank for area in read_areas(self._ndctl, found)):
            raise UnsupportedError(
                f"{found.dev} on {self._ndctl.transport.name} has no labels that could be zeroed: the label area of "
                f"{', '.join(found.dimms)} is all zeros."
            )
        return self._change(found, lambda dimm: zero_area(self._ndctl, found, dimm), confirm)

    def write(self, region: Region | str, data: Mapping[str, bytes], *, confirm: Confirm = confirmed) -> Region:
        """Write the label areas of a region's DIMMs as they are given, right or wrong.

        Args:
            region: The region's record or name.
            data: For each DIMM of it, all bytes of its label area.
            confirm: See `Regions.out_of_use`.

        Raises:
            NotFoundError: There is no such region.
            InvalidValueError: It is not for those DIMMs, or has another size; nothing was changed.
            BusyError: A namespace is in use; nothing was changed.
            CommandError: Other bytes are there afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        return self._write(found, read_areas(self._ndctl, found), data, confirm)

    def saved(self, region: Region | str) -> SavedLabels:
        """Return the label areas of a region with what they came from, for a file.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It has no label area.
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
        """Write label areas back to the DIMMs that they came from.

        Args:
            region: The region's record or name.
            saved: What was saved of it.
            elsewhere: Write them even if they came from other DIMMs; the sizes must be the same all the same.
            confirm: See `Regions.out_of_use`.

        Raises:
            NotFoundError: There is no such region.
            InvalidValueError: They came from other DIMMs, or have another size; nothing was changed.
            BusyError: A namespace is in use; nothing was changed.
            CommandError: Other bytes are there afterwards, or the region could not be enabled again.
        """
        found = self._ndctl.region(region)
        areas = read_areas(self._ndctl, found)
        data = saved.matched(self._dimms(found), [area.size for area in areas], elsewhere=elsewhere)
        return self._write(found, areas, data, confirm)

    def _write(self, region: Region, areas: Sequence[LabelArea], data: Mapping[str, bytes], confirm: Confirm) -> Region:
        if set(data) != set(region.dimms):
            given = ", ".join(data) or "none"
            raise InvalidValueError("labels", given, f"those of {', '.join(region.dimms)}, all of them")
        for area in areas:
            if len(data[area.dimm]) != area.size:
                raise InvalidValueError(
                    "labels", f"{len(data[area.dimm])} bytes", f"{int(area.size)} bytes, the label area of {area.dimm}"
                )
        return self._change(region, lambda dimm: write_area(self._ndctl, region, dimm, data[dimm.dev]), confirm)

    def _dimms(self, region: Region) -> list[Dimm]:
        there = {dimm.dev: dimm for dimm in self._ndctl.inventory().dimms}
        return [there[dimm] for dimm in region.dimms]

    def _change(self, region: Region, change: Callable[[Dimm], LabelArea], confirm: Confirm) -> Region:
        with self._regions.out_of_use(region, confirm) as out:
            for dimm in out.dimms:
                change(dimm)
        return out.again.get(region.dev) or self._ndctl.region(region)
