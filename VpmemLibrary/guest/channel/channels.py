"""The ways into a guest, of which one is chosen: its QEMU guest agent, SSH, or a shell on its serial console.

Each has the face of a transport, so that whatever looks into a guest works through any of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol

from VpmemLibrary.errors import AccessDeniedError, CommandError, HostKeyError, InvalidValueError, UnreachableError
from VpmemLibrary.guest.channel.agent import AgentCall, AgentTransport
from VpmemLibrary.guest.channel.console_line import ConsoleLine
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.network import link_local_address
from VpmemLibrary.guest.domain.xml import read_interface
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.serial.transport import SerialTransport
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport


class GuestChannel(StrEnum):
    """How a guest is looked into."""

    agent = "agent"
    """Its QEMU guest agent: needs no network, no user and no password."""
    ssh = "ssh"
    """An SSH server in it, reached from its host."""
    serial = "serial"
    """A shell on its serial console."""


class Channel(Transport, Protocol):
    """A transport into a guest."""

    def ping(self, timeout: float = 5) -> bool:
        """Whether it answers within so many seconds."""


@dataclass(frozen=True, slots=True)
class GuestAccess:
    """Who logs in to a guest, and where.

    Args:
        user: Who logs in; the agent needs nobody.
        password: The user's password.
        key_file: A private key on this machine, for SSH.
        key_passphrase: What the private key is locked with.
        known_hosts: The file on this machine that holds the guest's SSH key, read and never written.
        host_key_name: The name that `known_hosts` has the key under; by default the guest's address.
        host_key: What to do with an unknown SSH key.
        address: The guest's address as its host knows it; by default its IPv6 link-local one on the host's bridge.
        port: Its SSH port.
        sudo: Whether every command is run through ``sudo -n``, over SSH or the serial console.

    Example: ``GuestAccess(user="qa", password="...", address="192.168.122.7", sudo=True)``.
    """

    user: str = "root"
    password: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    known_hosts: Path | None = None
    host_key_name: str = ""
    host_key: HostKeyPolicy = HostKeyPolicy.strict
    address: str = ""
    port: int = 22
    sudo: bool = False


class SshChannel(SshTransport):
    """An SSH connection to a guest through its host, so that only the host needs a way to the guest's address.

    Args:
        name: The guest's name in messages.
        settings: How it is reached from its host.
        host: The way to its host.
    """

    def __init__(self, name: str, settings: SshSettings, host: Transport) -> None:
        super().__init__(settings, dial=lambda address, port, timeout: host.connect(address, port, timeout=timeout))
        self._guest = name

    @property
    def name(self) -> str:
        """The guest in messages and logs."""
        return f"guest {self._guest}"

    def ping(self, timeout: float = 5) -> bool:
        """Whether the guest's SSH server lets us in and runs a command within so many seconds.

        Raises:
            HostKeyError: Its key is unknown or has changed.
            AccessDeniedError: It refuses the credentials.
        """
        try:
            return self.run(["true"], timeout=timeout).exit_status == 0
        except (AccessDeniedError, HostKeyError):
            raise
        except (UnreachableError, CommandError):
            self.close()  # a connection to a boot that is over would answer no better
            return False


def open_channel(
    kind: GuestChannel,
    access: GuestAccess,
    *,
    name: str,
    host: Transport,
    link: LibvirtLink,
    agent: AgentCall,
    xml: Callable[[], str],
) -> Channel:
    """Return a way into a guest; nothing is connected yet.

    Args:
        kind: Which.
        access: Who logs in, and where.
        name: The guest's name.
        host: The way to its host.
        link: The host's libvirt connection.
        agent: What sends an agent command.
        xml: What returns the guest's XML.

    Raises:
        InvalidValueError: SSH has no address, or a value cannot be.
    """
    if kind is GuestChannel.agent:
        return AgentTransport(name, agent)
    if kind is GuestChannel.serial:
        return SerialTransport(
            name, lambda: ConsoleLine(link, name), user=access.user, password=access.password, sudo=access.sudo
        )
    settings = SshSettings(
        address=address_of(access, name, xml()),
        port=access.port,
        user=access.user,
        password=access.password,
        key_file=access.key_file,
        key_passphrase=access.key_passphrase,
        known_hosts=access.known_hosts,
        host_key=access.host_key,
        host_key_name=access.host_key_name,
        sudo=access.sudo,
    )
    return SshChannel(name, settings, host)


def address_of(access: GuestAccess, name: str, xml: str) -> str:
    """Return where a guest's SSH server is, as its host knows it.

    Args:
        access: Who logs in, and where.
        name: The guest's name.
        xml: The guest's XML.

    Raises:
        InvalidValueError: No address is given, and the guest has no interface on a bridge.
    """
    mac, bridge = read_interface(xml)
    if access.address or (mac and bridge):
        return access.address or f"{link_local_address(mac)}%{bridge}"
    raise InvalidValueError(
        "address", "", f"the address of guest {name} as its host knows it: the guest has no interface on a bridge"
    )
