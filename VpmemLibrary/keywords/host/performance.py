"""Keywords that measure how fast bytes are read and written, and assert how two measurements compare."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.content.pipeline import Guarded
from VpmemLibrary.content.speed import ROUNDS, Operation, Order, Speed, Workload, measure
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, verify
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.drawing import bars_svg
from VpmemLibrary.keywords.support.log import log_drawing, log_table, logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.pmem.guard import target_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import MiB, Size


class PerformanceKeywords:
    """Bandwidth and latency."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("content", "getter"))
    def measure_reading(
        self,
        target: Namespace | str,
        order: Order = Order.sequential,
        *,
        block: Size = Size(1 * MiB),
        length: Size = Size(16 * MiB),
        rounds: int = ROUNDS,
        timeout: timedelta = timedelta(minutes=5),
    ) -> Speed:
        """Measure how fast a namespace, block device or file of the current host is read, by xfs_io.

        A block device is read past the page cache. A file is read as its file system does: without the page cache
        where it is DAX, through it where not, and once before it counts. The median of the rounds is taken. A guest is
        measured when it is open as a host, see [Open Guest As Host].

        Args:
            target: A namespace's record, UUID, name or device name; or the path of a device or file.
            order: `sequential`, or `random` for places drawn from a fixed seed.
            block: How much is read at once, a multiple of 4 KiB.
            length: How much is read in a round, from the beginning on.
            rounds: How often.
            timeout: How long all rounds may take.

        Returns:
            A record with `bandwidth` (bytes a second), `operations` (a second), `latency` (microseconds), `where` and
            `workload`.

        Raises:
            InvalidValueError: A size cannot be, or the target is shorter.
            UnsupportedError: It is a device-DAX node, which knows no read.
            ToolMissingError: xfs_io is not installed there.

        Example:

        ```robotframework
        *** Test Cases ***
        By Pieces Of 4 KiB
            ${speed} =    Measure Reading    ns_0    random    block=4KiB
            Log    ${speed.latency} microseconds
        ```
        """
        path = path_of(self._context, target)
        workload = Workload(Operation.read, order, block, length)
        return self._measured(path, workload, rounds, timeout)

    @keyword(tags=("content", "destructive"))
    def measure_writing(
        self,
        target: Namespace | str,
        order: Order = Order.sequential,
        *,
        block: Size = Size(1 * MiB),
        length: Size = Size(16 * MiB),
        rounds: int = ROUNDS,
        timeout: timedelta = timedelta(minutes=5),
        foreign: bool = False,
    ) -> Speed:
        """Measure how fast a namespace, block device or file of the current host is written and flushed, by xfs_io.

        It overwrites what is there. The flush at the end of a round is within the time; else it is as
        [Measure Reading].

        Args:
            target: A namespace's record, UUID, name or device name; or the path of a device or file.
            order: `sequential`, or `random` for places drawn from a fixed seed.
            block: How much is written at once, a multiple of 4 KiB.
            length: How much is written in a round, from the beginning on.
            rounds: How often.
            timeout: How long all rounds may take.
            foreign: Allow it on what this run did not make, as a path alone is.

        Returns:
            A record with `bandwidth` (bytes a second), `operations` (a second), `latency` (microseconds), `where` and
            `workload`.

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use; nothing was written.
            LeaseLostError: A lease of this worker is another's now; nothing was written.
            InvalidValueError: A size cannot be, or the target is shorter.
            UnsupportedError: It is a device-DAX node, which knows no write.
            ToolMissingError: xfs_io is not installed there.

        Example:

        ```robotframework
        *** Test Cases ***
        Writing Is Not Far Behind
            ${read} =    Measure Reading    ns_0
            ${write} =    Measure Writing    ns_0
            Get Bandwidth Ratio    ${write}    ${read}    >=    0.1
        ```
        """
        found = own_target_of(self._context, target, foreign=foreign)
        workload = Workload(Operation.write, order, block, length)
        guarded = Guarded(self._context.host.ndctl.guard, target_of(found), unused=True)
        return self._measured(shown_path(found), workload, rounds, timeout, guarded)

    @keyword(tags=("getter",))
    def get_bandwidth_ratio(
        self,
        speed: Speed,
        reference: Speed,
        assertion_operator: AssertionOperator | None = None,
        expected: float | None = None,
        message: str | None = None,
    ) -> Any:
        """Return how many times the bandwidth of one measurement is that of another, and assert it when asked.

        The log has both as a table and as a drawing. What ratio is right is for the caller to say: it depends on the
        machine, and under emulation a measurement may be twice another one of the same.

        Args:
            speed: A measurement.
            reference: The measurement that it is compared with.
            assertion_operator: See *Assertions* in the introduction.
            expected: The ratio that is expected, e.g. with `>=` the least.
            message: Your own failure text.

        Returns:
            The ratio.

        Raises:
            InvalidValueError: The measurements are of different workloads but for read and write.
            AssertionError: The ratio is another one.

        Example:

        ```robotframework
        *** Test Cases ***
        A Guest Has Half Of It At Least
            Get Bandwidth Ratio    ${in_guest}    ${on_host}    >=    0.5
        ```
        """
        if (speed.workload.block, speed.workload.length) != (reference.workload.block, reference.workload.length):
            raise InvalidValueError("speed", str(speed.workload), f"one of blocks and length as {reference.workload}")
        both = (speed, reference)
        log_table(
            "Compared",
            ("where", "workload", "bandwidth (MiB/s)", "latency (µs)"),
            ((s.where, s.workload, f"{s.bandwidth / MiB:.0f}", f"{s.latency:.0f}") for s in both),
        )
        bars = [(f"{s.where}, {s.workload.order} {s.workload.operation}", s.bandwidth / MiB) for s in both]
        log_drawing(bars_svg("MiB/s", bars))
        ratio = speed.bandwidth / reference.bandwidth
        subject = f"Bandwidth of {speed} against {reference}"
        return verify(ratio, assertion_operator, expected, subject, message)

    def _measured(
        self, path: str, workload: Workload, rounds: int, timeout: timedelta, guarded: Guarded | None = None
    ) -> Speed:
        transport = self._context.host.transport
        speed = measure(transport, path, workload, rounds=rounds, timeout=timeout.total_seconds(), guarded=guarded)
        logger.info(f"Measured {speed}.")
        return speed
