"""Decode info blocks. An info block at the start of a namespace defines the namespace's mode.

The layout for fsdax and devdax is ``struct nd_pfn_sb`` (kernel ``drivers/nvdimm/pfn.h``). The layout for sector is
``struct btt_sb`` (``btt.h``). The checksum is ``nd_fletcher64`` (``label.c``) over the block, with zeros in place of
the checksum. A raw namespace has no info block. This module does not use ``ndctl read-infoblock --verify``: ndctl 81
compares only one byte of the parent's UUID, and exits 0 for a broken block.
"""

from __future__ import annotations

import struct
import uuid as uuids

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.labels.area import fletcher64
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import KiB, Size

HEAD = 8 * KiB
"""The bytes at the start of a namespace that may contain info blocks."""
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


class InfoBlock(Struct, frozen=True):
    """The fields of every info block.

    Args:
        mode: The mode of a namespace with this info block.
        at: The block's offset in the namespace.
        uuid: The block's own UUID, which ndctl lists while the namespace is active.
        parent_uuid: The UUID of the namespace's label at the time of writing. Empty if the block contains none.
        version: The version of the layout, e.g. ``1.4``.
        flags: The flags. Bit 0 of a sector namespace's block means that the kernel found an error.
        data_offset: The start of the usable bytes, counted from the block's own arena (sector) or from the namespace's
            start.
        intact: Whether the checksum is correct.
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
        """Return the problems of the block, one sentence each. The tuple is empty if the kernel would accept the block.

        Args:
            label_uuid: The UUID in the namespace's label. Empty for a namespace without a label.
        """
        found = []
        if not self.intact:
            found.append(f"the checksum of the {self.mode} info block at {self.at} is wrong")
        if label_uuid and self.parent_uuid and self.parent_uuid != label_uuid.lower():
            found.append(
                f"the {self.mode} info block at {self.at} belongs to namespace {self.parent_uuid}, not to {label_uuid}"
            )
        return tuple(found)


class MappedInfoBlock(InfoBlock, frozen=True):
    """The info block of an fsdax or devdax namespace.

    Args:
        map: The location of the page map. None for an unknown location.
        pages: The number of 4 KiB pages.
        start_pad: The unused bytes at the start.
        end_trunc: The unused bytes at the end.
        align: The mapping alignment. The value is 0 in a layout before 1.2.
        page_size: The page size of the machine that wrote the block. The value is 0 in a layout before 1.4.
        page_struct_size: The bytes of one page's entry in the page map. The value is 0 in a layout before 1.4.
    """

    map: MapLocation | None
    pages: int
    start_pad: Size
    end_trunc: Size
    align: Size
    page_size: int
    page_struct_size: int


class SectorInfoBlock(InfoBlock, frozen=True):
    """The info block of one arena of a sector namespace: its block translation table (BTT).

    Args:
        sector_size: The bytes of a sector, including metadata.
        sectors: The number of usable sectors in the arena.
        block_size: The bytes of a block.
        blocks: The number of blocks: the sectors and the free blocks that new writes use.
        free_blocks: The number of blocks that are always free.
        map_offset: The offset of the table from sectors to blocks.
        log_offset: The offset of the log of current writes.
        backup_offset: The offset of this block's backup copy.
        next_offset: The offset of the next arena. The value is 0 in the last arena.
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
    """Return the info blocks in the first 8 KiB of a namespace, in the order of the kernel's search.

    A block is found by its signature alone. Therefore broken blocks are returned too. See `InfoBlock.faults`.

    Args:
        head: The first 8 KiB, as ``ndctl read-infoblock`` prints them.

    Raises:
        InvalidValueError: `head` has fewer bytes.
    """
    if len(head) < HEAD:
        raise InvalidValueError("head of a namespace", f"{len(head)} bytes", f"{Size(HEAD)} at least")
    found: list[InfoBlock] = []
    for at in (_AT_4K, 0):  # BTT 1.1 leaves the first page free. BTT 2.0 (under labels 1.2) uses it
        if head.startswith(_BTT_SIGNATURE, at):
            found.append(decode_sector_block(head[at : at + BLOCK], at=at))
    if (mode := _MAPPED_SIGNATURES.get(head[_AT_4K : _AT_4K + 16])) is not None:
        found.append(_mapped_block(head[_AT_4K : _AT_4K + BLOCK], mode))
    return tuple(found)


def decode_sector_block(block: bytes, *, at: int) -> SectorInfoBlock:
    """Decode one info block of a sector namespace. Ignore its signature.

    Args:
        block: The block's 4 KiB.
        at: The block's offset in the namespace.

    Raises:
        InvalidValueError: `block` has fewer bytes.
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
    content, (stored,) = block[: BLOCK - _CHECKSUM.size], _CHECKSUM.unpack_from(block, BLOCK - _CHECKSUM.size)
    return fletcher64(content + bytes(_CHECKSUM.size)) == int(stored)


def _uuid(raw: bytes) -> str:
    text = str(uuids.UUID(bytes=raw))
    return "" if text == _NO_UUID else text
