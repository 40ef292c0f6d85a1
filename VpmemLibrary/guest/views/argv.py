"""Read the persistent-memory devices from the command line of a running QEMU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from msgspec import Struct

from VpmemLibrary.errors import GuestError
from VpmemLibrary.guest.domain.records import DeviceKey
from VpmemLibrary.guest.views.qemu_options import (
    Option,
    has_nvdimm,
    is_true,
    memory_slots,
    options_of,
    parse_size,
    ram_size,
    whole,
)
from VpmemLibrary.sizes import Size

_SHOWN = 2000

_NVDIMMS = ("nvdimm", "spapr-nvdimm")
_IN_SLOTS = (*_NVDIMMS, "pc-dimm")
_VIRTIO = ("virtio-pmem-pci", "virtio-pmem")

_SHARED_BY_DEFAULT = ("memory-backend-memfd", "memory-backend-shm")
"""For these backends ``share`` is on by default (QEMU, backends/hostmem-memfd.c, hostmem-shm.c)."""

Result = TypeVar("Result")


def argv_devices(argv: tuple[str, ...], taken: Sequence[int] = ()) -> dict[DeviceKey, dict[str, object]]:
    """Return the settings of each device on QEMU's command line: an nvdimm by its slot, a virtio-pmem device by its id.

    An nvdimm without a slot gets the lowest free slot, in the order in which QEMU creates devices (hw/mem/pc-dimm.c). A
    virtio-pmem device without an id has the path of its backing as its key.

    Args:
        argv: The command line, one item for each argument.
        taken: Memory slots of devices that are not on this command line.

    Raises:
        GuestError: An option does not have the form that QEMU accepts.
    """
    return _readable(argv, lambda: _devices(argv, taken))


def argv_ram(argv: tuple[str, ...]) -> Size | None:
    """Return a machine's RAM, including DIMMs, from its command line; None if the machine has a virtio-mem device.

    The RAM of a virtio-mem device changes while the guest runs, so the command line does not define it. Also return
    None if the command line does not state the RAM.

    Args:
        argv: The command line, one item for each argument.

    Raises:
        GuestError: An option does not have the form that QEMU accepts.
    """
    return _readable(argv, lambda: _ram(argv))


class ArgvOptions(Struct, frozen=True):
    """The machine's options on a command line.

    Args:
        nvdimm: Whether the machine may have NVDIMMs (``-machine nvdimm=on``).
        slots: The number of memory slots; 0 if the command line does not state it.
    """

    nvdimm: bool
    slots: int


def argv_options(argv: tuple[str, ...]) -> ArgvOptions:
    """Return the machine's options from a command line.

    Raises:
        GuestError: An option does not have the form that QEMU accepts.
    """
    return _readable(argv, lambda: ArgvOptions(has_nvdimm(argv), memory_slots(argv)))


def _readable(argv: tuple[str, ...], read: Callable[[], Result]) -> Result:
    try:
        return read()
    except (ValueError, RecursionError) as error:
        line = " ".join(argv)[:_SHOWN]
        raise GuestError(f"QEMU's command line has an option that cannot be read ({error!r}): {line}") from error


def _ram(argv: tuple[str, ...]) -> Size | None:
    devices = options_of(argv, "-device", "driver")
    ram = ram_size(argv)
    if ram is None or any(str(device.get("driver")).startswith("virtio-mem") for device in devices):
        return None
    backends = _backends(argv)
    dimms = [device for device in devices if device.get("driver") == "pc-dimm"]
    return Size(ram + sum(parse_size(backends.get(str(dimm.get("memdev")), {}).get("size", 0)) for dimm in dimms))


def _backends(argv: tuple[str, ...]) -> dict[str, Option]:
    return {str(option.get("id")): option for option in options_of(argv, "-object", "qom-type")}


def _devices(argv: tuple[str, ...], taken: Sequence[int]) -> dict[DeviceKey, dict[str, object]]:
    backends = _backends(argv)
    used = set(taken)
    found: dict[DeviceKey, dict[str, object]] = {}
    for device in options_of(argv, "-device", "driver"):
        driver = device.get("driver")
        backend = backends.get(str(device.get("memdev")), {})
        if driver in _IN_SLOTS:
            slot = whole(device.get("slot", -1))
            if slot < 0:
                slot = next(number for number in range(len(used) + 1) if number not in used)
            used.add(slot)
            if driver in _NVDIMMS:
                found[slot] = _nvdimm(device, backend)
        elif driver in _VIRTIO:
            view = _view(backend)
            found[str(device.get("id") or view.get("path", ""))] = view
    return found


def _view(backend: Mapping[str, object]) -> dict[str, object]:
    """Return the settings of a backend; empty if the backend is in a configuration file and not on the command line."""
    if not backend:
        return {}
    view: dict[str, object] = {
        "path": str(backend.get("mem-path", "")),
        "shared": is_true(backend.get("share"), backend.get("qom-type") in _SHARED_BY_DEFAULT),
        "pmem": is_true(backend.get("pmem")),
        "readonly": is_true(backend.get("readonly")),
    }
    if "size" in backend:
        view["size"] = parse_size(backend["size"])
    if "align" in backend:
        view["align"] = parse_size(backend["align"])
    return view


def _nvdimm(device: Mapping[str, object], backend: Mapping[str, object]) -> dict[str, object]:
    view = _view(backend)
    view["readonly"] = bool(view.get("readonly")) or is_true(device.get("unarmed"))
    view["label size"] = parse_size(device.get("label-size", 0))
    if "node" in device:
        view["node"] = whole(device["node"])
    return view
