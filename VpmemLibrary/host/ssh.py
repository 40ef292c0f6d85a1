"""A machine reached over SSH: one connection, one channel a command."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Self

from VpmemLibrary.errors import UnreachableError
from VpmemLibrary.host.deadline import within
from VpmemLibrary.host.elevation import ElevatedStream, checked, elevated, plain
from VpmemLibrary.host.ending import HASTE, LIMIT, OUTPUT_IS_HELD, PATIENCE, end_command, failed, remaining, unknown
from VpmemLibrary.host.resident import Answer, ResidentShell, is_query
from VpmemLibrary.host.ssh_channel import NO_STATUS, Execution, PidLine, SshStream, close_channel, request
from VpmemLibrary.host.ssh_connect import Connector, Dial
from VpmemLibrary.host.ssh_settings import HostKeyPolicy, SshSettings
from VpmemLibrary.host.tcp import connect_tcp
from VpmemLibrary.host.transport import (
    DEFAULT_TIMEOUT,
    CommandResult,
    Stream,
    checked_argv,
    read_through,
    shell_line,
    write_command,
)

if TYPE_CHECKING:
    import paramiko

__all__ = ["HostKeyPolicy", "SshSettings", "SshStream", "SshTransport"]

_WINDOW = 1 << 22
_SESSION_RETRY = 0.005
_ORIGIN = "127.0.0.1"
_SHOWN_NOISE = 200

# sshd allows ten sessions a connection (MaxSessions); two are kept for ending a command and for a file.
_SESSIONS = 8
_LOG = logging.getLogger(__name__)


class SshTransport:
    """Commands on a host over one persistent SSH connection, made with the first command.

    Several threads may use it at once. After the connection broke, the next command makes a new one. No command is
    started twice, except queries (see `resident`), which only read.

    Args:
        settings: How to reach the host.
        dial: What opens the TCP connection to it; this machine by default.

    Example::

        host = SshTransport(SshSettings("192.0.2.13", user="qa", sudo=True))
        host.run(["ndctl", "list", "-B"]).check()
    """

    def __init__(self, settings: SshSettings, *, dial: Dial = connect_tcp) -> None:
        self._settings = settings
        self._connector = Connector(settings, dial)
        self._client: paramiko.SSHClient | None = None
        self._lock = threading.Lock()
        self._sessions = threading.BoundedSemaphore(_SESSIONS)
        self._resident: ResidentShell | None = None
        self._asking = threading.Lock()
        self._noted = False

    @property
    def name(self) -> str:
        """The host in messages and logs: its address, and its port unless that is 22."""
        return self._settings.label

    @property
    def settings(self) -> SshSettings:
        """How the host is reached."""
        return self._settings

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run a command to its end and return what it left, whatever its exit status.

        Args:
            argv: The command, one item an argument.
            timeout: Seconds after which the command and its process group are ended on the host.
            stdin: What the command reads.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: The command did not end in time. It was ended, or the message says that this was not
                seen. What it printed so far is in its result.
            OutputTooLargeError: The command printed more than `OUTPUT_LIMIT`. It was ended, as above.
            UnreachableError: The host cannot be reached, or the connection broke while the command ran.
            AccessDeniedError: The host refused the credentials, or its sudo or doas did not run the command as root.
            ControllerError: This machine has no descriptor or thread left for the command.
        """
        command = checked_argv(argv)
        if not stdin and is_query(command) and (result := self._query(command, timeout)) is not None:
            return result
        with self._session(command, timeout) as (channel, pid_line):
            execution = Execution(channel, pid_line, self.name, command, stdin)
            try:
                ended = execution.wait(timeout)
            except UnreachableError:
                raise
            except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
                self._end(channel, execution.pid, HASTE)
                raise
            self._note(execution.noise)
            if not ended:
                too_large = execution.too_large
                remains = self._end(channel, execution.pid, PATIENCE)
                if not remains and not execution.wait(PATIENCE, limited=False):
                    remains = OUTPUT_IS_HELD
                raise failed(plain(execution.result()), timeout, too_large=too_large, remains=remains)
            result = execution.result()
        return checked(result) if self._settings.sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command and return its standard input and output as one stream.

        It holds one of the connection's sessions until it is closed.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            UnreachableError: The host cannot be reached.
            ControllerError: This machine has no descriptor or thread left for the command.
        """
        command = checked_argv(argv)
        stack = contextlib.ExitStack()
        channel, _ = stack.enter_context(self._session(command, DEFAULT_TIMEOUT))
        try:
            stream = SshStream(channel, stack.close)
            return ElevatedStream(stream) if self._settings.sudo else stream
        except BaseException:
            stack.close()
            raise

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> paramiko.Channel:
        """Open a TCP connection from the host (direct-tcpip: RFC 4254, section 7.2); see `Transport.connect`.

        Raises:
            UnreachableError: Nothing answers there, or the host's sshd forwards nothing.
        """
        import paramiko  # noqa: PLC0415

        target = f"{address} port {port}"
        try:
            return self._connected().open_channel("direct-tcpip", (address, port), (_ORIGIN, 0), timeout=timeout)
        except paramiko.ChannelException as error:
            if error.code == paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:  # type: ignore[attr-defined]  # not in the stubs
                raise UnreachableError(
                    f"sshd on {self.name} makes no connection to {target}: set AllowTcpForwarding (local) there."
                ) from error
            raise UnreachableError(
                f"{target} does not answer, as seen from {self.name}. Is it up, and does a server listen on that port?"
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError(
                f"{target} cannot be reached from {self.name}: {str(error) or type(error).__name__}."
            ) from error

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file on the host.

        Raises:
            CommandError: It cannot be read.
            OutputTooLargeError: The file is larger than `OUTPUT_LIMIT`.
            UnreachableError: The host cannot be reached.
        """
        return read_through(self.run, path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file on the host, whole or not at all: into a new file beside it, which then takes its name.

        Raises:
            CommandError: It cannot be written.
            UnreachableError: The host cannot be reached.
        """
        self.run(write_command(path, mode), stdin=data).check()

    def close(self) -> None:
        """End the connection; ending it twice is harmless."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        with self._asking:
            self._dismiss()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _query(self, command: tuple[str, ...], timeout: float) -> CommandResult | None:
        """Run a query in the shell that stays. Return None when that is busy or gone: a session of its own must do."""
        if not self._asking.acquire(blocking=False):
            return None
        try:
            shell = self._resident or self._engage()
            if shell is None:
                return None
            try:
                answer = shell.ask(command, timeout)
            except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
                self._dismiss(HASTE)
                raise
            self._note(shell.noise)
            if answer is None:
                self._dismiss()
                return None
            result = plain(self._answered(command, answer))  # the shell itself was started as root
            if answer.exit_status is None:
                remains = self._dismiss(PATIENCE)
                raise failed(result, timeout, too_large=answer.too_large, remains=remains)
            return result
        finally:
            self._asking.release()

    def _answered(self, command: tuple[str, ...], answer: Answer) -> CommandResult:
        return CommandResult(
            argv=command,
            exit_status=NO_STATUS if answer.exit_status is None else answer.exit_status,
            stdout=answer.stdout,
            stderr=answer.stderr,
            seconds=answer.seconds,
            host=self.name,
        )

    def _engage(self) -> ResidentShell | None:
        """Start the shell that stays; None when no session is free for it."""
        if not self._sessions.acquire(blocking=False):
            return None
        try:
            channel, pid_line = self._open(("sh",))
            try:
                self._resident = ResidentShell(channel, pid_line, self._sessions.release)
            except BaseException:
                close_channel(channel)
                raise
        except BaseException:
            self._sessions.release()
            raise
        return self._resident

    def _dismiss(self, seconds: float = 0) -> str:
        """End the shell that stays.

        Args:
            seconds: How long what the shell runs has to obey each signal; 0 if it runs nothing.

        Returns:
            What is known of a query that was not seen to end; nothing if it was.
        """
        shell, self._resident = self._resident, None
        if shell is None:
            return ""
        try:
            return self._end(shell.channel, shell.pid, seconds) if seconds else ""
        finally:
            shell.close()

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            transport = self._client.get_transport() if self._client is not None else None
            if transport is None or not transport.is_active():
                if self._client is not None:
                    self._client.close()
                self._client = self._connector.connect()
                transport = self._client.get_transport()
                if transport is None:
                    raise UnreachableError(f"The connection to {self.name} broke as soon as it was made.")
            return transport

    @contextlib.contextmanager
    def _session(self, command: tuple[str, ...], timeout: float) -> Iterator[tuple[paramiko.Channel, PidLine]]:
        if not self._sessions.acquire(timeout=timeout):
            raise UnreachableError(
                f"All {_SESSIONS} sessions of the connection to {self.name} were in use for {timeout:g} s; "
                f"not started: {shell_line(command)}"
            )
        try:
            channel, pid_line = self._open(command)
            try:
                yield channel, pid_line
            finally:
                close_channel(channel)
        finally:
            self._sessions.release()

    def _open(self, command: tuple[str, ...]) -> tuple[paramiko.Channel, PidLine]:
        """Start a command in a session of its own, over a new connection if need be."""
        import paramiko  # noqa: PLC0415  slow to import, needed only with a first command

        try:
            channel = self._channel()
        except UnreachableError:
            raise
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError(
                f"The connection to {self.name} has no session for a command ({str(error) or type(error).__name__}); "
                f"not started: {shell_line(command)}"
            ) from error
        return channel, self._start(channel, command)

    def _start(self, channel: paramiko.Channel, command: tuple[str, ...]) -> PidLine:
        import paramiko  # noqa: PLC0415

        pid_line = PidLine()
        line = pid_line.prelude() + shell_line(elevated(command) if self._settings.sudo else command)
        channel.exit_status = NO_STATUS
        try:
            request(channel, line, self._settings.connect_timeout)
        except (paramiko.SSHException, OSError, EOFError) as error:
            close_channel(channel)
            raise UnreachableError(
                f"The connection to {self.name} broke as a command was started ({str(error) or type(error).__name__}); "
                f"whether it ran, or still runs, is not known: {shell_line(command)}"
            ) from error
        except BaseException:
            close_channel(channel)
            raise
        return pid_line

    def _channel(self) -> paramiko.Channel:
        """Open a session, on a new connection if need be.

        sshd counts a session that was just closed for a moment longer, so a refusal is tried again.
        """
        import paramiko  # noqa: PLC0415

        deadline = time.monotonic() + self._settings.connect_timeout
        while True:
            transport = self._connected()
            try:
                return transport.open_session(window_size=_WINDOW, timeout=self._settings.connect_timeout)
            except paramiko.ChannelException:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_SESSION_RETRY)
            except (paramiko.SSHException, OSError, EOFError) as error:  # it broke before anything was started
                silent = isinstance(error, paramiko.SSHException) and transport.is_active()
                if silent or time.monotonic() > deadline:
                    raise
                transport.close()

    def _end(self, channel: paramiko.Channel, pid: int | None, seconds: float) -> str:
        """End a command with all that it started.

        It is ended over its own connection only: on the other end of a new one, another boot may have given its process
        id to another process.

        Args:
            channel: The command's channel.
            pid: The command's process id; None if it is not known.
            seconds: How long the command has to obey each signal.

        Returns:
            What is known of a command that was not seen to end; nothing if it was.
        """
        if pid is None:
            return unknown("the host's shell did not report a process id", None)
        command = end_command(pid, seconds)

        def end() -> CommandResult:
            beside = channel.get_transport().open_session(timeout=self._settings.connect_timeout)
            try:
                execution = Execution(beside, self._start(beside, command), self.name, command, b"")
                execution.wait(LIMIT * seconds)
                return execution.result()
            finally:
                close_channel(beside)

        try:
            return remaining(plain(within(LIMIT * seconds, end)), pid)
        except Exception as error:  # whatever paramiko raises, this is what is known
            return unknown(str(error).splitlines()[0] if str(error) else type(error).__name__, pid)

    def _note(self, noise: bytes) -> None:
        """Report once what the host's shell prints before each command."""
        if noise and not self._noted:
            self._noted = True
            _LOG.info(
                "On %s something prints on standard error before each command; it is left out: %r",
                self.name,
                noise[:_SHOWN_NOISE],
            )
