"""Attaching devices: what is refused before libvirt is asked, held against the XML of a recorded guest."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from recorded_guest import LIVE_XML, SMALL, VIRTIO

from VpmemLibrary.errors import InvalidValueError, OutOfSpaceError
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import read_room
from VpmemLibrary.guest.hotplug import check_room, in_domain
from VpmemLibrary.sizes import GiB, Size

NEW = replace(SMALL, path="/dev/dax7.0", slot=None)
ROOM = read_room(LIVE_XML)


def changed(old: str, new: str) -> str:
    assert old in LIVE_XML
    return LIVE_XML.replace(old, new)


def test_the_recorded_guest_has_room() -> None:
    assert (ROOM.slots, ROOM.used_slots, ROOM.cells) == (5, 2, 1)
    check_room("recorded", LIVE_XML, NEW)


def test_no_slot_left_is_told_with_how_many_there_are() -> None:
    with pytest.raises(OutOfSpaceError, match=r"no free memory slot for /dev/dax7.0: of its 2 slots, 2 are in use"):
        check_room("recorded", changed("slots='5'", "slots='2'"), NEW)


def test_a_virtio_pmem_device_takes_no_slot_but_before_libvirt_9_5() -> None:
    full = changed("slots='5'", "slots='2'")
    virtio = replace(VIRTIO, path="/dev/pmem7")
    check_room("recorded", full, virtio)
    check_room("recorded", full, virtio, libvirt=9_005_000)
    with pytest.raises(OutOfSpaceError, match=r"of its 2 slots, 3 are .*every model"):
        check_room("recorded", full, virtio, libvirt=9_004_000)


def test_a_device_without_access_has_that_of_the_domain() -> None:
    new = replace(NEW, access=None)
    with pytest.raises(InvalidValueError, match="nothing persists"):
        check_room("recorded", LIVE_XML, in_domain(LIVE_XML, new))
    shared = changed("<resource>", "<memoryBacking><access mode='shared'/></memoryBacking><resource>")
    check_room("recorded", shared, in_domain(shared, new))


def test_a_domain_without_room_for_devices_has_no_slot() -> None:
    start, end = LIVE_XML.index("  <maxMemory"), LIVE_XML.index("  <memory unit")
    with pytest.raises(OutOfSpaceError, match="of its 0 slots"):
        check_room("recorded", LIVE_XML[:start] + LIVE_XML[end:], NEW)


def test_the_room_that_is_left_is_told() -> None:
    left = ROOM.maximum - ROOM.memory
    check_room("recorded", LIVE_XML, replace(NEW, size=left.down_to(2 << 20)))
    with pytest.raises(OutOfSpaceError, match=f"and {left} are free"):
        check_room("recorded", LIVE_XML, replace(NEW, size=left.down_to(2 << 20) + 2 * (2 << 20)))


@pytest.mark.parametrize("there", [SMALL, VIRTIO])
def test_the_path_of_another_device_is_refused(there: VpmemDevice) -> None:
    with pytest.raises(InvalidValueError, match="another backing"):
        check_room("recorded", LIVE_XML, replace(NEW, path=there.path))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"path": "dax7.0"}, "an absolute path"),
        ({"size": Size(63 << 20)}, "62MiB or 64MiB"),
        ({"node": 1}, "a NUMA node of the guest: 0 to 0"),
        ({"size": Size(GiB), "label_size": Size(GiB)}, "less than the device's"),
        ({"access": None}, "nothing persists"),
    ],
)
def test_a_device_that_cannot_be_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidValueError, match=message):
        check_room("recorded", LIVE_XML, replace(NEW, **wrong))
