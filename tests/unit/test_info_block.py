"""Info blocks as ndctl 81 read them from namespaces of every mode, decoded, and held against ndctl's own decoding."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.pmem.media.info_block import (
    HEAD,
    InfoBlock,
    MappedInfoBlock,
    SectorInfoBlock,
    decode_info_blocks,
    decode_sector_block,
)
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import KiB, MiB

DATA = Path(__file__).parents[1] / "data" / "ndctl"
VERSIONS = ("1.1", "1.2")
MODES = ("fsdax", "devdax", "sector")


def recorded(state: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"ndctl-81_{state}.json").read_text())
    return found


def head(mode: str, version: str = "1.2") -> bytes:
    return zlib.decompress(base64.b64decode(recorded(f"infoblock-{mode}-{version}")["stdout_packed"]))


def block(mode: str, version: str = "1.2") -> InfoBlock:
    return decode_info_blocks(head(mode, version))[-1]


def printed(mode: str, version: str) -> Mapping[str, Any]:
    """Return what ndctl itself decoded."""
    found: dict[str, Any] = json.loads("\n".join(recorded(f"infoblock-{mode}-{version}-json")["stdout"]))[-1]
    return found


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_every_field_is_what_ndctl_decodes(mode: str, version: str) -> None:
    found, ndctl = block(mode, version), printed(mode, version)
    assert (found.uuid, found.parent_uuid, found.version, found.flags, found.data_offset) == tuple(
        ndctl[key] for key in ("uuid", "parent_uuid", "version", "flags", "dataoff")
    )
    told: tuple[int, ...]
    if isinstance(found, MappedInfoBlock):
        told = (found.pages, found.start_pad, found.end_trunc, found.align, found.page_size, found.page_struct_size)
        names = ("npfns", "start_pad", "end_trunc", "align", "page_size", "page_struct_size")
        assert ndctl["mode"] == {MapLocation.mem: 1, MapLocation.dev: 2}[found.map or MapLocation.mem]
    else:
        assert isinstance(found, SectorInfoBlock)
        told = (found.sector_size, found.sectors, found.block_size, found.blocks, found.free_blocks, found.next_offset)
        names = ("external_lbasize", "external_nlba", "internal_lbasize", "internal_nlba", "nfree", "nextoff")
        assert (found.map_offset, found.log_offset, found.backup_offset) == tuple(
            ndctl[key] for key in ("mapoff", "logoff", "info2off")
        )
    assert told == tuple(ndctl[key] for key in names)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("mode", MODES)
def test_what_the_kernel_wrote_is_without_fault(mode: str, version: str) -> None:
    found = block(mode, version)
    assert found.mode == mode
    assert found.intact
    assert found.faults(found.parent_uuid) == ()


def test_a_raw_namespace_has_none() -> None:
    for version in VERSIONS:
        assert decode_info_blocks(head("raw", version)) == ()


def test_where_the_tables_of_a_sector_namespace_begin_depends_on_the_labels() -> None:
    old, new = block("sector", "1.1"), block("sector", "1.2")
    assert (old.at, old.version) == (4 * KiB, "1.1")
    assert (new.at, new.version) == (0, "2.0")
    assert isinstance(old, SectorInfoBlock)
    assert isinstance(new, SectorInfoBlock)
    assert old.at + old.backup_offset + 4 * KiB == new.at + new.backup_offset + 4 * KiB == 32 * MiB


def test_sizes_are_those_that_are_usable() -> None:
    fsdax = block("fsdax")
    assert isinstance(fsdax, MappedInfoBlock)
    assert fsdax.pages * 4 * KiB == 30 * MiB
    assert (fsdax.map, fsdax.align) == (MapLocation.dev, 2 * MiB)
    assert block("devdax").mode is NamespaceMode.devdax


@given(st.integers(min_value=16, max_value=4 * KiB - 1), st.integers(min_value=1, max_value=255))
def test_any_torn_byte_is_seen(offset: int, change: int) -> None:
    whole = bytearray(head("fsdax"))
    whole[4 * KiB + offset] ^= change
    (found,) = decode_info_blocks(bytes(whole))
    assert not found.intact
    assert found.faults() == ("the checksum of the fsdax info block at 4KiB is wrong",)


def test_the_block_of_another_namespace_is_seen() -> None:
    found = block("fsdax")
    other = "00000000-0000-4000-8000-000000000001"
    assert found.faults(found.parent_uuid.upper()) == ()
    assert found.faults(other) == (
        f"the fsdax info block at 4KiB belongs to namespace {found.parent_uuid}, not to {other}",
    )


def test_a_block_that_an_older_namespace_left_is_told_apart_by_its_parent() -> None:
    older, newer = decode_info_blocks(head("sector", "1.2"))
    assert (older.at, newer.at) == (4 * KiB, 0)
    assert older.parent_uuid == block("sector", "1.1").parent_uuid
    assert older.intact
    assert older.faults(newer.parent_uuid)
    assert newer.faults(newer.parent_uuid) == ()


def test_a_copy_without_its_signature_is_not_intact() -> None:
    copy = bytearray(head("sector", "1.2")[: 4 * KiB])
    assert decode_sector_block(bytes(copy), at=0).intact
    copy[:16] = bytes(16)
    assert not decode_sector_block(bytes(copy), at=0).intact


@pytest.mark.parametrize("length", [0, 1, HEAD - 1])
def test_less_than_a_whole_head_is_refused(length: int) -> None:
    with pytest.raises(InvalidValueError, match="8KiB at least"):
        decode_info_blocks(bytes(length))


@given(st.integers())
def test_noise_has_no_info_block_and_behind_a_signature_is_told_as_broken(seed: int) -> None:
    noise = Random(seed)
    assert decode_info_blocks(noise.randbytes(HEAD)) == ()
    for signature in (b"NVDIMM_PFN_INFO\0", b"NVDIMM_DAX_INFO\0", b"BTT_ARENA_INFO\0\0"):
        (found,) = decode_info_blocks(bytes(4 * KiB) + signature + noise.randbytes(4 * KiB - 16))
        assert not found.intact
