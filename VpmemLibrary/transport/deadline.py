"""Run functions that may block in C without end.

Python handles a signal (Ctrl-C, Robot Framework's ``[Timeout]``) only between two Python instructions. So the thread
that handles signals must not block in C. Another thread makes the call, and the caller waits on a lock, which a signal
interrupts. A call that does not return is abandoned together with its thread.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from VpmemLibrary.transport.controller import start_thread

Result = TypeVar("Result")

_SLICE = 1.0
"""Seconds after which a wait lets Python handle a signal that the kernel delivered to another thread."""


def call_with_deadline(seconds: float, work: Callable[[], Result]) -> Result:
    """Run a function in another thread. Return its result, or raise its error.

    Args:
        seconds: Seconds to wait. At the deadline, this call ends, but the thread continues.
        work: The function to run.

    Raises:
        TimeoutError: The function did not end in time.
        ControllerError: No thread can be started.

    Example: ``call_with_deadline(15, lambda: socket.getaddrinfo("rack1", 22))``.
    """
    call = Call(work)
    if not call.wait(seconds):
        raise TimeoutError(f"It did not end within {seconds:g} s")
    return call.result()


class Call(Generic[Result]):
    """A call in a separate thread.

    Args:
        work: The call.

    Example::

        call = Call(connection.getLibVersion)
        if not call.wait(60):
            ...  # the call is abandoned
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work: Callable[[], Result] | None = work
        self._ended = threading.Event()
        self._outcome: list[Result] = []
        self._error: BaseException | None = None
        _worker().make(self)

    @property
    def ended(self) -> bool:
        """Whether the call returned or raised."""
        return self._ended.is_set()

    @property
    def succeeded(self) -> bool:
        """Whether the call returned."""
        return self.ended and self._error is None

    def wait(self, seconds: float) -> bool:
        """Wait until the call ends, and return whether it ended within `seconds`. A signal interrupts the wait."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > _SLICE:
            if self._ended.wait(_SLICE):
                return True
        return self._ended.wait(max(left, 0))

    def result(self) -> Result:
        """Return the result of the call, or raise its exception. The call must have ended."""
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def make(self, before_end: Callable[[], None]) -> None:
        """Make the call, in this thread.

        Args:
            before_end: Runs before other threads see that the call ended.
        """
        work, self._work = self._work, None
        try:
            if work is not None:
                self._outcome.append(work())
        except BaseException as error:
            self._error = error
        finally:
            before_end()
            self._ended.set()


class _Worker:
    """A thread that makes one call after another. It is idle again after an abandoned call returns."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call[Any]] = SimpleQueue()
        # A daemon thread, so that the interpreter does not wait for an abandoned call when it exits.
        start_thread(self._serve, "bounded call")

    def make(self, call: Call[Any]) -> None:
        """Queue a call for this thread."""
        self._calls.put(call)

    def _serve(self) -> None:
        while True:
            self._calls.get().make(lambda: _idle.append(self))


_idle: deque[_Worker] = deque()
os.register_at_fork(after_in_child=_idle.clear)  # a forked process has none of the threads


def _worker() -> _Worker:
    """Return an idle worker, because a new thread for each call would cost more than most calls."""
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()
