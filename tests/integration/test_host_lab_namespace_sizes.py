"""Predicted sizes and room, held against ndctl and the kernel: every mode, map and alignment, to the byte."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import pytest
from host_under_test import labeled

from VpmemLibrary.errors import InvalidValueError, NoSpaceError, NotFoundError, OutOfSpaceError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.prediction import predict_usable_size
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.pmem.regions.room import read_room
from VpmemLibrary.sizes import GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Connection, Stream
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

MAPPED = (NamespaceMode.fsdax, NamespaceMode.devdax)
SHAPES = list(product(MAPPED, MapLocation))
SIZES = (16 * MiB, 144 * MiB, 272 * MiB)
REFUSED = ("refused", "refused")

# For each set of options a namespace is made, its size told by ndctl and by the kernel, and it is destroyed again.
GRID = r"""
region=$1
shift
while [ $# -gt 0 ]; do
    if made=$(ndctl create-namespace --no-autolabel -r "$region" -u "$1" $2 2>/dev/null); then
        dev=$(printf '%s' "$made" | sed -n 's/.*"dev":"\([^"]*\)".*/\1/p')
        holder=$(cat "/sys/bus/nd/devices/$dev/holder")
        printf '%s ' "$(printf '%s' "$made" | sed -n 's/.*"size":\([0-9]*\).*/\1/p' | head -n 1)"
        cat "/sys/bus/nd/devices/${holder:-$dev}/size"
        ndctl destroy-namespace -f "$dev" 2>/dev/null
    else
        echo refused refused
    fi
    shift 2
done
"""


class Meddled:
    """A way to a host on which another takes room just before each create."""

    def __init__(self, inner: SshTransport, *taking: str) -> None:
        self._inner = inner
        self._taking = taking

    @property
    def name(self) -> str:
        return self._inner.name

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        if "create-namespace" in argv:
            self._inner.run(self._taking).check()
        return self._inner.run(argv, timeout=timeout, stdin=stdin)

    def stream(self, argv: Sequence[str]) -> Stream:
        return self._inner.stream(argv)

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        return self._inner.connect(address, port, timeout=timeout)

    def read_file(self, path: str) -> bytes:
        return self._inner.read_file(path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        self._inner.write_file(path, data, mode=mode)

    def close(self) -> None:
        self._inner.close()


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


def measured(host: Host, region: str, run: RunMark, grid: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what ndctl and the kernel make of each set of options."""
    arguments = [item for options in grid for item in (run.new_uuid(), options)]
    result = host.run(["sh", "-c", GRID, "sh", region, *arguments], timeout=600).check()
    return [tuple(line.split()) for line in result.text.splitlines()]


@pytest.mark.parametrize(("mode", "where"), SHAPES)
def test_mapped_sizes(host: Host, region: str, run: RunMark, mode: NamespaceMode, where: MapLocation) -> None:
    grid = list(product(SIZES, (4 * KiB, 2 * MiB)))
    found = measured(host, region, run, [f"-m {mode} -M {where} -s {size} -a {align}" for size, align in grid])
    predicted = [
        predict_usable_size(Size(size), mode=mode, map_location=where, align=Size(align)) for size, align in grid
    ]
    assert found == [(f"{usable:d}", f"{usable:d}") for usable in predicted]


@pytest.mark.parametrize("mode", [NamespaceMode.sector, NamespaceMode.raw])
def test_sizes_without_a_map(host: Host, region: str, run: RunMark, mode: NamespaceMode) -> None:
    sectors = (512, 520, 4096, 4224) if mode is NamespaceMode.sector else (512, 4096)
    grid = list(product(SIZES[:2], sectors))
    found = measured(host, region, run, [f"-m {mode} -s {size} -l {sector}" for size, sector in grid])
    predicted = [predict_usable_size(Size(size), mode=mode, sector_size=sector) for size, sector in grid]
    assert found == [(f"{usable:d}", f"{usable:d}") for usable in predicted]


@pytest.mark.parametrize(("mode", "where"), SHAPES)
def test_a_gibibyte_is_refused_by_the_kernel_where_it_is_refused_by_prediction(
    host: Host, region: str, run: RunMark, mode: NamespaceMode, where: MapLocation
) -> None:
    """The refused attempt leaves its alignment to the region, as ndctl's default for the next create."""
    before = host.ndctl.region(region)
    size = before.free_extent.down_to(GiB)
    if not size:
        pytest.skip(f"{region} has no whole GiB free: {before.free_extent}")
    try:
        made = host.namespaces.create(
            region, mode=mode, map_location=where, size=size, align=Size(GiB), uuid=run.new_uuid()
        )
    except InvalidValueError as refusal:
        assert "the metadata and padding of this mode, map and align" in str(refusal)
        assert measured(host, region, run, [f"-m {mode} -M {where} -s {size:d} -a {GiB}"]) == [REFUSED]
        assert host.ndctl.region(region).available_size == before.available_size
        made = host.namespaces.create(region, mode=mode, size=Size(16 * MiB), uuid=run.new_uuid())
        assert made.align == 2 * MiB
    else:
        assert made.size % GiB == 0


@pytest.mark.parametrize("mode", [NamespaceMode.fsdax, NamespaceMode.raw])
def test_a_sector_size_is_that_of_the_block_device(host: Host, region: str, run: RunMark, mode: NamespaceMode) -> None:
    made = host.namespaces.create(region, mode=mode, size=Size(16 * MiB), sector_size=4096, uuid=run.new_uuid())
    assert made.sector_size == 4096
    assert host.run(["blockdev", "--getss", made.device]).check().text.strip() == "4096"


def test_room_that_another_took_meanwhile_is_told_as_no_room(
    host: Host, lab_transport: SshTransport, region: str, run: RunMark
) -> None:
    """Seen free, then all of it taken by another before ndctl looks: ndctl calls it no device."""
    take = ("ndctl", "create-namespace", "--no-autolabel", "-r", region, "-m", "raw", "-u", run.new_uuid())
    meddled = Host("lab", Meddled(lab_transport, *take))
    late = run.new_uuid()
    with pytest.raises(NoSpaceError, match="no room for a namespace of 16MiB") as caught:
        meddled.namespaces.create(region, mode=NamespaceMode.devdax, size=Size(16 * MiB), uuid=late)
    assert caught.value.result.exit_status == 237
    with pytest.raises(NotFoundError):
        host.ndctl.namespace(late)
    with pytest.raises(OutOfSpaceError, match="nothing of it is free"):
        host.namespaces.create(region, mode=NamespaceMode.devdax, size=Size(16 * MiB))


def test_a_size_that_has_no_room_under_labels_1_1_is_refused_and_leaves_nothing(host: Host, region: str) -> None:
    """A translation table of version 1.1 has no room in 16 MiB. ndctl would leave a disabled namespace."""
    found = host.ndctl.region(region)
    if found.namespaces:
        pytest.skip(f"{region} has namespaces, which this test would end")
    try:
        host.regions.initialize_labels(region, version="1.1", overwrite=True)
        before = host.ndctl.region(region)
        with pytest.raises(InvalidValueError, match=r"more than 16MiB for sector under labels 1\.1"):
            host.namespaces.create(region, mode=NamespaceMode.sector, size=Size(16 * MiB), name="half")
        after = host.ndctl.region(region)
        assert (after.namespaces, after.available_size) == ((), before.available_size)
    finally:
        host.regions.initialize_labels(region, overwrite=True)


def test_the_next_namespace_is_put_where_the_room_says(host: Host, region: str, run: RunMark) -> None:
    made = [
        host.namespaces.create(region, mode=NamespaceMode.raw, size=Size(16 * MiB), name=name, uuid=run.new_uuid())
        for name in ("first", "gap", "last")
    ]
    host.namespaces.destroy(made[1])
    found = host.ndctl.region(region)
    room = read_room(host.transport, found)
    assert (room.available, room.largest) == (found.available_size, found.free_extent)
    for size in (16 * MiB, 32 * MiB):
        place = room.place(size)
        assert place is not None
        new = host.namespaces.create(region, mode=NamespaceMode.raw, size=Size(size), uuid=run.new_uuid())
        room = read_room(host.transport, host.ndctl.region(region))
        (taken,) = (extent for extent in room.extents if extent.holder == new.dev)
        assert (taken.offset, taken.size) == (place.offset, size)
