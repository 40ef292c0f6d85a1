"""Keywords that make a guest write records, kill the guest meanwhile, and check the records afterwards."""

from __future__ import annotations

import random
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.content.records import RecordStream, RecordVerdict
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.record_writer import RecordWriter, start_writer
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.keywords.support.targets import backing_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size


class RecordKeywords:
    """Records that survive a crash."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
        """Start a writer in a guest that writes numbered records to a device. Return while the writer still runs.

        A record has 512 bytes: its stream, its number and a checksum. The checksum shows whether a record was written
        only in part. On a block device, the writer writes each record with O_DIRECT and flushes it with fsync. The
        kernel's driver does this by stores that bypass the processor's caches. On device DAX, the writer writes through
        a mapping, and libpmem flushes with the processor's own instructions. Only after the flush, the guest
        acknowledges the record: it prints the number on its serial console, whose log the host keeps. Before the start,
        the area of the records is filled with zeros.

        Args:
            guest: The guest or its name.
            device: The device, or its backing: a namespace or a path. The default is the guest's device, if the guest
                has only one.
            seed: Any text. Use a different seed for every start, so that the records of different starts can be
                distinguished.
            count: The number of records, a multiple of 8. The writer ends after the last record.
            offset: Where in the guest's namespace the first record begins; a multiple of 4 KiB.
            flush: Whether each record is flushed before it is acknowledged. Without the flush, an acknowledged record
                may still be only in the guest's page cache. Device DAX has no page cache, so `flush` must stay set
                there.

        Returns:
            The writer, for the keywords that wait for it, kill its guest, and check its records.

        Raises:
            NotFoundError: The guest has no such device.
            InvalidValueError: The records reach past the end of the device, or a value is invalid.
            UnsupportedError: In the guest, the device is neither a block device nor device DAX. Or the console has no
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
        found = self._session.current.guests.find(guest)
        target = found.device(backing_of(self._session, device))
        writer = start_writer(found, target, RecordStream(seed, count), offset=offset, flush=flush)
        logger.info(f"Started {writer}.")
        return writer

    @keyword(tags=("inside",))
    def wait_for_acknowledged_records(
        self, writer: RecordWriter, count: int = 1, *, timeout: timedelta = READY_TIMEOUT
    ) -> int:
        """Wait until a writer has acknowledged at least `count` records.

        Args:
            writer: The writer.
            count: The number of records to wait for.
            timeout: How long to wait.

        Returns:
            The number of acknowledged records.

        Raises:
            GuestError: The writer did not acknowledge `count` records within `timeout`. The message has the last lines
                of the console.

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
        """Kill the guest of a writer with SIGKILL to its QEMU, at a random moment that depends on a seed.

        The host measures the moment from the first acknowledged record. The guest must be this run's own.

        Args:
            writer: The writer.
            seed: The seed of the moment. The same seed gives the same moment.
            within: The latest possible moment.
            timeout: How long to wait until a record is acknowledged, and until the guest is off.

        Returns:
            The moment in seconds.

        Raises:
            ForeignError: This run did not make the guest.
            GuestError: No record was acknowledged within `timeout`, or the guest is not off within `timeout`.

        Example:

        ```robotframework
        *** Test Cases ***
        Twice
            Kill Guest While Writing    ${writer}    seed=7    within=500ms
        ```
        """
        if within <= timedelta():
            raise InvalidValueError("within", str(within), "more than 0, e.g. 2 seconds")
        writer.guest.require_made_by(self._session.run.run_id)
        moment = random.Random(seed).uniform(0, within.total_seconds())  # noqa: S311  repeatable, not secret
        writer.wait(1, timeout.total_seconds())
        lifecycle.kill(writer.guest, timeout.total_seconds(), after=moment)
        logger.info(f"QEMU of guest {writer.guest.name} was killed {moment:.3f} s after the first record was known.")
        return moment

    @keyword(tags=("content", "assertion"))
    def acknowledged_records_should_be_there(self, writer: RecordWriter) -> RecordVerdict:
        """Fail unless the backing of the device has every acknowledged record of a writer, in order.

        The host reads its own namespace or file. The guest is not used and need not run. Records that were not
        acknowledged may be there or not. If they are there, they must follow the last acknowledged record without a
        gap. The record after them may be torn.

        Args:
            writer: The writer.

        Returns:
            A record with `acknowledged` (numbers), `whole`, `unacknowledged` (how many) and `torn` (numbers).

        Raises:
            AssertionError: A record is missing, torn, misplaced or out of order. The message names the record.

        Example:

        ```robotframework
        *** Test Cases ***
        After The Crash
            ${verdict} =    Acknowledged Records Should Be There    ${writer}
            Log    ${verdict.unacknowledged} more were there.
        ```
        """
        verdict = writer.verdict(self._session.host.content)
        log_table(
            f"Records of {writer} on {self._session.host.alias}",
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
