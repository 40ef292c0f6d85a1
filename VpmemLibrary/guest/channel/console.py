"""Read the log of a guest's serial console, which libvirt writes on the host."""

from __future__ import annotations

import re

from msgspec import Struct

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.base import Transport, query

_PANICKED = "Kernel panic - not syncing"

# A guest may write a line of any length. A line of more than 1000 bytes is split into several lines.
_LINES = "tr -d '\\r' | fold -b -w 1000"

# The first panic at or after byte $2 of file $1 (counted from 0), with the $3 lines before and after it.
_PANIC = rf"""
[ -e "$1" ] || exit 0
tail -c +$(($2 + 1)) -- "$1" | {_LINES} | grep -a -m 1 -B "$3" -A "$3" '{_PANICKED}'
exit 0
"""

# The last $2 lines of file $1, without the commands that the serial channel typed to find a shell. A console echoes
# what is typed.
_TAIL = rf"""
[ -r "$1" ] || exit 0
tail -c 65536 -- "$1" | {_LINES} | grep -a -v -e '^: vpmem-' -e "^ printf 'vpmem-" | cat -s | tail -n "$2"
"""

# How many bytes file $1 has.
_SIZE = """
[ -e "$1" ] || { echo 0; exit; }
stat -L -c %s -- "$1"
"""

# Up to $3 bytes of file $1 from byte $2 on (counted from 0).
_SINCE = """
[ -e "$1" ] || exit 0
dd if="$1" iflag=skip_bytes,count_bytes skip="$2" count="$3" bs=64K status=none
"""

# Robot Framework shortens a message that is longer than 40 lines of 78 characters. The message also contains QEMU's
# log.
TAIL_LINES = 20
"""The number of lines from the end of a log that a message shows."""

READ_AT_ONCE = 1 * MiB
"""The most bytes of a log that one call returns, because a guest may write without end."""


class Panic(Struct, frozen=True):
    """A kernel panic.

    Args:
        line: The line of the panic, without the kernel's time stamp.
        around: The line of the panic with the lines before and after it.
        whole: Whether the requested number of lines came after the panic.
    """

    line: str
    around: str
    whole: bool


class Console:
    """The log of a guest's serial console.

    Args:
        host: The transport to the guest's host.
        path: The log's path on the host; empty if the guest has no log.
        appended: Whether a new start appends to the log instead of truncating it.
    """

    def __init__(self, host: Transport, path: str, appended: bool = False) -> None:
        self._host = host
        self._path = path
        self.appended = appended

    @property
    def exists(self) -> bool:
        """Whether the host keeps a log of the guest's serial console."""
        return bool(self._path)

    def size(self) -> int:
        """Return the current size of the log in bytes.

        Raises:
            CommandError: The log exists but cannot be read.
        """
        if not self._path:
            return 0
        result = self._host.run(query(_SIZE, self._path)).check()
        if not re.fullmatch("[0-9]{1,18}", size := result.text.strip()):
            raise UnreadableOutputError(result, f"The size of {self._path} is unknown")
        return int(size)

    def tail(self, lines: int = TAIL_LINES) -> str:
        """Return the last lines of the log; empty without a log."""
        if not self._path:
            return ""
        return self._host.run(query(_TAIL, self._path, str(lines))).check().text

    def since(self, start: int) -> bytes:
        """Return the bytes from a position on, at most `READ_AT_ONCE` bytes; empty without a log.

        Args:
            start: The position of the first byte.

        Raises:
            CommandError: The log exists but cannot be read.
        """
        if not self._path:
            return b""
        return self._host.run(query(_SINCE, self._path, str(start), str(READ_AT_ONCE))).check().stdout

    def panic(self, start: int, lines: int) -> Panic | None:
        """Return the first kernel panic in the log; None if there is none.

        A kernel that reboots after a panic (``panic=-1``) writes more lines, so the panic may be far from the end of
        the log.

        Args:
            start: The position where the search starts, in bytes.
            lines: The number of lines before and after the panic to return.
        """
        if not self._path:
            return None
        around = self._host.run(query(_PANIC, self._path, str(start), str(lines))).check().text
        _, found, after = around.partition(_PANICKED)
        if not found:
            return None
        line, *rest = after.splitlines() or [""]
        return Panic(f"{_PANICKED}{line}", around.rstrip(), whole=len(rest) >= lines)
