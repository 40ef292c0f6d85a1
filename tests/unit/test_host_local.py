"""The local transport: what a command gets, what it leaves, and how it is ended."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shortages import no_descriptors

from VpmemLibrary.errors import (
    CommandError,
    CommandTimeoutError,
    ControllerError,
    InvalidValueError,
    OutputTooLargeError,
    ToolMissingError,
    VpmemError,
)
from VpmemLibrary.host.file_dax import map_sync, read_file_dax
from VpmemLibrary.transport.base import OUTPUT_LIMIT, CommandResult, Transport, checked_argv, checked_name, shell_line
from VpmemLibrary.transport.ending import end_command, remaining_message
from VpmemLibrary.transport.local import LocalTransport

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


def test_a_missing_program_is_reported_as_such(local: LocalTransport) -> None:
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


def test_a_command_that_left_its_session_is_ended_too(local: LocalTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CommandTimeoutError, match=r"did not end within 3 s and was ended"):
        local.run(["setsid", "-w", "sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", str(pid)], timeout=3)
    assert not _alive(pid.read_text().strip())


def test_a_command_whose_end_was_not_seen_is_not_reported_as_ended(
    local: LocalTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.local.PATIENCE", 0.5)
    pid = tmp_path / "pid"
    script = '(setsid sh -c \'echo $$ > "$1"; exec sleep 600\' sh "$1" &); sleep 600'
    try:
        with pytest.raises(CommandTimeoutError, match="its output is still open") as caught:
            local.run(["sh", "-c", script, "sh", str(pid)], timeout=3)
        assert "was ended" not in str(caught.value).splitlines()[0]
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes processes that another user cannot end")
@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_processes_that_cannot_be_ended_are_named(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words = [shell, "sh"] if shell == "busybox" else [shell]
    with subprocess.Popen(["sh", "-c", "sleep 600 & wait"], start_new_session=True) as process:
        try:
            nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
            left = subprocess.run(
                [*nobody, *words, *end_command(process.pid, 0.2)[1:]], capture_output=True, check=True, timeout=60
            )
            assert str(process.pid) in left.stdout.decode().split()
            result = CommandResult(("sh",), left.returncode, left.stdout, left.stderr, 0.1)
            assert f"It could not be ended: processes {process.pid}, " in remaining_message(result, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_a_command_is_ended_by_any_shell(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    words = [shell, "sh"] if shell == "busybox" else [shell]
    script = "trap '' TERM; (setsid -w sleep 600 &) ; setsid -w sleep 600 & echo begun; wait"
    process = subprocess.Popen(["sh", "-c", script], start_new_session=True, stdout=subprocess.PIPE)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        left = subprocess.run([*words, *end_command(process.pid, 0.2)[1:]], capture_output=True, check=True, timeout=60)
        assert (left.stdout, left.stderr) == (b"", b"")
        assert process.wait(20) == -signal.SIGKILL


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount")
def test_a_machine_without_proc_does_not_report_the_end_of_a_command() -> None:
    script = 'mount -t tmpfs none /proc && exec "$@"'
    ended = LocalTransport().run(["unshare", "-m", "sh", "-c", script, "sh", *end_command(os.getpid(), 0.1)])
    assert "Whether it was ended is unknown: /proc is not mounted there" in remaining_message(ended, os.getpid())


def test_an_interrupted_command_is_ended_soon(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    program = (
        "import sys; from VpmemLibrary.transport.local import LocalTransport; "
        """LocalTransport().run(["sh", "-c", "trap '' TERM; echo $$ > $1; sleep 600", "sh", sys.argv[1]])"""
    )
    with subprocess.Popen([sys.executable, "-c", program, str(pid)], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        process.communicate(timeout=60)
        assert time.monotonic() - started < 15
    deadline = time.monotonic() + 20
    while (lives := _alive(pid.read_text().strip())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not lives


def test_a_command_is_ended_if_its_start_is_interrupted(local: LocalTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[subprocess.Popen[bytes]] = []

    def start(*args: Any, **options: Any) -> subprocess.Popen[bytes]:
        processes.append(real(*args, **options))
        if len(processes) == 1:  # the process exists, and nobody knows it yet
            os.kill(os.getpid(), signal.SIGUSR1)
        return processes[-1]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", start)
    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            local.run(["sleep", "600"])
        assert processes[0].wait(20) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGUSR1, before)
        for process in processes:
            process.kill()


def test_a_command_does_not_get_its_parent_death_signal(local: LocalTransport) -> None:
    for _ in range(100):
        assert local.run(["setpriv", "--pdeathsig", "KILL", "sh", "-c", "sleep 0.02"]).exit_status == 0


def test_a_command_that_prints_too_much_is_ended(local: LocalTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    command = ["sh", "-c", 'echo $$ > "$1"; exec cat /dev/zero', "sh", str(pid)]
    with pytest.raises(OutputTooLargeError, match="It printed more than 64MiB and was ended") as caught:
        local.run(command, timeout=60)
    assert len(caught.value.result.stdout) == OUTPUT_LIMIT
    assert "cat /dev/zero" in str(caught.value)
    assert len(str(caught.value)) < 20_000  # each NUL is shown as four characters
    assert not _alive(pid.read_text().strip())


def test_a_file_that_is_too_large_is_refused(local: LocalTransport, tmp_path: Path) -> None:
    with (tmp_path / "file").open("wb") as file:
        file.truncate(OUTPUT_LIMIT + 1)
    with pytest.raises(OutputTooLargeError, match=f"{tmp_path}/file is larger than 64MiB"):
        local.read_file(str(tmp_path / "file"))


def test_a_controller_without_descriptors_is_no_status_of_a_command(local: LocalTransport) -> None:
    local.run(["true"])
    for start in (local.run, local.stream):
        with no_descriptors(), pytest.raises(ControllerError, match="The controller could not start a command"):
            start(["true"])


@pytest.mark.parametrize(("mode", "status"), [(0o644, 126), (0o755, 126)])
def test_a_program_that_cannot_be_run_has_a_shells_status(
    local: LocalTransport, tmp_path: Path, mode: int, status: int
) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fno program")
    program.chmod(mode)
    assert local.run([str(program)]).exit_status == status
    assert local.run([f"{program}/below"]).exit_status == 127


# Through sudo: a stand-in that runs what it is asked to, and keeps a record.


@pytest.fixture
def sudo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    record = tmp_path / "sudo.log"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sudo").write_text(
        f'#!/bin/sh\nshift 4\necho "$5 $6" >> {record}\n. {tmp_path}/how\nexec "$@"\n'
    )
    (tmp_path / "bin" / "sudo").chmod(0o755)
    (tmp_path / "bin" / "id").write_text("#!/bin/sh\necho 1000\n")  # root would not need it
    (tmp_path / "bin" / "id").chmod(0o755)
    (tmp_path / "how").touch()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    return tmp_path / "how"


def _refuse(*_: object) -> None:
    raise PermissionError(1, "Operation not permitted")


def test_a_stream_through_sudo_is_ended_through_sudo(sudo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "killpg", _refuse)  # as for root's processes
    stream = LocalTransport(sudo=True).stream(["sh", "-c", "echo $$; exec sleep 600"])
    pid = stream.recv(100).decode().strip()
    stream.close()
    stream.close()
    assert not _alive(pid)


def test_a_sudo_that_does_not_answer_is_given_up(
    sudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "killpg", _refuse)
    monkeypatch.setattr("VpmemLibrary.transport.local.PATIENCE", 0.5)
    local = LocalTransport(sudo=True)
    stream = local.stream(["sleep", "30"])
    sudo.write_text('[ "$5" != sh ] || exec sleep 30')
    started = time.monotonic()
    with pytest.raises(CommandTimeoutError, match=r"Whether it was ended is unknown: .* It may still run. See: ps "):
        local.run(["sleep", "5"], timeout=0.5)
    stream.close()
    assert time.monotonic() - started < 30
    assert "not seen to end" in caplog.text


# In a directory of another user, who changes what a name stands for between two commands.


@pytest.mark.parametrize("after", ["mktemp", "dd", "cat", "chmod", "sync"])
@pytest.mark.parametrize("act", ["write", "state", "sync"])
def test_a_name_that_becomes_a_link_leads_nowhere(
    sudo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str, act: str
) -> None:
    victim, directory, tools = tmp_path / "victim", tmp_path / "theirs", tmp_path / "bin"
    victim.write_bytes(b"precious")
    victim.chmod(0o640)
    directory.mkdir()
    local = LocalTransport(sudo=True)
    real = shutil.which(after)
    (tools / after).write_text(
        f"#!/bin/sh\n"
        f'printed=$({real} "$@") || exit\n'
        f'for name in "$printed" {directory}/.v* {directory}/f.*; do\n'
        f'    case $name in {directory}/*[!*]) ln -sfn {victim} "$name" ;; esac\n'
        f"done\n"
        f'[ -z "$printed" ] || echo "$printed"\n'
    )
    (tools / after).chmod(0o755)
    (tools / "xfs_io").write_text("#!/bin/sh\nexit 1\n")
    (tools / "xfs_io").chmod(0o755)
    with contextlib.suppress(VpmemError):  # it may refuse, or do its work
        if act == "write":
            local.write_file(str(directory / "f"), b"harmful", mode=0o604)
        else:
            {"state": read_file_dax, "sync": map_sync}[act](local, str(directory))
    assert victim.read_bytes() == b"precious"
    assert victim.stat().st_mode & 0o777 == 0o640


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


def test_a_file_that_is_no_regular_file_is_not_replaced(local: LocalTransport, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(CommandError, match="is no regular file"):
        local.write_file(str(pipe), b"one")
    assert pipe.is_fifo()


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


def test_closing_a_stream_wakes_who_waits_for_it(local: LocalTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    stream = local.stream(
        ["sh", "-c", '(setsid sh -c "echo \\$\\$ > $1; exec sleep 600" &); echo begun', "sh", str(pid)]
    )
    outcome: list[object] = []

    def receive() -> None:
        try:
            outcome.append(stream.recv(100))
        except OSError as error:
            outcome.append(error.errno)

    assert stream.recv(100) == b"begun\n"
    thread = threading.Thread(target=receive, daemon=True)
    thread.start()
    waits_in = Path(f"/proc/self/task/{thread.native_id}/wchan")
    deadline = time.monotonic() + 5
    while waits_in.read_text().startswith(("0", "futex")) and time.monotonic() < deadline:
        time.sleep(0.01)
    stream.close()
    thread.join(10)
    deadline = time.monotonic() + 10
    while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(int(pid.read_text()), signal.SIGKILL)
    assert outcome == [errno.EBADF]


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
