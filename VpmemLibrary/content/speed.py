"""Measure bandwidth and latency of reads and writes with xfs_io.

A single result depends on the machine as much as on the memory. So tests compare the ratio of two results.
"""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.content.pipeline import Guarded
from VpmemLibrary.content.target import Target, TargetKind, inspect_path
from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.guard import NODE
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, Transport

ROUNDS = 15
"""The number of rounds. The result is that of the fastest round, because a busy machine only makes a round slower.

A round lasts some milliseconds, and a busy machine stops a guest for 100 ms. Of a hundred medians of three rounds in
a guest on such a machine, two were a tenth of the others or less.
"""

_SEED = "7"
# The output of xfs_io -C (xfsprogs, io/pread.c): bytes, operations, time, bytes a second, operations a second.
_LINE = r"(?m)^([0-9]+),([0-9]+),[0-9:.]+,([0-9.]+),([0-9.]+)$"


class Operation(StrEnum):
    """The operation to measure."""

    read = "read"
    write = "write"


class Order(StrEnum):
    """The order of the reads or writes on the device."""

    sequential = "sequential"
    random = "random"


class Workload(Struct, frozen=True):
    """A workload to measure.

    Args:
        operation: Read or write.
        order: Sequential, or random from a fixed seed.
        block: The bytes of one read or write, a multiple of 4 KiB.
        length: The bytes of all reads or writes, a multiple of `block`.

    Raises:
        InvalidValueError: `block` or `length` is not such a multiple.
    """

    operation: Operation
    order: Order
    block: Size
    length: Size

    def __post_init__(self) -> None:
        if self.block <= 0 or self.block % 4096:
            raise InvalidValueError("block", str(self.block), "a multiple of 4KiB, e.g. 4KiB or 1MiB")
        if self.length <= 0 or self.length % self.block:
            raise InvalidValueError("length", str(self.length), f"a multiple of the block of {self.block}")

    def __str__(self) -> str:
        return f"{self.order} {self.operation} of {self.length} by {self.block}"


class Speed(Struct, frozen=True):
    """The result of a measurement.

    Args:
        where: The machine and the path.
        workload: The workload that was measured.
        bandwidth: Bytes per second in the fastest round.
        operations: Reads or writes per second in the fastest round.
    """

    where: str
    workload: Workload
    bandwidth: float
    operations: float

    @property
    def latency(self) -> float:
        """Microseconds for each read or write. They run one after the other."""
        return 1e6 / self.operations

    def __str__(self) -> str:
        return f"{self.bandwidth / MiB:.0f} MiB/s, {self.latency:.0f} µs each ({self.workload} on {self.where})"


def measure(
    transport: Transport,
    path: str,
    workload: Workload,
    *,
    rounds: int = ROUNDS,
    timeout: float = 600.0,
    guarded: Guarded | None = None,
) -> Speed:
    """Measure the speed of a block device or a file on a machine.

    For a block device, direct I/O bypasses the page cache. For a file, only DAX bypasses the page cache. A file is read
    once before the measurement to fill the page cache. The time of a write includes the flush at the end of each round.

    Args:
        transport: The transport to the machine.
        path: A block device or a file. A file keeps its size.
        workload: The workload. A write overwrites the content.
        rounds: The number of rounds.
        timeout: Maximum seconds for all rounds.
        guarded: Runs a write as an act, if the target has a guard.

    Raises:
        InvalidValueError: The path is absent, or its target is too short.
        UnsupportedError: The path is a device-DAX node, which supports neither read nor write.
        ToolMissingError: xfs_io is not installed.
        CommandError: xfs_io failed.
    """
    if rounds < 1:
        raise InvalidValueError("rounds", rounds, "1 or more, e.g. 3")
    target = inspect_path(transport, path)
    if target.kind is TargetKind.devdax:
        raise UnsupportedError(
            f"{path} is a device-DAX node, which supports neither read nor write, so its speed cannot be measured."
        )
    target.check_range(0, workload.length)
    runner = guarded or transport
    placed = replace(target, path=NODE) if guarded else target
    result = runner.run(command(placed, workload, rounds), timeout=timeout).check()
    return Speed(f"{path} on {transport.name}", workload, *read_speeds(result, workload, rounds))


def command(target: Target, workload: Workload, rounds: int) -> tuple[str, ...]:
    """Return the xfs_io command that runs all rounds."""
    random = ["-R", "-Z", _SEED] if workload.order is Order.random else []
    reading = workload.operation is Operation.read
    step = ["pread" if reading else "pwrite", "-C", "-b", str(int(workload.block)), *random]
    if not reading:
        step.append("-w")  # fdatasync within the measured time
    line = " ".join([*step, "0", str(int(workload.length))])
    warm_up = ["-c", f"pread -q -b {int(MiB)} 0 {int(workload.length)}"] if reading else []
    flags = (["-r"] if reading else []) + (["-d"] if target.kind is TargetKind.block else [])
    return ("xfs_io", *flags, *warm_up, *(["-c", line] * rounds), target.path)


def read_speeds(result: CommandResult, workload: Workload, rounds: int) -> tuple[float, float]:
    """Return the bytes per second and the operations per second of the fastest round from the output of xfs_io.

    Raises:
        UnreadableOutputError: The output does not have the result of every round.
    """
    found = re.findall(_LINE, result.text)
    done = [(int(length), int(pieces)) for length, pieces, *_ in found]
    if done != [(int(workload.length), int(workload.length) // int(workload.block))] * rounds:
        raise UnreadableOutputError(result, f"xfs_io did not report {rounds} rounds of {workload}")
    rates = [(float(each[2]), float(each[3])) for each in found]
    if any(rate <= 0 for pair in rates for rate in pair):
        raise UnreadableOutputError(result, "xfs_io reported a speed of 0. Use a larger length")
    return max(rates)
