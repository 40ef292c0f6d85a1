"""Bytes from login shells and servers: what comes before, between and after the markers, cut anywhere."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import LoginShellError
from VpmemLibrary.transport.ssh.greeting import LONGEST, MOST_LINES, Greeting
from VpmemLibrary.transport.ssh.login_shell import NOISE_LIMIT, Start

BOOT = b"6c4c3b26-08f5-4f0b-8d5a-3f6a4f1a3d33"
NOISE = st.lists(
    st.one_of(
        st.binary(max_size=80),
        st.sampled_from(
            [
                b"MARK",
                b"MARK 12",
                b"MARK x\n",
                b"MARK -1\n",
                b"MARK 1 ../\n",
                b"mark 1\n",
                b"vpmem-0-out 1\n",
                b"\n",
                b"\0",
            ]
        ),
    ),
    max_size=20,
)
OUTPUT = st.one_of(st.binary(max_size=200), st.just(b"MARK 77 \n"), st.just(b"MARK 77\nMARK 78\n"))
CUTS = st.lists(st.integers(0, 3000), max_size=30)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the data in the pieces between the cuts."""
    places = [0, *sorted(min(each, len(data)) for each in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


def words(start: Start) -> tuple[bytes, bytes]:
    """Return the words that begin the two lines."""
    found = re.findall(rb'echo "(vpmem-[0-9a-f]{16}-(?:out|err)) ', start.script)
    assert len(found) == 2
    return found[0], found[1]


@fuzz
@given(noise=NOISE, output=OUTPUT, cuts=CUTS, pid=st.integers(1, 1 << 22), boot=st.sampled_from([b"", BOOT]))
@fuzzed
def test_the_output_after_the_marker_is_exact(
    noise: list[bytes], output: bytes, cuts: list[int], pid: int, boot: bytes
) -> None:
    start = Start("exec true", "rack1", "qa")
    word = words(start)[0]
    before = b"".join(noise).replace(b"MARK", word)
    if re.search(rb"%s [0-9]+ ?[0-9a-f-]*\n" % word, before):  # pieces that make a whole marker together
        return
    after = output.replace(b"MARK", word)
    data = before + word + b" %d " % pid + boot + b"\n" + after
    assert b"".join(start.stdout.feed(piece) for piece in cut(data, cuts)) == after
    assert (start.stdout.pid, start.stdout.boot.encode()) == (pid, boot)
    assert bytes(start.stdout.noise) == before
    assert not start.begun


@fuzz
@given(out=NOISE, err=NOISE, status=st.one_of(st.none(), st.integers(-64, 255)))
@fuzzed
def test_a_shell_that_never_ran_the_command_is_an_error_of_one_line(
    out: list[bytes], err: list[bytes], status: int | None
) -> None:
    start = Start("exec true", "rack1", "qa")
    for piece in out:
        assert start.stdout.feed(piece) == b""
    for piece in err:
        assert start.stderr.feed(piece) == b""
    error = start.failure(status)
    assert isinstance(error, LoginShellError)
    assert "\n" not in str(error)
    assert "user 'qa' on rack1" in str(error)
    assert len(str(error)) < 4000


@fuzz
@given(piece=st.binary(min_size=1000, max_size=5000))
@fuzzed
def test_noise_without_end_is_kept_up_to_a_limit(piece: bytes) -> None:
    start = Start("exec true", "rack1", "qa")
    for _ in range(3 * NOISE_LIMIT // len(piece) // 50):
        start.stderr.feed(piece * 50)
    assert start.too_noisy
    assert len(start.stderr.noise) <= NOISE_LIMIT + 50 * len(piece)
    assert "printed more than" in str(start.failure(None))


LINES = st.lists(
    st.one_of(
        st.binary(max_size=100),
        st.sampled_from(
            [b"SSH", b" SSH-2.0-x", b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"\n", b"Exceeded MaxStartups\r\n"]
        ),
    ),
    max_size=30,
)


@fuzz
@given(before=LINES, rest=st.binary(max_size=100), cuts=CUTS)
@fuzzed
def test_ssh_begins_at_the_first_line_that_is_its_version(before: list[bytes], rest: bytes, cuts: list[int]) -> None:
    lines = b"".join(before)
    lines = lines + b"\n" if lines and not lines.endswith(b"\n") else lines
    expected = lines + b"SSH-2.0-server\r\n" + rest
    expected = expected[next(match.start() for match in re.finditer(rb"(?:\A|(?<=\n))SSH-", expected)) :]
    greeting = Greeting()
    assert b"".join(greeting.feed(piece) for piece in cut(lines + b"SSH-2.0-server\r\n" + rest, cuts)) == expected
    assert greeting.begun
    assert greeting.describe("192.0.2.1 port 22") == ""


@fuzz
@given(before=LINES, times=st.integers(1, 200), cuts=CUTS)
@fuzzed
def test_what_is_not_ssh_is_described_in_one_line(before: list[bytes], times: int, cuts: list[int]) -> None:
    data = b"".join(before).replace(b"SSH", b"ssh") * times
    greeting = Greeting()
    for piece in cut(data, cuts):
        greeting.feed(piece)
    assert greeting.ended == (data.count(b"\n") > MOST_LINES or len(data) > LONGEST)
    greeting.ended = True
    text = greeting.describe("192.0.2.1 port 22")
    assert text
    assert "\n" not in text
    assert len(text) < 2000
