"""Keywords that have a guest write records, end it while it does, and judge what is there afterwards."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.content.records import RecordStream, RecordVerdict
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.record_writer import RecordWriter, start_writer
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_value
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.keywords.support.targets import backing_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import Size


class RecordKeywords:
    """Records that outlive a crash."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("inside", "content", "destructive"))
    def start_record_writer(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str | None = None,
        *,
        seed: str,
        count: int = 4096,
        offset: Size = Size(0),
        flush: bool = True,
    ) -> RecordWriter:
        """Have a guest write numbered records to a device, one after the other, and return while it does.

        A record has 512 bytes: its stream, its number, and a checksum by which one that was written in part is known.
        On a block device each is written with O_DIRECT and flushed by fsync, which the kernel's driver does by stores
        past the processor's caches; on device DAX through a mapping, flushed by libpmem with the processor's own
        instructions. Only then the guest tells its number on its serial console, whose log the host keeps. The place of
        the records is zeroed first.

        Args:
            guest: The guest or its name.
            device: The device, or its backing: a namespace or a path. It may be left out when the guest has one device.
            seed: Any text; another one for every start tells the records of one start from those of another.
            count: How many records there are, a multiple of 8. The writer ends with the last one.
            offset: Where in the guest's namespace the first record lies, a multiple of 4 KiB.
            flush: Whether each record is flushed before it is told of. Without it the guest's page cache has it, which
                device DAX has not.

        Returns:
            The writer, for the keywords that wait for it, end its guest, and judge its records.

        Raises:
            NotFoundError: The guest has no such device.
            InvalidValueError: The records reach past the device's end, or a value cannot be.
            UnsupportedError: The device is neither a block device nor device DAX in the guest, or the console has no
                log.
            GuestError: The agent does not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        Every Acknowledged Record Outlives A Kill
            ${writer} =    Start Record Writer    ${guest}    seed=first
            Kill Guest While Writing    ${writer}    seed=1
            Acknowledged Records Should Be There    ${writer}
        ```
        """
        found = self._context.current.guest(guest)
        target = found.device(backing_of(self._context, device))
        writer = start_writer(found, target, RecordStream(seed, count), offset=offset, flush=flush)
        logger.info(f"Started {writer}.")
        return writer

    @keyword(tags=("inside", "getter"))
    def get_acknowledged_records(
        self,
        writer: RecordWriter,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many records a writer has told of so far, and assert it when an operator is given.

        What was read once stays known, so that it can be read before the host loses its power, and the log with it.

        Args:
            writer: The writer.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number of records.

        Raises:
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        It Is Not Done
            Get Acknowledged Records    ${writer}    <    4096
        ```
        """
        told = len(writer.listen())
        return assert_value(told, assertion_operator, expected, f"Acknowledged records of {writer}", message)

    @keyword(tags=("inside",))
    def wait_for_acknowledged_records(
        self, writer: RecordWriter, count: int = 1, *, timeout: timedelta = READY_TIMEOUT
    ) -> int:
        """Wait until a writer has told of so many records.

        Args:
            writer: The writer.
            count: How many.
            timeout: How long it may take.

        Returns:
            How many it has told of.

        Raises:
            GuestError: It took too long; the message has the last lines of the console.

        Example:

        ```robotframework
        *** Test Cases ***
        It Is At Work
            Wait For Acknowledged Records    ${writer}    100
        ```
        """
        writer.wait(count, timeout.total_seconds())
        return len(writer.acknowledged)

    @keyword(tags=("guest", "destructive"))
    def kill_guest_while_writing(
        self,
        writer: RecordWriter,
        *,
        seed: str,
        within: timedelta = timedelta(seconds=2),
        timeout: timedelta = READY_TIMEOUT,
    ) -> float:
        """End the guest of a writer by SIGKILL to its QEMU, at a moment that is drawn from a seed.

        The moment is counted on the host from the first acknowledged record on. The guest must be this run's own.

        Args:
            writer: The writer.
            seed: What the moment is drawn from: the same seed gives the same one.
            within: The latest moment.
            timeout: How long it may take until there is a record, and until the guest is off.

        Returns:
            The moment in seconds.

        Raises:
            ForeignError: This run did not make the guest.
            GuestError: No record was acknowledged in time, or the guest is not off in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Twice
            Kill Guest While Writing    ${writer}    seed=7    within=500ms
        ```
        """
        if within <= timedelta():
            raise InvalidValueError("within", str(within), "more than 0, e.g. 2 seconds")
        writer.guest.require_made_by(self._context.run.run_id)
        moment = random.Random(seed).uniform(0, within.total_seconds())  # noqa: S311  to be repeated, not to be secret
        writer.wait(1, timeout.total_seconds())
        writer.guest.kill(timeout.total_seconds(), after=moment)
        logger.info(f"QEMU of guest {writer.guest.name} was killed {moment:.3f} s after the first record was known.")
        return moment

    @keyword(tags=("content", "assertion"))
    def acknowledged_records_should_be_there(self, writer: RecordWriter) -> RecordVerdict:
        """Fail unless every record that a writer told of is in the backing of its device, and all are in order.

        The host reads its own namespace or file; the guest is not asked, and need not run. Records that were not told
        of may be there or not, as far as they follow the last one without a gap; the one after them may be torn.

        Args:
            writer: The writer.

        Returns:
            A record with `acknowledged` (numbers), `whole`, `unacknowledged` (how many) and `torn` (numbers).

        Raises:
            AssertionError: A record is missing, torn, misplaced or out of order; the message says which.

        Example:

        ```robotframework
        *** Test Cases ***
        After The Crash
            ${verdict} =    Acknowledged Records Should Be There    ${writer}
            Log    ${verdict.unacknowledged} more were there.
        ```
        """
        verdict = writer.verdict(self._context.current.content)
        log_table(
            f"Records of {writer} on {self._context.host.alias}",
            ("acknowledged", "whole", "of them not acknowledged", "torn", "problems"),
            [
                (
                    len(verdict.acknowledged),
                    verdict.whole,
                    verdict.unacknowledged,
                    len(verdict.torn),
                    "; ".join(verdict.problems) or "none",
                )
            ],
            marked={(0, 4)} if verdict.problems else set(),
        )
        verdict.require(writer.device.path)
        return verdict
