"""What one worker has of a host for itself: the whole of it, or a region of it; others that ask for the same wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from VpmemLibrary.errors import BusyError, UnreachableError
from VpmemLibrary.inventory.leases import HOST_KEY, LeaseLostError, Leases, LeasesHeldError, region_key, turn_key
from VpmemLibrary.model import Region

_POLL = 1.0
"""Seconds between two looks whether what another worker has is free: no event tells of it."""

_GRACE = 15.0
"""Seconds after a host answers again in which only those take what they held before it went down."""

_TURN_POLL = 0.2


_TURN_TIMEOUT = 600.0


@contextmanager
def turn(leases: Leases, work: str, alias: str) -> Iterator[None]:
    """Do some work on a host that no two workers may do at once, in the ``with``; wait for whoever does it.

    Args:
        leases: The worker's leases on the host.
        work: The work: letters.
        alias: The host's alias, for the message.

    Raises:
        BusyError: Another one does it all this time.
        ToolMissingError: The host has no bash or no flock.
    """
    key = turn_key(work)
    deadline = time.monotonic() + _TURN_TIMEOUT
    while True:
        try:
            leases.take([[key]])
            break
        except LeasesHeldError as error:
            if time.monotonic() > deadline:
                held = "".join(entry.told for entry in error.entries)
                raise BusyError(f"The turn to {work} on {alias} is {held}, for {_TURN_TIMEOUT:g} s by now.") from None
        time.sleep(_TURN_POLL)
    try:
        yield
    finally:
        leases.release([key])


class Away:
    """Hosts that did not answer while one waits for them: one may have booted under its holder, which had not kept it.

    Once a host answers again, only its last holder takes it for a while, as with a file server that was restarted.
    """

    def __init__(self) -> None:
        self._back_since: dict[str, float | None] = {}

    def went(self, alias: str) -> None:
        """Take note that a host does not answer."""
        self._back_since[alias] = None

    def is_back(self, alias: str) -> bool:
        """Whether a host that answers now may be taken: it never went, or it has been back for long enough."""
        if alias not in self._back_since:
            return True
        since = self._back_since[alias]
        if since is None:
            self._back_since[alias] = time.monotonic()
            return False
        return time.monotonic() - since > _GRACE


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

        A lease is renewed by its record when the holder connects anew; one that was not kept, and whose record had not
        reached the disk, is gone.

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
        waited = False
        away = Away()
        while True:
            try:
                if away.is_back(self._alias):
                    key = self._leases.take([list(keys)], shared=shared)[0].key
                    self._held[key] = (keys[key], shared)
                    return key
                self._leases.entries()  # raises as long as the host does not answer
            except LeasesHeldError as error:
                if time.monotonic() > deadline:
                    held = "; ".join(f"{keys[entry.key]} is {entry.told}" for entry in error.entries)
                    raise BusyError(
                        f"{held or 'Others have ' + ', '.join(keys.values())}. Nothing was given back within "
                        f"{timeout:g} s."
                    ) from error
            except UnreachableError:
                if not waited or time.monotonic() > deadline:
                    raise
                away.went(self._alias)
            waited = True
            time.sleep(_POLL)
