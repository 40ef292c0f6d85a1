"""mkfs, mount and unmount as the host's own tools do them: on a loop device of this machine."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.errors import BusyError, CommandError, InvalidValueError, NotFoundError, UnsupportedError
from VpmemLibrary.host.filesystems import FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.mounts import Mount, Mounts
from VpmemLibrary.pmem import guard as guard_module
from VpmemLibrary.pmem.guard import NODE, Guard, act, path_target
from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.local import LocalTransport

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("mkfs.ext4"), reason="mounting needs root, and mkfs.ext4 (e2fsprogs)"
)


@pytest.fixture
def guard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    monkeypatch.setattr(guard_module, "_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("VPMEM_RUN", str(tmp_path / "run"))
    guard_module._path.cache_clear()
    yield Guard(LocalTransport(name="rack1"))
    guard_module._path.cache_clear()


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[str]:
    """Return a block device of 8 MiB."""
    image = tmp_path / "image"
    image.write_bytes(bytes(8 * MiB))
    made = subprocess.run(["losetup", "--find", "--show", str(image)], capture_output=True, text=True, check=False)
    if made.returncode:
        pytest.skip(f"this machine gives no loop device: {made.stderr.strip()}")
    yield made.stdout.strip()
    subprocess.run(["losetup", "--detach", made.stdout.strip()], check=True)


def test_a_partition_without_content_takes_a_file_system(
    guard: Guard, loop: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """blkid exits 0 and prints no type, as for an empty partition."""
    blkid = tmp_path / "bin" / "blkid"
    blkid.parent.mkdir()
    blkid.write_text("#!/bin/sh\nexit 0\n")
    blkid.chmod(0o755)
    monkeypatch.setenv("PATH", f"{blkid.parent}:{os.environ['PATH']}")
    command = act("make_file_system", NODE, "", "touch", str(tmp_path / "made"))
    guard.run(command, path_target(loop), must_be_unused=True).check()
    assert (tmp_path / "made").exists()


@pytest.fixture
def mounts(guard: Guard) -> Mounts:
    return Mounts(guard)


@pytest.fixture
def mounted(guard: Guard, mounts: Mounts, loop: str, tmp_path: Path) -> Iterator[Mount]:
    """Return a mount whose directory's name needs escapes in the kernel's table."""
    make_file_system(guard, loop, FileSystemType.ext4)
    point = tmp_path / "a mount\\point\t!"
    point.mkdir()
    yield mounts.mount(loop, "ext4", str(point))
    subprocess.run(["umount", "--lazy", "--quiet", str(point)], check=False)


def test_a_file_system_is_made_once_and_again_only_when_that_is_asked_for(guard: Guard, loop: str) -> None:
    made = make_file_system(guard, loop, FileSystemType.ext4)
    assert made.type == "ext4"
    with pytest.raises(InvalidValueError, match="this device holds ext4"):
        make_file_system(guard, loop, FileSystemType.ext4)
    again = make_file_system(guard, loop, FileSystemType.ext4, overwrite=True)
    assert again.uuid != made.uuid


def test_what_a_device_holds_is_looked_at_in_the_act_too(guard: Guard, loop: str) -> None:
    """Between the look and the act, another worker makes a file system."""
    before = make_file_system(guard, loop, FileSystemType.ext4)
    command = act("make_file_system", NODE, "", "mkfs.ext4", "-q", "-F", NODE)
    with pytest.raises(BusyError, match="it holds ext4"):
        guard.run(command, path_target(loop))
    assert read_file_system(guard.transport, loop) == before


def test_a_failure_to_look_is_no_empty_device(guard: Guard, tmp_path: Path) -> None:
    command = act("make_file_system", NODE, "", "touch", str(tmp_path / "made"))
    with pytest.raises(UnsupportedError, match="absent block device"):
        guard.run(command, path_target(str(tmp_path)))
    assert not (tmp_path / "made").exists()


def test_a_file_system_is_mounted_and_unmounted_by_its_devices_number(mounts: Mounts, mounted: Mount) -> None:
    number = Path(mounted.source).stat().st_rdev
    assert mounted.device == f"{os.major(number)}:{os.minor(number)}"
    assert mounts.at(mounted.mount_point) == mounted
    mounts.unmount(mounted, remove=True)
    assert not Path(mounted.mount_point).exists()


def test_what_is_mounted_is_in_use(guard: Guard, mounted: Mount) -> None:
    with pytest.raises(BusyError, match="mounted at"):
        make_file_system(guard, mounted.source, FileSystemType.ext4, overwrite=True)


def test_another_mount_at_the_directory_by_now_is_not_unmounted(mounts: Mounts, mounted: Mount) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted.mount_point], check=True)
    try:
        with pytest.raises(NotFoundError, match=mounted.source):
            mounts.unmount(mounted)
        assert mounts.at(mounted.mount_point).type == "tmpfs"
    finally:
        subprocess.run(["umount", mounted.mount_point], check=True)
    mounts.unmount(mounted)
    with pytest.raises(NotFoundError, match=mounted.source):
        mounts.unmount(mounted)


def test_a_mount_that_is_open_is_not_unmounted_and_its_user_is_named(mounts: Mounts, mounted: Mount) -> None:
    with open(Path(mounted.mount_point) / "open", "w", encoding="ascii"):  # noqa: SIM117, PTH123
        with pytest.raises(BusyError, match=rf"in use: .*process {os.getpid()} "):
            mounts.unmount(mounted)
    mounts.unmount(mounted)


@pytest.mark.parametrize("kind", ["absent", "full"])
def test_a_mount_point_that_cannot_be_one_is_refused_by_the_act(
    guard: Guard, mounts: Mounts, loop: str, tmp_path: Path, kind: str
) -> None:
    make_file_system(guard, loop, FileSystemType.ext4)
    point = tmp_path / "point"
    if kind == "full":
        point.mkdir()
        (point / "file").touch()
    with pytest.raises(InvalidValueError, match="an existing empty directory"):
        mounts.mount(loop, "ext4", str(point))
    assert [mount for mount in mounts.all() if mount.mount_point == str(point)] == []


def test_a_mount_that_fails_takes_its_directory_with_it(mounts: Mounts, loop: str, tmp_path: Path) -> None:
    point = tmp_path / "point"
    with pytest.raises(CommandError, match=f"Could not mount {loop}"):
        mounts.mount(loop, "ext4", str(point), make=True)
    assert not point.exists()
    point.mkdir()
    with pytest.raises(CommandError, match=f"Could not mount {loop}"):
        mounts.mount(loop, "ext4", str(point), make=True)
    assert point.exists(), "it was there before"
