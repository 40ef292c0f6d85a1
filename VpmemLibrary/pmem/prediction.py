"""Predict the usable size of a namespace and the valid sizes, without access to a host.

The usable sizes follow the kernel: ``drivers/nvdimm/pfn_devs.c`` (``nd_pfn_init``) for fsdax and devdax,
``drivers/nvdimm/btt.c`` (``alloc_arena``, ``create_arenas``) for sector. The valid sizes follow ``namespace_devs.c``
(``__size_store``) and ndctl's ``validate_namespace_options``. The integration tests compare both with real tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode, Region
from VpmemLibrary.sizes import GiB, KiB, MiB, Size

SMALLEST_NAMESPACE = Size(16 * MiB)
"""The minimum size in the kernel and ndctl for every mode except raw. A region's alignment enforces it for raw too."""

_REGION_ALIGN = Size(16 * MiB)  # MEMREMAP_COMPAT_ALIGN_MAX

DEFAULT_ALIGN = Size(2 * MiB)
DEFAULT_SECTOR_SIZE = 4096
ALIGNMENTS = (Size(4 * KiB), Size(2 * MiB), Size(GiB))
"""The mapping alignments of x86 and of arm64 with 4 KiB pages."""
SECTOR_SIZES = (512, 520, 528, 4096, 4104, 4160, 4224)
"""The sector sizes of a sector namespace. Sizes other than 512 and 4096 contain data and metadata."""
BLOCK_SECTOR_SIZES = (512, 4096)
"""The sector sizes of an fsdax or raw namespace, under labels 1.2 (``namespace_devs.c``, pmem_lbasize_supported)."""
LABEL_VERSIONS = ("1.1", "1.2")

_MAPPED = (NamespaceMode.fsdax, NamespaceMode.devdax)
_PAGE = 4 * KiB
_SUBSECTION = 2 * MiB
_INFO_BLOCK = 8 * KiB
_PAGE_STRUCT = 64
_DAX_LABEL = 128 * KiB

_BTT_PAGE = 4 * KiB
_BTT_FREE_BLOCKS = 256
_BTT_LOG = 16 * KiB
_BTT_MAP_ENTRY = 4
_BTT_BLOCK_STEP = 64
_ARENA_LARGEST = 512 * GiB
_ARENA_SMALLEST = 16 * MiB


def predict_usable_size(
    size: Size,
    *,
    mode: NamespaceMode,
    map_location: MapLocation | None = None,
    align: Size | None = None,
    sector_size: int | None = None,
    label_version: str = "1.2",
    start: int = 0,
    alignments: Iterable[Size] = ALIGNMENTS,
) -> Size:
    """Return the usable bytes of a new namespace.

    Args:
        size: The bytes that the namespace takes from its region.
        mode: The namespace's mode.
        map_location: The location of the page map, for fsdax and devdax. The default is ``dev``.
        align: The mapping alignment, for fsdax and devdax. The default is 2 MiB if `alignments` contains it.
        sector_size: The sector size, for sector. The default is 4096.
        label_version: The label version, for sector. Under 1.1, the first 4 KiB stay unused.
        start: The namespace's start in physical memory. Needed only if `align` is larger than the region's alignment.
        alignments: The mapping alignments of the machine. The smallest alignment is the kernel's page size.

    Raises:
        InvalidValueError: No namespace can have this size or option.

    Example: ``predict_usable_size(Size.parse("64MiB"), mode=NamespaceMode.devdax) == Size.parse("62MiB")``.
    """
    if size < SMALLEST_NAMESPACE or size % _PAGE:
        raise InvalidValueError("size", str(size), f"a multiple of 4KiB, at least {SMALLEST_NAMESPACE}")
    if mode is NamespaceMode.raw:
        return Size(size)
    if mode is NamespaceMode.sector:
        return _sector_usable(
            size, checked_sector_size(sector_size or DEFAULT_SECTOR_SIZE), checked_label_version(label_version)
        )
    there = tuple(sorted(alignments))
    chosen = checked_align(align or default_align(there), there)
    return _mapped_usable(size, mode, map_location or MapLocation.dev, chosen, start, page=there[0])


