"""Numbered records that a writer flushes one by one, and the check of the records after a crash.

A record contains its stream and its number, and ends with a checksum. A torn record has a wrong checksum. The writer
begins a record only after it has flushed the record before. So after a crash, all records up to some number are whole.
One torn record may follow.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import ContentDiffersError, InvalidValueError
from VpmemLibrary.sizes import KiB, Size

RECORD = 512
"""The bytes of a record. This is a block device's smallest sector, the smallest unit of direct I/O."""

MOST_RECORDS = 16384
"""The maximum number of records in a stream: 8 MiB. The serial console reports some hundred records a second."""

_MAGIC = b"vpmemrec"
_DIGEST = 8
_STREAM = slice(16, 32)
_SHOWN = 5


class RecordStream(Struct, frozen=True):
    """The records of one writer.

    Args:
        seed: Any non-empty text. Writers that share a device have different seeds.
        count: The number of records, a multiple of 8 so that the records fill whole blocks of 4 KiB.

    Raises:
        InvalidValueError: The seed is empty, or the count is not a multiple of 8 or is out of range.

    Example: ``RecordStream("first crash", 4096).record(17)``.
    """

    seed: str
    count: int

    def __post_init__(self) -> None:
        if not self.seed:
            raise InvalidValueError("seed", self.seed, "any text, e.g. 'first crash'")
        step = 4 * KiB // RECORD
        if not 0 < self.count <= MOST_RECORDS or self.count % step:
            raise InvalidValueError("count", self.count, f"a multiple of {step}, up to {MOST_RECORDS}, e.g. 4096")

    @property
    def key(self) -> bytes:
        """The 16 bytes that identify the stream in each record."""
        return hashlib.sha256(self.seed.encode()).digest()[:16]

    @property
    def length(self) -> Size:
        """The bytes of all records together."""
        return Size(self.count * RECORD)

    def record(self, number: int) -> bytes:
        """Return one record."""
        head = _MAGIC + number.to_bytes(8, "little") + self.key
        body = (head * (RECORD // len(head)))[:-_DIGEST]
        return body + _checksum(body)

    def packed(self) -> bytes:
        """Return all records in order, compressed by gzip. The records compress well, because their bytes repeat."""
        from gzip import compress  # noqa: PLC0415  only writers need it

        return compress(b"".join(map(self.record, range(self.count))), mtime=0)

    def state(self, number: int, found: bytes) -> RecordState:
        """Return the state of a record from the bytes `found` that were read at its place."""
        if not any(found):
            return RecordState.absent
        if _checksum(found[:-_DIGEST]) != found[-_DIGEST:] or not found.startswith(_MAGIC):
            return RecordState.torn
        if found[_STREAM] != self.key:
            return RecordState.other
        return RecordState.whole if found == self.record(number) else RecordState.misplaced

    def states(self, found: bytes) -> tuple[RecordState, ...]:
        """Return the state of each record from the bytes `found` of an area that begins with record 0."""
        return tuple(self.state(at // RECORD, found[at : at + RECORD]) for at in range(0, len(found), RECORD))


class RecordState(StrEnum):
    """The state of a record's place on the device."""

    whole = "whole"
    """The place has the record itself."""
    absent = "absent"
    """Zeros, as before the writer began."""
    torn = "torn"
    """Bytes with a wrong checksum."""
    misplaced = "misplaced"
    """A whole record of the same stream with another number."""
    other = "of another stream"
    """A whole record of another writer."""


class RecordVerdict(Struct, frozen=True):
    """The records of a stream after a crash.

    Args:
        states: The state of each place, from record 0 on.
        acknowledged: The numbers of the acknowledged records, in the order of the acknowledgements.
    """

    states: tuple[RecordState, ...]
    acknowledged: tuple[int, ...]

    @property
    def whole(self) -> int:
        """How many records are whole."""
        return self.states.count(RecordState.whole)

    @property
    def unbroken(self) -> int:
        """How many records are whole before the first gap."""
        return next((i for i, state in enumerate(self.states) if state is not RecordState.whole), len(self.states))

    @property
    def unacknowledged(self) -> int:
        """How many whole records the writer did not acknowledge."""
        known = set(self.acknowledged)
        return sum(state is RecordState.whole and i not in known for i, state in enumerate(self.states))

    @property
    def torn(self) -> tuple[int, ...]:
        """The numbers of torn records."""
        return tuple(i for i, state in enumerate(self.states) if state is RecordState.torn)

    @property
    def problems(self) -> tuple[str, ...]:
        """The errors in the records, one line for each. Empty if the crash lost no acknowledged record.

        The record after the last whole record may be torn, because the crash interrupted its write.
        """
        lost = [i for i in self.acknowledged if self._state(i) is not RecordState.whole]
        broken = [i for i in range(self.unbroken, len(self.states)) if self.states[i] is not RecordState.absent]
        late = [i for i in broken if i != self.unbroken or self.states[i] is not RecordState.torn]
        found = []
        if list(self.acknowledged) != list(range(len(self.acknowledged))):
            wrong = [number for place, number in enumerate(self.acknowledged) if number != place]
            found.append(f"acknowledged out of order: {_listed(wrong)}")
        if lost:
            found.append(
                "acknowledged but missing: " + _listed(lost, [f"{i} ({self._state(i)})" for i in lost[:_SHOWN]])
            )
        if late:
            shown = [f"{i} ({self.states[i]})" for i in late[:_SHOWN]]
            found.append(f"present although the earlier record {self.unbroken} is {self._state(self.unbroken)}: ")
            found[-1] += _listed(late, shown)
        return tuple(found)

    def require(self, where: str) -> None:
        """Raise unless every acknowledged record is whole and all records are in order.

        Args:
            where: The place that was read, for the message.

        Raises:
            ContentDiffersError: A record is lost or out of order. The message has its number.
        """
        if self.problems:
            raise ContentDiffersError(f"{where} does not contain the flushed records: {self}.")

    def __str__(self) -> str:
        text = f"{len(self.acknowledged)} acknowledged, {self.whole} whole, {len(self.torn)} torn"
        return "; ".join((text, *self.problems))

    def _state(self, number: int) -> RecordState:
        return self.states[number] if number < len(self.states) else RecordState.absent


def _checksum(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()


def _listed(numbers: Iterable[int], shown: Iterable[str] | None = None) -> str:
    """Format numbers for a message: the first numbers, and how many more there are."""
    listed = list(numbers)
    texts = list(shown) if shown is not None else [str(number) for number in listed[:_SHOWN]]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(texts) + more
