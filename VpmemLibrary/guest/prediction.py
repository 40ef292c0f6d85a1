"""Predict the guest's view of a device, and the position of its bytes on the host, without starting the guest."""

from __future__ import annotations

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.sizes import KiB, MiB, Size

SMALLEST_LABEL = Size(128 * KiB)
"""The smallest label area that libvirt accepts (libvirt, formatdomain, memory devices)."""

SIZE_STEP = Size(2 * MiB)
"""On x86 libvirt rounds the size of a memory device up to a multiple of this size."""

POWER = ("ppc64", "ppc64le")
POWER_STEP = Size(256 * MiB)
"""On POWER the guest's part of an NVDIMM is a multiple of this size."""


def guest_region_size(device: VpmemDevice) -> Size:
    """Return the size of a device's region in the guest: the size without the label area, rounded down to `align`.

    QEMU, hw/mem/nvdimm.c: the guest's part is ``QEMU_ALIGN_DOWN(size - label_size, align)``.

    Example: a devdax namespace of 256 MiB - 2 MiB with a label area of 2 MiB gives a region of 252 MiB.
    """
    align = device.align or Size(4 * KiB)
    return Size(device.size - (device.label_size or 0)).down_to(align)


def label_area_offset(device: VpmemDevice) -> Size:
    """Return the offset of the label area in the backing. The label area is at the very end.

    Raises:
        InvalidValueError: The device has no label area.
    """
    if not device.label_size:
        raise InvalidValueError("device", device.path, "a device with a label area")
    return device.size - device.label_size


def backing_offset(device: VpmemDevice, offset: int) -> Size:
    """Return the offset of a guest's byte in the backing. The guest's region starts at the start of the backing.

    Args:
        device: The device.
        offset: An offset in the guest's region.

    Raises:
        InvalidValueError: The offset is outside the region.
    """
    region = guest_region_size(device)
    if not 0 <= offset < region:
        raise InvalidValueError("offset", offset, f"an offset in the guest's region, 0 to {int(region) - 1}")
    return Size(offset)


def configured_size(size: Size, architecture: str = "x86_64", label_size: int = 0) -> Size:
    """Return the size that libvirt configures for a stated size. On x86 it is rounded up to 2 MiB.

    On POWER libvirt rounds the size without the label area down to 256 MiB, because a pSeries guest has its NVDIMMs in
    pieces of that size (qemu_domain.c, qemuDomainNVDimmAlignSizePseries).

    Args:
        size: The size in the domain XML.
        architecture: The guest's architecture.
        label_size: The size of the label area.
    """
    if architecture in POWER:
        return Size((size - label_size).down_to(POWER_STEP) + label_size)
    return size.up_to(SIZE_STEP)
