"""Label areas decoded, on bytes that ndctl 81 and kernel 6.12 wrote (tests/data/labels)."""

from __future__ import annotations

import gzip
import json
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.labels.area import (
    LABEL_SIZES,
    LabelArea,
    LabelFlag,
    decode_label_area,
    fletcher64,
    index_size,
    set_problems,
    slot_count,
)
from VpmemLibrary.sizes import KiB, MiB, Size

DATA = Path(__file__).parents[1] / "data" / "labels"
STATES = ("empty-1.1", "used-1.1", "empty-1.2", "used-1.2", "by-the-kernel", "zeroed")

CHECKSUM = 64
FREE = 72
SLOTS = 512  # where the first slot begins: two index blocks of 256 bytes
SLOT, FLAGS, NLABEL, POSITION, DPA = 120, 80, 84, 86, 104


def recorded_bytes(state: str) -> bytes:
    return gzip.decompress((DATA / f"{state}.bin.gz").read_bytes())


def recorded_json(state: str) -> dict[str, Any]:
    recorded = json.loads((DATA / f"ndctl-81_read-{state}.json").read_text())
    (dimm,) = json.loads("\n".join(recorded["stdout"]))
    return dict(dimm)


def area_of(state: str) -> LabelArea:
    return decode_label_area(recorded_bytes(state), "nmem0")


def put(data: bytes, at: int, piece: bytes) -> bytes:
    return data[:at] + piece + data[at + len(piece) :]


def resealed_index(data: bytes, number: int) -> bytes:
    """Return an area whose index block has the checksum of its bytes."""
    start, end = number * 256, number * 256 + 256
    data = put(data, start + CHECKSUM, bytes(8))
    return put(data, start + CHECKSUM, struct.pack("<Q", fletcher64(data[start:end])))


def changed_label(data: bytes, slot: int, at: int, piece: bytes) -> bytes:
    """Return an area of version 1.2 in which a label has other bytes, and the checksum of them."""
    start = SLOTS + 256 * slot
    data = put(put(data, start + at, piece), start + 248, bytes(8))
    return put(data, start + 248, struct.pack("<Q", fletcher64(data[start : start + 256])))


@pytest.mark.parametrize("state", STATES)
def test_index_blocks_are_read_as_ndctl_reads_them(state: str) -> None:
    blocks = area_of(state).index_blocks
    for block, seen in zip(blocks, recorded_json(state)["index"], strict=True):
        assert (block.major, block.minor, block.seq, block.nslot) == (
            seen["major"], seen["minor"], seen["seq"], seen["nslot"]
        )  # fmt: skip
        assert block.labelsize == seen["labelsize"]


@pytest.mark.parametrize("state", ["used-1.1", "used-1.2", "by-the-kernel"])
def test_labels_are_read_as_ndctl_reads_them(state: str) -> None:
    """ndctl lists labels in free slots among the others, and the bytes of GUIDs in their wrong order."""
    area = area_of(state)
    ours = {label.slot: label for label in (*area.labels, *area.former)}
    theirs = {seen["slot"]: seen for seen in recorded_json(state)["label"]}
    assert ours.keys() == theirs.keys()
    for slot, seen in theirs.items():
        label = ours[slot]
        for field in ("uuid", "name", "position", "nlabel", "flags", "isetcookie", "lbasize", "dpa", "rawsize"):
            assert getattr(label, field) == seen[field]
        for field in ("type_guid", "abstraction_guid"):
            if area.version == "1.2":
                assert uuid.UUID(getattr(label, field)).bytes_le == uuid.UUID(seen[field]).bytes
            else:
                assert getattr(label, field) == ""


def test_labels_that_count_are_told_from_those_that_were_replaced() -> None:
    for state in ("used-1.1", "used-1.2"):
        area = area_of(state)
        assert [(label.name, label.at) for label in area.labels] == [("one", 1), ("three", 3), ("four", 4)]
        assert {label.name for label in area.former} == {"two"}
        assert any(label.flags == LabelFlag.updating for label in area.former)
        assert area.current == 1
        assert area.free == area.nslot - 3
        assert area.problems == ()


