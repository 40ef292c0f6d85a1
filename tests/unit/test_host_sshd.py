"""The SSH transport against OpenSSH's own server, which is stopped in each phase of a command."""

from __future__ import annotations

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import CommandTimeoutError, OutputTooLargeError, UnreachableError
from VpmemLibrary.transport.base import query
from VpmemLibrary.transport.ssh.transport import SshTransport

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpensshServer]:
    opened = OpensshServer(tmp_path_factory.mktemp("sshd"))
    yield opened
    opened.close()


@pytest.fixture
def patient_host(server: OpensshServer) -> Iterator[SshTransport]:
    """A host with the library's own patience, for tests that must see a process end on a busy machine."""
    with SshTransport(server.settings()) as transport:
        yield transport


@pytest.fixture
def host(server: OpensshServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[SshTransport]:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.transport.PATIENCE", 0.4)
    with SshTransport(server.settings()) as transport:
        yield transport
        server.go_on()


def took(act: Callable[[], object]) -> tuple[BaseException | None, float]:
    """Return what an act raised and how long it took; fail if it does not end."""
    raised: list[BaseException] = []
    ended = threading.Event()

    def run() -> None:
        try:
            act()
        except Exception as error:
            raised.append(error)
        ended.set()

    started = time.monotonic()
    threading.Thread(target=run, daemon=True).start()
    assert ended.wait(60), "it waits without end"
    return (raised[0] if raised else None), time.monotonic() - started


def test_commands_and_queries_leave_what_they_printed(host: SshTransport) -> None:
    for command in (["sh", "-c", "echo out; echo err >&2; exit 3"], list(query("echo out; echo err >&2; exit 3"))):
        result = host.run(command)
        assert (result.exit_status, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert host.run(["sh", "-c", "kill -9 $$"]).exit_status == -9
    data = bytes(range(256)) * 8192
    assert host.run(["tee", "/dev/stderr"], stdin=data).stderr == data


def test_a_command_is_ended_with_all_that_it_started(patient_host: SshTransport, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = 'trap "" TERM; sleep 600 & echo $! > "$1"; setsid sleep 600 & echo $! >> "$1"; echo $$ >> "$1"; wait'
    with pytest.raises(CommandTimeoutError, match="and was ended"):
        patient_host.run(["sh", "-c", script, "sh", str(pids)], timeout=1)
    assert [pid for pid in pids.read_text().split() if _runs(pid)] == []


def test_a_command_that_prints_too_much_is_ended(patient_host: SshTransport, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.output.OUTPUT_LIMIT", 1 << 20)
    with pytest.raises(OutputTooLargeError, match="and was ended"):
        patient_host.run(["cat", "/dev/zero"])


def test_connecting_to_a_stopped_server_is_given_up(server: OpensshServer) -> None:
    server.stop()
    try:
        error, seconds = took(lambda: SshTransport(server.settings()).run(["true"], timeout=1))
    finally:
        server.go_on()
    assert isinstance(error, UnreachableError)
    assert seconds < 20


@pytest.mark.parametrize("start", ["run", "query", "stream", "connect", "write_file"])
def test_a_start_on_a_stopped_server_is_given_up(
    host: SshTransport, server: OpensshServer, tmp_path: Path, start: str
) -> None:
    host.run(query("true"))
    server.stop()
    error, seconds = took(
        {
            "run": lambda: host.run(["true"], timeout=1),
            "query": lambda: host.run(query("true"), timeout=1),
            "stream": lambda: host.stream(["cat"]),
            "connect": lambda: host.connect("127.0.0.1", 1, timeout=1),
            "write_file": lambda: host.write_file(str(tmp_path / "file"), bytes(32 << 20)),
        }[start]
    )
    assert isinstance(error, CommandTimeoutError if start == "query" else UnreachableError)
    assert seconds < 20
    server.go_on()
    assert host.run(["echo", "again"]).text == "again\n"


@pytest.mark.parametrize("stdin", [b"", bytes(32 << 20)])
def test_a_command_on_a_server_that_stops_is_given_up_and_not_said_to_have_ended(
    host: SshTransport, server: OpensshServer, tmp_path: Path, stdin: bytes
) -> None:
    began = tmp_path / "began"

    def stop() -> None:
        deadline = time.monotonic() + 30
        while not began.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        server.stop()

    threading.Thread(target=stop, daemon=True).start()
    command = ["sh", "-c", ': > "$1"; exec sleep 20', "sh", str(began)]
    error, seconds = took(lambda: host.run(command, timeout=2, stdin=stdin))
    assert isinstance(error, CommandTimeoutError)
    assert "Whether it was ended is unknown" in str(error)
    assert seconds < 20
    assert took(host.close)[1] < 10


def test_a_server_that_was_stopped_for_long_has_room_for_commands_again(
    host: SshTransport, server: OpensshServer
) -> None:
    host.run(["true"])
    server.stop()
    transport = host._connections.transport()
    for _ in range(12):  # sshd allows ten sessions of a connection
        with contextlib.suppress(Exception):
            transport.open_session(timeout=0.1)
    gc.collect()  # or paramiko would close some of them by itself
    server.go_on()
    assert host.run(["echo", "again"]).text == "again\n"
    assert host._connections.transport() is transport


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False
