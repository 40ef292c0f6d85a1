"""What is found in a console's log, with real files and the real commands on this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from recorded_host import RecordedHost, left

from VpmemLibrary.errors import CommandError, GuestError
from VpmemLibrary.guest.channel.console import READ_AT_ONCE, Console
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.readiness import failure_text
from VpmemLibrary.transport.local import LocalTransport

# Debian 13's kernel 6.12.117 in an emulated guest, with `panic=-1`: the panic, and then the next boot.
BEFORE = """\
[   11.176180] /dev/root: Can't lookup blockdev\r
[   11.229227] VFS: Cannot open root device "/dev/none" or unknown-block(0,0): error -19\r
[   11.261150] Please append a correct "root=" boot option; here are the available partitions:\r
[   11.299494] List of all bdev filesystems:\r
[   11.317296]  ext3\r
[   11.317351]  ext2\r
[   11.328086]  ext4\r
[   11.335169]  fuseblk\r
[   11.346795] \r
"""
PANIC = "[   11.365567] Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)\r\n"
AFTER = """\
[   11.397752] CPU: 0 UID: 0 PID: 1 Comm: swapper/0 Not tainted 6.12.117+deb13-cloud-amd64 #1  Debian 6.12.117-1\r
[   11.669045] Kernel Offset: disabled\r
"""
NEXT_BOOT = "".join(f"[    0.{number:06}] line {number} of the next boot\r\n" for number in range(200))
LINE = "Kernel panic - not syncing: VFS: Unable to mount root fs on unknown-block(0,0)"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A console's log of a guest that panicked and boots again."""
    log = tmp_path / "console.log"
    log.write_text(BEFORE + PANIC + AFTER + NEXT_BOOT, newline="")
    return log


def test_a_panic_comes_with_the_lines_around_it(path: Path) -> None:
    panic = Console(LocalTransport(), str(path)).panic(0, 20)
    assert panic is not None
    assert panic.line == LINE
    assert panic.around.startswith("[   11.176180] /dev/root: Can't lookup blockdev")
    assert "Kernel Offset: disabled" in panic.around
    assert "line 17 of the next boot" in panic.around
    assert "line 18 of the next boot" not in panic.around
    assert panic.whole


def test_a_panic_before_the_start_is_an_earlier_boots(path: Path) -> None:
    assert Console(LocalTransport(), str(path)).panic(len(BEFORE + PANIC), 20) is None


def test_a_panic_that_is_being_written_is_told_as_far_as_it_is_there(path: Path) -> None:
    path.write_text(BEFORE + "[   11.365567] Kernel panic - not syncing", newline="")
    panic = Console(LocalTransport(), str(path)).panic(0, 1)
    assert panic is not None
    assert panic.line == "Kernel panic - not syncing"
    assert panic.around.count("\n") == 1
    assert not panic.whole


@pytest.mark.parametrize("log", ["", "/nowhere/console.log"])
def test_without_a_log_there_is_no_panic(log: str) -> None:
    assert Console(LocalTransport(), log).panic(0, 20) is None


def test_a_log_is_returned_in_pieces_of_a_bounded_size(path: Path) -> None:
    data = bytes(range(256)) * (READ_AT_ONCE // 256) + b"the end"
    path.write_bytes(data)
    console = Console(LocalTransport(), str(path))
    assert console.size() == len(data)
    assert console.since(0) == data[:READ_AT_ONCE]
    assert console.since(READ_AT_ONCE) == b"the end"
    assert console.since(len(data) - 3) == b"end"
    assert console.since(len(data)) == console.since(len(data) + 100) == b""


def test_without_a_log_there_is_nothing_to_read() -> None:
    console = Console(LocalTransport(), "/nowhere/console.log")
    assert (console.size(), console.since(0), console.tail(20)) == (0, b"", "")


def test_a_log_that_cannot_be_read_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="Is a directory"):
        Console(LocalTransport(), str(tmp_path)).since(0)


def test_a_line_without_end_does_not_make_a_message_without_end(path: Path) -> None:
    path.write_bytes(b"x" * (3 << 20) + b"\n" + PANIC.encode() + b"y" * (3 << 20))
    console = Console(LocalTransport(), str(path))
    assert len(console.tail(20)) <= 20 * 1001
    panic = console.panic(0, 5)
    assert panic is not None
    assert panic.line == LINE
    assert len(panic.around) <= 11 * 1001


def test_what_a_guest_wrote_forges_no_line_of_an_error() -> None:
    """A console is the guest's own text: it may hold escape codes, and lines that look like this library's."""
    written = "boot\x1b]0;PWNED\x07\x1b[2J\nQEMU's log ends with:\n(nothing)"
    guest = SimpleNamespace(
        name="g",
        link=SimpleNamespace(host="rack1"),
        host=RecordedHost({"tail": left(0, "qemu: a\nIts console ends with:\n")}),
        console=SimpleNamespace(tail=lambda: written),
    )
    lines = str(GuestError(failure_text(cast(Guest, guest), "is off"))).split("\n")
    assert [line for line in lines if not line.startswith("    ")] == [
        "Guest g on rack1 is off.",
        "Its console ends with:",
        "QEMU's log ends with:",
    ]
    assert all(line.isprintable() for line in lines)
