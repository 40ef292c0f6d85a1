"""Leases: who holds what on a host, and the one protocol of those that are kept on a host and those in memory.

A key is what is held: a namespace by the UUID of its label, a region, a run by its id, or the host as a whole. A lease
goes with its holder, whatever became of it; what remains is its record, which says that the holder did not give the
thing back as it should be.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from VpmemLibrary.errors import InvalidValueError, LeaseLostError, VpmemError
from VpmemLibrary.model import Region

__all__ = ["Entry", "Holder", "LeaseLostError", "Leases", "LeasesHeldError", "Taken"]

_KEY = re.compile(r"[0-9a-z][0-9a-z-]{0,63}", re.ASCII)
_RUN = "run-"
_REGION = "region-"
_TURN = "turn-"
_NAMESPACE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)

HOST_KEY = "host"
"""What is held by whoever has a host for itself."""


class LeasesHeldError(VpmemError):
    """What was to be held is held by others, or is unfit; nothing was taken.

    Args:
        slot: Which of the wishes could not be met.
        entries: Who holds what was asked for.
    """

    def __init__(self, slot: int, entries: Sequence[Entry]) -> None:
        self.slot = slot
        self.entries = tuple(entries)
        super().__init__("; ".join(f"{entry.key}: {entry.told}" for entry in entries) or "There is nothing to be held.")


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds or held a lease.

    Args:
        run_id: The run.
        worker: The worker: its process on the controller.
        controller: The machine that the worker runs on.
        token: What no other holder has, so that the same worker finds its own records again.
        since: When it took the lease, in seconds since 1970 by the host's own clock.
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
    """One record of a lease.

    Args:
        key: What it is for.
        holder: Who holds it, or held it last.
        held: Whether it is held now. A record that is not held was left by a holder that died.
        unfit: Why it must not be held again until that is mended; empty when it may.
        kept_until: Until when it is kept for a holder that reboots the host, in seconds since 1970 by the host's own
            clock; 0 where it is held by a lock.
    """

    key: str
    holder: Holder
    held: bool
    unfit: str = ""
    kept_until: int = 0

    @property
    def told(self) -> str:
        """Who holds it since when, in words."""
        if self.unfit:
            return f"unfit since {self.holder} gave it back: {self.unfit}"
        if self.kept_until:
            return f"kept until {_when(self.kept_until)} for who has the host rebooted, {self.holder}"
        return f"held by {self.holder}" if self.held else f"left by {self.holder}"


@dataclass(frozen=True, slots=True)
class Taken:
    """One lease that was taken.

    Args:
        key: What it is for.
        left_by: Who held it last and died; None when the last one gave it back, or there was none.
    """

    key: str
    left_by: Holder | None = None


class Leases(Protocol):
    """The leases of one host, as one holder has them."""

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot: of its keys the first that is free. All are taken, or none.

        Args:
            slots: For each wish the keys that meet it, the preferred one first.
            shared: Let other holders that ask for the same have it as well; nobody else can have it then.

        Raises:
            LeasesHeldError: A slot has no free key.
        """

    def release(self, keys: Iterable[str]) -> None:
        """Give leases back; their records go as well.

        Raises:
            LeaseLostError: One was no longer held.
        """

    def give_up(self, key: str, reason: str) -> None:
        """Give one lease back as unfit: it cannot be taken until `mended`.

        Raises:
            LeaseLostError: It was no longer held.
        """

    def mended(self, keys: Iterable[str]) -> None:
        """Remove records that were left, or say unfit; those that are held stay."""

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless leases are still held.

        Raises:
            LeaseLostError: One is not.
        """

    def entries(self) -> tuple[Entry, ...]:
        """Return every record of the host, whoever made it."""

    def close(self) -> None:
        """End the holder: leases that it has go, and their records say that they were not given back."""


def _when(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def run_key(run_id: str) -> str:
    """Return what a run holds as long as it lives."""
    return _RUN + run_id


def run_of_key(key: str) -> str:
    """Return the id of the run that a key stands for; empty for another key."""
    return key.removeprefix(_RUN) if key.startswith(_RUN) else ""


def region_key(region: Region) -> str:
    """Return what is held by whoever has a region for itself.

    It is the cookie of the region's interleave set where there is one: a region's number may be another one after the
    host has booted again.
    """
    return f"{_REGION}{region.iset_id:x}" if region.iset_id else f"{_REGION}{region.dev}"


def turn_key(work: str) -> str:
    """Return what is held by the one worker that does some work on a host that two must not do at once."""
    return _TURN + work


def is_standing_key(key: str) -> bool:
    """Whether a key stands for what is there whoever holds it, as a host, a region or a turn."""
    return key == HOST_KEY or key.startswith((_REGION, _TURN))


def is_namespace_key(key: str) -> bool:
    """Whether a key stands for a namespace."""
    return _NAMESPACE.fullmatch(key) is not None


def checked_key(key: str) -> str:
    """Return a key that is safe as a file's name.

    Raises:
        InvalidValueError: It is not.
    """
    if not _KEY.fullmatch(key):
        raise InvalidValueError("key of a lease", key, "a UUID in lower case, or a name of a-z 0-9 -")
    return key
