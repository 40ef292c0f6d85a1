"""The SSH transport, against a real SSH server in this process that really runs the commands."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import paramiko
import pytest
from msgspec.structs import replace
from shortages import no_descriptors
from ssh_server import PASSWORD, Server

from VpmemLibrary.errors import (
    AccessDeniedError,
    CommandTimeoutError,
    ControllerError,
    HostKeyError,
    InvalidValueError,
    OutputTooLargeError,
    UnreachableError,
)
from VpmemLibrary.transport.base import query
from VpmemLibrary.transport.ssh.protocol import Link
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport
from VpmemLibrary.transport.tcp import connect_tcp


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ssh"))
    yield server
    server.close()


@pytest.fixture
def host(server: Server) -> Iterator[SshTransport]:
    server.know(server.host_key)
    with SshTransport(server.settings()) as transport:
        yield transport


@pytest.fixture
def noisy(host: SshTransport, server: Server) -> Iterator[SshTransport]:
    """A host whose shell prints before each command, with and without a newline at the end."""
    server.prints_first = "echo 'setlocale: cannot change locale' >&2; printf 'and more' >&2; "
    yield host
    server.prints_first = ""


def test_nothing_is_opened_before_the_first_command() -> None:
    SshTransport(SshSettings("192.0.2.1")).close()


def test_a_result_has_all_that_the_command_left(host: SshTransport, server: Server) -> None:
    result = host.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"in", b"err\n")
    assert result.host == f"127.0.0.1:{server.port}"


def test_hostile_arguments_arrive_as_they_are(host: SshTransport) -> None:
    arguments = ["a b", "$(id)", "`id`", "'", '"', "\\", "\n", "*", "--", "-n", "é", "", "; exit 1", "!x"]
    assert host.run(["printf", r"%s\0", *arguments]).text == "".join(argument + "\0" for argument in arguments)


def test_many_commands_share_one_connection(host: SshTransport, server: Server) -> None:
    before = len(server.transports)

    def work(number: int) -> list[str]:
        return [host.run(["sh", "-c", "echo $1", "sh", str(number)]).text for _ in range(5)]

    with ThreadPoolExecutor(12) as pool:
        printed = list(pool.map(work, range(12)))
    assert printed == [[f"{number}\n"] * 5 for number in range(12)]
    assert len(server.transports) == before + 1


def test_megabytes_on_all_three_at_once(host: SshTransport) -> None:
    data = os.urandom(4 << 20)
    result = host.run(["tee", "/dev/stderr"], stdin=data)
    assert result.stdout == data
    assert result.stderr == data


def test_a_command_may_leave_its_input_unread(host: SshTransport) -> None:
    assert host.run(["true"], stdin=bytes(1 << 22)).exit_status == 0


@pytest.mark.parametrize("number", [1, 9, 15])
def test_a_signal_is_a_negative_status(host: SshTransport, number: int) -> None:
    assert host.run(["sh", "-c", f"kill -{number} $$"]).exit_status == -number


def test_a_timeout_ends_the_command_and_its_children(host: SshTransport, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = 'sleep 600 & echo $! > "$1"; echo $$ >> "$1"; echo partial; wait'
    with pytest.raises(CommandTimeoutError) as caught:
        host.run(["sh", "-c", script, "sh", str(pids)], timeout=3)
    assert caught.value.result.stdout == b"partial\n"
    assert not [pid for pid in pids.read_text().split() if _runs(pid)]
    assert host.run(["echo", "still there"]).text == "still there\n"


def test_a_command_that_left_its_session_is_ended_too(host: SshTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s and was ended"):
        host.run(["setsid", "-w", "sh", "-c", 'echo $$ > "$1"; exec sleep 600', "sh", str(pid)], timeout=1)
    assert not _runs(pid.read_text().strip())


def test_a_command_whose_end_was_not_seen_is_not_reported_as_ended(
    host: SshTransport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.transport.PATIENCE", 0.5)
    pid = tmp_path / "pid"
    script = '(setsid sh -c \'echo $$ > "$1"; exec sleep 600\' sh "$1" &); sleep 600'
    try:
        with pytest.raises(CommandTimeoutError, match="its output is still open") as caught:
            host.run(["sh", "-c", script, "sh", str(pid)], timeout=1)
        assert "was ended" not in str(caught.value).splitlines()[0]
    finally:
        os.kill(int(pid.read_text()), signal.SIGKILL)


@pytest.mark.parametrize("command", [["sleep", "600"], list(query("sleep 600"))])
def test_a_host_that_stops_answering_is_not_said_to_have_ended_a_command(
    host: SshTransport, server: Server, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.transport.PATIENCE", 0.5)
    host.run(["true"])
    threading.Timer(0.5, server.answers.clear).start()
    started = time.monotonic()
    try:
        with pytest.raises(CommandTimeoutError, match=r"Whether it was ended is unknown: .*It may still run. See: ps"):
            host.run(command, timeout=2)
        assert time.monotonic() - started < 25
    finally:
        server.answers.set()


@pytest.mark.parametrize("start", ["run", "query", "stream"])
def test_a_host_that_does_not_answer_the_request_for_a_command_is_given_up(server: Server, start: str) -> None:
    server.know(server.host_key)
    outcome: list[object] = []
    with SshTransport(replace(server.settings(), connect_timeout=2)) as host:
        host.run(["true"])
        server.answers.clear()
        actions: dict[str, Callable[[], object]] = {
            "run": lambda: host.run(["true"], timeout=2),
            "query": lambda: host.run(query("true"), timeout=2),
            "stream": lambda: host.stream(["cat"]),
        }

        def act() -> None:
            try:
                outcome.append(actions[start]())
            except UnreachableError as error:
                outcome.append(error)

        thread = threading.Thread(target=act, daemon=True)
        thread.start()
        thread.join(25)
        server.answers.set()
        assert outcome, "it waits without end"
        assert "Whether the command ran, or still runs, is not known" in str(outcome[0])
        assert host.run(["echo", "again"]).text == "again\n"


def test_an_agent_that_does_not_answer_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent = socket.socket(socket.AF_UNIX)
    agent.bind(str(tmp_path / "agent"))
    agent.listen()
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
    settings = replace(server.settings(), key_file=None, use_agent=True, connect_timeout=1)
    outcome: list[BaseException] = []

    def act() -> None:
        try:
            SshTransport(settings).run(["true"])
        except UnreachableError as error:
            outcome.append(error)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(25)
    waits = thread.is_alive()
    agent.close()
    assert not waits, "it waits without end"
    assert isinstance(outcome[0], AccessDeniedError)
    assert "the agent: no answer within 1 s" in str(outcome[0])


def test_a_connection_that_takes_no_bytes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.protocol._STALLED", 0.3)
    ours, theirs = socket.socketpair()
    ours.settimeout(0.05)
    link = Link(ours)
    started = time.monotonic()
    with theirs, pytest.raises(OSError, match="Bad file descriptor"):
        while time.monotonic() - started < 20:
            with contextlib.suppress(TimeoutError):
                link.send(bytes(1 << 20))


def test_what_a_shell_prints_first_is_no_output_of_a_command(
    noisy: SshTransport, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "VpmemLibrary"):
        for _ in range(2):
            result = noisy.run(["sh", "-c", "echo out; echo err >&2"])
            assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
            result = noisy.run(query("echo out; echo err >&2"))
            assert (result.stdout, result.stderr) == (b"out\n", b"err\n")
    assert [record.message for record in caplog.records if "setlocale" in record.message] == [caplog.records[0].message]


def test_a_command_is_ended_though_a_shell_prints_first(noisy: SshTransport, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    for command in (["sh", "-c"], list(query("")[:2])):
        script = '# reads only\necho $$ > "$1"; echo why >&2; exec sleep 600' if command else ""
        with pytest.raises(CommandTimeoutError, match="and was ended") as caught:
            noisy.run([*command, script, "sh", str(pid)], timeout=1)
        assert caught.value.result.stderr == b"why\n"
        assert not _runs(pid.read_text().strip())


@pytest.mark.parametrize("descriptor", [1, 2])
@pytest.mark.parametrize("reads_only", [False, True])
def test_a_command_that_prints_too_much_is_ended(
    host: SshTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, descriptor: int, reads_only: bool
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.output.OUTPUT_LIMIT", 1 << 20)
    pid = tmp_path / "pid"
    script = f'echo $$ > "$1"; exec cat /dev/zero >&{descriptor}'
    command = query(script, str(pid)) if reads_only else ("sh", "-c", script, "sh", str(pid))
    with pytest.raises(OutputTooLargeError, match="It printed more than 64MiB and was ended") as caught:
        host.run(command, timeout=60)
    result = caught.value.result
    assert 0 <= (1 << 20) - len(result.stdout if descriptor == 1 else result.stderr) < 100
    assert "cat /dev/zero" in str(caught.value)
    assert not _runs(pid.read_text().strip())
    assert host.run(query("echo again")).text == "again\n"


def test_a_file_that_is_too_large_is_refused(
    host: SshTransport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.output.OUTPUT_LIMIT", 1 << 20)
    (tmp_path / "file").write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(OutputTooLargeError, match=f"{tmp_path}/file is larger than"):
        host.read_file(str(tmp_path / "file"))
    (tmp_path / "file").write_bytes(bytes(1 << 20))
    assert len(host.read_file(str(tmp_path / "file"))) == 1 << 20


def test_a_stream_that_complains_a_lot_goes_on(host: SshTransport) -> None:
    stream = host.stream(["sh", "-c", "head -c 8000000 /dev/zero >&2; echo done"])
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.append(stream.recv(100)), daemon=True)
    thread.start()
    thread.join(30)
    stream.close()
    assert received == [b"done\n"]


def test_an_act_is_not_repeated_when_the_connection_breaks(host: SshTransport, server: Server, tmp_path: Path) -> None:
    count = tmp_path / "count"
    host.run(["true"])
    threading.Timer(0.5, server.break_connections).start()
    with pytest.raises(UnreachableError):
        host.run(["sh", "-c", 'echo once >> "$1"; exec sleep 3', "sh", str(count)])
    assert host.run(["cat", str(count)]).text == "once\n"


def test_a_controller_without_descriptors_is_not_taken_for_a_host_that_is_gone(server: Server) -> None:
    for settings in (server.settings(), SshSettings("127.0.0.1", port=server.port, known_hosts=Path("/dev/null"))):
        with SshTransport(settings) as host, no_descriptors(), pytest.raises(ControllerError, match="Too many open"):
            host.run(["true"])
    with no_descriptors(), pytest.raises(ControllerError, match=r"The controller could not connect to 127\.0\.0\.1"):
        connect_tcp("127.0.0.1", server.port, 5)


def test_a_name_service_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: asked.wait(30))
    with SshTransport(SshSettings("any.example", connect_timeout=0.3)) as host:
        started = time.monotonic()
        with pytest.raises(UnreachableError, match="did not answer"):
            host.run(["true"])
    asked.set()
    assert time.monotonic() - started < 20


def test_a_broken_connection_says_that_the_effect_is_unknown_and_the_next_command_reconnects(
    host: SshTransport, server: Server
) -> None:
    host.run(["true"])
    threading.Timer(0.3, server.break_connections).start()
    with pytest.raises(UnreachableError, match=r"Whether the command did its work is not known: sleep 30"):
        host.run(["sleep", "30"])
    assert host.run(["echo", "again"]).text == "again\n"


def test_a_stream_goes_both_ways_with_little_delay(host: SshTransport) -> None:
    stream = host.stream(["cat"])
    try:
        stream.send(b"warm")
        assert stream.recv(100) == b"warm"
        started = time.monotonic()
        for _ in range(50):
            stream.send(b"x")
            assert stream.recv(100) == b"x"
        assert (time.monotonic() - started) / 50 < 0.02
    finally:
        stream.close()


def test_a_file_is_written_whole_with_its_mode(host: SshTransport, tmp_path: Path) -> None:
    path = tmp_path / "a file"
    host.write_file(str(path), bytes(300_000), mode=0o640)
    assert host.read_file(str(path)) == bytes(300_000)
    assert path.stat().st_mode & 0o777 == 0o640
    assert [entry.name for entry in tmp_path.iterdir()] == ["a file"]


def test_a_password_lets_in_and_is_never_shown(server: Server) -> None:
    settings = replace(server.settings(), key_file=None, password=PASSWORD)
    assert PASSWORD not in repr(settings)
    with SshTransport(settings) as host:
        assert host.run(["echo", "in"]).text == "in\n"


def test_a_wrong_password_names_the_user_and_what_was_tried(server: Server) -> None:
    settings = replace(server.settings(), key_file=None, password="wrong secret")
    with SshTransport(settings) as host, pytest.raises(AccessDeniedError) as caught:
        host.run(["true"])
    assert "'qa'" in str(caught.value)
    assert "the password" in str(caught.value)
    assert "wrong secret" not in str(caught.value)


def test_a_wrong_key_names_the_key(server: Server, tmp_path: Path) -> None:
    other = tmp_path / "other"
    paramiko.RSAKey.generate(2048).write_private_key_file(str(other))
    with SshTransport(replace(server.settings(), key_file=other)) as host, pytest.raises(AccessDeniedError) as caught:
        host.run(["true"])
    assert str(other) in str(caught.value)
    assert "SHA256:" in str(caught.value)


def test_a_locked_key_needs_its_passphrase(server: Server, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    server.user_key.write_private_key_file(str(locked), password="open sesame")
    settings = replace(server.settings(), key_file=locked)
    with SshTransport(settings) as host, pytest.raises(InvalidValueError, match="give key_passphrase"):
        host.run(["true"])
    with (
        SshTransport(replace(settings, key_passphrase="wrong")) as host,
        pytest.raises(InvalidValueError, match="passphrase is wrong"),
    ):
        host.run(["true"])
    with SshTransport(replace(settings, key_passphrase="open sesame")) as host:
        assert host.run(["echo", "in"]).text == "in\n"


@pytest.mark.parametrize("content", [None, "no key at all"])
def test_a_key_file_that_is_none_is_refused(server: Server, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content)
    with (
        SshTransport(replace(server.settings(), key_file=path)) as host,
        pytest.raises(InvalidValueError, match="key_file"),
    ):
        host.run(["true"])


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_fix(server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with SshTransport(replace(server.settings(), known_hosts=empty)) as host, pytest.raises(HostKeyError) as caught:
        host.run(["true"])
    assert server.host_key.get_name() in str(caught.value)
    assert "SHA256:" in str(caught.value)
    assert str(empty) in str(caught.value)
    assert f"[127.0.0.1]:{server.port} {server.host_key.get_name()} {server.host_key.get_base64()}" in str(caught.value)
    assert empty.read_text() == ""


def test_the_key_that_was_shown_is_the_one_that_the_message_adds(server: Server, tmp_path: Path) -> None:
    known_hosts = tmp_path / "known hosts"
    known_hosts.touch()
    with SshTransport(replace(server.settings(), known_hosts=known_hosts)) as host:
        with pytest.raises(HostKeyError) as caught:
            host.run(["true"])
        subprocess.run(["sh", "-c", str(caught.value).splitlines()[-1]], check=True)
        assert host.run(["echo", "in"]).text == "in\n"


def test_a_known_hosts_file_of_any_content_does_not_hide_a_known_key(server: Server) -> None:
    server.know(server.host_key)
    line = server.known_hosts.read_bytes()
    other = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ1bm5lZWRlZC1mb3ItdGhlLXByb2JlLWtleS0wMQ=="
    for before in (
        b"@cert-authority *.lab.example.com ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHZ1bm5lZWRlZC1mb3 lab host CA\n",
        b"@revoked * ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==\n",
        b"server-b\xfcro.example " + other + b"\n",
        b"* ssh-ed25519 not-base64\n",
        line.replace(b"]", b"]x"),
    ):
        server.known_hosts.write_bytes(before + line)
        with SshTransport(server.settings()) as host:
            assert host.run(["echo", "in"]).text == "in\n"


def test_any_known_key_of_a_host_lets_it_in(server: Server) -> None:
    server.know(paramiko.ECDSAKey.generate())
    replaced = server.known_hosts.read_text()
    server.know(server.host_key)
    server.known_hosts.write_text(replaced + server.known_hosts.read_text())
    with SshTransport(server.settings()) as host:
        assert host.run(["echo", "in"]).text == "in\n"


@pytest.mark.parametrize("policy", list(HostKeyPolicy))
def test_a_revoked_host_key_is_refused_whatever_the_policy(server: Server, policy: HostKeyPolicy) -> None:
    server.know(server.host_key)
    line = server.known_hosts.read_text()
    for rest in (line, ""):
        server.known_hosts.write_text(f"@revoked * {line.split(' ', 1)[1]}{rest}")
        with (
            SshTransport(replace(server.settings(), host_key=policy)) as host,
            pytest.raises(HostKeyError, match="is revoked"),
        ):
            host.run(["true"])


def test_a_changed_host_key_is_refused_whatever_the_policy(server: Server) -> None:
    server.know(paramiko.ECDSAKey.generate())
    for policy in HostKeyPolicy:
        with (
            SshTransport(replace(server.settings(), host_key=policy)) as host,
            pytest.raises(HostKeyError, match="has changed"),
        ):
            host.run(["true"])


def test_a_new_host_key_may_be_accepted_and_is_not_written(server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    settings = replace(server.settings(), known_hosts=empty, host_key=HostKeyPolicy.accept_new)
    with SshTransport(settings) as host:
        assert host.run(["echo", "in"]).text == "in\n"
        server.break_connections()
        assert host.run(["echo", "again"]).text == "again\n"
        first, server.host_key = server.host_key, paramiko.ECDSAKey.generate()
        try:
            server.break_connections()
            with pytest.raises(HostKeyError, match="has changed"):
                host.run(["true"])
        finally:
            server.host_key = first
    assert empty.read_text() == ""


def test_a_known_hosts_file_that_is_absent_is_refused(server: Server, tmp_path: Path) -> None:
    settings = replace(server.settings(), known_hosts=tmp_path / "absent")
    with SshTransport(settings) as host, pytest.raises(InvalidValueError, match="known_hosts"):
        host.run(["true"])


def test_a_refused_connection_names_address_and_port() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with SshTransport(SshSettings("127.0.0.1", port=port)) as host, pytest.raises(UnreachableError) as caught:
        host.run(["true"])
    assert f"127.0.0.1 refuses connections on port {port}" in str(caught.value)


def test_a_silent_host_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings = SshSettings("127.0.0.1", port=silent.getsockname()[1], connect_timeout=0.5, use_agent=False)
        with SshTransport(settings) as host, pytest.raises(UnreachableError, match="the SSH connection failed"):
            host.run(["true"])


def test_a_name_that_is_none_is_reported() -> None:
    settings = SshSettings("no-such-host.invalid", connect_timeout=5)
    with SshTransport(settings) as host, pytest.raises(UnreachableError, match="invalid cannot be found"):
        host.run(["true"])


@pytest.mark.parametrize(
    "arguments",
    [
        {"address": ""},
        {"address": "-oProxyCommand=x"},
        {"address": "a b"},
        {"address": "a", "port": 0},
        {"address": "a", "port": 65536},
        {"address": "a", "user": ""},
        {"address": "a", "connect_timeout": 0},
    ],
)
def test_settings_that_cannot_be_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InvalidValueError):
        SshSettings(**arguments)  # type: ignore[arg-type]


def _runs(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except FileNotFoundError:
        return False


def test_output_that_is_lost_after_the_exit_status_is_no_result(server: Server) -> None:
    server.know(server.host_key)
    with SshTransport(server.settings()) as transport:
        assert transport.run(["echo", "one"]).text == "one\n"
        server.loses = b"the rest"
        try:
            with pytest.raises(
                UnreachableError, match=r"while a command ran\. Whether the command did its work is not known"
            ):
                transport.run(["echo", "the beginning, and the rest"])
        finally:
            server.loses = b""
