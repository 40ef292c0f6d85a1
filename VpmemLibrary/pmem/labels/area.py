"""The bytes of a DIMM's label area as typed records: two index blocks, then the slots with the labels.

Nothing in a label area is changed in place: a label is written to a free slot, then the older of the two index blocks
is written anew with the next sequence number. The newer index block says which slots hold labels that count. The layout
is that of the kernel's ``drivers/nvdimm/label.h``, what is valid that of ``label.c`` (UEFI 2.7, "NVDIMM Label
Protocol"). The field names are the kernel's, which ``ndctl read-labels --json`` has too.
"""

from __future__ import annotations

import struct
import uuid as uuids
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import IntFlag
from itertools import pairwise

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.prediction import checked_label_version
from VpmemLibrary.sizes import Size

SIGNATURE = b"NAMESPACE_INDEX\0"

LABEL_SIZES = {"1.1": 128, "1.2": 256}
"""Bytes of one label, by the version of the area."""

ABSTRACTIONS = {
    "8aed63a2-29a2-4c66-8b12-f05d15d3922a": "btt",
    "18633bfc-1735-4217-8ac9-17239282d3f8": "btt2",
    "266400ba-fb9f-4677-bcb0-968f11d0d225": "pfn",
    "97a86d9c-3cdd-4eda-986f-5068b4f80088": "dax",
}
"""What claims a namespace, by its abstraction GUID: ``pfn`` is fsdax, ``dax`` is devdax, the others are sector."""

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
    """The flags of a label; bits that are not named here are kept."""

    read_only = 0x1
    local = 0x2
    btt = 0x4
    updating = 0x8


@dataclass(frozen=True, slots=True)
class IndexBlock:
    """One of the two index blocks.

    Args:
        number: 0 or 1.
        seq: Its sequence number, 1 to 3 in a circle; the next of the two is the current one.
        major, minor: The version of the label area.
        labelsize: Bytes of one label.
        nslot: How many slots there are.
        myoff, mysize, otheroff, labeloff: Where this block, the other one and the first slot lie, in bytes.
        free: The numbers of the slots that hold no label that counts.
        checksum: Its Fletcher64 sum as written.
        problems: Why the kernel would not take it, a line each; nothing for a valid one.
        data: All its bytes.
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
    free: frozenset[int] = field(repr=False)
    checksum: int
    problems: tuple[str, ...]
    data: bytes = field(repr=False)

    @property
    def valid(self) -> bool:
        """Whether the kernel takes it."""
        return not self.problems

    @property
    def version(self) -> str:
        """The version that it states: ``1.1`` or ``1.2``."""
        return f"{self.major}.{self.minor}"


@dataclass(frozen=True, slots=True)
class Label:
    """One label: what one DIMM gives to one namespace.

    Args:
        at: The slot that it lies in.
        slot: The slot that it says it lies in.
        uuid: The namespace's label UUID.
        name: The namespace's name.
        flags: See `LabelFlag`.
        nlabel: Over how many DIMMs the namespace's labels are spread.
        position: The place of this one among them.
        isetcookie: What the interleave set must be for the namespace to be put together.
        lbasize: The sector size of a namespace that has one; 0 for others, 512 by default.
        dpa: Where it begins on the DIMM.
        rawsize: How much of the DIMM it takes.
        align: The alignment as a power of two, under 1.2; 0 where it is not used.
        type_guid, abstraction_guid: What kind of range it is and what claims it, under 1.2; empty under 1.1.
        checksum: Its Fletcher64 sum as written, under 1.2.
        problems: What is wrong with it, a line each.
        data: All its bytes.
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
    data: bytes = field(repr=False, default=b"")

    @property
    def valid(self) -> bool:
        """Whether nothing is wrong with it."""
        return not self.problems

    @property
    def abstraction(self) -> str:
        """What claims the namespace: ``btt``, ``btt2``, ``pfn``, ``dax``; the GUID itself when it is another."""
        if self.abstraction_guid in ("", _NO_UUID):
            return ""
        return ABSTRACTIONS.get(self.abstraction_guid, self.abstraction_guid)


@dataclass(frozen=True, slots=True)
class LabelArea:
    """A DIMM's label area.

    Args:
        dimm: The DIMM, e.g. ``nmem0``.
        version: ``1.1`` or ``1.2``; empty when neither index block is valid, which to the kernel means no labels.
        current: The number of the index block that counts; None when neither is valid.
        index_blocks: Both of them, read with the layout that is valid, or with that of 1.2.
        labels: What lies in the slots that are in use.
        former: What still lies in slots that are free again: labels that were replaced or destroyed.
        data: All its bytes.
    """

    dimm: str
    version: str
    current: int | None
    index_blocks: tuple[IndexBlock, ...]
    labels: tuple[Label, ...]
    former: tuple[Label, ...]
    data: bytes = field(repr=False)

    @property
    def size(self) -> Size:
        """Its bytes."""
        return Size(len(self.data))

    @property
    def blank(self) -> bool:
        """Whether it is all zeros."""
        return not any(self.data)

    @property
    def nslot(self) -> int:
        """How many slots it has; 0 without a valid index block."""
        return 0 if self.current is None else self.index_blocks[self.current].nslot

    @property
    def free(self) -> int:
        """How many of the slots are free."""
        return 0 if self.current is None else len(self.index_blocks[self.current].free)

    @property
    def problems(self) -> tuple[str, ...]:
        """Every inconsistency, a line each, beginning with where it is."""
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
    """Return how many bytes one index block takes.

    Args:
        area_size: The bytes of the label area.
        version: The label version, ``1.1`` or ``1.2``.

    Raises:
        InvalidValueError: The version is unknown, or the area is too small for two labels.
    """
    return _layout(area_size, version)[0]


