"""Keywords that reserve a host for one worker."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_file import HostEntry, find_host
from VpmemLibrary.keywords.host.opening import entries_of, open_entry
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.leases.holds import GRACE, Away
from VpmemLibrary.leases.leases import LeaseRecordError

_POLL = 1.0
"""Seconds between two rounds over hosts that others have: nothing notifies this worker that one is free."""


class HoldingKeywords:
    """Hosts: reserving one."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("host",))
    def hold_host(self, *, shared: bool = False, timeout: timedelta = timedelta(hours=2)) -> None:
        """Reserve the current host for this worker alone. Wait while another worker has it.

        The reservation is a lease that the host's own kernel keeps. It works between controllers on different machines,
        and ends with the worker's connection or when the host is closed. It keeps out workers that reserve the host
        too, no others. A worker that needs several hosts reserves them in the order of their names, so that no two
        workers wait for each other. Workers may also share a host, with a region each: see [Hold Region].

        If the lease is lost, because the connection broke and another worker took the host, the next keyword that
        changes the host fails, and so does every later one until this keyword has reserved the host again.

        Args:
            shared: Share the host with workers that share it as well; none of them has it alone then.
            timeout: How long to wait.

        Raises:
            BusyError: Another worker still has the host, or this worker shares it. The message says who has it since
                when.
            LeaseLostError: This worker lost the host that it had reserved. The next call reserves it again.
            ToolMissingError: The host has no bash or no flock.

        Example:

        ```robotframework
        *** Test Cases ***
        Alone
            Open Host    192.0.2.13
            Hold Host    timeout=10 minutes
        ```
        """
        self._context.current.holds.host(timeout.total_seconds(), shared=shared)

    @keyword(tags=("host",))
    def open_free_host_from_file(
        self, hosts: str, *names: str, shared: bool = False, timeout: timedelta = timedelta(hours=2)
    ) -> str:
        """Open a host of a hosts file that nobody has, and reserve it for this worker alone as [Hold Host] does.

        It is the first host that nobody has. While others have all hosts, it is the first that is given back. So any
        number of workers, of one controller or of several, share the hosts of a file. A host that is unreachable, or
        that cannot write its leases, is passed over. A worker that needs several hosts takes each next one from those
        whose names come after its own, so that no two workers wait for each other.

        Args:
            hosts: The file's path, or `lab` for the lab that is running on this machine.
            names: The sections that will do, in the order in which they are tried; empty ones are passed over. All of
                the file, in its order, by default.
            shared: Share the host with workers that share it as well; none of them has it alone then.
            timeout: How long to wait.

        Returns:
            The alias: the section's name.

        Raises:
            InvalidValueError: The file is absent or is not of the form.
            NotFoundError: A name is no section's.
            BusyError: Others still have all of them; the message says who has which since when.
            UnreachableError: None can be reached.
            LeaseRecordError: None that is reachable can write its leases.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Open Free Host From File    ${CURDIR}/hosts.dat
        ```
        """
        entries = entries_of(hosts)
        wanted = [find_host(entries, name) for name in names if name] or list(entries)
        deadline = time.monotonic() + timeout.total_seconds()
        away = Away()
        opened: list[str] = []
        waited = False
        try:
            while True:
                refusals: list[VpmemError] = []
                for entry in wanted:
                    if self._held(entry, opened, away, refusals, shared=shared):
                        opened.remove(entry.name)
                        return self._current(entry.name)
                waited = waited or any(isinstance(refusal, BusyError) for refusal in refusals)
                if not waited or time.monotonic() > deadline:
                    raise _summed_up(refusals)
                time.sleep(_POLL)
        finally:
            for alias in opened:
                self._context.close(alias)

    def _held(
        self, entry: HostEntry, opened: list[str], away: Away, refusals: list[VpmemError], *, shared: bool
    ) -> bool:
        """Open a host unless it is open, and reserve it if nobody has it; else note why not."""
        try:
            if entry.name not in opened:
                open_entry(self._context, entry)
                opened.append(entry.name)
            host = self._context.find(entry.name)
            host.leases.entries()
            if away.is_back(entry.name):
                host.holds.host(0, shared=shared)
                return True
            refusals.append(
                BusyError(
                    f"Host {entry.name} was unreachable until now. Its previous holder may take it back for "
                    f"{GRACE:g} s."
                )
            )
        except BusyError as refusal:
            refusals.append(refusal)
        except UnreachableError as refusal:
            away.went(entry.name)
            refusals.append(refusal)
        except LeaseRecordError as refusal:  # such as a full disk: another host will do
            refusals.append(refusal)
        return False

    def _current(self, alias: str) -> str:
        self._context.switch(alias)
        logger.info(f"This worker has host {alias}.")
        return alias


def _summed_up(refusals: Sequence[VpmemError]) -> VpmemError:
    """Return one error with the messages of all: that of a host that others have, if there is one."""
    told = sorted(refusals, key=lambda refusal: not isinstance(refusal, BusyError))
    for other in told[1:]:
        told[0].add(str(other))
    return told[0]
