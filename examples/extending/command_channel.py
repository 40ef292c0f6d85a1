"""A channel into a guest through a program on the guest's host."""

from __future__ import annotations

from collections.abc import Sequence

from VpmemLibrary.errors import CommandError, UnreachableError, UnsupportedError
from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    CommandResult,
    Connection,
    Stream,
    Transport,
    shell_line,
    write_command,
)


class CommandChannel:
    """Run commands in a guest through a program on its host. The program takes one shell command line.

    Args:
        guest: The guest's name.
        host: The transport to the guest's host.
        program: The program and its arguments. The command line for the guest is added at the end.

    Example: ``CommandChannel("a", host, ["ssh", "vsock/3"])`` needs no network and no agent in the guest.
    """

    def __init__(self, guest: str, host: Transport, program: Sequence[str]) -> None:
        self._guest = guest
        self._host = host
        self._program = tuple(program)

    @property
    def name(self) -> str:
        """The guest's name in messages and logs."""
        return f"guest {self._guest}"

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command in the guest to its end."""
        return self._host.run([*self._program, shell_line(argv)], timeout=timeout, stdin=stdin)

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command in the guest."""
        return self._host.stream([*self._program, shell_line(argv)])

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Refuse a TCP connection: the program carries commands only."""
        raise UnsupportedError(f"The channel into {self.name} has no TCP connections.")

    def read_file(self, path: str) -> bytes:
        """Return the content of a file in the guest."""
        return self.run(["cat", "--", path]).check().stdout

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file in the guest atomically."""
        self.run(write_command(path, mode), stdin=data).check()

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the guest runs a command within `timeout` seconds."""
        try:
            return self.run(["true"], timeout=timeout).exit_status == 0
        except (UnreachableError, CommandError):
            return False

    def close(self) -> None:
        """Do nothing. The connection belongs to the host."""
