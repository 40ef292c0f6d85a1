"""The leases, reservations and claims of one worker on a host that other workers use too."""

from __future__ import annotations

import contextlib
import math
import secrets
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from VpmemLibrary.claims.host_claims import HostClaims
from VpmemLibrary.errors import LeaseLostError, VpmemError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.host.host import Host
from VpmemLibrary.leases.leases import HOST_KEY, Entry, Holder, is_namespace_key, run_key
from VpmemLibrary.leases.reservations import Reservations, host_lock
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.reclaim import Reclaim
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.pmem.records import Namespace

if TYPE_CHECKING:
    from VpmemLibrary.leases.host_leases import HostLeases


class Tenancy:
    """The leases, reservations and claims of one worker on one host.

    A guest that is open as a host has one worker. The worker's lease on the outer host covers the guest. So the run
    needs no lease, no host lock and no proofs in the guest.

    Args:
        host: The host.
        run: The run that the worker belongs to.
        leases: The worker's leases on the host.
        link: Returns the host's libvirt connection.
        in_guest: Whether the host is a guest.
    """

    def __init__(
        self, host: Host, run: RunMark, leases: HostLeases, link: Callable[[], LibvirtLink], *, in_guest: bool = False
    ) -> None:
        self._host = host
        self._run = run
        self._leases = leases
        self._link = link
        self._in_guest = in_guest
        self._reservations = Reservations(leases, host.alias)

    @property
    def leases(self) -> HostLeases:
        """The leases of this worker on the host."""
        return self._leases

    @property
    def reservations(self) -> Reservations:
        """The reservations of this worker on the host."""
        return self._reservations

    @cached_property
    def claims(self) -> HostClaims:
        """The claimable namespaces of the host, and the claims of this worker."""
        return HostClaims(
            self._host,
            self._run,
            self._leases,
            self._clean,
            before_marking=self.hold_run_lease,
            spread=secrets.token_hex(4),
        )

    @property
    def reclaim(self) -> Reclaim:
        """The object that removes the leftovers of dead runs from the host.

        Raises:
            UnsupportedError: The host is a guest.
        """
        return Reclaim(self._host, self._link(), self._leases)

    def _clean(self, namespace: Namespace, left_by: Holder) -> None:
        self.reclaim.clean_namespace(namespace, left_by)  # read only now: a guest has no Reclaim, but may have claims

    def lease_proofs(self) -> tuple[LeaseProof, ...]:
        """Return the proofs that this worker still has its leases on the host; none in a guest.

        Raises:
            LeaseLostError: The worker lost the lease on its host or region, and has not acquired it again.
        """
        return () if self._in_guest else self._leases.proofs()

    def host_lock(self, work: str) -> contextlib.AbstractContextManager[None]:
        """Return a lock that lets one worker at a time do `work` on this host. In a guest the lock does nothing.

        Args:
            work: The work, e.g. ``initialize-labels``.
        """
        return contextlib.nullcontext() if self._in_guest else host_lock(self._leases, work, self._host.alias)

    def hold_run_lease(self) -> None:
        """Acquire this run's lease on the host, so that other runs do not reclaim what this run made there.

        Raises:
            LeaseLostError: This worker lost a lease on the host. The next call acquires the lease of the run again. If
                the worker lost its host or region, acquire that lease first.
            ToolMissingError: The host has no bash or no flock.
        """
        if self._in_guest:
            return
        self.lease_proofs()
        key = run_key(self._run.run_id)
        if key in self._leases.held:
            self._leases.require([key])
        else:
            self._leases.take([[key]], shared=True)

    def new_uuid(self) -> str:
        """Return a UUID with the run's mark, for a namespace on the host. First acquire this run's lease.

        Raises:
            LeaseLostError: For the same reasons as `hold_run_lease`.
        """
        self.hold_run_lease()
        return self._run.new_uuid()

    def entries(self) -> tuple[Entry, ...]:
        """Return all lease records of the host; none in a guest."""
        return () if self._in_guest else self._leases.entries()

    def leases_of_others(self) -> list[str]:
        """Describe the leases of other workers on the host. The list is empty if this worker has the host alone.

        Raises:
            LeaseLostError: This worker lost a lease on the host.
        """
        if self._in_guest:
            return []
        self.lease_proofs()
        if self._reservations.has_host_alone:
            self._leases.require([HOST_KEY])
            return []
        return [
            f"{entry.key} is {entry.description}"
            for entry in self._leases.entries()
            if entry.held and entry.holder.token != self._leases.holder.token
        ]

    @contextlib.contextmanager
    def kept(self, seconds: float) -> Iterator[None]:
        """Keep this worker's leases on the host while the host goes down in the ``with`` block.

        Args:
            seconds: How long the host may be down. Afterwards other workers may acquire the leases.
        """
        self._leases.keep(math.ceil(seconds))
        try:
            yield
        except VpmemError:
            with contextlib.suppress(VpmemError):  # an unreachable host keeps the leases for `seconds`
                self._leases.keep(0)
            raise

    def renew(self) -> None:
        """Re-acquire the leases that this worker had before the host booted.

        Raises:
            LeaseLostError: Another worker has taken one of the leases.
        """
        self._leases.require(self._leases.held)

    def end(self) -> None:
        """Release the leases of this worker and its run, except the claims: their namespaces were not wiped.

        Raises:
            LeaseLostError: The worker lost a lease, and this was not reported yet.
        """
        try:
            self._leases.release(key for key in self._leases.held if not is_namespace_key(key))
        except LeaseLostError:
            raise
        except VpmemError:  # a broken connection holds no leases
            pass
        finally:
            self._leases.close()
