"""Sector metadata checked, repaired and torn, and info blocks written, on what ndctl 81 was recorded to say."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import Sequence

import pytest
from msgspec.structs import replace
from test_ndctl_changes import DATA, Machine, left, recorded

from VpmemLibrary.errors import (
    BusyError,
    CommandError,
    CommandTimeoutError,
    DamagedError,
    InvalidValueError,
    NotFoundError,
    UnreadableOutputError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.media.btt import Btt, SectorPart
from VpmemLibrary.pmem.media.info_block import decode_info_blocks
from VpmemLibrary.pmem.media.info_blocks import InfoBlocks
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.raw_access import RawBytes
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import GiB, KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

LOG_AT = 32 * MiB - 20 * KiB
"""Where the log of the recorded sector namespace lies, and its map before it."""


def head_of(mode: str) -> CommandResult:
    data = json.loads((DATA / f"ndctl-81_infoblock-{mode}-1.2.json").read_text())
    return replace(left(0), stdout=zlib.decompress(base64.b64decode(data["stdout_packed"])))


class Disabled(Machine):
    """A machine with a disabled namespace of each mode; its raw bytes are read as they are set."""

    def __init__(self, *, users: str = "") -> None:
        super().__init__("disabled-modes", users=users)
        self.answers["read-infoblock"] = [head_of("sector")]
        self.answers["close"] = [left(0)]
        self.answers["place"] = [left(0, "0x180000000:\n")]
        self.answers["read"] = [replace(left(0), stdout=bytes(16 * KiB))]
        self.answers["write"] = [left(0)]
        self.written: list[tuple[int, bytes]] = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        result = super().run(argv, timeout=timeout, stdin=stdin)
        if self.acts and self.acts[-1].command[1] == "write" and stdin:
            self.written.append((int(self.acts[-1].command[-1]), stdin))
        return result

    @staticmethod
    def _kind(argv: tuple[str, ...]) -> str:
        if argv[0] == "sh" and "holder_class" in argv[2]:
            return "place"
        return Machine._kind(argv)

    @property
    def ran(self) -> list[str]:
        """What was run but listings, in order."""
        return [self._kind(argv) for argv in self.asked]


def blocks_of(machine: Machine) -> InfoBlocks:
    ndctl = Ndctl(machine)
    return InfoBlocks(ndctl, Namespaces(ndctl))


def btt_of(machine: Machine) -> Btt:
    ndctl = Ndctl(machine)
    namespaces = Namespaces(ndctl)
    return Btt(ndctl, namespaces, InfoBlocks(ndctl, namespaces))


def of_mode(mode: str) -> Namespace:
    return Ndctl(Machine("disabled-modes")).namespace(f"of-{mode}")


def test_a_healthy_one_passes() -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded("check-healthy")]
    check = btt_of(machine).check("of-sector")
    assert check.healthy
    check.require()
    assert machine.ran == ["check-namespace"]


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ("info", "BTT info block at offset 0 needs to be restored"),
        ("backup", "Arena 0: BTT info2 needs to be restored"),
        ("map", "arena 0: found a map entry that is out of bounds"),
        ("log", "Unable to deduce log/padding indices"),
        ("write", "needs to be updated to"),
    ],
)
def test_what_is_torn_is_told_in_ndctls_words(part: str, complaint: str) -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded(f"check-torn-{part}")]
    check = btt_of(machine).check("of-sector")
    assert not check.healthy
    with pytest.raises(DamagedError, match=complaint):
        check.require()


def test_a_broken_second_copy_is_damage_though_ndctl_exits_0() -> None:
    assert recorded("check-torn-backup").exit_status == 0


@pytest.mark.parametrize("part", ["info", "backup", "write"])
def test_what_ndctl_can_repair_is_proven_by_another_check(part: str) -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded(f"check-{step}-{part}") for step in ("torn", "repair", "repaired")]
    found = btt_of(machine).repair("of-sector")
    assert found.complaints
    checks = [act for act in machine.acts if act.command[1] == "check-namespace"]
    assert [act.command for act in checks] == [
        ("ndctl", "check-namespace", "@namespace@"),
        ("ndctl", "check-namespace", "--repair", "@namespace@"),
        ("ndctl", "check-namespace", "@namespace@"),
    ]
    assert {(act.targets, act.unused) for act in checks} == {((f"-n {of_mode('sector').label_uuid}",), True)}


@pytest.mark.parametrize("part", ["map", "log"])
def test_what_it_cannot_repair_is_still_damaged(part: str) -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded(f"check-{step}-{part}") for step in ("torn", "repair", "repaired")]
    with pytest.raises(DamagedError, match="is damaged"):
        btt_of(machine).repair("of-sector")


def test_nothing_is_repaired_that_is_whole_unless_its_log_is_to_be_rewritten() -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded("check-healthy")]
    assert btt_of(machine).repair("of-sector").healthy
    assert len(machine.asked) == 1
    assert btt_of(machine).repair("of-sector", rewrite_log=True).healthy
    assert machine.asked[2][1:] == ("check-namespace", "--repair", "--rewrite-log", "@namespace@")


def test_one_of_another_mode_is_not_called_damaged() -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [recorded("check-fsdax")]
    machine.answers["read-infoblock"] = [head_of("fsdax")]
    with pytest.raises(UnsupportedError, match="not a sector namespace"):
        btt_of(machine).check("of-fsdax")
    active = Machine("modes")
    with pytest.raises(UnsupportedError, match="has mode devdax"):
        btt_of(active).check("of-devdax")
    with pytest.raises(UnsupportedError, match="has mode fsdax"):
        btt_of(active).tear("of-fsdax", SectorPart.info)
    assert active.asked == []


@pytest.mark.parametrize("status", [1, 127, 129, 240, 243])
def test_a_check_that_could_not_be_made_is_no_damage(status: int) -> None:
    machine = Disabled()
    machine.answers["check-namespace"] = [left(status, stderr="no")]
    with pytest.raises(CommandError) as caught:
        btt_of(machine).check("of-sector")
    assert not isinstance(caught.value, DamagedError)


def test_one_in_use_is_neither_checked_nor_torn() -> None:
    machine = Machine("modes", users="process 7 (dd)\n")
    twice = "namespace0.3"
    for step in (
        lambda: btt_of(machine).check(twice),
        lambda: btt_of(machine).repair(twice),
        lambda: btt_of(machine).tear(twice, SectorPart.map),
        lambda: blocks_of(machine).read(twice),
        lambda: blocks_of(machine).write("of-fsdax", mode=NamespaceMode.fsdax),
    ):
        with pytest.raises(BusyError, match=r"process 7 \(dd\)"):
            step()
    assert machine.asked == []


@pytest.mark.parametrize(
    ("part", "offset"),
    [
        ("info", 64),
        ("backup", 32 * MiB - 4 * KiB + 64),
        ("log", LOG_AT),
    ],
)
def test_a_cache_line_of_the_part_is_overwritten(part: str, offset: int) -> None:
    machine = Disabled()
    btt_of(machine).tear("of-sector", SectorPart(part))
    assert machine.written == [(offset, b"\xff" * 64)]
    assert machine.ran == ["read-infoblock", "write"]
    assert machine.acts[-1].targets == (f"-n {of_mode('sector').label_uuid}",)


def test_a_write_that_was_cut_off_is_the_map_before_it() -> None:
    machine = Disabled()
    fresh = struct.pack("<4I", 0, 8000, 8000, 1) + bytes(48)
    used = struct.pack("<4I", 5, 5, 8001, 3) + struct.pack("<4I", 5, 8001, 8002, 1) + bytes(32)
    machine.answers["read"] = [replace(left(0), stdout=(fresh + used).ljust(16 * KiB, b"\0"))]
    btt_of(machine).tear("of-sector", SectorPart.write)
    ((place, data),) = machine.written
    assert struct.unpack("<I", data) == (8001 | 0xC0000000,)
    assert place < LOG_AT


def test_without_a_write_none_can_be_cut_off() -> None:
    machine = Disabled()
    with pytest.raises(InvalidValueError, match="no sector was written yet"):
        btt_of(machine).tear("of-sector", SectorPart.write)
    assert machine.written == []
    assert machine.ran[-1] == "read"
    with pytest.raises(ValueError, match="everything"):
        btt_of(machine).tear("of-sector", "everything")  # type: ignore[arg-type]


@pytest.mark.parametrize("failure", [left(-9), left(250)])
def test_all_bytes_are_closed_again_when_nobody_knows_whether_the_act_did_it(failure: CommandResult) -> None:
    machine = Disabled()
    machine.answers["write"] = [failure]
    with pytest.raises(CommandError):
        RawBytes(Ndctl(machine), of_mode("sector")).write(0, b"x")
    assert machine.ran == (["write", "close"] if failure.exit_status == -9 else ["write"])
    assert machine.acts[-1].targets == (f"-n {of_mode('sector').label_uuid}",)


def test_what_could_not_be_closed_is_told_beside_the_failure() -> None:
    machine = Disabled()
    machine.answers["read"] = [left(-9)]
    machine.answers["close"] = [left(240, stderr="busy")]
    with pytest.raises(
        CommandTimeoutError, match=r"did not end(.|\n)*may still be enabled(.|\n)*force_raw(.|\n)*EBUSY"
    ):
        RawBytes(Ndctl(machine), of_mode("sector")).read(0, 1)


def test_nothing_is_closed_that_was_never_opened() -> None:
    machine = Disabled(users="process 7 (dd)\n")
    with pytest.raises(BusyError, match="process 7"):
        RawBytes(Ndctl(machine), of_mode("sector")).write(0, b"x")
    assert machine.ran == []


@pytest.mark.parametrize(("offset", "length"), [(-1, 1), (0, 0), (32 * MiB, 1), (0, 2 * MiB)])
def test_bytes_outside_are_refused(offset: int, length: int) -> None:
    machine = Disabled()
    raw = RawBytes(Ndctl(machine), of_mode("sector"))
    with pytest.raises(InvalidValueError, match="range"):
        raw.read(offset, length)
    with pytest.raises(InvalidValueError, match="range"):
        raw.write(offset, bytes(length))
    assert machine.ran == []


def test_the_bytes_of_an_active_one_are_refused() -> None:
    machine = Machine("modes")
    active = Ndctl(machine).namespace("of-raw")
    with pytest.raises(InvalidValueError, match="a disabled namespace"):
        RawBytes(Ndctl(machine), active)
    assert machine.asked == []


def test_an_info_block_is_read_and_a_raw_one_has_none() -> None:
    machine = Disabled()
    assert blocks_of(machine).read("of-sector").mode is NamespaceMode.sector
    machine.answers["read-infoblock"] = [head_of("raw")]
    with pytest.raises(NotFoundError, match="No info block of"):
        blocks_of(machine).read("of-raw")
    machine.answers["read-infoblock"] = [left(0, "less")]
    with pytest.raises(UnreadableOutputError, match="4 bytes"):
        blocks_of(machine).read("of-sector")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"mode": NamespaceMode.sector}, InvalidValueError, "fsdax or devdax"),
        ({"mode": NamespaceMode.raw}, InvalidValueError, "fsdax or devdax"),
        ({"mode": NamespaceMode.fsdax, "align": Size(3)}, InvalidValueError, "4KiB or 2MiB or 1GiB"),
        ({"mode": NamespaceMode.fsdax, "align": Size(GiB)}, InvalidValueError, "metadata and padding"),
        ({"namespace": "nix", "mode": NamespaceMode.fsdax}, NotFoundError, "nix"),
    ],
)
def test_a_wrong_info_block_is_not_written(options: dict[str, object], error: type[VpmemError], text: str) -> None:
    machine = Disabled()
    with pytest.raises(error, match=text):
        blocks_of(machine).write(**{"namespace": "of-raw", **options})  # type: ignore[arg-type]
    assert "write-infoblock" not in machine.ran


def test_an_info_block_that_the_kernel_would_not_see_is_not_written() -> None:
    machine = Disabled()
    machine.answers["place"] = [left(0, "0x180000000:btt\n")]
    with pytest.raises(UnsupportedError, match=r"holder_class btt"):
        blocks_of(machine).write("of-sector", mode=NamespaceMode.fsdax)
    machine.answers["place"] = [left(0, ":\n")]
    with pytest.raises(UnreadableOutputError, match="where of-raw"):
        blocks_of(machine).write("of-raw", mode=NamespaceMode.fsdax)
    assert "write-infoblock" not in machine.ran


def test_a_written_info_block_is_read_back() -> None:
    machine = Disabled()
    machine.answers["write-infoblock"] = [left(0, stderr="wrote 1 infoblock")]
    machine.answers["read-infoblock"] = [head_of("fsdax")]
    written = blocks_of(machine).write("of-fsdax", mode=NamespaceMode.fsdax)
    assert written.intact
    (command,) = (argv for argv in machine.asked if argv[1] == "write-infoblock")
    assert command[1:] == (
        *("write-infoblock", "@namespace@", "--mode", "fsdax", "--map", "dev"),
        *("--align", "2097152", "--offset", str(0x180000000)),
    )
    with pytest.raises(CommandError, match="an info block that differs from the written one"):
        blocks_of(machine).write("of-fsdax", mode=NamespaceMode.fsdax, map_location=MapLocation.mem)
    with pytest.raises(CommandError, match="belongs to namespace"):
        blocks_of(machine).write("of-raw", mode=NamespaceMode.fsdax)


def test_an_info_block_with_another_uuid_than_the_given_one_is_a_failure() -> None:
    machine = Disabled()
    machine.answers["write-infoblock"] = [left(0, stderr="wrote 1 infoblock")]
    machine.answers["read-infoblock"] = [head_of("fsdax")]
    (*_, recorded_block) = decode_info_blocks(head_of("fsdax").stdout)
    blocks_of(machine).write("of-fsdax", mode=NamespaceMode.fsdax, uuid=recorded_block.uuid)
    with pytest.raises(CommandError, match="its UUID is"):
        blocks_of(machine).write("of-fsdax", mode=NamespaceMode.fsdax, uuid="76706d65-6d01-823a-8bcd-5f0e6d2a9c41")
