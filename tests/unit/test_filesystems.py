"""File systems, mounts, DAX and MAP_SYNC, against recordings of util-linux, xfsprogs and the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace
from recorded_host import DATA, RecordedHost, left

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    ForeignError,
    InvalidValueError,
    NotFoundError,
    ToolMissingError,
    UnreadableOutputError,
    UnsupportedError,
    ViewsDisagreeError,
)
from VpmemLibrary.host.file_dax import FileDax, map_sync, read_file_dax
from VpmemLibrary.host.filesystems import FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.mounts import USERS_SCRIPT, Mount, Mounts, decode_mounts
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.mounts import (
    is_made,
    mount_run,
    new_mount_point,
    require_own_mount,
    unmount_of,
    unmount_owned,
)
from VpmemLibrary.pmem.guard import Guard
from VpmemLibrary.pmem.records import Bus, Inventory, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport

BLKID = "util-linux-2.41.5"
KERNEL = "linux-6.12.117+deb13-cloud-amd64_xfsprogs-6.13.0"
POINT = "/run/a mount point"
MINE, OTHER = RunMark("0123abcd"), RunMark("ffffffff")


def recorded(versions: str, name: str) -> CommandResult:
    """Return what a recorded command left."""
    data = json.loads((DATA.parent / "filesystems" / f"{versions}_{name}.json").read_text())
    return left(data["exit_status"], data["stdout"], data["stderr"])


def mounted(name: str = "dax-always") -> Mount:
    """Return the recorded mount."""
    (found,) = (mount for mount in decode_mounts(recorded(KERNEL, f"mounts_{name}")) if mount.mount_point == POINT)
    return found


def table(*mounts: Mount) -> CommandResult:
    """Return a listing of the kernel's that has some mounts."""
    blocks = [f"block {mount.device} {mount.node}" for mount in mounts]
    lines = [
        f"53 31 {m.device} / {m.mount_point.replace(' ', chr(92) + '040')} {','.join(m.options)} shared:1 - "
        f"{m.type} {m.source} {','.join(m.options)}"
        for m in mounts
    ]
    return left(0, "\n".join([*blocks, *lines]))


# Mounts


def test_a_mount_is_read_as_the_kernel_has_it() -> None:
    mount = mounted()
    assert (mount.mount_point, mount.source, mount.type) == (POINT, "/dev/pmem0", "ext4")
    assert (mount.node, mount.dax, mount.root) == ("pmem0", "always", "/")
    assert mount.options == ("rw", "relatime", "dax=always")
    assert str(mount) == "/dev/pmem0 at '/run/a mount point' (ext4)"


def test_every_line_of_the_kernels_table_is_read() -> None:
    listing = recorded(KERNEL, "mounts_dax-always")
    lines = [line for line in listing.text.splitlines() if not line.startswith("block ")]
    assert len(decode_mounts(listing)) == len(lines) > 20


@pytest.mark.parametrize("option", ["always", "inode", "never"])
def test_the_dax_option_is_the_kernels_own_word(option: str) -> None:
    assert mounted(f"dax-{option}").dax == option


@pytest.mark.parametrize(
    ("options", "dax"),
    [(("rw", "dax"), "always"), (("rw",), ""), (("dax=inode",), "inode"), (("daxx=always",), "")],
)
def test_what_the_kernel_says_of_dax(options: tuple[str, ...], dax: str) -> None:
    assert Mount("/m", "/dev/pmem0", "ext4", options, "259:0").dax == dax


@pytest.mark.parametrize("line", ["nonsense", "53 31 259:0 / /m rw shared:1 ext4 /dev/pmem0 rw"])
def test_a_table_of_another_form_is_refused(line: str) -> None:
    with pytest.raises(UnreadableOutputError, match="table of mounts"):
        decode_mounts(left(0, line))


