"""The one face of every way to a machine: local, SSH, or the agent inside a guest.

A command is a list of arguments; it is quoted once, here, and never by a caller. There is no pty, so a tool always
prints what it prints to a program (`ndctl create-namespace` prints human sizes to a terminal).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias, runtime_checkable

from VpmemLibrary.errors import CommandError, InvalidValueError, OutputTooLargeError, ToolMissingError
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.visible import block

if TYPE_CHECKING:
    import socket

    import paramiko

Connection: TypeAlias = "socket.socket | paramiko.Channel"
"""A TCP connection that was made from a machine; a channel has the face of a socket."""

DEFAULT_TIMEOUT = 60.0
"""Seconds that a command may take when its caller says nothing."""

OUTPUT_LIMIT = Size(64 * MiB)
"""How many bytes of a command's standard output are kept, and of its standard error; beyond it the command is ended."""

ENVIRONMENT = {"LC_ALL": "C", "SHLVL": "2"}
"""What every command finds in its environment: texts are the same everywhere, and bash, where it is a command, does not
take itself for the first shell of a log-in over a network: it would read .bashrc, which may print."""

EXTRA_PATH = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin"
"""Appended to the PATH of every command: ndctl and modprobe live there, and a user's PATH often lacks some of it."""

READS_ONLY = "# reads only\n"
"""How a script begins that changes nothing and leaves nothing running: its command may be run once more, and costs no
session of its own."""

_COMMAND_NOT_FOUND = 127
_SHOWN_OUTPUT = 4000
_LONGEST_CHARACTER = 4  # bytes, in UTF-8


@dataclass(frozen=True, slots=True)
class CommandResult:
    """What a command left.

    Args:
        argv: The command, one item an argument.
        exit_status: The exit status; ``-N`` when signal N ended it.
        stdout: What it printed, as bytes.
        stderr: What it complained of, as bytes.
        seconds: How long it took, measured here.
        host: The name of the machine it ran on.
    """

    argv: tuple[str, ...]
    exit_status: int
    stdout: bytes
    stderr: bytes
    seconds: float
    host: str = ""
    stdin_bytes: int = field(default=0, compare=False)

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def lines(self) -> list[str]:
        """The lines of standard output. Only a line feed ends one: a name may hold what else `str.splitlines` cuts at.

        A script that prints names, paths or other text from outside puts each in one line, or prints NUL after it.
        """
        return self.text.removesuffix("\n").split("\n") if self.stdout else []

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode("utf-8", "replace")

    @property
    def command(self) -> str:
        """The command in a form that can be pasted into a shell."""
        return shell_line(self.argv)

    def check(self, meaning: str = "") -> Self:
        """Return this result, or raise if the command failed.

        Args:
            meaning: What a failure means and how to fix its cause, added to the message.

        Raises:
            ToolMissingError: The program is not installed (exit status 127).
            CommandError: Any other exit status but 0.
        """
        if self.exit_status == _COMMAND_NOT_FOUND:
            raise ToolMissingError(self, meaning or f"{self.argv[0]} is not installed there, or not on its PATH")
        if self.exit_status != 0:
            raise CommandError(self, meaning)
        return self

    def expect(self, exit_status: int | None) -> Self:
        """Return this result, or raise unless it has an exit status.

        Args:
            exit_status: The status that it must have; None for any.

        Raises:
            ToolMissingError: 0 is expected and the program is not installed.
            CommandError: It has another status.
        """
        if exit_status == 0:
            return self.check()
        if exit_status is not None and self.exit_status != exit_status:
            raise CommandError(self, f"The exit status should be {exit_status}")
        return self

    def describe(self, meaning: str = "") -> str:
        """Return command, exit status, stderr and time as the lines of an error message.

        Further lines of the command and of its output are indented, so that none is taken for one of these lines.
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
    """Two-way bytes to a command that is running on the machine."""

    def send(self, data: bytes) -> None:
        """Send all of `data`."""

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; ``b""`` at the end."""

    def close(self) -> None:
        """End the command's standard input and forget it."""


