"""What one worker reserves of a host: the whole host, or one region of it. Others that ask for the same wait."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from VpmemLibrary.errors import BusyError, UnreachableError
from VpmemLibrary.leases.leases import HOST_KEY, Leases, LeasesHeldError, is_place_key, region_key, turn_key
from VpmemLibrary.pmem.records import Region

_POLL = 1.0
"""Seconds between two tries to take what another worker holds: nothing notifies this worker."""

GRACE = 15.0
"""Seconds after a host answers again in which only its previous holders take what they held."""

_TURN_POLL = 0.2


_TURN_TIMEOUT = 600.0


@contextmanager
def turn(leases: Leases, work: str, alias: str) -> Iterator[None]:
    """Lock work that only one worker at a time may do on a host. Wait until no other worker does it.

    Args:
        leases: The worker's leases on the host.
        work: The work: letters.
        alias: The host's alias, for the message.

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
        if key in leases.held:  # else it was lost, and the error reports that
            leases.release([key])
        raise
    leases.release([key])


class Away:
    """Hosts that were unreachable while a worker waited for them.

    Such a host may have booted without its holder having kept it. So only its previous holder takes it for a while once
    it answers again, as with a file server that was restarted.
    """

    def __init__(self) -> None:
        self._back_since: dict[str, float | None] = {}

    def went(self, alias: str) -> None:
        """Note that a host is unreachable."""
        self._back_since[alias] = None

    def is_back(self, alias: str) -> bool:
        """Whether a host that answers now may be taken: it was never unreachable, or has answered for long enough."""
        if alias not in self._back_since:
            return True
        since = self._back_since[alias]
        if since is None:
            self._back_since[alias] = time.monotonic()
            return False
        return time.monotonic() - since > GRACE


class Holds:
    """What one worker reserves of one host.

    Args:
        leases: The worker's leases on the host.
        alias: The host's alias, for messages.

    Example: ``Holds(leases, "rack1-pmem3").host(timeout=60)``.
    """

    def __init__(self, leases: Leases, alias: str) -> None:
        self._leases = leases
        self._alias = alias

    @property
    def alone(self) -> bool:
        """Whether this worker holds an exclusive lease on the host, as far as it knows."""
        return self._leases.held.get(HOST_KEY, True) is False

    def host(self, timeout: float, *, shared: bool = False) -> None:
        """Acquire a lease on the whole host. Return at once if this worker still has it.

        Args:
            timeout: Seconds to wait while another worker has the host.
            shared: Share the host with the workers that share it as well; none of them has it alone then.

        Raises:
            BusyError: Another worker still has the host, or this worker shares it and asks to have it alone. The
                message says who has it, and since when.
            LeaseLostError: This worker lost the lease that it had. The next call acquires it again.
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
        """Acquire a lease on one region, and share the host with the workers that have its other regions.

        Args:
            regions: The regions that will do, the preferred one first.
            timeout: Seconds to wait while others have all of them, or the host.

        Returns:
            The first region that nobody has.

        Raises:
            BusyError: Others still have all of them; the message says who, since when.
            LeaseLostError: This worker lost a lease on the host. The next call acquires it again.
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
        """Give back the host and the regions.

        Raises:
            LeaseLostError: This worker lost one of them.
        """
        self._leases.release([key for key in self._leases.held if is_place_key(key)])

    def _take(self, keys: Mapping[str, str], timeout: float, *, shared: bool = False) -> str:
        """Take the lease of the first free key and return the key. `keys` has what each key stands for."""
        deadline = time.monotonic() + timeout
        waited = False
        away = Away()
        while True:
            try:
                if away.is_back(self._alias):
                    return self._leases.take([list(keys)], shared=shared)[0].key
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
