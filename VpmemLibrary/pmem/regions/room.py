"""Find the free extents of a region, and the extent in which the kernel will put the next namespace.

This module computes the extents from the address of each namespace in sysfs, without ndctl. So a test can compare them
with the values that ndctl reports.
"""

from __future__ import annotations

from msgspec import Struct

from VpmemLibrary.errors import UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.pmem.prediction import region_align
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, Transport, query

# Skip a namespace of size 0, because it has no address. The kernel keeps one such namespace in each region.
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
"""The command that prints the address and size of a region and of its namespaces. Append the region's name to it."""


class Extent(Struct, frozen=True):
    """An extent of a region.

    Args:
        offset: The extent's start in bytes, counted from the start of the region.
        size: The extent's size in bytes.
        holder: The name of the namespace in the extent. Empty for a free extent.
    """

    offset: Size
    size: Size
    holder: str = ""

    def __str__(self) -> str:
        return f"{self.size} at {self.offset}"


class Room(Struct, frozen=True):
    """The division of a region into extents.

    Args:
        region: The region's name.
        start: The region's start in physical memory.
        extents: The free and used extents, ordered by offset.
    """

    region: str
    start: int
    extents: tuple[Extent, ...]

    @property
    def free(self) -> tuple[Extent, ...]:
        """The free extents."""
        return tuple(extent for extent in self.extents if not extent.holder)

    @property
    def available(self) -> Size:
        """The sum of the free extents."""
        return Size(sum(extent.size for extent in self.free))

    @property
    def largest(self) -> Size:
        """The size of the largest free extent. The value is 0 if nothing is free."""
        return max((extent.size for extent in self.free), default=Size(0))

    @property
    def fragmentation(self) -> int:
        """The share of the free bytes outside the largest free extent, in per cent. It is 0 if nothing is free."""
        return 100 * (self.available - self.largest) // self.available if self.available else 0

    def place(self, size: int) -> Extent | None:
        """Return the free extent that the kernel will use for a new namespace. Return None if no extent fits.

        The kernel uses the first extent that is large enough, even if a later extent fits better
        (``drivers/nvdimm/namespace_devs.c``, ``scan_allocate``).
        """
        return next((extent for extent in self.free if extent.size >= size), None)


def read_room(transport: Transport, region: Region) -> Room:
    """Return the division of a region into extents. The machine runs only one command.

    Args:
        transport: The transport to the region's machine.
        region: The region.

    Raises:
        UnsupportedError: The region is disabled, or the kernel does not report the region's start.
        UnreadableOutputError: The values in sysfs are invalid.
    """
    if region.state == "disabled":
        raise UnsupportedError(f"{region.dev} on {transport.name} is disabled: enable it first.")
    result = transport.run([*ROOM_COMMAND, region.dev]).check("The kernel has no such region")
    return decode_room(result, align=region_align(region))


def decode_room(result: CommandResult, *, align: int) -> Room:
    """Decode the output of `ROOM_COMMAND`.

    Args:
        result: The result of the command. Each line has a name, an address and a size. The first line is for the
            region. Each other line is for a namespace.
        align: The region's alignment. The kernel allocates multiples of the alignment.

    Raises:
        UnreadableOutputError: The output does not have this format.
    """
    try:
        (region, start, size), *taken = (_line(line) for line in result.lines)
    except ValueError as error:
        raise UnreadableOutputError(
            result, "sysfs does not report the addresses of the region and its namespaces"
        ) from error
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
