"""The common interface of all transports: local, SSH, or a channel into a guest.

A command is a list of arguments. Only this module quotes arguments; callers never do. A command has no terminal (pty),
so a tool prints its output for programs. On a terminal, `ndctl create-namespace` prints human-readable sizes.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

from msgspec import Struct

from VpmemLibrary.errors import CommandError, InvalidValueError, OutputTooLargeError, ToolMissingError
from VpmemLibrary.record import compare_without
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.visible import block

if TYPE_CHECKING:
    import socket

    import paramiko

Connection: TypeAlias = "socket.socket | paramiko.Channel"
"""A TCP connection from a machine. A channel has the same methods as a socket."""

DEFAULT_TIMEOUT = 60.0
"""Default timeout of a command, in seconds."""

OUTPUT_LIMIT = Size(64 * MiB)
"""Maximum size of each output of a command. The transport ends a command that prints more."""

ENVIRONMENT = {"LC_ALL": "C", "SHLVL": "2"}
"""Environment variables of every command. LC_ALL makes messages the same on every host. SHLVL makes bash a nested
shell: the first shell of a network log-in would read .bashrc, which may print text."""

EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""The end of the PATH of every command. A user's PATH often lacks the directories of ndctl and modprobe."""

READS_ONLY = "# reads only\n"
"""The first line of a script that changes nothing and leaves nothing running. Such a script may run a second time, and
needs no session of its own."""

SLOWEST = 250
"""The lowest speed of a transport, in bytes a second: that of a serial console. A guest with an emulated processor
reaches about a thousand."""

_COMMAND_NOT_FOUND = 127
_SHOWN_OUTPUT = 4000
_LONGEST_CHARACTER = 4  # bytes, in UTF-8


@compare_without("stdin_bytes")
class CommandResult(Struct, frozen=True):
    """The result of a command.

    Args:
        argv: The command, one item for each argument.
        exit_status: The exit status; ``-N`` if signal N ended the command.
        stdout: Standard output, as bytes.
        stderr: Standard error, as bytes.
        seconds: The duration, measured by this process.
        host: The name of the machine on which the command ran.
        stdin_bytes: The size of the command's standard input.
    """

    argv: tuple[str, ...]
    exit_status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    host: str = ""
    stdin_bytes: int = 0

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The lines of standard output, split only at line feeds.

        `str.splitlines` also splits at other characters, which a name may contain. A script that prints names or paths
        must print each name on one line, or a NUL after each name.
        """
        return self.text.removesuffix("\n").split("\n") if self.stdout else []

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")

    @property
    def command(self) -> str:
        """The command, quoted so that it can be pasted into a shell."""
        return shell_line(self.argv)

    def check(self, meaning: str = "") -> Self:
        """Return this result, or raise if the command failed.

        Args:
            meaning: What the failure means and how to fix its cause. The message ends with this text.

        Raises:
            ToolMissingError: The program is not installed (exit status 127).
            CommandError: The exit status is neither 0 nor 127.
        """
        if self.exit_status == _COMMAND_NOT_FOUND:
            raise ToolMissingError(self, meaning or f"{self.argv[0]} is not installed there, or not on its PATH")
        if self.exit_status != 0:
            raise CommandError(self, meaning)
        return self

    def expect(self, exit_status: int | None) -> Self:
        """Return this result, or raise if the command has another exit status.

        Args:
            exit_status: The expected exit status; None accepts any.

        Raises:
            ToolMissingError: 0 is expected and the program is not installed.
            CommandError: The command has another exit status.
        """
        if exit_status == 0:
            return self.check()
        if exit_status is not None and self.exit_status != exit_status:
            raise CommandError(self, f"The exit status should be {exit_status}")
        return self

    def describe(self, meaning: str = "") -> str:
        """Return the command, exit status, stderr and time as the lines of an error message.

        Indent the second and later lines of the command and of its output, so that they do not look like lines of the
        message.
        """
        place = f" on {self.host}" if self.host else ""
        lines = [meaning.rstrip(".") + "." if meaning else "The command failed."]
        lines.append(f"command{place}: {block(self.command)}")
        lines.append(f"exit status: {self.exit_status} after {self.seconds:.2f} s")
        lines.append(f"stderr: {block(_clip(self.stderr)) or '(nothing)'}")
        if self.stdout:
            lines.append(f"stdout: {block(_clip(self.stdout))}")
        return "\n".join(lines)


class Stream(Protocol):
    """A two-way byte stream to a command that runs on the machine."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as some arrive, or ``b""`` at the end."""

    def close(self) -> None:
        """Close the command's standard input and stop using the command."""


