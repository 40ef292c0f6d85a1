"""Open a host for keywords: by its section of a hosts file, or by a transport."""

from __future__ import annotations

from pathlib import Path

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.domain.records import BootSource
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import HostEntry, configured, parse_hosts, read_hosts, transport_to
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.keywords.support.context import Context, OpenHost
from VpmemLibrary.keywords.support.log import LoggedTransport, logger
from VpmemLibrary.transport.base import Transport

LAB = "lab"
"""The word for the running lab, where keywords expect the path of a hosts file."""


def entries_of(hosts: str) -> tuple[HostEntry, ...]:
    """Return the sections of a hosts file, or of the running lab.

    Raises:
        InvalidValueError: The hosts file does not exist, its format is invalid, or no lab is running.
    """
    return _lab_hosts() if hosts == LAB else read_hosts(Path(hosts))


def open_entry(context: Context, entry: HostEntry, alias: str = "") -> str:
    """Open a host as its section describes it and make it the current host. Return its alias.

    The default alias is the name of the section.

    Raises:
        InvalidValueError: Another open host has the alias.
        UnreachableError: The host cannot be reached.
    """
    alias = open_through(context, alias or entry.name, transport_to(entry), Daemon.of(entry.libvirt_uri))
    opened = context.find(alias)
    opened.may_initialize_labels = entry.may_initialize_labels
    opened.may_reboot = entry.may_reboot
    opened.migration_address = entry.migration_address
    opened.access = _guest_access(entry)
    opened.channel = GuestChannel(entry.guest_channel)
    opened.bridge = entry.guest_bridge
    opened.confined = entry.guest_confined
    opened.machine = entry.guest_machine
    opened.power = entry.power
    opened.cxl = entry.cxl
    if entry.guest_kernel or entry.guest_disk:
        opened.boot = BootSource(
            kernel=entry.guest_kernel,
            initrd=entry.guest_initrd,
            cmdline=entry.guest_cmdline,
            disk=entry.guest_disk,
        )
    return alias


def open_through(context: Context, alias: str, transport: Transport, libvirt: Daemon = SYSTEM) -> str:
    """Open a host by its transport and return its alias. Close the transport if the host does not answer.

    Raises:
        InvalidValueError: Another open host has the alias.
        UnreachableError: The host cannot be reached.
    """
    if note := configured(transport):
        logger.info(note)
    try:
        alias = keep(context, alias, LoggedTransport(transport, alias))
    except BaseException:
        transport.close()
        raise
    context.find(alias).libvirt = libvirt
    return alias


def keep(context: Context, alias: str, transport: Transport, *, inside: Guest | None = None) -> str:
    """Register a machine that answers as an open host, and return its alias.

    Give `inside` if the machine is a guest of the current host.

    Raises:
        InvalidValueError: Another open host has the alias.
        UnreachableError: The host cannot be reached.
    """
    context.refuse_taken(alias)
    transport.run(["true"]).check()
    host = Host(alias, transport, timeout=context.timeout)
    outer = context.current if inside else None
    context.add(OpenHost(host, context.run, inside=inside, outer=outer))
    logger.info(f"Opened host {alias}.")
    return alias


def _guest_access(entry: HostEntry) -> GuestAccess:
    return GuestAccess(
        user=entry.guest_user,
        password=entry.guest_password(),
        key_file=entry.guest_key_file,
        known_hosts=entry.guest_known_hosts,
        host_key_name=entry.guest_host_key_name,
        sudo=entry.guest_sudo,
    )


def _lab_hosts() -> tuple[HostEntry, ...]:
    from VpmemLibrary.lab.lab import Lab  # noqa: PLC0415  most runs do not use the lab
    from VpmemLibrary.lab.report import hosts_file  # noqa: PLC0415

    running = [host for host in Lab().hosts() if host.alive]
    if not running:
        raise InvalidValueError("hosts file", LAB, "a file, or a lab that runs: start one with `vpmem lab up`")
    return parse_hosts(hosts_file(running), LAB)
