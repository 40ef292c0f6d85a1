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

    @keyword(tags=("content", "destructive"))
    def measure_speed(
        self,
        target: Namespace | str,
        operation: Operation = Operation.read,
        order: Order = Order.sequential,
        *,
        block: Size = Size(1 * MiB),
        length: Size = Size(16 * MiB),
        rounds: int = ROUNDS,
        timeout: timedelta = timedelta(minutes=5),
        foreign: bool = False,
    ) -> Speed:
        """Measure how fast xfs_io reads or writes a namespace, block device or file of the current host.

        A block device is read without the page cache. A file is read as its file system does it: a DAX file without the
        page cache, any other file through it. A file is read once before the measurement, so that the cache is filled.
        A write overwrites the existing content. Its time includes the flush at the end of each round. The result is
        that of the fastest round. To measure in a guest, open the guest as a host: see [Open Guest As Host].

        Args:
            target: The namespace: its record, UUID, name or device name. Or the path of a device or file.
            operation: `read` or `write`.
            order: `sequential` or `random`. Random places are drawn from a fixed seed.
            block: How much to read or write at once, a multiple of 4 KiB.
            length: How much to read or write in each round, from the beginning of the target.
            rounds: The number of rounds.
            timeout: The timeout of all rounds together.
            foreign: Allow writing to a target that this run did not make. A path that is not the device of a namespace
                is always such a target.

        Returns:
            A record with `bandwidth` (bytes a second), `operations` (a second), `latency` (microseconds), `where` and
            `workload`.

        Raises:
            ForeignError: This run did not make the target to write to, and `foreign` is not set.
            BusyError: The target to write to is in use. Nothing was written.
            LeaseLostError: This worker lost a lease, and another worker may have it now. Nothing was written.
            InvalidValueError: A size is invalid, or the target is shorter than `length`.
            UnsupportedError: The target is a device-DAX node, which does not support read and write calls.
            ToolMissingError: xfs_io is not installed there.

        Example:

        ```robotframework
        *** Test Cases ***
        Writing Is Not Far Behind
            ${read} =    Measure Speed    ns_0    read    random    block=4KiB
            ${write} =    Measure Speed    ns_0    write    random    block=4KiB
            Get Bandwidth Ratio    ${write}    ${read}    >=    0.1
        ```
        """
        workload = Workload(operation, order, block, length)
        if operation is Operation.read:
            path, guarded = path_of(self._session, target), None
        else:
            found = own_target_of(self._session, target, foreign=foreign)
            path = shown_path(found)
            guarded = Guarded(self._session.host.ndctl.guard, target_of(found), must_be_unused=True)
        transport = self._session.host.transport
        speed = measure(transport, path, workload, rounds=rounds, timeout=timeout.total_seconds(), guarded=guarded)
        logger.info(f"Measured {speed}.")
        return speed

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
            raise InvalidValueError("speed", str(speed.workload), f"blocks and a length as in {reference.workload}")
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
