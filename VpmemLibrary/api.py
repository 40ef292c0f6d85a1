"""The Python interface for scripts and extensions. Only the names in this module are promised; all others may change.

A name is imported on its first use, so that a script loads only the modules that it uses. No name needs Robot
Framework. docs/reuse.md describes the names and has an example.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from VpmemLibrary.content.pattern import Pattern
    from VpmemLibrary.errors import VpmemError
    from VpmemLibrary.guest.channel.channels import Channel
    from VpmemLibrary.guest.domain.records import BootSource, VpmemDevice
    from VpmemLibrary.guest.guest import Guest
    from VpmemLibrary.guest.lifecycle import start
    from VpmemLibrary.guest.readiness import wait_until_ready
    from VpmemLibrary.host.host import Host
    from VpmemLibrary.host.hosts_entry import HostEntry
    from VpmemLibrary.lab.lab import Lab
    from VpmemLibrary.ownership.marks import RunMark
    from VpmemLibrary.pmem.ndctl import Ndctl
    from VpmemLibrary.pmem.records import NamespaceMode
    from VpmemLibrary.session.free_hosts import open_free_host
    from VpmemLibrary.session.guest_defaults import GuestDefaults
    from VpmemLibrary.session.hosts import entries_of
    from VpmemLibrary.session.open_host import OpenHost
    from VpmemLibrary.session.policy import Policy
    from VpmemLibrary.session.reporting import Reporting
    from VpmemLibrary.session.session import Session
    from VpmemLibrary.sizes import Size
    from VpmemLibrary.transport.local import LocalTransport
    from VpmemLibrary.transport.ssh.settings import SshSettings
    from VpmemLibrary.transport.ssh.transport import SshTransport

__all__ = [
    "BootSource",
    "Channel",
    "Guest",
    "GuestDefaults",
    "Host",
    "HostEntry",
    "Lab",
    "LocalTransport",
    "NamespaceMode",
    "Ndctl",
    "OpenHost",
    "Pattern",
    "Policy",
    "Reporting",
    "RunMark",
    "Session",
    "Size",
    "SshSettings",
    "SshTransport",
    "VpmemDevice",
    "VpmemError",
    "entries_of",
    "open_free_host",
    "start",
    "wait_until_ready",
]

_MODULES = {
    "BootSource": "guest.domain.records",
    "Channel": "guest.channel.channels",
    "Guest": "guest.guest",
    "GuestDefaults": "session.guest_defaults",
    "Host": "host.host",
    "HostEntry": "host.hosts_entry",
    "Lab": "lab.lab",
    "LocalTransport": "transport.local",
    "NamespaceMode": "pmem.records",
    "Ndctl": "pmem.ndctl",
    "OpenHost": "session.open_host",
    "Pattern": "content.pattern",
    "Policy": "session.policy",
    "Reporting": "session.reporting",
    "RunMark": "ownership.marks",
    "Session": "session.session",
    "Size": "sizes",
    "SshSettings": "transport.ssh.settings",
    "SshTransport": "transport.ssh.transport",
    "VpmemDevice": "guest.domain.records",
    "VpmemError": "errors",
    "entries_of": "session.hosts",
    "open_free_host": "session.free_hosts",
    "start": "guest.lifecycle",
    "wait_until_ready": "guest.readiness",
}
"""The module that defines each name."""


if not TYPE_CHECKING:  # otherwise a type checker would accept any name

    def __getattr__(name: str) -> object:
        """Import a name on its first use."""
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f"VpmemLibrary.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    """Return the promised names."""
    return sorted(__all__)