SEPARATORS = ["\x0b", "\x0c", "\r", "\x1c", "\x1d", "\x1e", "\u0085", "\u2028", "\u2029"]
"""What ends a line for `str.splitlines`, and what the kernel leaves as it is in a name."""


@pytest.mark.parametrize("separator", SEPARATORS)
def test_a_mount_point_may_have_any_name(separator: str) -> None:
    strange = replace(mounted(), mount_point=f"/home/a{separator}b", node="")
    assert decode_mounts(table(strange, mounted()))[0].mount_point == strange.mount_point
    assert mounted() in decode_mounts(table(strange, mounted()))
    assert str(strange).isprintable()


def test_real_mounts_of_any_name_are_read(tmp_path: Path) -> None:
    names = [f"a{separator}b" for separator in [*SEPARATORS, "\n", " ", "\t", "\\", "#", "\udcff", "-"]]
    points = [str(tmp_path / name) for name in names]
    script = """
        for point; do
            shift
            [ "$point" != -- ] || break
            mkdir -p "$point" && mount -t tmpfs none "$point" || exit
        done
        exec "$@"
    """
    private = PrefixedTransport(LocalTransport(), ["unshare", "-Urm", "sh", "-c", script, "sh", *points, "--"])
    if private.run(["true"]).exit_status:
        pytest.skip("this machine gives no mount namespace to its users")
    found = [mount.mount_point for mount in Mounts(Guard(private)).all()]
    assert [point for point in points if point.replace("\udcff", "\ufffd") not in found] == []


def test_a_block_device_without_a_name_is_none() -> None:
    assert decode_mounts(left(0, "block 1:0\n")) == ()


