"""Keywords that reserve a host for one worker."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import find_host
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.leases.leases import LeaseRecordError
from VpmemLibrary.leases.reservations import POLL, UnreachableHosts
from VpmemLibrary.polling import attempts
from VpmemLibrary.session.hosts import entries_of
from VpmemLibrary.session.session import Session


class HoldingKeywords:
    """Reserve hosts."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("host",))
    def reserve_host(self, *, shared: bool = False, timeout: timedelta = timedelta(hours=2)) -> None:
        """Reserve the current host for this worker alone. Wait while another worker has the host.

        The reservation is a lease that the host's own kernel keeps. It also works between test controllers on different
        machines. It ends with the worker's connection or when the host is closed. It keeps out only workers that
        reserve the host too. A worker that needs several hosts should reserve them in the order of their names, so that
        two workers never wait for each other. Workers may also share a host, with one region for each worker: see
        [Reserve Region].

        The lease is lost if the connection breaks and another worker reserves the host. Then every keyword that changes
        the host fails, until this keyword has reserved the host again.

        Args:
            shared: Share the host with workers that share it as well. Then no worker has the host alone.
            timeout: How long to wait.

        Raises:
            BusyError: Another worker still has the host, or this worker shares it. The message says who has the host,
                and since when.
            LeaseLostError: This worker lost the host that it had reserved. The next call reserves the host again.
            ToolMissingError: The host has no bash or no flock.

        Example:

        ```robotframework
        *** Test Cases ***
        Alone
            Open Host    192.0.2.13
            Reserve Host    timeout=10 minutes
        ```
        """
        self._session.current.tenancy.reservations.reserve_host(timeout.total_seconds(), shared=shared)

    @keyword(tags=("host",))
    def open_free_host_from_file(
        self, hosts: str, *names: str, shared: bool = False, timeout: timedelta = timedelta(hours=2)
    ) -> str:
        """Open a host of a hosts file that no worker has, and reserve it for this worker as [Reserve Host] does.

        The keyword takes the first free host. If all hosts are reserved, it waits and takes the first host that becomes
        free. So any number of workers, of one test controller or of several, can share the hosts of a file. The keyword
        skips a host that is unreachable or cannot write its leases. A worker that needs several hosts should choose
        each next host from the names after the previous host's name, so that two workers never wait for each other.

        Args:
            hosts: The path of the hosts file, or `lab` for the lab that is running on this machine.
            names: The acceptable sections, in the order in which they are tried. Empty names are ignored. The default
                is all sections of the file, in their order.
            shared: Share the host with workers that share it as well. Then no worker has the host alone.
            timeout: How long to wait.

        Returns:
            The alias: the section's name.

        Raises:
            InvalidValueError: The hosts file does not exist or its format is invalid.
            NotFoundError: No section has one of the names.
            BusyError: Other workers still have all of the hosts. The message says who has which host, and since when.
            UnreachableError: None of the hosts can be reached.
            LeaseRecordError: None of the reachable hosts can write its leases.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Open Free Host From File    ${CURDIR}/hosts.dat
        ```
        """
        entries = entries_of(hosts)
        wanted = [find_host(entries, name) for name in names if name] or list(entries)
        unreachable = UnreachableHosts()
        opened: list[str] = []
        waits_for_release = False
        failure = VpmemError()
        names_tried = ", ".join(entry.name for entry in wanted)
        try:
            for attempt in attempts(f"a free host of {names_tried}", timeout=timeout.total_seconds(), interval=POLL):
                refusals: list[VpmemError] = []
                for entry in wanted:
                    try:
                        self._open_and_reserve(entry, opened, unreachable, shared=shared)
                    except UnreachableError as refusal:
                        unreachable.add(entry.name)
                        refusals.append(refusal)
                    except (BusyError, LeaseRecordError) as refusal:  # e.g. a full disk: try another host
                        refusals.append(refusal)
                    else:
                        opened.remove(entry.name)
                        return self._current(entry.name)
                failure = _summed_up(refusals)
                waits_for_release = waits_for_release or isinstance(failure, BusyError)
                if not waits_for_release:
                    break
                attempt.state = str(failure)
            raise failure
        finally:
            for alias in opened:
                self._session.close(alias)

    def _open_and_reserve(
        self, entry: HostEntry, opened: list[str], unreachable: UnreachableHosts, *, shared: bool
    ) -> None:
        """Open a host unless it is open, and reserve it if it is free. Add its alias to `opened`."""
        if entry.name not in opened:
            self._session.open(entry)
            opened.append(entry.name)
        host = self._session.find(entry.name)
        unreachable.require_back(entry.name, host.tenancy.leases)
        host.tenancy.reservations.reserve_host(0, shared=shared)

    def _current(self, alias: str) -> str:
        self._session.switch(alias)
        logger.info(f"This worker has host {alias}.")
        return alias


def _summed_up(refusals: Sequence[VpmemError]) -> VpmemError:
    """Return one error with the messages of all. Prefer the error that other workers have a host."""
    first, *others = sorted(refusals, key=lambda refusal: not isinstance(refusal, BusyError))
    for other in others:
        first.add(str(other))
    return first
