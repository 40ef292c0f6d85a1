"""Run commands on a host over SSH: one connection, and one channel for each command."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from VpmemLibrary.errors import LoginShellError, UnreachableError
from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    CommandResult,
    CommandTransport,
    Stream,
    checked_argv,
    shell_line,
)
from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.transport.elevation import ElevatedStream, elevated, require_started_as_root, without_marker_lines
from VpmemLibrary.transport.ending import (
    HASTE,
    LIMIT,
    OUTPUT_IS_HELD,
    PATIENCE,
    end_command,
    ended_error,
    remaining_message,
    unknown_end_message,
)
from VpmemLibrary.transport.ssh.channel import NO_STATUS, Execution, SshStream, close_channel, request
from VpmemLibrary.transport.ssh.connect import Connector
from VpmemLibrary.transport.ssh.connections import SESSIONS, Connections
from VpmemLibrary.transport.ssh.greeting import Greeter
from VpmemLibrary.transport.ssh.login_shell import IGNORED_SIGNALS, OTHERS, PLAIN, WITH_SIGNALS, Start
from VpmemLibrary.transport.ssh.proxy import Dial, dial_for, open_tcp_channel
from VpmemLibrary.transport.ssh.query_shell import ResidentShell, is_query
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy, SshSettings

if TYPE_CHECKING:
    import paramiko

__all__ = ["HostKeyPolicy", "SshSettings", "SshStream", "SshTransport"]

_SHOWN_NOISE = 200
_LOGIN_TIMEOUT = 30.0
_LOG = logging.getLogger(__name__)


class SshTransport(CommandTransport):
    """Run commands on a host over one persistent SSH connection. The first command makes the connection.

    Several threads may use the object at once. If the connection breaks, the next command reconnects. No command is
    started twice, except read-only queries (see `query_shell`).

    Args:
        settings: How to reach the host.
        dial: Opens the TCP connection. By default this machine connects, through the jump hosts of `settings` if there
            are any.

    Example::

        host = SshTransport(SshSettings("192.0.2.13", user="qa", sudo=True))
        host.run(["ndctl", "list", "-B"]).check()
    """

    def __init__(self, settings: SshSettings, *, dial: Dial | None = None) -> None:
        self._settings = settings
        self._greeter = Greeter(dial or dial_for(settings, Connector))
        self._connector = Connector(settings, self._greeter.dial)
        self._connections = Connections(self._connect, settings.label, settings.connect_timeout)
        self._sessions = threading.BoundedSemaphore(SESSIONS)
        self._trying = threading.Lock()
        self._line = ""
        self._resident: ResidentShell | None = None
        self._asking = threading.Lock()
        self._noted = False

    @property
    def name(self) -> str:
        """The host's name in messages and logs: the address, with the port unless the port is 22."""
        return self._settings.label

    @property
    def settings(self) -> SshSettings:
        """The settings to reach the host."""
        return self._settings

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end on the host; see `Transport.run`."""
        command = checked_argv(argv)
        if not stdin and is_query(command) and (result := self._query(command, timeout)) is not None:
            return result
        with self._session(command, timeout) as (channel, start):
            execution = Execution(channel, start, command, stdin)
            try:
                ended = execution.wait(timeout)
            except UnreachableError:
                raise
            except BaseException:  # a keyword timeout or Ctrl-C must leave no process behind
                execution.wait_for_begin(LIMIT * HASTE)
                self._end(channel, start, HASTE)
                raise
            self._note(start.noise)
            if not ended:
                too_large = execution.too_large
                execution.wait_for_begin(LIMIT * PATIENCE)
                remains = self._end(channel, start, PATIENCE)
                if not remains and not execution.wait(PATIENCE, limited=False):
                    remains = OUTPUT_IS_HELD
                raise ended_error(
                    without_marker_lines(execution.result()), timeout, too_large=too_large, remains=remains
                )
            result = execution.result()
        return require_started_as_root(result) if self._settings.sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command; see `Transport.stream`. The stream uses a session of the connection until it is closed."""
        command = checked_argv(argv)
        stack = contextlib.ExitStack()
        channel, start = stack.enter_context(self._session(command, DEFAULT_TIMEOUT))
        try:
            stream = SshStream(channel, start, stack.close)
            if stream.wait(DEFAULT_TIMEOUT):
                return ElevatedStream(stream) if self._settings.sudo else stream
        except BaseException:
            stack.close()
            raise
        failure = self._not_begun(channel, start, command)
        stack.close()
        raise failure

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> paramiko.Channel:
        """Open a TCP connection from the host; see `Transport.connect`."""
        return open_tcp_channel(self._connections.transport(), address, port, timeout, self.name)

    def close(self) -> None:
        """Close the connection. A second call has no effect."""
        self._connections.close()
        with self._asking:
            self._dismiss()

    def _query(self, command: tuple[str, ...], timeout: float) -> CommandResult | None:
        """Run a query in the resident shell. Return None if the shell is busy or gone: then use a separate session."""
        if not self._asking.acquire(blocking=False):
            return None
        try:
            shell = self._resident or self._engage()
            if shell is None:
                return None
            try:
                answer = shell.ask(command, timeout)
            except BaseException:  # a keyword timeout or Ctrl-C must leave no process behind
                self._dismiss(HASTE)
                raise
            self._note(shell.start.noise)
            if answer is None:
                self._dismiss()
                return None
            result = without_marker_lines(answer.result)  # the resident shell itself runs as root
            if not answer.ended:
                remains = self._dismiss(PATIENCE)
                raise ended_error(result, timeout, too_large=answer.too_large, remains=remains)
            return result
        finally:
            self._asking.release()

    def _engage(self) -> ResidentShell | None:
        """Start the resident shell. Return None if no session is free."""
        if not self._sessions.acquire(blocking=False):
            return None
        try:
            channel, start = self._open(("/bin/sh",))
            try:
                self._resident = ResidentShell(channel, start, self._sessions.release)
            except BaseException:
                close_channel(channel)
                raise
        except BaseException:
            self._sessions.release()
            raise
        return self._resident

    def _dismiss(self, seconds: float = 0) -> str:
        """End the resident shell. Return a message if its query may still run, otherwise an empty text.

        Args:
            seconds: Seconds to wait after each signal to the shell's query; 0 if no query runs.
        """
        shell, self._resident = self._resident, None
        if shell is None:
            return ""
        try:
            return self._end(shell.channel, shell.start, seconds) if seconds else ""
        finally:
            shell.close()

    def _connect(self) -> paramiko.SSHClient:
        where = f"{self._settings.address} port {self._settings.port}"
        return self._greeter.connected(self._connector.connect, where, self._settings.connect_timeout)

    @contextlib.contextmanager
    def _session(self, command: tuple[str, ...], timeout: float) -> Iterator[tuple[paramiko.Channel, Start]]:
        if not self._sessions.acquire(timeout=timeout):
            raise UnreachableError(
                f"All {SESSIONS} sessions to {self.name} were in use for {timeout:g} s; "
                f"not started: {shell_line(command)}"
            )
        try:
            channel, start = self._open(command)
            try:
                yield channel, start
            finally:
                close_channel(channel)
        finally:
            self._sessions.release()

    def _open(self, command: tuple[str, ...]) -> tuple[paramiko.Channel, Start]:
        """Start a command in its own session. Reconnect if necessary."""
        line = self._login_line()
        channel = self._channel(command)
        return channel, self._start(channel, line, command)

    def _channel(self, command: tuple[str, ...]) -> paramiko.Channel:
        import paramiko  # noqa: PLC0415  slow to import, only the first command needs it

        try:
            return self._connections.open_session()
        except UnreachableError:
            raise
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError(
                f"The connection to {self.name} has no session for a command ({str(error) or type(error).__name__}); "
                f"not started: {shell_line(command)}"
            ) from error

    def _start(self, channel: paramiko.Channel, line: str, command: tuple[str, ...], script: str = "") -> Start:
        """Start a command by a command line of the login shell. `script` replaces the command itself."""
        import paramiko  # noqa: PLC0415

        whole = script or f"exec {shell_line(elevated(command) if self._settings.sudo else command)}"
        start = Start(whole, self.name, self._settings.user)
        channel.exit_status = NO_STATUS
        try:
            request(channel, line, start.script, self._settings.connect_timeout)
        except (paramiko.SSHException, OSError, EOFError) as error:
            close_channel(channel)
            raise UnreachableError(
                f"The connection to {self.name} broke as a command was started ({str(error) or type(error).__name__}). "
                f"Whether the command ran, or still runs, is not known: {shell_line(command)}"
            ) from error
        except BaseException:
            close_channel(channel)
            raise
        return start

    def _login_line(self) -> str:
        """Return the command line that turns the login shell into ``/bin/sh``. Find it for the first command."""
        with self._trying:
            if not self._line:
                self._line = self._found_line()
            return self._line

    def _found_line(self) -> str:
        try:
            ignored = self._try(PLAIN)
        except LoginShellError as error:
            if error.exit_status is None:
                raise
            for line in OTHERS:
                with contextlib.suppress(LoginShellError):
                    self._try(line)
                    return line
            raise
        if ignored:
            with contextlib.suppress(LoginShellError):
                if self._try(WITH_SIGNALS) < ignored:  # sshd may ignore a signal that no program can reset
                    return WITH_SIGNALS
        return PLAIN

    def _try(self, line: str) -> int:
        """Start a test command by a command line, or raise. Return the mask of the signals that the command ignores."""
        command = ("true",)
        channel = self._channel(command)
        try:
            start = self._start(channel, line, command, IGNORED_SIGNALS)
            execution = Execution(channel, start, command, b"")
            ended = execution.wait(_LOGIN_TIMEOUT)
            self._note(start.noise)
            if not ended and not start.begun:
                raise self._not_begun(channel, start, command)
            if not ended and channel.exit_status != NO_STATUS:
                raise start.held(_LOGIN_TIMEOUT)
            mask = execution.result().text.strip()
        finally:
            close_channel(channel)
        return int(mask, 16) if re.fullmatch("[0-9a-f]{1,16}", mask) else 0

    def _not_begun(self, channel: paramiko.Channel, start: Start, command: tuple[str, ...]) -> UnreachableError:
        """Return the error for a command that has not reported its beginning."""
        if channel.closed and channel.exit_status == NO_STATUS:
            return UnreachableError(
                f"The connection to {self.name} broke as a command was started. Whether the command ran is not known: "
                f"{shell_line(command)}"
            )
        status = None if channel.exit_status == NO_STATUS else channel.exit_status
        return start.failure(status)

    def _end(self, channel: paramiko.Channel, start: Start, seconds: float) -> str:
        """End a command and all its processes. Return a message if a process may still run, otherwise an empty text.

        Use a new session of the same connection. If the connection has no free session, use another connection. If the
        host has rebooted, end nothing, because the process id may belong to another process. `seconds` is the time to
        wait after each signal.
        """
        import paramiko  # noqa: PLC0415

        pid = start.stdout.pid or start.stderr.pid
        if pid is None:
            return unknown_end_message("the login shell did not report a process id", None)
        command = end_command(pid, seconds, start.stdout.boot)

        def end() -> CommandResult:
            try:
                beside = channel.get_transport().open_session(timeout=self._settings.connect_timeout)
            except paramiko.ChannelException:
                if not start.stdout.boot:
                    raise
                beside = self._connections.open_session()
            try:
                execution = Execution(beside, self._start(beside, self._line, command), command, b"")
                execution.wait(LIMIT * seconds)
                return execution.result()
            finally:
                close_channel(beside)

        try:
            return remaining_message(without_marker_lines(call_with_deadline(LIMIT * seconds, end)), pid)
        except Exception as error:  # paramiko may raise anything
            return unknown_end_message(str(error).splitlines()[0] if str(error) else type(error).__name__, pid)

    def _note(self, noise: bytes) -> None:
        """Log once that the host's shell prints text before each command."""
        if noise and not self._noted:
            self._noted = True
            _LOG.info(
                "The login shell on %s prints text before each command. The text is ignored: %r",
                self.name,
                noise[:_SHOWN_NOISE],
            )
