"""The SSH transport, against a real SSH server in this process that really runs the commands."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import paramiko
import pytest
from ssh_server import PASSWORD, Server

from VpmemLibrary.errors import (
    AccessDeniedError,
    CommandTimeoutError,
    HostKeyError,
    InvalidValueError,
    UnreachableError,
)
from VpmemLibrary.host.ssh import HostKeyPolicy, SshSettings, SshTransport


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
    assert not [pid for pid in pids.read_text().split() if Path(f"/proc/{pid}/cmdline").exists() and _runs(pid)]
    assert host.run(["echo", "still there"]).text == "still there\n"


def test_a_broken_connection_says_that_the_effect_is_unknown_and_the_next_command_connects_anew(
    host: SshTransport, server: Server
) -> None:
    host.run(["true"])
    threading.Timer(0.3, server.break_connections).start()
    with pytest.raises(UnreachableError, match=r"whether it did its work is not known: sleep 30"):
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


def test_an_unknown_host_key_is_refused_with_its_fingerprint_and_the_mend(server: Server, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    with SshTransport(replace(server.settings(), known_hosts=empty)) as host, pytest.raises(HostKeyError) as caught:
        host.run(["true"])
    assert server.host_key.get_name() in str(caught.value)
    assert "SHA256:" in str(caught.value)
    assert str(empty) in str(caught.value)
    assert f"ssh-keyscan -p {server.port} 127.0.0.1" in str(caught.value)
    assert empty.read_text() == ""


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
        with SshTransport(settings) as host, pytest.raises(UnreachableError, match="no SSH connection came about"):
            host.run(["true"])


def test_a_name_that_is_none_is_told() -> None:
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
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
