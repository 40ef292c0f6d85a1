"""Calls that may block without end: they are made by another thread, and a signal interrupts the wait for them."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline, limit_to_deadline
from VpmemLibrary.transport.deadline import Call

LONG = 30.0
"""Seconds that no test here lasts, though the machine is busy."""


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a call waits for in a test; at its end no call is left waiting."""
    opened = threading.Event()
    yield opened
    opened.set()


class AlarmError(Exception):
    """What a signal handler raises, as Robot Framework's for [Timeout] does."""


@pytest.fixture
def alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise AlarmError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def test_a_call_returns_or_raises_to_its_caller() -> None:
    call = Call(lambda: 7)
    assert call.wait(LONG)
    assert (call.result(), call.succeeded) == (7, True)
    failing = Call(lambda: int("x"))
    assert failing.wait(LONG)
    assert not failing.succeeded
    with pytest.raises(ValueError, match="invalid literal"):
        failing.result()


def test_a_call_that_does_not_end_is_not_waited_for(gate: threading.Event) -> None:
    call = Call(gate.wait)
    assert not call.wait(0.05)
    assert not call.ended
    gate.set()
    assert call.wait(LONG)


@pytest.mark.usefixtures("alarm")
def test_a_signal_interrupts_the_wait_for_a_call(gate: threading.Event) -> None:
    call = Call(gate.wait)
    began = time.monotonic()
    with pytest.raises(AlarmError):
        call.wait(LONG)
    assert time.monotonic() - began < LONG / 2
    assert not call.ended


def test_a_signal_that_another_thread_got_interrupts_the_wait_as_well(gate: threading.Event) -> None:
    gc.collect()  # what is raised in the __del__ of another test's connection is lost
    with pytest.raises(KeyboardInterrupt):
        Call(lambda: signal.raise_signal(signal.SIGINT))
        Call(gate.wait).wait(LONG)


def test_calls_share_a_thread_and_one_that_is_blocked_delays_no_other(gate: threading.Event) -> None:
    def made_by() -> int:
        call = Call(threading.get_ident)
        assert call.wait(LONG)
        return call.result()

    assert made_by() == made_by()
    blocked = Call(gate.wait)
    assert made_by() != threading.get_ident()
    assert not blocked.ended


def test_a_forked_process_has_threads_of_its_own() -> None:
    assert Call(threading.get_ident).wait(LONG)
    child = os.fork()
    if not child:
        os._exit(0 if Call(threading.get_ident).wait(LONG) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_call_may_take_what_is_left_of_its_keywords_time() -> None:
    assert limit_to_deadline(60) == 60
    with libvirt_deadline(20) as deadline:
        assert limit_to_deadline(5) == 5
        assert 15 < limit_to_deadline(60) <= 20
        with libvirt_deadline(100) as inner:
            assert inner == deadline
            assert limit_to_deadline(60) <= 20
        with libvirt_deadline(10):
            assert limit_to_deadline(60) <= 10
        assert limit_to_deadline(60) > 15
    assert limit_to_deadline(60) == 60


def test_a_call_after_the_deadline_has_the_time_that_a_report_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    with libvirt_deadline(20):
        monkeypatch.setattr(time, "monotonic", lambda: now + 100)
        assert limit_to_deadline(60) == 5
        assert limit_to_deadline(2) == 2
    with libvirt_deadline(1):
        monkeypatch.setattr(time, "monotonic", lambda: now + 200)
        assert limit_to_deadline(60) == 1
