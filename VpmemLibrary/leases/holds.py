"""Reserve a whole host, or one region of a host, for one worker. Other workers that ask for the same wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from VpmemLibrary.errors import BusyError, UnreachableError
from VpmemLibrary.leases.leases import HOST_KEY, Leases, LeasesHeldError, is_place_key, region_key, turn_key
from VpmemLibrary.pmem.records import Region

_POLL = 1.0
"""Seconds between two attempts to take a lease that another worker holds. The host does not notify this worker."""

GRACE = 15.0
"""Seconds after a host answers again. During this time only the previous holders can take their leases back."""

_TURN_POLL = 0.2


_TURN_TIMEOUT = 600.0


@contextmanager
def turn(leases: Leases, work: str, alias: str) -> Iterator[None]:
    """Lock work that only one worker at a time may do on a host. Wait until no other worker does this work.

    Args:
        leases: The worker's leases on the host.
        work: The name of the work, in letters.
        alias: The host's alias, for the error message.

    Raises:
        BusyError: Another worker held the lock until the timeout.
        LeaseLostError: This worker lost a lease on the host.
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
                held = "; ".join(entry.told for entry in error.entries)
                raise BusyError(f"The turn to {work} on {alias} is {held}, for {_TURN_TIMEOUT:g} s by now.") from None
        time.sleep(_TURN_POLL)
    try:
        yield
    except BaseException:
        # If the lock was lost, the error that is raised reports the loss.
        if key in leases.held:
            leases.release([key])
        raise
    leases.release([key])


class Away:
    """Record which hosts were unreachable while a worker waited for them.

    An unreachable host may have rebooted, and its holder may not have kept its lease. So after the host answers again,
    only the previous holder may take the host for `GRACE` seconds. A file server does the same after a restart.
    """

    def __init__(self) -> None:
        self._back_since: dict[str, float | None] = {}

    def went(self, alias: str) -> None:
        """Record that a host is unreachable."""
        self._back_since[alias] = None

    def is_back(self, alias: str) -> bool:
        """Return whether a worker may take a host that answers now.

        The host must have been reachable all the time, or must have answered for longer than `GRACE` seconds.
        """
        if alias not in self._back_since:
            return True
        since = self._back_since[alias]
        if since is None:
            self._back_since[alias] = time.monotonic()
            return False
        return time.monotonic() - since > GRACE


class Holds:
    """The reservations of one worker on one host.

    Args:
        leases: The worker's leases on the host.
        alias: The host's alias, for error messages.

    Example: ``Holds(leases, "rack1-pmem3").host(timeout=60)``.
    """

    def __init__(self, leases: Leases, alias: str) -> None:
        self._leases = leases
        self._alias = alias

    @property
    def alone(self) -> bool:
        """Whether this worker holds an exclusive lease on the host, as far as the worker knows."""
        return self._leases.held.get(HOST_KEY, True) is False

    def host(self, timeout: float, *, shared: bool = False) -> None:
        """Acquire a lease on the whole host. Return at once if this worker still has the lease.

        Args:
            timeout: Seconds to wait while another worker has the host.
            shared: Share the host with other workers that also share it. Then no worker has the host alone.

        Raises:
            BusyError: Another worker still has the host, or this worker shares the host and asks for an exclusive
                lease. The message names the holders and says since when they have the host.
            LeaseLostError: This worker lost its lease. The next call acquires the lease again.
            ToolMissingError: The host has no bash or no flock.
        """
        if HOST_KEY not in self._leases.held:
            self._take({HOST_KEY: f"Host {self._alias}"}, timeout, shared=shared)
            return
        self._leases.require([HOST_KEY])
        if not shared and not self.alone:
            raise BusyError(
                f"This worker shares host {self._alias} with other workers, because it holds a region of it or asked "
                "to share it. Close the host first, then open and hold it alone."
            )

    def region(self, regions: Sequence[Region], timeout: float) -> Region:
        """Acquire a lease on one region. Share the host with the workers that have its other regions.

        Args:
            regions: The acceptable regions, the preferred region first.
            timeout: Seconds to wait while other workers have all these regions, or the host.

        Returns:
            The first region that no worker has.

        Raises:
            BusyError: Other workers still have all these regions. The message names them and says since when.
            LeaseLostError: This worker lost a lease on the host. The next call acquires the lease again.
            ToolMissingError: The host has no bash or no flock.
        """
        had_host = HOST_KEY in self._leases.held
        self.host(timeout, shared=True)
        keys = {region_key(region): f"Region {region.dev} of {self._alias}" for region in regions}
        try:
            taken = self._take(keys, timeout)
        except BusyError:
            if not had_host:
                self._leases.release([HOST_KEY])
            raise
        return next(region for region in regions if region_key(region) == taken)

    def release(self) -> None:
        """Release the host and the regions.

        Raises:
            LeaseLostError: This worker lost one of these leases.
        """
        self._leases.release([key for key in self._leases.held if is_place_key(key)])

    def _take(self, keys: Mapping[str, str], timeout: float, *, shared: bool = False) -> str:
        """Take the lease of the first free key and return the key. `keys` maps each key to its name in messages."""
        deadline = time.monotonic() + timeout
        waited = False
        away = Away()
        while True:
            try:
                if away.is_back(self._alias):
                    return self._leases.take([list(keys)], shared=shared)[0].key
                # The next call raises while the host does not answer.
                self._leases.entries()
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
