"""Decode the bytes of a DIMM's label area into typed records: two index blocks, then the slots with the labels.

Nothing in a label area is changed in place. A new label is written to a free slot. Then the older of the two index
blocks is rewritten with the next sequence number. The newer index block defines which slots contain valid labels. The
layout follows the kernel's ``drivers/nvdimm/label.h``. The validity rules follow ``label.c`` (UEFI 2.7, "NVDIMM Label
Protocol"). The field names are the kernel's names, which ``ndctl read-labels --json`` also uses.
"""

from __future__ import annotations

import struct
import uuid as uuids
from collections import Counter
from collections.abc import Callable, Sequence
from enum import IntFlag
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.prediction import checked_label_version
from VpmemLibrary.record import hide_fields
from VpmemLibrary.sizes import Size

SIGNATURE = b"NAMESPACE_INDEX\0"

LABEL_SIZES = {"1.1": 128, "1.2": 256}
"""The bytes of one label, by label version."""

ABSTRACTIONS = {
    "8aed63a2-29a2-4c66-8b12-f05d15d3922a": "btt",
    "18633bfc-1735-4217-8ac9-17239282d3f8": "btt2",
    "266400ba-fb9f-4677-bcb0-968f11d0d225": "pfn",
    "97a86d9c-3cdd-4eda-986f-5068b4f80088": "dax",
}
"""The kind of device that claims a namespace, by abstraction GUID.

``pfn`` is fsdax, ``dax`` is devdax, and the others are sector.
"""

_INDEX_ALIGN = 256
_INDEX = struct.Struct("<16s3sBIQQQQIHHQ")
_INDEX_CHECKSUM = 64
_LABEL = struct.Struct("<16s64sIHHQQQQI")
_LABEL_1_2 = struct.Struct("<B3x16s16s88xQ")
_LABEL_CHECKSUM = 248
_SEQUENCE = 3
_NEXT = {1: 2, 2: 3, 3: 1}
_PAGE = 4096
_NO_UUID = str(uuids.UUID(int=0))


class LabelFlag(IntFlag):
    """The flags of a label. Unknown bits are kept."""

    read_only = 0x1
    local = 0x2
    btt = 0x4
    updating = 0x8


@hide_fields("free", "data")
class IndexBlock(Struct, frozen=True):
    """One of the two index blocks.

    Args:
        number: 0 or 1.
        seq: The sequence number. The numbers run from 1 to 3 and start again at 1. The block with the later number is
            the current block.
        major, minor: The version of the label area.
        labelsize: Bytes of one label.
        nslot: The number of slots.
        myoff, mysize, otheroff, labeloff: This block's offset and size, the other block's offset, and the first slot's
            offset, in bytes.
        free: The numbers of the slots without a valid label.
        checksum: The stored Fletcher64 checksum.
        problems: The reasons why the kernel would reject this block, one per line. Empty for a valid block.
        data: All bytes of the block.
    """

    number: int
    seq: int
    major: int
    minor: int
    labelsize: int
    nslot: int
    myoff: int
    mysize: int
    otheroff: int
    labeloff: int
    free: frozenset[int]
    checksum: int
    problems: tuple[str, ...]
    data: bytes

    @property
    def valid(self) -> bool:
        """Whether the kernel accepts this block."""
        return not self.problems

    @property
    def version(self) -> str:
        """The version in the block: ``1.1`` or ``1.2``."""
        return f"{self.major}.{self.minor}"


@hide_fields("data")
class Label(Struct, frozen=True):
    """One label: the part of one DIMM that belongs to one namespace.

    Args:
        at: The slot that contains the label.
        slot: The slot number in the label itself.
        uuid: The namespace's label UUID.
        name: The namespace's name.
        flags: See `LabelFlag`.
        nlabel: The number of the namespace's labels, one on each DIMM.
        position: The position of this label among the namespace's labels.
        isetcookie: The cookie of the interleave set that the namespace needs.
        lbasize: The sector size, 512 by default. The value is 0 for a namespace without a sector size.
        dpa: The namespace's start address on the DIMM.
        rawsize: The bytes that the namespace takes from the DIMM.
        align: The alignment as a power of two, under 1.2. The value is 0 if the alignment is not used.
        type_guid, abstraction_guid: The kind of range, and the kind of device that claims it, under 1.2. Empty under
            1.1.
        checksum: The stored Fletcher64 checksum, under 1.2.
        problems: The problems of the label, one per line.
        data: All bytes of the label.
    """

    at: int
    slot: int
    uuid: str
    name: str
    flags: LabelFlag
    nlabel: int
    position: int
    isetcookie: int
    lbasize: int
    dpa: int
    rawsize: Size
    align: int = 0
    type_guid: str = ""
    abstraction_guid: str = ""
    checksum: int | None = None
    problems: tuple[str, ...] = ()
    data: bytes = b""

    @property
    def valid(self) -> bool:
        """Whether the label has no problems."""
        return not self.problems

    @property
    def abstraction(self) -> str:
        """The kind of device that claims the namespace: ``btt``, ``btt2``, ``pfn`` or ``dax``. Otherwise the GUID."""
        if self.abstraction_guid in ("", _NO_UUID):
            return ""
        return ABSTRACTIONS.get(self.abstraction_guid, self.abstraction_guid)


