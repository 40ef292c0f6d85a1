"""A unix socket of this process that connects one client to a command on a host."""

from __future__ import annotations

import atexit
import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

from VpmemLibrary.errors import ControllerError, VpmemError
from VpmemLibrary.transport.base import Stream
from VpmemLibrary.transport.controller import start_thread, too_little
from VpmemLibrary.transport.deadline import Call
from VpmemLibrary.transport.short_path import socket_directory

_CHUNK = 1 << 16
_GRACE = 5.0
_SOCKET = "socket"


class Relay:
    """A unix socket in a private directory of this user. Its first client is connected to a stream on the host.

    The directory is removed as soon as a client is connected, so that a killed process leaves no directory behind.

    Args:
        connect: Opens a stream on the host.

    Example::

        relay = Relay(lambda: transport.stream(["virt-ssh-helper", "qemu:///system"]))
        libvirt.open(f"qemu+unix:///system?mode=legacy&socket={relay.path}")
    """

    def __init__(self, connect: Callable[[], Stream]) -> None:
        self.failure: VpmemError | None = None
        """The error of a stream that did not open, else None."""
        self.answered = False
        """Whether the host sent any bytes."""
        self._connect = connect
        self._lock = threading.Lock()
        self._closed = False
        self._end: socket.socket | None = None
        self._stream: Stream | None = None
        self._threads: list[threading.Thread] = []
        self._finish: Call[None] | None = None
        self._directory = socket_directory(_SOCKET)
        self.path = self._directory / _SOCKET
        try:
            self._listener = _listener(self.path)
        except OSError as error:
            self._remove_socket()
            raise too_little("make a socket", f"{self.path}: {error.strerror or error}") from error
        _unsevered.add(self)
        try:
            self._start("accept", self._serve)
        except ControllerError:
            self.sever()
            self._listener.close()
            raise

    @property
    def is_cut(self) -> bool:
        """Whether this process broke the connection."""
        return self._closed

    def cut(self) -> None:
        """Break the connection at once, so that the client's calls fail. Cutting twice is harmless.

        Another thread closes the stream, because closing takes long if the host does not answer.
        """
        if self.sever() and self._finish is None:
            self._finish = Call(self._end_all)

    def close(self) -> None:
        """Break the connection and wait until the stream is closed. Closing twice is harmless."""
        self.cut()
        if self._finish is not None:
            self._finish.wait(_GRACE)

    def sever(self) -> bool:
        """Break the client's connection, and return whether it was still connected. This method never blocks."""
        with self._lock:
            before, self._closed = self._closed, True
            end = self._end
        _unsevered.discard(self)
        with contextlib.suppress(OSError):  # this wakes the thread in accept(), which closes the listener
            self._listener.shutdown(socket.SHUT_RDWR)
        self._remove_socket()
        if end is not None:
            _hang_up(end)
        return not before

    def _remove_socket(self) -> None:
        """Remove the socket and its directory. Unlike shutil.rmtree, this needs no free descriptor."""
        with contextlib.suppress(OSError):  # both may be gone
            self.path.unlink(missing_ok=True)
            self._directory.rmdir()

    def _end_all(self) -> None:
        with self._lock:
            stream, threads = self._stream, self._threads
        if stream is not None:
            stream.close()
        for thread in threads:
            thread.join(_GRACE)
        if self._end is not None:
            self._end.close()

    def _serve(self) -> None:
        try:
            end, _ = self._listener.accept()
        except OSError:  # severed
            return
        finally:
            self._listener.close()
            self._remove_socket()
        with self._lock:
            self._end = end
            closed = self._closed
        if closed:
            end.close()
            return
        try:
            stream = self._connect()
        except (VpmemError, OSError) as error:  # libvirt's client only sees that its connection ended; see `failure`
            self.failure = error if isinstance(error, VpmemError) else VpmemError(str(error))
            _hang_up(end)
            return
        with self._lock:
            self._stream = stream
            closed = self._closed
        if closed:
            stream.close()
            return

        def receive(size: int) -> bytes:
            data = stream.recv(size)
            self.answered = self.answered or bool(data)
            return data

        try:
            self._start("to the host", lambda: _carry(end.recv, stream.send, stream.close))
            self._start("from the host", lambda: _carry(receive, end.sendall, lambda: _hang_up(end)))
        except ControllerError as error:
            self.failure = error
            _hang_up(end)
            stream.close()

    def _start(self, what: str, work: Callable[[], None]) -> None:
        thread = start_thread(work, f"relay {what}")
        with self._lock:
            if not self._closed:
                self._threads.append(thread)


def _listener(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        listener.listen(1)
    except BaseException:
        listener.close()
        raise
    return listener


_unsevered: set[Relay] = set()


@atexit.register
def _sever_all() -> None:
    """Break all connections before the interpreter frees libvirt's objects, which would wait for a silent daemon."""
    for relay in list(_unsevered):
        relay.sever()


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
