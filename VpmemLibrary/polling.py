"""Poll for a condition until a deadline. This is the only module of the library that sleeps."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.visible import message

T = TypeVar("T")

_LOG = logging.getLogger(__name__)

_FIRST_REPORT = 5.0
"""Seconds of waiting after which the log says what the library waits for. Each next report comes after twice the time
of the report before."""


class Attempt:
    """One attempt of a poll.

    Args:
        number: The number of the attempt; the first attempt is 1.
        seconds: The seconds since the first attempt began.
    """

    def __init__(self, number: int, seconds: float) -> None:
        self.number = number
        self.seconds = seconds
        self.state = ""
        """Why the attempt did not succeed. The caller sets it, and the report in the log shows it."""


def attempts(
    purpose: str,
    *,
    timeout: float,
    interval: float | Iterator[float],
    pause: Callable[[float], object] | None = None,
) -> Iterator[Attempt]:
    """Yield for each attempt of a poll: at once, and then after each interval. The last attempt is at the deadline.

    The caller leaves the loop when an attempt succeeds. So the code after the loop handles the timeout. Prefer `poll`
    unless an attempt has more than one outcome.

    Args:
        purpose: What the caller waits for, to follow the words "waiting for" in the log.
        timeout: Seconds until the deadline. 0 allows one attempt. Pass ``limited(timeout)`` to keep the deadline of a
            ``with within(...)`` block as well.
        interval: Seconds between two attempts, or an endless iterator of them, such as `growing`.
        pause: Waits for at most the given seconds, e.g. for an event. The default is to sleep.

    Example::

        for attempt in attempts("a free host", timeout=60, interval=1):
            for host in hosts:
                if is_free(host):
                    return host
            attempt.state = "all hosts are reserved"
        raise BusyError("No host was free within 60 s.")
    """
    started = time.monotonic()
    deadline = started + timeout
    report = started + _FIRST_REPORT
    intervals = itertools.repeat(interval) if isinstance(interval, float | int) else interval
    for number in itertools.count(1):
        attempt = Attempt(number, time.monotonic() - started)
        yield attempt
        now = time.monotonic()
        if now >= deadline:
            return
        if now >= report:
            report += report - started
            state = f": {attempt.state}" if attempt.state else ""
            _LOG.info("%s", message(f"Still waiting for {purpose}, {now - started:.0f} s of {timeout:g} s{state}"))
        (pause or time.sleep)(min(next(intervals), deadline - now))


def poll(
    condition: Callable[[], T | None],
    purpose: str,
    *,
    timeout: float,
    interval: float | Iterator[float],
    failure: Callable[[Exception | None], Exception] | None = None,
    retry_on: type[Exception] | tuple[type[Exception], ...] = (),
    pause: Callable[[float], object] | None = None,
) -> T:
    """Call `condition` until it returns a result, at most until a deadline.

    Args:
        condition: The function to call. None and False mean that the condition is not met yet.
        purpose: What the caller waits for, to follow the words "waiting for" in the log.
        timeout: Seconds until the deadline, as for `attempts`.
        interval: Seconds between two calls, as for `attempts`.
        failure: Returns the error to raise at the deadline. Its argument is the error of the last call if `retry_on`
            allows it, else None. By default, the error of the last call is raised.
        retry_on: The errors of `condition` that mean "not yet". Other errors are raised at once.
        pause: As for `attempts`.

    Returns:
        The first result that is neither None nor False.

    Raises:
        Exception: The error that `failure` returns, at the deadline.
        VpmemError: The deadline has passed, and there is neither `failure` nor an error of the last call.

    Example::

        poll(
            lambda: machine.process is None,
            "the machine to end",
            timeout=30,
            interval=0.1,
            failure=lambda _: LabError("The machine did not end within 30 s."),
        )
    """
    error: Exception | None = None
    for attempt in attempts(purpose, timeout=timeout, interval=interval, pause=pause):
        error = None
        try:
            result = condition()
        except retry_on as refusal:
            error = refusal
            attempt.state = str(refusal)
        else:
            if result is not None and result is not False:
                return result
    if failure is not None:
        raise failure(error) from error
    raise error or VpmemError(f"Waited {timeout:g} s for {purpose}, without success.")


def growing(first: float, longest: float, factor: float = 2.0) -> Iterator[float]:
    """Yield intervals for `poll`: the first one, and each next one longer by `factor`, up to `longest` seconds."""
    interval = first
    while True:
        yield interval
        interval = min(interval * factor, longest)
