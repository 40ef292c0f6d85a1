"""The session of one worker: its run, its open hosts, and the current host."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from VpmemLibrary.errors import InvalidValueError, NotFoundError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import configured, transport_to
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.ownership.cleanup import clean_up, clean_up_cxl
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.mounts import unmount_owned
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.reporting import Reporting
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, Transport
from VpmemLibrary.visible import quoted


class Session:
    """The open hosts of one worker.

    Args:
        run: The run that the worker belongs to. Its mark is put on everything that the session makes.
        timeout: The maximum seconds of a command, unless the caller sets a timeout.
        reporting: Reports what the session does.

    Example::

        with Session(RunMark.of_this_run()) as session:
            opened = session.open(find_host(entries_of("hosts.dat"), "rack1-pmem3"))
            opened.host.ndctl.inventory()
    """

    def __init__(self, run: RunMark, timeout: float = DEFAULT_TIMEOUT, *, reporting: Reporting | None = None) -> None:
        self.run = run
        self.timeout = timeout
        self._reporting = reporting or Reporting()
        self._open: dict[str, OpenHost] = {}
        self._current = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close_all()

    @property
    def aliases(self) -> list[str]:
        """The aliases of the open hosts, in the order of opening."""
        return list(self._open)

    @property
    def current_alias(self) -> str:
        """The alias of the current host; empty when no host is open."""
        return self._current

    @property
    def current(self) -> OpenHost:
        """The current host, with its guests, leases and settings."""
        return self.find()

    @property
    def host(self) -> Host:
        """The current host itself."""
        return self.current.host

    def set_timeout(self, timeout: float) -> None:
        """Set the default timeout of commands, in seconds, for open hosts and hosts that are opened later."""
        self.timeout = timeout
        for opened in self._open.values():
            opened.host.set_timeout(timeout)

    def find(self, alias: str = "") -> OpenHost:
        """Return the open host with the alias `alias`, or the current host.

        Raises:
            NotFoundError: No open host has that alias, or no host is open.
        """
        name = alias or self._current
        if name not in self._open:
            raise NotFoundError("open host", name or "(current)", self.aliases)
        return self._open[name]

    def own_namespace(self, which: Namespace | str, *, foreign: bool = False) -> Namespace:
        """List the current host's namespaces and return one of them. Raise if this run did not make it.

        Args:
            which: The namespace's record, UUID, device name or name.
            foreign: Allow a namespace that this run did not make.

        Raises:
            NotFoundError: The namespace does not exist.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
        """
        found = self.host.ndctl.namespace(which)
        if not foreign:
            self.run.require_own(found)
        return found

    def open(self, entry: HostEntry, alias: str = "") -> OpenHost:
        """Open the host that a section of a hosts file describes, and make it the current host.

        Args:
            entry: The section.
            alias: The host's alias. The default is the name of the section.

        Raises:
            InvalidValueError: Another open host has the alias.
            UnreachableError: The host cannot be reached.
        """
        return self.open_transport(
            transport_to(entry),
            alias or entry.name,
            libvirt=Daemon.of(entry.libvirt_uri),
            policy=Policy.of(entry),
            guest_defaults=GuestDefaults.of(entry),
        )

    def open_transport(
        self,
        transport: Transport,
        alias: str,
        *,
        libvirt: Daemon = SYSTEM,
        policy: Policy | None = None,
        guest_defaults: GuestDefaults | None = None,
    ) -> OpenHost:
        """Open a host by its transport and make it the current host. Close the transport if the host does not answer.

        Args:
            transport: The transport to the host.
            alias: The host's alias.
            libvirt: The libvirt daemon of the host to use.
            policy: What is allowed on the host. By default, nothing disruptive is allowed.
            guest_defaults: The settings of new guests. By default, no boot image is set.

        Raises:
            InvalidValueError: Another open host has the alias.
            UnreachableError: The host cannot be reached.
        """
        if note := configured(transport):
            self._reporting.note(note)
        try:
            host = self._answering(alias, self._reporting.wrap(transport, alias))
        except BaseException:
            transport.close()
            raise
        opened = OpenHost(
            host,
            self.run,
            policy=policy,
            guest_defaults=guest_defaults,
            libvirt=libvirt,
            reporting=self._reporting,
        )
        return self.add(opened)

    def open_guest(self, which: Guest | str, alias: str = "") -> OpenHost:
        """Open a running guest of the current host as a host, and make it the current host.

        If this run made the guest, the run may initialise its labels and reboot it.

        Args:
            which: The guest or its name.
            alias: The alias of the guest as a host. The default is the guest's name.

        Raises:
            InvalidValueError: Another open host has the alias.
            NotFoundError: The guest does not exist.
            UnsupportedError: The current host is itself a guest.
            GuestError: The guest is not running, or does not answer.
        """
        outer = self.current
        outer.guests.require_libvirt()
        guest = outer.guests.find(which)
        own = guest.made_by() == self.run.run_id
        host = self._answering(alias or guest.name, guest.transport)
        policy = Policy(may_reboot=own, may_initialize_labels=own)
        return self.add(OpenHost(host, self.run, policy=policy, guest=guest, outer_host=outer))

    def _answering(self, alias: str, transport: Transport) -> Host:
        """Return a host that answers. Raise if the alias is in use or the host does not answer."""
        self.refuse_taken(alias)
        transport.run(["true"]).check()
        return Host(alias, transport, timeout=self.timeout, progress=self._reporting.progress)

    def add(self, opened: OpenHost) -> OpenHost:
        """Add an open host and make it the current host. Return it.

        Raises:
            InvalidValueError: Another open host has that alias.
        """
        alias = opened.host.alias
        self.refuse_taken(alias)
        self._open[alias] = opened
        self._current = alias
        return opened

    def refuse_taken(self, alias: str) -> None:
        """Raise if an open host has that alias."""
        if alias in self._open:
            raise InvalidValueError("alias", alias, f"an alias that no open host has (open: {', '.join(self._open)})")

    def switch(self, alias: str) -> str:
        """Make another open host the current host. Return the alias of the previous current host."""
        self.find(alias)
        before, self._current = self._current, alias
        return before

    def close(self, alias: str = "") -> None:
        """Close the connections of one host. First close its guests that are open as hosts."""
        opened = self.find(alias)
        self._close_guests(opened)
        name = opened.host.alias
        del self._open[name]
        if self._current == name:
            self._current = next(reversed(self._open), "")
        opened.close()

    def clean_up(self) -> list[str]:
        """Remove what this run made on the current host: guests, mounts, namespaces and CXL regions, in this order.

        Close the removed guests that are open as hosts. Change nothing else.

        Returns:
            A description of each thing that was removed.

        Raises:
            BusyError: A thing of this run is used by a thing that this run did not make.
        """
        opened, run = self.current, self.run
        guests = opened.guests.remove_own()
        self._close_guests(opened, guests)
        removed = [f"guest {name}" for name in guests]
        try:
            removed += [f"mount of {mount}" for mount in unmount_owned(opened.host, run)]
        finally:  # remove the other namespaces even if an unmount failed
            gone = clean_up(opened.host, run)
            removed += [f"namespace {quoted(namespace.name or namespace.dev)} ({namespace.uuid})" for namespace in gone]
            if gone and not opened.guest:  # a removed namespace needs no unfit record
                opened.tenancy.leases.remove_stale(each.label_uuid for each in gone if each.label_uuid)
        removed += [f"CXL region {region.dev} ({region.uuid})" for region in clean_up_cxl(opened.host, run)]
        return removed

    def close_all(self) -> None:
        """Close all connections, even if closing one of them fails."""
        failures = []
        while self._open:  # from the last opened host to the first: guests before their hosts
            try:
                self.close(self.aliases[-1])
            except Exception as error:  # close every host, then raise the first failure
                failures.append(error)
        if failures:
            raise failures[0]

    def _close_guests(self, outer: OpenHost, names: Collection[str] | None = None) -> None:
        """Close the guests of a host that are open as hosts: all of them, or only the guests in `names`."""
        for alias, each in list(self._open.items()):
            if each.outer_host is outer and each.guest and (names is None or each.guest.name in names):
                self.close(alias)
