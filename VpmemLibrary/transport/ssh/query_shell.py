"""A shell that keeps running on a host and runs queries one after the other.

A session for each query would cost sshd a process, log-in records and a shell. This takes longer than the query. Only
commands that read and leave nothing running use this shell. If the shell breaks, the query runs again.
"""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

from VpmemLibrary.transport.base import READS_ONLY, CommandResult, shell_line
from VpmemLibrary.transport.ssh.channel import NO_STATUS, ChannelOutput, close_channel
from VpmemLibrary.transport.ssh.login_shell import Start

if TYPE_CHECKING:
    import paramiko

QUERIES = (("ndctl", "list"), ("ndctl", "read-labels"), ("daxctl", "list"))
"""The beginnings of commands that the shell may run. It also runs scripts that begin with `READS_ONLY`."""

_LONGEST_STATUS = 5  # a blank, three digits and a newline


def is_query(argv: Sequence[str]) -> bool:
    """Return whether a command only reads and leaves nothing running."""
    if tuple(argv[:2]) == ("sh", "-c"):
        return len(argv) > 2 and argv[2].startswith(READS_ONLY)
    return tuple(argv[:2]) in QUERIES


class QueryResult(Struct, frozen=True):
    """The result of a query, whether the query ended, and whether an output is larger than `OUTPUT_LIMIT`."""

    result: CommandResult
    ended: bool
    too_large: bool


class ResidentShell:
    """A POSIX shell at the other end of a channel. The shell reads commands from standard input.

    `finish` releases the session of the channel. `close` calls it once.
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

    def ask(self, argv: Sequence[str], timeout: float) -> QueryResult | None:
        """Run a query and return its result; None if the shell is gone. Do not use the shell after a timeout."""
        self._asked += 1
        end = f"{self._nonce}-{self._asked}"
        line = f"{shell_line(argv)} </dev/null; printf '%s %s\\n' {end} \"$?\"; printf '%s\\n' {end} >&2\n"
        started = time.monotonic()
        marker = end.encode()
        outputs = (self._stdout, self._stderr)
        with self._changed:  # the login shell could read input that is sent before the shell begins
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
        exit_status = NO_STATUS
        if status is not None:
            exit_status, stdout, stderr = int(status[1]), stdout[: -len(status[0])], stderr[: -len(marker) - 1]
        result = CommandResult(tuple(argv), exit_status, stdout, stderr, seconds, self.start.host)
        return QueryResult(result, ended=status is not None, too_large=too_large)

    def close(self) -> None:
        """End the shell and its channel. A second call has no effect."""
        close_channel(self.channel)
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def _ended(self, marker: bytes) -> re.Match[bytes] | None:
        """Return the exit status line at the end of standard output; None unless both outputs end with the marker."""
        if not self._stderr.data.endswith(marker + b"\n"):
            return None
        return re.search(re.escape(marker) + rb" ([0-9]+)\n\Z", self._stdout.data[-len(marker) - _LONGEST_STATUS :])
