"""Run commands inside a guest in a shell on its serial console, so that the guest can be used as a host."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from VpmemLibrary.errors import CommandTimeoutError, GuestError, LibvirtError, UnsupportedError
from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    SLOWEST,
    CommandResult,
    Connection,
    Stream,
    checked_argv,
    shell_line,
    write_command,
)
from VpmemLibrary.transport.elevation import elevated, require_started_as_root, without_marker_lines
from VpmemLibrary.transport.serial.shell import Line, SerialShell

_START = 30.0
"""Seconds in which a shell must answer on a console."""

_GREETING = 5.0
"""Minimum timeout for the answer of a shell that answered before, in seconds. An emulated guest may pause."""


_FILE = 600.0
"""Timeout for reading a file, in seconds. The size of the file is not known in advance."""


class SerialTransport:
    """Run commands inside a guest through its serial console, one command at a time.

    The first command connects to the console. It uses the shell that is open there, or logs the user in. `close`
    restores the shell to its earlier state.

    Args:
        name: The guest's name in messages.
        connect: Connects to the console.
        user: The user for the log-in.
        password: The user's password.
        sudo: Run every command as root, through sudo or doas; see `elevation`.

    Example::

        SerialTransport("a", lambda: ConsoleLine(link, "a")).run(["ndctl", "list", "-B"]).check()
    """

    def __init__(
        self,
        name: str,
        connect: Callable[[], Line],
        *,
        user: str = "root",
        password: str | None = None,
        sudo: bool = False,
    ) -> None:
        self._name = name
        self._connect = connect
        self._user = user
        self._password = password
        self._sudo = sudo
        self._lock = threading.RLock()
        self._shell: SerialShell | None = None

    @property
    def name(self) -> str:
        """The guest's name in messages and logs."""
        return f"guest {self._name}"

    def ping(self, timeout: float = 5) -> bool:
        """Return whether a shell answers on the console within `timeout` seconds.

        Raises:
            AccessDeniedError: The console refuses the user's log-in.
            BusyError: Another client uses the console.
        """
        with self._lock:
            try:
                shell = self._shell or self._started(timeout)
                shell.greet(max(timeout, _GREETING))
            except (GuestError, LibvirtError):  # a guest that is shut off has no console
                self._drop()
                return False
            return True

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end in the guest; see `Transport.run`.

        The timeout includes the transfer of the input and the output. The first command also finds a shell, which has
        its own timeout.

        Raises:
            BusyError: Another client uses the console.
            GuestError: No shell answers on the console, or the shell's data cannot be read. The message has the last
                console lines.
        """
        command = checked_argv(argv)
        script = "exec " + shell_line(elevated(command) if self._sudo else command)
        with self._lock:
            started = time.monotonic()
            try:
                ended = self._started(_START).run(script, stdin, timeout)
            except GuestError:
                self._drop()
                raise
            if not ended.seen:  # the next command would have to wait for this command
                self._drop()
            result = CommandResult(
                argv=command,
                exit_status=ended.status,
                stdout=ended.stdout,
                stderr=ended.stderr,
                seconds=time.monotonic() - started,
                host=self.name,
                stdin_bytes=len(stdin),
            )
        if ended.overdue:
            raise CommandTimeoutError(without_marker_lines(result), ended.overdue)
        return require_started_as_root(result) if self._sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Raise, because a console has no streams.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"The serial console of {self.name} cannot stream a command: {' '.join(argv)}")

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:  # noqa: ARG002
        """Raise, because a console makes no connections.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"{address} port {port} cannot be reached through the serial console of {self.name}")

    def read_file(self, path: str) -> bytes:
        """Return the content of a file in the guest: at most 16 MiB, within ten minutes.

        Raises:
            CommandError: The file cannot be read, or reading takes longer.
            GuestError: No shell answers on the console, or the file is larger.
        """
        return self.run(["cat", "--", path], timeout=_FILE).check().stdout

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file in the guest atomically; see `Transport.write_file`."""
        self.run(write_command(path, mode), stdin=data, timeout=DEFAULT_TIMEOUT + len(data) / SLOWEST).check()

    def close(self) -> None:
        """Restore the shell and disconnect from the console. A second call has no effect."""
        with self._lock:
            shell, self._shell = self._shell, None
            if shell is not None:
                shell.close()

    def _started(self, timeout: float) -> SerialShell:
        if self._shell is None:
            line = self._connect()
            shell = SerialShell(line, self.name)
            try:
                shell.start(self._user, self._password, timeout)
            except BaseException:
                line.close()
                raise
            self._shell = shell
        return self._shell

    def _drop(self) -> None:
        shell, self._shell = self._shell, None
        if shell is not None:
            with contextlib.suppress(GuestError):
                shell.close()
