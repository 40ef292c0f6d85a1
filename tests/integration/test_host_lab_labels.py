"""Labels on the lab's real DIMMs: changed, broken, refused, and put back byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from host_under_test import labeled

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import BusyError, CommandError, InvalidValueError, NotFoundError, UnsupportedError
from VpmemLibrary.guest import lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.regions import namespaces_on
from VpmemLibrary.pmem.labels.area import fletcher64, slot_count
from VpmemLibrary.pmem.labels.dimm import write_area
from VpmemLibrary.pmem.labels.file import SavedLabels
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.pmem.regions.regions import LabelState
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

SMALL = Size(16 * MiB)
READY = 300.0


@pytest.fixture
def host(lab_transport: SshTransport) -> Host:
    return labeled(Host("lab", lab_transport))


@pytest.fixture
def region(host: Host) -> Iterator[Region]:
    """An empty region with labels, which has the same bytes in its label areas at the end."""
    for found in host.ndctl.inventory().regions:
        if host.regions.label_state(found) is LabelState.labeled and not namespaces_on(host, found):
            break
    else:
        pytest.skip("no region has labels but no namespaces")
    saved = host.labels.saved(found)
    yield found
    for dimm in found.dimms:
        host.regions.enable_dimm(dimm)
    host.regions.enable(found)
    host.labels.restore(found, saved)
    assert host.ndctl.region(found) == found
    assert host.labels.saved(found) == saved


@pytest.fixture
def run() -> RunMark:
    return RunMark.of_this_run()


def create(host: Host, region: Region, run: RunMark, name: str, mode: NamespaceMode = NamespaceMode.raw) -> Namespace:
    return host.namespaces.create(region, mode=mode, size=SMALL, name=name, uuid=run.new_uuid())


def resealed(data: bytes, start: int) -> bytes:
    """Return an area in which the label 1.2 that begins there has the checksum of its bytes."""
    blank = data[: start + 248] + bytes(8) + data[start + 256 :]
    checksum = fletcher64(blank[start : start + 256]).to_bytes(8, "little")
    return blank[: start + 248] + checksum + blank[start + 256 :]


def test_labels_come_back_from_a_file_with_what_they_described(
    host: Host, region: Region, run: RunMark, tmp_path: Path
) -> None:
    store = ContentStore(host.transport)
    made = create(host, region, run, "kept", NamespaceMode.devdax)
    pattern = Pattern("kept", length=64 * KiB)
    store.write(made.device, pattern)
    host.labels.saved(region).write(tmp_path / "labels")
    assert host.labels.zero(region).available_size == region.size
    assert host.regions.label_state(region) is LabelState.lost
    with pytest.raises(NotFoundError):
        host.ndctl.namespace(made)
    host.labels.restore(region, SavedLabels.read(tmp_path / "labels"))
    assert host.ndctl.namespace(made) == made
    store.verify(made.device, pattern).require()
    assert host.labels.problems(region) == ()


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_the_kernel_has_as_many_slots_as_predicted(host: Host, region: Region, run: RunMark, version: str) -> None:
    host.regions.initialize_labels(region, version=version, overwrite=True)
    (area, *_) = host.labels.labeled(region)
    assert area.version == version
    assert area.nslot == slot_count(area.size, version) == host.labels.available_slots(region) + 1
    create(host, region, run, "one")
    assert host.labels.available_slots(region) == area.nslot - 2
    assert host.labels.problems(region) == ()


def test_the_kernel_writes_labels_1_2_where_they_were_zeroed(host: Host, region: Region, run: RunMark) -> None:
    host.labels.zero(region)
    with pytest.raises(UnsupportedError, match="no labels to zero"):
        host.labels.zero(region)
    with pytest.raises(UnsupportedError, match="has no labels"):
        host.labels.labeled(region)
    create(host, region, run, "one")
    (area, *_) = host.labels.labeled(region)
    assert (area.version, area.nslot) == ("1.2", slot_count(area.size, "1.2"))
    assert [label.name for label in area.labels] == ["one"]


def test_both_index_blocks_broken_are_both_told_and_all_is_free(host: Host, region: Region, run: RunMark) -> None:
    made = create(host, region, run, "there")
    (area, *others) = host.labels.read(region)
    broken = area.data[:100] + b"\xaa" + area.data[101:356] + b"\xaa" + area.data[357:]
    data = {area.dimm: broken, **{other.dimm: other.data for other in others}}
    after = host.labels.write(region, data)
    assert after.available_size == region.size
    assert host.regions.label_state(region) is LabelState.lost
    problems = host.labels.problems(region)
    assert f"{area.dimm}: no labels: neither index block is valid" in problems
    for number in range(2):
        assert any(line.startswith(f"{area.dimm}: index block {number}: its checksum is") for line in problems)
    host.labels.write(region, {each.dimm: each.data for each in (area, *others)})
    assert host.ndctl.namespace(made) == made


def test_labels_that_the_kernel_refuses_are_told_and_can_be_mended(host: Host, region: Region, run: RunMark) -> None:
    """Two labels for the same bytes: the kernel then has neither the DIMM nor its region."""
    create(host, region, run, "first")
    create(host, region, run, "second")
    areas = host.labels.read(region)
    (area, *others) = areas
    first, second = area.labels
    start = area.index_blocks[0].mysize * 2 + second.at * len(second.data)
    overlapping = area.data[: start + 104] + first.data[104:112] + area.data[start + 112 :]
    if area.version == "1.2":
        overlapping = resealed(overlapping, start)
    data = {area.dimm: overlapping, **{other.dimm: other.data for other in others}}
    with pytest.raises(CommandError, match=r"exit status"):
        host.labels.write(region, data)
    assert any("but that in slot" in line for line in host.labels.problems(region))
    assert host.ndctl.region(region).state == "disabled"
    host.labels.write(region, {each.dimm: each.data for each in areas})
    host.regions.enable_dimm(area.dimm)
    assert [ns.name for ns in host.regions.enable(region).namespaces] == ["first", "second"]
    assert host.labels.problems(region) == ()


def test_a_region_in_use_keeps_its_labels(host: Host, region: Region, run: RunMark) -> None:
    made = create(host, region, run, "mounted", NamespaceMode.fsdax)
    before = host.labels.saved(region)
    host.run(["mkfs.ext4", "-q", made.device]).check()
    host.run(["mount", made.device, "/mnt"]).check()
    try:
        for change in (host.labels.zero, host.regions.disable):
            with pytest.raises(BusyError, match="mounted at /mnt"):
                change(region)
        with pytest.raises(BusyError, match="mounted at /mnt"):
            host.regions.initialize_labels(region, overwrite=True)
        assert host.ndctl.namespace(made).active
        assert host.labels.saved(region) == before
    finally:
        host.run(["umount", "/mnt"]).check()


def test_ndctl_that_writes_nothing_and_exits_0_is_found_out(host: Host, region: Region) -> None:
    """The region is enabled, so that ndctl cannot write; it says "wrote 1 nmem" and exits 0 (ndctl 81)."""
    (area, *_) = host.labels.read(region)
    with pytest.raises(CommandError, match="was not written though ndctl exited 0"):
        write_area(host.ndctl, region, host.ndctl.dimm(area.dimm), bytes(area.size))
    assert host.labels.read(region)[0] == area


def test_a_region_is_enabled_again_with_its_dimms_whatever_happens(host: Host, region: Region) -> None:
    with pytest.raises(ZeroDivisionError), host.regions.disabled_with_neighbours(region):
        for dimm in region.dimms:
            host.regions.disable_dimm(dimm)
        with pytest.raises(CommandError, match=r"exit status: 0(.|\n)*enabled 0 regions"):
            host.regions.enable(region)
        raise ZeroDivisionError
    assert host.ndctl.region(region) == region


def test_labels_of_another_region_are_refused(host: Host, region: Region) -> None:
    others = [
        each for each in host.ndctl.inventory().regions if each.dimms and set(each.dimms).isdisjoint(region.dimms)
    ]
    if not others:
        pytest.skip("the host has one region only")
    before = host.labels.saved(region)
    with pytest.raises(InvalidValueError, match="elsewhere=True"):
        host.labels.restore(region, host.labels.saved(others[0]))
    assert host.labels.saved(region) == before


def test_a_region_without_labels_stays_as_it_is(host: Host) -> None:
    unlabeled = host.regions.unlabeled()
    if not unlabeled:
        pytest.skip("every region of this host has had labels since it booted: reset the lab")
    region = unlabeled[-1]
    assert host.regions.label_state(region) is LabelState.unlabeled
    for refused in (host.labels.zero, host.labels.labeled):
        with pytest.raises(UnsupportedError, match="no labels"):
            refused(region)
    assert host.ndctl.region(region) == region


@pytest.fixture
def guest(lab_hosts: Path, host: Host, run: RunMark) -> Iterator[Host]:
    """A guest, as a host of its own, that has a device with each of two sizes of label area, both without labels."""
    entry = read_hosts(lab_hosts)[0]
    link = LibvirtLink(host.transport)
    booted = None
    try:
        where = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent)
        devices = []
        for label_size in (Size(128 * KiB), Size(2 * MiB)):
            made = host.namespaces.create(
                where,
                mode=NamespaceMode.devdax,
                map_location=MapLocation.mem,
                size=Size(64 * MiB),
                name=f"label-{label_size}",
                uuid=run.new_uuid(),
            )
            ContentStore(host.transport).zero(made.device, made.size - label_size)  # the labels of an earlier guest
            devices.append(VpmemDevice(path=made.device, size=made.size, label_size=label_size))
        spec = GuestSpec(
            name=f"labels-{run.run_id}",
            boot=BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline),
            devices=tuple(devices),
            run_id=run.run_id,
        )
        booted = define_guest(host.transport, link, spec)
        lifecycle.start(booted)
        readiness.wait_until_ready(booted, READY)
        yield Host("guest", booted.transport)
    finally:
        if booted is not None:
            if booted.state() != "shut off":
                lifecycle.destroy(booted)
            lifecycle.undefine(booted)
        link.close()
        clean_up(host, run)


INITIALISE = """
set -e
ndctl disable-region "$1"
ndctl init-labels --force --label-version "$3" "$2"
ndctl enable-region "$1"
cat "/sys/bus/nd/devices/$2/available_slots"
ndctl read-labels "$2" | wc -c
ndctl read-labels "$2" | head -c 60 | tail -c 4
"""


def test_slots_follow_the_size_of_the_label_area(guest: Host) -> None:
    """The guest's kernel counts as predicted, and so does the index block that its ndctl wrote, read from its bytes.

    ``ndctl read-labels --json`` would not do (ndctl 81): with ``--index`` it looks for the second index block of 1.2
    where 1.1 has it, and without it prints nothing where an older index block lies in the first slot.
    """
    regions = guest.ndctl.inventory().regions
    assert guest.regions.unlabeled() == regions
    for region in regions:
        with pytest.raises(UnsupportedError, match="has no labels"):
            guest.namespaces.create(region, mode=NamespaceMode.raw, size=SMALL)
    for version in ("1.1", "1.2"):
        sizes = []
        for region in regions:
            command = ["sh", "-c", INITIALISE, "sh", region.dev, region.dimms[0], version]
            available, size, nslot = guest.run(command, timeout=120).check().stdout.split(b"\n", 2)
            assert int.from_bytes(nslot, "little") == slot_count(int(size), version) == int(available) + 1
            sizes.append(int(size))
        assert sorted(sizes) == [128 * KiB, 2 * MiB]
    assert guest.regions.unlabeled() == ()