def predict_memory_growth(ranges: Iterable[tuple[int, int]], block: Size, *, map_inside: bool = False) -> Size:
    """Return the growth of a machine's MemTotal when a device-DAX instance becomes system RAM.

    The kernel uses only whole memory blocks (``drivers/dax/kmem.c``, ``dax_kmem_range``). The bytes before the first
    block boundary and after the last block boundary stay unused.

    Args:
        ranges: The first and the last physical byte of each piece of the instance.
        block: The size of a memory block, from ``/sys/devices/system/memory/block_size_bytes``.
        map_inside: Whether the new memory contains its own page map (``memmap_on_memory``, mm/memory_hotplug.c).

    Example: An instance of 254 MiB begins 2 MiB before a boundary. It contains one whole block of 128 MiB.
    """
    whole = sum(max(0, Size(last + 1).down_to(block) - Size(first).up_to(block)) for first, last in ranges)
    return Size(whole - (whole // _PAGE * _PAGE_STRUCT if map_inside else 0))


def default_region_align(ways: int = 1) -> Size:
    """Return the alignment of a region if the kernel does not list it.

    The kernel computes the same value (``drivers/nvdimm/region_devs.c``, ``default_align``). The alignment is 16 MiB.
    If the number of DIMMs does not divide 16 MiB, the alignment is 16 MiB for each DIMM.

    Example: ``default_region_align(6) == Size.parse("96MiB")``; ``default_region_align(4) == Size.parse("16MiB")``.
    """
    return Size(_REGION_ALIGN * ways if _REGION_ALIGN % ways else _REGION_ALIGN)


def region_align(region: Region) -> Size:
    """Return the alignment of a region. The kernel allocates whole multiples of it."""
    return region.align or default_region_align(region.ways)


def default_align(alignments: Iterable[Size] = ALIGNMENTS) -> Size:
    """Return the default mapping alignment of a namespace: 2 MiB, or the first alignment above a page."""
    there = sorted(alignments)
    return DEFAULT_ALIGN if DEFAULT_ALIGN in there else there[min(1, len(there) - 1)]


def size_step(*, region_align: Size | None = None, ways: int = 1, align: Size | None = None) -> Size:
    """Return the step between valid sizes of a namespace. A valid size is a multiple of this step.

    Args:
        region_align: The region's alignment from ndctl's listing. The default is the alignment that the kernel would
            compute.
        ways: The number of interleaved DIMMs in the region.
        align: The namespace's mapping alignment. None for the modes sector and raw.

    Example: The step is 96 MiB for six DIMMs.
    """
    return Size(math.lcm(region_align or default_region_align(ways), (align or _PAGE) * ways))


def smallest_valid_size(at_least: Size, step: Size) -> Size:
    """Return the smallest valid namespace size: a multiple of `step` that is not smaller than `at_least`.

    Example: With a step of 96 MiB, the result is 96 MiB for 64 MiB, and 192 MiB for 128 MiB.
    """
    return max(Size(at_least), SMALLEST_NAMESPACE).up_to(step)


def valid_sizes_around(size: Size, step: Size) -> tuple[Size, ...]:
    """Return the nearest valid sizes below and above an invalid size. For a too small size, return only the size above.

    Example: Around 100000000 bytes with a step of 16 MiB, the sizes are 80 MiB and 96 MiB.
    """
    smallest = smallest_valid_size(Size(0), step)
    below, above = size.down_to(step), size.up_to(step)
    if above <= smallest:
        return (smallest,)
    return (below, above)


def checked_size(size: Size, step: Size) -> Size:
    """Return `size` if it is a valid namespace size.

    Raises:
        InvalidValueError: The size is too small or is not a multiple of `step`. The message names the nearest valid
            sizes.
    """
    if size < SMALLEST_NAMESPACE or size % step:
        around = " or ".join(str(valid) for valid in valid_sizes_around(size, step))
        smallest = smallest_valid_size(Size(0), step)
        raise InvalidValueError("size", str(size), f"a multiple of {step}, at least {smallest}: {around}")
    return size


def checked_align(align: Size, there: tuple[Size, ...] = ALIGNMENTS) -> Size:
    """Return a mapping alignment if it is valid. Raise InvalidValueError otherwise."""
    if align not in there:
        raise InvalidValueError("align", str(align), " or ".join(str(Size(each)) for each in there))
    return align


def checked_sector_size(sector_size: int, there: tuple[int, ...] = SECTOR_SIZES) -> int:
    """Return a sector size in bytes if it is valid. Raise InvalidValueError otherwise."""
    if sector_size not in there:
        raise InvalidValueError("sector_size", sector_size, " or ".join(str(each) for each in there))
    return sector_size


def checked_label_version(version: str) -> str:
    """Return a label version if it is valid. Raise InvalidValueError otherwise."""
    if version not in LABEL_VERSIONS:
        raise InvalidValueError("label version", version, " or ".join(LABEL_VERSIONS))
    return version


def _mapped_usable(size: Size, mode: NamespaceMode, where: MapLocation, align: Size, start: int, *, page: int) -> Size:
    """Compute the usable size as ``nd_pfn_init`` does.

    The info block comes first. The page map follows if its location is `dev`. Then the aligned data follow.
    """
    align = max(align, Size(_SUBSECTION))
    reserved = _INFO_BLOCK
    if where is MapLocation.dev:
        reserved += _PAGE_STRUCT * ((size - _INFO_BLOCK) // page)
        if mode is NamespaceMode.devdax:
            reserved += _DAX_LABEL
    data = Size(start + reserved).up_to(align) - start
    end = Size(start + size).down_to(align) - start
    if data >= end:
        raise InvalidValueError(
            "size", str(size), f"more than {data}, the metadata and padding of this mode, map and align"
        )
    return end - data


def _sector_usable(size: Size, sector_size: int, label_version: str) -> Size:
    """Compute the usable size as ``create_arenas`` does.

    An arena has at most 512 GiB. If less than 16 MiB remain, these bytes stay unused.
    """
    left = size - (_BTT_PAGE if label_version == "1.1" else 0)
    if left < _ARENA_SMALLEST:
        raise InvalidValueError("size", str(size), f"more than {SMALLEST_NAMESPACE} for sector under labels 1.1")
    blocks = 0
    while left >= _ARENA_SMALLEST:
        arena = min(left, Size(_ARENA_LARGEST))
        left -= arena
        blocks += _arena_blocks(arena, sector_size)
    return Size(blocks * (DEFAULT_SECTOR_SIZE if sector_size >= DEFAULT_SECTOR_SIZE else 512))


def _arena_blocks(arena: Size, sector_size: int) -> int:
    """Compute the number of blocks as ``alloc_arena`` does.

    An arena contains two info blocks, the log, the blocks and their map. 256 of the blocks stay free.
    """
    available = arena.down_to(_BTT_PAGE) - 2 * _BTT_PAGE - _BTT_LOG
    block = Size(sector_size).up_to(_BTT_BLOCK_STEP)
    return (available - _BTT_PAGE) // (block + _BTT_MAP_ENTRY) - _BTT_FREE_BLOCKS
