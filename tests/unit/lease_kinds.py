"""Both kinds of leases for tests: this machine's own kernel's, and those in memory."""

from __future__ import annotations

from pathlib import Path

from VpmemLibrary.host.local import LocalTransport
from VpmemLibrary.inventory.host_leases import HostLeases
from VpmemLibrary.inventory.leases import Holder, Leases
from VpmemLibrary.inventory.memory_leases import LeaseTable, MemoryLeases

KINDS = ("host", "memory")


def leases_of(kind: str, token: str, directory: Path, table: LeaseTable) -> Leases:
    """Return the leases of one more worker of the same host, by its token."""
    holder = Holder.here("0123abcd", token)
    if kind == "host":
        return HostLeases(LocalTransport(), holder, directory=str(directory / "leases"))
    return MemoryLeases(table, holder)
