"""Calls that may block in C without end, and the deadline that a keyword sets for its calls.

Python handles a signal (Ctrl-C, Robot Framework's ``[Timeout]``) only between two steps of Python. So the thread that
handles signals must not be blocked in C: another thread makes the call, and the caller waits on a lock, which a signal
interrupts. A call that does not return is abandoned with its thread.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

from VpmemLibrary.transport.controller import start_thread

Result = TypeVar("Result")

_SLICE = 1.0
"""Seconds after which a wait lets Python handle a signal that the kernel gave to another thread."""

_LEAST = 5.0
"""Seconds that a call gets after its keyword's deadline: what is reported then has to be read as well."""


class Call(Generic[Result]):
    """A call that a thread of its own makes.

    Args:
        work: The call.

    Example::

        call = Call(connection.getLibVersion)
        if not call.wait(60):
            ...  # it is abandoned
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
        """Wait until the call ends, and return whether it did within `seconds`; a signal interrupts the wait."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > _SLICE:
            if self._ended.wait(_SLICE):
                return True
        return self._ended.wait(max(left, 0))

    def result(self) -> Result:
        """Return what the call returned, or raise what it raised; it must have ended."""
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def make(self, before_end: Callable[[], None]) -> None:
        """Make the call, in this thread.

        Args:
            before_end: What is done before anybody learns that the call ended.
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
    """A thread that makes one call after the other. It is idle again once an abandoned call returns after all."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[Call[Any]] = SimpleQueue()
        # A daemon thread: the interpreter does not wait for a call that was abandoned.
        start_thread(self._serve, "bounded call")

    def make(self, call: Call[Any]) -> None:
        """Make a call."""
        self._calls.put(call)

    def _serve(self) -> None:
        while True:
            self._calls.get().make(lambda: _idle.append(self))


_idle: deque[_Worker] = deque()


def _worker() -> _Worker:
    """Return an idle worker: a new thread for each call would cost more than most calls do."""
    try:
        return _idle.pop()
    except IndexError:
        return _Worker()


@dataclass(frozen=True, slots=True)
class _Scope:
    deadline: float
    least: float


_scopes = threading.local()


@contextlib.contextmanager
def within(seconds: float) -> Iterator[float]:
    """Let every libvirt call in the ``with`` end `seconds` from now, or at the deadline of an outer ``with``.

    Args:
        seconds: Seconds from now.

    Returns:
        The deadline, by ``time.monotonic``.

    Example::

        with within(timeout) as deadline:
            guest.shut_down()
    """
    outer: _Scope | None = getattr(_scopes, "current", None)
    scope = _Scope(time.monotonic() + seconds, min(seconds, _LEAST))
    if outer is not None and outer.deadline < scope.deadline:
        scope = outer
    _scopes.current = scope
    try:
        yield scope.deadline
    finally:
        _scopes.current = outer


def limited(seconds: float) -> float:
    """Return how many of `seconds` a call may take here: what is left in the ``with`` of `within`."""
    scope: _Scope | None = getattr(_scopes, "current", None)
    if scope is None:
        return seconds
    return min(seconds, max(scope.deadline - time.monotonic(), scope.least))
