"""Open a channel into a guest. This imports every kind of channel, so import it only when a channel is chosen."""

from __future__ import annotations

from collections.abc import Callable

from VpmemLibrary.errors import AccessDeniedError, CommandError, HostKeyError, UnreachableError
from VpmemLibrary.guest.channel.agent import AgentCall, AgentTransport
from VpmemLibrary.guest.channel.channels import Channel, GuestAccess, GuestChannel, address_of
from VpmemLibrary.guest.channel.console_line import ConsoleLine
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.serial.transport import SerialTransport
from VpmemLibrary.transport.ssh.settings import SshSettings
from VpmemLibrary.transport.ssh.transport import SshTransport


class SshChannel(SshTransport):
    """An SSH connection to a guest through its host, so that only the host needs a route to the guest.

    Args:
        name: The guest's name in messages.
        settings: The SSH settings of the guest, with its address on the host.
        host: The transport to the guest's host.
    """

    def __init__(self, name: str, settings: SshSettings, host: Transport) -> None:
        super().__init__(settings, dial=lambda address, port, timeout: host.connect(address, port, timeout=timeout))
        self._guest = name

    @property
    def name(self) -> str:
        """The guest's name in messages and logs."""
        return f"guest {self._guest}"

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the guest's SSH server accepts the login and runs a command within `timeout` seconds.

        Raises:
            HostKeyError: The guest's SSH key is unknown or has changed.
            AccessDeniedError: The guest rejects the login.
        """
        try:
            return self.run(["true"], timeout=timeout).exit_status == 0
        except (AccessDeniedError, HostKeyError):
            raise
        except (UnreachableError, CommandError):
            self.close()  # reconnect next time: this connection may be to an earlier boot
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
    """Return a channel into a guest. Nothing is connected yet.

    Args:
        kind: The kind of channel.
        access: The login and the address.
        name: The guest's name.
        host: The transport to the guest's host.
        link: The host's libvirt connection.
        agent: Sends an agent command.
        xml: Returns the guest's XML.

    Raises:
        InvalidValueError: SSH has no address, or a value is invalid.
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
