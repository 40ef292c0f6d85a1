"""Read one device-DAX instance from the kernel: its driver, its physical ranges, and its memory blocks as system RAM.

This module does not use daxctl. So its reading proves the result of a daxctl command.
"""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from VpmemLibrary.errors import NotFoundError, UnreadableOutputError
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.pmem.prediction import predict_memory_growth
from VpmemLibrary.pmem.records import DaxMode
from VpmemLibrary.sizes import KiB, Size
from VpmemLibrary.transport.base import Transport, query

MOVABLE = "Movable"
"""The kernel's name of the zone with removable memory (ZONE_MOVABLE)."""

_DRIVERS = {"device_dax": DaxMode.devdax, "kmem": DaxMode.system_ram}
_ABSENT = 3

# Only root can read an instance's physical address. A question mark stands for a missing value.
# Memory block N begins at N times the block size (Documentation/admin-guide/mm/memory-hotplug.rst). Before "mappings"
# (5.10), an instance had one range.
READ_SCRIPT = r"""
sys=/sys/bus/dax/devices/$1
memory=/sys/devices/system/memory
[ -d "$sys" ] || { ls /sys/bus/dax/devices 2>/dev/null; exit 3; }
value() {
    value=
    { read -r value <"$2"; } 2>/dev/null
    printf '%s=%s\n' "$1" "$value"
}
driver=$(readlink "$sys/driver")
printf 'driver=%s\n' "${driver##*/}"
value size "$sys/size"
size=$value
value block_size "$memory/block_size_bytes"
block=$((0x${value:-0}))
value auto_online "$memory/auto_online_blocks"
value map_wanted "$sys/memmap_on_memory"
value map_possible /sys/module/memory_hotplug/parameters/memmap_on_memory
while read -r name total unit; do [ "$name" != MemTotal: ] || break; done </proc/meminfo
printf 'total=%s\n' "$total"
range() {
    printf 'range=%s %s\n' "$1" "$2"
    [ "$block" -gt 0 ] && [ "${driver##*/}" = kmem ] || return
    number=$((($1 + block - 1) / block))
    while [ $(((number + 1) * block)) -le $(($2 + 1)) ]; do
        at=$memory/memory$number
        if [ -d "$at" ]; then
            state= zones=
            read -r state <"$at/state"
            read -r zones <"$at/valid_zones"
            printf 'block=%s %s %s\n' "$number" "$state" "$zones"
        fi
        number=$((number + 1))
    done
}
if [ -d "$sys/mapping0" ]; then
    for mapping in "$sys"/mapping[0-9]*; do
        if read -r first <"$mapping/start" && read -r last <"$mapping/end"; then range "$((first))" "$((last))"
        else echo 'range=? ?'
        fi
    done
else
    if read -r first <"$sys/resource"; then range "$((first))" "$((first + size - 1))"
    else echo 'range=? ?'
    fi
fi
exit 0
"""


class MemoryBlock(Struct, frozen=True):
    """One memory block: the unit that the kernel puts online and offline.

    Args:
        number: The block's number. The block begins at this number times the block size.
        state: ``online``, ``offline`` or ``going-offline``.
        zones: The block's zone while it is online. Otherwise the possible zones.
    """

    number: int
    state: str
    zones: tuple[str, ...] = ()

    @property
    def online(self) -> bool:
        """Whether the block is in use as RAM."""
        return self.state == "online"


