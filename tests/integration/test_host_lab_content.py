"""Patterns on the lab's real devices, with the host's tools and with busybox, as a small guest has them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from uuid import uuid4

import pytest
from host_under_test import labeled
from msgspec.structs import replace

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import BusyError, CommandError, ContentDiffersError, InvalidValueError, NotFoundError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.guard import Guard
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Connection, Stream
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

APPLETS = "/tmp/busybox-applets"
PAGE = 4 * KiB
PIECE = 6 * MiB
"""What is longer goes in several pieces, each an act of its own."""


class Busybox:
    """The host with busybox's applets in the place of its own tools."""

    def __init__(self, inner: SshTransport) -> None:
        self._inner = inner
        inner.run(["sh", "-c", 'mkdir -p "$1" && busybox --install -s "$1"', "sh", APPLETS]).check()

    @property
    def name(self) -> str:
        return f"busybox on {self._inner.name}"

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        path = f"PATH={APPLETS}:/usr/sbin:/usr/bin"
        return self._inner.run(["env", path, *argv], timeout=timeout, stdin=stdin)

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


@pytest.fixture(scope="module", params=["coreutils", "busybox"])
def store(request: pytest.FixtureRequest, lab_transport: SshTransport) -> ContentStore:
    if request.param == "coreutils":
        return ContentStore(lab_transport, guard=Guard(lab_transport), piece=PIECE)
    busybox = Busybox(lab_transport)
    assert "BusyBox" in busybox.run(["dd", "--help"]).error_text
    return ContentStore(busybox, guard=Guard(busybox), piece=PIECE)


@pytest.fixture(scope="module")
def namespaces(lab_transport: SshTransport) -> Iterator[dict[NamespaceMode, Namespace]]:
    """One namespace of each mode."""
    host = labeled(Host("lab", lab_transport))
    region = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent)
    run = RunMark.of_this_run()
    try:
        yield {
            mode: host.namespaces.create(region, mode=mode, size=Size(16 * MiB), uuid=run.new_uuid())
            for mode in NamespaceMode
        }
    finally:
        clean_up(host, run)


@pytest.mark.parametrize("mode", NamespaceMode)
def test_every_mode_keeps_a_pattern_and_finds_a_difference(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace], mode: NamespaceMode
) -> None:
    namespace, size = namespaces[mode], namespaces[mode].size.down_to(PAGE)
    device = namespace.device
    whole = Pattern("whole", length=size)
    store.write(namespace, whole)
    store.verify(device, whole).require()
    piece = Pattern("piece", length=2 * PAGE, offset=3 * PAGE)
    store.write(namespace, piece)
    store.verify(device, piece).require()
    found = store.verify(device, whole)
    assert 3 * PAGE <= (found.first or 0) < 3 * PAGE + 16
    assert 2 * PAGE - 100 < found.differing <= 2 * PAGE
    with pytest.raises(ContentDiffersError):
        found.require()


@pytest.mark.parametrize("mode", NamespaceMode)
def test_every_mode_is_wiped_to_its_end(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace], mode: NamespaceMode
) -> None:
    namespace, size = namespaces[mode], namespaces[mode].size.down_to(PAGE)
    device = namespace.device
    store.write(device, Pattern("tail", length=PAGE), at=size - PAGE)
    assert store.verify_zero(device, size - PAGE, PAGE).differing > 4000
    store.wipe(namespace, must_be_unused=True)
    assert store.verify_zero(device).intact
    assert store.read(device, size - 3, 3) == bytes(3)


def test_devices_of_the_same_bytes_have_the_same_checksum(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace]
) -> None:
    devices = [namespaces[mode].device for mode in (NamespaceMode.devdax, NamespaceMode.fsdax, NamespaceMode.raw)]
    for device in devices:
        store.write(device, Pattern("same", length=MiB), at=MiB)
    assert len({store.checksum(device, MiB, MiB) for device in devices}) == 1


