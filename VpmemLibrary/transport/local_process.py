"""A process of this machine that is under way: as a command with its outputs, or as a stream."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import selectors
import subprocess
import threading
import time
from collections.abc import Callable
from typing import IO

from VpmemLibrary.transport.output import Output

_CHUNK = 1 << 16
_GRACE = 2.0
_LOG = logging.getLogger(__name__)


class Execution:
    """A command under way: what it printed so far, and the wait for its end.

    Args:
        process: The command, with a pipe for each of its standard input and outputs.
        stdin: What the command reads.
    """

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        self.process = process
        self.stdout = Output()
        self.stderr = Output()
        self._started = time.monotonic()
        self._unsent = memoryview(stdin)
        self._selector = selectors.PollSelector()  # it takes no descriptor of its own
        for pipe, output in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            assert pipe is not None  # noqa: S101  it was asked for
            self._selector.register(pipe, selectors.EVENT_READ, self._reader(pipe, output))
        assert process.stdin is not None  # noqa: S101
        os.set_blocking(process.stdin.fileno(), False)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, self._send)
        if not stdin:
            self._finish(process.stdin)

    @property
    def seconds(self) -> float:
        """How long the command has been under way."""
        return time.monotonic() - self._started

    @property
    def too_large(self) -> bool:
        """Whether the command printed more than is kept."""
        return self.stdout.too_large or self.stderr.too_large

    def wait(self, timeout: float, *, limited: bool = True) -> bool:
        """Wait until the command has ended and its outputs are closed.

        Args:
            timeout: Seconds to wait.
            limited: Whether the wait ends as soon as the command printed too much.

        Returns:
            Whether the command has ended.
        """
        deadline = time.monotonic() + timeout
        while self._selector.get_map():
            left = deadline - time.monotonic()
            if left <= 0 or (limited and self.too_large):
                return False
            for key, _ in self._selector.select(left):
                key.data()
        try:
            self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Close the pipes, whether or not the command has ended."""
        for key in list(self._selector.get_map().values()):
            self._finish(key.fileobj)  # type: ignore[arg-type]  # pipes were registered

    def _reader(self, pipe: IO[bytes], output: Output) -> Callable[[], None]:
        def read() -> None:
            data = os.read(pipe.fileno(), _CHUNK)
            output.add(data)
            if not data:
                self._finish(pipe)

        return read

    def _send(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None  # noqa: S101  it was asked for
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent) :]
        except BrokenPipeError:  # the command may end without reading all of it
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._finish(pipe)

    def _finish(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        pipe.close()


class LocalStream:
    """A running command's standard input and output.

    Args:
        process: The command, with a pipe for its standard input and output, in a process group of its own.
        waker: An eventfd, which becomes the stream's: it wakes those who wait when the stream is closed.
        end: What ends the command with all that it started, and returns what is known if it was not seen to end.
    """

    def __init__(self, process: subprocess.Popen[bytes], waker: int, end: Callable[[], str]) -> None:
        assert process.stdin is not None  # noqa: S101  it was asked for
        assert process.stdout is not None  # noqa: S101
        self._process = process
        self._end = end
        self._input = process.stdin
        self._output = process.stdout
        self._sending, self._receiving, self._ending = threading.Lock(), threading.Lock(), threading.Lock()
        self._waker = waker
        self._closed = False
        os.set_blocking(self._input.fileno(), False)

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the stream was closed.
        """
        view = memoryview(data)
        with self._sending:
            while view:
                self._await(self._input, select.POLLOUT)
                view = view[os.write(self._input.fileno(), view) :]

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; ``b""`` at the end.

        Raises:
            OSError: The stream was closed.
        """
        with self._receiving:
            self._await(self._output, select.POLLIN)
            return os.read(self._output.fileno(), size)

    def close(self) -> None:
        """End the command's standard input, then the command if it does not end by itself.

        Closing twice is harmless.
        """
        with self._ending:
            if self._closed:
                return
            self._closed = True
        os.eventfd_write(self._waker, 1)
        with self._sending, self._receiving:
            os.close(self._waker)
            self._input.close()
            self._output.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            if remains := self._end():
                _LOG.warning("A stream was closed, but its command was not seen to end. %s.", remains)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)

    def _await(self, pipe: IO[bytes], event: int) -> None:
        """Wait until a pipe is ready; raise as soon as the stream is closed."""
        if not self._closed:
            poll = select.poll()
            poll.register(pipe, event)
            poll.register(self._waker, select.POLLIN)
            poll.poll()
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
