"""A machine reached over SSH: one connection, one channel a command."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Self

from VpmemLibrary.errors import CommandTimeoutError, UnreachableError
from VpmemLibrary.host.elevation import SUDO, checked_elevation
from VpmemLibrary.host.local import write_command
from VpmemLibrary.host.resident import Answer, ResidentShell, is_query
from VpmemLibrary.host.ssh_connect import Connector, Dial, HostKeyPolicy, SshSettings
from VpmemLibrary.host.tcp import connect_tcp
from VpmemLibrary.host.transport import (
    DEFAULT_TIMEOUT,
    ENVIRONMENT,
    EXTRA_PATH,
    CommandResult,
    checked_argv,
    shell_line,
)

if TYPE_CHECKING:
    import paramiko

__all__ = ["HostKeyPolicy", "SshSettings", "SshStream", "SshTransport"]

_CHUNK = 1 << 18
_WINDOW = 1 << 22
_GRACE = 2.0
_SESSION_RETRY = 0.005
_ORIGIN = "127.0.0.1"
_NO_STATUS = -1 << 16

# sshd allows ten sessions a connection (MaxSessions); two are kept for ending a command and for a file.
_SESSIONS = 8

# The shell tells its process id on stderr and becomes the command, so that the command can be ended by it: without a
# pty sshd ends nothing when a channel closes. sshd makes the shell the leader of a process group of its own.
_PRELUDE = "; ".join(
    (
        "export " + " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items()),
        f'PATH="$PATH:{EXTRA_PATH}"',
        'echo "$$" >&2',
        "exec ",
    )
)


class SshTransport:
    """Commands on a host over one persistent SSH connection, made with the first command.

    Several threads may use it at once. A connection that broke is made anew by the next command.

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
            CommandTimeoutError: It did not end in time; it was ended. What it printed so far is in its result.
            UnreachableError: The host cannot be reached, or the connection broke while the command ran.
            AccessDeniedError: The host refused the credentials, or sudo asks for a password.
        """
        command = checked_argv(argv)
        if not stdin and is_query(command) and (result := self._query(command, timeout)) is not None:
            return checked_elevation(result) if self._settings.sudo else result
        with self._session(command, timeout) as channel:
            execution = _Execution(channel, self.name, command, stdin)
            try:
                ended = execution.wait(timeout)
            except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
                self._end(execution)
                raise
            if not ended:
                self._end(execution)
                raise CommandTimeoutError(execution.result(), f"It did not end within {timeout:g} s and was ended")
            result = execution.result()
        return checked_elevation(result) if self._settings.sudo else result

    def stream(self, argv: Sequence[str]) -> SshStream:
        """Start a command and return its standard input and output as one stream.

        It holds one of the connection's sessions until it is closed.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            UnreachableError: The host cannot be reached.
        """
        command = checked_argv(argv)
        stack = contextlib.ExitStack()
        channel = stack.enter_context(self._session(command, DEFAULT_TIMEOUT))
        return SshStream(channel, stack)

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
            UnreachableError: The host cannot be reached.
        """
        return self.run(["cat", "--", path]).check().stdout

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
        """Have the shell that stays run a query; None when it is busy or gone, and a session of its own must do it."""
        if not self._asking.acquire(blocking=False):
            return None
        try:
            shell = self._resident or self._engage()
            if shell is None:
                return None
            try:
                answer = shell.ask((*SUDO, *command) if self._settings.sudo else command, timeout)
            except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
                self._dismiss(kill=True)
                raise
            if answer is None:
                self._dismiss()
                return None
            result = self._answered(command, answer)
            if answer.exit_status is None:
                self._dismiss(kill=True)
                raise CommandTimeoutError(result, f"It did not end within {timeout:g} s and was ended")
            return result
        finally:
            self._asking.release()

    def _answered(self, command: tuple[str, ...], answer: Answer) -> CommandResult:
        return CommandResult(
            argv=command,
            exit_status=_NO_STATUS if answer.exit_status is None else answer.exit_status,
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
            self._resident = ResidentShell(self._open(("sh",), elevated=False), self._sessions.release)
        except BaseException:
            self._sessions.release()
            raise
        return self._resident

    def _dismiss(self, *, kill: bool = False) -> None:
        """End the shell that stays, and with it what it runs."""
        shell, self._resident = self._resident, None
        if shell is None:
            return
        try:
            if kill and shell.pid is not None:
                with contextlib.suppress(UnreachableError):
                    self._kill("KILL", shell.pid)
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
    def _session(self, command: tuple[str, ...], timeout: float) -> Iterator[paramiko.Channel]:
        if not self._sessions.acquire(timeout=timeout):
            raise UnreachableError(
                f"All {_SESSIONS} sessions of the connection to {self.name} were in use for {timeout:g} s; "
                f"not started: {shell_line(command)}"
            )
        try:
            channel = self._open(command)
            try:
                yield channel
            finally:
                _close(channel)
        finally:
            self._sessions.release()

    def _open(self, command: tuple[str, ...], *, elevated: bool | None = None) -> paramiko.Channel:
        import paramiko  # noqa: PLC0415  slow to import, needed only with a first command

        sudo = self._settings.sudo if elevated is None else elevated
        line = _PRELUDE + shell_line((*SUDO, *command) if sudo else command)
        try:
            channel = self._channel()
            channel.exit_status = _NO_STATUS
            channel.exec_command(line)
        except UnreachableError:
            raise
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise UnreachableError(
                f"The connection to {self.name} broke as a command was started ({str(error) or type(error).__name__}); "
                f"whether it ran is not known: {shell_line(command)}"
            ) from error
        return channel

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

    def _end(self, execution: _Execution) -> None:
        """End a command's process group: ask, and a moment later insist."""
        pid = execution.pid
        if pid is None:
            return
        with contextlib.suppress(UnreachableError):
            for signal in ("TERM", "KILL"):
                self._kill(signal, pid)
                if execution.wait(_GRACE):
                    return

    def _kill(self, signal: str, pid: int) -> None:
        script = f"kill -{signal} -{pid} 2>/dev/null || kill -{signal} {pid}"  # dash takes no -- here
        self._quietly(("sh", "-c", script))

    def _quietly(self, command: tuple[str, ...]) -> None:
        """Run a command of this transport's own, beside the sessions that are counted."""
        channel = self._open(command)
        try:
            channel.status_event.wait(_GRACE)
        finally:
            _close(channel)


class SshStream:
    """A running command's standard input and output."""

    def __init__(self, channel: paramiko.Channel, stack: contextlib.ExitStack) -> None:
        self._channel = channel
        self._stack = stack
        self._complaint = bytearray()

    @property
    def error_text(self) -> str:
        """What the command wrote on standard error so far."""
        self._drain()
        _, _, complaint = bytes(self._complaint).partition(b"\n")
        return complaint.decode("utf-8", "replace")

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the connection broke.
        """
        self._channel.sendall(data)

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; ``b""`` at the end."""
        self._drain()
        return self._channel.recv(size)

    def close(self) -> None:
        """End the command's standard input and give the session back; closing twice is harmless."""
        with contextlib.suppress(OSError, EOFError):
            self._channel.shutdown_write()
        self._stack.close()

    def _drain(self) -> None:
        while self._channel.recv_stderr_ready():
            self._complaint += self._channel.recv_stderr(_CHUNK)


class _Execution:
    """One command under way: what it printed so far, and the wait for its end.

    Each of its outputs is read by a thread of its own: a channel's one descriptor for both can miss a wake-up, as
    paramiko sets and clears it for each output under another lock.
    """

    def __init__(self, channel: paramiko.Channel, host: str, argv: tuple[str, ...], stdin: bytes) -> None:
        self._channel = channel
        self._host = host
        self._argv = argv
        self._stdin = stdin
        self._stdout = bytearray()
        self._stderr = bytearray()
        self._started = time.monotonic()
        self._seconds = 0.0
        self._readers = (
            threading.Thread(target=self._read, args=(channel.recv, self._stdout), daemon=True),
            threading.Thread(target=self._read, args=(channel.recv_stderr, self._stderr), daemon=True),
        )
        for reader in self._readers:
            reader.start()
        if stdin:
            threading.Thread(target=self._send, daemon=True).start()
        else:
            self._send()

    @property
    def pid(self) -> int | None:
        """The process id that the shell told; None when it told none."""
        first = bytes(self._stderr).partition(b"\n")[0]
        return int(first) if first.isdigit() else None

    def wait(self, timeout: float) -> bool:
        """Wait until the command has ended and all it printed is here; return False when `timeout` passed before.

        Raises:
            UnreachableError: The connection broke.
        """
        deadline = time.monotonic() + timeout
        for reader in self._readers:
            reader.join(max(0.0, deadline - time.monotonic()))
        printed = not any(reader.is_alive() for reader in self._readers)
        ended = printed and self._channel.status_event.wait(max(0.0, deadline - time.monotonic()))
        self._seconds = time.monotonic() - self._started
        if ended and self._channel.exit_status == _NO_STATUS:
            raise UnreachableError(
                f"The connection to {self._host} broke after {self._seconds:.1f} s, while a command ran; whether it "
                f"did its work is not known: {shell_line(self._argv)}"
            )
        return ended

    def result(self) -> CommandResult:
        """Return what the command left so far."""
        _, _, stderr = bytes(self._stderr).partition(b"\n")
        return CommandResult(
            argv=self._argv,
            exit_status=self._channel.exit_status,
            stdout=bytes(self._stdout),
            stderr=stderr,
            seconds=self._seconds,
            host=self._host,
            stdin_bytes=len(self._stdin),
        )

    @staticmethod
    def _read(receive: Callable[[int], bytes], into: bytearray) -> None:
        while data := receive(_CHUNK):
            into += data

    def _send(self) -> None:
        """Send standard input; beside the reading, as the command may print while it reads."""
        with contextlib.suppress(OSError, EOFError):  # the command may end without reading all of it, as in a pipe
            if self._stdin:
                self._channel.sendall(self._stdin)
            self._channel.shutdown_write()


def _close(channel: paramiko.Channel) -> None:
    with contextlib.suppress(OSError, EOFError):  # over a connection that is gone there is nobody to tell
        channel.close()
