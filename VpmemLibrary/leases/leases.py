"""Leases: their records, their keys, and what a worker can do with them.

The key of a lease names a namespace (by the UUID of its label), a region, a run (by its id), a host lock, or the whole
host. A lease ends when its holder ends, for any reason. The record of the lease remains and shows that the holder did
not release the lease.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Protocol

from msgspec import Struct

from VpmemLibrary.errors import BusyError, InvalidValueError, OutOfSpaceError, VpmemError
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.pmem.records import Region

_KEY = r"(?a)[0-9a-z][0-9a-z-]{0,63}"
_RUN = "run-"
_REGION = "region-"
_HOST_LOCK = "lock-"
_NAMESPACE = r"(?a)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"

HOST_KEY = "host"
"""The key of a whole host."""


class LeasesHeldError(VpmemError):
    """Other workers hold the requested leases, or the leases are unfit. Nothing was taken.

    Args:
        slot: The index of the slot that has no free key.
        entries: The lease records of the keys in this slot.
    """

    def __init__(self, slot: int, entries: Sequence[Entry]) -> None:
        self.slot = slot
        self.entries = tuple(entries)
        held = "; ".join(f"{entry.key} is {entry.description}" for entry in entries)
        super().__init__(held or "No lease was requested")


class LeaseRecordError(VpmemError):
    """The host could not lock, read or write the records of its leases. No lease was taken or released."""


class LeaseSpaceError(LeaseRecordError, OutOfSpaceError):
    """The host has no space left to write the record of a lease. No lease was taken or released."""


class UnknownHolderError(BusyError):
    """A lease is held but its record is unreadable, so the living runs are unknown."""


class Holder(Struct, frozen=True):
    """The worker that holds or held a lease.

    Args:
        run_id: The id of the run. It is empty if the record is unreadable.
        worker: The name of the worker: its process on the controller.
        controller: The machine that the worker runs on.
        token: A text that only the records of this worker contain.
        since: The time when the worker took the lease, in seconds since 1970 by the host's clock; 0 if unknown.
    """

    run_id: str
    worker: str = ""
    controller: str = ""
    token: str = ""
    since: int = 0

    @classmethod
    def here(cls, run_id: str, token: str) -> Holder:
        """Return this process as a holder."""
        return cls(run_id, f"process {os.getpid()}", socket.gethostname(), token)

    def __str__(self) -> str:
        return (
            f"run {self.run_id or '(unknown)'}, {self.worker or 'a worker'} on {self.controller or '?'}, "
            f"since {_when(self.since)}"
        )


class Entry(Struct, frozen=True):
    """One record of a lease. A shared lease has one record for each worker.

    Args:
        key: The key of the lease.
        holder: The worker that holds the lease, or held it last.
        held: Whether the lease is held now. If not, the holder has died, or released the lease as unfit.
        unfit: Why nobody may take the lease until `Leases.remove_stale` is called. Empty if the lease is usable.
        kept_until: Until when the lease is kept for a holder that reboots the host, in seconds since 1970 by the
            host's clock. 0 if the lease is not kept.
        path: The file of the record on the host.
    """

    key: str
    holder: Holder
    held: bool
    unfit: str = ""
    kept_until: int = 0
    path: str = ""

    @property
    def description(self) -> str:
        """The state of the lease, its holder, and the time when the holder took the lease."""
        if self.unfit:
            return f"unfit since {self.holder} released it: {self.unfit}"
        if self.kept_until:
            return f"kept until {_when(self.kept_until)} for a worker that reboots the host: {self.holder}"
        return f"held by {self.holder}" if self.held else f"left by {self.holder}"


class Taken(Struct, frozen=True):
    """One lease that was taken.

    Args:
        key: The key of the lease.
        left_by: The last holder, if it died. None if the last holder released the lease, or there was no holder.
    """

    key: str
    left_by: Holder | None = None


class Leases(Protocol):
    """The leases of one worker on one host."""

    @property
    def holder(self) -> Holder:
        """The worker that holds the leases."""

    @property
    def held(self) -> Mapping[str, bool]:
        """For each key that this worker holds, as far as it knows: whether other workers may share the lease."""

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot: the lease of the first free key of the slot. Take all leases, or none.

        Args:
            slots: For each slot the acceptable keys, the preferred key first.
            shared: Whether other workers may take the same leases, if they share the leases too.

        Raises:
            LeasesHeldError: A slot has no free key.
            LeaseLostError: The worker lost its host or its region, and has not taken it again.
        """

    def release(self, keys: Iterable[str]) -> None:
        """Release leases, and remove their records.

        Raises:
            LeaseLostError: This worker did not hold one of the leases.
        """

    def release_as_unfit(self, key: str, reason: str) -> None:
        """Release one lease and mark it as unfit. Nobody can take the lease until `remove_stale` is called.

        Raises:
            LeaseLostError: This worker did not hold the lease.
        """

    def remove_stale(self, keys: Iterable[str]) -> None:
        """Remove the records that dead holders left and the records that are unfit. Keep the records of held leases."""

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless this worker still holds leases.

        Raises:
            LeaseLostError: This worker does not hold one of the leases.
        """

    def proofs(self) -> tuple[LeaseProof, ...]:
        """Return the proofs of this worker's leases, for the guard on the host. Do not contact the host.

        Raises:
            LeaseLostError: The worker lost its host or its region, and has not taken it again.
        """

    def entries(self) -> tuple[Entry, ...]:
        """Return every lease record of the host."""

    def close(self) -> None:
        """End the holder. Its leases become free. Their records show that the holder did not release them."""


def living_runs(entries: Iterable[Entry]) -> set[str]:
    """Return the ids of the runs that are alive. A run is alive while it holds its own lease.

    Args:
        entries: Every lease record of a host.

    Raises:
        UnknownHolderError: A lease is held but its record is unreadable.
    """
    held = [entry for entry in entries if entry.held]
    if unknown := [entry for entry in held if not entry.holder.run_id]:
        paths = " ".join(entry.path or entry.key for entry in unknown)
        raise UnknownHolderError(
            f"A process holds the lease of {', '.join(entry.key for entry in unknown)}, and its record is "
            "unreadable. So the living runs are unknown, and no leftovers are removed. Find the process with: "
            f"fuser -v {paths}"
        )
    return {run_of_key(entry.key) for entry in held if run_of_key(entry.key)}


_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def seconds_of(text: str) -> int:
    """Parse the seconds since 1970 in a record. Return 0 if the text is not such a time."""
    return min(int(text), _LATEST) if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else 0


def _when(seconds: int) -> str:
    if not seconds:
        return "an unknown time"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def run_key(run_id: str) -> str:
    """Return the key that a run holds while it is alive."""
    return _RUN + run_id


def run_of_key(key: str) -> str:
    """Return the run id of a run's key. Return an empty text for any other key."""
    return key.removeprefix(_RUN) if key.startswith(_RUN) else ""


def region_key(region: Region) -> str:
    """Return the key of a region.

    The key contains the cookie of the region's interleave set, if the region has an interleave set. The region's number
    is not stable: it may change with the next boot of the host.
    """
    return f"{_REGION}{region.iset_id:x}" if region.iset_id else f"{_REGION}{region.dev}"


def host_lock_key(work: str) -> str:
    """Return the key of the host lock for `work`."""
    return _HOST_LOCK + work


def is_host_or_region_key(key: str) -> bool:
    """Return whether a key is the key of a host or a region."""
    return key == HOST_KEY or key.startswith(_REGION)


def is_permanent_key(key: str) -> bool:
    """Return whether a key is the key of a host, a region or a host lock, which no run makes."""
    return is_host_or_region_key(key) or key.startswith(_HOST_LOCK)


def is_namespace_key(key: str) -> bool:
    """Return whether a key is the key of a namespace."""
    return re.fullmatch(_NAMESPACE, key) is not None


def checked_key(key: str) -> str:
    """Return a key unchanged.

    Raises:
        InvalidValueError: The key is not safe as a file name.
    """
    if not re.fullmatch(_KEY, key):
        raise InvalidValueError("key of a lease", key, "a UUID in lower case, or a name of a-z 0-9 -")
    return key
