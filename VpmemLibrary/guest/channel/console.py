"""What a guest wrote on its serial console, as libvirt's log of it on the host keeps it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.base import Transport, query

_PANICKED = "Kernel panic - not syncing"

# A guest may write a line of any length: a longer one becomes several lines.
_LINES = "tr -d '\\r' | fold -b -w 1000"

# The first panic at or after byte $2 of file $1 (counted from 0), with the $3 lines before and after it.
_PANIC = rf"""
[ -e "$1" ] || exit 0
tail -c +$(($2 + 1)) -- "$1" | {_LINES} | grep -a -m 1 -B "$3" -A "$3" '{_PANICKED}'
exit 0
"""

# The last $2 lines of file $1, without what the serial channel typed there in search of a shell: a console echoes it.
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

READ_AT_ONCE = 1 * MiB
"""Bytes of a log that are returned at once: a guest may write without end."""


@dataclass(frozen=True, slots=True)
class Panic:
    """A kernel's panic.

    Args:
        line: Its line, without the kernel's time stamp.
        around: That line with those before and after it.
        whole: Whether as many lines came after it as were asked for.
    """

    line: str
    around: str
    whole: bool


class Console:
    """The log of a guest's serial console.

    Args:
        host: The way to the guest's host.
        path: The log's path on the host; empty when the guest has none.
        appended: Whether a new start leaves in it what was there.
    """

    def __init__(self, host: Transport, path: str, appended: bool = False) -> None:
        self._host = host
        self._path = path
        self.appended = appended

    def size(self) -> int:
        """Return how many bytes there are now.

        Raises:
            CommandError: The log is there and cannot be looked at.
        """
        if not self._path:
            return 0
        result = self._host.run(query(_SIZE, self._path)).check()
        if not re.fullmatch("[0-9]{1,18}", size := result.text.strip()):
            raise UnreadableOutputError(result, f"The size of {self._path} is not known")
        return int(size)

    def tail(self, lines: int) -> str:
        """Return the last lines; empty when there are none."""
        if not self._path:
            return ""
        return self._host.run(query(_TAIL, self._path, str(lines))).check().text

    def since(self, start: int) -> bytes:
        """Return what was written from a byte on, at most `READ_AT_ONCE` bytes; nothing when there is no log.

        Args:
            start: Where to begin, in bytes.

        Raises:
            CommandError: The log is there and cannot be read.
        """
        if not self._path:
            return b""
        return self._host.run(query(_SINCE, self._path, str(start), str(READ_AT_ONCE))).check().stdout

    def panic(self, start: int, lines: int) -> Panic | None:
        """Return the first panic that a kernel wrote of; none when no kernel did.

        A kernel that reboots after a panic (``panic=-1``) goes on writing, so the panic may be far from the end.

        Args:
            start: Where to begin, in bytes.
            lines: How many lines before it and after it come with it.
        """
        if not self._path:
            return None
        around = self._host.run(query(_PANIC, self._path, str(start), str(lines))).check().text
        _, found, after = around.partition(_PANICKED)
        if not found:
            return None
        line, *rest = after.splitlines() or [""]
        return Panic(f"{_PANICKED}{line}", around.rstrip(), whole=len(rest) >= lines)