@hide_fields("data")
class LabelArea(Struct, frozen=True):
    """A DIMM's label area.

    Args:
        dimm: The DIMM, e.g. ``nmem0``.
        version: ``1.1`` or ``1.2``. Empty if neither index block is valid. The kernel then finds no labels.
        current: The number of the current index block. None if neither index block is valid.
        index_blocks: Both index blocks, decoded with the valid layout. If neither is valid, decoded with the layout of
            1.2.
        labels: The labels in the used slots.
        former: The labels that remain in free slots. They were replaced or destroyed.
        data: All bytes of the label area.
    """

    dimm: str
    version: str
    current: int | None
    index_blocks: tuple[IndexBlock, ...]
    labels: tuple[Label, ...]
    former: tuple[Label, ...]
    data: bytes

    @property
    def size(self) -> Size:
        """The size of the label area in bytes."""
        return Size(len(self.data))

    @property
    def blank(self) -> bool:
        """Whether the label area is all zeros."""
        return not any(self.data)

    @property
    def nslot(self) -> int:
        """The number of slots. The value is 0 without a valid index block."""
        return 0 if self.current is None else self.index_blocks[self.current].nslot

    @property
    def free(self) -> int:
        """The number of free slots."""
        return 0 if self.current is None else len(self.index_blocks[self.current].free)

    @property
    def problems(self) -> tuple[str, ...]:
        """Every inconsistency, one per line. Each line begins with its place."""
        return tuple(f"{self.dimm}: {line}" for line in self._problems())

    def _problems(self) -> list[str]:
        if self.blank:
            return ["no labels: the label area is all zeros"]
        lines = [f"index block {index.number}: {why}" for index in self.index_blocks for why in index.problems]
        if self.current is None:
            return ["no labels: neither index block is valid", *lines]
        if all(index.valid for index in self.index_blocks):
            lines += _between(*self.index_blocks)
        lines += [f"label in slot {label.at}: {why}" for label in self.labels for why in label.problems]
        return lines + _among([label for label in self.labels if label.valid])


def index_size(area_size: int, version: str) -> Size:
    """Return the size of one index block in bytes.

    Args:
        area_size: The bytes of the label area.
        version: The label version, ``1.1`` or ``1.2``.

    Raises:
        InvalidValueError: The version is unknown, or the area is too small for two labels.
    """
    return _layout(area_size, version)[0]


def slot_count(area_size: int, version: str) -> int:
    """Return the number of slots in a label area, as ``nvdimm_num_label_slots`` in ``drivers/nvdimm/label.c`` does.

    The kernel keeps one of the slots free, because no label is changed in place.

    Args:
        area_size: The bytes of the label area.
        version: The label version, ``1.1`` or ``1.2``.

    Raises:
        InvalidValueError: The version is unknown, or the area is too small for two labels.

    Example: ``slot_count(Size.parse("128KiB"), "1.2") == 510``.
    """
    return _layout(area_size, version)[1]


def decode_label_area(data: bytes, dimm: str = "label area") -> LabelArea:
    """Decode the bytes of a label area. Damaged content is decoded too.

    Args:
        data: All bytes of the area.
        dimm: The DIMM's name for messages.

    Raises:
        InvalidValueError: The data are too small for two index blocks and two labels.
    """
    for version in LABEL_SIZES:
        index_blocks = _index_blocks(data, version)
        current = _current(index_blocks)
        if current is None:
            continue
        used, free = _labels(data, version, index_blocks[current])
        return LabelArea(dimm, version, current, index_blocks, used, free, data)
    return LabelArea(dimm, "", None, _index_blocks(data, "1.2"), (), (), data)


