"""The shapes of a lab host: the kinds of persistent memory that it can have."""

from __future__ import annotations

from enum import StrEnum

from VpmemLibrary.sizes import GiB, KiB, Size

NVDIMMS = 4
"""The number of NVDIMMs of a lab host."""

LABEL_SIZE = Size(128 * KiB)
"""The size of the label area at the end of each NVDIMM's file."""

CXL_LABEL_SIZE = Size(256 * KiB)
"""The size of the label area of a CXL device. It has a file of its own.

The area is larger than that of an NVDIMM, because above 128 KiB the two label versions have index blocks of different
sizes. The area is still small, because each 2 KiB of it need one command to the emulated device.
"""

REGION_SIZE = Size(1 * GiB)
"""The size of each region.

It is a multiple of 16 MiB. In a region of another size, ndctl refuses namespaces as misaligned.
"""

_NODE_OF_NVDIMM = (0, 0, 1, 0)
CXL_REGIONS = 2
"""The number of CXL devices from which a lab host assembles a region when it boots. One more device is free.

The free device has the highest serial number. Tests can assemble a region from it.
"""

_CXL_DEVICES = CXL_REGIONS + 1
_VIRTIO_PMEMS = 2


class Shape(StrEnum):
    """The persistent memory of a lab host.

    A host of a shape other than `NVDIMM` boots, because no saved state fits it, or because it is changed after it was
    restored (`NFIT_TEST`).
    """

    NVDIMM = "nvdimm"
    """Four NVDIMMs with label areas. Each is one region."""
    NFIT_TEST = "nfit-test"
    """The kernel's test bus instead of NVDIMMs: regions interleaved across DIMMs, with sizes in steps of more than
    16 MiB. Nothing on it can be mapped, so it backs no guest. Its content is lost at a reboot."""
    CXL = "cxl"
    """CXL devices instead of NVDIMMs. The host assembles a region from each of them but the last when it boots."""
    UNLABELED = "unlabeled"
    """Virtio-pmem devices instead of NVDIMMs. Each is one region without a label area."""

    @property
    def restorable(self) -> bool:
        """Whether a host of this shape starts from the saved state."""
        return self in {Shape.NVDIMM, Shape.NFIT_TEST}

    @property
    def keeps_content(self) -> bool:
        """Whether the persistent memory keeps its content when the host reboots or loses its power."""
        return self is not Shape.NFIT_TEST


def memory_files(shape: Shape) -> dict[str, Size]:
    """Return the names and sizes of the files with a lab host's persistent memory and label areas."""
    if shape is Shape.CXL:
        memory = {f"cxl{number}": REGION_SIZE for number in range(_CXL_DEVICES)}
        return memory | {f"{name}-labels": CXL_LABEL_SIZE for name in memory}
    if shape is Shape.UNLABELED:
        return {f"pmem{number}": REGION_SIZE for number in range(_VIRTIO_PMEMS)}
    return {f"nvdimm{number}": Size(REGION_SIZE + LABEL_SIZE) for number in range(NVDIMMS)}


def memory_arguments(shape: Shape) -> list[str]:
    """Return QEMU's arguments for a lab host's persistent memory. QEMU runs in the directory with its files."""
    arguments = []
    for name, size in memory_files(shape).items():
        arguments += ["-object", f"memory-backend-file,id={name}-file,mem-path={name},share=on,size={size:d}"]
    if shape is Shape.CXL:
        devices = [part for number in range(_CXL_DEVICES) for part in _cxl_device(number)]
    elif shape is Shape.UNLABELED:
        devices = [f"virtio-pmem-pci,id=pmem{number},memdev=pmem{number}-file" for number in range(_VIRTIO_PMEMS)]
    else:
        devices = [_nvdimm(slot) for slot in range(NVDIMMS)]
    return [*arguments, *(part for device in devices for part in ("-device", device))]


def _cxl_device(number: int) -> list[str]:
    """Return a CXL device and its port. Slots from 3 on are free.

    The kernel refuses two ports of a bridge with the same port number, which is 0 by default. It derives the cookie of
    the labels from the serial number. With serial number 0, namespaces are lost.
    """
    name = f"cxl{number}"
    backing = f"persistent-memdev={name}-file,lsa={name}-labels-file"
    return [
        f"cxl-rp,id={name}-port,bus=cxl,chassis=1,slot={number + 3},port={number}",
        f"cxl-type3,id={name},bus={name}-port,{backing},sn={number + 1}",
    ]


def _nvdimm(slot: int) -> str:
    node = _NODE_OF_NVDIMM[slot]
    return f"nvdimm,id=nvdimm{slot},memdev=nvdimm{slot}-file,slot={slot},node={node},label-size={LABEL_SIZE:d}"
