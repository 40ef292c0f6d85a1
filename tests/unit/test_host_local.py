"""The local transport: what a command gets, what it leaves, and how it is ended."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from VpmemLibrary.errors import CommandError, CommandTimeoutError, InvalidValueError, ToolMissingError
from VpmemLibrary.host.local import LocalTransport
from VpmemLibrary.host.transport import Transport, checked_argv, checked_name, shell_line

hostile = st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40)


@pytest.fixture
def local() -> LocalTransport:
    return LocalTransport()


def test_it_is_a_transport(local: LocalTransport) -> None:
    assert isinstance(local, Transport)


def test_a_result_has_all_that_the_command_left(local: LocalTransport) -> None:
    result = local.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
    assert (result.exit_status, result.stdout, result.stderr, result.stdin_bytes) == (3, b"in", b"err\n", 2)
    assert result.argv[0] == "sh"
    assert 0 < result.seconds < 10


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, min_size=1, max_size=4))
def test_hostile_arguments_arrive_as_they_are(arguments: list[str]) -> None:
    result = LocalTransport().run(["printf", r"%s\0", *arguments])
    assert result.stdout.decode() == "".join(argument + "\0" for argument in arguments)


@settings(max_examples=60, deadline=None)
@given(st.lists(hostile, min_size=1, max_size=4))
def test_a_quoted_line_is_one_command_to_a_shell(arguments: list[str]) -> None:
    result = LocalTransport().run(["sh", "-c", shell_line(["printf", r"%s\0", *arguments])])
    assert result.stdout.decode() == "".join(argument + "\0" for argument in arguments)


def test_texts_are_the_same_everywhere_and_admin_tools_are_found(
    local: LocalTransport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    result = local.run(["sh", "-c", "echo $LC_ALL; echo $PATH"])
    assert result.text.splitlines()[0] == "C"
    assert "/usr/sbin" in result.text


def test_a_missing_program_is_told_as_such(local: LocalTransport) -> None:
    result = local.run(["no-such-program-here"])
    assert result.exit_status == 127
    with pytest.raises(ToolMissingError, match="no-such-program-here is not installed"):
        result.check()


def test_a_failure_has_command_status_and_stderr(local: LocalTransport) -> None:
    with pytest.raises(CommandError) as caught:
        local.run(["sh", "-c", "echo 'it broke' >&2; exit 7"]).check()
    assert "exit status: 7" in str(caught.value)
    assert "it broke" in str(caught.value)
    assert "sh -c" in str(caught.value)


def test_a_signal_is_a_negative_status(local: LocalTransport) -> None:
    assert local.run(["sh", "-c", "kill -9 $$"]).exit_status == -9


def test_megabytes_on_all_three_at_once(local: LocalTransport) -> None:
    data = os.urandom(4 << 20)
    result = local.run(["sh", "-c", "tee /dev/stderr"], stdin=data)
    assert result.stdout == data
    assert result.stderr == data


@pytest.mark.parametrize("ignore_term", ["", "trap '' TERM; "])
def test_a_timeout_ends_the_command_and_its_children(local: LocalTransport, tmp_path: Path, ignore_term: str) -> None:
    pids = tmp_path / "pids"
    script = f'{ignore_term}sleep 600 & echo $! > "$1"; echo $$ >> "$1"; echo partial; wait'
    started = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"did not end within 0\.3 s") as caught:
        local.run(["sh", "-c", script, "sh", str(pids)], timeout=0.3)
    assert time.monotonic() - started < 10
    assert caught.value.result.stdout == b"partial\n"
    # A killed process is gone when the kernel has taken it down, which may be a moment after its pipes closed.
    deadline = time.monotonic() + 5
    while (left := [pid for pid in pids.read_text().split() if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


@pytest.mark.parametrize("argv", ["ndctl list", [], [""], ["a", "b\0c"], ["a", 1]])
def test_what_is_no_list_of_texts_is_refused(argv: object) -> None:
    if argv == [""]:
        assert checked_argv([""]) == ("",)
        return
    with pytest.raises(InvalidValueError, match="command"):
        checked_argv(argv)  # type: ignore[arg-type]


def test_a_file_is_written_whole_with_its_mode(local: LocalTransport, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    local.write_file(str(path), b"one", mode=0o640)
    local.write_file(str(path), b"two", mode=0o600)
    assert local.read_file(str(path)) == b"two"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in tmp_path.iterdir()] == ["a file"]


def test_a_stream_goes_both_ways(local: LocalTransport) -> None:
    stream = local.stream(["cat"])
    try:
        stream.send(b"there")
        assert stream.recv(100) == b"there"
    finally:
        stream.close()


def test_a_closed_stream_does_not_reach_the_one_that_was_opened_next(local: LocalTransport) -> None:
    closed = local.stream(["cat"])
    closed.close()
    following = local.stream(["cat"])
    try:
        with pytest.raises(OSError, match="Bad file descriptor"):
            closed.send(b"astray")
        with pytest.raises(OSError, match="Bad file descriptor"):
            closed.recv(100)
        following.send(b"there")
        assert following.recv(100) == b"there"
    finally:
        following.close()


@pytest.mark.parametrize("name", ["ns_0", "a", "A.b+c:d-e", "x" * 63])
def test_names_that_are_safe(name: str) -> None:
    assert checked_name("name", name) == name


@pytest.mark.parametrize("name", ["", "-x", ".x", "a b", "a\n", "x" * 64, "é", "a/b", "$(id)"])
def test_names_that_are_not(name: str) -> None:
    with pytest.raises(InvalidValueError, match="name"):
        checked_name("name", name)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
