"""What sudo, doas and a host's shell may print around a command: it is the command's own output, or a refusal."""

from __future__ import annotations

import pytest
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import AccessDeniedError
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.elevation import ElevatedStream, elevated, require_started_as_root, without_marker_lines

MARK = elevated(["true"])[4].encode()
STARTED = MARK + b" started\n"

# As printed by sudo 1.9.13p3 and 1.9.16p2, sudo-rs 0.2.5 and OpenDoas 6.8.2.
TEXTS = [
    b"sudo: a password is required\n",
    b"sudo: Ein Passwort ist notwendig\n",
    b"sudo: sorry, you must have a tty to run sudo\n",
    b"sudo: unable to resolve host rack1: Name or service not known\n",
    b"sudo: account validation failure, is your account locked?\n",
    b"sudo-rs: interactive authentication is required\n",
    b"sudo-rs: I'm sorry qa. I'm afraid I can't do that\n",
    b"doas: Operation not permitted\n",
    b"doas: Authorization required\n",
    b"Sorry, user qa is not allowed to execute '/bin/sh -c "
    + elevated(["true"])[5].encode()
    + b"' as root on rack1.\n",
    MARK + b" asked sudo 1000 qa\n",
    MARK + b" asked doas 1000 DOMAIN\\user name\n",
    MARK + b" asked none \n",
    MARK + b" asked sudo 99999999999999999999 \xff\n",
    MARK + b" asked",
    MARK + b" started",
    MARK,
]
NOISE = st.lists(st.sampled_from(TEXTS) | st.binary(max_size=40), max_size=5).map(b"".join)


def _left(status: int, stdout: bytes, stderr: bytes) -> CommandResult:
    return CommandResult(("ndctl", "list"), status, stdout, stderr, 0.1, "rack1")


@fuzz
@fuzzed
@given(st.integers(-64, 255), NOISE, NOISE)
def test_without_the_line_of_a_start_it_is_a_refusal(status: int, stdout: bytes, stderr: bytes) -> None:
    left = _left(status, stdout, stderr)
    if any(line.startswith(STARTED) for line in stderr.splitlines(keepends=True)):
        require_started_as_root(left)
        return
    with pytest.raises(AccessDeniedError) as caught:
        require_started_as_root(left)
    assert len(str(caught.value)) < 8000
    assert len(without_marker_lines(left).stderr) < len(stderr) + 200


@fuzz
@fuzzed
@given(st.integers(-64, 255), NOISE, NOISE, st.binary(), st.binary())
def test_after_the_line_of_a_start_all_is_the_commands(
    status: int, before: bytes, complaint: bytes, stdout: bytes, stderr: bytes
) -> None:
    before, complaint = (each.replace(MARK + b" started", b"") + b"\n" for each in (before, complaint))
    left = _left(status, before + STARTED + stdout, complaint + STARTED + stderr)
    assert require_started_as_root(left) == without_marker_lines(left) == _left(status, stdout, stderr)


class _Chunks:
    def __init__(self, data: bytes, sizes: list[int]) -> None:
        self._data = data
        self._sizes = sizes

    def send(self, data: bytes) -> None:
        raise NotImplementedError

    def recv(self, size: int) -> bytes:
        size = min(size, self._sizes.pop()) if self._sizes else size
        data, self._data = self._data[:size], self._data[size:]
        return data

    def close(self) -> None:
        pass


@fuzz
@fuzzed
@given(NOISE, st.binary(), st.lists(st.integers(1, 30)), st.integers(1, 50))
def test_a_stream_gives_the_commands_bytes(before: bytes, stdout: bytes, sizes: list[int], size: int) -> None:
    before = before.replace(MARK + b" started", b"") + b"\n"
    stream = ElevatedStream(_Chunks(before + STARTED + stdout, sizes))
    received = b""
    while data := stream.recv(size):
        received += data
    assert received == stdout
