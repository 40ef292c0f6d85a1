"""Reserve a whole host, or one region of a host, for one worker. Other workers that ask for the same wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.leases.leases import (
    HOST_KEY,
    Leases,
    LeasesHeldError,
    host_lock_key,
    is_host_or_region_key,
    region_key,
)
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.polling import attempts, poll

POLL = 1.0
"""Seconds between two attempts to reserve what another worker has. The host does not notify this worker."""

_GRACE = 15.0
"""Seconds after a host answers again. During this time only the previous holders can take their leases back."""

_LOCK_POLL = 0.2
_LOCK_TIMEOUT = 600.0


@contextmanager
def host_lock(leases: Leases, work: str, alias: str) -> Iterator[None]:
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
    key = host_lock_key(work)
    poll(
        lambda: leases.take([[key]]),
        f"the host lock for {work} on {alias}",
        timeout=_LOCK_TIMEOUT,
        interval=_LOCK_POLL,
        retry_on=LeasesHeldError,
        failure=lambda error: BusyError(f"No host lock for {work} on {alias} within {_LOCK_TIMEOUT:g} s: {error}."),
    )
    try:
        yield
    except BaseException:
        # If the lock was lost, the error that is raised reports the loss.
        if key in leases.held:
            leases.release([key])
        raise
    leases.release([key])


class UnreachableHosts:
    """Record which hosts were unreachable while a worker waited for them.

    An unreachable host may have rebooted, and its holder may not have kept its lease. So after the host answers again,
    only the previous holder may take the host for 15 seconds. A file server does the same after a restart.
    """

    def __init__(self) -> None:
        self._back_since: dict[str, float | None] = {}

    def add(self, alias: str) -> None:
        """Record that a host is unreachable."""
        self._back_since[alias] = None

    def require_back(self, alias: str, leases: Leases) -> None:
        """Raise unless a worker may take a host: it was reachable all the time, or answers for long enough again.

        Args:
            alias: The host's alias.
            leases: The worker's leases on the host.

        Raises:
            BusyError: The host answers again, but not for long enough yet.
            UnreachableError: The host still does not answer.
        """
        if alias not in self._back_since:
            return
        leases.entries()
        now = time.monotonic()
        since = self._back_since[alias]
        if since is None:
            since = self._back_since[alias] = now
        if now - since <= _GRACE:
            raise BusyError(
                f"Host {alias} was unreachable until now. Its previous holder may take it back for {_GRACE:g} s."
            )


class Reservations:
    """The reservations of one worker on one host.

    Args:
        leases: The worker's leases on the host.
        alias: The host's alias, for error messages.

    Example: ``Reservations(leases, "rack1-pmem3").reserve_host(timeout=60)``.
    """

    def __init__(self, leases: Leases, alias: str) -> None:
        self._leases = leases
        self._alias = alias

    @property
    def has_host_alone(self) -> bool:
        """Whether this worker holds an exclusive lease on the host, as far as the worker knows."""
        return self._leases.held.get(HOST_KEY, True) is False

    def reserve_host(self, timeout: float, *, shared: bool = False) -> None:
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
            self._reserve({HOST_KEY: f"Host {self._alias}"}, timeout, shared=shared)
            return
        self._leases.require([HOST_KEY])
        if not shared and not self.has_host_alone:
            raise BusyError(
                f"This worker shares host {self._alias} with other workers, because it reserved a region of it or "
                "asked to share it. Close the host first. Then open it again and reserve it alone."
            )

    def reserve_region(self, regions: Sequence[Region], timeout: float) -> Region:
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
        self.reserve_host(timeout, shared=True)
        keys = {region_key(region): f"Region {region.dev} of {self._alias}" for region in regions}
        try:
            taken = self._reserve(keys, timeout)
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
        self._leases.release([key for key in self._leases.held if is_host_or_region_key(key)])

    def _reserve(self, keys: Mapping[str, str], timeout: float, *, shared: bool = False) -> str:
        """Take the lease of the first free key and return the key. `keys` maps each key to its name in messages."""
        unreachable = UnreachableHosts()
        failure = VpmemError()
        for attempt in attempts(" or ".join(keys.values()), timeout=timeout, interval=POLL):
            try:
                unreachable.require_back(self._alias, self._leases)
                return self._leases.take([list(keys)], shared=shared)[0].key
            except BusyError as error:
                failure = error
            except LeasesHeldError as error:
                held = "; ".join(f"{keys[entry.key]} is {entry.description}" for entry in error.entries)
                failure = BusyError(
                    f"{held or 'Others have ' + ', '.join(keys.values())}. Nothing was released within {timeout:g} s."
                )
            except UnreachableError as error:
                if attempt.number == 1:
                    raise
                unreachable.add(self._alias)
                failure = error
            attempt.state = str(failure)
        raise failure
