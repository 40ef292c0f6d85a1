"""What a guest will see of a device, and where its bytes lie on the host, computed without starting it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.sizes import KiB, MiB, Size

SMALLEST_LABEL = Size(128 * KiB)
"""The smallest label area that libvirt takes (libvirt, formatdomain, memory devices)."""

SIZE_STEP = Size(2 * MiB)
"""libvirt rounds the size of a memory device on x86 up to this."""

POWER = ("ppc64", "ppc64le")
POWER_STEP = Size(256 * MiB)
"""On POWER a guest's part of an NVDIMM is a multiple of this."""

NAMESPACE_STEP = Size(16 * MiB)
"""A guest's region must be a multiple of this for ndctl to make fsdax and devdax namespaces in it."""


def guest_region_size(device: VpmemDevice) -> Size:
    """Return how large the region of a device is in the guest: what the label area leaves, rounded down to the align.

    QEMU, hw/mem/nvdimm.c: the guest's part is ``QEMU_ALIGN_DOWN(size - label_size, align)``.

    Example: 256 MiB - 2 MiB of a devdax namespace with a label of 2 MiB give 252 MiB.
    """
    align = device.align or Size(4 * KiB)
    return Size(device.size - (device.label_size or 0)).down_to(align)


def label_area_offset(device: VpmemDevice) -> Size:
    """Return where the label area begins in the backing: it is at the very end.

    Raises:
        InvalidValueError: The device has no label area.
    """
    if not device.label_size:
        raise InvalidValueError("device", device.path, "one with a label area")
    return device.size - device.label_size


def backing_offset(device: VpmemDevice, offset: int) -> Size:
    """Return where a guest's byte lies in the backing: the guest's part begins with the backing itself.

    Args:
        device: The device.
        offset: A byte of the guest's region.

    Raises:
        InvalidValueError: The region has no such byte.
    """
    region = guest_region_size(device)
    if not 0 <= offset < region:
        raise InvalidValueError("offset", offset, f"a byte of the guest's region, 0 to {int(region) - 1}")
    return Size(offset)


def configured_size(size: Size, architecture: str = "x86_64", label_size: int = 0) -> Size:
    """Return the size that libvirt makes of one: rounded up to 2 MiB.

    On POWER it rounds what the label area leaves down to 256 MiB, as a pSeries guest has its NVDIMMs in such pieces
    (qemu_domain.c, qemuDomainNVDimmAlignSizePseries).

    Args:
        size: The size that a domain's XML states.
        architecture: The guest's.
        label_size: The size of the label area.
    """
    if architecture in POWER:
        return Size((size - label_size).down_to(POWER_STEP) + label_size)
    return size.up_to(SIZE_STEP)


def namespace_problem(device: VpmemDevice) -> str:
    """Return why ndctl in the guest could make no fsdax or devdax namespace of a whole region; empty when it could.

    The region must be a multiple of 16 MiB; the next device's region then begins aligned as well.

    Example: 1 GiB with a label of 2 MiB leave a region of 1022 MiB; 1010 MiB or 1026 MiB would fit.
    """
    region = guest_region_size(device)
    if region and region % NAMESPACE_STEP == 0:
        return ""
    sizes = [
        configured_size(usable + (device.label_size or 0))
        for usable in (region.down_to(NAMESPACE_STEP), region.up_to(NAMESPACE_STEP) or NAMESPACE_STEP)
        if usable
    ]
    fitting = [size for size in sizes if guest_region_size(replace(device, size=size)) % NAMESPACE_STEP == 0]
    mend = f"a size of {' or '.join(map(str, fitting))}" if fitting else "an align and a label area of 2MiB"
    return f"the region has {region}, which is no multiple of {NAMESPACE_STEP}: {mend} would fit"


@dataclass(frozen=True, slots=True)
class NovaMemory:
    """What Nova writes into the XML of a guest with vPMEM, all in KiB.

    Args:
        memory: ``<memory>``: the flavor's RAM, without the devices.
        max_memory: ``<maxMemory>``: RAM and every device.
        slots: Its slots: one a device, and none to spare.
        targets: For each device ``target/size``: the namespace's bytes // 1024.
    """

    memory: int
    max_memory: int
    slots: int
    targets: tuple[int, ...]


NOVA_LABEL = Size(2 * MiB)
"""The label area that Nova gives every device, and the alignment (nova/virt/libvirt/config.py)."""


def nova_memory(ram: Size, namespaces: Iterable[Size]) -> NovaMemory:
    """Return the sizes that Nova computes for a flavor's RAM and its namespaces.

    Example: a namespace of 4292870144 bytes (4 GiB - 2 MiB) gives a target of 4192256 KiB.
    """
    targets = tuple(size // KiB for size in namespaces)
    return NovaMemory(ram // KiB, ram // KiB + sum(targets), len(targets), targets)
