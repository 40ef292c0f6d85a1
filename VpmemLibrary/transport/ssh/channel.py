"""A command in a channel of an SSH connection: start the command, read its outputs, wait for its end."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from VpmemLibrary.errors import ControllerError, UnreachableError
from VpmemLibrary.transport.base import CommandResult, shell_line
from VpmemLibrary.transport.controller import start_thread
from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.transport.output import Output
from VpmemLibrary.transport.ssh.login_shell import Opening, Start

if TYPE_CHECKING:
    import paramiko

CHUNK = 1 << 18
NO_STATUS = -1 << 16
"""The exit status of a command that has not ended yet."""

_CLOSING = 1.0


def request(channel: paramiko.Channel, line: str, script: bytes, timeout: float) -> None:
    """Ask sshd to run a command line. `paramiko.Channel.exec_command` would wait for the answer without a deadline.

    `script` is the first part of standard input. It is sent before sshd answers.

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
    channel.settimeout(timeout)
    try:
        channel.sendall(script)
    except OSError as error:
        if isinstance(error, TimeoutError) or not channel.closed:  # if the login shell ended, sshd's answer follows
            raise
    finally:
        channel.settimeout(None)
    if not channel.event.wait(timeout):
        raise TimeoutError(f"sshd did not answer within {timeout:g} s")
    if not channel.event_ready:
        raise transport.get_exception() or paramiko.SSHException("sshd refused, or closed the session")


def close_channel(channel: paramiko.Channel) -> None:
    """Close a channel. If the connection accepts no bytes, closing continues in the background."""
    if channel.closed:
        return
    with contextlib.suppress(OSError, EOFError):  # the connection may be gone
        try:
            call_with_deadline(_CLOSING, channel.close)
        except ControllerError:  # no thread can be started
            channel.close()


class ChannelOutput(Output):
    """One output of a command. A separate thread reads the output as it arrives.

    Without such a thread, a reader would wait for the channel's descriptor, which is the same for both outputs. This
    wait can miss data, because paramiko sets and clears the descriptor for each output under a different lock.
    """

    def __init__(self, receive: Callable[[int], bytes], opening: Opening, changed: threading.Condition) -> None:
        super().__init__()
        self.closed = False
        self._receive = receive
        self._opening = opening
        self._changed = changed
        start_thread(self._read, "output of a command")

    def _read(self) -> None:
        data = b" "
        while data:
            try:
                data = self._receive(CHUNK)
            except Exception:  # paramiko may raise anything; the output has ended
                data = b""
            with self._changed:
                self.add(self._opening.feed(data))
                self.closed = not data
                self._changed.notify_all()


class Execution:
    """A running command: collects its output and waits for its end.

    Raises:
        ControllerError: No thread can be started. The command runs anyway.
    """

    def __init__(self, channel: paramiko.Channel, start: Start, argv: tuple[str, ...], stdin: bytes) -> None:
        self._channel = channel
        self._start = start
        self._argv = argv
        self._stdin = stdin
        self._started = time.monotonic()
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._stdout = ChannelOutput(channel.recv, start.stdout, self._changed)
        self._stderr = ChannelOutput(channel.recv_stderr, start.stderr, self._changed)
        if stdin:
            start_thread(self._send, "standard input of a command")
        else:
            self._send()

    @property
    def too_large(self) -> bool:
        """Whether an output of the command is larger than `OUTPUT_LIMIT`."""
        return self._stdout.too_large or self._stderr.too_large

    def wait(self, timeout: float, *, limited: bool = True) -> bool:
        """Wait until the command has ended and all of its output has arrived.

        Args:
            timeout: Seconds to wait.
            limited: Stop waiting as soon as an output is too large.

        Returns:
            Whether the command has ended.

        Raises:
            UnreachableError: The connection broke.
            LoginShellError: The login shell ended, or printed too much, before the command began.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            self._changed.wait_for(
                lambda: self._printed() or self._start.too_noisy or (limited and self.too_large), timeout
            )
            printed = self._printed() and not (limited and self.too_large)
        if self._start.too_noisy:
            raise self._start.failure(None)
        ended = printed and self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        self._seconds = time.monotonic() - self._started
        # sshd reports the exit status when the command ends. It may send the rest of the output later.
        lost = self._channel.exit_status == NO_STATUS or not self._channel.eof_received
        if ended and lost:
            raise UnreachableError(
                f"The connection to {self._start.host} broke after {self._seconds:.1f} s, while a command ran. Whether "
                f"the command did its work is not known: {shell_line(self._argv)}"
            )
        if ended and not self._start.begun:
            raise self._start.failure(self._channel.exit_status)
        return ended

    def wait_for_begin(self, timeout: float) -> None:
        """Wait until the command begins. Before that, there is no process to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._start.begun or self._printed(), timeout)

    def _printed(self) -> bool:
        return self._stdout.closed and self._stderr.closed

    def result(self) -> CommandResult:
        """Return the command's result so far."""
        with self._changed:
            stdout, stderr = bytes(self._stdout.data), bytes(self._stderr.data)
        return CommandResult(
            argv=self._argv,
            exit_status=self._channel.exit_status,
            stdout=stdout,
            stderr=stderr,
            seconds=self._seconds,
            host=self._start.host,
            stdin_bytes=len(self._stdin),
        )

    def _send(self) -> None:
        """Send standard input after the command has begun, in a thread, because a command may print while it reads."""
        with contextlib.suppress(OSError, EOFError):  # as in a pipe, the command may end before it reads all input
            if self._stdin:
                with self._changed:
                    self._changed.wait_for(lambda: self._start.stdout.found or self._stdout.closed)
                self._channel.sendall(self._stdin)
            self._channel.shutdown_write()


class SshStream:
    """A running command's standard input and output. The command's standard error is dropped.

    `finish` closes the channel and releases its session. A second call has no effect.
    """

    def __init__(self, channel: paramiko.Channel, start: Start, finish: Callable[[], None]) -> None:
        self._channel = channel
        self._start = start
        self._finish = finish
        self._first = b""
        start_thread(self._drain, "standard error of a stream")

    def wait(self, timeout: float) -> bool:
        """Wait until the command begins. Return whether it has begun."""
        deadline = time.monotonic() + timeout
        opening = self._start.stdout
        try:
            while not (opening.found or opening.too_noisy) and (left := deadline - time.monotonic()) > 0:
                self._channel.settimeout(left)
                if not (data := self._channel.recv(CHUNK)):
                    break
                self._first = opening.feed(data)
        except TimeoutError:
            pass
        finally:
            self._channel.settimeout(None)
        return opening.found

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the connection broke.
        """
        self._channel.sendall(data)

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as some arrive, or ``b""`` at the end."""
        if self._first:
            taken, self._first = self._first[:size], self._first[size:]
            return taken
        return self._channel.recv(size)

    def close(self) -> None:
        """Close the command's standard input and release the session. A second call has no effect."""
        self._finish()

    def _drain(self) -> None:
        """Read standard error, because sshd stops sending when 4 MiB of it are unread."""
        with contextlib.suppress(Exception):  # paramiko may raise anything; the output has ended
            while data := self._channel.recv_stderr(CHUNK):
                self._start.stderr.feed(data)
