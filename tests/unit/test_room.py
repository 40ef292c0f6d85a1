"""How a region is divided, on what sysfs and ndctl 81 said of one with two gaps (tests/data/ndctl)."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_ndctl_changes import left, recorded

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.pmem.decode import decode_inventory
from VpmemLibrary.pmem.regions.room import Extent, Room, decode_room
from VpmemLibrary.sizes import GiB, MiB, Size

ALIGN = 16 * MiB
START = 6 * GiB


def divided(*taken: tuple[int, int], size: int = GiB, align: int = ALIGN) -> Room:
    """Return the room of a region with namespaces at those places, in the order in which they are listed."""
    lines = [f"region0 {START:#x} {size}"]
    lines += [f"namespace0.{number} {START + offset:#x} {length}" for number, (offset, length) in enumerate(taken)]
    return decode_room(left(0, "\n".join(lines)), align=align)


def test_gaps_and_their_sum_are_those_of_ndctl() -> None:
    room = decode_room(recorded("room"), align=ALIGN)
    (region,) = decode_inventory(recorded("room-listed")).regions
    assert [(extent.size, bool(extent.holder)) for extent in room.extents] == [
        *((32 * MiB, taken) for taken in (True, False, True, False, True)),
        (GiB - 5 * 32 * MiB, False),
    ]
    assert room.available == region.available_size
    assert room.largest == region.max_available_extent
    assert {extent.holder for extent in room.extents if extent.holder} == {ns.dev for ns in region.namespaces}


def test_a_new_namespace_is_put_where_it_first_fits() -> None:
    room = divided((32 * MiB, 64 * MiB), (112 * MiB, 16 * MiB))
    assert room.place(16 * MiB) == Extent(Size(0), Size(32 * MiB))
    assert room.place(48 * MiB) == Extent(Size(128 * MiB), Size(GiB - 128 * MiB))
    assert room.place(GiB) is None


def test_fragmentation_is_what_lies_outside_the_largest_piece() -> None:
    assert divided().fragmentation == 0
    assert divided((0, GiB)).fragmentation == 0
    assert divided((256 * MiB, 512 * MiB)).fragmentation == 50
    assert divided((16 * MiB, GiB - 112 * MiB)).fragmentation == 14
    assert divided((0, GiB)).largest == 0


def test_what_is_less_than_the_alignment_is_no_room() -> None:
    room = divided((ALIGN, 32 * MiB - 4096), size=64 * MiB - 4096)
    assert [(extent.offset, extent.size) for extent in room.free] == [(0, ALIGN)]


@given(st.lists(st.integers(min_value=0, max_value=63), unique=True, max_size=64))
def test_pieces_cover_the_region_once(places: list[int]) -> None:
    room = divided(*((place * ALIGN, ALIGN) for place in places))
    assert sum(extent.size for extent in room.extents) == GiB
    assert all(one.offset + one.size == two.offset for one, two in pairwise(room.extents))
    assert all(one.holder or two.holder for one, two in pairwise(room.extents))
    assert room.available == GiB - len(places) * ALIGN
    assert 0 <= room.fragmentation < 100


@pytest.mark.parametrize("text", ["", "region0  1073741824", "region0 0x0 x", "region0 0x0 1 2", "region0"])
def test_what_sysfs_does_not_tell_is_an_error(text: str) -> None:
    with pytest.raises(UnreadableOutputError, match="does not report the addresses"):
        decode_room(left(0, text), align=ALIGN)
