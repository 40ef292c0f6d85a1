"""Changes on the lab's real regions touch nothing but what they mean: stale names, lost leases, other local users."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from host_under_test import labeled

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import LeaseLostError, NotFoundError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.guard import LOCKS, LeaseProof
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import Stream
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

SIZE = Size(16 * MiB)
DEVDAX = NamespaceMode.devdax
MINE, OTHERS = RunMark("aaaa0001"), RunMark("bbbb0002")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def host(lab_transport: SshTransport) -> Iterator[Host]:
    """The host, which must be as it was at the end."""
    before = HostState.read(labeled(Host("lab", lab_transport)))
    yield Host("lab", lab_transport)
    host = Host("lab", lab_transport)
    for run in (MINE, OTHERS):
        clean_up(host, run)
    assert before.difference(HostState.read(host)) == ()


def create(host: Host, run: RunMark, name: str, mode: NamespaceMode = DEVDAX) -> Namespace:
    region = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent)
    return host.namespaces.create(region, mode=mode, size=SIZE, name=name, uuid=run.new_uuid())


def written(host: Host, namespace: Namespace) -> Callable[[], None]:
    """Write a pattern to all of a namespace, and return what proves that it is whole."""
    store, pattern = ContentStore(host.transport), Pattern(namespace.name, length=namespace.size)
    store.write(namespace.device, pattern)
    return lambda: store.verify(host.ndctl.namespace(namespace).device, pattern).require()


@pytest.fixture
def stale(host: Host) -> Iterator[Namespace]:
    """A record of a namespace of one run whose device name another run's namespace has by now; that must survive."""
    listed = create(host, MINE, "mine")
    host.namespaces.destroy(listed)
    successor = create(host, OTHERS, "others")
    assert (successor.dev, successor.device) == (listed.dev, listed.device)
    prove = written(host, successor)
    yield listed
    assert host.ndctl.namespace(successor) == successor
    prove()


def test_a_clean_up_that_listed_before_leaves_the_next_namespace_of_that_name(
    host: Host, stale: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = host.ndctl.inventory
    region = host.ndctl.region(stale.region)
    old = [listing()]
    bus = next(bus for bus in old[0].buses if bus.dev == stale.bus)
    earlier = type(old[0])((type(bus)(bus.dev, regions=(type(region)(region.dev, namespaces=(stale,)),)),))
    answers = iter([earlier])
    monkeypatch.setattr(host.ndctl, "inventory", lambda: next(answers, None) or listing())
    assert clean_up(host, MINE) == ()
    assert [each.name for each in listing().namespaces if OTHERS.owns(each)] == ["others"]


@pytest.mark.parametrize(
    "change",
    [
        lambda host, stale: host.namespaces.remove(stale),
        lambda host, stale: host.namespaces.disable(stale),
        lambda host, stale: host.namespaces.rename(stale, "stolen"),
        lambda host, stale: host.namespaces.reconfigure(stale, mode=NamespaceMode.raw),
        lambda host, stale: host.info_blocks.read(stale),
        lambda host, stale: host.scrub.clear_errors(stale, timeout=60),
    ],
    ids=["destroy", "disable", "rename", "reconfigure", "read info block", "clear errors"],
)
def test_a_change_whose_listing_is_stale_is_refused(
    host: Host, stale: Namespace, monkeypatch: pytest.MonkeyPatch, change: Callable[[Host, Namespace], object]
) -> None:
    """What is listed just before a change has the old namespace, as when the other run's came a moment later."""
    monkeypatch.setattr(host.ndctl, "namespace", lambda which: stale)
    with pytest.raises(NotFoundError):
        change(host, stale)
    monkeypatch.undo()


def test_nothing_is_changed_once_the_lease_is_lost(host: Host) -> None:
    mine = create(host, MINE, "mine")
    prove = written(host, mine)
    record = host.run(["mktemp"]).check().text.strip()
    try:
        host.transport.write_file(record, b"token=2 run=bbbb0002\n")
        host.ndctl.guard.use_lease_proofs(lambda: [LeaseProof("host", record, "token=1 ")])
        for change in (
            lambda: host.namespaces.destroy(mine),
            lambda: host.namespaces.disable(mine),
            lambda: host.namespaces.rename(mine, "renamed"),
            lambda: host.namespaces.reconfigure(mine, mode=NamespaceMode.raw),
            lambda: host.regions.disable(mine.region),
            lambda: host.labels.zero(mine.region),
            lambda: create(host, MINE, "more"),
        ):
            with pytest.raises(LeaseLostError, match="no longer has the lease of host on"):
                change()
        assert host.ndctl.namespace(mine) == mine
        prove()
        host.transport.write_file(record, b"token=1 run=aaaa0001\n")
        host.namespaces.destroy(mine)
    finally:
        host.run(["rm", "-f", record]).check()


def held(host: Host, *command: str) -> Stream:
    """Run a command as a local user without privileges until its stream is closed; it says ``held`` first."""
    stream = host.transport.stream([*NOBODY, *command])
    assert stream.recv(100) == b"held\n"
    return stream


def test_a_local_user_cannot_keep_others_from_changes(host: Host) -> None:
    region = host.ndctl.inventory().regions[0].dev
    sysfs = f"/sys/bus/nd/devices/{region}"
    holder = held(host, "flock", sysfs, "sh", "-c", "echo held; exec cat")
    try:
        assert host.run(["flock", "-n", sysfs, "true"]).exit_status == 1, "it has the lock of the sysfs node"
        host.namespaces.destroy(create(host, MINE, "mine"))
        assert host.run([*NOBODY, "flock", "-n", f"{LOCKS}/{region}", "true"]).exit_status not in (0, 1)
    finally:
        holder.close()


def test_a_file_of_ones_own_with_a_devices_name_is_no_use_of_the_device(host: Host) -> None:
    mine = create(host, MINE, "mine")
    script = 'cd "$(mktemp -d -p /var/tmp)" && exec 3>"$1" && echo held && cat; rm -r "$PWD"'
    holder = held(host, "sh", "-c", script, "sh", mine.chardev)
    try:
        host.namespaces.destroy(mine)
    finally:
        holder.close()
