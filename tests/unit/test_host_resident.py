"""The shell that stays on a host and runs queries, against a real SSH server and a real shell."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ssh_server import Server

from VpmemLibrary.errors import CommandTimeoutError
from VpmemLibrary.transport.base import query
from VpmemLibrary.transport.ssh.transport import SshTransport

QUERY = ["ndctl", "list"]

# A stand-in for ndctl: it tells whose child it is, or does what it is told to by its arguments.
TOOL = r"""#!/bin/sh
shift
case $1 in
    parent) echo "$PPID" ;;
    print) printf "$2"; printf "$3" >&2; exit "$4" ;;
    hang) echo begun; echo "$$" >"$2"; exec sleep 600 ;;
    wait) : >"$2"; until [ -e "$3" ]; do sleep 0.01; done; echo "$PPID" ;;
    arguments) shift; for argument; do printf '%s\0' "$argument"; done ;;
    read) cat ;;
esac
"""


@pytest.fixture(scope="module")
def transport(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshTransport]:
    tools = tmp_path_factory.mktemp("tools")
    (tools / "ndctl").write_text(TOOL)
    (tools / "ndctl").chmod(0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
        server = Server(tmp_path_factory.mktemp("server"))
        with SshTransport(server.settings()) as opened:
            yield opened
        server.close()


def test_queries_are_run_by_one_shell(transport: SshTransport) -> None:
    parents = {transport.run([*QUERY, "parent"]).check().text for _ in range(3)}
    assert len(parents) == 1


def test_a_script_that_only_reads_is_run_by_it_as_well(transport: SshTransport) -> None:
    resident = transport.run([*QUERY, "parent"]).check().text
    assert transport.run(query('echo "$PPID"')).check().text == resident
    assert transport.run(query("cat; printf '%s|' \"$@\"; exit 3", "a b", "'", "")).text == "a b|'||"
    assert transport.run(query("exit 3")).exit_status == 3


def test_another_script_has_a_session_of_its_own(transport: SshTransport) -> None:
    resident = transport.run([*QUERY, "parent"]).check().text
    assert transport.run(["sh", "-c", 'echo "$PPID"; # reads only']).check().text != resident


def test_another_command_has_a_session_of_its_own(transport: SshTransport) -> None:
    resident = transport.run([*QUERY, "parent"]).check().text
    assert transport.run(["ndctl", "other", "parent"]).check().text != resident


@pytest.mark.parametrize("stdout", ["", "no newline", "a line\\n", "\\000\\001\\377"])
@pytest.mark.parametrize("stderr", ["", "no newline", "a line\\n"])
@pytest.mark.parametrize("status", [0, 1, 161, 255])
def test_outputs_and_status_are_those_of_the_query(
    transport: SshTransport, stdout: str, stderr: str, status: int
) -> None:
    result = transport.run([*QUERY, "print", stdout, stderr, str(status)])
    as_printed = [text.encode().decode("unicode_escape").encode("latin-1") for text in (stdout, stderr)]
    if "\\377" in stdout:
        as_printed[0] = b"\0\1\377"
    assert [result.stdout, result.stderr] == as_printed
    assert result.exit_status == status


@given(st.lists(st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")), min_size=1))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_arguments_arrive_as_they_are(transport: SshTransport, arguments: list[str]) -> None:
    result = transport.run([*QUERY, "arguments", *arguments]).check()
    assert result.stdout.decode() == "".join(f"{argument}\0" for argument in arguments)


def test_a_query_reads_nothing_of_the_next_one(transport: SshTransport) -> None:
    assert transport.run([*QUERY, "read"]).check().stdout == b""
    assert transport.run([*QUERY, "print", "next", "", "0"]).check().stdout == b"next"


def test_a_query_that_hangs_is_ended_and_the_next_one_answered(transport: SshTransport, tmp_path: Path) -> None:
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s") as caught:
        transport.run([*QUERY, "hang", str(tmp_path / "pid")], timeout=1)
    assert caught.value.result.stdout == b"begun\n"
    assert transport.run([*QUERY, "print", "next", "", "0"]).check().stdout == b"next"
    assert not _lives(int((tmp_path / "pid").read_text()))


def test_a_query_is_answered_when_its_shell_was_killed(transport: SshTransport) -> None:
    before = transport.run([*QUERY, "parent"]).check().text
    os.kill(int(before), signal.SIGKILL)
    transport.run([*QUERY, "parent"]).check()
    assert transport.run([*QUERY, "parent"]).check().text != before


def test_a_query_beside_another_has_a_session_of_its_own(transport: SshTransport, tmp_path: Path) -> None:
    begun, go = tmp_path / "begun", tmp_path / "go"
    resident = transport.run([*QUERY, "parent"]).check().text
    first: list[str] = []
    thread = threading.Thread(
        target=lambda: first.append(transport.run([*QUERY, "wait", str(begun), str(go)]).check().text)
    )
    thread.start()
    try:
        while thread.is_alive() and not begun.exists():
            pass
        assert transport.run([*QUERY, "parent"]).check().text != resident
    finally:
        go.touch()
        thread.join(30)
    assert first == [resident]


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_shell_is_closed_twice_without_harm(transport: SshTransport) -> None:
    transport.run([*QUERY, "parent"]).check()
    shell = transport._resident
    assert shell is not None
    shell.close()
    shell.close()
    transport.run([*QUERY, "parent"]).check()


def test_the_shells_process_is_known_during_its_first_query(transport: SshTransport, tmp_path: Path) -> None:
    with SshTransport(transport.settings) as fresh:
        begun, go = tmp_path / "begun", tmp_path / "go"
        arguments = [*QUERY, "wait", str(begun), str(go)]
        parents: list[str] = []
        thread = threading.Thread(target=lambda: parents.append(fresh.run(arguments).check().text))
        thread.start()
        try:
            while thread.is_alive() and not begun.exists():
                time.sleep(0.01)
            assert fresh._resident is not None
            pid = fresh._resident.start.stdout.pid
        finally:
            go.touch()
            thread.join(30)
        assert parents == [f"{pid}\n"]