@runtime_checkable
class Transport(Protocol):
    """A way to run commands on one machine."""

    @property
    def name(self) -> str:
        """The machine's name in messages and logs."""

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end and return the result, also if the exit status is not 0.

        Args:
            argv: The command, one item for each argument.
            timeout: Seconds to wait for the command to end. Then the transport ends the command.
            stdin: The bytes for the command's standard input.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: The command did not end in time. The transport ended the command and all its processes,
                or the message says that they may still run. The result in the error has the output so far.
            OutputTooLargeError: The command printed more than `OUTPUT_LIMIT`. The transport ended it as at a timeout.
            UnreachableError: The machine cannot be reached, or the connection broke while the command ran.
            LoginShellError: The user's login shell on the machine runs no commands.
            AccessDeniedError: The machine refused the credentials, or its sudo or doas did not run the command as root.
            ControllerError: This machine has no process, thread or descriptor left for the command.
        """

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command and return its standard input and output as one stream.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            UnsupportedError: The machine has no streams.
            UnreachableError, LoginShellError, ControllerError: See `run`.
        """

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Open a TCP connection from the machine, to an address that this process may not be able to reach.

        Args:
            address: A name or IP address as the machine knows it, e.g. ``fe80::1%br0``.
            port: The port.
            timeout: Seconds to wait for the connection.

        Raises:
            UnreachableError: The address did not answer, or the machine cannot be reached.
            UnsupportedError: The machine does not forward connections.
        """

    def read_file(self, path: str) -> bytes:
        """Return the content of a file on the machine, at most `OUTPUT_LIMIT` bytes.

        Raises:
            CommandError: The file cannot be read.
            OutputTooLargeError: The file is larger than `OUTPUT_LIMIT`.
        """

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file on the machine atomically: write a new file next to it, then rename the new file.

        Raises:
            CommandError: The file cannot be written.
        """

    def close(self) -> None:
        """Close the connection. A second call has no effect."""


class CommandTransport:
    """A transport that reads and writes files by commands. Use it in a ``with`` statement to close it at the end."""

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end; see `Transport.run`."""
        raise NotImplementedError

    def read_file(self, path: str) -> bytes:
        """Return the content of a file; see `Transport.read_file`."""
        try:
            return self.run(["cat", "--", path]).check().stdout
        except OutputTooLargeError as error:
            raise OutputTooLargeError(
                error.result, f"{path} is larger than {OUTPUT_LIMIT}, so it cannot be read. {error.meaning}"
            ) from error

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file atomically; see `Transport.write_file`."""
        self.run(write_command(path, mode), stdin=data).check()

    def close(self) -> None:
        """Close the connection. A second call has no effect."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def checked_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """Return `argv` as a tuple. Raise if an argument cannot be passed to a program unchanged.

    Raises:
        InvalidValueError: `argv` is empty or a single string, or an argument has a NUL byte or is not text.
    """
    if isinstance(argv, str) or not argv:
        raise InvalidValueError("command", argv, "a list with one item for each argument, e.g. ['ndctl', 'list']")
    for argument in argv:
        if not isinstance(argument, str):
            raise InvalidValueError("command argument", argument, "text")
        if "\0" in argument:
            raise InvalidValueError("command argument", argument, "text without a NUL byte")
        try:
            argument.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError as error:
            raise InvalidValueError("command argument", argument, "text that UTF-8 can encode") from error
    return tuple(argv)


def write_command(path: str, mode: int) -> tuple[str, ...]:
    """Return the command that writes its standard input to a file atomically."""
    return ("sh", "-c", _WRITE, "sh", path, f"{mode:o}")


# The new file has a random name, and the command writes only to the open descriptor. The owner of the directory could
# replace the name by a link to another place at any moment.
_WRITE = """
set -e
[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 1; }
[ -f "$1" ] || [ ! -e "$1" ] || { echo "$1 is no regular file" >&2; exit 1; }
umask 077
new=$(mktemp -u -- "$1.XXXXXX")
set -C
exec 3>"$new"
trap 'rm -f -- "$new"' EXIT
cat >&3
chmod "$2" /proc/self/fd/3
sync /proc/self/fd/3 2>/dev/null || sync
mv -f -T -- "$new" "$1"
trap - EXIT
"""


def query(script: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a read-only shell script; see `READS_ONLY`.

    Args:
        script: The script, for any POSIX shell.
        arguments: The script's arguments, ``$1`` and so on.
    """
    return ("sh", "-c", READS_ONLY + script, "sh", *arguments)


def shell_line(argv: Sequence[str]) -> str:
    """Return `argv` quoted for a POSIX shell. This is the only place where arguments are quoted."""
    return shlex.join(argv)


def checked_name(what: str, value: str, *, longest: int = 63) -> str:
    """Return a name that is safe as a label, a file name and an argument, or raise.

    The rule is narrower than the rules of ndctl and libvirt. A name starts with a letter or digit, so that it does not
    look like an option or a hidden file. ndctl keeps 63 bytes of a namespace's name (NSLABEL_NAME_LEN 64 with its NUL,
    kernel ``drivers/nvdimm/label.h``).

    Raises:
        InvalidValueError: The name breaks this rule.
    """
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.+:-]{{0,{longest - 1}}}", value, flags=re.ASCII):
        raise InvalidValueError(
            what, value, f"1 to {longest} of A-Z a-z 0-9 _ . + : -, a letter or digit first, e.g. 'ns_0'"
        )
    return value


def _clip(output: bytes) -> str:
    text = output[: _LONGEST_CHARACTER * _SHOWN_OUTPUT].decode("utf-8", "replace").strip()
    return text if len(text) <= _SHOWN_OUTPUT else f"{text[:_SHOWN_OUTPUT]} ... ({len(output)} bytes)"
