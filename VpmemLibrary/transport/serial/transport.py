"""Commands inside a guest by a shell on its serial console, with the face of a transport: a guest is a host too."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence

from VpmemLibrary.errors import CommandTimeoutError, GuestError, LibvirtError, UnsupportedError
from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    CommandResult,
    Connection,
    Stream,
    checked_argv,
    shell_line,
    write_command,
)
from VpmemLibrary.transport.elevation import checked, elevated, plain
from VpmemLibrary.transport.serial.shell import Line, SerialShell

_START = 30.0
"""Seconds in which a shell must show itself on a console."""

_GREETING = 5.0
"""Seconds in which a shell that was found answers at least: an emulated guest may pause for some."""


_FILE = 600.0
"""Seconds in which a file is read: its size is not known before."""

SLOWEST = 250
"""Bytes a second that a console carries at the least: to a guest whose processor is emulated about a thousand."""


class SerialTransport:
    """Commands inside a guest through its serial console, one at a time.

    The console is taken with the first command. A shell that is open there is used as it is; where the console asks for
    a log-in, the user logs in. The shell is given back by `close`.

    Args:
        name: The guest's name in messages.
        connect: What takes the console.
        user: Who logs in.
        password: The user's password.
        sudo: Whether every command is run as root, through sudo or doas.

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
        """The guest in messages and logs."""
        return f"guest {self._name}"

    def ping(self, timeout: float = 5) -> bool:
        """Whether a shell answers on the console.

        Args:
            timeout: Seconds within which a shell must show itself.

        Raises:
            AccessDeniedError: The console does not let the user in.
            BusyError: Somebody else holds the console.
        """
        with self._lock:
            try:
                shell = self._shell or self._started(timeout)
                shell.greet(max(timeout, _GREETING))
            except (GuestError, LibvirtError):  # a guest that is off has no console
                self._drop()
                return False
            return True

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command in the guest to its end and return what it left, whatever its exit status.

        Args:
            argv: The command, one item an argument.
            timeout: Seconds for the command, its input and its output; what is over by then is ended with all that it
                started. Finding a shell, with the first command, has its own time.
            stdin: What the command reads.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: It did not end in time; the message says whether it was ended. What it printed so far
                is in its result.
            AccessDeniedError: The console does not let the user in.
            BusyError: Somebody else holds the console.
            GuestError: No shell answers on the console, or what it sends cannot be read; the message has the last
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
            if not ended.seen:  # the next command would wait for this one
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
            raise CommandTimeoutError(plain(result), ended.overdue)
        return checked(result) if self._sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Raise: a console has no streams.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"The serial console of {self.name} cannot stream a command: {' '.join(argv)}")

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:  # noqa: ARG002
        """Raise: nothing is reached through a console.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"{address} port {port} cannot be reached through the serial console of {self.name}")

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file in the guest: at most 16 MiB, within ten minutes.

        Raises:
            CommandError: It cannot be read, or takes longer.
            GuestError: No shell answers on the console, or the file is larger.
        """
        return self.run(["cat", "--", path], timeout=_FILE).check().stdout

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file in the guest, whole or not at all: into a new file beside it, which then takes its name.

        Raises:
            CommandError: It cannot be written.
            GuestError: No shell answers on the console.
        """
        self.run(write_command(path, mode), stdin=data, timeout=DEFAULT_TIMEOUT + len(data) / SLOWEST).check()

    def close(self) -> None:
        """Give the shell back and let go of the console; closing twice is harmless."""
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
