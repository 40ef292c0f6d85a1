"""Measure how fast bytes are read and written. xfs_io measures bandwidth and latency. Tests compare the ratios.

A single number depends on the machine as much as on the memory. The ratio of two numbers is valid on every machine.
"""

from __future__ import annotations

import re
import statistics
from dataclasses import dataclass, replace
from enum import StrEnum

from VpmemLibrary.content.pipeline import Guarded
from VpmemLibrary.content.target import Target, TargetKind, inspect_path
from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.guard import NODE
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, Transport

ROUNDS = 3
"""How many rounds are measured. The result is the median, so one disturbed round does not change the result."""

_SEED = "7"
# The output of xfs_io -C (xfsprogs, io/pread.c): bytes, operations, time, bytes a second, operations a second.
_LINE = re.compile(r"^([0-9]+),([0-9]+),[0-9:.]+,([0-9.]+),([0-9.]+)$", re.MULTILINE)


class Operation(StrEnum):
    """The operation to measure."""

    read = "read"
    write = "write"


class Order(StrEnum):
    """The order of the pieces on the device."""

    sequential = "sequential"
    random = "random"


@dataclass(frozen=True, slots=True)
class Workload:
    """A workload to measure.

    Args:
        operation: Read or write.
        order: One piece after the other, or at places that are drawn from a fixed seed.
        block: The bytes of a piece, a multiple of 4 KiB.
        length: The bytes of all pieces, a multiple of `block`.

    Raises:
        InvalidValueError: A size is not such a multiple.
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


@dataclass(frozen=True, slots=True)
class Speed:
    """The result of a measurement.

    Args:
        where: The machine and the path.
        workload: The workload that was measured.
        bandwidth: Bytes a second, the median of the rounds.
        operations: Pieces a second, the median of the rounds.
    """

    where: str
    workload: Workload
    bandwidth: float
    operations: float

    @property
    def latency(self) -> float:
        """Microseconds for each piece. The pieces run one after the other."""
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
    """Measure how fast a block device or a file is on a machine. A block device is measured past the page cache.

    A file is read and written as its file system does it: without the page cache if the file is DAX, otherwise through
    the page cache. A file is read once before the measurement to fill the cache. Written bytes are flushed at the end
    of each round, within the measured time.

    Args:
        transport: The transport to the machine.
        path: A block device or a file. A file is not made longer.
        workload: The workload. A write overwrites the content.
        rounds: How many rounds are measured.
        timeout: Maximum seconds for all rounds.
        guarded: The guard that runs a write, if the target has a guard.

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
    """Return the xfs_io command that does all rounds."""
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
    """Return the medians of bytes a second and pieces a second from the output of xfs_io.

    Raises:
        UnreadableOutputError: xfs_io printed something else, or did not do all rounds.
    """
    found = _LINE.findall(result.text)
    done = [(int(length), int(pieces)) for length, pieces, *_ in found]
    if done != [(int(workload.length), int(workload.length) // int(workload.block))] * rounds:
        raise UnreadableOutputError(result, f"xfs_io should have done {workload} {rounds} times")
    rates = [(float(each[2]), float(each[3])) for each in found]
    if any(rate <= 0 for pair in rates for rate in pair):
        raise UnreadableOutputError(result, "xfs_io measured no time: use a larger length")
    return statistics.median(rate for rate, _ in rates), statistics.median(rate for _, rate in rates)
