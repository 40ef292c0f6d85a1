"""A worker that lost a lease: what its keywords do then, and what other runs make of leases that cannot be read."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from lease_kinds import Watched, Workers
from recorded_fleet import inventory_of

from VpmemLibrary.claims.claims import Claim
from VpmemLibrary.errors import BusyError, LeaseLostError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.host.host import Host
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import HOST_KEY, UnknownHolderError, living_runs, run_key
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.reclaim import Reclaim
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

RUN, OTHER = "aaaaaaaa", "cccccccc"


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    made = Workers(tmp_path / "leases")
    yield made
    made.close()


@pytest.fixture
def host(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> tuple[OpenHost, Watched]:
    """A host that a worker has open, and the way to its leases."""
    leases, transport = workers.one("1", run=RUN)
    host = Host("rack1", LocalTransport())
    opened = OpenHost(host, RunMark(RUN), policy=Policy(may_reboot=True), leases=leases)
    monkeypatch.setattr(opened.guests, "foreign_running", list)
    return opened, transport


@pytest.fixture
def other(workers: Workers) -> HostLeases:
    return workers.one("2", run=OTHER)[0]


def test_a_worker_that_lost_its_host_changes_nothing_until_it_has_it_again(
    host: tuple[OpenHost, Watched], other: HostLeases
) -> None:
    opened, transport = host
    opened.tenancy.reservations.reserve_host(0)
    opened.tenancy.new_uuid()
    transport.kill()  # its machine slept, and the host ended the connection
    other.take([[HOST_KEY]])
    with pytest.raises(LeaseLostError, match="lost its lease of host on local: it is held by run cccccccc"):
        opened.tenancy.reservations.reserve_host(0)
    changing: list[Callable[[], object]] = [
        opened.power.require_permission,
        opened.tenancy.new_uuid,
        opened.tenancy.hold_run_lease,
        opened.tenancy.lease_proofs,
        lambda: opened.tenancy.host_lock("reclaim").__enter__(),
        lambda: opened.tenancy.leases.take([["ns-1"]]),
    ]
    for change in changing * 2:
        with pytest.raises(LeaseLostError, match="until it calls Reserve Host"):
            change()
    with pytest.raises(BusyError, match="Host rack1 is held by run cccccccc"):
        opened.tenancy.reservations.reserve_host(0)
    assert living_runs(other.entries()) == {RUN}
    other.release([HOST_KEY])
    opened.tenancy.reservations.reserve_host(0)
    opened.power.require_permission()
    assert opened.tenancy.new_uuid()
    assert {proof.key for proof in opened.tenancy.lease_proofs()} == {HOST_KEY, run_key(RUN)}


def test_a_loss_is_noticed_by_the_check_before_a_reboot(host: tuple[OpenHost, Watched], other: HostLeases) -> None:
    opened, transport = host
    opened.tenancy.reservations.reserve_host(0)
    transport.kill()
    other.take([[HOST_KEY]])
    with pytest.raises(LeaseLostError, match="it is held by run cccccccc"):
        opened.power.require_permission()


def test_a_run_whose_own_lease_was_lost_has_it_again_after_one_report(
    host: tuple[OpenHost, Watched], other: HostLeases
) -> None:
    opened, transport = host
    opened.tenancy.new_uuid()
    transport.kill()
    other.remove_stale([run_key(RUN)])  # as a run does that took back what this one left
    with pytest.raises(LeaseLostError, match=r"lost its lease of run-aaaaaaaa on local: its record is gone"):
        opened.tenancy.new_uuid()
    opened.tenancy.new_uuid()
    opened.tenancy.new_uuid()
    assert living_runs(other.entries()) == {RUN}


def test_a_run_whose_connection_broke_and_whose_lease_nobody_had_goes_on(
    host: tuple[OpenHost, Watched], other: HostLeases
) -> None:
    opened, transport = host
    opened.tenancy.new_uuid()
    transport.kill()
    opened.tenancy.new_uuid()
    assert living_runs(other.entries()) == {RUN}


def test_a_claim_that_was_lost_is_no_longer_the_workers(host: tuple[OpenHost, Watched], other: HostLeases) -> None:
    opened, transport = host
    first, second = (Claim("rack1", namespace) for namespace in inventory_of(2).namespaces)
    opened.tenancy.leases.take([[first.key], [second.key]])
    opened.tenancy.claims.keep([first, second])
    transport.kill()
    other.take([[first.key]])
    with pytest.raises(LeaseLostError, match=f"{first.key}.*So it also released {second.key}"):
        opened.tenancy.claims.require([second])
    assert opened.tenancy.claims.claims == ()
    assert opened.tenancy.lease_proofs() == ()
    assert other.take([[second.key]])[0].left_by is not None


def test_a_loss_that_was_never_noticed_is_reported_when_the_host_is_closed(
    host: tuple[OpenHost, Watched], other: HostLeases
) -> None:
    opened, transport = host
    opened.tenancy.reservations.reserve_host(0)
    transport.kill()
    other.take([[HOST_KEY]])
    with pytest.raises(LeaseLostError, match="lost its lease of host"):
        opened.close()
    opened.close()


def test_a_loss_that_was_reported_is_not_reported_when_the_host_is_closed(
    host: tuple[OpenHost, Watched], other: HostLeases
) -> None:
    opened, transport = host
    opened.tenancy.new_uuid()
    opened.tenancy.reservations.reserve_host(0)
    transport.kill()
    other.take([[HOST_KEY]])
    with pytest.raises(LeaseLostError):
        opened.tenancy.new_uuid()
    opened.close()
    assert {entry.key for entry in other.entries()} == {HOST_KEY}


# What another run's clean-up makes of leases that cannot be read


class Rack(LocalTransport):
    """A host with one namespace of a run; it notes what changes it."""

    def __init__(self, uuid: str) -> None:
        super().__init__(name="rack1")
        self.uuid = uuid
        self.changes: list[Sequence[str]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        stdout = ""
        if argv[:2] == ("ndctl", "list") or argv[:2] == ["ndctl", "list"]:
            namespace = {"dev": "namespace0.0", "mode": "raw", "size": 1 << 27, "raw_uuid": self.uuid, "name": "a1"}
            region = {"dev": "region0", "size": 1 << 30, "iset_id": 1, "namespaces": [namespace]}
            stdout = json.dumps([{"dev": "ndbus0", "provider": "ACPI.NFIT", "regions": [region]}])
        elif "destroy" in argv or "dd " in " ".join(argv):
            self.changes.append(argv)
        return CommandResult(tuple(argv), 0, stdout.encode(), b"", 0.0, self.name)


def test_nothing_is_taken_back_while_an_unknown_holder_has_a_lease(workers: Workers, other: HostLeases) -> None:
    rack = Rack(RunMark(RUN).new_uuid())
    other.entries()
    path = workers.directory / run_key(RUN)
    path.touch()
    reclaim = Reclaim(Host("rack1", rack), LibvirtLink(LocalTransport(), uri="test:///default"), other)
    with path.open() as file:
        with subprocess.Popen(["flock", "-x", str(file.fileno())], pass_fds=[file.fileno()]) as lock:
            assert lock.wait() == 0
        with pytest.raises(UnknownHolderError, match=f"no leftovers are removed.*fuser -v {path}"):
            reclaim.remove_all()
        assert rack.changes == []
    reclaim.remove_all()  # now the same look finds the run dead
    assert any("destroy" in argv for argv in rack.changes)