@pytest.mark.parametrize("mode", NamespaceMode)
def test_every_mode_is_copied_and_compared_with_every_other(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace], mode: NamespaceMode
) -> None:
    device = namespaces[mode].device
    store.write(device, Pattern("one", length=MiB))
    for namespace in (each for each in namespaces.values() if each.mode is not mode):
        other = namespace.device
        store.copy(device, namespace, length=MiB, at=2 * MiB, must_be_unused=True)
        assert store.compare(device, other, length=MiB, at=2 * MiB).intact
        store.zero(other, 2 * MiB + 3 * PAGE, PAGE)
        found = store.compare(device, other, length=MiB, at=2 * MiB)
        assert 3 * PAGE <= (found.first or 0) < 3 * PAGE + 16
        assert PAGE - 50 < found.differing <= PAGE


def test_what_daxio_copies_of_a_range_past_the_end_is_not_taken_for_all(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace]
) -> None:
    """daxio 1.13 writes what fits and exits 0."""
    namespace = namespaces[NamespaceMode.devdax]
    with pytest.raises(CommandError, match=r"did not copy all 8192 bytes(.|\n)*exit status: 0"):
        store.write(namespace.device, Pattern("x", length=2 * PAGE), at=namespace.size - PAGE, force=True)
    with pytest.raises(CommandError, match="mmap"):
        store.write(namespace.device, Pattern("x", length=2 * PAGE), at=namespace.size, force=True)


@pytest.mark.parametrize("mode", [NamespaceMode.devdax, NamespaceMode.raw])
def test_past_the_end_nothing_is_written(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace], mode: NamespaceMode
) -> None:
    namespace = namespaces[mode]
    before = store.checksum(namespace.device)
    with pytest.raises(InvalidValueError, match="range"):
        store.write(namespace.device, Pattern("x", length=2 * PAGE), at=namespace.size - PAGE)
    assert store.checksum(namespace.device) == before


@pytest.mark.parametrize("mode", [NamespaceMode.devdax, NamespaceMode.raw])
def test_a_device_that_a_process_has_open_by_another_name_is_not_wiped(
    store: ContentStore, lab_transport: SshTransport, namespaces: dict[NamespaceMode, Namespace], mode: NamespaceMode
) -> None:
    namespace = namespaces[mode]
    before = store.checksum(namespace.device)
    script = """
        kind=c && [ -c "$1" ] || kind=b
        rm -f "$2" && mknod "$2" "$kind" $(stat -c '0x%t 0x%T' "$1") || exit
        sleep 600 <"$2" >/dev/null 2>&1 & echo $!"""
    node = "/root/vpmem any name"
    pid = lab_transport.run(["sh", "-c", script, "sh", namespace.device, node]).check().text.strip()
    try:
        with pytest.raises(BusyError, match=rf"in use on .*: process {pid} \(sleep\)"):
            store.wipe(namespace, must_be_unused=True)
        with pytest.raises(BusyError, match=rf"process {pid} "):
            store.wipe(namespace.device, must_be_unused=True)
    finally:
        lab_transport.run(["sh", "-c", 'kill "$1"; rm -f "$2"', "sh", pid, node]).check()
    assert store.checksum(namespace.device) == before


def test_a_namespace_that_is_another_by_now_is_not_written_to(
    store: ContentStore, namespaces: dict[NamespaceMode, Namespace]
) -> None:
    stale = replace(namespaces[NamespaceMode.raw], uuid=str(uuid4()))
    before = store.checksum(stale.device)
    with pytest.raises(NotFoundError, match=re.escape(stale.called)):
        store.write(stale, Pattern("x", length=PAGE))
    assert store.checksum(stale.device) == before


def test_no_file_is_made_of_a_device_that_is_absent(store: ContentStore, lab_transport: SshTransport) -> None:
    with pytest.raises(InvalidValueError, match="path"):
        store.write("/dev/dax77.0", Pattern("x", length=PAGE))
    assert lab_transport.run(["test", "-e", "/dev/dax77.0"]).exit_status == 1
