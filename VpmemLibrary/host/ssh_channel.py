"""A command in a channel of an SSH connection: its start, its outputs, its end."""

from __future__ import annotations

import contextlib
import re
import secrets
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from VpmemLibrary.errors import ControllerError, UnreachableError
from VpmemLibrary.host.controller import start_thread
from VpmemLibrary.host.deadline import within
from VpmemLibrary.host.output import Output
from VpmemLibrary.host.transport import ENVIRONMENT, EXTRA_PATH, CommandResult, shell_line

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 18
NO_STATUS = -1 << 16
"""The exit status of a command that has none yet."""

_CLOSING = 1.0


class PidLine:
    """The line on standard error by which a shell reports its process id before it becomes the command.

    Without a pty sshd ends nothing when a channel closes, so a command is ended by its process id. A random word marks
    the line: a shell may print before it, for instance from sshrc, from bashrc, or for a locale that is missing.
    """

    def __init__(self) -> None:
        self._mark = f"vpmem-{secrets.token_hex(8)}"
        self._line = re.compile(rb"%s ([0-9]+)\n" % self._mark.encode())

    def prelude(self) -> str:
        """Return what a command line begins with."""
        setting = " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        return f'export {setting}; PATH="$PATH:{EXTRA_PATH}"; echo "{self._mark} $$" >&2; exec '

    def split(self, stderr: bytes | bytearray) -> tuple[int | None, bytes, bytes]:
        """Return the process id, what was printed before its line, and what the command itself printed.

        Without the line there is no process id, and all is the command's.
        """
        found = self._line.search(stderr)
        if found is None:
            return None, b"", bytes(stderr)
        return int(found[1]), bytes(stderr[: found.start()]), bytes(stderr[found.end() :])


def request(channel: paramiko.Channel, line: str, timeout: float) -> None:
    """Ask sshd to run a command line. `paramiko.Channel.exec_command` waits for the answer without a deadline.

    Raises:
        SSHException, OSError, EOFError: The connection broke, or sshd refused.
        TimeoutError: sshd did not answer in time.
    """
    import paramiko  # noqa: PLC0415
    from paramiko.common import cMSG_CHANNEL_REQUEST  # noqa: PLC0415

    message = paramiko.Message()
    message.add_byte(cMSG_CHANNEL_REQUEST)
    message.add_int(channel.remote_chanid)
    message.add_string("exec")
    message.add_boolean(True)
    message.add_string(line)
    transport = channel.get_transport()
    channel._event_pending()  # type: ignore[attr-defined]  # as exec_command does
    transport._send_user_message(message)  # type: ignore[attr-defined]
    if not channel.event.wait(timeout):
        raise TimeoutError(f"sshd did not answer within {timeout:g} s")
    if not channel.event_ready:
        raise transport.get_exception() or paramiko.SSHException("sshd refused, or closed the session")


def close_channel(channel: paramiko.Channel) -> None:
    """Close a channel; over a connection that takes no bytes, in the background."""
    if channel.closed:
        return
    with contextlib.suppress(OSError, EOFError):  # over a connection that is gone there is nobody to tell
        try:
            within(_CLOSING, channel.close)
        except ControllerError:  # no thread is left for it
            channel.close()


class ChannelOutput(Output):
    """One output of a command, read as it comes by a thread of its own.

    A channel's one descriptor for both outputs can miss a wake-up, as paramiko sets and clears it for each output under
    another lock.

    Args:
        receive: What returns the next bytes.
        changed: Is notified of everything that comes, and guards this.
    """

    def __init__(self, receive: Callable[[int], bytes], changed: threading.Condition) -> None:
        super().__init__()
        self.closed = False
        self._receive = receive
        self._changed = changed
        start_thread(self._read, "output of a command")

    def _read(self) -> None:
        data = b" "
        while data:
            try:
                data = self._receive(CHUNK)
            except Exception:  # whatever paramiko raises, there is nothing more to read
                data = b""
            with self._changed:
                self.add(data)
                self.closed = not data
                self._changed.notify_all()


