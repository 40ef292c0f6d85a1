"""Keywords that have a host for one worker alone."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.errors import BusyError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_file import HostEntry, find_host
from VpmemLibrary.inventory.holds import Away
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.keywords.log import logger
from VpmemLibrary.keywords.opening import entries_of, open_entry

_POLL = 1.0
"""Seconds between two rounds over hosts that others have: no event tells that one is given back."""


class HoldingKeywords:
    """Hosts: to have one alone."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("host",))
    def hold_host(self, *, shared: bool = False, timeout: timedelta = timedelta(hours=2)) -> None:
        """Have the current host for this worker alone, among those that ask for it so; wait while another one has it.

        It is a lease that the host's own kernel keeps, so it holds between controllers on different machines, and goes
        with the connection of whoever had it. It ends when the host is closed. Whoever needs several hosts takes them
        in the order of their names, so that no two wait for each other. Workers that have one region each share a host:
        see [Hold Region].

        Args:
            shared: Have it together with others that share it; nobody has it alone then.
            timeout: How long to wait.

        Raises:
            BusyError: Another one still has it; the message says who, since when.
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
        """Open a host of a hosts file that nobody has, and have it for this worker alone as [Hold Host] does.

        It is the first one that nobody has; while others have all of them, the first that is given back. So any number
        of workers, of one controller or of several, share out the hosts of a file among them. A host that cannot be
        reached is passed over: whoever has it may be rebooting it. Whoever needs several hosts takes each next one
        among those whose names come after its own, so that no two wait for each other.

        Args:
            hosts: The file's path, or `lab` for the lab that is running on this machine.
            names: The sections that will do, in the order in which they are tried; empty ones are passed over. All of
                the file, in its order, by default.
            shared: Have it together with others that share it; nobody has it alone then.
            timeout: How long to wait.

        Returns:
            The alias: the section's name.

        Raises:
            InvalidValueError: The file is absent or is not of the form.
            NotFoundError: A name is no section's.
            BusyError: Others still have all of them; the message says who has which since when.
            UnreachableError: None can be reached.

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
        """Open a host unless it is open, and have it if nobody has it; else say why not."""
        try:
            if entry.name not in opened:
                open_entry(self._context, entry)
                opened.append(entry.name)
            host = self._context.find(entry.name)
            host.leases.entries()
            if away.is_back(entry.name):
                host.holds.host(0, shared=shared)
                return True
            refusals.append(BusyError(f"Host {entry.name} did not answer until now: who had it has the first word."))
        except BusyError as refusal:
            refusals.append(refusal)
        except UnreachableError as refusal:
            away.went(entry.name)
            refusals.append(refusal)
        return False

    def _current(self, alias: str) -> str:
        self._context.switch(alias)
        logger.info(f"This worker has host {alias}.")
        return alias


def _summed_up(refusals: Sequence[VpmemError]) -> VpmemError:
    """Return one error that tells all: that of a host that others have, where there is one."""
    told = sorted(refusals, key=lambda refusal: not isinstance(refusal, BusyError))
    for other in told[1:]:
        told[0].add(str(other))
    return told[0]
