"""How large a namespace will be, and which sizes can be, computed without touching a host.

The figures follow the kernel's own arithmetic: ``drivers/nvdimm/pfn_devs.c`` (``nd_pfn_init``) for fsdax and devdax,
``drivers/nvdimm/btt.c`` (``alloc_arena``, ``create_arenas``) for sector, ``namespace_devs.c`` (``__size_store``) and
ndctl's ``validate_namespace_options`` for which sizes are taken. The integration tests compare them with real tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode, Region
from VpmemLibrary.sizes import GiB, KiB, MiB, Size

SMALLEST_NAMESPACE = Size(16 * MiB)
"""What the kernel and ndctl take at least for any mode but raw; a region's alignment makes it so for raw as well."""

_REGION_ALIGN = Size(16 * MiB)  # MEMREMAP_COMPAT_ALIGN_MAX

DEFAULT_ALIGN = Size(2 * MiB)
DEFAULT_SECTOR_SIZE = 4096
ALIGNMENTS = (Size(4 * KiB), Size(2 * MiB), Size(GiB))
"""The mapping alignments of x86 and of arm64 with 4 KiB pages."""
SECTOR_SIZES = (512, 520, 528, 4096, 4104, 4160, 4224)
"""The sector sizes of a sector namespace; those between hold metadata beside the data."""
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
    """Return how many bytes of a new namespace can be used.

    Args:
        size: What it takes from its region.
        mode: Its mode.
        map_location: Where its page map lives, for fsdax and devdax; ``dev`` by default.
        align: Its mapping alignment, for fsdax and devdax; 2 MiB by default, where there is such.
        sector_size: For sector; 4096 by default.
        label_version: For sector: under 1.1 the block translation table leaves its first 4 KiB free.
        start: Where it begins in physical memory; matters for an alignment larger than the region's.
        alignments: The mapping alignments that the machine has; the smallest one is a page of its kernel.

    Raises:
        InvalidValueError: A namespace of that size, or with that option, cannot be.

    Example: ``predict_usable_size(Size.parse("64MiB"), mode=NamespaceMode.devdax) == Size.parse("62MiB")``.
    """
    if size < SMALLEST_NAMESPACE or size % _PAGE:
        raise InvalidValueError("size", str(size), f"{SMALLEST_NAMESPACE} at least, and whole pages of 4KiB")
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
    """Return by how much a machine's MemTotal grows when a device-DAX instance becomes system RAM.

    Only whole memory blocks are taken (``drivers/dax/kmem.c``, ``dax_kmem_range``): what lies before the first
    boundary and after the last one stays unused.

    Args:
        ranges: The first and the last physical byte of each piece of the instance.
        block: The size of a memory block, as ``/sys/devices/system/memory/block_size_bytes`` has it.
        map_inside: Whether the memory's own page map is kept in it (``memmap_on_memory``, mm/memory_hotplug.c).

    Example: 254 MiB from 2 MiB before a boundary on, in blocks of 128 MiB, are one block: 128 MiB.
    """
    whole = sum(max(0, Size(last + 1).down_to(block) - Size(first).up_to(block)) for first, last in ranges)
    return Size(whole - (whole // _PAGE * _PAGE_STRUCT if map_inside else 0))


def default_region_align(ways: int = 1) -> Size:
    """Return the alignment of a region where the kernel does not list one.

    It is what the kernel computes (``drivers/nvdimm/region_devs.c``, ``default_align``): 16 MiB, or 16 MiB on each of
    its DIMMs where 16 MiB cannot be divided by their number.

    Example: ``default_region_align(6) == Size.parse("96MiB")``; ``default_region_align(4) == Size.parse("16MiB")``.
    """
    return Size(_REGION_ALIGN * ways if _REGION_ALIGN % ways else _REGION_ALIGN)


def region_align(region: Region) -> Size:
    """Return the alignment of a region: the kernel gives out whole multiples of it."""
    return region.align or default_region_align(region.ways)


def default_align(alignments: Iterable[Size] = ALIGNMENTS) -> Size:
    """Return the mapping alignment that a namespace gets without another wish: 2 MiB, or the first above a page."""
    there = sorted(alignments)
    return DEFAULT_ALIGN if DEFAULT_ALIGN in there else there[min(1, len(there) - 1)]


def size_step(*, region_align: Size | None = None, ways: int = 1, align: Size | None = None) -> Size:
    """Return what the size of a namespace must be a multiple of.

    Args:
        region_align: The region's alignment, as ndctl lists it; what the kernel would compute by default.
        ways: Over how many DIMMs the region is interleaved.
        align: The namespace's mapping alignment; None for the sector and raw modes.

    Example: for six DIMMs 96 MiB.
    """
    return Size(math.lcm(region_align or default_region_align(ways), (align or _PAGE) * ways))


def smallest_valid_size(at_least: Size, step: Size) -> Size:
    """Return the smallest size of a namespace that is a multiple of `step` and not smaller than `at_least`.

    Example: with a step of 96 MiB, 96 MiB for 64 MiB and 192 MiB for 128 MiB.
    """
    return max(Size(at_least), SMALLEST_NAMESPACE).up_to(step)


def valid_sizes_around(size: Size, step: Size) -> tuple[Size, ...]:
    """Return the nearest sizes that can be, below and above one that cannot (only above, when it is too small).

    Example: around 100000000 bytes with a step of 16 MiB: 80 MiB and 96 MiB.
    """
    smallest = smallest_valid_size(Size(0), step)
    below, above = size.down_to(step), size.up_to(step)
    if above <= smallest:
        return (smallest,)
    return (below, above)


def checked_size(size: Size, step: Size) -> Size:
    """Return `size`, or raise if no namespace can have it.

    Raises:
        InvalidValueError: It is too small or no multiple of `step`; names the nearest sizes that can be.
    """
    if size < SMALLEST_NAMESPACE or size % step:
        around = " or ".join(str(valid) for valid in valid_sizes_around(size, step))
        smallest = smallest_valid_size(Size(0), step)
        raise InvalidValueError("size", str(size), f"a multiple of {step}, {smallest} at least: {around}")
    return size


def checked_align(align: Size, there: tuple[Size, ...] = ALIGNMENTS) -> Size:
    """Return a mapping alignment, or raise if it is none that there is."""
    if align not in there:
        raise InvalidValueError("align", str(align), " or ".join(str(Size(each)) for each in there))
    return align


def checked_sector_size(sector_size: int, there: tuple[int, ...] = SECTOR_SIZES) -> int:
    """Return a sector size in bytes, or raise if it is none that there is."""
    if sector_size not in there:
        raise InvalidValueError("sector_size", sector_size, " or ".join(str(each) for each in there))
    return sector_size


def checked_label_version(version: str) -> str:
    """Return a label version, or raise if it is none that there is."""
    if version not in LABEL_VERSIONS:
        raise InvalidValueError("label version", version, " or ".join(LABEL_VERSIONS))
    return version


def _mapped_usable(size: Size, mode: NamespaceMode, where: MapLocation, align: Size, start: int, *, page: int) -> Size:
    """Follow ``nd_pfn_init``: an info block, then the page map if it lies here, then the data, aligned."""
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
            "size", str(size), f"more than {data}, which this mode, map and align take for themselves"
        )
    return end - data


def _sector_usable(size: Size, sector_size: int, label_version: str) -> Size:
    """Follow ``create_arenas``: arenas of 512 GiB at most; a rest of less than 16 MiB is not used."""
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
    """Follow ``alloc_arena``: two info blocks, the log, then blocks and their map, 256 of the blocks kept free."""
    available = arena.down_to(_BTT_PAGE) - 2 * _BTT_PAGE - _BTT_LOG
    block = Size(sector_size).up_to(_BTT_BLOCK_STEP)
    return (available - _BTT_PAGE) // (block + _BTT_MAP_ENTRY) - _BTT_FREE_BLOCKS
