"""Run commands through another program, e.g. ``nsenter`` to leave a container, ``chroot`` or ``unshare``."""

from __future__ import annotations

from collections.abc import Sequence

from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Connection, Stream, Transport, checked_argv


class PrefixedTransport:
    """A transport that puts a program and its arguments before every command of another transport.

    Files and TCP connections use the other transport without the program.

    Args:
        inner: The other transport.
        prefix: The program and its arguments. The program must run the arguments that follow.

    Raises:
        InvalidValueError: The prefix is not a list of arguments.

    Example: ``PrefixedTransport(LocalTransport(), ["nsenter", "-t", "1", "-m", "--"])``.
    """

    def __init__(self, inner: Transport, prefix: Sequence[str]) -> None:
        self._inner = inner
        self._prefix = checked_argv(prefix)

    @property
    def inner(self) -> Transport:
        """The wrapped transport."""
        return self._inner

    @property
    def name(self) -> str:
        """The machine's name in messages and logs."""
        return self._inner.name

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end; see `Transport.run`."""
        return self._inner.run(self._whole(argv), timeout=timeout, stdin=stdin)

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command; see `Transport.stream`."""
        return self._inner.stream(self._whole(argv))

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Open a TCP connection from the machine; see `Transport.connect`."""
        return self._inner.connect(address, port, timeout=timeout)

    def read_file(self, path: str) -> bytes:
        """Return the content of a file; see `Transport.read_file`."""
        return self._inner.read_file(path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file atomically; see `Transport.write_file`."""
        self._inner.write_file(path, data, mode=mode)

    def close(self) -> None:
        """Close the connection. A second call has no effect."""
        self._inner.close()

    def _whole(self, argv: Sequence[str]) -> list[str]:
        return [*self._prefix, *checked_argv(argv)]
