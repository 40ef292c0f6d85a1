"""A namespace before it is made: what is passed to ndctl, what will be usable, and why it cannot be.

Every mistake that can be foreseen is refused here, before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from VpmemLibrary.errors import InvalidValueError, OutOfSpaceError, UnsupportedError
from VpmemLibrary.pmem.labels.dimm import read_areas
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import (
    ALIGNMENTS,
    BLOCK_SECTOR_SIZES,
    LABEL_VERSIONS,
    SECTOR_SIZES,
    SMALLEST_NAMESPACE,
    checked_align,
    checked_sector_size,
    checked_size,
    default_align,
    predict_usable_size,
    region_align,
    size_step,
    smallest_valid_size,
)
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode, Region
from VpmemLibrary.pmem.regions.room import Extent, read_room
from VpmemLibrary.sizes import AtLeast, Size
from VpmemLibrary.transport.base import checked_name

_MAPPED = (NamespaceMode.fsdax, NamespaceMode.devdax)


@dataclass(frozen=True, slots=True)
class Plan:
    """A namespace that can be created.

    Args:
        region: The region that it is cut from.
        size: What it takes from the region; None for all of the largest free extent.
        usable: What can be used of it, foreseen.
        options: What ndctl is told, without region and UUID.
    """

    region: Region
    size: Size | None
    usable: Size
    options: tuple[str, ...]


def plan_namespace(
    ndctl: Ndctl,
    region: Region | str,
    *,
    mode: NamespaceMode,
    size: Size | None = None,
    name: str = "",
    map_location: MapLocation | None = None,
    align: Size | None = None,
    sector_size: int | None = None,
) -> Plan:
    """Return what creating a namespace takes and gives, or raise if it cannot be; nothing is changed.

    Args:
        ndctl: The machine's ndctl.
        region: The region's record or name.
        mode: Its mode.
        size: What it takes from the region; all of its largest free extent by default. `AtLeast` is the smallest size
            that the region allows and that is not smaller.
        name: Its name; none by default.
        map_location: Where its page map lives, for fsdax and devdax; ``dev`` by default.
        align: Its mapping alignment, for fsdax and devdax; 2 MiB by default, where the machine has it.
        sector_size: In bytes; 4096 by default for sector, 512 for fsdax and raw.

    Raises:
        InvalidValueError: A value that cannot be.
        OutOfSpaceError: The region has no extent so large; the message tells its free extents.
        UnsupportedError: The region is disabled, read-only, volatile or has no labels, so no namespace can be cut from
            it.
        NotFoundError: There is no such region.
    """
    target = ndctl.region(region)
    options = mode_options(target, mode, map_location, align, sector_size)
    if name:
        options += ["--name", checked_name("name", name)]
    ndctl.refuse_unlabeled(target)
    step = step_of(target, mode, align)
    if isinstance(size, AtLeast):
        size = smallest_size(target, size, mode=mode, align=align)
        if _too_small_for_old_labels(size, mode) and _label_version(ndctl, target) == "1.1":
            size += step
    elif size is not None:
        size = checked_size(Size.parse(size), step)
    taken = size if size is not None else target.free_extent.down_to(step)
    if taken < SMALLEST_NAMESPACE or taken > target.free_extent:
        apart = target.available_size > target.free_extent
        raise OutOfSpaceError(no_room(target, size, read_room(ndctl.transport, target).free if apart else ()))
    if size is not None or taken != target.free_extent:  # ndctl itself takes all of an extent, or fails if it may not
        size = taken
        options += ["--size", str(int(taken))]
    chosen = mapping_align(target, mode, align)
    usable = predict_usable_size(
        taken,
        mode=mode,
        map_location=map_location,
        align=chosen,
        sector_size=sector_size,
        label_version=_label_version(ndctl, target) if _too_small_for_old_labels(taken, mode) else LABEL_VERSIONS[-1],
        start=_start(ndctl, target, taken) if chosen and region_align(target) % chosen else 0,
        alignments=alignments_of(target, mode),
    )
    return Plan(target, size, usable, tuple(options))


def mode_options(
    region: Region, mode: NamespaceMode, map_location: MapLocation | None, align: Size | None, sector_size: int | None
) -> list[str]:
    """Return ndctl's options for a mode, each checked against what the mode takes and the region is capable of.

    Raises:
        InvalidValueError: The mode has no such option, or the region no such value of it.
    """
    options = ["--mode", NamespaceMode(mode).value]
    if mode in _MAPPED:
        options += ["--map", MapLocation(map_location or MapLocation.dev).value]
        there = alignments_of(region, mode)
        # Always given: ndctl's own default is what the last create of the region asked for, even one that failed.
        options += ["--align", str(int(checked_align(align or default_align(there), there)))]
    elif map_location is not None or align is not None:
        what, value = ("map", map_location) if map_location is not None else ("align", align)
        raise InvalidValueError(what, str(value), f"none with mode {mode}: only fsdax and devdax have one")
    if sector_size is not None:
        if mode is NamespaceMode.devdax:
            raise InvalidValueError("sector_size", sector_size, f"none with mode {mode}: it is no block device")
        there_sizes: tuple[int, ...] = BLOCK_SECTOR_SIZES
        if mode is NamespaceMode.sector:
            there_sizes = tuple(_capabilities(region, mode, "sector_sizes")) or SECTOR_SIZES
        options += ["--sector-size", str(checked_sector_size(sector_size, there_sizes))]
    return options


def smallest_size(
    region: Region,
    at_least: Size,
    *,
    mode: NamespaceMode = NamespaceMode.devdax,
    align: Size | None = None,
) -> Size:
    """Return the smallest size of a namespace that a region allows and that is not smaller than a number of bytes.

    Args:
        region: The region's record.
        at_least: The number of bytes.
        mode: The namespace's mode.
        align: Its mapping alignment, for fsdax and devdax.

    Example: 96 MiB for 64 MiB in a region of six interleaved DIMMs.
    """
    return smallest_valid_size(at_least, step_of(region, mode, align))


def step_of(region: Region, mode: NamespaceMode, align: Size | None = None) -> Size:
    """Return what the size of a namespace in a region must be a multiple of.

    Args:
        region: The region's record.
        mode: The namespace's mode.
        align: Its mapping alignment, for fsdax and devdax.
    """
    return size_step(region_align=region_align(region), ways=region.ways, align=mapping_align(region, mode, align))


def alignments_of(region: Region, mode: NamespaceMode) -> tuple[Size, ...]:
    """Return the mapping alignments that namespaces of a mode may have in a region."""
    return tuple(Size(each) for each in _capabilities(region, mode, "alignments")) or ALIGNMENTS


def mapping_align(region: Region, mode: NamespaceMode, align: Size | None) -> Size | None:
    """Return the mapping alignment that a namespace gets; None for a mode that has none."""
    return (align or default_align(alignments_of(region, mode))) if mode in _MAPPED else None


def no_room(region: Region, size: Size | None, pieces: Iterable[Extent] = ()) -> str:
    """Return how a region has no room for a namespace.

    Args:
        region: The region.
        size: What was asked for; None for anything at all.
        pieces: Its free extents, to be told when they lie apart.
    """
    wanted = "a namespace" if size is None else f"a namespace of {size}"
    told = tuple(pieces)
    free = max((piece.size for piece in told), default=region.free_extent)
    apart = f" ({region.available_size} in all, in pieces)" if region.available_size > free else ""
    largest = f"the largest that fits has {free}{apart}" if free else "nothing of it is free"
    where = f" Free are {', '.join(str(piece) for piece in told)}." if told else ""
    return f"There is no room for {wanted} in {region.dev}: {largest}.{where}"


def _start(ndctl: Ndctl, region: Region, size: Size) -> int:
    """Return where in physical memory the kernel will put a new namespace."""
    room = read_room(ndctl.transport, region)
    place = room.place(size)
    if place is None:  # another took it since the region was listed
        raise OutOfSpaceError(no_room(ndctl.region(region), size, room.free))
    return room.start + place.offset


def _capabilities(region: Region, mode: NamespaceMode, key: str) -> list[int]:
    """Return what ndctl lists as possible in a region for a mode; nothing when this ndctl does not list it."""
    capabilities = region.extra.get("capabilities")
    if isinstance(capabilities, list):
        for capability in capabilities:
            if isinstance(capability, dict) and capability.get("mode") == mode:
                listed = capability.get(key)
                numbers = listed if isinstance(listed, list) else []
                return [each for each in numbers if type(each) is int and each > 0]
    return []


def _too_small_for_old_labels(size: Size, mode: NamespaceMode) -> bool:
    """Whether a namespace can have a size only under labels 1.2: under 1.1 its table leaves the first 4 KiB free."""
    return mode is NamespaceMode.sector and size == SMALLEST_NAMESPACE


def _label_version(ndctl: Ndctl, region: Region) -> str:
    """Return the version of a region's labels; the newest one where they cannot be read or are of another kind."""
    try:
        versions = {area.version for area in read_areas(ndctl, region)}
    except UnsupportedError:
        versions = set()
    return next((version for version in LABEL_VERSIONS if version in versions), LABEL_VERSIONS[-1])
