"""What a writer's words on the serial console are taken for, and what the host makes of its records."""

from __future__ import annotations

from typing import Any, cast

import pytest

from VpmemLibrary.content.records import RecordStream
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import ContentDiffersError, GuestError
from VpmemLibrary.guest.domain import VpmemDevice
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

    def console_since(self, start: int) -> bytes:
        return self.text[start:]

    def console_tail(self) -> str:
        return "its last words"


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


def test_a_writer_that_tells_too_little_is_told_with_the_last_lines_of_its_console() -> None:
    with pytest.raises(GuestError, match=r"Only 1 of 2 records .*'crash' in guest a[\s\S]*its last words"):
        writer(Told(b"vpmem:%s:0" % TAG, b"")).wait(2, 0)


def test_the_host_reads_the_records_where_the_device_has_them() -> None:
    told = Told(b"vpmem:%s:0" % TAG, b"vpmem:%s:1" % TAG)
    held = STREAM.record(0) + STREAM.record(1) + STREAM.record(2)[:100]
    verdict = writer(told).verdict(cast(ContentStore, Held(held)))
    assert (verdict.whole, verdict.torn, verdict.problems) == (2, (2,), ())
    with pytest.raises(ContentDiffersError, match=r"acknowledged and not there: 1 \(torn\)"):
        writer(told).verdict(cast(ContentStore, Held(held[:600]))).require("it")
