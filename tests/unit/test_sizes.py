"""Sizes: read as people write them, exact inside, printed with the largest exact unit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import GiB, KiB, MiB, Size, TiB

sizes = st.integers(min_value=0, max_value=1 << 60)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("268435456", 256 * MiB),
        ("256MiB", 256 * MiB),
        (" 16 GiB ", 16 * GiB),
        ("4KiB", 4 * KiB),
        ("2TiB", 2 * TiB),
        ("7B", 7),
        (12, 12),
    ],
)
def test_what_is_read(text: str | int, value: int) -> None:
    assert Size.parse(text) == value


@pytest.mark.parametrize(
    "text", ["16GB", "16G", "1.5GiB", "-1", "", "GiB", "0x10", "1e3", "16gib", "1 6MiB", "\u0661", -1, True, 1.5, None]
)
def test_what_is_refused(text: object) -> None:
    with pytest.raises(InvalidValueError, match=r"size .* cannot be used: expected .*256MiB"):
        Size.parse(text)  # type: ignore[arg-type]


@given(sizes)
def test_what_is_printed_reads_back(value: int) -> None:
    assert Size.parse(str(Size(value))) == value


@given(sizes, st.integers(min_value=1, max_value=1 << 40))
def test_the_multiples_on_either_side_are_the_nearest(value: int, step: int) -> None:
    below, above = Size(value).down_to(step), Size(value).up_to(step)
    assert below <= value <= above
    assert below % step == above % step == 0
    assert above - below == (0 if value % step == 0 else step)


@given(sizes, sizes)
def test_sums_and_differences_stay_sizes(left: int, right: int) -> None:
    assert isinstance(Size(left) + right, Size)
    assert (Size(left) + right) - right == left


def test_the_largest_exact_unit_is_printed() -> None:
    assert [str(Size(value)) for value in (254 * MiB, 266338305, GiB, 0)] == ["254MiB", "266338305B", "1GiB", "0B"]
