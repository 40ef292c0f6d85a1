"""A shell that stays on a host and runs queries, one after the other.

A session of its own for each command costs sshd a process, a log-in's bookkeeping and a shell: more than a query takes.
Only commands that read, and leave nothing running, are run here. One whose shell breaks is simply asked once more.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from VpmemLibrary.host.transport import READS_ONLY, shell_line

if TYPE_CHECKING:
    import paramiko

QUERIES = (("ndctl", "list"), ("ndctl", "read-labels"), ("daxctl", "list"))
"""How the commands begin that are run by a shell that stays, beside scripts that say themselves that they only read."""

_CHUNK = 1 << 18


def is_query(argv: Sequence[str]) -> bool:
    """Whether a command only reads and leaves nothing running."""
    if tuple(argv[:2]) == ("sh", "-c"):
        return argv[2].startswith(READS_ONLY)
    return tuple(argv[:2]) in QUERIES


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query left; without an exit status it had not ended.

    Args:
        exit_status: Its exit status; None when it has not ended in time.
        stdout: What it wrote on standard output.
        stderr: What it wrote on standard error.
        seconds: How long it took.
    """

    exit_status: int | None
    stdout: bytes
    stderr: bytes
    seconds: float


class ResidentShell:
    """A POSIX shell at the other end of a channel, which reads its commands from standard input.

    Args:
        channel: Its channel; the shell's first line on standard error is its process id.
        finish: Gives back what the channel was opened with.
    """

    def __init__(self, channel: paramiko.Channel, finish: Callable[[], None]) -> None:
        self._channel = channel
        self._finish = finish
        self._changed = threading.Condition()
        self._stdout = _Output(channel.recv, self._changed)
        self._stderr = _Output(channel.recv_stderr, self._changed)
        self._nonce = secrets.token_hex(8)
        self._asked = 0
        self.pid: int | None = None

    def ask(self, argv: Sequence[str], timeout: float) -> Answer | None:
        """Run a query and return what it left; None when the shell is gone.

        Args:
            argv: The command.
            timeout: Seconds to wait for its end; a shell that was not done by then must not be asked again.
        """
        self._asked += 1
        end = f"{self._nonce}-{self._asked}"
        line = f"{shell_line(argv)} </dev/null; printf '%s %s\\n' {end} \"$?\"; printf '%s\\n' {end} >&2\n"
        started = time.monotonic()
        try:
            self._channel.sendall(line.encode())
        except (OSError, EOFError):
            return None
        marker = end.encode()
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._stdout.closed or self._stderr.closed or self._ended(marker), timeout
            )
            if done and not self._ended(marker):
                return None
            seconds = time.monotonic() - started
            if not done:
                self._tell_pid()
                return Answer(None, bytes(self._stdout.data), bytes(self._stderr.data), seconds)
            stdout, _, status = self._stdout.take().partition(marker)
            stderr = self._stderr.take()[: -len(marker) - 1]
        if self.pid is None:
            first, _, stderr = stderr.partition(b"\n")
            self.pid = int(first)
        return Answer(int(status), stdout, stderr, seconds)

    def close(self) -> None:
        """End the shell and its channel; closing twice is harmless."""
        with contextlib.suppress(OSError, EOFError):  # over a connection that is gone there is nobody to tell
            self._channel.close()
        self._finish()

    def _ended(self, marker: bytes) -> bool:
        """Whether both outputs are complete: each ends with the marker's line."""
        return self._stderr.data.endswith(marker + b"\n") and (
            self._stdout.data.endswith(b"\n") and marker + b" " in self._stdout.data[-len(marker) - 8 :]
        )

    def _tell_pid(self) -> None:
        first, newline, rest = bytes(self._stderr.data).partition(b"\n")
        if self.pid is None and newline and first.isdigit():
            self.pid = int(first)
            self._stderr.data[:] = rest


class _Output:
    """One output of the shell, read as it comes by a thread of its own."""

    def __init__(self, receive: Callable[[int], bytes], changed: threading.Condition) -> None:
        self.data = bytearray()
        self.closed = False
        self._receive = receive
        self._changed = changed
        threading.Thread(target=self._read, name="resident shell", daemon=True).start()

    def take(self) -> bytes:
        """Return what there is and forget it."""
        taken, self.data = bytes(self.data), bytearray()
        return taken

    def _read(self) -> None:
        data = b" "
        while data:
            try:
                data = self._receive(_CHUNK)
            except (OSError, EOFError):
                data = b""
            with self._changed:
                self.data += data
                self.closed = not data
                self._changed.notify_all()
