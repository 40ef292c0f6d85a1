"""File systems on the lab's namespaces: made, mounted, proven, and unmounted by a cleanup."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from host_under_test import labeled

from VpmemLibrary.errors import BusyError, CommandError, InvalidValueError
from VpmemLibrary.host.file_dax import GRANTED, map_sync, read_file_dax
from VpmemLibrary.host.filesystems import FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import DaxOption
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.mounts import new_mount_point, unmount_owned
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab
RUN = RunMark.of_this_run()


@pytest.fixture(scope="module")
def host(lab_transport: SshTransport) -> Host:
    return labeled(Host("lab", lab_transport))


@pytest.fixture
def nodes(host: Host) -> Iterator[dict[NamespaceMode, str]]:
    """A block device of each mode that XFS fits on; afterwards everything is as it was."""
    before = HostState.read(host)
    region = max(host.ndctl.inventory().regions, key=lambda region: region.free_extent)
    try:
        yield {
            mode: host.namespaces.create(region, mode=mode, size=Size(320 * MiB), uuid=RUN.new_uuid()).device
            for mode in (NamespaceMode.fsdax, NamespaceMode.sector)
        }
    finally:
        unmount_owned(host, RUN)
        clean_up(host, RUN)
    assert before.difference(HostState.read(host)) == ()


@pytest.mark.parametrize("kind", FileSystemType)
def test_files_are_dax_only_where_the_mount_says_so(
    host: Host, nodes: dict[NamespaceMode, str], kind: FileSystemType
) -> None:
    node = nodes[NamespaceMode.fsdax]
    assert make_file_system(host.ndctl.guard, node, kind, overwrite=True).type == kind
    with pytest.raises(InvalidValueError, match=f"this device holds {kind}"):
        make_file_system(host.ndctl.guard, node, kind)
    for option in DaxOption:
        point = new_mount_point(RUN)
        mount = host.mounts.mount(node, kind, point, options=[f"dax={option}"], make=True)
        is_dax = option is DaxOption.always
        assert read_file_dax(host.transport, point).dax is is_dax
        assert map_sync(host.transport, point) == (GRANTED if is_dax else "EOPNOTSUPP")
        assert host.run(["ls", "-A", point]).check().text.split() in ([], ["lost+found"])
        host.mounts.unmount(mount, remove=True)
        assert host.run(["test", "-e", point]).exit_status == 1


def test_dax_that_cannot_be_is_never_mounted(host: Host, nodes: dict[NamespaceMode, str]) -> None:
    node, point = nodes[NamespaceMode.sector], new_mount_point(RUN)
    for kind, message in ((FileSystemType.ext4, "Could not mount"), (FileSystemType.xfs, "dax=never")):
        make_file_system(host.ndctl.guard, node, kind, overwrite=True)
        with pytest.raises(CommandError, match=message):
            host.mounts.mount(node, kind, point, options=["dax=always"], make=True)
        assert host.run(["test", "-e", point]).exit_status == 1


def test_a_cleanup_unmounts_what_is_mounted_on_what(host: Host, nodes: dict[NamespaceMode, str]) -> None:
    outer = new_mount_point(RUN)
    for node in nodes.values():
        make_file_system(host.ndctl.guard, node, FileSystemType.ext4, overwrite=True)
    host.mounts.mount(nodes[NamespaceMode.fsdax], "ext4", outer, make=True)
    inner = f"{outer}/inner of it"
    host.run(["mkdir", inner]).check()
    host.mounts.mount(nodes[NamespaceMode.sector], "ext4", inner)
    with pytest.raises(BusyError, match="mounted at"):
        make_file_system(host.ndctl.guard, nodes[NamespaceMode.sector], FileSystemType.ext4, overwrite=True)
    assert [mount.mount_point for mount in unmount_owned(host, RUN)] == [inner, outer]


def test_what_is_open_is_not_unmounted_and_its_user_is_named(host: Host, nodes: dict[NamespaceMode, str]) -> None:
    node, point = nodes[NamespaceMode.fsdax], new_mount_point(RUN)
    make_file_system(host.ndctl.guard, node, FileSystemType.ext4, overwrite=True)
    mount = host.mounts.mount(node, "ext4", point, make=True)
    started = host.run(["sh", "-c", 'cd "$1" && sleep 600 >/dev/null 2>&1 & echo $!', "sh", point]).check()
    pid = started.text.strip()
    try:
        with pytest.raises(BusyError, match=rf"in use: process {pid} \(sleep\)"):
            host.mounts.unmount(mount)
    finally:
        host.run(["kill", pid]).check()
    assert host.mounts.at(point).node


def test_whatever_is_known_on_a_device_is_told(host: Host, nodes: dict[NamespaceMode, str]) -> None:
    node = nodes[NamespaceMode.fsdax]
    host.run(["wipefs", "-a", node]).check()
    assert read_file_system(host.transport, node).type == ""
    host.run(["mkswap", node]).check()
    assert read_file_system(host.transport, node).type == "swap"
