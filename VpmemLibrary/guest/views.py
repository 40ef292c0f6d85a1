"""One device in independent views: asked for, libvirt's XML, QEMU's command line, QMP, and the guest's kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import NotFoundError, UnsupportedError
from VpmemLibrary.guest.domain import Access, VpmemDevice, in_slots
from VpmemLibrary.guest.prediction import guest_region_size
from VpmemLibrary.model import Inventory, Region
from VpmemLibrary.sizes import Size


def device_view(device: VpmemDevice) -> dict[str, object]:
    """Return what a device's record states."""
    view: dict[str, object] = {
        "path": device.path,
        "size": device.size,
        "shared": device.access is Access.shared,
        "pmem": device.pmem,
        "readonly": device.readonly,
        "label size": device.label_size or Size(0),
    }
    if device.align is not None:
        view["align"] = device.align
    if device.node is not None:
        view["node"] = device.node
    return view


def asked_view(device: VpmemDevice) -> dict[str, object]:
    """Return what was asked for, with what the guest should see of it."""
    return {**device_view(device), "region size": guest_region_size(device)}


def region_of_handle(inventory: Inventory, handle: int, guest: str = "") -> Region:
    """Return the region on the DIMM with an NFIT handle, which is the slot + 1 (QEMU, hw/acpi/nvdimm.c).

    Raises:
        NotFoundError: The kernel has no region for it.
    """
    dimms = {dimm.dev for dimm in inventory.dimms if dimm.handle == handle}
    for region in inventory.regions:
        if dimms & set(region.dimms):
            return region
    there = [f"{dimm.dev} (handle {dimm.handle})" for dimm in inventory.dimms]
    raise NotFoundError("region on a DIMM with handle", str(handle), there, where=guest)


def compare(
    guest: str,
    *,
    asked: Iterable[VpmemDevice],
    xml: Iterable[VpmemDevice],
    argv: Mapping[int, Mapping[str, object]],
    qmp: Mapping[int, Mapping[str, object]],
    inside: Mapping[int, Mapping[str, object]],
    inactive: Iterable[VpmemDevice] = (),
) -> tuple[Agreement, ...]:
    """Return one comparison for each slot that any view knows of; a view that lacks the slot says it is absent.

    Args:
        guest: The guest's name.
        asked: The devices as asked for.
        xml: The devices of the live XML.
        argv: What QEMU's command line says, by slot.
        qmp: What QEMU's monitor says, by slot.
        inside: What the guest's kernel says, by slot.
        inactive: The devices of the XML for the next start; one that is not in it states nothing.

    Raises:
        UnsupportedError: A device has no slot (virtio-pmem), by which views could be matched.
    """
    wanted, live, next_start = _by_slot(guest, asked), _by_slot(guest, xml), _by_slot(guest, inactive)
    absent = {"path": "absent", "region size": "absent"}
    no_region = {"region size": "absent"}
    return tuple(
        Agreement(
            f"{guest}, slot {slot}",
            {
                "asked for": asked_view(wanted[slot]) if slot in wanted else absent,
                "live XML": device_view(live[slot]) if slot in live else absent,
                "inactive XML": device_view(next_start[slot]) if slot in next_start else {},
                "QEMU command line": argv.get(slot, absent),
                "QMP": qmp.get(slot, absent),
                "guest's kernel": inside.get(slot, no_region),
            },
        )
        for slot in sorted({*wanted, *live, *argv, *qmp, *inside})
    )


def _by_slot(guest: str, devices: Iterable[VpmemDevice]) -> dict[int, VpmemDevice]:
    found = {}
    for device in in_slots(devices):
        if device.slot is None:
            raise UnsupportedError(
                f"The views of guest {guest} cannot be matched: its {device.model} device on {device.path} has no slot."
            )
        found[device.slot] = device
    return found