def set_problems(areas: Sequence[LabelArea], skip: Callable[[Label], bool] = lambda _: False) -> tuple[str, ...]:
    """Return every inconsistency within and between the label areas of one region's DIMMs, one per line.

    Args:
        areas: The label area of each DIMM.
        skip: A function that returns True for a label of another region on the same DIMMs. Such a region may have
            labels on other DIMMs.
    """
    lines = [line for area in areas for line in area.problems]
    if len({area.version for area in areas if area.version}) > 1:
        lines.append("the versions differ: " + ", ".join(f"{area.dimm} {area.version}" for area in areas))
    labels: dict[str, list[tuple[str, Label]]] = {}
    for area in areas:
        for label in area.labels:
            if label.valid and not skip(label):
                labels.setdefault(label.uuid, []).append((area.dimm, label))
    for uuid, parts in labels.items():
        lines += [f"namespace {uuid}: {why}" for why in _apart(parts)]
    return tuple(lines)


def _apart(parts: list[tuple[str, Label]]) -> list[str]:
    """Return the differences between the labels of one namespace, and the missing labels."""
    lines = []
    for what in ("nlabel", "rawsize", "isetcookie", "name", "lbasize", "type_guid", "abstraction_guid"):
        if len({getattr(label, what) for _, label in parts}) > 1:
            lines.append(f"{what} differs: " + ", ".join(f"{dimm} {getattr(label, what)}" for dimm, label in parts))
    wanted = max(label.nlabel for _, label in parts)
    there = {label.position for _, label in parts}
    if missing := [str(position) for position in range(wanted) if position not in there]:
        lines.append(f"it should have {wanted} labels, but the labels at position {', '.join(missing)} are missing")
    return lines


def fletcher64(data: bytes) -> int:
    """Return the checksum of an index block or label: ``nd_fletcher64`` over little-endian 32-bit words."""
    low = high = 0
    for (word,) in struct.iter_unpack("<I", data):
        low = (low + word) & 0xFFFFFFFF
        high = (high + low) & 0xFFFFFFFF
    return high << 32 | low


