"""What dead runs left in a cloud, with the leases of living runs on its compute hosts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from VpmemLibrary.cloud import compute_hosts
from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.compute_hosts import left_by_dead_runs, show_that_the_run_lives
from VpmemLibrary.cloud.records import MarkedObject
from VpmemLibrary.errors import CloudError, InvalidValueError
from VpmemLibrary.leases.leases import run_key
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session

OWN, LIVING, DEAD = "0123abcd", "11111111", "dddddddd"


class Opened:
    """An open host on which these runs hold their own lease."""

    def __init__(self, *runs: str, name: str = "", guest: object = None) -> None:
        self.name = name
        self.guest = guest
        self.held = 0
        entries = [SimpleNamespace(held=True, key=run_key(run), holder=SimpleNamespace(run_id=run)) for run in runs]
        self.tenancy = SimpleNamespace(leases=SimpleNamespace(entries=lambda: entries), hold_run_lease=self.hold)

    def hold(self) -> None:
        self.held += 1


def session(**hosts: Opened) -> Session:
    return cast(Session, SimpleNamespace(aliases=list(hosts), find=hosts.__getitem__, run=RunMark(OWN)))


def cloud(*objects: MarkedObject, hosts: set[str] | None = None) -> Cloud:
    def compute_hosts() -> set[str]:
        if hosts is None:
            raise CloudError("forbidden")
        return hosts

    made: Any = SimpleNamespace(marked=lambda: list(objects), compute_hosts=compute_hosts)
    return cast(Cloud, made)


def server(run: str, host: str) -> MarkedObject:
    return MarkedObject("server", "1", f"vpmem-{run}-a", run, host)


def flavor(run: str) -> MarkedObject:
    return MarkedObject("flavor", "2", f"vpmem-{run}-b", run)


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compute_hosts, "hypervisor_host_name", lambda opened: opened.name)


def test_only_what_a_dead_run_made_is_a_leftover() -> None:
    one = Opened(OWN, LIVING, name="lab-1")
    everything = [made for run in (OWN, LIVING, DEAD) for made in (server(run, "lab-1"), server(run, ""), flavor(run))]
    left = left_by_dead_runs(session(a=one), cloud(*everything, hosts={"lab-1"}))
    assert left == [server(DEAD, "lab-1"), server(DEAD, ""), flavor(DEAD)]


def test_a_run_may_live_on_a_compute_host_that_is_not_open() -> None:
    one, two = Opened(OWN, name="lab-1"), Opened(DEAD, name="lab-2")
    everything = [server(DEAD, "lab-1"), server(DEAD, ""), flavor(DEAD)]
    both = {"lab-1", "lab-2"}
    with pytest.raises(InvalidValueError, match=r"open hosts 'lab-1' .*all compute hosts: open lab-2 as well"):
        left_by_dead_runs(session(a=one), cloud(*everything, hosts=both))
    with pytest.raises(CloudError, match="forbidden"):
        left_by_dead_runs(session(a=one), cloud(*everything, hosts=None))
    assert left_by_dead_runs(session(a=one, b=two), cloud(*everything, hosts=both)) == []
    assert left_by_dead_runs(session(), cloud(hosts=None)) == [], "without leftovers, nothing else is asked"


def test_the_run_shows_that_it_lives_on_each_host_that_is_no_guest() -> None:
    one, two, inside = Opened(), Opened(), Opened(guest="guest")
    show_that_the_run_lives(session(a=one, b=two, c=inside))
    assert [one.held, two.held, inside.held] == [1, 1, 0]
