"""A unix socket of this process's own, whose connections are carried to a command on a host."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.transport import Stream

_CHUNK = 1 << 16
_GRACE = 5.0


class Relay:
    """A unix socket in a directory that only this user can enter; each connection to it becomes a stream.

    Args:
        connect: What opens a stream on the host.

    Example::

        relay = Relay(lambda: transport.stream(["virt-ssh-helper", "qemu:///system"]))
        libvirt.open(f"qemu+unix:///system?mode=legacy&socket={relay.path}")
    """

    def __init__(self, connect: Callable[[], Stream]) -> None:
        self.failure: VpmemError | None = None
        """Why the last stream could not be opened; None when it could."""
        self._connect = connect
        self._lock = threading.Lock()
        self._closed = False
        self._ends: list[tuple[socket.socket, Stream]] = []
        self._threads: list[threading.Thread] = []
        self._directory = Path(tempfile.mkdtemp(prefix="vpmem-"))
        self.path = self._directory / "socket"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(self.path))
            self._listener.listen(1)
        except OSError:
            self._listener.close()
            shutil.rmtree(self._directory, ignore_errors=True)
            raise
        self._start("accept", self._accept)

    def close(self) -> None:
        """End all connections and their threads, and remove the socket; ending it twice is harmless."""
        with self._lock:
            self._closed = True
            ends, self._ends = self._ends, []
            threads, self._threads = self._threads, []
        with contextlib.suppress(OSError):  # it wakes the thread that accepts
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end, stream in ends:
            _hang_up(end)
            stream.close()
        for thread in threads:
            thread.join(_GRACE)
        for end, _ in ends:
            end.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                stream = self._connect()
            except (VpmemError, OSError) as error:  # libvirt's client sees the end of its connection; see `failure`
                self.failure = error if isinstance(error, VpmemError) else VpmemError(str(error))
                end.close()
                continue
            with self._lock:
                if not self._closed:
                    self._ends.append((end, stream))
            if self._closed:
                stream.close()
                end.close()
                return
            self._start("to the host", _carry, end.recv, stream.send, stream.close)
            self._start("from the host", _carry, stream.recv, end.sendall, lambda end=end: _hang_up(end))

    def _start(self, what: str, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name=f"relay {what}", daemon=True)
        with self._lock:
            if not self._closed:
                self._threads.append(thread)
        thread.start()


def _carry(receive: Callable[[int], bytes], send: Callable[[bytes], None], finish: Callable[[], None]) -> None:
    try:
        with contextlib.suppress(OSError, EOFError):  # either side may end at any time
            while data := receive(_CHUNK):
                send(data)
    finally:
        with contextlib.suppress(OSError, EOFError):
            finish()


def _hang_up(end: socket.socket) -> None:
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