def test_the_users_of_a_mount_are_named_in_one_line(tmp_path: Path) -> None:
    """A program may give itself a name of several lines."""
    code = r"""if True:
        import ctypes, os, sys
        os.chdir(sys.argv[1])
        ctypes.CDLL(None).prctl(15, b"x)\nprocess 1 (init")  # PR_SET_NAME
        print(flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as program:
        assert program.stdout is not None
        program.stdout.readline()
        users = LocalTransport().run(query(USERS_SCRIPT, str(tmp_path))).check().lines
        program.communicate()
    assert users == [f"process {program.pid} (x))"]


def test_a_mount_is_proven_by_the_kernels_table() -> None:
    host = RecordedHost({"mountinfo": [table(), table(mounted())], "mount_at": left(0, f"{mounted().device}\n")})
    found = Mounts(Guard(host)).mount("/dev/pmem0", "ext4", POINT, options=["dax=always"], make=True)
    assert found == mounted()
    assert host.changes == [f"acts mount_at make {POINT} @node@ -t ext4 -o dax=always"]
    assert host.acts[0].targets == ("-p /dev/pmem0",)


def test_a_namespace_is_mounted_by_its_uuid() -> None:
    namespace = owned(MINE)
    host = RecordedHost({"mountinfo": [table(), table(mounted())], "mount_at": left(0, f"{mounted().device}\n")})
    assert Mounts(Guard(host)).mount(namespace, "ext4", POINT) == mounted()
    assert host.acts[0].targets == (f"-n {namespace.uuid}",)


def test_a_mount_that_reports_success_and_is_not_there_is_a_failure() -> None:
    host = RecordedHost({"mountinfo": table(), "mount_at": left(0, "259:0\n"), "rmdir": left(0)})
    with pytest.raises(CommandError, match=r"not mounted at .* though mount exited 0"):
        Mounts(Guard(host)).mount("/dev/pmem0", "ext4", POINT, make=True)
    assert host.asked[-1] == ("rmdir", POINT)


def test_dax_that_xfs_turned_off_in_silence_is_a_failure_and_is_unmounted() -> None:
    silent = mounted("xfs-sector-dax-always")
    assert silent.dax == "never"
    host = RecordedHost(
        {
            "mountinfo": [table(), table(silent), table()],
            "unmount_from": left(0),
            "mount_at": left(0, f"{silent.device}\n"),
        }
    )
    with pytest.raises(CommandError, match=r"the kernel has it with dax=never"):
        Mounts(Guard(host)).mount(silent.source, "xfs", POINT, options=["dax=always"])
    assert host.changes[-1].startswith(f"acts unmount_from {silent.device} {POINT} ")


def test_another_device_than_the_one_asked_for_is_a_failure() -> None:
    other = replace(mounted(), device="259:77", source="/dev/pmem1")
    host = RecordedHost(
        {
            "mountinfo": [table(), table(other), table()],
            "unmount_from": left(0),
            "mount_at": left(0, f"{mounted().device}\n"),
        }
    )
    with pytest.raises(CommandError, match="the kernel lists /dev/pmem1 at"):
        Mounts(Guard(host)).mount("/dev/pmem0", "ext4", POINT)


@pytest.mark.parametrize("point", ["mnt", "/mnt/", "", "/"])
def test_a_mount_point_that_cannot_be_is_refused(point: str) -> None:
    with pytest.raises(InvalidValueError, match="mount_point"):
        Mounts(Guard(RecordedHost({"mountinfo": table()}))).mount("/dev/pmem0", "ext4", point)


@pytest.mark.parametrize("said", ["absent", "full"])
def test_a_directory_that_is_absent_or_not_empty_is_refused(said: str) -> None:
    host = RecordedHost({"mountinfo": table(), "mount_at": left(1, f"{said}\n")})
    with pytest.raises(InvalidValueError, match="an existing empty directory"):
        Mounts(Guard(host)).mount("/dev/pmem0", "ext4", "/mnt")


def test_a_mount_point_that_is_taken_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="this one has /dev/pmem0 at '/run/a mount point'"):
        Mounts(Guard(RecordedHost({"mountinfo": table(mounted())}))).mount("/dev/pmem1", "ext4", POINT)


def test_what_is_busy_is_told_with_its_users() -> None:
    busy = left(32, stderr="umount: target is busy.\n")
    host = RecordedHost(
        {"mountinfo": table(mounted()), "unmount_from": busy, "readlink": left(0, "process 7 (sleep)\n")}
    )
    with pytest.raises(BusyError, match=r"is in use: process 7 \(sleep\)"):
        Mounts(Guard(host)).unmount(mounted())


def test_an_unmount_that_reports_success_and_did_nothing_is_a_failure() -> None:
    host = RecordedHost({"mountinfo": table(mounted()), "unmount_from": left(0), "readlink": left(0)})
    with pytest.raises(BusyError, match="the program is unknown"):
        Mounts(Guard(host)).unmount(mounted())


def test_an_unmount_that_left_the_directory_is_a_failure() -> None:
    left_there = left(1, stderr="rmdir: failed to remove\n")
    host = RecordedHost({"mountinfo": table(), "unmount_from": left_there})
    with pytest.raises(CommandError, match=f"Could not remove {POINT}"):
        Mounts(Guard(host)).unmount(mounted(), remove=True)


def test_what_is_not_mounted_is_told_with_what_is() -> None:
    with pytest.raises(NotFoundError, match=r"No mount point '/mnt'.*There are: /run/a mount point"):
        Mounts(Guard(RecordedHost({"mountinfo": table(mounted())}))).at("/mnt")


# File systems


def test_what_a_device_holds_is_read_from_the_device() -> None:
    host = RecordedHost({"blkid": [recorded(BLKID, "blkid_empty"), recorded(BLKID, "blkid_ext4")]})
    assert read_file_system(host, "/dev/pmem0").type == ""
    found = read_file_system(host, "/dev/pmem0")
    assert found.type == "ext4"
    assert len(found.uuid) == 36


@pytest.mark.parametrize(
    ("said", "kind"),
    [("PTUUID=1\nPTTYPE=gpt\n", "gpt"), ("TYPE=ambivalent\n", "ambivalent"), ("TYPE=LVM2_member", "L")],
)
def test_whatever_is_known_on_a_device_is_in_the_way(said: str, kind: str) -> None:
    with pytest.raises(InvalidValueError, match=f"this device holds {kind}.*overwrite=True"):
        make_file_system(Guard(RecordedHost({"blkid": left(0, said)})), "/dev/pmem0", FileSystemType.ext4)


def test_what_is_in_use_gets_no_file_system() -> None:
    host = RecordedHost({"blkid": left(0)}, users="mounted at /mnt")
    with pytest.raises(BusyError, match="/dev/pmem0 is in use on recorded: mounted at /mnt"):
        make_file_system(Guard(host), "/dev/pmem0", FileSystemType.ext4)
    assert not host.acts


@pytest.mark.parametrize(
    ("kind", "command"),
    [("ext4", "mkfs.ext4 -q -F -b 4096 @node@"), ("xfs", "mkfs.xfs -q -f -b size=4096 -m reflink=0 @node@")],
)
def test_a_file_system_is_made_as_dax_needs_it(kind: str, command: str) -> None:
    namespace = owned(MINE)
    host = RecordedHost({"blkid": [left(0), left(0, f"TYPE={kind}\nUUID=u\n")], "mkfs": left(0)})
    assert make_file_system(Guard(host), namespace, FileSystemType(kind)).type == kind
    assert host.changes == [f"acts make_file_system @node@  {command}"]
    assert (host.acts[0].targets, host.acts[0].unused) == ((f"-n {namespace.uuid}",), True)


def test_a_mkfs_that_reports_success_and_did_nothing_is_a_failure() -> None:
    host = RecordedHost({"blkid": left(0), "mkfs": left(0)})
    with pytest.raises(CommandError, match=r"holds nothing known though mkfs\.ext4 succeeded"):
        make_file_system(Guard(host), "/dev/pmem0", FileSystemType.ext4)


def test_a_tool_that_is_missing_is_told_with_its_package() -> None:
    with pytest.raises(ToolMissingError, match="package util-linux"):
        read_file_system(RecordedHost({"blkid": left(127)}), "/dev/pmem0")
    host = RecordedHost({"blkid": left(0), "mkfs": left(127)})
    with pytest.raises(ToolMissingError, match="package xfsprogs"):
        make_file_system(Guard(host), "/dev/pmem0", FileSystemType.xfs)


@pytest.mark.parametrize(("said", "valid"), [("absent", "a path that exists"), ("other", "a block device")])
def test_what_is_no_block_device_is_refused(said: str, valid: str) -> None:
    with pytest.raises(InvalidValueError, match=valid):
        make_file_system(Guard(RecordedHost({"blkid": left(0, f"{said}\n")})), "/dev/dax0.0", FileSystemType.ext4)


def test_a_device_without_a_file_system_cannot_be_mounted() -> None:
    with pytest.raises(InvalidValueError, match="Make File System"):
        read_file_system(RecordedHost({"blkid": left(0)}), "/dev/pmem0").known_type()


def test_an_empty_partition_holds_nothing() -> None:
    """blkid exits 0 for an empty partition, and describes its entry in the partition table."""
    entry = "DEVNAME=/dev/pmem0p1\nPART_ENTRY_SCHEME=gpt\nPART_ENTRY_TYPE=0fc63daf-8483-4772-8e79-3d69d8477de4\n"
    assert read_file_system(RecordedHost({"blkid": left(0, entry)}), "/dev/pmem0p1").type == ""
    full = left(0, f"{entry}UUID=u\nTYPE=ext4\n")
    assert read_file_system(RecordedHost({"blkid": full}), "/dev/pmem0p1").type == "ext4"
    with pytest.raises(UnreadableOutputError, match="did not report the type"):
        read_file_system(RecordedHost({"blkid": left(0, f"{entry}USAGE=other\n")}), "/dev/pmem0p1")


# DAX and MAP_SYNC


@pytest.mark.parametrize(("option", "dax", "cached"), [("always", True, 0), ("inode", False, 4), ("never", False, 4)])
def test_a_new_file_is_dax_by_statx_and_by_the_page_cache(option: str, dax: bool, cached: int) -> None:
    found = read_file_dax(RecordedHost({"statx": recorded(KERNEL, f"state_dax-{option}")}), POINT)
    assert (found.attribute, found.dax, found.size, found.cached) == (dax, dax, 4 * MiB, cached * MiB)
    assert found.new


def test_an_existing_file_is_looked_at_as_it_is() -> None:
    found = read_file_dax(RecordedHost({"statx": recorded(KERNEL, "state_existing-file")}), "/usr/bin/true")
    assert (found.new, found.dax) == (False, False)
    assert found.size % MiB


@pytest.mark.parametrize(
    ("attribute", "cached", "new"), [(True, 1, True), (True, 1, False), (False, 0, True)]
)  # fmt: skip
def test_a_kernel_that_contradicts_itself_is_told(attribute: bool, cached: int, new: bool) -> None:
    with pytest.raises(ViewsDisagreeError, match="contradicts itself"):
        assert FileDax("/f", attribute, Size(MiB), Size(cached * MiB), new).dax


def test_a_kernel_that_does_not_tell_is_refused() -> None:
    told = recorded(KERNEL, "state_dax-always").text.replace("attributes_mask = 0x3", "attributes_mask = 0x1")
    silent = RecordedHost({"statx": left(0, told)})
    with pytest.raises(UnsupportedError, match=r"does not report whether .* is DAX. Kernel 5.8 and newer do"):
        read_file_dax(silent, POINT)
    with pytest.raises(UnreadableOutputError, match="did not report the attributes"):
        read_file_dax(RecordedHost({"statx": left(0, "new 4194304\n")}), POINT)


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("dax-always", "granted"),
        ("dax-inode", "EOPNOTSUPP"),
        ("dax-never", "EOPNOTSUPP"),
        ("tmpfs", "EOPNOTSUPP"),
    ],
)
def test_map_sync_is_granted_or_refused(name: str, answer: str) -> None:
    assert map_sync(RecordedHost({"mmap -rS": recorded(KERNEL, f"map-sync_{name}")}), POINT) == answer


def test_another_refusal_of_mmap_keeps_its_name() -> None:
    host = RecordedHost({"mmap": left(1, stderr="mmap: Invalid argument\n")})
    assert map_sync(host, POINT) == "EINVAL"


def test_a_failure_that_is_not_mmaps_is_no_refusal() -> None:
    with pytest.raises(CommandError, match="mktemp: no space"):
        map_sync(RecordedHost({"mmap": left(1, stderr="mktemp: no space\n")}), POINT)


@pytest.mark.parametrize("look", [map_sync, read_file_dax])
def test_a_path_that_is_not_there_and_a_missing_tool_are_told(look: Callable[..., object]) -> None:
    with pytest.raises(InvalidValueError, match="a path that exists"):
        look(RecordedHost({"xfs_io": left(0, "absent\n")}), "/absent")
    with pytest.raises(ToolMissingError, match="package xfsprogs"):
        look(RecordedHost({"xfs_io": left(127)}), POINT)


# Whose a mount is


def owned(run: RunMark, node: str = "pmem0") -> Namespace:
    return Namespace("namespace0.0", NamespaceMode.raw, uuid=run.new_uuid(), blockdev=node)


def test_a_mount_point_that_a_run_made_tells_the_run() -> None:
    mount = replace(mounted(), mount_point=new_mount_point(MINE))
    assert is_made(mount)
    assert mount_run(mount, []) == MINE.run_id
    assert mount_run(mount, [owned(OTHER)]) == MINE.run_id


def test_a_mount_of_a_runs_namespace_is_the_runs_wherever_it_is() -> None:
    assert not is_made(mounted())
    assert mount_run(mounted(), [owned(OTHER, "pmem1"), owned(MINE)]) == MINE.run_id
    assert mount_run(mounted(), [owned(MINE, "pmem1")]) == ""
    assert mount_run(replace(mounted(), node=""), [owned(MINE, "")]) == ""


@pytest.mark.parametrize("point", ["/run/vpmem-0123abcd", "/run/vpmem-0123abcd-5f0e6d/x", "/mnt/vpmem-0123abcd-5f0e6d"])
def test_other_directories_are_no_marks(point: str) -> None:
    assert not is_made(replace(mounted(), mount_point=point))


def test_a_foreign_mount_is_refused_with_its_maker() -> None:
    require_own_mount(MINE, mounted(), [owned(MINE)])
    with pytest.raises(ForeignError, match="run ffffffff made it"):
        require_own_mount(MINE, mounted(), [owned(OTHER)])
    with pytest.raises(ForeignError, match="no run made it"):
        require_own_mount(MINE, mounted(), [])


def test_a_cleanup_unmounts_what_is_the_runs_own_and_the_last_first() -> None:
    first = replace(mounted(), mount_point=new_mount_point(MINE), node="pmem7", device="259:7")
    inner = replace(first, mount_point="/mnt", node="pmem0", device="259:0")
    foreign = replace(mounted(), mount_point=new_mount_point(OTHER), node="pmem8", device="259:8")
    everything = table(first, foreign, inner)
    host = RecordedHost(
        {
            "ndctl list": left(0, '[{"dev":"ndbus0","regions":[{"dev":"region0","namespaces":[{"dev":"namespace0.0",'
            f'"mode":"raw","uuid":"{MINE.new_uuid()}","blockdev":"pmem0"}}]}}]}}]'),
            "mountinfo": [everything, table(first, foreign), table(foreign)],
            "unmount_from": left(0),
        }
    )  # fmt: skip
    unmounted = unmount_owned(Host("recorded", host), MINE)
    assert [mount.mount_point for mount in unmounted] == ["/mnt", first.mount_point]
    assert host.changes == [
        "acts unmount_from 259:0 /mnt /mnt ",
        f"acts unmount_from 259:7 {first.mount_point} {first.mount_point} remove",
    ]


def test_a_mount_that_leaked_or_went_is_reported() -> None:
    region = Region("region0", Size(1 << 30), Size(0), namespaces=(owned(OTHER),))
    inventory = Inventory((Bus("ndbus0", regions=(region,)),))
    before = HostState.of(inventory)
    after = HostState.of(inventory, mounts=[mounted(), replace(mounted(), mount_point="/", node="vda1")])
    assert before.difference(after) == ("leaked: mount of /dev/pmem0 at '/run/a mount point' (ext4)",)
    assert after.difference(before) == ("gone: mount of /dev/pmem0 at '/run/a mount point' (ext4)",)


def test_mounts_of_dead_runs_go_and_those_of_living_ones_and_of_no_run_stay() -> None:
    dead = replace(mounted(), mount_point=new_mount_point(OTHER), node="pmem1", device="259:1")
    mine = replace(mounted(), mount_point=new_mount_point(MINE), node="pmem2", device="259:2")
    everything = table(dead, mine, mounted())
    host = RecordedHost(
        {
            "ndctl list": left(0),
            "mountinfo": [everything, table(mine, mounted())],
            "unmount_from": left(0),
        }
    )
    unmounted = unmount_of(Host("recorded", host), lambda maker: maker != MINE.run_id)
    assert [mount.mount_point for mount in unmounted] == [dead.mount_point]
    assert host.changes == [f"acts unmount_from 259:1 {dead.mount_point} {dead.mount_point} remove"]
