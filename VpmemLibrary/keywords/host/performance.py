"""Keywords that measure how fast bytes are read and written, and compare two measurements."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.content.pipeline import Guarded
from VpmemLibrary.content.speed import ROUNDS, Operation, Order, Speed, Workload, measure
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, verify
from VpmemLibrary.keywords.support.drawing import bars_svg
from VpmemLibrary.keywords.support.log import log_drawing, log_table, logger
from VpmemLibrary.keywords.support.targets import own_target_of, path_of, shown_path
from VpmemLibrary.pmem.guard import target_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size


class PerformanceKeywords:
    """Bandwidth and latency."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
        """Measure how fast xfs_io reads a namespace, block device or file of the current host.

        A block device is read without the page cache. A file is read as its file system does it: a DAX file without the
        page cache, any other file through it. A file is read once before the measurement, so that the cache is filled.
        The result is the median of all rounds. To measure in a guest, open the guest as a host: see
        [Open Guest As Host].

        Args:
            target: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            order: `sequential` or `random`. Random places are drawn from a fixed seed.
            block: How much to read at once, a multiple of 4 KiB.
            length: How much to read in each round, from the beginning of the target.
            rounds: The number of rounds.
            timeout: The timeout of all rounds together.

        Returns:
            A record with `bandwidth` (bytes a second), `operations` (a second), `latency` (microseconds), `where` and
            `workload`.

        Raises:
            InvalidValueError: A size is invalid, or the target is shorter than `length`.
            UnsupportedError: The target is a device-DAX node, which does not support read calls.
            ToolMissingError: xfs_io is not installed there.

        Example:

        ```robotframework
        *** Test Cases ***
        By Pieces Of 4 KiB
            ${speed} =    Measure Reading    ns_0    random    block=4KiB
            Log    ${speed.latency} microseconds
        ```
        """
        path = path_of(self._session, target)
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
        """Measure how fast xfs_io writes and flushes a namespace, block device or file of the current host.

        The existing content is overwritten. The time includes the flush at the end of each round. Otherwise this
        keyword works as [Measure Reading] does.

        Args:
            target: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            order: `sequential` or `random`. Random places are drawn from a fixed seed.
            block: How much to write at once, a multiple of 4 KiB.
            length: How much to write in each round, from the beginning of the target.
            rounds: The number of rounds.
            timeout: The timeout of all rounds together.
            foreign: Allow a target that this run did not make. A path that is not the device of a namespace is always
                such a target.

        Returns:
            A record with `bandwidth` (bytes a second), `operations` (a second), `latency` (microseconds), `where` and
            `workload`.

        Raises:
            ForeignError: This run did not make the target, and `foreign` is not set.
            BusyError: The target is in use. Nothing was written.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was written.
            InvalidValueError: A size is invalid, or the target is shorter than `length`.
            UnsupportedError: The target is a device-DAX node, which does not support write calls.
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
        found = own_target_of(self._session, target, foreign=foreign)
        workload = Workload(Operation.write, order, block, length)
        guarded = Guarded(self._session.host.ndctl.guard, target_of(found), must_be_unused=True)
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
        """Return the bandwidth of one measurement divided by that of another. Assert it when an operator is given.

        The log shows both measurements as a table and as a drawing. Choose the expected ratio for your machine. Under
        emulation, a repeated measurement may differ from the first by a factor of two.

        Args:
            speed: A measurement.
            reference: The measurement that `speed` is compared with.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected ratio, e.g. the minimum with `>=`.
            message: Your own failure text.

        Returns:
            The ratio.

        Raises:
            InvalidValueError: The measurements have different block sizes or lengths.
            AssertionError: The ratio is not as expected.

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
        transport = self._session.host.transport
        speed = measure(transport, path, workload, rounds=rounds, timeout=timeout.total_seconds(), guarded=guarded)
        logger.info(f"Measured {speed}.")
        return speed
