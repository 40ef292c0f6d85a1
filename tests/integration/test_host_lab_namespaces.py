"""Namespaces on the lab's real regions: predicted, created, refused, changed at once, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from host_under_test import labeled

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import (
    BusyError,
    InvalidValueError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.prediction import predict_usable_size
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

DEVDAX = NamespaceMode.devdax


@pytest.fixture
def host(lab_transport: SshTransport) -> Host:
    return labeled(Host("lab", lab_transport))


@pytest.fixture
def region(host: Host) -> str:
    """The region with the largest free extent."""
    return max(host.ndctl.inventory().regions, key=lambda region: region.free_extent).dev


@pytest.fixture
def run(host: Host) -> Iterator[RunMark]:
    """A run whose namespaces are removed at the end, after which the host must be as it was."""
    before = HostState.read(host)
    mark = RunMark.of_this_run()
    yield mark
    clean_up(host, mark)
    assert before.difference(HostState.read(host)) == ()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"size": Size(100_000_000)}, InvalidValueError),
        ({"size": Size(64 * GiB)}, OutOfSpaceError),
        ({"align": Size(3)}, InvalidValueError),
        ({"name": "$(reboot)"}, InvalidValueError),
        ({"region": "region77"}, NotFoundError),
    ],
)
@pytest.mark.usefixtures("run")
def test_a_wrong_request_changes_nothing(
    host: Host, region: str, options: dict[str, object], error: type[VpmemError]
) -> None:
    with pytest.raises(error):
        host.namespaces.create(**{"region": region, "mode": DEVDAX, **options})  # type: ignore[arg-type]


def test_a_region_without_labels_is_refused(host: Host) -> None:
    unlabeled = host.regions.unlabeled()
    if not unlabeled:
        pytest.skip("every region of this host has labels: reset the lab")
    with pytest.raises(UnsupportedError, match="no labels"):
        host.namespaces.create(unlabeled[-1], mode=DEVDAX, size=Size(64 * MiB))


def test_a_reconfigured_namespace_keeps_its_name_and_the_mark(host: Host, region: str, run: RunMark) -> None:
    made = host.namespaces.create(region, mode=DEVDAX, size=Size(64 * MiB), name="kept", uuid=run.new_uuid())
    for mode in (NamespaceMode.fsdax, NamespaceMode.sector, DEVDAX):
        made = host.namespaces.reconfigure(made, mode=mode, uuid=run.new_uuid())
        assert (made.mode, made.name, run.owns(made)) == (mode, "kept", True)


def test_disabling_and_enabling_keeps_identity_and_bytes(host: Host, region: str, run: RunMark) -> None:
    store = ContentStore(host.transport)
    made = host.namespaces.create(region, mode=DEVDAX, size=Size(16 * MiB), name="off", uuid=run.new_uuid())
    pattern = Pattern("kept", length=made.size)
    store.write(made.device, pattern)
    disabled = host.namespaces.disable(made)
    assert not disabled.active
    assert disabled.label_uuid == made.label_uuid
    again = host.namespaces.enable(disabled)
    assert (again.uuid, again.name, again.size) == (made.uuid, made.name, made.size)
    store.verify(again.device, pattern).require()


def test_a_mounted_and_a_mapped_namespace_are_not_destroyed(host: Host, region: str, run: RunMark) -> None:
    disk = host.namespaces.create(
        region, mode=NamespaceMode.fsdax, size=Size(64 * MiB), name="mounted", uuid=run.new_uuid()
    )
    host.run(["mkfs.ext4", "-q", disk.device]).check()
    host.run(["mount", disk.device, "/mnt"]).check()
    try:
        with pytest.raises(BusyError, match="mounted at /mnt"):
            host.namespaces.destroy(disk)
    finally:
        host.run(["umount", "/mnt"]).check()
    dax = host.namespaces.create(region, mode=DEVDAX, size=Size(16 * MiB), name="open", uuid=run.new_uuid())
    holder = host.transport.stream(["sh", "-c", 'exec 3<"$1"; echo held; cat', "sh", dax.device])
    try:
        assert holder.recv(100) == b"held\n"
        with pytest.raises(BusyError, match=r"process [0-9]+"):
            host.namespaces.destroy(dax)
        assert host.ndctl.namespace(dax).active
    finally:
        holder.close()


def test_neighbours_keep_every_byte_and_the_gap_is_used_again(host: Host, region: str, run: RunMark) -> None:
    store = ContentStore(host.transport)
    made: list[Namespace] = []
    for name in ("left", "middle", "right"):
        namespace = host.namespaces.create(
            region, mode=NamespaceMode.raw, size=Size(32 * MiB), name=name, uuid=run.new_uuid()
        )
        store.write(namespace.device, Pattern(name, length=32 * MiB))
        made.append(namespace)
    before = host.ndctl.region(region)
    host.namespaces.destroy(made[1])
    assert host.ndctl.region(region).available_size == before.available_size + 32 * MiB
    for namespace in (made[0], made[2]):
        store.verify(namespace.device, Pattern(namespace.name, length=32 * MiB)).require()


def test_creates_at_once_in_one_region_all_succeed(host: Host, region: str, run: RunMark) -> None:
    failures: list[VpmemError] = []

    def work(number: int) -> None:
        with SshTransport(host.transport.settings) as transport:  # type: ignore[attr-defined]
            try:
                Host("worker", transport).namespaces.create(
                    region, mode=DEVDAX, size=Size(16 * MiB), name=f"at-once-{number}", uuid=run.new_uuid()
                )
            except VpmemError as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert sorted(ns.name for ns in host.ndctl.inventory().namespaces if run.owns(ns)) == [
        f"at-once-{number}" for number in range(4)
    ]


def test_labels_of_both_versions(host: Host, region: str) -> None:
    found = host.ndctl.region(region)
    if found.namespaces:
        pytest.skip(f"{region} has namespaces, which this test would end")
    with pytest.raises(InvalidValueError, match="overwrite"):
        host.regions.initialize_labels(region)
    try:
        host.regions.initialize_labels(region, version="1.1", overwrite=True)
        made = host.namespaces.create(region, mode=NamespaceMode.sector, size=Size(64 * MiB))
        assert made.size == predict_usable_size(Size(64 * MiB), mode=NamespaceMode.sector, label_version="1.1")
        host.namespaces.destroy(made)
    finally:
        assert host.regions.initialize_labels(region, overwrite=True).available_size == found.available_size


def test_a_region_goes_and_comes_back(host: Host, region: str, run: RunMark) -> None:
    made = host.namespaces.create(region, mode=DEVDAX, size=Size(16 * MiB), name="there", uuid=run.new_uuid())
    try:
        assert host.regions.disable(region).state == "disabled"
    finally:
        assert host.regions.enable(region).state == ""
    assert host.ndctl.namespace(made).name == "there"