class Execution:
    """One command under way: what it printed so far, and the wait for its end.

    Args:
        channel: The command's channel.
        pid_line: The line that reports its process id.
        host: The host's name.
        argv: The command.
        stdin: What the command reads.

    Raises:
        ControllerError: No thread can be started. The command runs.
    """

    def __init__(
        self, channel: paramiko.Channel, pid_line: PidLine, host: str, argv: tuple[str, ...], stdin: bytes
    ) -> None:
        self._channel = channel
        self._pid_line = pid_line
        self._host = host
        self._argv = argv
        self._stdin = stdin
        self._started = time.monotonic()
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._stdout = ChannelOutput(channel.recv, self._changed)
        self._stderr = ChannelOutput(channel.recv_stderr, self._changed)
        if stdin:
            start_thread(self._send, "standard input of a command")
        else:
            self._send()

    @property
    def pid(self) -> int | None:
        """The process id that the shell reported; None when it reported none."""
        with self._changed:
            return self._pid_line.split(self._stderr.data)[0]

    @property
    def noise(self) -> bytes:
        """What was printed before the command was run."""
        with self._changed:
            return self._pid_line.split(self._stderr.data)[1]

    @property
    def too_large(self) -> bool:
        """Whether the command printed more than is kept."""
        return self._stdout.too_large or self._stderr.too_large

    def wait(self, timeout: float, *, limited: bool = True) -> bool:
        """Wait until the command has ended and all it printed is here.

        Args:
            timeout: Seconds to wait.
            limited: Whether the wait ends as soon as the command printed too much.

        Returns:
            Whether the command has ended.

        Raises:
            UnreachableError: The connection broke.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(
                lambda: (self._stdout.closed and self._stderr.closed) or (limited and self.too_large), timeout
            )
            printed = self._stdout.closed and self._stderr.closed and not (limited and self.too_large)
        ended = printed and self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        self._seconds = time.monotonic() - self._started
        if ended and self._channel.exit_status == NO_STATUS:
            raise UnreachableError(
                f"The connection to {self._host} broke after {self._seconds:.1f} s, while a command ran; whether it "
                f"did its work is not known: {shell_line(self._argv)}"
            )
        return ended

    def result(self) -> CommandResult:
        """Return what the command left so far."""
        with self._changed:
            stdout, (_, _, stderr) = bytes(self._stdout.data), self._pid_line.split(self._stderr.data)
        return CommandResult(
            argv=self._argv,
            exit_status=self._channel.exit_status,
            stdout=stdout,
            stderr=stderr,
            seconds=self._seconds,
            host=self._host,
            stdin_bytes=len(self._stdin),
        )

    def _send(self) -> None:
        """Send standard input; beside the reading, as the command may print while it reads."""
        with contextlib.suppress(OSError, EOFError):  # the command may end without reading all of it, as in a pipe
            if self._stdin:
                self._channel.sendall(self._stdin)
            self._channel.shutdown_write()


class SshStream:
    """A running command's standard input and output. Its standard error is read and dropped.

    Args:
        channel: The command's channel.
        finish: Closes the channel and gives its session back. Called twice, it does nothing.
    """

    def __init__(self, channel: paramiko.Channel, finish: Callable[[], None]) -> None:
        self._channel = channel
        self._finish = finish
        start_thread(self._drain, "standard error of a stream")

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the connection broke.
        """
        self._channel.sendall(data)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; ``b""`` at the end."""
        return self._channel.recv(size)

    def close(self) -> None:
        """End the command's standard input and give the session back; closing twice is harmless."""
        self._finish()

    def _drain(self) -> None:
        """Read standard error, as sshd sends nothing more when 4 MiB of it are unread."""
        with contextlib.suppress(Exception):  # whatever paramiko raises, there is nothing more to read
            while self._channel.recv_stderr(CHUNK):
                pass
