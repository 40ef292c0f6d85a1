"""The polling helper: its attempts, its deadline, its reports, and that no other module sleeps."""

from __future__ import annotations

import ast
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest
from fake_clock import FakeClock, fake_clock

import VpmemLibrary
from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.polling import attempts, growing, poll

PACKAGE = Path(VpmemLibrary.__file__).parent

SLEEPERS = {
    "polling.py": "the helper itself",
    "guest/channel/libvirt_session.py": "the event loop waits for a free file descriptor, without a deadline",
}
"""The modules that may sleep, each with the reason."""


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with fake_clock("VpmemLibrary.polling") as clock:
        yield clock


def after(clock: FakeClock, seconds: float) -> Callable[[], str | None]:
    """Return a condition that is met after some seconds."""
    start = clock.now
    return lambda: "met" if clock.now - start >= seconds else None


def late(error: Exception | None) -> Exception:
    return BusyError(f"Too late: {error}")


def test_a_met_condition_is_not_waited_for(clock: FakeClock) -> None:
    started = clock.now
    assert poll(lambda: 0, "zero", timeout=60, interval=1, failure=late) == 0
    assert clock.now - started < 0.1


@pytest.mark.parametrize("unmet", [None, False])
def test_the_condition_is_called_until_it_is_met(clock: FakeClock, unmet: bool | None) -> None:
    answers: Iterator[bool | None] = iter([unmet, unmet, True])
    started = clock.now
    assert poll(lambda: next(answers), "an answer", timeout=60, interval=1, failure=late) is True
    assert clock.now - started == pytest.approx(2, abs=0.1)


def test_the_last_attempt_is_at_the_deadline(clock: FakeClock) -> None:
    assert poll(after(clock, 2.5), "it", timeout=2.5, interval=1, failure=late) == "met"
    started = clock.now
    with pytest.raises(BusyError, match=r"^Too late: None$"):
        poll(after(clock, 2.6), "it", timeout=2.5, interval=1, failure=late)
    assert clock.now - started == pytest.approx(2.5, abs=0.1)


def test_no_time_means_one_attempt(clock: FakeClock) -> None:
    assert [attempt.number for attempt in attempts("it", timeout=0, interval=1)] == [1]


def test_an_attempt_that_takes_longer_than_the_deadline_is_the_last(clock: FakeClock) -> None:
    numbers = []
    for attempt in attempts("it", timeout=5, interval=1):
        numbers.append(attempt.number)
        clock.now += 7
    assert numbers == [1]


def test_an_attempt_knows_how_long_the_poll_has_taken(clock: FakeClock) -> None:
    seconds = [attempt.seconds for attempt in attempts("it", timeout=3, interval=1)]
    assert seconds == pytest.approx([0, 1, 2, 3], abs=0.1)


def test_allowed_errors_are_retried_and_reach_the_failure(clock: FakeClock) -> None:
    def condition() -> bool:
        raise UnreachableError("no route")

    with pytest.raises(BusyError, match=r"^Too late: no route$") as caught:
        poll(condition, "it", timeout=3, interval=1, failure=late, retry_on=UnreachableError)
    assert isinstance(caught.value.__cause__, UnreachableError)


def test_the_default_failure_is_the_last_error(clock: FakeClock) -> None:
    errors = iter([UnreachableError("first"), UnreachableError("second")])

    def condition() -> bool:
        raise next(errors)

    with pytest.raises(UnreachableError, match=r"^second$") as caught:
        poll(condition, "it", timeout=1, interval=1, retry_on=UnreachableError)
    assert caught.value.__cause__ is None


def test_the_default_failure_names_the_purpose_if_there_was_no_error(clock: FakeClock) -> None:
    with pytest.raises(VpmemError, match=r"^Waited 1 s for a free host, without success\.$"):
        poll(lambda: None, "a free host", timeout=1, interval=1)


def test_an_error_is_forgotten_when_the_next_attempt_only_fails(clock: FakeClock) -> None:
    calls = iter([True, False])

    def condition() -> None:
        if next(calls):
            raise UnreachableError("no route")

    with pytest.raises(BusyError, match=r"^Too late: None$"):
        poll(condition, "it", timeout=1, interval=1, failure=late, retry_on=UnreachableError)


def test_other_errors_are_raised_at_once(clock: FakeClock) -> None:
    def condition() -> bool:
        raise UnreachableError("no route")

    started = clock.now
    with pytest.raises(UnreachableError):
        poll(condition, "it", timeout=60, interval=1, failure=late, retry_on=BusyError)
    assert clock.now - started < 0.1


def test_intervals_may_grow(clock: FakeClock) -> None:
    assert list(islice(growing(1, 5), 4)) == [1, 2, 4, 5]
    seconds = [attempt.seconds for attempt in attempts("it", timeout=9, interval=growing(1, 3, 3))]
    assert seconds == pytest.approx([0, 1, 4, 7, 9], abs=0.1)


def test_the_caller_may_wait_for_an_event_instead_of_sleeping(clock: FakeClock) -> None:
    paused = []

    def pause(seconds: float) -> bool:
        paused.append(seconds)
        clock.sleep(seconds / 2)
        return True

    assert poll(after(clock, 1), "it", timeout=60, interval=1, failure=late, pause=pause) == "met"
    assert paused == [1, 1]


def test_a_long_wait_is_reported_with_its_state(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for attempt in attempts("a free host", timeout=50, interval=1):
        attempt.state = "rack1 is reserved\x1b"
    assert [record.getMessage() for record in caplog.records] == [
        f"Still waiting for a free host, {seconds} s of 50 s: rack1 is reserved\\x1b" for seconds in (5, 10, 20, 40)
    ]


def test_a_short_wait_is_not_reported(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for _ in attempts("it", timeout=4, interval=1):
        pass
    assert not caplog.records


def test_no_other_module_sleeps() -> None:
    sleepers = set()
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            named = isinstance(node, ast.Attribute) and node.attr == "sleep"
            imported = isinstance(node, ast.ImportFrom) and any(name.name == "sleep" for name in node.names)
            if named or imported:
                sleepers.add(str(path.relative_to(PACKAGE)))
    assert sleepers == set(SLEEPERS)
