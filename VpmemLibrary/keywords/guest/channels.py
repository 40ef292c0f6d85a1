"""Keywords that choose how commands reach a guest: its agent, SSH, or its serial console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec.structs import replace
from robot.api.deco import keyword
from robot.api.types import Secret

from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy


class ChannelKeywords:
    """Keywords for guest channels."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest",))
    def set_guest_access(
        self,
        channel: GuestChannel | None = None,
        *,
        user: str = "",
        password: Secret | None = None,
        key_file: Path | None = None,
        key_passphrase: Secret | None = None,
        known_hosts: Path | None = None,
        host_key_name: str = "",
        host_key: HostKeyPolicy | None = None,
        sudo: bool | None = None,
        bridge: str = "",
    ) -> None:
        """Set the channel and the login for guests of the current host.

        These settings apply to guests that are defined or first used after this call. Use [Use Guest Channel] to change
        the channel of one guest. Each given argument replaces the setting of the hosts file, or of an earlier call.
        Other settings stay unchanged. The defaults below apply if there is no setting.

        Args:
            channel: `agent`, `ssh` or `serial`. The default is `agent`.
            user: The user that logs in, over SSH or on the serial console. The default is `root`.
            password: The user's password, as a `Secret`.
            key_file: A private key on this machine, for SSH.
            key_passphrase: The passphrase of the private key, as a `Secret`.
            known_hosts: The file with the guests' SSH keys. The default is `~/.ssh/known_hosts`. The library only reads
                the file.
            host_key_name: The name of the key in that file. The default is each guest's address.
            host_key: `strict` refuses an unknown or changed SSH key. `accept_new` accepts an unknown key for this run.
                The default is `strict`.
            sudo: Run commands through `sudo -n`.
            bridge: The bridge of the host to which guests with a network are connected.

        Example:

        ```robotframework
        *** Test Cases ***
        Guests Without The Agent
            Set Guest Access    serial    user=qa    password=${PASSWORD}    sudo=True
            ${guest} =    Start New Guest    vpmem=ns_0
        ```
        """
        guests = self._session.current.guests
        access = _changed(
            guests.defaults.access,
            user=user,
            password=password,
            key_file=key_file,
            key_passphrase=key_passphrase,
            known_hosts=known_hosts,
            host_key_name=host_key_name,
            host_key=host_key,
            sudo=sudo,
        )
        defaults = replace(
            guests.defaults,
            channel=channel or guests.defaults.channel,
            bridge=bridge or guests.defaults.bridge,
            access=access,
        )
        guests.set_defaults(defaults)

    @keyword(tags=("guest",))
    def use_guest_channel(
        self,
        guest: Guest | str,
        channel: GuestChannel,
        *,
        user: str = "",
        password: Secret | None = None,
        key_file: Path | None = None,
        known_hosts: Path | None = None,
        host_key_name: str = "",
        address: str = "",
        port: int | None = None,
    ) -> None:
        """Choose the channel to one guest. All keywords then use this channel for the guest.

        - `agent` is the QEMU guest agent. It needs no network, no user and no password, but the agent must run in the
          guest.
        - `ssh` is an SSH server in the guest. The library connects to the server from the guest's host, so only the
          host needs a route to the guest. A guest that was defined with `network=True` has an IPv6 link-local address,
          which needs no DHCP server.
        - `serial` is a POSIX shell on the guest's serial console, through libvirt. The library logs in if the console
          asks for a login. If a shell is already open, the library uses this shell. The library ignores kernel messages
          between the output lines. The guest needs `base64`, `md5sum` and similar tools, as in coreutils and busybox,
          and free space in `$TMPDIR` or `/tmp`. The channel is slow if the guest's processor is emulated: about a
          kilobyte a second.

        The library connects on first use, so the guest can be started after this keyword. For an argument that is not
        given, the library uses the setting of [Set Guest Access] or of the hosts file, or else the default below.

        Args:
            guest: The guest or its name.
            channel: `agent`, `ssh` or `serial`.
            user: The user that logs in. The default is `root`.
            password: The user's password, as a `Secret`.
            key_file: A private key on this machine, for SSH.
            known_hosts: The file with the guest's SSH key. The library only reads the file.
            host_key_name: The name of the key in that file. The default is the guest's address.
            address: The address to which the host connects. The default is the guest's IPv6 link-local address on the
                host's bridge.
            port: The port of the guest's SSH server. The default is 22.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: `ssh` has no address, or a value is invalid.

        Example:

        ```robotframework
        *** Test Cases ***
        By Three Ways
            ${guest} =    Start New Guest    vpmem=ns_0    network=True
            Use Guest Channel    ${guest}    ssh
            Run In Guest    ${guest}    uname    -r
            Use Guest Channel    ${guest}    serial
            Run In Guest    ${guest}    uname    -r
            Use Guest Channel    ${guest}    agent
        ```
        """
        guests = self._session.current.guests
        access = _changed(
            guests.defaults.access,
            user=user,
            password=password,
            key_file=key_file,
            known_hosts=known_hosts,
            host_key_name=host_key_name,
            address=address,
            port=port,
        )
        guests.find(guest).use_channel(channel, access)

    @keyword(tags=("guest", "getter"))
    def get_guest_channel(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the channel that the library uses for a guest, and assert it if an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected channel: `agent`, `ssh` or `serial`.
            message: Your own failure text.

        Returns:
            The channel.

        Raises:
            NotFoundError: There is no such guest.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        The Agent Is The Default
            Get Guest Channel    ${guest}    ==    agent
        ```
        """
        found = self._session.current.guests.find(guest)
        return assert_text(str(found.channel), assertion_operator, expected, f"Channel of guest {found.name}", message)


def _changed(access: GuestAccess, **given: object) -> GuestAccess:
    """Return a copy of an access with the given values. None and empty text leave a value unchanged."""
    values: dict[str, Any] = {name: value for name, value in given.items() if value not in (None, "")}
    return replace(access, **{name: each.value if isinstance(each, Secret) else each for name, each in values.items()})
