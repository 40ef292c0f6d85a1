"""A process that runs on this machine: a command with its outputs, or a stream."""

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
from concurrent.futures import Future, wait
from typing import IO

from VpmemLibrary.errors import ControllerError
from VpmemLibrary.transport.deadline import Call
from VpmemLibrary.transport.output import Output

_CHUNK = 1 << 16
_GRACE = 2.0
_START_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


def start_or_end(start: Callable[[], subprocess.Popen[bytes]], end: Callable[[int], object]) -> subprocess.Popen[bytes]:
    """Start a process. If the caller is interrupted meanwhile, end the process.

    Ctrl-C or a keyword's timeout raises its exception between any two steps of the main thread, also when the process
    exists but its number is not known yet. No other thread is interrupted, so another thread starts the process. That
    thread does not end, because its end would send the process its parent-death signal (PR_SET_PDEATHSIG(2const)).

    Args:
        start: Starts the process.
        end: Ends the process of this number.

    Raises:
        OSError: The process cannot be started.
        ControllerError: No thread can be started.
    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def work() -> None:
        try:
            started.set_result(start())
        except BaseException as error:  # the caller's thread raises it
            started.set_exception(error)

    try:
        Call(work)
        return started.result()
    except ControllerError:
        raise
    except BaseException:
        wait([started], _START_SECONDS)  # it is done if the process could not be started
        if started.done() and started.exception() is None:
            end(started.result().pid)
        raise


class Execution:
    """A running command: collects its output and waits for its end."""

    def __init__(self, process: subprocess.Popen[bytes], stdin: bytes) -> None:
        self.process = process
        self.stdout = Output()
        self.stderr = Output()
        self._started = time.monotonic()
        self._unsent = memoryview(stdin)
        self._selector = selectors.PollSelector()  # unlike epoll, poll needs no descriptor
        for pipe, output in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            assert pipe is not None  # noqa: S101  the process has this pipe
            self._selector.register(pipe, selectors.EVENT_READ, self._reader(pipe, output))
        assert process.stdin is not None  # noqa: S101
        os.set_blocking(process.stdin.fileno(), False)
        self._selector.register(process.stdin, selectors.EVENT_WRITE, self._send)
        if not stdin:
            self._finish(process.stdin)

    @property
    def seconds(self) -> float:
        """The seconds since the command's start."""
        return time.monotonic() - self._started

    @property
    def too_large(self) -> bool:
        """Whether an output of the command is larger than `OUTPUT_LIMIT`."""
        return self.stdout.too_large or self.stderr.too_large

    def wait(self, timeout: float, *, limited: bool = True) -> bool:
        """Wait until the command has ended and its outputs are closed.

        Args:
            timeout: Seconds to wait.
            limited: Stop waiting as soon as an output is too large.

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
        """Close the pipes, also if the command still runs."""
        for key in list(self._selector.get_map().values()):
            self._finish(key.fileobj)  # type: ignore[arg-type]  # only pipes were registered

    def _reader(self, pipe: IO[bytes], output: Output) -> Callable[[], None]:
        def read() -> None:
            data = os.read(pipe.fileno(), _CHUNK)
            output.add(data)
            if not data:
                self._finish(pipe)

        return read

    def _send(self) -> None:
        pipe = self.process.stdin
        assert pipe is not None  # noqa: S101  the process has this pipe
        try:
            self._unsent = self._unsent[os.write(pipe.fileno(), self._unsent) :]
        except BrokenPipeError:  # the command may end before it reads all input
            self._unsent = memoryview(b"")
        if not self._unsent:
            self._finish(pipe)

    def _finish(self, pipe: IO[bytes]) -> None:
        self._selector.unregister(pipe)
        pipe.close()


class LocalStream:
    """A running command's standard input and output.

    Args:
        process: The command, with a pipe for its standard input and output, in its own process group.
        waker: An eventfd, which the stream then owns. It wakes the waiting threads when the stream is closed.
        end: Ends the command and all its processes. Returns a message if a process may still run.
    """

    def __init__(self, process: subprocess.Popen[bytes], waker: int, end: Callable[[], str]) -> None:
        assert process.stdin is not None  # noqa: S101  the process has both pipes
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
        """Return at most `size` bytes as soon as some arrive, or ``b""`` at the end.

        Raises:
            OSError: The stream was closed.
        """
        with self._receiving:
            self._await(self._output, select.POLLIN)
            return os.read(self._output.fileno(), size)

    def close(self) -> None:
        """Close the command's standard input. End the command if it keeps running. A second call has no effect."""
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
        """Wait until a pipe is ready. Raise as soon as the stream is closed."""
        if not self._closed:
            poll = select.poll()
            poll.register(pipe, event)
            poll.register(self._waker, select.POLLIN)
            poll.poll()
        if self._closed:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
