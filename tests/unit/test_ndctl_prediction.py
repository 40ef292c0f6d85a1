"""Predicted sizes: the figures that were measured, and what holds for every size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.prediction import (
    SECTOR_SIZES,
    SMALLEST_NAMESPACE,
    checked_size,
    predict_usable_size,
    size_step,
    valid_sizes_around,
)
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import GiB, KiB, MiB, Size

chunks = st.integers(min_value=2, max_value=8192).map(lambda count: Size(count * 16 * MiB))


@pytest.mark.parametrize(
    ("size", "mode", "where", "usable"),
    [
        # Measured with ndctl 76.1 on kernel 6.1 and ndctl 81 on kernel 6.12.
        (64 * MiB, NamespaceMode.devdax, MapLocation.dev, 62 * MiB),
        (128 * MiB, NamespaceMode.devdax, MapLocation.dev, 124 * MiB),
        (256 * MiB, NamespaceMode.devdax, MapLocation.mem, 266338304),
        (512 * MiB, NamespaceMode.devdax, MapLocation.dev, 502 * MiB),
        (1008 * MiB, NamespaceMode.devdax, MapLocation.dev, 992 * MiB),
        (64 * MiB, NamespaceMode.fsdax, MapLocation.dev, 65011712),
        (64 * MiB, NamespaceMode.fsdax, MapLocation.mem, 62 * MiB),
        (16 * MiB, NamespaceMode.devdax, MapLocation.dev, 14680064),
        (64 * MiB, NamespaceMode.raw, None, 64 * MiB),
        (64 * MiB, NamespaceMode.sector, None, 65966080),
        (16 * MiB, NamespaceMode.sector, None, 15683584),
    ],
)
def test_measured_sizes(size: int, mode: NamespaceMode, where: MapLocation | None, usable: int) -> None:
    assert predict_usable_size(Size(size), mode=mode, map_location=where) == usable


def test_labels_1_1_leave_the_first_page_of_a_sector_namespace_free() -> None:
    assert predict_usable_size(Size(64 * MiB), mode=NamespaceMode.sector, label_version="1.1") == 65961984
    with pytest.raises(InvalidValueError, match=r"sector under labels 1\.1"):
        predict_usable_size(Size(16 * MiB), mode=NamespaceMode.sector, label_version="1.1")


@given(chunks, st.sampled_from(NamespaceMode), st.sampled_from(MapLocation))
def test_usable_is_less_than_taken_and_aligned(size: Size, mode: NamespaceMode, where: MapLocation) -> None:
    usable = predict_usable_size(size, mode=mode, map_location=where)
    assert 0 < usable <= size
    if mode in (NamespaceMode.fsdax, NamespaceMode.devdax):
        assert usable % (2 * MiB) == 0
        assert usable >= size - size // 64 - 2 * 2 * MiB


@given(chunks, st.sampled_from(NamespaceMode))
def test_more_taken_is_more_usable(size: Size, mode: NamespaceMode) -> None:
    assert predict_usable_size(size + 16 * MiB, mode=mode) > predict_usable_size(size, mode=mode)


@given(chunks, st.sampled_from(SECTOR_SIZES))
def test_a_sector_namespace_has_whole_sectors(size: Size, sector_size: int) -> None:
    usable = predict_usable_size(size, mode=NamespaceMode.sector, sector_size=sector_size)
    assert usable % (4096 if sector_size >= 4096 else 512) == 0


def test_an_alignment_of_one_gigabyte_depends_on_where_the_namespace_begins() -> None:
    def usable(start: int) -> int:
        return predict_usable_size(Size(4 * GiB), mode=NamespaceMode.devdax, align=Size(GiB), start=start)

    assert usable(0) == 3 * GiB
    assert usable(GiB - 128 * MiB) == 3 * GiB
    assert usable(GiB // 2) == 3 * GiB


@pytest.mark.parametrize("size", [0, 4096, 15 * MiB, 16 * MiB + 1])
def test_a_size_that_cannot_be_is_refused(size: int) -> None:
    with pytest.raises(InvalidValueError, match="at least 16MiB"):
        predict_usable_size(Size(size), mode=NamespaceMode.devdax)


@pytest.mark.parametrize("option", [{"align": Size(3)}, {"align": Size(0) + 64 * KiB}])
def test_an_alignment_that_is_none_is_refused(option: dict[str, Size]) -> None:
    with pytest.raises(InvalidValueError, match="4KiB or 2MiB or 1GiB"):
        predict_usable_size(Size(64 * MiB), mode=NamespaceMode.devdax, align=option["align"])


def test_the_step_is_that_of_the_region_and_of_every_dimm() -> None:
    assert size_step() == 16 * MiB
    assert size_step(region_align=Size(16 * MiB), ways=6, align=Size(2 * MiB)) == 48 * MiB
    assert size_step(region_align=Size(16 * MiB), ways=2, align=Size(GiB)) == 2 * GiB


def test_the_sizes_on_either_side_are_named() -> None:
    with pytest.raises(InvalidValueError, match="80MiB or 96MiB"):
        checked_size(Size(100_000_000), Size(16 * MiB))
    with pytest.raises(InvalidValueError, match=": 16MiB"):
        checked_size(Size(1), Size(16 * MiB))


@given(st.integers(min_value=0, max_value=1 << 45), st.sampled_from([16 * MiB, 48 * MiB, GiB]))
def test_the_sizes_named_are_taken(size: int, step: int) -> None:
    around = valid_sizes_around(Size(size), Size(step))
    for valid in around:
        assert checked_size(valid, Size(step)) == valid
        assert valid >= SMALLEST_NAMESPACE
    assert min(abs(valid - size) for valid in around) < max(step, SMALLEST_NAMESPACE) or size < SMALLEST_NAMESPACE
