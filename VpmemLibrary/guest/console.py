"""What a guest wrote on its serial console, as libvirt's log of it on the host keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from VpmemLibrary.host.transport import Transport, query

_PANICKED = "Kernel panic - not syncing"

# The first panic at or after byte $2 of file $1 (counted from 0), with the $3 lines before and after it.
_PANIC = rf"""
tail -c +$(($2 + 1)) -- "$1" | tr -d '\r' | grep -a -m 1 -B "$3" -A "$3" '{_PANICKED}'
exit 0
"""

# The last $2 lines of file $1, without what the serial channel typed there in search of a shell: a console echoes it.
_TAIL = r"""
[ -r "$1" ] || exit 0
tr -d '\r' <"$1" | grep -a -v -e '^: vpmem-' -e "^ printf 'vpmem-" | cat -s | tail -n "$2"
"""


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
        """Return how many bytes there are now."""
        result = self._host.run(["stat", "-L", "-c", "%s", "--", self._path]) if self._path else None
        return int(result.text) if result is not None and result.exit_status == 0 else 0

    def tail(self, lines: int) -> str:
        """Return the last lines; empty when there are none."""
        if not self._path:
            return ""
        return self._host.run(query(_TAIL, self._path, str(lines))).check().text

    def since(self, start: int) -> bytes:
        """Return what was written from a byte on; nothing when there is no log.

        Args:
            start: Where to begin, in bytes.
        """
        if not self._path:
            return b""
        result = self._host.run(["tail", "-c", f"+{start + 1}", "--", self._path])
        return result.stdout if result.exit_status == 0 else b""

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
