"""Plan a namespace before it is created: ndctl's options, the usable size, and the reasons why it is invalid.

This module refuses an invalid request before anything is changed.
"""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

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


class Plan(Struct, frozen=True):
    """A valid plan for a new namespace.

    Args:
        region: The region for the namespace.
        size: The bytes that the namespace takes from the region. None for the whole largest free extent.
        usable: The predicted usable bytes of the namespace.
        options: ndctl's options, without the region and the UUID.
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
    """Plan a namespace: its ndctl options and usable size. Raise if it cannot be created. Change nothing.

    Args:
        ndctl: The machine's ndctl.
        region: The region's record or name.
        mode: The namespace's mode.
        size: The bytes that the namespace takes from the region. The default is the whole largest free extent.
            `AtLeast` means the smallest valid size that is not below it.
        name: The namespace's name. By default, it has no name.
        map_location: The location of the page map, for fsdax and devdax. The default is ``dev``.
        align: The mapping alignment, for fsdax and devdax. The default is 2 MiB if the machine supports it.
        sector_size: The sector size in bytes. The default is 4096 for sector, 512 for fsdax and raw.

    Raises:
        InvalidValueError: A value is invalid.
        OutOfSpaceError: The region has no free extent of this size. The message lists its free extents.
        UnsupportedError: No namespace can be created in the region: it is disabled, read-only or volatile, or has no
            labels.
        NotFoundError: The region does not exist.
    """
    target = ndctl.region(region)
    options = mode_options(target, mode, map_location, align, sector_size)
    if name:
        options += ["--name", checked_name("name", name)]
    ndctl.require_namespace_support(target)
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
    if size is not None or taken != target.free_extent:  # without --size, ndctl takes a whole extent or fails
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
    """Return ndctl's options for a mode. Check each option against the mode and the region's capabilities.

    Raises:
        InvalidValueError: The mode does not have an option, or the region does not support its value.
    """
    options = ["--mode", NamespaceMode(mode).value]
    if mode in _MAPPED:
        options += ["--map", MapLocation(map_location or MapLocation.dev).value]
        there = alignments_of(region, mode)
        # Without this option, ndctl uses the alignment of the region's last create, even if that create failed.
        options += ["--align", str(int(checked_align(align or default_align(there), there)))]
    elif map_location is not None or align is not None:
        what, value = ("map", map_location) if map_location is not None else ("align", align)
        raise InvalidValueError(what, str(value), "no value, because only fsdax and devdax have this setting")
    if sector_size is not None:
        if mode is NamespaceMode.devdax:
            raise InvalidValueError("sector_size", sector_size, f"no value, because mode {mode} has no sectors")
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
    """Return the smallest valid size of a namespace in a region that is not smaller than `at_least`.

    Args:
        region: The region's record.
        at_least: The minimum number of bytes.
        mode: The namespace's mode.
        align: The namespace's mapping alignment, for fsdax and devdax.

    Example: In a region of six interleaved DIMMs, the result for 64 MiB is 96 MiB.
    """
    return smallest_valid_size(at_least, step_of(region, mode, align))


def step_of(region: Region, mode: NamespaceMode, align: Size | None = None) -> Size:
    """Return the step between valid sizes of a namespace in a region. A valid size is a multiple of this step.

    Args:
        region: The region's record.
        mode: The namespace's mode.
        align: The namespace's mapping alignment, for fsdax and devdax.
    """
    return size_step(region_align=region_align(region), ways=region.ways, align=mapping_align(region, mode, align))


def alignments_of(region: Region, mode: NamespaceMode) -> tuple[Size, ...]:
    """Return the valid mapping alignments for namespaces of a mode in a region."""
    return tuple(Size(each) for each in _capabilities(region, mode, "alignments")) or ALIGNMENTS


def mapping_align(region: Region, mode: NamespaceMode, align: Size | None) -> Size | None:
    """Return the mapping alignment of a namespace. Return None for a mode without a mapping alignment."""
    return (align or default_align(alignments_of(region, mode))) if mode in _MAPPED else None


def no_room(region: Region, size: Size | None, pieces: Iterable[Extent] = ()) -> str:
    """Return the message that a region has no room for a namespace.

    Args:
        region: The region.
        size: The requested size. None if no size was requested.
        pieces: The free extents, for the message. Give them if the free bytes are fragmented.
    """
    wanted = "a namespace" if size is None else f"a namespace of {size}"
    extents = tuple(pieces)
    free = max((piece.size for piece in extents), default=region.free_extent)
    apart = f" ({region.available_size} in total, in several extents)" if region.available_size > free else ""
    largest = f"the largest that fits has {free}{apart}" if free else "nothing of it is free"
    where = f" Free extents: {', '.join(str(piece) for piece in extents)}." if extents else ""
    return f"There is no room for {wanted} in {region.dev}: {largest}.{where}"


def _start(ndctl: Ndctl, region: Region, size: Size) -> int:
    """Return the physical address at which the kernel will place a new namespace."""
    room = read_room(ndctl.transport, region)
    place = room.place(size)
    if place is None:  # another worker took the extent since the region was listed
        raise OutOfSpaceError(no_room(ndctl.region(region), size, room.free))
    return room.start + place.offset


def _capabilities(region: Region, mode: NamespaceMode, key: str) -> list[int]:
    """Return a list of a mode's capabilities in a region. Return an empty list if this ndctl does not list them."""
    capabilities = region.extra.get("capabilities")
    if isinstance(capabilities, list):
        for capability in capabilities:
            if isinstance(capability, dict) and capability.get("mode") == mode:
                listed = capability.get(key)
                numbers = listed if isinstance(listed, list) else []
                return [each for each in numbers if type(each) is int and each > 0]
    return []


def _too_small_for_old_labels(size: Size, mode: NamespaceMode) -> bool:
    """Return whether a sector namespace of this size is too small under labels 1.1.

    Under labels 1.1, the block translation table leaves the first 4 KiB free.
    """
    return mode is NamespaceMode.sector and size == SMALLEST_NAMESPACE


def _label_version(ndctl: Ndctl, region: Region) -> str:
    """Return the version of a region's labels.

    Return the newest version if the labels are unreadable or of another kind.
    """
    try:
        versions = {area.version for area in read_areas(ndctl, region)}
    except UnsupportedError:
        versions = set()
    return next((version for version in LABEL_VERSIONS if version in versions), LABEL_VERSIONS[-1])
