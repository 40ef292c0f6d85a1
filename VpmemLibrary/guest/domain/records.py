"""Typed records that specify a guest."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import checked_name

DeviceKey = int | str
"""The key of a device within its guest: an nvdimm's memory slot, or the alias that libvirt gives a virtio-pmem device.

The key does not depend on the order of the devices.
"""


class VpmemModel(StrEnum):
    """The kinds of persistent-memory device that libvirt supports."""

    nvdimm = "nvdimm"
    virtio_pmem = "virtio-pmem"


class Access(StrEnum):
    """Whether writes reach the backing (libvirt's ``access`` of a memory device)."""

    shared = "shared"
    private = "private"


class VpmemDevice(Struct, frozen=True):
    """One persistent-memory device of a guest.

    Args:
        path: The backing on the host: the absolute path of a devdax node or a file.
        size: The number of bytes of the backing that the device uses.
        model: ``nvdimm`` or ``virtio-pmem``.
        label_size: The size of the label area, at the end of the backing; None for no label area.
        align: The mapping alignment (libvirt's ``alignsize``); None to leave it to QEMU.
        access: ``shared``: writes reach the backing. None leaves the access to the domain (see `guest.access`). If the
            domain does not set it either, QEMU maps the backing privately. For a device that was read from a domain
            XML, this is the effective access.
        pmem: Whether QEMU treats the backing as persistent memory (``pmem=on``).
        readonly: Whether the guest may only read.
        node: The guest's NUMA node of the device.
        slot: The memory slot; None until libvirt assigns a slot. A virtio-pmem device has no slot.
        alias: The alias in a running guest. libvirt sets it, e.g. ``virtiopmem0``, or the user does, ``ua-...``.
    """

    path: str
    size: Size
    model: VpmemModel = VpmemModel.nvdimm
    label_size: Size | None = Size(2 * MiB)
    align: Size | None = Size(2 * MiB)
    access: Access | None = Access.shared
    pmem: bool = True
    readonly: bool = False
    node: int | None = 0
    slot: int | None = None
    alias: str = ""

    @property
    def handle(self) -> int | None:
        """The NFIT handle of the device in the guest's kernel: the slot + 1 (QEMU, hw/acpi/nvdimm.c)."""
        return None if self.slot is None else self.slot + 1

    def in_slot(self, slot: int) -> VpmemDevice:
        """Return a copy of the device in a given slot."""
        return replace(self, slot=slot)


def in_slots(devices: Iterable[VpmemDevice], taken: Iterable[int] = ()) -> tuple[VpmemDevice, ...]:
    """Return the devices with the slots that libvirt assigns at the start: each in turn gets the lowest free slot.

    A virtio-pmem device is a PCI device and has no slot.

    Args:
        devices: The devices.
        taken: Slots of other memory devices.
    """
    listed = tuple(devices)
    used = {*taken, *(device.slot for device in listed)}
    free = (slot for slot in itertools.count() if slot not in used)
    return tuple(
        device.in_slot(next(free)) if device.slot is None and device.model is VpmemModel.nvdimm else device
        for device in listed
    )


_MOST_SLOTS = 256
"""QEMU's ACPI_MAX_RAM_SLOTS (include/hw/acpi/acpi-defs.h)."""

AUTO = "auto"
HYPERVISORS = ("kvm", "qemu", AUTO, "test")
"""What runs a guest: the host's KVM, emulation, the better of both, or libvirt's own test driver."""


class BootSource(Struct, frozen=True):
    """What a guest boots from: a kernel with its initramfs, or a disk image. All paths are on the host.

    Args:
        kernel: The kernel.
        initrd: The initramfs.
        cmdline: The kernel command line.
        disk: A disk image; its file extension says whether it is qcow2 or raw.

    Raises:
        InvalidValueError: Neither a kernel nor a disk is given, or both are, or a path is relative.
    """

    kernel: str = ""
    initrd: str = ""
    cmdline: str = ""
    disk: str = ""

    def __post_init__(self) -> None:
        if bool(self.kernel) == bool(self.disk):
            raise InvalidValueError(
                "guest image", self.kernel and self.disk, "either a kernel (with its initrd) or a disk"
            )
        if not self.kernel and (self.initrd or self.cmdline):
            raise InvalidValueError("guest image", self.initrd or self.cmdline, "a kernel as well")
        for what, path in (("kernel", self.kernel), ("initrd", self.initrd), ("disk", self.disk)):
            if path and not path.startswith("/"):
                raise InvalidValueError(what, path, "an absolute path on the host")


class GuestSpec(Struct, frozen=True):
    """The specification of a guest.

    Args:
        name: The guest's name.
        boot: What the guest boots from.
        devices: The persistent-memory devices, in order. The first device gets slot 0.
        memory: The RAM, without the devices.
        vcpus: The number of virtual CPUs.
        run_id: The run that defines the guest. It becomes the guest's mark.
        machine: QEMU's machine type. Empty chooses the type of the host's QEMU that boots fastest: ``pc``, otherwise
            ``q35``.
        hypervisor: ``kvm``, ``qemu`` (emulation), or ``auto``: kvm if the host's libvirt offers it.
        spare_slots: The number of free memory slots for devices that are attached later.
        spare_memory: The room for devices that are attached later.
        numa_cells: The number of NUMA nodes, numbered from 0. RAM and CPUs are distributed over them.
        bridge: The bridge of the host for the guest's interface; empty for no interface.
        confined: Whether the host's security driver (AppArmor, SELinux) confines QEMU. Without the driver, QEMU's user
            and control group still confine it.

    Raises:
        InvalidValueError: A value is invalid.
    """

    name: str
    boot: BootSource
    devices: tuple[VpmemDevice, ...] = ()
    memory: Size = Size(256 * MiB)
    vcpus: int = 1
    run_id: str = ""
    machine: str = ""
    hypervisor: str = "kvm"
    spare_slots: int = 2
    spare_memory: Size = Size(4 * GiB)
    numa_cells: int = 1
    bridge: str = ""
    confined: bool = True

    def __post_init__(self) -> None:
        checked_name("guest name", self.name)
        if self.memory < 64 * MiB or self.memory % MiB:
            raise InvalidValueError("memory", str(self.memory), "whole MiB, at least 64MiB, e.g. 256MiB")
        if self.machine:
            checked_name("machine", self.machine)
        if self.bridge:
            checked_name("bridge", self.bridge, longest=15)  # the kernel's IFNAMSIZ less its NUL
        if self.vcpus < 1:
            raise InvalidValueError("vcpus", self.vcpus, "1 or more")
        if self.hypervisor not in HYPERVISORS:
            raise InvalidValueError("hypervisor", self.hypervisor, " or ".join(HYPERVISORS))
        if self.spare_slots < 0 or self.slots > _MOST_SLOTS:
            raise InvalidValueError("spare_slots", self.spare_slots, f"0 to {_MOST_SLOTS - len(self.devices)}")
        if self.numa_cells < 1 or self.memory % (self.numa_cells * MiB):
            raise InvalidValueError(
                "numa_cells", self.numa_cells, f"a number that divides {self.memory} into whole MiB, e.g. 2"
            )

    @property
    def max_memory(self) -> Size:
        """The size of RAM, all devices and devices that are attached later, in whole MiB."""
        return Size(self.memory + sum(device.size for device in self.devices) + self.spare_memory).up_to(MiB)

    @property
    def slots(self) -> int:
        """The number of memory slots."""
        return len(self.devices) + self.spare_slots
