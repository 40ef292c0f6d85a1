"""A session without Robot Framework: how it opens hosts, what it reports, and what it closes."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import InvalidValueError, NotFoundError, UnreachableError
from VpmemLibrary.keywords.support.progress import ProgressLog, robot_reporting
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.reporting import Reporting
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult, Transport
from VpmemLibrary.transport.local import LocalTransport

RUN = RunMark("0123abcd")


class Machine(LocalTransport):
    """A machine that answers or does not, and that knows whether it was closed."""

    def __init__(self, *, silent: bool = False) -> None:
        super().__init__(name="machine")
        self.silent = silent
        self.closed = 0

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        if self.silent:
            raise UnreachableError("machine does not answer")
        return CommandResult(tuple(argv), 0, b"", b"", 0.0, "machine")

    def close(self) -> None:
        self.closed += 1


def test_a_session_wraps_the_transports_that_it_opens() -> None:
    wrapped: list[tuple[Transport, str]] = []

    def wrap(transport: Transport, name: str) -> Transport:
        wrapped.append((transport, name))
        return transport

    machine = Machine()
    Session(RUN, reporting=Reporting(wrap=wrap)).open_transport(machine, "left")
    assert wrapped == [(machine, "left")]


def test_a_host_of_a_session_reports_the_progress_of_long_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[object] = []
    real = ContentStore.__init__

    def noted(store: ContentStore, transport: Transport, **options: object) -> None:
        given.append(options["progress"])
        real(store, transport, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ContentStore, "__init__", noted)
    Session(RUN, reporting=robot_reporting()).open_transport(Machine(), "left")
    assert [type(each) for each in given] == [ProgressLog]


def test_a_host_that_does_not_answer_is_closed_and_not_added() -> None:
    session = Session(RUN)
    silent = Machine(silent=True)
    with pytest.raises(UnreachableError):
        session.open_transport(silent, "left")
    assert (silent.closed, session.aliases) == (1, [])


def test_two_hosts_have_two_aliases() -> None:
    session = Session(RUN)
    first = session.open_transport(Machine(), "left")
    second = Machine()
    with pytest.raises(InvalidValueError, match="alias 'left'"):
        session.open_transport(second, "left")
    assert second.closed == 1
    assert session.current is first


def test_the_current_host_is_the_last_opened_until_it_is_closed() -> None:
    session = Session(RUN)
    left, right = (session.open_transport(Machine(), alias) for alias in ("left", "right"))
    assert session.current is right
    session.close()
    assert session.current is left
    session.close("left")
    with pytest.raises(NotFoundError, match="open host"):
        session.find()


def test_a_timeout_applies_to_open_hosts_and_to_those_opened_later() -> None:
    session = Session(RUN, 60)
    first = session.open_transport(Machine(), "left")
    session.set_timeout(5)
    second = session.open_transport(Machine(), "right")
    assert [opened.host.ndctl.timeout for opened in (first, second)] == [5, 5]


def test_all_hosts_are_closed_although_closing_one_fails() -> None:
    session = Session(RUN)
    machines = [Machine(), Machine()]
    for alias, machine in zip(("left", "right"), machines, strict=True):
        session.open_transport(machine, alias)

    def fail() -> None:
        raise UnreachableError("gone")

    machines[1].close = fail  # type: ignore[method-assign]
    with pytest.raises(UnreachableError, match="gone"):
        session.close_all()
    assert machines[0].closed == 1
    assert session.aliases == []
