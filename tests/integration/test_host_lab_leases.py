"""Leases over real connections: one process a connection, free at once when it is killed or the connection goes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator

import pytest
from host_under_test import lab_settings, labeled

from VpmemLibrary.errors import BusyError, LeaseLostError, UnreachableError
from VpmemLibrary.host.host import Host
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import Holder, LeasesHeldError, LeaseSpaceError, Taken
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab


@pytest.fixture
def directory() -> Iterator[str]:
    path = f"/run/lock/vpmem-test-{secrets.token_hex(4)}"
    yield path
    with SshTransport(lab_settings()) as transport:
        transport.run(["rm", "-rf", path]).check()


@pytest.fixture
def full_directory() -> Iterator[str]:
    """A directory on a small file system."""
    path = f"/run/vpmem-test-{secrets.token_hex(4)}"
    with SshTransport(lab_settings()) as transport:
        transport.run(["mkdir", "-m", "700", path]).check()
        transport.run(["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", path]).check()
        yield f"{path}/leases"
        transport.run(["umount", "--lazy", path]).check()
        transport.run(["rmdir", path]).check()


@pytest.fixture
def connections() -> Iterator[tuple[SshTransport, SshTransport]]:
    with SshTransport(lab_settings()) as one, SshTransport(lab_settings()) as two:
        yield one, two


def opened_by(transport: SshTransport, number: int, directory: str, host: Host) -> OpenHost:
    """Return a host that one of several workers has open, each of a run of its own."""
    run = RunMark(f"0123abc{number}")
    leases = HostLeases(transport, Holder.here(run.run_id, str(number)), directory=directory)
    return OpenHost(host, run, policy=Policy(may_reboot=True), leases=leases)


def holder_of(transport: SshTransport, directory: str) -> list[str]:
    return transport.run(["pgrep", "-f", f"vpmem-leases {directory}"]).text.split()


def test_many_leases_are_one_process_and_one_session(
    connections: tuple[SshTransport, SshTransport], directory: str
) -> None:
    one, two = connections
    leases = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    for number in range(30):
        leases.take([[f"ns-{number}"]])
    assert len(holder_of(two, directory)) == 1
    assert len(HostLeases(two, Holder.here("0123abcd", "2"), directory=directory).entries()) == 30
    leases.release([f"ns-{number}" for number in range(30)])
    leases.close()


@pytest.mark.parametrize("way", ["kill", "close"])
def test_a_holder_that_goes_frees_at_once(
    connections: tuple[SshTransport, SshTransport], directory: str, way: str
) -> None:
    one, two = connections
    dead = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    alive = HostLeases(two, Holder.here("0123abcd", "2"), directory=directory)
    dead.take([["a"]])
    with pytest.raises(LeasesHeldError):
        alive.take([["a"]])
    if way == "kill":
        two.run(["kill", "-KILL", *holder_of(two, directory)[:1]]).check()
    else:
        one.close()
    taken = _once_it_is_free(alive, "a")
    assert taken.left_by is not None
    with pytest.raises((LeaseLostError, UnreachableError)):
        dead.require(["a"])
    dead.close()
    alive.close()


def _once_it_is_free(leases: HostLeases, key: str) -> Taken:
    """Take a lease as soon as the kernel has freed it: a busy host needs a moment to end a process."""
    deadline = time.monotonic() + 30
    while True:
        try:
            return leases.take([[key]])[0]
        except LeasesHeldError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_a_run_on_a_full_disk_is_seen_to_be_alive_and_makes_nothing_more(
    connections: tuple[SshTransport, SshTransport], full_directory: str
) -> None:
    first, second = (
        opened_by(transport, number, full_directory, labeled(Host("lab", transport)))
        for number, transport in enumerate(connections)
    )
    second.tenancy.leases.entries()
    region = max(first.host.ndctl.inventory().regions, key=lambda each: each.free_extent)
    made = first.host.namespaces.create(
        region, mode=NamespaceMode.raw, size=Size(16 * MiB), uuid=first.tenancy.new_uuid()
    )
    try:
        fill(connections[0], full_directory)
        with pytest.raises(LeaseSpaceError, match=f"no space left in {full_directory} on .*: free space there"):
            first.tenancy.leases.take([[made.label_uuid]])
        with pytest.raises(LeaseSpaceError):
            second.tenancy.new_uuid()
        assert second.tenancy.reclaim._dead_namespaces() == []
        first.tenancy.leases.require(["run-0123abc0"])
        connections[0].run(["rm", f"{full_directory}/../fill"]).check()
        second.tenancy.new_uuid()
        first.tenancy.leases.take([[made.label_uuid]])
    finally:
        first.host.namespaces.destroy(made)
        first.close()
        second.close()


def test_a_worker_that_lost_its_host_is_refused_until_it_has_it_again(
    connections: tuple[SshTransport, SshTransport], directory: str
) -> None:
    first, second = (
        opened_by(transport, number, directory, Host("lab", transport)) for number, transport in enumerate(connections)
    )
    first.tenancy.reservations.reserve_host(0)
    first.tenancy.new_uuid()
    connections[1].run(["kill", session_of(connections[0])]).check()
    second.tenancy.reservations.reserve_host(30)
    with pytest.raises(LeaseLostError, match=r"lost its lease of host on .*: it is held by run 0123abc1"):
        first.tenancy.reservations.reserve_host(0)
    for refused in (first.tenancy.new_uuid, first.tenancy.lease_proofs, first.power.require_permission):
        with pytest.raises(LeaseLostError, match="until it calls Reserve Host"):
            refused()
    with pytest.raises(BusyError, match="Host lab is held by run 0123abc1"):
        first.tenancy.reservations.reserve_host(0)
    second.tenancy.reservations.release()
    first.tenancy.reservations.reserve_host(0)
    first.power.require_permission()
    assert {proof.key for proof in first.tenancy.lease_proofs()} == {"host", "run-0123abc0"}
    for proof in first.tenancy.lease_proofs():
        assert proof.text in connections[1].read_file(proof.path).decode()
    first.close()
    second.close()


def test_a_host_that_does_not_notice_a_broken_connection_gives_the_leases_back_to_their_worker(
    connections: tuple[SshTransport, SshTransport], directory: str
) -> None:
    one, two = connections
    leases = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    leases.take([["a"]])
    (before,) = holder_of(two, directory)
    leases._stream = None  # as after a sleep: the controller's end is gone, the host's is not
    leases.require(["a"])
    (after,) = holder_of(two, directory)
    assert after != before
    leases.close()


@pytest.mark.parametrize("stopped", ["holder", "sshd"])
def test_a_process_that_is_stopped_is_waited_for_until_the_deadline(
    connections: tuple[SshTransport, SshTransport], directory: str, monkeypatch: pytest.MonkeyPatch, stopped: str
) -> None:
    one, two = connections
    monkeypatch.setattr("VpmemLibrary.leases.host_leases._ANSWER_TIMEOUT", 2.0)
    leases = HostLeases(one, Holder.here("0123abcd", "1"), directory=directory)
    leases.take([["a"]])
    process = holder_of(two, directory)[0] if stopped == "holder" else session_of(one)
    two.run(["kill", "-STOP", process]).check()
    started = time.monotonic()
    try:
        leases.require(["a"])  # a new holder replaces the old one, over a new connection if sshd does not answer
        assert 2 <= time.monotonic() - started < 120
    finally:
        two.run(["kill", "-CONT", process])  # it may be gone
    leases.require(["a"])
    leases.close()


def session_of(transport: SshTransport) -> str:
    """Return the process of the host's sshd that serves a connection."""
    script = "p=$$; until grep -q ^sshd /proc/$p/comm; do p=$(awk '{ print $4 }' /proc/$p/stat); done; echo $p"
    return transport.run(["sh", "-c", script]).check().text.strip()


def fill(transport: SshTransport, directory: str) -> None:
    """Leave no byte free on the file system that a directory of leases is on."""
    found = transport.run(["dd", "if=/dev/zero", f"of={directory}/../fill", "bs=4096"])
    assert "No space left" in found.error_text


def test_a_host_is_had_by_one_worker_and_then_by_the_next(connections: tuple[SshTransport, SshTransport]) -> None:
    first, second = (
        OpenHost(Host("lab", transport), RunMark(f"0123abc{number}")) for number, transport in enumerate(connections)
    )
    first.tenancy.reservations.reserve_host(60)
    with pytest.raises(
        BusyError, match=r"Host lab is held by run 0123abc0, process \d+ on .*\. Nothing was released within 0 s"
    ):
        second.tenancy.reservations.reserve_host(0)
    first.close()
    second.tenancy.reservations.reserve_host(60)
    second.close()
