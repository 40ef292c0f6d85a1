"""An SSH agent in this process that answers as a test wants, beside the real ssh-agent."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from VpmemLibrary.transport.ssh.wire import packed

FAILURE = packed(bytes([5]))


@contextlib.contextmanager
def fake_agent(path: Path, answer: Callable[[bytes], bytes | None]) -> Iterator[list[bytes]]:
    """Run an agent for the time of the ``with``, and yield the requests that it got.

    Args:
        path: Its socket.
        answer: Returns the bytes to answer a request with; after None the agent says nothing and waits.
    """
    requests: list[bytes] = []
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()
    waiting: list[socket.socket] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                length = int.from_bytes(connection.recv(4, socket.MSG_WAITALL), "big")
                request = connection.recv(length, socket.MSG_WAITALL)
                requests.append(request)
                reply = answer(request)
                if reply is None:
                    waiting.append(connection)
                    continue
                with contextlib.suppress(OSError):
                    connection.sendall(reply)
                connection.close()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield requests
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(10)
        for connection in waiting:
            connection.close()


def identities(*keys: tuple[bytes, str]) -> bytes:
    """Return the answer that lists keys with their comments."""
    listed = b"".join(packed(blob, comment) for blob, comment in keys)
    return packed(bytes([12]) + len(keys).to_bytes(4, "big") + listed)


@contextlib.contextmanager
def real_agent(path: Path) -> Iterator[Callable[..., None]]:
    """Run ssh-agent for the time of the ``with``, and yield what runs ssh-add with arguments."""
    process = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()  # its socket is there
    environment = {**os.environ, "SSH_AUTH_SOCK": str(path)}

    def add(*arguments: object) -> None:
        subprocess.run(["ssh-add", "-q", *map(str, arguments)], env=environment, check=True)

    try:
        yield add
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()
