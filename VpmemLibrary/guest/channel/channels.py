"""The kinds of channel into a guest: its QEMU guest agent, SSH, or a shell on its serial console.

Each channel has the interface of a transport. So all code that reads or changes a guest works with any channel.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.network import link_local_address
from VpmemLibrary.guest.domain.xml import read_interface
from VpmemLibrary.record import hide_fields
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy


class GuestChannel(StrEnum):
    """The kinds of channel into a guest."""

    agent = "agent"
    """The guest's QEMU guest agent. It needs no network, no user and no password."""
    ssh = "ssh"
    """An SSH server in the guest. The connection comes from the guest's host."""
    serial = "serial"
    """A shell on the guest's serial console."""


@runtime_checkable
class Channel(Transport, Protocol):
    """A transport into a guest. A class of another project may have these methods; see docs/extending.md."""

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the guest answers within `timeout` seconds."""


@hide_fields("password", "key_passphrase")
class GuestAccess(Struct, frozen=True):
    """The login to a guest, and its address.

    Args:
        user: The user who logs in. The agent needs no user.
        password: The user's password.
        key_file: A private key on this machine, for SSH.
        key_passphrase: The passphrase of the private key.
        known_hosts: The file on this machine with the guest's SSH key. The library never writes it.
        host_key_name: The name of the guest's key in `known_hosts`; by default the guest's address.
        host_key: What to do with an unknown SSH key.
        address: The guest's address on its host; by default its IPv6 link-local address on the host's bridge.
        port: The SSH port of the guest.
        sudo: Whether the channels SSH and serial run each command through ``sudo -n``.

    Example: ``GuestAccess(user="qa", password="...", address="192.168.122.7", sudo=True)``.
    """

    user: str = "root"
    password: str | None = None
    key_file: Path | None = None
    key_passphrase: str | None = None
    known_hosts: Path | None = None
    host_key_name: str = ""
    host_key: HostKeyPolicy = HostKeyPolicy.strict
    address: str = ""
    port: int = 22
    sudo: bool = False


def address_of(access: GuestAccess, name: str, xml: str) -> str:
    """Return the address of a guest's SSH server on its host.

    Args:
        access: The login and the address.
        name: The guest's name.
        xml: The guest's XML.

    Raises:
        InvalidValueError: No address is given, and the guest has no interface on a bridge.
    """
    mac, bridge = read_interface(xml)
    if access.address or (mac and bridge):
        return access.address or f"{link_local_address(mac)}%{bridge}"
    raise InvalidValueError(
        "address", "", f"an address by which the host reaches guest {name}: the guest has no interface on a bridge"
    )
