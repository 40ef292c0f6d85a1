"""Both kinds of leases for tests: those of this machine's own kernel, and those in memory."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from memory_leases import LeaseTable, MemoryLeases

from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import Holder, Leases
from VpmemLibrary.transport.local import LocalStream, LocalTransport

KINDS = ("host", "memory")


def leases_of(kind: str, token: str, directory: Path, table: LeaseTable) -> Leases:
    """Return the leases of one more worker of the same host, by its token."""
    holder = Holder.here("0123abcd", token)
    if kind == "host":
        return HostLeases(LocalTransport(), holder, directory=str(directory / "leases"))
    return MemoryLeases(table, holder)


class Watched(LocalTransport):
    """A local transport that knows the processes of its streams.

    Args:
        through: A command that starts every stream's command.
    """

    def __init__(self, *through: str) -> None:
        super().__init__()
        self.through = through
        self.pids: list[int] = []

    def stream(self, argv: Sequence[str]) -> LocalStream:
        """Start a command and remember its process."""
        opened = super().stream((*self.through, *argv))
        assert isinstance(opened, LocalStream)
        self.pids.append(opened._process.pid)
        return opened

    def kill(self) -> None:
        """Kill the last stream's process, and wait for its end: then the kernel has freed what it locked."""
        kill(self.pids[-1])


class Workers:
    """The leases of several workers on this machine, in one directory.

    Args:
        directory: The directory of the records.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._made: list[HostLeases] = []

    def one(
        self, token: str, *, run: str = "0123abcd", directory: Path | None = None, transport: Watched | None = None
    ) -> tuple[HostLeases, Watched]:
        """Return the leases of one more worker, by its token, with the transport that has its processes."""
        way = transport or Watched()
        leases = HostLeases(way, Holder.here(run, token), directory=str(directory or self.directory))
        self._made.append(leases)
        return leases, way

    def close(self) -> None:
        """End all of them."""
        for leases in self._made:
            leases.close()


def kill(process: int) -> None:
    """Kill a process and wait for its end."""
    os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while is_alive(process):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
