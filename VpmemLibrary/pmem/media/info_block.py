"""Info blocks: what at the head of a namespace gives it its mode, decoded from bytes.

The layouts are ``struct nd_pfn_sb`` (kernel ``drivers/nvdimm/pfn.h``) for fsdax and devdax and ``struct btt_sb``
(``btt.h``) for sector; the checksum is ``nd_fletcher64`` (``label.c``) over the block with zeros in its place. A raw
namespace has none. ``ndctl read-infoblock --verify`` is not relied on: ndctl 81 compares one byte of the parent's UUID,
and exits 0 when a block is broken.
"""

from __future__ import annotations

import struct
import uuid as uuids
from dataclasses import dataclass

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.labels.area import fletcher64
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import KiB, Size

HEAD = 8 * KiB
"""How much of a namespace's beginning may hold info blocks."""
BLOCK = 4 * KiB
"""The size of an info block."""

_AT_4K = 4 * KiB
_CHECKSUM = struct.Struct("<Q")
_PFN = struct.Struct("<16s16s16sIHHQQIIIIIH")
_BTT = struct.Struct("<16s16s16sIHHIIIIIIQQQQQ")
_BTT_SIGNATURE = b"BTT_ARENA_INFO\0\0"
_MAPPED_SIGNATURES = {
    b"NVDIMM_PFN_INFO\0": NamespaceMode.fsdax,
    b"NVDIMM_DAX_INFO\0": NamespaceMode.devdax,
}
_MAP_LOCATIONS = {1: MapLocation.mem, 2: MapLocation.dev}  # enum nd_pfn_mode: PFN_MODE_RAM, PFN_MODE_PMEM
_NO_UUID = str(uuids.UUID(int=0))


@dataclass(frozen=True, slots=True)
class InfoBlock:
    """What every info block says.

    Args:
        mode: The mode that it gives its namespace.
        at: Where it lies in the namespace.
        uuid: Its own UUID: the one that ndctl lists while the namespace is active.
        parent_uuid: The UUID of the namespace's label when it was written; empty when it names none.
        version: Its layout, e.g. ``1.4``.
        flags: Bit 0 in a sector namespace's: the kernel found an error.
        data_offset: Where the usable bytes begin, from the block's own arena (sector) or the namespace's start.
        intact: Whether its checksum is right.
    """

    mode: NamespaceMode
    at: Size
    uuid: str
    parent_uuid: str
    version: str
    flags: int
    data_offset: Size
    intact: bool

    def faults(self, label_uuid: str = "") -> tuple[str, ...]:
        """Return what is wrong with it, a sentence each; nothing when the kernel would take it.

        Args:
            label_uuid: The UUID in the label of its namespace; empty for one without a label.
        """
        found = []
        if not self.intact:
            found.append(f"the checksum of the {self.mode} info block at {self.at} is wrong")
        if label_uuid and self.parent_uuid and self.parent_uuid != label_uuid.lower():
            found.append(
                f"the {self.mode} info block at {self.at} belongs to namespace {self.parent_uuid}, not to {label_uuid}"
            )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class MappedInfoBlock(InfoBlock):
    """The info block of an fsdax or devdax namespace.

    Args:
        map: Where its page map lives; None for a location that is not known here.
        pages: How many pages of 4 KiB it has.
        start_pad: Bytes left out at the beginning.
        end_trunc: Bytes left out at the end.
        align: Its mapping alignment; 0 in a layout before 1.2.
        page_size: The page size of the machine that wrote it; 0 in a layout before 1.4.
        page_struct_size: What a page takes in the page map; 0 in a layout before 1.4.
    """

    map: MapLocation | None
    pages: int
    start_pad: Size
    end_trunc: Size
    align: Size
    page_size: int
    page_struct_size: int


