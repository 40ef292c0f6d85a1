"""Leases in this process's memory. They follow the same protocol without a host, for planning and for tests."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from msgspec.structs import replace

from VpmemLibrary.errors import LeaseLostError
from VpmemLibrary.leases.leases import Entry, Holder, LeasesHeldError, Taken, checked_key
from VpmemLibrary.pmem.guard import LeaseProof


@dataclass(slots=True)
class _Record:
    holder: Holder
    shared: bool
    held: bool = True
    unfit: str = ""


class LeaseTable:
    """The lease records of one host, shared by all its holders. Each key has the records of its holders."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.records: dict[str, list[_Record]] = {}


class MemoryLeases:
    """The leases of one holder on one host, in memory.

    Args:
        table: The host's records.
        holder: The holder of the leases. Its token differs from all other tokens.

    Example: ``MemoryLeases(LeaseTable(), Holder("0123abcd", token="1")).take([["ns-1", "ns-2"]])``.
    """

    def __init__(self, table: LeaseTable, holder: Holder) -> None:
        self._table = table
        self._holder = holder

    @property
    def holder(self) -> Holder:
        """The holder."""
        return self._holder

    @property
    def held(self) -> Mapping[str, bool]:
        """The keys that this holder has; see `Leases.held`."""
        with self._table.lock:
            return {key: record.shared for key in self._table.records if (record := self._own(key))}

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot; see `Leases.take`."""
        with self._table.lock:
            chosen: dict[str, Holder | None] = {}
            for number, keys in enumerate(slots):
                key = next((each for each in keys if each not in chosen and self._free(checked_key(each), shared)), "")
                if not key:
                    raise LeasesHeldError(number, [entry for each in keys for entry in self._entries(each)])
                left = [record.holder for record in self._records(key) if not record.held]
                living = any(record.held for record in self._records(key))
                chosen[key] = left[0] if left and not living else None
            for key in chosen:
                others = [record for record in self._records(key) if record.held or (shared and record.shared)]
                mine = _Record(replace(self._holder, since=int(time.time())), shared)
                self._table.records[key] = [*others, mine]
            return tuple(Taken(key, left_by) for key, left_by in chosen.items())

    def release(self, keys: Iterable[str]) -> None:
        """Release leases; see `Leases.release`."""
        with self._table.lock:
            for key in self._required(keys):
                self._table.records[key] = [each for each in self._records(key) if each is not self._own(key)]
                if not self._table.records[key]:
                    del self._table.records[key]

    def release_as_unfit(self, key: str, reason: str) -> None:
        """Release one lease and mark it as unfit; see `Leases.release_as_unfit`."""
        with self._table.lock:
            self._required([key])
            if record := self._own(key):
                record.held, record.unfit = False, reason

    def remove_stale(self, keys: Iterable[str]) -> None:
        """Remove the records that have no living holder; see `Leases.remove_stale`."""
        with self._table.lock:
            for key in keys:
                if held := [record for record in self._records(key) if record.held]:
                    self._table.records[key] = held
                else:
                    self._table.records.pop(key, None)

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless this holder still holds leases; see `Leases.require`."""
        with self._table.lock:
            self._required(keys)

    def proofs(self) -> tuple[LeaseProof, ...]:
        """Return no proofs, because no host has a record; see `Leases.proofs`."""
        return ()

    def entries(self) -> tuple[Entry, ...]:
        """Return every record; see `Leases.entries`."""
        with self._table.lock:
            return tuple(entry for key in self._table.records for entry in self._entries(key))

    def close(self) -> None:
        """End the holder; see `Leases.close`."""
        with self._table.lock:
            for key in self._table.records:
                if record := self._own(key):
                    record.held = False

    def _records(self, key: str) -> list[_Record]:
        return self._table.records.get(key, [])

    def _own(self, key: str) -> _Record | None:
        return next(
            (each for each in self._records(key) if each.held and each.holder.token == self._holder.token), None
        )

    def _free(self, key: str, shared: bool) -> bool:
        return self._own(key) is None and not any(
            record.unfit or (record.held and not (shared and record.shared)) for record in self._records(key)
        )

    def _required(self, keys: Iterable[str]) -> list[str]:
        wanted = list(keys)
        for key in wanted:
            if self._own(key) is None:
                raise LeaseLostError(f"This worker does not hold {key}.")
        return wanted

    def _entries(self, key: str) -> list[Entry]:
        return [Entry(key, record.holder, record.held, record.unfit) for record in self._records(key)]