def test_what_claims_a_namespace_is_in_labels_of_version_1_2() -> None:
    assert [label.abstraction for label in area_of("used-1.2").labels] == ["dax", "btt2", ""]
    assert [label.abstraction for label in area_of("used-1.1").labels] == ["", "", ""]
    assert {label.type_guid for label in area_of("used-1.2").labels} == {"66f0d379-b4f3-4074-ac43-0d3318b78cdb"}


def test_an_area_of_zeros_has_no_labels() -> None:
    area = area_of("zeroed")
    assert (area.version, area.current, area.nslot, area.free, area.blank) == ("", None, 0, 0, True)
    assert area.problems == ("nmem0: no labels: the label area is all zeros",)


@pytest.mark.parametrize("state", ["empty-1.1", "empty-1.2", "by-the-kernel"])
def test_the_slots_are_as_many_as_predicted(state: str) -> None:
    area = area_of(state)
    assert area.problems == ()
    assert area.nslot == slot_count(area.size, area.version)


@pytest.mark.parametrize(
    ("size", "version", "slots"),
    [
        (Size(1 * KiB), "1.1", 4),
        (Size(1 * KiB), "1.2", 2),
        (Size(128 * KiB), "1.1", 1020),
        (Size(128 * KiB), "1.2", 510),
        (Size(256 * KiB), "1.1", 2040),
        (Size(256 * KiB), "1.2", 1022),
        (Size(2 * MiB), "1.1", 16348),
        (Size(2 * MiB), "1.2", 8182),
    ],
)
def test_slot_counts_by_the_kernels_arithmetic(size: Size, version: str, slots: int) -> None:
    assert slot_count(size, version) == slots


@given(size=st.integers(min_value=1024, max_value=64 * MiB), version=st.sampled_from(sorted(LABEL_SIZES)))
def test_index_blocks_and_slots_fit_into_any_area(size: int, version: str) -> None:
    slots, index = slot_count(size, version), index_size(size, version)
    assert 2 * index + slots * LABEL_SIZES[version] <= size
    assert 8 * (index - FREE) >= slots
    assert index % 256 == 0


def test_a_version_or_an_area_that_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidValueError, match=r"1\.1 or 1\.2"):
        slot_count(128 * KiB, "2.1")
    with pytest.raises(InvalidValueError, match="label area '768B' cannot be used: expected at least 1024 bytes"):
        slot_count(768, "1.2")
    with pytest.raises(InvalidValueError, match="label area"):
        decode_label_area(b"")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda data: put(data, 0, b"NOTHING"), "index block 0: its signature is b'NOTHINGCE_INDEX"),
        (lambda data: put(data, 0, bytes(256)), "index block 0: is blank"),
        (lambda data: put(data, FREE, b"\0"), "index block 0: its checksum is 0x"),
        (lambda data: resealed_index(put(data, 19, b"\2"), 0), "its labels have 512 bytes, not 256"),
        (
            lambda data: resealed_index(put(data, 20, b"\4"), 0),
            "index block 0: its sequence number is 4, not 1, 2 or 3",
        ),
        (lambda data: resealed_index(put(data, 20, b"\2"), 0), "both index blocks have the sequence number 2"),
        (lambda data: resealed_index(put(data, 24, b"\1"), 0), "index block 0: its own offset is 1, not 0"),
        (lambda data: resealed_index(put(data, 40, b"\1"), 0), "its offset of the other block is 257, not 256"),
        (lambda data: resealed_index(put(data, 32, b"\1\2"), 0), "its size is 513 bytes, but there is space for 256"),
        (lambda data: resealed_index(put(data, 56, b"\0\2"), 0), "its 512 slots do not fit into the 128KiB"),
        (lambda data: resealed_index(put(data, 56, b"\1\1"), 0), "the index blocks differ in nslot: 257 and 510"),
        (lambda data: put(data, SLOTS + 256 + 200, b"x"), "label in slot 1: its checksum is 0x"),
        (lambda data: put(data, SLOTS + 256, bytes(256)), "label in slot 1: is blank, though its slot is in use"),
        (lambda data: changed_label(data, 1, SLOT, b"\7"), "label in slot 1: its own slot number is 7"),
        (lambda data: changed_label(data, 1, DPA, b"\1"), "label in slot 1: it begins at 0x1 and has 67108864 bytes"),
        (
            lambda data: changed_label(data, 1, POSITION, b"\1"),
            "label in slot 1: its position, counted from 0, is 1 of 1",
        ),
        (lambda data: changed_label(data, 1, FLAGS, b"\x08"), "label in slot 1: its update is not finished"),
        (
            lambda data: changed_label(data, 3, DPA, struct.pack("<Q", 32 * MiB)),
            "label in slot 3: begins at 0x2000000, but that in slot 1 ends at 0x4000000",
        ),
        (
            lambda data: changed_label(data, 3, 0, data[SLOTS + 256 : SLOTS + 272]),
            "2 labels have the UUID 413b338f-4327-4232-81b9-4c0cb112a16b: the labels in slots 1, 3",
        ),
    ],
)
def test_every_inconsistency_is_named(change: Callable[[bytes], bytes], expected: str) -> None:
    problems = decode_label_area(change(recorded_bytes("used-1.2")), "nmem0").problems
    assert any(line.startswith("nmem0: ") and expected in line for line in problems), problems


