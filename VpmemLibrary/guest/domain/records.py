"""What a guest is asked to be, as typed records."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import checked_name

DeviceKey = int | str
"""What tells a guest's device from its others, whatever their order: an nvdimm's memory slot, or the alias that libvirt
gives a virtio-pmem device."""


class VpmemModel(StrEnum):
    """The kinds of persistent-memory device that libvirt knows."""

    nvdimm = "nvdimm"
    virtio_pmem = "virtio-pmem"


class Access(StrEnum):
    """Whether writes reach the backing (libvirt's ``access`` of a memory device)."""

    shared = "shared"
    private = "private"


@dataclass(frozen=True, slots=True)
class VpmemDevice:
    """One persistent-memory device of a guest.

    Args:
        path: Its backing on the host: a devdax node or a file, as an absolute path.
        size: How many bytes of the backing it has.
        model: ``nvdimm`` or ``virtio-pmem``.
        label_size: The size of its label area, at the end of the backing; None for no label area.
        align: The mapping alignment (libvirt's ``alignsize``); None to leave it to QEMU.
        access: ``shared``: writes reach the backing. None leaves it to the domain (see `guest.access`), and where the
            domain says nothing either, QEMU takes it for private. Of a device that was read from a domain's XML it is
            what holds for the device, whatever element says it.
        pmem: Whether QEMU takes the backing for persistent memory (``pmem=on``).
        readonly: Whether the guest may not write.
        node: The guest's NUMA node that has it.
        slot: Its memory slot; None until libvirt has given it one, and for virtio-pmem, which has none.
        alias: What libvirt calls it while it runs, e.g. ``virtiopmem0``, or what its user does, ``ua-...``.
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
        """The NFIT handle by which the guest's kernel knows it: its slot + 1 (QEMU, hw/acpi/nvdimm.c)."""
        return None if self.slot is None else self.slot + 1

    def in_slot(self, slot: int) -> VpmemDevice:
        """Return the same device in a slot."""
        return replace(self, slot=slot)


def in_slots(devices: Iterable[VpmemDevice], taken: Iterable[int] = ()) -> tuple[VpmemDevice, ...]:
    """Return the devices with the slots that libvirt gives them at the start: the lowest free one each, in order.

    A virtio-pmem device is a PCI device and has none.

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
"""What runs a guest: the host's KVM, emulation, the better one that libvirt offers, or libvirt's own test driver."""


@dataclass(frozen=True, slots=True)
class BootSource:
    """What a guest boots from: a kernel with its initramfs, or a disk image; paths on the host.

    Args:
        kernel: A kernel.
        initrd: Its initramfs.
        cmdline: Its command line.
        disk: A disk image, qcow2 or raw by its name's ending.

    Raises:
        InvalidValueError: There is neither a kernel nor a disk, or both, or a path is relative.
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
            raise InvalidValueError("guest image", self.initrd or self.cmdline, "a kernel with it")
        for what, path in (("kernel", self.kernel), ("initrd", self.initrd), ("disk", self.disk)):
            if path and not path.startswith("/"):
                raise InvalidValueError(what, path, "an absolute path on the host")


@dataclass(frozen=True, slots=True)
class GuestSpec:
    """A whole guest as it is asked for.

    Args:
        name: Its name.
        boot: What it boots from.
        devices: Its persistent-memory devices, in order; the first goes into slot 0.
        memory: Its RAM, without the devices.
        vcpus: Its virtual CPUs.
        run_id: The run that makes it: its mark.
        machine: QEMU's machine type; empty for the one of the host's QEMU that boots fastest: ``pc``, or else ``q35``.
        hypervisor: ``kvm``, ``qemu`` (emulation), or ``auto``: kvm where the host's libvirt offers it.
        spare_slots: For how many more devices there is a slot, to be attached while it runs.
        spare_memory: For how large devices there is room, to be attached while it runs.
        numa_cells: Its NUMA nodes, numbered from 0; RAM and CPUs are dealt out to them.
        bridge: The bridge of the host that its interface is on; empty for no interface.
        confined: Whether the host's security driver (AppArmor, SELinux) confines its QEMU. QEMU's user and its control
            group keep it from other devices either way.

    Raises:
        InvalidValueError: A value that no guest can have.
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
            raise InvalidValueError("memory", str(self.memory), "whole MiB, 64MiB at least, e.g. 256MiB")
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
                "numa_cells", self.numa_cells, f"1 or more that share {self.memory} in whole MiB, e.g. 2"
            )

    @property
    def max_memory(self) -> Size:
        """Room for RAM, every device and those to be attached, in whole MiB."""
        return Size(self.memory + sum(device.size for device in self.devices) + self.spare_memory).up_to(MiB)

    @property
    def slots(self) -> int:
        """How many memory devices there may be."""
        return len(self.devices) + self.spare_slots
