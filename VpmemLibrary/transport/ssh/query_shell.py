"""A shell that stays on a host and runs queries, one after the other.

A session of its own for each command costs sshd a process, a log-in's bookkeeping and a shell: more than a query takes.
Only commands that read, and leave nothing running, are run here. One whose shell breaks is simply asked once more.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from VpmemLibrary.transport.base import READS_ONLY, shell_line
from VpmemLibrary.transport.ssh.channel import ChannelOutput, close_channel
from VpmemLibrary.transport.ssh.login_shell import Start

if TYPE_CHECKING:
    import paramiko

QUERIES = (("ndctl", "list"), ("ndctl", "read-labels"), ("daxctl", "list"))
"""How the commands begin that are run by a shell that stays, beside scripts that say themselves that they only read."""

_LONGEST_STATUS = 5  # a blank, three digits and a newline


def is_query(argv: Sequence[str]) -> bool:
    """Whether a command only reads and leaves nothing running."""
    if tuple(argv[:2]) == ("sh", "-c"):
        return len(argv) > 2 and argv[2].startswith(READS_ONLY)
    return tuple(argv[:2]) in QUERIES


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query left; without an exit status it had not ended.

    Args:
        exit_status: Its exit status; None when it has not ended in time.
        stdout: What it wrote on standard output.
        stderr: What it wrote on standard error.
        seconds: How long it took.
        too_large: Whether it had not ended because it printed more than is kept.
    """

    exit_status: int | None
    stdout: bytes
    stderr: bytes
    seconds: float
    too_large: bool = False


class ResidentShell:
    """A POSIX shell at the other end of a channel, which reads its commands from standard input.

    Args:
        channel: Its channel.
        start: How the shell was started.
        finish: Gives back what the channel was opened with; it is called once.
    """

    def __init__(self, channel: paramiko.Channel, start: Start, finish: Callable[[], None]) -> None:
        self.channel = channel
        """The shell's channel."""
        self.start = start
        """How the shell was started."""
        self._finish: Callable[[], None] | None = finish
        self._changed = threading.Condition()
        self._stdout = ChannelOutput(channel.recv, start.stdout, self._changed)
        self._stderr = ChannelOutput(channel.recv_stderr, start.stderr, self._changed)
        self._nonce = secrets.token_hex(8)
        self._asked = 0

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
        marker = end.encode()
        outputs = (self._stdout, self._stderr)
        with self._changed:  # the shell reads what follows once it has begun
            self._changed.wait_for(
                lambda: self.start.begun or self.start.too_noisy or any(output.closed for output in outputs), timeout
            )
            if not self.start.begun:
                return None
        try:
            self.channel.sendall(line.encode("utf-8", "surrogateescape"))
        except (OSError, EOFError):
            return None
        with self._changed:
            self._changed.wait_for(
                lambda: any(output.closed or output.too_large for output in outputs) or self._ended(marker),
                timeout - (time.monotonic() - started),
            )
            seconds = time.monotonic() - started
            status = self._ended(marker)
            too_large = any(output.too_large for output in outputs)
            if status is None and not too_large and any(output.closed for output in outputs):
                return None
            stdout, stderr = (output.take() for output in outputs)
        if status is None:
            return Answer(None, stdout, stderr, seconds, too_large)
        return Answer(int(status[1]), stdout[: -len(status[0])], stderr[: -len(marker) - 1], seconds)

    def close(self) -> None:
        """End the shell and its channel; closing twice is harmless."""
        close_channel(self.channel)
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def _ended(self, marker: bytes) -> re.Match[bytes] | None:
        """Return the end of standard output with the exit status, if both outputs end with the marker's line."""
        if not self._stderr.data.endswith(marker + b"\n"):
            return None
        return re.search(re.escape(marker) + rb" ([0-9]+)\n\Z", self._stdout.data[-len(marker) - _LONGEST_STATUS :])
