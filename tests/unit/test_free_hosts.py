"""Which host of a file a worker gets when others have some, or some do not answer; the hosts are this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from memory_leases import LeaseTable, MemoryLeases

from VpmemLibrary.errors import BusyError, NotFoundError, UnreachableError
from VpmemLibrary.keywords.host.hosts import HostKeywords
from VpmemLibrary.leases.leases import HOST_KEY, Entry, Holder, LeaseSpaceError, Taken
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.local import LocalTransport

FILE = "[first]\nhost_address = 192.0.2.1\n[second]\nhost_address = 192.0.2.2\n"
AT_ONCE = timedelta(0)


class FarLeases(MemoryLeases):
    """Leases on a host of a rack."""

    def __init__(self, rack: Rack, host: str, token: str) -> None:
        super().__init__(rack.tables[host], Holder.here("0123abcd", token))
        self.rack, self.host = rack, host

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        self.rack.require(self.host)
        return super().take(slots, shared=shared)

    def entries(self) -> tuple[Entry, ...]:
        self.rack.require(self.host)
        return super().entries()


class Rack:
    """Two hosts whose leases are in memory; some may be down, or have a full disk."""

    def __init__(self) -> None:
        self.tables = {"first": LeaseTable(), "second": LeaseTable()}
        self.down: set[str] = set()
        self.full: set[str] = set()

    def leases_of(self, transport: Transport, holder: Holder) -> FarLeases:
        """Return the leases of one worker on one host."""
        return FarLeases(self, transport.name, holder.token)

    def require(self, host: str) -> None:
        """Raise unless a host answers and has space."""
        if host in self.down:
            raise UnreachableError(f"{host} does not answer")
        if host in self.full:
            raise LeaseSpaceError(f"{host} has no space")


@pytest.fixture
def rack(monkeypatch: pytest.MonkeyPatch) -> Rack:
    made = Rack()
    monkeypatch.setattr("VpmemLibrary.leases.host_leases.HostLeases", made.leases_of)
    monkeypatch.setattr("VpmemLibrary.session.session.transport_to", lambda entry: LocalTransport(name=entry.name))
    return made


@pytest.fixture
def hosts(tmp_path: Path) -> str:
    path = tmp_path / "hosts.dat"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def workers() -> Iterator[list[Session]]:
    contexts = [Session(RunMark("0123abcd"), 60) for _ in range(3)]
    yield contexts
    for session in contexts:
        session._open.clear()


def take(worker: Session, hosts: str, *names: str, shared: bool = False, timeout: timedelta = AT_ONCE) -> str:
    return str(HostKeywords(worker).open_host_from_file(hosts, *names, free=True, shared=shared, timeout=timeout))


def test_each_worker_gets_a_host_that_no_other_has(rack: Rack, hosts: str, workers: list[Session]) -> None:
    assert [take(worker, hosts) for worker in workers[:2]] == ["first", "second"]
    assert [worker.aliases for worker in workers[:2]] == [["first"], ["second"]]
    with pytest.raises(BusyError, match="Host first is held by run 0123abcd") as caught:
        take(workers[2], hosts)
    assert "Host second is held by run 0123abcd" in str(caught.value)
    assert workers[2].aliases == []


def test_the_first_host_that_is_given_back_is_taken(
    rack: Rack, hosts: str, workers: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    for worker in workers[:2]:
        take(worker, hosts)
    clock = SimpleNamespace(
        monotonic=lambda: 0.0, sleep=lambda _: workers[1].find("second").tenancy.leases.release([HOST_KEY])
    )
    monkeypatch.setattr("VpmemLibrary.polling.time", clock)
    assert take(workers[2], hosts, timeout=timedelta(minutes=1)) == "second"
    assert workers[2].aliases == ["second"]
    assert workers[2].current_alias == "second"


def test_a_host_that_does_not_answer_is_passed_over(rack: Rack, hosts: str, workers: list[Session]) -> None:
    rack.down.add("first")
    assert take(workers[0], hosts) == "second"


def test_a_host_with_a_full_disk_is_passed_over(rack: Rack, hosts: str, workers: list[Session]) -> None:
    rack.full.add("first")
    assert take(workers[0], hosts) == "second"
    rack.full.add("second")
    with pytest.raises(LeaseSpaceError, match="first has no space") as caught:
        take(workers[1], hosts)
    assert "second has no space" in str(caught.value)
    assert workers[1].aliases == []


def test_when_none_answers_that_is_told_of_each(rack: Rack, hosts: str, workers: list[Session]) -> None:
    rack.down.update(("first", "second"))
    with pytest.raises(UnreachableError, match="first does not answer") as caught:
        take(workers[0], hosts, timeout=timedelta(hours=1))
    assert "second does not answer" in str(caught.value)


def test_only_the_named_host_will_do(rack: Rack, hosts: str, workers: list[Session]) -> None:
    assert take(workers[0], hosts, "second") == "second"
    with pytest.raises(BusyError, match="Host second is held"):
        take(workers[1], hosts, "second")
    with pytest.raises(NotFoundError, match="third"):
        take(workers[1], hosts, "third")


def test_named_hosts_are_tried_in_the_order_of_their_naming(rack: Rack, hosts: str, workers: list[Session]) -> None:
    assert take(workers[0], hosts, "second", "first") == "second"
    assert take(workers[1], hosts, "second", "first") == "first"


def test_an_empty_name_names_none(rack: Rack, hosts: str, workers: list[Session]) -> None:
    assert take(workers[0], hosts, "") == "first"


def test_a_host_is_shared_with_those_that_share_it_and_with_nobody_else(
    rack: Rack, hosts: str, workers: list[Session]
) -> None:
    assert [take(worker, hosts, shared=True) for worker in workers[:2]] == ["first", "first"]
    assert take(workers[2], hosts) == "second"
    with pytest.raises(BusyError, match="Host second is held"):
        take(Session(RunMark("0123abcd"), 60), hosts, "second", shared=True)


def test_a_host_that_was_away_is_left_to_who_had_it_for_a_while(
    rack: Rack, hosts: str, workers: list[Session], monkeypatch: pytest.MonkeyPatch
) -> None:
    take(workers[0], hosts, "first")
    take(workers[1], hosts, "second")
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] == 1:
            rack.down.add("first")
        if now[0] == 5:  # it is back, and its holder's lease is gone until it takes it again
            rack.down.clear()
            workers[0].find("first").tenancy.leases.release([HOST_KEY])

    for module in ("polling", "leases.reservations"):
        monkeypatch.setattr(f"VpmemLibrary.{module}.time", SimpleNamespace(monotonic=lambda: now[0], sleep=sleep))
    assert take(workers[2], hosts, timeout=timedelta(minutes=5)) == "first"
    assert 5 + 15 < now[0] < 5 + 20
