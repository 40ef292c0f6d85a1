"""Mistakes that are refused before anything is defined."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import CommandError, InvalidValueError, UnreadableOutputError
from VpmemLibrary.guest.domain.checks import check_backings, check_device, check_devices, refuse_present
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

GOOD = VpmemDevice(path="/dev/dax0.0", size=Size(254 * MiB))


def test_a_good_device_is_taken() -> None:
    check_device(GOOD)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"path": "dax0.0"}, "path 'dax0.0'.*an absolute path"),
        ({"size": Size(254 * MiB + 4096)}, "a multiple of 2MiB: 254MiB or 256MiB"),
        ({"size": Size(0)}, "a multiple of 2MiB"),
        ({"align": Size(3 * MiB)}, "a power of two"),
        ({"align": Size(1 * KiB)}, "from 4KiB"),
        ({"label_size": Size(64 * KiB)}, "at least 128KiB"),
        ({"label_size": Size(254 * MiB)}, "less than the device's 254MiB"),
        ({"label_size": Size(253 * MiB)}, "leaves a region"),
        ({"node": None}, "a NUMA node"),
        ({"node": -1}, "a NUMA node"),
        ({"access": None}, "shared: with any other"),
        ({"access": Access.private}, "nothing persists"),
        ({"model": VpmemModel.virtio_pmem}, "no label area"),
        ({"model": VpmemModel.virtio_pmem, "label_size": None}, "PCI device"),
    ],
)
def test_a_wrong_device_is_refused_with_what_would_be_right(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        check_device(replace(GOOD, **changes))


def test_a_device_that_does_not_persist_is_taken_when_it_is_wanted_so() -> None:
    check_device(replace(GOOD, access=None), unshared=True)


def test_one_backing_for_two_devices_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="another backing"):
        check_devices([GOOD, replace(GOOD, size=Size(64 * MiB))])


def test_an_absent_backing_is_refused_and_not_made(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    with pytest.raises(InvalidValueError, match=r"absent.*a device node or file"):
        check_backings(LocalTransport(), [replace(GOOD, path=str(path))])
    assert not path.exists()


def test_a_sparse_file_that_would_be_allocated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(64 * MiB)
    device = replace(GOOD, path=str(path), size=Size(64 * MiB), pmem=False)
    with pytest.raises(InvalidValueError, match=r"fallocate -l 67108864 .*sparse.*0B of 64MiB are"):
        check_backings(LocalTransport(), [device])
    assert path.stat().st_blocks == 0
    check_backings(LocalTransport(), [replace(device, pmem=True)])
    with path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, 64 * MiB)
    check_backings(LocalTransport(), [device])


def test_a_backing_that_is_too_small_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "small"
    with path.open("wb") as file:
        file.truncate(64 * MiB)
    with pytest.raises(InvalidValueError, match="at most the size of the backing, 64MiB"):
        check_backings(LocalTransport(), [replace(GOOD, path=str(path))])
    check_backings(LocalTransport(), [replace(GOOD, path=str(path), size=Size(64 * MiB))])


@pytest.mark.parametrize("access", [Access.private, None])
def test_device_dax_that_is_not_shared_is_refused_and_a_file_is_taken(access: Access | None) -> None:
    device = replace(GOOD, access=access)
    node = RecordedHost({"blockdev": left(0, f"c {int(GOOD.size)} 2097152 char:fc:0 0\n")})
    with pytest.raises(InvalidValueError, match="shared: device DAX cannot be mapped otherwise"):
        check_backings(node, [device])
    check_backings(RecordedHost({"blockdev": left(0, f"f {int(GOOD.size)} 0 file:1:2 {int(GOOD.size)}\n")}), [device])


@pytest.mark.parametrize("line", ["", "c x 0 char:fc:0 0", "q 1 0 char:fc:0 0", "c " + "9" * 5000 + " 0 char:fc:0 0"])
def test_an_odd_answer_about_a_backing_is_an_error_of_the_library(line: str) -> None:
    class Odd:
        name = "odd"

        def run(self, argv: Sequence[str]) -> CommandResult:
            return CommandResult(tuple(argv), 0, f"{line}\n".encode(), b"", 0.1)

    host: Any = Odd()
    with pytest.raises(UnreadableOutputError, match="did not report the kind of each backing"):
        check_backings(host, [GOOD])


def test_a_path_is_free_only_if_nothing_is_there(tmp_path: Path) -> None:
    file, link, loop = tmp_path / "file", tmp_path / "link", tmp_path / "loop"
    file.touch()
    link.symlink_to(tmp_path / "nothing")
    loop.symlink_to(loop)
    for path in (str(file), str(tmp_path), str(link), str(loop), "relative", ""):
        with pytest.raises(InvalidValueError, match="an absolute path on local that does not exist yet"):
            refuse_present(LocalTransport(), path)
    refuse_present(LocalTransport(), str(tmp_path / "nothing"))


@pytest.mark.parametrize("status", [1, 2, 126, 127, 255])
def test_a_host_that_cannot_look_says_nothing_of_a_path(status: int) -> None:
    with pytest.raises(CommandError, match="Could not check whether /path exists"):
        refuse_present(RecordedHost({"/path": left(status)}), "/path")
