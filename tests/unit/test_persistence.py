"""What persists where, and how QEMU has a backing mapped."""

from __future__ import annotations

import json

import pytest
from msgspec.structs import replace
from recorded_guest import DATA, LARGE, SMALL
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import InvalidValueError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.domain.records import Access, VpmemDevice
from VpmemLibrary.guest.persistence import BackingKind, backing_kind, persistence_of
from VpmemLibrary.guest.views.mappings import mapping_flags, read_mappings
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult

SHARED = VpmemDevice("/backing", Size(64 * MiB))
PRIVATE = replace(SHARED, access=Access.private)
MISSING = replace(SHARED, access=None)
VOLATILE = replace(SHARED, pmem=False)
QEMU = QemuProcess("a", "fdac04e7-f81a-4a2d-98aa-bddb17feca36", "+64055")


def recorded() -> CommandResult:
    """Return what the kernel said of QEMU's mappings of LARGE and SMALL."""
    data = json.loads((DATA / "linux-6.12.117+deb13-cloud-amd64_mappings.json").read_text())
    return left(0, data["stdout"])


@pytest.mark.parametrize(
    ("device", "kind", "restart", "power_loss", "reason"),
    [
        (SHARED, BackingKind.devdax, True, True, "medium"),
        (SHARED, BackingKind.dax_file, True, True, "with MAP_SYNC"),
        (VOLATILE, BackingKind.devdax, True, True, "medium"),
        (VOLATILE, BackingKind.dax_file, True, False, "without MAP_SYNC"),
        (SHARED, BackingKind.plain_file, True, False, "page cache"),
        (SHARED, BackingKind.memory_file, True, False, "which the host keeps"),
        (SHARED, BackingKind.memfd, False, False, "which QEMU frees"),
        *[
            (device, kind, False, False, "private copy")
            for device in (PRIVATE, MISSING)
            for kind in (BackingKind.devdax, BackingKind.dax_file, BackingKind.plain_file, BackingKind.memfd)
        ],
        (replace(SHARED, readonly=True), BackingKind.plain_file, True, True, "cannot write"),
        (replace(PRIVATE, readonly=True), BackingKind.devdax, True, True, "cannot write"),
    ],
)
def test_what_becomes_of_what_a_guest_wrote(
    device: VpmemDevice, kind: BackingKind, restart: bool, power_loss: bool, reason: str
) -> None:
    found = persistence_of(device, kind)
    assert (found.restart, found.power_loss) == (restart, power_loss)
    assert reason in found.reason


@pytest.mark.parametrize(
    ("said", "kind"),
    [("devdax", "devdax"), ("file tmpfs", "memory file"), ("file hugetlbfs", "memory file")],
)
def test_a_backing_is_what_the_kernel_says(said: str, kind: str) -> None:
    assert backing_kind(RecordedHost({"-ef": left(0, f"{said}\n")}), "/backing") == kind


@pytest.mark.parametrize(("attributes", "cached", "kind"), [("0x200000", "", "dax file"), ("0x0", "", "plain file")])
def test_a_file_is_a_dax_file_by_statx_and_not_by_its_file_system(attributes: str, cached: str, kind: str) -> None:
    state = f"file 4096\nstat.attributes = {attributes}\nstat.attributes_mask = 0x303874\n{cached}"
    host = RecordedHost({"-ef": left(0, "file xfs\n"), "statx": left(0, state)})
    assert backing_kind(host, "/backing") == kind


def test_what_can_be_no_backing_is_refused() -> None:
    with pytest.raises(InvalidValueError, match="a path that exists"):
        backing_kind(RecordedHost({"-ef": left(0, "absent\n")}), "/backing")
    with pytest.raises(UnsupportedError, match="neither a device-DAX node nor a file"):
        backing_kind(RecordedHost({"-ef": left(0, "other\n")}), "/backing")
    with pytest.raises(UnreadableOutputError, match="did not report the kind of"):
        backing_kind(RecordedHost({"-ef": left(0)}), "/backing")


@pytest.mark.parametrize("device", [LARGE, SMALL])
def test_qemu_maps_device_dax_with_map_sync(device: VpmemDevice) -> None:
    flags = mapping_flags(RecordedHost({"smaps": recorded()}), QEMU, device.path)
    assert {"rd", "wr", "sh", "sf"} <= set(flags)


def test_a_library_is_mapped_without_it() -> None:
    library = next(each for each in read_mappings(RecordedHost({"smaps": recorded()}), QEMU) if ".so" in each.path)
    assert "sf" not in library.flags


def test_a_backing_is_found_by_its_whole_path_and_otherwise_by_its_last_part() -> None:
    host = RecordedHost({"smaps": left(0, "rd sf\t/a/file\nrd sh\t/b/file\n")})
    assert mapping_flags(host, QEMU, "/a/file") == ("rd", "sf")
    assert mapping_flags(host, QEMU, "/elsewhere/file") == ("rd",)
    with pytest.raises(NotFoundError, match=r"No mapping of '/c'.*There are: /a/file, /b/file"):
        mapping_flags(host, QEMU, "/c")


def test_a_mapping_of_another_form_is_refused() -> None:
    with pytest.raises(UnreadableOutputError, match="without a path"):
        read_mappings(RecordedHost({"smaps": left(0, "rd wr\n")}), QEMU)
