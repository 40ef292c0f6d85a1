"""What a writer's words on the serial console are taken for, and what the host makes of its records."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from VpmemLibrary.content.records import RecordStream
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import ContentDiffersError, GuestError
from VpmemLibrary.guest.channel.console import READ_AT_ONCE
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.record_writer import RecordWriter
from VpmemLibrary.sizes import MiB, Size

STREAM = RecordStream("crash", 16)
TAG = STREAM.key.hex()[:6].encode()
DEVICE = VpmemDevice("/dev/dax0.0", Size(64 * MiB))


class Told:
    """A guest that wrote something on its console."""

    name = "a"

    def __init__(self, *lines: bytes, cut: bytes = b"") -> None:
        self.text = b"\r\n".join([*lines, cut])
        self.read_from: list[int] = []
        self.console = self

    def since(self, start: int) -> bytes:
        self.read_from.append(start)
        return self.text[start : start + READ_AT_ONCE]

    def tail(self) -> str:
        return "its last words"


def test_each_byte_of_the_log_is_read_once_and_a_cut_off_line_again() -> None:
    told = Told(b"vpmem:%s:0" % TAG, cut=b"vpmem:%s:1" % TAG)
    heard = writer(told)
    assert heard.listen() == (0,)
    told.text += b"2\r\nvpmem:%s:1\r\n" % TAG
    assert heard.listen() == (0, 12, 1)
    assert heard.listen() == (0, 12, 1)
    assert told.read_from == [0, len(b"vpmem:%s:0\r\n" % TAG), len(told.text)]


def test_a_log_that_was_replaced_is_not_read_as_the_end_of_a_cut_off_line() -> None:
    told = Told(b"vpmem:%s:0" % TAG, cut=b"vpmem:%s:1" % TAG)
    heard = writer(told)
    assert heard.listen() == (0,)
    told.text = b"x" * len(told.text) + b"2\r\n"
    assert heard.listen() == (0,)


def test_a_number_of_5000_digits_is_no_number() -> None:
    assert writer(Told(b"vpmem:%s:%b" % (TAG, b"9" * 5000), b"vpmem:%s:0" % TAG, b"")).listen() == (0,)


def test_a_guest_that_acknowledges_without_end_is_out_of_order_and_does_not_fill_the_memory() -> None:
    heard = writer(Told(*[b"vpmem:%s:%d" % (TAG, number % 16) for number in range(200_000)], b""))
    assert heard.listen() == (*range(16), 0)
    assert "out of order: 0" in str(heard.verdict(cast(ContentStore, Held(b"".join(map(STREAM.record, range(16)))))))


def test_a_guest_that_writes_without_end_is_left_after_16_mib() -> None:
    told = Told(b"x" * (20 * READ_AT_ONCE), b"vpmem:%s:0" % TAG, b"")
    heard = writer(told)
    assert heard.listen() == ()
    assert len(told.read_from) == 16
    assert heard.listen() == (0,)


PIECES = st.one_of(
    st.binary(max_size=40),
    st.integers(0, 20).map(lambda number: b"vpmem:%s:%d" % (TAG, number)),
    st.sampled_from([b"\n", b"\r\n", b"vpmem:", b"9" * 5000]),
)


@settings(max_examples=200)
@given(st.lists(PIECES, max_size=20), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_in_a_log_are_read_to_the_same_numbers_however_they_come(
    pieces: list[bytes], cuts: list[int]
) -> None:
    text = b"".join(pieces)
    told = Told()
    heard = writer(told)
    for cut in sorted(cuts):
        told.text = text[:cut]
        heard.listen()
    told.text = text
    numbers = heard.listen()
    assert numbers == writer(Told(cut=text)).listen()
    assert len(numbers) <= STREAM.count + 1
    heard.verdict(cast(ContentStore, Held(text[: int(STREAM.length)])))


class Held:
    """A host whose device holds something."""

    def __init__(self, held: bytes) -> None:
        self.held = held.ljust(int(STREAM.length), b"\0")

    def read(self, path: str, offset: int, length: int) -> bytes:
        assert path == DEVICE.path
        return self.held[offset : offset + length]


def writer(told: Told, **given: Any) -> RecordWriter:
    return RecordWriter(cast(Guest, told), DEVICE, STREAM, 0, 0, **given)


def test_numbers_are_taken_from_whole_lines_of_this_writer_only() -> None:
    told = Told(
        b"vpmem:%s:0" % TAG,
        b"[  12.3] nd_pmem: something else",
        b"vpmem:ffffff:7",
        b"vpmem:%s:1" % TAG,
        b"noise vpmem:%s:9" % TAG,
        cut=b"vpmem:%s:2" % TAG,
    )
    assert writer(told).listen() == (0, 1)


def test_what_was_heard_stays_known_when_the_log_is_gone() -> None:
    told = Told(b"vpmem:%s:0" % TAG, b"vpmem:%s:1" % TAG)
    heard = writer(told)
    assert heard.listen() == (0, 1)
    told.text = b""
    assert heard.listen() == (0, 1)


def test_a_writer_that_reports_too_little_is_named_with_the_last_lines_of_its_console() -> None:
    with pytest.raises(GuestError, match=r"Only 1 of 2 records .*'crash' in guest a[\s\S]*its last words"):
        writer(Told(b"vpmem:%s:0" % TAG, b"")).wait(2, 0)


def test_the_host_reads_the_records_where_the_device_has_them() -> None:
    told = Told(b"vpmem:%s:0" % TAG, b"vpmem:%s:1" % TAG)
    held = STREAM.record(0) + STREAM.record(1) + STREAM.record(2)[:100]
    verdict = writer(told).verdict(cast(ContentStore, Held(held)))
    assert (verdict.whole, verdict.torn, verdict.problems) == (2, (2,), ())
    with pytest.raises(ContentDiffersError, match=r"acknowledged but missing: 1 \(torn\)"):
        writer(told).verdict(cast(ContentStore, Held(held[:600]))).require("it")