def _layout(area_size: int, version: str) -> tuple[Size, int]:
    label = LABEL_SIZES[checked_label_version(version)]
    index = Size(_INDEX.size + -(-(area_size // label) // 8)).up_to(_INDEX_ALIGN)
    slots = (area_size - 2 * index) // label
    if slots < 2:
        raise InvalidValueError(
            "label area", str(Size(area_size)), f"at least {2 * index + 2 * label} bytes for labels {version}"
        )
    return Size(_INDEX.size + -(-slots // 8)).up_to(_INDEX_ALIGN), slots


def _index_blocks(data: bytes, version: str) -> tuple[IndexBlock, ...]:
    size = index_size(len(data), version)
    return tuple(_index_block(data, number, size, version) for number in range(2))


def _index_block(data: bytes, number: int, size: int, version: str) -> IndexBlock:
    block = data[number * size : (number + 1) * size]
    fields = _INDEX.unpack_from(block)
    signature, _, labelsize, seq, myoff, mysize, otheroff, labeloff, nslot, major, minor, checksum = fields
    bits = block[_INDEX.size :]
    index = IndexBlock(
        number=number,
        seq=seq,
        major=major,
        minor=minor,
        labelsize=1 << (7 + labelsize % 32) if (major, minor) >= (1, 2) else 128,
        nslot=nslot,
        myoff=myoff,
        mysize=mysize,
        otheroff=otheroff,
        labeloff=labeloff,
        free=frozenset(slot for slot in range(min(nslot, 8 * len(bits))) if bits[slot // 8] >> slot % 8 & 1),
        checksum=checksum,
        problems=(),
        data=block,
    )
    return replace(index, problems=tuple(_index_problems(index, signature, size, len(data), version)))


def _index_problems(index: IndexBlock, signature: bytes, size: int, area_size: int, version: str) -> list[str]:
    """Return all problems of an index block. ``__nd_label_validate`` in the kernel stops at the first problem."""
    if not any(index.data):
        return ["is blank"]
    if signature != SIGNATURE:
        return [f"its signature is {signature!r}, not {SIGNATURE!r}"]
    label = LABEL_SIZES[version]
    lines = []
    if index.labelsize != label:
        lines.append(f"its labels have {index.labelsize} bytes, not {label}")
    zeroed = index.data[:_INDEX_CHECKSUM] + bytes(8) + index.data[_INDEX.size :]
    if (found := fletcher64(zeroed)) != index.checksum:
        lines.append(f"its checksum is {index.checksum:#x}, but its bytes give {found:#x}")
    if index.seq & _SEQUENCE == 0:
        lines.append(f"its sequence number is {index.seq}, not 1, 2 or 3")
    if index.myoff != index.number * size:
        lines.append(f"its own offset is {index.myoff}, not {index.number * size}")
    if index.otheroff != (1 - index.number) * size:
        lines.append(f"its offset of the other block is {index.otheroff}, not {(1 - index.number) * size}")
    if not _INDEX.size <= index.mysize <= size:
        lines.append(f"its size is {index.mysize} bytes, but there is space for {size}")
    if index.nslot * label + 2 * size > area_size:
        lines.append(f"its {index.nslot} slots do not fit into the {Size(area_size)} of the area")
    return lines


def _current(index_blocks: tuple[IndexBlock, ...]) -> int | None:
    """Return the number of the current index block, as ``best_seq`` does: the block with the later sequence number."""
    valid = [index for index in index_blocks if index.valid]
    if len(valid) < 2:
        return valid[0].number if valid else None
    first, second = (index.seq & _SEQUENCE for index in valid)
    return 1 if first == second or _NEXT[first] == second else 0


def _between(first: IndexBlock, second: IndexBlock) -> list[str]:
    lines = []
    if first.seq & _SEQUENCE == second.seq & _SEQUENCE:
        lines.append(f"both index blocks have the sequence number {first.seq & _SEQUENCE}")
    for what in ("version", "nslot", "labeloff"):
        if (one := getattr(first, what)) != (other := getattr(second, what)):
            lines.append(f"the index blocks differ in {what}: {one} and {other}")
    return lines


def _among(labels: list[Label]) -> list[str]:
    """Return the conflicts between the labels of one DIMM."""
    lines = []
    for uuid, count in Counter(label.uuid for label in labels).items():
        if count > 1:
            slots = ", ".join(str(label.at) for label in labels if label.uuid == uuid)
            lines.append(f"{count} labels have the UUID {uuid}: the labels in slots {slots}")
    for first, second in pairwise(sorted(labels, key=lambda label: label.dpa)):
        if second.dpa < (end := first.dpa + first.rawsize):
            lines.append(
                f"label in slot {second.at}: begins at {second.dpa:#x}, but that in slot {first.at} ends at {end:#x}"
            )
    unfinished = [label for label in labels if label.flags & LabelFlag.updating]
    if len(unfinished) < len(labels):  # kernels before 5.0 never clear the flag in any label
        lines += [f"label in slot {label.at}: its update is not finished" for label in unfinished]
    return lines


def _labels(data: bytes, version: str, index: IndexBlock) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Return the labels in the used slots, and the labels that remain in the free slots."""
    size = LABEL_SIZES[version]
    base = 2 * index_size(len(data), version)
    used, former = [], []
    for slot in range(index.nslot):
        piece = data[base + slot * size : base + (slot + 1) * size]
        if slot not in index.free:
            used.append(_label(piece, slot, version))
        elif any(piece):
            former.append(_label(piece, slot, version))
    return tuple(used), tuple(former)


def _label(data: bytes, at: int, version: str) -> Label:
    identity, name, flags, nlabel, position, isetcookie, lbasize, dpa, rawsize, slot = _LABEL.unpack_from(data)
    label = Label(
        at=at,
        slot=slot,
        uuid=str(uuids.UUID(bytes=identity)),
        name=name.split(b"\0", 1)[0].decode("utf-8", "replace"),
        flags=LabelFlag(flags),
        nlabel=nlabel,
        position=position,
        isetcookie=isetcookie,
        lbasize=lbasize,
        dpa=dpa,
        rawsize=Size(rawsize),
        data=data,
    )
    if version == "1.2":
        align, type_guid, abstraction_guid, checksum = _LABEL_1_2.unpack_from(data, _LABEL.size)
        label = replace(
            label,
            align=align,
            type_guid=str(uuids.UUID(bytes_le=type_guid)),
            abstraction_guid=str(uuids.UUID(bytes_le=abstraction_guid)),
            checksum=checksum,
        )
    return replace(label, problems=tuple(_label_problems(label)))


def _label_problems(label: Label) -> list[str]:
    """Return the problems of a label: those that ``slot_valid`` in the kernel refuses, and a wrong position."""
    if not any(label.data):
        return ["is blank, though its slot is in use"]
    lines = []
    if label.slot != label.at:
        lines.append(f"its own slot number is {label.slot}")
    if (label.dpa | label.rawsize) % _PAGE:
        lines.append(
            f"it begins at {label.dpa:#x} and has {int(label.rawsize)} bytes, but both must be multiples of 4KiB"
        )
    if label.checksum is not None:
        zeroed = label.data[:_LABEL_CHECKSUM] + bytes(8)
        if (found := fletcher64(zeroed)) != label.checksum:
            lines.append(f"its checksum is {label.checksum:#x}, but its bytes give {found:#x}")
    if not label.flags & LabelFlag.local and label.position >= label.nlabel:
        lines.append(f"its position, counted from 0, is {label.position} of {label.nlabel}")
    return lines
