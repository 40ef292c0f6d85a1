"""Call functions that have no deadline of their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from VpmemLibrary.transport.controller import start_thread

T = TypeVar("T")


def call_with_deadline(seconds: float, work: Callable[[], T]) -> T:
    """Run a function in another thread. Return its result, or raise its error.

    Args:
        seconds: Seconds to wait. At the deadline, this call ends, but the thread continues.
        work: The function to run.

    Raises:
        TimeoutError: The function did not end in time.
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