@runtime_checkable
class Transport(Protocol):
    """A way to run commands on one machine."""

    @property
    def name(self) -> str:
        """The machine's name in messages and logs."""

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
            timeout: Seconds after which the command is ended.
            stdin: What the command reads.

        Raises:
            CommandTimeoutError: The command did not end in time. It was ended, or the message says that this was not
                seen.
            OutputTooLargeError: The command printed more than `OUTPUT_LIMIT`. It was ended, as above.
            UnreachableError: The connection is gone.
            ControllerError: This machine has no process, thread or descriptor left for the command.
        """

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command and return its standard input and output as one stream."""

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Open a TCP connection from the machine: to what it reaches and this process may not.

        Args:
            address: A name or IP address as the machine knows it, e.g. ``fe80::1%br0``.
            port: The port.
            timeout: Seconds that it may take.

        Raises:
            UnreachableError: Nothing answers there, or the machine cannot be reached.
            UnsupportedError: The machine makes no connections for others.
        """

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file on the machine, `OUTPUT_LIMIT` at most."""

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file on the machine, whole or not at all."""

    def close(self) -> None:
        """End the connection; ending it twice is harmless."""


def checked_argv(argv: Sequence[str]) -> tuple[str, ...]:
    """Return `argv` as a tuple, or raise if no program could get it as it is.

    Raises:
        InvalidValueError: It is empty, is one string, or an argument holds a NUL byte or is not text.
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


def read_through(run: Callable[[Sequence[str]], CommandResult], path: str) -> bytes:
    """Return the bytes of a file.

    Args:
        run: What runs a command where the file is.
        path: The file.

    Raises:
        CommandError: The file cannot be read.
        OutputTooLargeError: The file is larger than `OUTPUT_LIMIT`.
    """
    try:
        return run(["cat", "--", path]).check().stdout
    except OutputTooLargeError as error:
        raise OutputTooLargeError(
            error.result, f"{path} is larger than {OUTPUT_LIMIT}, the most that is read. {error.meaning}"
        ) from error


def write_command(path: str, mode: int) -> tuple[str, ...]:
    """Return the command that writes its standard input to a file, whole or not at all."""
    return ("sh", "-c", _WRITE, "sh", path, f"{mode:o}")


# The new file is created under a name that nobody knew before, and is written by its descriptor only: in a directory of
# another user its name may be a link to elsewhere a moment later.
_WRITE = """
set -e
[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 1; }
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
    """Return the command that runs a shell script which only reads; see `READS_ONLY`.

    Args:
        script: The script, for any POSIX shell.
        arguments: Its arguments, ``$1`` and so on.
    """
    return ("sh", "-c", READS_ONLY + script, "sh", *arguments)


def shell_line(argv: Sequence[str]) -> str:
    """Return `argv` quoted for a POSIX shell: the only place where anything is quoted."""
    return shlex.join(argv)


def checked_name(what: str, value: str, *, longest: int = 63) -> str:
    """Return a name that is safe as a label, a file name and an argument.

    The rule is narrower than ndctl's or libvirt's own: a letter or digit first, so that no name looks like an option
    or a hidden file. ndctl keeps 63 bytes of a namespace's name (NSLABEL_NAME_LEN 64 with its NUL, kernel
    ``drivers/nvdimm/label.h``).

    Raises:
        InvalidValueError: It is anything else.
    """
    if not re.fullmatch(rf"[A-Za-z0-9][A-Za-z0-9_.+:-]{{0,{longest - 1}}}", value, flags=re.ASCII):
        raise InvalidValueError(
            what, value, f"1 to {longest} of A-Z a-z 0-9 _ . + : -, a letter or digit first, e.g. 'ns_0'"
        )
    return value


def _clip(output: bytes) -> str:
    text = output[: _LONGEST_CHARACTER * _SHOWN_OUTPUT].decode("utf-8", "replace").strip()
    return text if len(text) <= _SHOWN_OUTPUT else f"{text[:_SHOWN_OUTPUT]} ... ({len(output)} bytes)"
