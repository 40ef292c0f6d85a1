"""What the running QEMU says of its memory devices through its monitor."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from VpmemLibrary.errors import GuestError, VpmemError
from VpmemLibrary.guest.domain import DeviceKey
from VpmemLibrary.sizes import Size

Monitor = Callable[[str, Mapping[str, object]], Any]
"""What runs one QMP command and returns what it returned."""

_KINDS = ("nvdimm", "virtio-pmem")

Result = TypeVar("Result")


def _documented(read: Callable[[Monitor], Result]) -> Callable[[Monitor], Result]:
    """Return `read` with an error of this library's for an answer that is not of its documented form."""

    @functools.wraps(read)
    def checked(monitor: Monitor) -> Result:
        try:
            return read(monitor)
        except VpmemError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise GuestError(
                f"QEMU's monitor gave an answer that is not of its documented form ({type(error).__name__}: {error})."
            ) from error

    return checked


@_documented
def qmp_devices(monitor: Monitor) -> dict[DeviceKey, dict[str, object]]:
    """Return what ``query-memory-devices`` and the backend's own properties say of each device, by slot or alias.

    The size that QMP gives is without the label area (QEMU, hw/mem/nvdimm.c); the backend's is the whole.
    """
    found: dict[DeviceKey, dict[str, object]] = {}
    for entry in monitor("query-memory-devices", {}):
        if entry["type"] not in _KINDS:
            continue
        data = entry["data"]
        backend = str(data["memdev"])

        def of(name: str, path: str = backend) -> Any:
            return monitor("qom-get", {"path": path, "property": name})

        whole = Size(of("size"))
        view: dict[str, object] = {
            "path": of("mem-path"),
            "size": whole,
            "shared": of("share"),
            "pmem": of("pmem"),
        }
        key: DeviceKey = str(data["id"])
        if entry["type"] == "nvdimm":
            key = int(data["slot"])
            view["align"] = Size(of("align"))
            device = f"/machine/peripheral/{data['id']}"
            view["label size"] = Size(of("label-size", device))
            view["readonly"] = of("unarmed", device)
            view["node"] = int(data["node"])
        else:
            view["readonly"] = of("readonly")
        view["region size"] = Size(data["size"])
        view["attached later"] = of("hotplugged", f"/machine/peripheral/{data['id']}")
        found[key] = view
    return found


@_documented
def qmp_memory(monitor: Monitor) -> tuple[Size, Size]:
    """Return a guest's RAM and its devices without their label areas, as ``query-memory-size-summary`` has them."""
    summary = monitor("query-memory-size-summary", {})
    return Size(summary["base-memory"]), Size(summary.get("plugged-memory", 0))


@_documented
def pci_aliases(monitor: Monitor) -> dict[str, str]:
    """Return the alias of each PCI device by the address that the guest knows it by, e.g. ``0000:00:05.0``.

    Bus numbers are what the guest's firmware made of them, which only the running machine can tell.
    """
    found: dict[str, str] = {}
    for bus in monitor("query-pci", {}):
        _add_pci(bus.get("devices", []), found)
    return found


def _add_pci(devices: Iterable[Mapping[str, Any]], found: dict[str, str]) -> None:
    for device in devices:
        address = f"0000:{device['bus']:02x}:{device['slot']:02x}.{device['function']:x}"
        found[address] = str(device.get("qdev_id", ""))
        _add_pci(device.get("pci_bridge", {}).get("devices", []), found)
