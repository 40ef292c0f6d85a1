"""What one worker has of a host for itself: the whole of it, or a region of it; others that ask for the same wait."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from VpmemLibrary.errors import BusyError
from VpmemLibrary.inventory.leases import HOST_KEY, LeaseLostError, Leases, LeasesHeldError, region_key
from VpmemLibrary.model import Region

_POLL = 1.0
"""Seconds between two looks whether what another worker has is free: no event tells of it."""


class Holds:
    """What one worker has of one host.

    Args:
        leases: The worker's leases on the host.
        alias: The host's alias, for messages.

    Example: ``Holds(leases, "rack1-pmem3").host(timeout=60)``.
    """

    def __init__(self, leases: Leases, alias: str) -> None:
        self._leases = leases
        self._alias = alias
        self._held: dict[str, tuple[str, bool]] = {}

    def host(self, timeout: float, *, shared: bool = False) -> None:
        """Have the whole host; at once where this worker has it.

        Args:
            timeout: Seconds to wait while another one has it.
            shared: Have it together with others that share it; nobody has it alone then.

        Raises:
            BusyError: Another one still has it; the message says who, since when.
            ToolMissingError: The host has no bash or no flock.
        """
        if HOST_KEY not in self._held:
            self._take({HOST_KEY: f"Host {self._alias}"}, timeout, shared=shared)

    def region(self, regions: Sequence[Region], timeout: float) -> Region:
        """Have one region, and the host together with those that have its other regions.

        Args:
            regions: Those that will do, the preferred one first.
            timeout: Seconds to wait while others have all of them, or the host.

        Returns:
            The first that nobody has.

        Raises:
            BusyError: All are still held; the message says who, since when.
            ToolMissingError: The host has no bash or no flock.
        """
        had_host = HOST_KEY in self._held
        self.host(timeout, shared=True)
        keys = {region_key(region): f"Region {region.dev} of {self._alias}" for region in regions}
        try:
            taken = self._take(keys, timeout)
        except BusyError:
            if not had_host:
                del self._held[HOST_KEY]
                self._leases.release([HOST_KEY])
            raise
        return next(region for region in regions if region_key(region) == taken)

    def renew(self, timeout: float) -> None:
        """Have again what was held before the host lost its power.

        A lease is renewed by its record when the holder connects anew; a record that had not reached the disk is gone.

        Args:
            timeout: Seconds to wait while another one has it.

        Raises:
            BusyError: Another one has it.
        """
        for key, (what, shared) in list(self._held.items()):
            try:
                self._leases.require([key])
            except LeaseLostError:
                self._take({key: what}, timeout, shared=shared)

    def release(self) -> None:
        """Give all of it back.

        Raises:
            LeaseLostError: Something was no longer held.
        """
        held, self._held = self._held, {}
        self._leases.release(held)

    def _take(self, keys: Mapping[str, str], timeout: float, *, shared: bool = False) -> str:
        """Take the lease of the first of `keys`, each with what it is for, that is free; return which."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                key = self._leases.take([list(keys)], shared=shared)[0].key
            except LeasesHeldError as error:
                if time.monotonic() > deadline:
                    held = "; ".join(f"{keys[entry.key]} is {entry.told}" for entry in error.entries)
                    raise BusyError(
                        f"{held or 'Others have ' + ', '.join(keys.values())}. Nothing was given back within "
                        f"{timeout:g} s."
                    ) from error
                time.sleep(_POLL)
            else:
                self._held[key] = (keys[key], shared)
                return key
