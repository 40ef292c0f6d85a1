"""The lines on a serial console: what comes between them, or is lost from them, never passes for a part of them."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.guest.serial_frames import (
    LINE,
    Answer,
    Part,
    Reader,
    checksum,
    file_lines,
    file_sum,
    new_nonce,
    packed,
    request_line,
    unpacked,
)
from VpmemLibrary.guest.serial_script import FIRST, PART

NONCE = "0123abcd"


def part_line(number: int, index: int, data: bytes) -> bytes:
    """Return a line as the script prints it."""
    text = base64.b64encode(data)
    return b"#%b %06d %b %d %b ." % (NONCE.encode(), number, checksum(text).encode(), FIRST + index, text)


def answer_line(text: str) -> bytes:
    return f"@{NONCE} {len(text)} {text} .".encode()


def read(data: bytes) -> list[Answer | Part]:
    return list(Reader(NONCE).feed(data))


def test_checksums_are_those_of_md5sum() -> None:
    assert checksum(b"") == "d41d8cd9"
    assert checksum(b"abc") == "90015098"
    assert file_sum(b"") == "-"


def test_a_request_tells_its_length_and_is_nothing_to_a_shell() -> None:
    assert request_line(NONCE, 7, "put script 0 aGk=") == b": 0123abcd 19 7 put script 0 aGk=\n"


@given(st.binary(max_size=4 * LINE), st.sampled_from(["cat", "gzip -c"]))
def test_a_file_arrives_in_short_lines(data: bytes, packing: str) -> None:
    lines = file_lines(packed(data, packing))
    assert all(0 < len(line) <= LINE for line in lines)
    assert unpacked(base64.b64decode("".join(lines)), packing) == data


@given(
    st.integers(0, 999_999),
    st.integers(0, 99_999),
    st.binary(min_size=1, max_size=PART),
    st.binary(max_size=50).filter(lambda noise: b"\n" not in noise),
    st.lists(st.integers(1, 400), max_size=5),
)
def test_a_part_is_found_whatever_stands_beside_it_and_however_it_comes(
    number: int, index: int, data: bytes, noise: bytes, cuts: list[int]
) -> None:
    reader = Reader(NONCE)
    rest = noise + part_line(number, index, data) + noise + b"\r\n"
    found: list[Answer | Part] = []
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
    assert read(line + b"\n") == [Answer(number, tuple(words.split()))]
    at = at % (len(line) - 1) + 1
    damaged = line[:at] + line[at + 1 :] if kind == 0 else line[:at] + b"[  1.0] x\r\n"[:kind] + line[at:]
    assert read(damaged + b"\n") in ([], [Answer(number, tuple(words.split()))])


def test_two_answers_in_one_line_are_both_found() -> None:
    both = answer_line("1 started") + answer_line("1 done 3") + b"\r\n"
    assert read(both) == [Answer(1, ("started",)), Answer(1, ("done", "3"))]


def test_another_session_s_lines_are_not_this_one_s() -> None:
    assert new_nonce() != new_nonce()
    assert not list(Reader("ffffffff").feed(answer_line("1 started") + b"\n" + part_line(1, 0, b"x") + b"\n"))


def test_a_console_without_line_ends_does_not_fill_the_memory() -> None:
    reader = Reader(NONCE)
    for _ in range(64):
        assert not list(reader.feed(bytes(1 << 16)))
    assert list(reader.feed(b"\n" + answer_line("2 shown") + b"\n")) == [Answer(2, ("shown",))]