def test_one_broken_index_block_leaves_the_other_and_two_leave_nothing() -> None:
    data = recorded_bytes("used-1.2")
    older = decode_label_area(put(data, 256 + FREE, b"\0"), "nmem0")
    assert (older.version, older.current) == ("1.2", 0)
    assert [label.name for label in older.labels] == ["one", "two", "three", "four"]
    neither = decode_label_area(put(put(data, FREE, b"\0"), 256, bytes(16)), "nmem0")
    assert (neither.version, neither.current, neither.labels) == ("", None, ())
    assert neither.problems[0] == "nmem0: no labels: neither index block is valid"
    assert len(neither.problems) == 3


def test_what_is_not_known_is_kept() -> None:
    other = uuid.uuid4()
    data = changed_label(recorded_bytes("used-1.2"), 1, 144, other.bytes_le)
    data = changed_label(data, 1, FLAGS, b"\x80")
    data = changed_label(data, 1, 170, b"later")
    (label, *_) = decode_label_area(data).labels
    assert label.abstraction == str(other)
    assert int(label.flags) == 0x80
    assert label.data[170:175] == b"later"
    assert label.valid


def of_two(position: int, **changes: tuple[int, bytes]) -> bytes:
    """Return an area whose label one is one of two."""
    data = changed_label(recorded_bytes("used-1.2"), 1, NLABEL, struct.pack("<HH", 2, position))
    for at, piece in changes.values():
        data = changed_label(data, 1, at, piece)
    return data


def test_the_labels_of_several_dimms_are_looked_at_together() -> None:
    def problems(*areas: bytes) -> tuple[str, ...]:
        return set_problems([decode_label_area(data, f"nmem{number}") for number, data in enumerate(areas)])

    identity = "413b338f-4327-4232-81b9-4c0cb112a16b"
    assert problems(recorded_bytes("used-1.2")) == ()
    one_of_two = [line for line in problems(of_two(0), of_two(1)) if identity in line]
    assert one_of_two == []
    assert f"namespace {identity}: it should have 2 labels, but the labels at position 1 are missing" in problems(
        of_two(0)
    )
    differing = problems(of_two(0), of_two(1, size=(112, struct.pack("<Q", 16 * MiB))))
    assert f"namespace {identity}: rawsize differs: nmem0 64MiB, nmem1 16MiB" in differing
    versions = problems(recorded_bytes("used-1.1"), recorded_bytes("empty-1.2"))
    assert "the versions differ: nmem0 1.1, nmem1 1.2" in versions


@given(data=st.binary(min_size=1024, max_size=4096), slot=st.integers(0, 3))
def test_no_bytes_are_unreadable(data: bytes, slot: int) -> None:
    decode_label_area(data)
    area = recorded_bytes("used-1.2")
    decode_label_area(put(area, SLOTS + 256 * slot, data[:256])).problems  # noqa: B018