class DaxMemory(Struct, frozen=True):
    """One device-DAX instance and its memory, from one reading.

    Args:
        chardev: The instance's name, e.g. ``dax0.0``.
        driver: The instance's driver: ``device_dax`` or ``kmem``. Empty if it has no driver.
        size: The instance's bytes.
        ranges: The first and the last physical byte of each piece of the instance.
        block_size: The size of a memory block. The value is 0 if the machine does not support memory hot-plug.
        blocks: The instance's memory blocks. Empty unless it is system RAM.
        auto_online: The kernel's policy for new memory: ``offline``, ``online``, ``online_kernel`` or
            ``online_movable``.
        map_inside: Whether the new memory contains its own page map.
        total: The machine's MemTotal.
    """

    chardev: str
    driver: str
    size: Size
    ranges: tuple[tuple[int, int], ...]
    block_size: Size
    blocks: tuple[MemoryBlock, ...]
    auto_online: str
    map_inside: bool
    total: Size

    @property
    def mode(self) -> DaxMode | None:
        """The instance's mode. None for an instance without one of the known drivers."""
        return _DRIVERS.get(self.driver)

    @property
    def growth(self) -> Size:
        """The predicted growth of MemTotal if all memory of the instance is online."""
        if not self.block_size:
            return Size(0)
        return predict_memory_growth(self.ranges, self.block_size, map_inside=self.map_inside)

    @property
    def online(self) -> int:
        """The number of online memory blocks."""
        return sum(block.online for block in self.blocks)

    @property
    def all_offline(self) -> bool:
        """Whether all memory blocks are offline. A block that is still going offline counts as not offline."""
        return all(block.state == "offline" for block in self.blocks)

    @property
    def movable(self) -> bool:
        """Whether all online memory is in the movable zone, so that it can be put offline again."""
        return all(block.zones == (MOVABLE,) for block in self.blocks if block.online)

    @property
    def state(self) -> str:
        """A description of the state, e.g. ``system-ram, 1 of 2 memory blocks online``."""
        if self.mode is DaxMode.system_ram:
            return f"{self.mode}, {self.online} of {len(self.blocks)} memory blocks of {self.block_size} online"
        return str(self.mode) if self.mode else f"bound to driver {self.driver}" if self.driver else "disabled"


def read_dax_memory(transport: Transport, chardev: str) -> DaxMemory:
    """Return a device-DAX instance as the kernel reports it, read in one round trip.

    Args:
        transport: The connection to the machine.
        chardev: The instance's name, e.g. ``dax0.0``.

    Raises:
        NotFoundError: The kernel has no such instance.
        UnreadableOutputError: sysfs did not report the instance's physical address. Only root can read this address.
    """
    result = transport.run(query(READ_SCRIPT, chardev))
    if result.exit_status == _ABSENT:
        raise NotFoundError("device-DAX instance", chardev, result.text.split(), where=transport.name)
    lines = [line.partition("=") for line in result.check().lines]
    values = {name: value for name, _, value in lines}
    pieces = [[whole_number(word) for word in value.split()] for name, _, value in lines if name == "range"]
    ranges = [(first, last) for first, last in map(_pair, pieces) if first is not None and last is not None]
    size, total, block = (
        whole_number(values.get("size") or "0"),
        whole_number(values.get("total", "")),
        whole_number(f"0x{values.get('block_size') or 0}"),
    )
    if size is None or total is None or block is None or not pieces or len(ranges) < len(pieces):
        raise UnreadableOutputError(result, f"sysfs did not report the address of {chardev}; only root may read it")
    return DaxMemory(
        chardev=chardev,
        driver=values.get("driver", ""),
        size=Size(size),
        ranges=tuple(ranges),
        block_size=Size(block),
        blocks=tuple(_blocks(value for name, _, value in lines if name == "block")),
        auto_online=values.get("auto_online", ""),
        map_inside=values.get("map_wanted") == "1" and values.get("map_possible", "") not in ("", "N"),
        total=Size(total * KiB),
    )


def total_memory(transport: Transport) -> Size:
    """Return a machine's MemTotal, its usable RAM.

    Raises:
        UnreadableOutputError: ``/proc/meminfo`` has no MemTotal.
    """
    result = transport.run(["awk", "/^MemTotal:/ { print $2 }", "/proc/meminfo"]).check()
    total = whole_number(result.text.strip())
    if total is None:
        raise UnreadableOutputError(result, "/proc/meminfo has no MemTotal")
    return Size(total * KiB)


def _pair(numbers: list[int | None]) -> tuple[int | None, int | None]:
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (None, None)


def _blocks(lines: Iterator[str]) -> Iterator[MemoryBlock]:
    for line in lines:
        number, _, rest = line.partition(" ")
        state, *zones = rest.split() or [""]
        if (at := whole_number(number)) is not None:
            yield MemoryBlock(at, state, tuple(zones))