@dataclass(frozen=True, slots=True)
class SectorInfoBlock(InfoBlock):
    """The info block of an arena of a sector namespace: its block translation table (BTT).

    Args:
        sector_size: The bytes of a sector, metadata included.
        sectors: How many sectors the arena offers.
        block_size: The bytes of one of its blocks.
        blocks: How many blocks it has; more than sectors by the free ones that writes go to.
        free_blocks: How many are always free.
        map_offset: Where the table from sectors to blocks begins.
        log_offset: Where the log of the writes under way begins.
        backup_offset: Where the second copy of this block lies.
        next_offset: Where the next arena begins; 0 in the last.
    """

    sector_size: int
    sectors: int
    block_size: int
    blocks: int
    free_blocks: int
    map_offset: Size
    log_offset: Size
    backup_offset: Size
    next_offset: Size


def decode_info_blocks(head: bytes) -> tuple[InfoBlock, ...]:
    """Return the info blocks in the first 8 KiB of a namespace, in the order in which the kernel looks for them.

    A block is found by its signature alone, so that a broken one is seen as well: see `InfoBlock.faults`.

    Args:
        head: The first 8 KiB, as ``ndctl read-infoblock`` prints them.

    Raises:
        InvalidValueError: It is less.
    """
    if len(head) < HEAD:
        raise InvalidValueError("head of a namespace", f"{len(head)} bytes", f"{Size(HEAD)} at least")
    found: list[InfoBlock] = []
    for at in (_AT_4K, 0):  # BTT 1.1 leaves the first page free, BTT 2.0 (under labels 1.2) does not
        if head.startswith(_BTT_SIGNATURE, at):
            found.append(decode_sector_block(head[at : at + BLOCK], at=at))
    if (mode := _MAPPED_SIGNATURES.get(head[_AT_4K : _AT_4K + 16])) is not None:
        found.append(_mapped_block(head[_AT_4K : _AT_4K + BLOCK], mode))
    return tuple(found)


def decode_sector_block(block: bytes, *, at: int) -> SectorInfoBlock:
    """Return one info block of a sector namespace, whatever its signature.

    Args:
        block: Its 4 KiB.
        at: Where it lies in the namespace.

    Raises:
        InvalidValueError: It is less.
    """
    if len(block) < BLOCK:
        raise InvalidValueError("info block", f"{len(block)} bytes", f"{Size(BLOCK)} at least")
    fields = _BTT.unpack_from(block)
    signature, uuid, parent, flags, major, minor, sector_size, sectors, block_size, blocks, free, _ = fields[:12]
    next_offset, data_offset, map_offset, log_offset, backup_offset = fields[12:]
    return SectorInfoBlock(
        mode=NamespaceMode.sector,
        at=Size(at),
        uuid=_uuid(uuid),
        parent_uuid=_uuid(parent),
        version=f"{major}.{minor}",
        flags=flags,
        data_offset=Size(data_offset),
        intact=signature == _BTT_SIGNATURE and _checksum_holds(block),
        sector_size=sector_size,
        sectors=sectors,
        block_size=block_size,
        blocks=blocks,
        free_blocks=free,
        map_offset=Size(map_offset),
        log_offset=Size(log_offset),
        backup_offset=Size(backup_offset),
        next_offset=Size(next_offset),
    )


def _mapped_block(block: bytes, mode: NamespaceMode) -> MappedInfoBlock:
    fields = _PFN.unpack_from(block)
    _, uuid, parent, flags, major, minor, data_offset, pages, where, start_pad, end_trunc, align, page, struct_ = fields
    return MappedInfoBlock(
        mode=mode,
        at=Size(_AT_4K),
        uuid=_uuid(uuid),
        parent_uuid=_uuid(parent),
        version=f"{major}.{minor}",
        flags=flags,
        data_offset=Size(data_offset),
        intact=_checksum_holds(block),
        map=_MAP_LOCATIONS.get(where),
        pages=pages,
        start_pad=Size(start_pad),
        end_trunc=Size(end_trunc),
        align=Size(align),
        page_size=page,
        page_struct_size=struct_,
    )


def _checksum_holds(block: bytes) -> bool:
    content, (told,) = block[: BLOCK - _CHECKSUM.size], _CHECKSUM.unpack_from(block, BLOCK - _CHECKSUM.size)
    return fletcher64(content + bytes(_CHECKSUM.size)) == int(told)


def _uuid(raw: bytes) -> str:
    text = str(uuids.UUID(bytes=raw))
    return "" if text == _NO_UUID else text
