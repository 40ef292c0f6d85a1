"""The lines on a serial console: what comes between them, or is lost from them, never passes for a part of them."""

from __future__ import annotations

import base64
import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from VpmemLibrary.errors import GuestError
from VpmemLibrary.transport.output import MOST_OUTPUT
from VpmemLibrary.transport.serial.frames import (
    LINE,
    MOST_PARTS,
    Part,
    Reader,
    ScriptAnswer,
    checksum,
    file_lines,
    file_sum,
    new_nonce,
    packed,
    request_line,
    unpacked,
)
from VpmemLibrary.transport.serial.script import FIRST, PART

NONCE = "0123abcd"


def part_line(number: int, index: int, data: bytes) -> bytes:
    """Return a line as the script prints it."""
    text = base64.b64encode(data)
    return b"#%b %06d %b %d %b ." % (NONCE.encode(), number, checksum(text).encode(), FIRST + index, text)


def answer_line(text: str) -> bytes:
    return f"@{NONCE} {len(text)} {text} .".encode()


def read(data: bytes) -> list[ScriptAnswer | Part]:
    return list(Reader(NONCE).feed(data))


def test_checksums_are_those_of_md5sum() -> None:
    assert checksum(b"") == "d41d8cd9"
    assert checksum(b"abc") == "90015098"
    assert file_sum(b"") == "-"


def test_a_request_has_its_length_and_is_nothing_to_a_shell() -> None:
    assert request_line(NONCE, 7, "put script 0 aGk=") == b": 0123abcd 19 7 put script 0 aGk=\n"


@given(st.binary(max_size=4 * LINE), st.sampled_from(["cat", "gzip -c"]))
def test_a_file_arrives_in_short_lines(data: bytes, packing: str) -> None:
    lines = file_lines(packed(data, packing))
    assert all(0 < len(line) <= LINE for line in lines)
    assert unpacked(base64.b64decode("".join(lines)), packing) == data


@given(
    st.integers(0, 999_999),
    st.integers(0, MOST_PARTS - 1),
    st.binary(min_size=1, max_size=PART),
    st.binary(max_size=50).filter(lambda noise: b"\n" not in noise),
    st.lists(st.integers(1, 400), max_size=5),
)
def test_a_part_is_found_whatever_stands_beside_it_and_however_it_comes(
    number: int, index: int, data: bytes, noise: bytes, cuts: list[int]
) -> None:
    reader = Reader(NONCE)
    rest = noise + part_line(number, index, data) + noise + b"\r\n"
    found: list[ScriptAnswer | Part] = []
    for cut in cuts:
        found += reader.feed(rest[:cut])
        rest = rest[cut:]
    found += reader.feed(rest)
    assert found == [Part(number, index, data)]


@given(st.binary(min_size=1, max_size=PART), st.integers(1, 500), st.binary(min_size=1, max_size=60))
def test_what_is_written_into_a_part_makes_it_damaged_and_never_another(data: bytes, at: int, noise: bytes) -> None:
    line = part_line(1, 0, data)
    at = at % (len(line) - 1) + 1
    assert read(line[:at] + noise + line[at:] + b"\r\n") in ([], [Part(1, 0, data)])


@given(st.binary(min_size=1, max_size=PART), st.integers(0, 500), st.integers(1, 30))
def test_what_is_lost_from_a_part_makes_it_damaged(data: bytes, at: int, length: int) -> None:
    line = part_line(1, 0, data)
    at %= len(line)
    lacking = line[:at] + line[at + length :]
    found = read(lacking + b"\r\n")
    assert not found or all(isinstance(item, Part) and item.data == data for item in found)


@given(st.integers(0, 9999), st.sampled_from(["started", "done 17", "shown"]), st.integers(0, 40), st.integers(0, 8))
def test_an_answer_that_was_written_into_or_lost_a_byte_is_not_there(
    number: int, words: str, at: int, kind: int
) -> None:
    line = answer_line(f"{number} {words}")
    assert read(line + b"\n") == [ScriptAnswer(number, tuple(words.split()))]
    at = at % (len(line) - 1) + 1
    damaged = line[:at] + line[at + 1 :] if kind == 0 else line[:at] + b"[  1.0] x\r\n"[:kind] + line[at:]
    assert read(damaged + b"\n") in ([], [ScriptAnswer(number, tuple(words.split()))])


