"""Open and reserve a host that no other worker has."""

from __future__ import annotations

from collections.abc import Sequence

from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.leases.leases import LeaseRecordError
from VpmemLibrary.leases.reservations import POLL, UnreachableHosts
from VpmemLibrary.polling import attempts
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session


def open_free_host(
    session: Session, entries: Sequence[HostEntry], *, shared: bool = False, timeout: float = 0.0
) -> OpenHost:
    """Open the first host that no other worker has, reserve it, and make it the current host.

    Skip a host that is unreachable or cannot write its leases. If other workers have all hosts, wait for the first host
    that becomes free.

    Args:
        session: The session in which the host is opened.
        entries: The sections of the hosts file, in the order in which they are tried.
        shared: Share the host with other workers that also share it.
        timeout: Seconds to wait for a free host.

    Raises:
        BusyError: Other workers still have all hosts at the timeout. The message names the holders of each host.
        UnreachableError: All hosts are unreachable.
        LeaseRecordError: No reachable host can write its leases.
    """
    unreachable = UnreachableHosts()
    opened: dict[str, OpenHost] = {}
    waits_for_release = False
    failure = VpmemError()
    names = ", ".join(entry.name for entry in entries)
    try:
        for attempt in attempts(f"a free host of {names}", timeout=timeout, interval=POLL):
            refusals: list[VpmemError] = []
            for entry in entries:
                try:
                    host = opened.get(entry.name) or session.open(entry)
                    opened[entry.name] = host
                    unreachable.require_back(entry.name, host.tenancy.leases)
                    host.tenancy.reservations.reserve_host(0, shared=shared)
                except UnreachableError as refusal:
                    unreachable.add(entry.name)
                    refusals.append(refusal)
                except (BusyError, LeaseRecordError) as refusal:  # e.g. a full disk: try another host
                    refusals.append(refusal)
                else:
                    del opened[entry.name]
                    session.switch(entry.name)
                    return host
            failure = _summed_up(refusals)
            waits_for_release = waits_for_release or isinstance(failure, BusyError)
            if not waits_for_release:
                break
            attempt.state = str(failure)
        raise failure
    finally:
        for alias in opened:
            session.close(alias)


def _summed_up(refusals: Sequence[VpmemError]) -> VpmemError:
    """Return one of the errors, with the messages of all added. Prefer a `BusyError`."""
    first, *others = sorted(refusals, key=lambda refusal: not isinstance(refusal, BusyError))
    for other in others:
        first.add(str(other))
    return first
