"""How keywords write to what is this run's own: by its UUID, and only if nobody uses it where that is promised."""

from __future__ import annotations

import json
import time
from collections.abc import Callable

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.content.speed import Operation
from VpmemLibrary.errors import BusyError, ForeignError, InvalidValueError
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.host.content import ContentKeywords
from VpmemLibrary.keywords.host.performance import PerformanceKeywords
from VpmemLibrary.keywords.support import progress
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.base import CommandResult

MINE, OTHER = RunMark("0123abcd"), RunMark("ffffffff")
UUID = MINE.new_uuid()
LENGTH = 16 * MiB
PATTERN_STAGES = 3


def copied(stages: int, printed: str = "", *, times: int = 1) -> CommandResult:
    said = f"{LENGTH} bytes\n" * times + "".join(f"\nstage {number} 0\n" for number in range(stages))
    return left(0, printed, said)


def opened(*, users: str = "") -> tuple[Session, RecordedHost]:
    """Return a session with a host that has a namespace of this run, one of another run, and one that is disabled."""
    namespaces = [
        {"dev": "namespace0.0", "mode": "raw", "uuid": UUID, "blockdev": "pmem0", "name": "mine"},
        {"dev": "namespace0.1", "mode": "raw", "uuid": OTHER.new_uuid(), "blockdev": "pmem0.1", "name": "theirs"},
        {"dev": "namespace0.2", "mode": "raw", "uuid": MINE.new_uuid(), "state": "disabled", "name": "off"},
    ]
    listing = json.dumps([{"dev": "ndbus0", "regions": [{"dev": "region0", "namespaces": namespaces}]}])
    host = RecordedHost(
        {
            "ndctl list": left(0, listing),
            "pwrite": left(0, "16777216,16,0:00:00.03,235582116.378,57515.165\n"),
            "openssl": copied(PATTERN_STAGES),
            "if=/dev/zero": copied(1),
            "wc -c": copied(3, "0\n"),
            "dd if=/file": copied(2, times=2),
            "subsystem /file": left(0, f"file {LENGTH}\n"),
            "subsystem": left(0, f"block {LENGTH}\n"),
        },
        users=users,
    )
    session = Session(MINE, 60)
    session.add(OpenHost(Host("recorded", host), MINE))
    return session, host


def write(session: Session, target: str, *, foreign: bool = False) -> object:
    return ContentKeywords(session).write_pattern(target, seed="x", foreign=foreign)


def wipe(session: Session, target: str, *, foreign: bool = False) -> object:
    return ContentKeywords(session).wipe_content(target, foreign=foreign)


def copy(session: Session, target: str, *, foreign: bool = False) -> object:
    return ContentKeywords(session).copy_content("/file", target, foreign=foreign)


def measure(session: Session, target: str, *, foreign: bool = False) -> object:
    return PerformanceKeywords(session).measure_speed(target, Operation.write, rounds=1, foreign=foreign)


UNUSED = (wipe, copy, measure)
STEPS = (write, *UNUSED)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("called", ["mine", "namespace0.0", "/dev/pmem0", UUID], ids=["name", "device", "node", "uuid"])
def test_a_namespace_is_written_to_by_its_uuid_whatever_it_was_called(step: Callable[..., object], called: str) -> None:
    session, host = opened()
    step(session, called)
    assert {(act.targets, act.unused) for act in host.acts} == {((f"-n {UUID}",), step in UNUSED)}


@pytest.mark.parametrize("step", STEPS)
def test_what_is_foreign_or_disabled_is_not_written_to(step: Callable[..., object]) -> None:
    session, host = opened()
    for target in ("theirs", "/dev/pmem0.1", "/file"):
        with pytest.raises(ForeignError, match="foreign=True"):
            step(session, target)
    with pytest.raises(InvalidValueError, match="an active namespace"):
        step(session, "off")
    assert not host.acts
    step(session, "/file", foreign=True)
    assert {act.targets for act in host.acts} == {("-p /file",)}


@pytest.mark.parametrize("step", UNUSED)
def test_what_is_in_use_is_left_as_it_is(step: Callable[..., object]) -> None:
    session, host = opened(users="process 7 (qemu)")
    with pytest.raises(BusyError, match=r"mine \(namespace0.0\) is in use on recorded: process 7 \(qemu\)"):
        step(session, "mine")
    assert not host.acts


def test_progress_is_in_the_log_and_now_and_then_on_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    shown: list[tuple[str, bool]] = []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(logger, "info", lambda text, also_console=False: shown.append((text, also_console)))
    tell = progress.ProgressLog()
    for seconds, text in ((1, "1MiB"), (9, "2MiB"), (1, "3MiB"), (10, "4MiB")):
        clock[0] += seconds
        tell(text)
    assert shown == [("1MiB", False), ("2MiB", True), ("3MiB", False), ("4MiB", True)]
