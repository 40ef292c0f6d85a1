"""What a crash may leave of numbered records, and what it may not."""

import gzip

import pytest
from msgspec.structs import replace

from VpmemLibrary.content.records import RECORD, RecordState, RecordStream, RecordVerdict
from VpmemLibrary.errors import ContentDiffersError, InvalidValueError

STREAM = RecordStream("crash", 16)
RECORDS = [STREAM.record(number) for number in range(16)]
NOTHING = bytes(RECORD)
HALF = RECORDS[5][:256] + bytes(256)


def verdict(*found: bytes, acknowledged: int | tuple[int, ...]) -> RecordVerdict:
    """The verdict on records from 0 on, and zeros behind them."""
    area = b"".join(found).ljust(16 * RECORD, b"\0")
    return RecordVerdict(
        STREAM.states(area), tuple(range(acknowledged)) if isinstance(acknowledged, int) else acknowledged
    )


def test_a_record_names_its_stream_and_number_and_is_as_long_as_a_sector() -> None:
    assert {len(record) for record in RECORDS} == {512}
    assert len(set(RECORDS)) == 16
    assert gzip.decompress(STREAM.packed()) == b"".join(RECORDS)
    assert STREAM.length == 8192


@pytest.mark.parametrize(
    ("found", "state"),
    [
        (RECORDS[5], RecordState.whole),
        (NOTHING, RecordState.absent),
        (HALF, RecordState.torn),
        (bytes(256) + RECORDS[5][256:], RecordState.torn),
        (RECORDS[5][:-1] + bytes([RECORDS[5][-1] ^ 1]), RecordState.torn),
        (RECORDS[6], RecordState.misplaced),
        (replace(STREAM, seed="another").record(5), RecordState.other),
    ],
)
def test_what_lies_where_a_record_belongs_is_reported(found: bytes, state: RecordState) -> None:
    assert STREAM.state(5, found) is state


def test_every_cut_of_a_record_is_found_torn() -> None:
    for cut in range(1, RECORD):
        assert STREAM.state(5, RECORDS[5][:cut].ljust(RECORD, b"\0")) is RecordState.torn


@pytest.mark.parametrize("acknowledged", [0, 3, 5])
def test_records_without_a_gap_are_what_a_crash_may_leave(acknowledged: int) -> None:
    found = verdict(*RECORDS[:5], acknowledged=acknowledged)
    assert (found.whole, found.unacknowledged, found.torn, found.problems) == (5, 5 - acknowledged, (), ())
    found.require("/dev/dax0.0")


def test_the_record_that_the_writer_was_at_may_be_torn() -> None:
    found = verdict(*RECORDS[:5], HALF, acknowledged=5)
    assert (found.torn, found.problems) == ((5,), ())


@pytest.mark.parametrize(
    ("found", "acknowledged", "problem"),
    [
        ([*RECORDS[:5], HALF], 6, r"acknowledged but missing: 5 \(torn\)"),
        (RECORDS[:5], 6, r"acknowledged but missing: 5 \(absent\)"),
        ([], 16, r"0 \(absent\), .*4 \(absent\) and 11 more"),
        ([*RECORDS[:5], NOTHING, RECORDS[6]], 5, r"present although the earlier record 5 is absent: 6 \(whole\)"),
        ([*RECORDS[:5], HALF, RECORDS[6]], 5, r"present although the earlier record 5 is torn: 6 \(whole\)"),
        (
            [*RECORDS[:5], RECORDS[6], RECORDS[5]],
            5,
            r"the earlier record 5 is misplaced: 5 \(misplaced\), 6 \(misplaced\)",
        ),
        ([RECORDS[1], RECORDS[0]], 2, r"acknowledged but missing: 0 \(misplaced\), 1 \(misplaced\)"),
        ([*RECORDS[:5], NOTHING, HALF], 5, r"present although the earlier record 5 is absent: 6 \(torn\)"),
        (RECORDS[:5], (0, 2, 1, 3), r"acknowledged out of order: 2, 1"),
        (RECORDS[:5], (0, 1, 3), r"acknowledged out of order: 3"),
    ],
)
def test_what_no_crash_may_leave_is_reported(
    found: list[bytes], acknowledged: int | tuple[int, ...], problem: str
) -> None:
    with pytest.raises(ContentDiffersError, match=problem):
        verdict(*found, acknowledged=acknowledged).require("/dev/dax0.0")


@pytest.mark.parametrize(("seed", "count"), [("", 8), ("a", 0), ("a", 12), ("a", -8), ("a", 1 << 20)])
def test_a_stream_that_cannot_be_is_refused(seed: str, count: int) -> None:
    with pytest.raises(InvalidValueError):
        RecordStream(seed, count)
