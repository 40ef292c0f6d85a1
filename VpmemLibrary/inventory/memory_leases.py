"""Leases in this process's memory: the same protocol without a host, for planning and for tests of many workers."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from VpmemLibrary.inventory.leases import Entry, Holder, LeaseLostError, LeasesHeldError, Taken, checked_key


@dataclass(slots=True)
class _Record:
    holder: Holder
    tokens: set[str] = field(default_factory=set)
    shared: bool = False
    unfit: str = ""


class LeaseTable:
    """The records of one host, shared by all its holders."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.records: dict[str, _Record] = {}


class MemoryLeases:
    """The leases of one host in memory, as one holder has them.

    Args:
        table: The host's records.
        holder: Who holds them; its token tells it from others.

    Example: ``MemoryLeases(LeaseTable(), Holder("0123abcd", token="1")).take([["ns-1", "ns-2"]])``.
    """

    def __init__(self, table: LeaseTable, holder: Holder) -> None:
        self._table = table
        self._holder = holder

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot; see `Leases.take`."""
        with self._table.lock:
            taken: list[Taken] = []
            chosen: set[str] = set()
            for number, keys in enumerate(slots):
                key = next((each for each in keys if each not in chosen and self._free(checked_key(each), shared)), "")
                if not key:
                    raise LeasesHeldError(number, [self._entry(each) for each in keys if each in self._table.records])
                chosen.add(key)
                record = self._table.records.get(key)
                left = record is not None and not record.tokens
                taken.append(Taken(key, record.holder if record is not None and left else None))
            for each in taken:
                self._hold(each.key, shared)
            return tuple(taken)

    def release(self, keys: Iterable[str]) -> None:
        """Give leases back; see `Leases.release`."""
        with self._table.lock:
            for key in self._held(keys):
                record = self._table.records[key]
                record.tokens.discard(self._holder.token)
                if not record.tokens:
                    del self._table.records[key]

    def give_up(self, key: str, reason: str) -> None:
        """Give one lease back as unfit; see `Leases.give_up`."""
        with self._table.lock:
            self._held([key])
            record = self._table.records[key]
            record.tokens.clear()
            record.unfit = reason

    def mended(self, keys: Iterable[str]) -> None:
        """Remove records that nobody holds; see `Leases.mended`."""
        with self._table.lock:
            for key in keys:
                if key in self._table.records and not self._table.records[key].tokens:
                    del self._table.records[key]

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless leases are still held; see `Leases.require`."""
        with self._table.lock:
            self._held(keys)

    def entries(self) -> tuple[Entry, ...]:
        """Return every record; see `Leases.entries`."""
        with self._table.lock:
            return tuple(map(self._entry, self._table.records))

    def close(self) -> None:
        """End the holder; see `Leases.close`."""
        with self._table.lock:
            for record in self._table.records.values():
                record.tokens.discard(self._holder.token)

    def _free(self, key: str, shared: bool) -> bool:
        record = self._table.records.get(key)
        if record is None:
            return True
        mine = self._holder.token in record.tokens
        return not record.unfit and not mine and (not record.tokens or (shared and record.shared))

    def _hold(self, key: str, shared: bool) -> None:
        record = self._table.records.setdefault(key, _Record(self._holder))
        record.holder = replace(self._holder, since=int(time.time()))
        record.tokens.add(self._holder.token)
        record.shared = shared

    def _held(self, keys: Iterable[str]) -> list[str]:
        wanted = list(keys)
        for key in wanted:
            record = self._table.records.get(key)
            if record is None or self._holder.token not in record.tokens:
                raise LeaseLostError(f"The lease of {key} is not held, or not any more.")
        return wanted

    def _entry(self, key: str) -> Entry:
        record = self._table.records[key]
        return Entry(key, record.holder, bool(record.tokens), record.unfit)
