"""Compare the independent views of a device: request, XML, QEMU's command line, QMP, and the guest's kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.guest.domain.records import Access, DeviceKey, VpmemDevice, VpmemModel, in_slots
from VpmemLibrary.guest.prediction import guest_region_size
from VpmemLibrary.sizes import Size


def device_view(device: VpmemDevice) -> dict[str, object]:
    """Return the view of a device from its record."""
    view: dict[str, object] = {
        "path": device.path,
        "size": device.size,
        "shared": device.access is Access.shared,
        "pmem": device.pmem,
        "readonly": device.readonly,
    }
    if device.model is VpmemModel.nvdimm:
        view["label size"] = device.label_size or Size(0)
    if device.align is not None:
        view["align"] = device.align
    if device.node is not None:
        view["node"] = device.node
    return view


def asked_view(device: VpmemDevice) -> dict[str, object]:
    """Return the view of a requested device, with the region size that the guest should see."""
    return {**device_view(device), "region size": guest_region_size(device)}


def compare(
    guest: str,
    *,
    asked: Iterable[VpmemDevice],
    xml: Iterable[VpmemDevice],
    argv: Mapping[DeviceKey, Mapping[str, object]],
    qmp: Mapping[DeviceKey, Mapping[str, object]],
    inside: Mapping[DeviceKey, Mapping[str, object]],
    inactive: Iterable[VpmemDevice] = (),
    config_files: Iterable[str] = (),
) -> tuple[Agreement, ...]:
    """Return one comparison for each device of any view. A view that lacks the device has the value ``absent``.

    Devices are matched by slot (nvdimm) or alias (virtio-pmem), never by order.

    Args:
        guest: The guest's name.
        asked: The requested devices.
        xml: The devices in the live XML.
        argv: The view of QEMU's command line. It is not compared for a device that QMP lists as attached after QEMU
            started.
        qmp: The view of QEMU's monitor.
        inside: The view of the guest's kernel.
        inactive: The devices in the XML for the next start. This view is not compared for a device that it lacks.
        config_files: Configuration files on QEMU's command line. A device that is not on the command line may be in one
            of these files.
    """
    running = tuple(xml)
    wanted, live, next_start = (_by_key(each, running) for each in (asked, running, inactive))
    absent = {"path": "absent", "region size": "absent"}
    no_region = {"region size": "absent"}
    files = " ".join(config_files)
    elsewhere: Mapping[str, object] = {"stated in": files} if files else absent
    return tuple(
        Agreement(
            f"{guest}, slot {key}" if isinstance(key, int) else f"{guest}, {key}",
            {
                "asked for": asked_view(wanted[key]) if key in wanted else absent,
                "live XML": device_view(live[key]) if key in live else absent,
                "inactive XML": device_view(next_start[key]) if key in next_start else {},
                "QEMU command line": argv.get(key, {} if qmp.get(key, {}).get("attached later") else elsewhere),
                "QMP": qmp.get(key, absent),
                "guest's kernel": inside.get(key, no_region),
            },
        )
        for key in sorted({*wanted, *live, *argv, *qmp, *inside}, key=lambda key: (isinstance(key, str), key))
    )


def _by_key(devices: Iterable[VpmemDevice], live: Iterable[VpmemDevice]) -> dict[DeviceKey, VpmemDevice]:
    """Return devices by slot or alias. Only the live XML has aliases, which devices with one backing get in order."""
    aliases: dict[str, list[str]] = {}
    for device in live:
        if device.slot is None:
            aliases.setdefault(device.path, []).append(device.alias or device.path)
    found: dict[DeviceKey, VpmemDevice] = {}
    for device in in_slots(devices):
        if device.slot is not None:
            found[device.slot] = device
        else:
            own = aliases.get(device.path) or [device.alias or device.path]
            found[own.pop(0) if len(own) > 1 else own[0]] = device
    return found