def test_two_answers_in_one_line_are_both_found() -> None:
    both = answer_line("1 started") + answer_line("1 done 3") + b"\r\n"
    assert read(both) == [ScriptAnswer(1, ("started",)), ScriptAnswer(1, ("done", "3"))]


def test_another_session_s_lines_are_not_this_one_s() -> None:
    assert new_nonce() != new_nonce()
    assert not list(Reader("ffffffff").feed(answer_line("1 started") + b"\n" + part_line(1, 0, b"x") + b"\n"))


def test_a_console_without_line_ends_does_not_fill_the_memory() -> None:
    reader = Reader(NONCE)
    for _ in range(64):
        assert not list(reader.feed(bytes(1 << 16)))
    assert list(reader.feed(b"\n" + answer_line("2 shown") + b"\n")) == [ScriptAnswer(2, ("shown",))]


@pytest.mark.parametrize(
    "line",
    [
        answer_line("9" * 5000 + " done"),
        answer_line("1 " + "x " * 6000),
        part_line(1, MOST_PARTS, b"x"),
        part_line(1, -1, b"x"),
        part_line(1, 0, bytes(PART + 1)),
    ],
    ids=["number of 5000 digits", "long answer", "part beyond the last", "negative part", "long part"],
)
def test_a_frame_that_no_script_sends_is_not_there(line: bytes) -> None:
    assert read(line + b"\n") == []


def test_a_part_that_is_no_base64_is_not_there_though_its_checksum_is_right() -> None:
    line = b"#%b 000001 %b %d A ." % (NONCE.encode(), checksum(b"A").encode(), FIRST)
    assert read(line + b"\n") == []


def test_answers_inside_one_another_take_no_more_room_than_their_line() -> None:
    inner = b"@%b 9000 1 x" % NONCE.encode()
    line = inner * 3000 + b" ." * 10_000
    assert sum(len(item.words) for item in read(line + b"\n") if isinstance(item, ScriptAnswer)) <= len(line)


@pytest.mark.parametrize("packing", ["gzip -c", "cat"])
def test_a_result_is_unpacked_up_to_a_limit(packing: str) -> None:
    most = bytes(MOST_OUTPUT)
    assert unpacked(packed(most, packing), packing) == most
    with pytest.raises(GuestError, match="more than 16MiB"):
        unpacked(packed(most + b"x", packing), packing)


def test_a_result_that_expands_without_end_does_not_fill_the_memory() -> None:
    bomb = gzip.compress(bytes(256 << 20), 1)
    tracemalloc.start()
    try:
        with pytest.raises(GuestError, match="more than 16MiB"):
            unpacked(bomb, "gzip -c")
        assert tracemalloc.get_traced_memory()[1] < 64 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "data",
    [b"", b"text", gzip.compress(b"text")[:-9], gzip.compress(b"text")[:5]],
    ids=["nothing", "text", "no end", "no content"],
)
def test_what_gzip_did_not_make_is_an_error(data: bytes) -> None:
    with pytest.raises(GuestError, match=r"cannot be unpacked by gzip|The end of a command's result is missing"):
        unpacked(data, "gzip -c")


FRAMES = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=50).map(answer_line),
    st.builds(part_line, st.integers(0, 9), st.integers(-FIRST, 899_999), st.binary(max_size=400)),
)


@settings(max_examples=200)
@given(st.lists(st.tuples(FRAMES, st.sampled_from([b"", b"\n", b"\r\n"])), max_size=8))
def test_any_bytes_on_a_console_are_read_without_an_error(frames: list[tuple[bytes, bytes]]) -> None:
    data = b"".join(line + end for line, end in frames)
    for item in read(data + b"\n"):
        if isinstance(item, Part):
            assert 0 <= item.index < MOST_PARTS
            assert 0 < len(item.data) <= PART
        else:
            assert len(item.words) <= len(data)