def slot_count(area_size: int, version: str) -> int:
    """Return how many labels a label area has room for: ``nvdimm_num_label_slots`` of ``drivers/nvdimm/label.c``.

    The kernel keeps one of them free, as no label is changed in place.

    Args:
        area_size: The bytes of the label area.
        version: The label version, ``1.1`` or ``1.2``.

    Raises:
        InvalidValueError: The version is unknown, or the area is too small for two labels.

    Example: ``slot_count(Size.parse("128KiB"), "1.2") == 510``.
    """
    return _layout(area_size, version)[1]


def decode_label_area(data: bytes, dimm: str = "label area") -> LabelArea:
    """Return what the bytes of a label area mean, whatever is wrong with them.

    Args:
        data: All bytes of the area.
        dimm: The DIMM that has it, for messages.

    Raises:
        InvalidValueError: It is too small for two index blocks and two labels.
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
    """Return every inconsistency in and between the label areas of one region's DIMMs, a line each.

    Args:
        areas: The label area of each DIMM.
        skip: Says of a label that it belongs to another region on the DIMMs, so that its other labels lie elsewhere.
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
    """Tell how the labels of one namespace differ that must not, and which are missing."""
    lines = []
    for what in ("nlabel", "rawsize", "isetcookie", "name", "lbasize", "type_guid", "abstraction_guid"):
        if len({getattr(label, what) for _, label in parts}) > 1:
            lines.append(f"{what} differs: " + ", ".join(f"{dimm} {getattr(label, what)}" for dimm, label in parts))
    wanted = max(label.nlabel for _, label in parts)
    there = {label.position for _, label in parts}
    if missing := [str(position) for position in range(wanted) if position not in there]:
        lines.append(f"of its {wanted} labels, those at position {', '.join(missing)} are missing")
    return lines


def fletcher64(data: bytes) -> int:
    """Return the checksum of index blocks and labels: ``nd_fletcher64`` over little-endian words of 32 bits."""
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
    """Follow ``__nd_label_validate``, which stops at the first; here every one is told."""
    if not any(index.data):
        return ["is blank"]
    if signature != SIGNATURE:
        return [f"its signature is {signature!r} and not {SIGNATURE!r}"]
    label = LABEL_SIZES[version]
    lines = []
    if index.labelsize != label:
        lines.append(f"its version {index.version} has labels of {index.labelsize} bytes and not {label}")
    zeroed = index.data[:_INDEX_CHECKSUM] + bytes(8) + index.data[_INDEX.size :]
    if (found := fletcher64(zeroed)) != index.checksum:
        lines.append(f"its checksum is {index.checksum:#x}, that of its bytes is {found:#x}")
    if index.seq & _SEQUENCE == 0:
        lines.append(f"its sequence number is {index.seq}, which is none")
    if index.myoff != index.number * size:
        lines.append(f"it says it lies at {index.myoff} and not {index.number * size}")
    if index.otheroff != (1 - index.number) * size:
        lines.append(f"it says the other one lies at {index.otheroff} and not {(1 - index.number) * size}")
    if not _INDEX.size <= index.mysize <= size:
        lines.append(f"it says it has {index.mysize} bytes, where there are {size}")
    if index.nslot * label + 2 * size > area_size:
        lines.append(f"its {index.nslot} slots do not fit into the {Size(area_size)} of the area")
    return lines


def _current(index_blocks: tuple[IndexBlock, ...]) -> int | None:
    """Follow ``best_seq``: the one whose sequence number is next to the other's."""
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
    """Tell what is wrong between the labels of one DIMM."""
    lines = []
    for uuid, count in Counter(label.uuid for label in labels).items():
        if count > 1:
            slots = ", ".join(str(label.at) for label in labels if label.uuid == uuid)
            lines.append(f"{count} labels have the UUID {uuid}: those in slots {slots}")
    for first, second in pairwise(sorted(labels, key=lambda label: label.dpa)):
        if second.dpa < (end := first.dpa + first.rawsize):
            lines.append(
                f"label in slot {second.at}: begins at {second.dpa:#x}, before the end of that in slot {first.at} "
                f"at {end:#x}"
            )
    unfinished = [label for label in labels if label.flags & LabelFlag.updating]
    if len(unfinished) < len(labels):  # kernels before 5.0 leave the flag set in every label
        lines += [f"label in slot {label.at}: its update was begun and not finished" for label in unfinished]
    return lines


def _labels(data: bytes, version: str, index: IndexBlock) -> tuple[tuple[Label, ...], tuple[Label, ...]]:
    """Return what lies in the slots that are in use, and what is left in those that are free."""
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
    """Follow ``slot_valid``, which leaves out a label with any of this; and look at its position besides."""
    if not any(label.data):
        return ["is blank, though its slot is in use"]
    lines = []
    if label.slot != label.at:
        lines.append(f"it says it lies in slot {label.slot}")
    if (label.dpa | label.rawsize) % _PAGE:
        lines.append(
            f"it begins at {label.dpa:#x} and has {int(label.rawsize)} bytes, which are not whole pages of 4KiB"
        )
    if label.checksum is not None:
        zeroed = label.data[:_LABEL_CHECKSUM] + bytes(8)
        if (found := fletcher64(zeroed)) != label.checksum:
            lines.append(f"its checksum is {label.checksum:#x}, that of its bytes is {found:#x}")
    if not label.flags & LabelFlag.local and label.position >= label.nlabel:
        lines.append(f"it is at position {label.position} of {label.nlabel}")
    return lines
