"""Give a deadline to a call that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from VpmemLibrary.transport.controller import start_thread

T = TypeVar("T")


def call_with_deadline(seconds: float, work: Callable[[], T]) -> T:
    """Run `work` in another thread. Return what it returns, or raise what it raises.

    Args:
        seconds: How long to wait. After that the thread continues unattended.
        work: The function to run.

    Raises:
        TimeoutError: `work` did not end in time.
        ControllerError: No thread can be started.

    Example: ``call_with_deadline(15, lambda: socket.getaddrinfo("rack1", 22))``.
    """
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(work())
        except BaseException as error:  # re-raised in the waiting thread
            raised.append(error)

    thread = start_thread(run, "within a deadline")
    thread.join(seconds)
    if raised:
        raise raised[0]
    if not returned:
        raise TimeoutError(f"It did not end within {seconds:g} s")
    return returned[0]
