"""Leases: who holds what on a host, and the protocol of the leases on a host and of those in memory.

A key says what is held: a namespace by the UUID of its label, a region, a run by its id, or the host as a whole. A
lease ends with its holder, however the holder ended. Its record stays, and shows that the holder did not give the lease
back.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from VpmemLibrary.errors import BusyError, InvalidValueError, OutOfSpaceError, VpmemError
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.pmem.records import Region

_KEY = re.compile(r"[0-9a-z][0-9a-z-]{0,63}", re.ASCII)
_RUN = "run-"
_REGION = "region-"
_TURN = "turn-"
_NAMESPACE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

HOST_KEY = "host"
"""The key of a whole host."""


class LeasesHeldError(VpmemError):
    """Others hold the leases that were asked for, or the leases are unfit. Nothing was taken.

    Args:
        slot: The number of the slot that has no free key.
        entries: Who holds its keys.
    """

    def __init__(self, slot: int, entries: Sequence[Entry]) -> None:
        self.slot = slot
        self.entries = tuple(entries)
        super().__init__("; ".join(f"{entry.key}: {entry.told}" for entry in entries) or "There is nothing to be held.")


class LeaseRecordError(VpmemError):
    """The host could not lock, read or write the records of its leases. No lease was taken or given back."""


class LeaseSpaceError(LeaseRecordError, OutOfSpaceError):
    """The host has no space left to write the record of a lease. No lease was taken or given back."""


class UnknownHolderError(BusyError):
    """A lease is held, and its record cannot be read, so nobody knows which run is alive."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds or held a lease.

    Args:
        run_id: The run; empty if the record cannot be read.
        worker: The worker: its process on the controller.
        controller: The machine that the worker runs on.
        token: A text that only this worker's records contain, so that the worker finds them again.
        since: When it took the lease, in seconds since 1970 by the host's own clock; 0 if unknown.
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


@dataclass(frozen=True, slots=True)
class Entry:
    """One record of a lease. A lease that workers share has a record for each of them.

    Args:
        key: The key of the lease.
        holder: Who holds it, or held it last.
        held: Whether it is held now. The holder of a record that is not held has died.
        unfit: Why nobody may take the lease until that is fixed; empty if it may be taken.
        kept_until: When the lease stops being kept for a holder that reboots the host, in seconds since 1970 by the
            host's own clock; 0 if the lease is not kept.
        path: The file of the record on the host; empty for leases in memory.
    """

    key: str
    holder: Holder
    held: bool
    unfit: str = ""
    kept_until: int = 0
    path: str = ""

    @property
    def told(self) -> str:
        """Who has the lease, since when, and how."""
        if self.unfit:
            return f"unfit since {self.holder} gave it back: {self.unfit}"
        if self.kept_until:
            return f"kept until {_when(self.kept_until)} for a worker that reboots the host: {self.holder}"
        return f"held by {self.holder}" if self.held else f"left by {self.holder}"


@dataclass(frozen=True, slots=True)
class Taken:
    """One lease that was taken.

    Args:
        key: The key of the lease.
        left_by: Who held it last and died. None if the last holder gave it back, or there was none.
    """

    key: str
    left_by: Holder | None = None


class Leases(Protocol):
    """The leases of one host, as one worker has them."""

    @property
    def holder(self) -> Holder:
        """The worker."""

    @property
    def held(self) -> Mapping[str, bool]:
        """The keys that this worker holds as far as it knows, each with whether others may share it."""

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot: the first free one of its keys. Take all of them, or none.

        Args:
            slots: For each slot the keys that will do, the preferred one first.
            shared: Whether other workers may take the same lease, if they share it as well.

        Raises:
            LeasesHeldError: A slot has no free key.
            LeaseLostError: The worker lost its host or its region, and has not taken it again.
        """

    def release(self, keys: Iterable[str]) -> None:
        """Give leases back, and remove their records.

        Raises:
            LeaseLostError: This worker did not hold one of them.
        """

    def give_up(self, key: str, reason: str) -> None:
        """Give one lease back as unfit: nobody can take it until `mended`.

        Raises:
            LeaseLostError: This worker did not hold it.
        """

    def mended(self, keys: Iterable[str]) -> None:
        """Remove the records that dead holders left or that say unfit; those that are held stay."""

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless this worker still holds leases.

        Raises:
            LeaseLostError: It does not hold one of them.
        """

    def proofs(self) -> tuple[LeaseProof, ...]:
        """Return what proves on the host that this worker holds its leases, without asking the host.

        Raises:
            LeaseLostError: The worker lost its host or its region, and has not taken it again.
        """

    def entries(self) -> tuple[Entry, ...]:
        """Return every record of the host."""

    def close(self) -> None:
        """End the holder: its leases are free, and their records show that they were not given back."""


def living_runs(entries: Iterable[Entry]) -> set[str]:
    """Return the ids of the runs that are alive: those that hold their own lease.

    Args:
        entries: Every record of a host.

    Raises:
        UnknownHolderError: A lease is held and its record cannot be read.
    """
    held = [entry for entry in entries if entry.held]
    if unknown := [entry for entry in held if not entry.holder.run_id]:
        paths = " ".join(entry.path or entry.key for entry in unknown)
        raise UnknownHolderError(
            f"A process holds the lease of {', '.join(entry.key for entry in unknown)}, and its record cannot be "
            "read, so nobody knows which run is alive. Nothing is taken from any run meanwhile. Find the process with: "
            f"fuser -v {paths}"
        )
    return {run_of_key(entry.key) for entry in held if run_of_key(entry.key)}


_LATEST = int(datetime(9999, 12, 31, tzinfo=UTC).timestamp())


def seconds_of(text: str) -> int:
    """Return a time in seconds since 1970 that a record has; 0 for text that is no such time."""
    return min(int(text), _LATEST) if re.fullmatch(r"[0-9]{1,12}", text, re.ASCII) else 0


def _when(seconds: int) -> str:
    if not seconds:
        return "an unknown time"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def run_key(run_id: str) -> str:
    """Return the key that a run holds as long as it is alive."""
    return _RUN + run_id


def run_of_key(key: str) -> str:
    """Return the id of the run that a key stands for; empty for another key."""
    return key.removeprefix(_RUN) if key.startswith(_RUN) else ""


def region_key(region: Region) -> str:
    """Return the key of a region.

    The key is the cookie of the region's interleave set if there is one, because the region's number may change with
    the next boot of the host.
    """
    return f"{_REGION}{region.iset_id:x}" if region.iset_id else f"{_REGION}{region.dev}"


def turn_key(work: str) -> str:
    """Return the key of work that only one worker at a time may do on a host."""
    return _TURN + work


def is_place_key(key: str) -> bool:
    """Whether a key stands for a host or a region."""
    return key == HOST_KEY or key.startswith(_REGION)


def is_standing_key(key: str) -> bool:
    """Whether a key stands for something that no run made: a host, a region or a turn."""
    return is_place_key(key) or key.startswith(_TURN)


def is_namespace_key(key: str) -> bool:
    """Whether a key stands for a namespace."""
    return _NAMESPACE.fullmatch(key) is not None


def checked_key(key: str) -> str:
    """Return a key that is safe as the name of a file.

    Raises:
        InvalidValueError: It is not.
    """
    if not _KEY.fullmatch(key):
        raise InvalidValueError("key of a lease", key, "a UUID in lower case, or a name of a-z 0-9 -")
    return key
