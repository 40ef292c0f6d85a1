"""The room of a region: which pieces of it are free, and where the kernel will put the next namespace.

Read from sysfs, where each namespace tells its place, so that it can be held against ndctl's own figures (the sum and
the largest extent).
"""

from __future__ import annotations

from dataclasses import dataclass

from VpmemLibrary.errors import UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.pmem.prediction import region_align
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, Transport, query

# A namespace without capacity, such as the empty one of each region, has no place and tells none.
_SCRIPT = r"""
region=/sys/bus/nd/devices/$1
show() {
    resource= size=
    read -r resource <"$2/resource"
    read -r size <"$2/size"
    [ "$size" = "$3" ] || printf '%s %s %s\n' "$1" "$resource" "$size"
}
show "$1" "$region"
for namespace in "$region"/namespace[0-9]*; do
    [ ! -e "$namespace" ] || show "${namespace##*/}" "$namespace" 0
done
"""

ROOM_COMMAND = query(_SCRIPT)
"""Reads how a region is divided; the region's name follows."""


@dataclass(frozen=True, slots=True)
class Extent:
    """A piece of a region.

    Args:
        offset: Where it begins, in bytes from the region's first.
        size: Its bytes.
        holder: The namespace that has it; empty for a free one.
    """

    offset: Size
    size: Size
    holder: str = ""

    def __str__(self) -> str:
        return f"{self.size} at {self.offset}"


@dataclass(frozen=True, slots=True)
class Room:
    """How a region is divided.

    Args:
        region: The region's name.
        start: Where it begins in physical memory.
        extents: Its pieces, free and taken, in the order in which they lie.
    """

    region: str
    start: int
    extents: tuple[Extent, ...]

    @property
    def free(self) -> tuple[Extent, ...]:
        """The free pieces."""
        return tuple(extent for extent in self.extents if not extent.holder)

    @property
    def available(self) -> Size:
        """The sum of the free pieces."""
        return Size(sum(extent.size for extent in self.free))

    @property
    def largest(self) -> Size:
        """The largest free piece; 0 when nothing is free."""
        return max((extent.size for extent in self.free), default=Size(0))

    @property
    def fragmentation(self) -> int:
        """How many per cent of the free bytes lie outside the largest free piece; 0 when nothing is free."""
        return 100 * (self.available - self.largest) // self.available if self.available else 0

    def place(self, size: int) -> Extent | None:
        """Return the free piece that the kernel takes a new namespace from; None when none is large enough.

        It is the first that is large enough, wherever a closer fit lies (``drivers/nvdimm/namespace_devs.c``,
        ``scan_allocate``).
        """
        return next((extent for extent in self.free if extent.size >= size), None)


def read_room(transport: Transport, region: Region) -> Room:
    """Return how a region is divided, read in one round trip.

    Args:
        transport: The way to the machine that has it.
        region: The region.

    Raises:
        UnsupportedError: The region is disabled, or the kernel does not tell where it lies.
        UnreadableOutputError: What sysfs has cannot be read.
    """
    if region.state == "disabled":
        raise UnsupportedError(f"{region.dev} on {transport.name} is disabled: enable it first.")
    result = transport.run([*ROOM_COMMAND, region.dev]).check("The kernel has no such region")
    return decode_room(result, align=region_align(region))


def decode_room(result: CommandResult, *, align: int) -> Room:
    """Return what the script read.

    Args:
        result: What it printed: a line each for the region and its namespaces, with name, address and size.
        align: The region's alignment: the kernel gives out whole multiples of it.

    Raises:
        UnreadableOutputError: It is something else.
    """
    try:
        (region, start, size), *taken = (_line(line) for line in result.lines)
    except ValueError as error:
        raise UnreadableOutputError(result, "sysfs does not tell where the region and its namespaces lie") from error
    extents: list[Extent] = []
    end = 0
    for name, address, length in [*sorted(taken, key=lambda line: line[1]), ("", start + size, 0)]:
        first, last = Size(end).up_to(align), Size(address - start).down_to(align)
        if first < last:
            extents.append(Extent(first, last - first))
        if length:
            extents.append(Extent(Size(address - start), Size(length), name))
        end = max(end, address - start + length)
    return Room(region, start, tuple(extents))


def _line(line: str) -> tuple[str, int, int]:
    name, address, size = line.split(" ")
    start, length = whole_number(address), whole_number(size)
    if start is None or length is None:
        raise ValueError(f"{line[:80]!r} has no address and size")
    return name, start, length
