"""Read the memory devices of a running QEMU through its monitor (QMP)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from VpmemLibrary.errors import GuestError, VpmemError
from VpmemLibrary.guest.domain.records import DeviceKey
from VpmemLibrary.sizes import Size

Monitor = Callable[[str, Mapping[str, object]], Any]
"""Runs one QMP command and returns its result."""

_KINDS = ("nvdimm", "virtio-pmem")
"""The kinds of memory device that are persistent. The library ignores all other kinds, e.g. of a newer QEMU."""

_RAM_KINDS = ("dimm", "virtio-mem")

_NAMELESS = "/machine/peripheral-anon"
"""The path where QEMU keeps the devices without an id."""

_DRIVERS = {"nvdimm": (("nvdimm", "spapr-nvdimm"), "slot"), "virtio-pmem": (("virtio-pmem-pci",), "memaddr")}
"""For each kind: the types of its device, and the property that identifies a device of these types."""

NO_SUCH_PROPERTY = ("not found", "GenericError")
"""Parts of QEMU's error for a property that an object does not have."""

Result = TypeVar("Result")


def _documented(read: Callable[[Monitor], Result]) -> Callable[[Monitor], Result]:
    """Wrap `read` so that an answer of an undocumented form raises an error of this library."""

    @functools.wraps(read)
    def checked(monitor: Monitor) -> Result:
        try:
            return read(monitor)
        except VpmemError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            raise GuestError(
                f"QEMU's monitor gave an answer of an undocumented form ({type(error).__name__}: {error})."
            ) from error

    return checked


@_documented
def qmp_devices(monitor: Monitor) -> dict[DeviceKey, dict[str, object]]:
    """Return the properties of each device by slot or alias, from ``query-memory-devices`` and from its backend.

    The size from QMP does not include the label area (QEMU, hw/mem/nvdimm.c), but the backend's size does. A QEMU that
    was built without libpmem has no property ``pmem``, and an older QEMU lacks other properties. An absent property
    counts as False. A virtio-pmem device without an id has the path of its backing as its key.
    """
    found: dict[DeviceKey, dict[str, object]] = {}
    for entry in monitor("query-memory-devices", {}):
        kind = entry["type"]
        if kind not in _KINDS:
            continue
        data = entry["data"]
        backend = str(data["memdev"])
        device = f"/machine/peripheral/{data['id']}" if data.get("id") else _nameless(monitor, kind, data)
        path = str(_property(monitor, backend, "mem-path", ""))
        view: dict[str, object] = {
            "path": path,
            "size": Size(_property(monitor, backend, "size")),
            "shared": _flag(monitor, backend, "share"),
            "pmem": _flag(monitor, backend, "pmem"),
        }
        key: DeviceKey = str(data.get("id") or path)
        if kind == "nvdimm":
            key = int(data["slot"])
            view["align"] = Size(_property(monitor, backend, "align"))
            view["label size"] = Size(_property(monitor, device, "label-size", 0))
            view["readonly"] = _flag(monitor, device, "unarmed")
            view["node"] = int(data["node"])
        else:
            view["readonly"] = _flag(monitor, backend, "readonly")
        view["region size"] = Size(data["size"])
        view["attached later"] = _flag(monitor, device, "hotplugged")
        found[key] = view
    return found


def _property(monitor: Monitor, path: str, name: str, absent: Any = None) -> Any:
    """Return a property of a QEMU object. If the object has no such property, return `absent`.

    Raises:
        GuestError: The object has no such property and `absent` is None, or QEMU refused for another reason.
    """
    try:
        return monitor("qom-get", {"path": path, "property": name})
    except GuestError as error:
        if absent is None or not any(part in str(error) for part in NO_SUCH_PROPERTY):
            raise
        return absent


def _flag(monitor: Monitor, path: str, name: str) -> bool:
    """Return a truth value from an object's properties; False if the object has no such property."""
    value = _property(monitor, path, name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name} is neither true nor false")
    return value


def _nameless(monitor: Monitor, kind: str, data: Mapping[str, Any]) -> str:
    """Return the QEMU path of a device without an id. Find an nvdimm by its slot, a virtio-pmem device by its address.

    Raises:
        GuestError: QEMU has no such device.
    """
    drivers, identifier = _DRIVERS[kind]
    types = [f"child<{driver}>" for driver in drivers]
    for child in monitor("qom-list", {"path": _NAMELESS}):
        path = f"{_NAMELESS}/{child['name']}"
        if child["type"] in types and _property(monitor, path, identifier) == data[identifier]:
            return path
    raise GuestError(f"QEMU's monitor has no {kind} device with {identifier} {data[identifier]} in {_NAMELESS}.")


@_documented
def qmp_memory(monitor: Monitor) -> tuple[Size, Size]:
    """Return a guest's RAM without DIMMs (query-memory-size-summary), and its persistent memory without label areas."""
    summary = monitor("query-memory-size-summary", {})
    return Size(summary["base-memory"]), _total(monitor, _KINDS)


@_documented
def qmp_plugged_ram(monitor: Monitor) -> Size:
    """Return the RAM of a guest's memory devices: the DIMMs, and the plugged part of virtio-mem devices."""
    return _total(monitor, _RAM_KINDS)


@_documented
def qmp_attached_ram(monitor: Monitor) -> Size:
    """Return the RAM of memory devices that were attached after QEMU started."""
    return _total(monitor, _RAM_KINDS, later=True)


def _total(monitor: Monitor, kinds: tuple[str, ...], *, later: bool = False) -> Size:
    devices = [entry["data"] for entry in monitor("query-memory-devices", {}) if entry["type"] in kinds]
    return Size(sum(Size(data["size"]) for data in devices if not later or data.get("hotplugged")))


@_documented
def qmp_addresses(monitor: Monitor) -> dict[int, str]:
    """Return the backing's path of each virtio-pmem device without an id, by its address in the guest's memory."""
    return {
        int(device["data"]["memaddr"]): str(_property(monitor, str(device["data"]["memdev"]), "mem-path", ""))
        for device in monitor("query-memory-devices", {})
        if device["type"] == "virtio-pmem" and not device["data"].get("id")
    }


@_documented
def pci_aliases(monitor: Monitor) -> dict[str, str]:
    """Return the alias of each PCI device by its PCI address in the guest, e.g. ``0000:00:05.0``.

    A device without an id has no alias. The guest's firmware assigns the bus numbers, so only the running machine has
    them.
    """
    found: dict[str, str] = {}
    for bus in monitor("query-pci", {}):
        _add_pci(bus.get("devices", []), found)
    return found


def _add_pci(devices: Iterable[Mapping[str, Any]], found: dict[str, str]) -> None:
    for device in devices:
        address = f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']:x}"
        if name := device.get("qdev_id"):
            found[address] = str(name)
        _add_pci(device.get("pci_bridge", {}).get("devices", []), found)
