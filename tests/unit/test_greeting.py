"""What servers send before SSH begins: each is passed over, tried again, or named."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer
from ssh_server import Server

from VpmemLibrary.errors import UnreachableError
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport
from VpmemLibrary.transport.tcp import connect_tcp


@contextlib.contextmanager
def serving(serve: Callable[[socket.socket], None]) -> Iterator[tuple[int, list[float]]]:
    """A server that treats each connection in one way; its port, and when there was a connection."""
    times: list[float] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    times.append(time.monotonic())
                    threading.Thread(target=treat, args=(connection,), daemon=True).start()

        def treat(connection: socket.socket) -> None:
            with connection, contextlib.suppress(OSError):
                serve(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], times
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)


def says(*texts: bytes, stays: bool = False) -> Callable[[socket.socket], None]:
    """Return what sends texts and ends the connection, or waits for the other side to end it."""

    def serve(connection: socket.socket) -> None:
        for text in texts:
            connection.sendall(text)
        if stays:
            while connection.recv(1000):
                pass
        else:
            connection.recv(1000)

    return serve


def error_of(port: int, connect_timeout: float = 1) -> str:
    settings = SshSettings("127.0.0.1", port=port, connect_timeout=connect_timeout, use_agent=False)
    with SshTransport(settings) as host, pytest.raises(UnreachableError) as caught:
        host.run(["true"])
    return str(caught.value)


@pytest.mark.parametrize(
    ("serve", "message"),
    [
        (says(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n"), "It sent: HTTP/1.1 400 Bad Request"),
        (says(b"220 mail.example.com ESMTP Postfix\r\n", stays=True), "It sent: 220 mail.example.com ESMTP Postfix"),
        (says(b"RFB 003.008\n", stays=True), "It sent: RFB 003.008"),
        (says(b"\x16\x03\x01\xff\xff" * 3, stays=True), r"It sent: \\x16\\x03\\x01"),
        (says(b"login: ", stays=True), "It sent: login:"),
        (says(b"Not allowed at this time\r\n"), "PerSourcePenalties"),
        (says(b"Exceeded MaxStartups\r\n"), r"raise MaxStartups .* in its sshd_config"),
        (says(), "raise MaxStartups"),
        (lambda connection: connection.close(), "raise MaxStartups"),
    ],
)
def test_what_is_no_ssh_server_is_named(serve: Callable[[socket.socket], None], message: str) -> None:
    with serving(serve) as (port, _):
        text = error_of(port)
    assert re.search(message, text), text
    assert f"127.0.0.1 port {port}" in text


@pytest.mark.parametrize("text", [b"x\r\n", b"", b"y" * 100_000])
def test_a_server_that_talks_without_end_is_given_up(text: bytes) -> None:
    def serve(connection: socket.socket) -> None:
        while True:
            connection.sendall(text or b"z")
            time.sleep(0 if text else 0.01)

    started = time.monotonic()
    with serving(serve) as (port, _):
        assert "is no SSH server. It sent" in error_of(port)
    assert time.monotonic() - started < 20


def test_a_server_that_drops_connections_is_tried_again_for_a_time() -> None:
    with serving(says()) as (port, times):
        error_of(port, 2)
    assert 2 <= len(times) <= 12
    with serving(says(b"Not allowed at this time\r\n")) as (port, times):
        error_of(port, 2)
    assert len(times) == 1


@pytest.mark.parametrize("lines", [1, 500, 1000])
@pytest.mark.parametrize("slowly", [False, True])
def test_lines_before_the_version_are_passed_over(tmp_path: Path, lines: int, slowly: bool) -> None:
    server = Server(tmp_path)
    before = b"Authorized use only \xff\xfe\r\n" * lines

    def serve(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", server.port)) as real:
            threading.Thread(target=lambda: _carry(connection, real), daemon=True).start()
            for start in range(0, len(before), 5000 if not slowly else len(before) // 10):
                connection.sendall(before[start : start + (5000 if not slowly else len(before) // 10)])
                time.sleep(0.02 if slowly else 0)
            _carry(real, connection)

    with serving(serve) as (port, _):
        server.known_hosts.write_text(server.known_hosts.read_text().replace(str(server.port), str(port)))
        with SshTransport(replace(server.settings(), port=port)) as host:
            assert host.run(["echo", "in"]).text == "in\n"
    server.close()


def test_a_connection_that_was_dropped_while_the_server_was_busy_is_made(tmp_path: Path) -> None:
    server = Server(tmp_path)
    dropped: list[int] = []

    def dial(address: str, port: int, timeout: float) -> socket.socket:
        connection = connect_tcp(address, port, timeout)
        if len(dropped) < 3:
            dropped.append(port)
            connection.close()
            connection, theirs = socket.socketpair()
            theirs.close()
        return connection

    with SshTransport(server.settings(), dial=dial) as host:
        assert host.run(["echo", "in"]).text == "in\n"
    assert len(dropped) == 3
    server.close()


@pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")
def test_many_controllers_come_through_a_server_that_takes_few_at_once(tmp_path: Path) -> None:
    server = OpensshServer(tmp_path, MaxStartups=1)
    try:
        settings = replace(server.settings(), connect_timeout=30)

        def come(number: int) -> str:
            with SshTransport(settings) as host:
                return host.run(["echo", str(number)]).text

        with ThreadPoolExecutor(6) as pool:
            assert list(pool.map(come, range(6))) == [f"{number}\n" for number in range(6)]
    finally:
        server.close()


def test_a_connection_that_a_router_forgot_is_left_for_a_new_one(tmp_path: Path) -> None:
    server = Server(tmp_path)
    settings = replace(server.settings(), connect_timeout=1)
    silent = threading.Event()
    links: list[object] = []

    class Forgotten:
        """A connection that takes all that is sent, and loses it."""

        def __init__(self, inner: socket.socket) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> object:
            return getattr(self._inner, name)

        def send(self, data: bytes) -> int:
            return len(data) if silent.is_set() else self._inner.send(data)

    def dial(address: str, port: int, timeout: float) -> socket.socket:
        connection = connect_tcp(address, port, timeout)
        links.append(connection)
        return Forgotten(connection) if len(links) == 1 else connection  # type: ignore[return-value]

    with SshTransport(settings, dial=dial) as host:
        assert host.run(["echo", "in"]).text == "in\n"
        silent.set()
        assert host.run(["echo", "again"]).text == "again\n"
        assert len(links) == 2
    server.close()


def _carry(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
