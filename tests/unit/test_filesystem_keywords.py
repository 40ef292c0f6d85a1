"""What the keywords for file systems take and refuse, and where they mount."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import ForeignError, InvalidValueError, NotFoundError
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.host.filesystems import FileSystemKeywords
from VpmemLibrary.keywords.host.ownership import OwnershipKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import CommandResult

MINE, OTHER = RunMark("0123abcd"), RunMark("ffffffff")


def listing() -> CommandResult:
    """Return an inventory with a namespace of this run, one of another, and one that is disabled."""
    namespaces = [
        {"dev": "namespace0.0", "mode": "raw", "uuid": MINE.new_uuid(), "blockdev": "pmem0", "name": "mine"},
        {"dev": "namespace0.1", "mode": "raw", "uuid": OTHER.new_uuid(), "blockdev": "pmem0.1", "name": "theirs"},
        {"dev": "namespace0.2", "mode": "raw", "uuid": MINE.new_uuid(), "state": "disabled", "name": "off"},
    ]
    regions = [{"dev": "region0", "namespaces": namespaces}]
    return left(0, json.dumps([{"dev": "ndbus0", "regions": regions}]))


def mounts(*points: tuple[str, str]) -> CommandResult:
    """Return the kernel's table with nodes mounted at mount points."""
    numbers = {"pmem0": "259:0", "pmem0.1": "259:1", "vda1": "254:1"}
    lines = [f"block {number} {node}" for node, number in numbers.items()]
    lines += [f"53 31 {numbers[node]} / {point} rw - ext4 /dev/{node} rw,dax=always" for node, point in points]
    return left(0, "\n".join(lines))


def keywords_on(**answers: CommandResult | list[CommandResult]) -> tuple[FileSystemKeywords, RecordedHost]:
    """Return the keywords on a host that has the listing, and what was asked of it."""
    known = dict(answers)
    host = RecordedHost({"ndctl list": listing(), "mktemp": left(0), **known})  # type: ignore[dict-item]
    session = Session(MINE, 60)
    session.add(OpenHost(Host("recorded", host), MINE))
    return FileSystemKeywords(session), host


def test_what_this_run_did_not_make_is_not_formatted_mounted_or_unmounted() -> None:
    keywords, host = keywords_on(mountinfo=mounts(("pmem0.1", "/mnt"), ("vda1", "/srv")))
    steps: tuple[Callable[[], object], ...] = (
        lambda: keywords.make_file_system("theirs"),
        lambda: keywords.make_file_system("/dev/vda1"),
        lambda: keywords.mount_file_system("theirs"),
        lambda: keywords.unmount_file_system("/mnt"),
        lambda: keywords.unmount_file_system("/srv"),
    )
    for step in steps:
        with pytest.raises(ForeignError, match="foreign=True"):
            step()
    assert not host.acts


def test_a_namespace_without_a_node_and_one_that_is_not_there_are_refused() -> None:
    keywords, _ = keywords_on()
    with pytest.raises(InvalidValueError, match="an active namespace"):
        keywords.make_file_system("off")
    with pytest.raises(NotFoundError, match="absent"):
        keywords.mount_file_system("absent")


def test_a_device_without_a_file_system_is_not_mounted() -> None:
    keywords, host = keywords_on(blkid=left(0))
    with pytest.raises(InvalidValueError, match="a device with a file system"):
        keywords.mount_file_system("mine")
    assert not host.acts


def test_a_mount_point_of_the_librarys_own_carries_the_runs_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("secrets.token_hex", lambda count: "5f0e6d" * (count // 3))
    point = "/run/vpmem-0123abcd-5f0e6d"
    keywords, host = keywords_on(
        blkid=left(0, "TYPE=ext4\n"),
        mountinfo=[mounts(), mounts(("pmem0", point))],
        mount_at=left(0, "259:0\n"),
    )
    assert keywords.mount_file_system("mine").mount_point == point
    assert host.changes == [f"acts mount_at make {point} @node@ -t ext4 -o dax=always"]
    assert host.acts[0].targets[0].startswith("-n "), "by its UUID"


def test_a_given_mount_point_is_neither_made_nor_removed() -> None:
    table = [mounts(), mounts(("pmem0", "/mnt")), mounts(("pmem0", "/mnt")), mounts()]
    keywords, host = keywords_on(
        blkid=left(0, "TYPE=ext4\n"), mountinfo=table, unmount_from=left(0), mount_at=left(0, "259:0\n")
    )
    keywords.unmount_file_system(keywords.mount_file_system("mine", mount_point="/mnt"))
    assert host.changes == [
        "acts mount_at  /mnt @node@ -t ext4 -o dax=always",
        "acts unmount_from 259:0 /mnt /mnt ",
    ]


def test_own_mounts_go_and_the_mounts_of_others_stay() -> None:
    everything = mounts(("pmem0.1", "/theirs"), ("pmem0", "/mine"), ("vda1", "/"))
    without = mounts(("pmem0.1", "/theirs"), ("vda1", "/"))
    keywords, host = keywords_on(mountinfo=[everything, without], unmount_from=left(0))
    keywords.unmount_own_file_systems()
    assert host.changes == ["acts unmount_from 259:0 /mine /mine "]


def test_a_mount_that_is_left_fails_the_run() -> None:
    keywords, _ = keywords_on(
        mountinfo=[mounts(), mounts(("pmem0", "/mine"), ("vda1", "/"))], find=left(0), **{"bus/nd": left(0)}
    )
    ownership = OwnershipKeywords(keywords._session)
    opened = keywords._session.current
    opened.guests.names = list  # type: ignore[method-assign]
    ownership.remember_host_state()
    with pytest.raises(AssertionError, match=r"leaked: mount of /dev/pmem0 at /mine \(ext4\)$"):
        ownership.host_state_should_be_unchanged()
