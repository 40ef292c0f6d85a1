"""Keywords that choose the way into a guest: its agent, SSH, or its serial console."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from robot.api.deco import keyword
from robot.api.types import Secret

from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy


class ChannelKeywords:
    """The ways into guests."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        """Say how guests of the current host are looked into and who logs in, in the place of what the hosts file says.

        It holds for guests that are defined or named from now on; [Use Guest Channel] changes it for one guest. An
        argument that is not given leaves its setting as it is. The hosts file gives the first settings.

        Args:
            channel: `agent`, `ssh` or `serial`; at first what the hosts file says, or else `agent`.
            user: Who logs in, over SSH or on the serial console; at first `root`.
            password: The user's password, as a `Secret`.
            key_file: A private key on this machine, for SSH.
            key_passphrase: What the private key is locked with, as a `Secret`.
            known_hosts: The file that holds the guests' SSH key; at first `~/.ssh/known_hosts`. It is never written.
            host_key_name: The name that it has the key under; at first each guest's address.
            host_key: `strict` refuses an unknown or changed SSH key; `accept_new` takes an unknown one for this run. At
                first `strict`.
            sudo: Run commands through `sudo -n`.
            bridge: The bridge of the host that guests with a network are put on.

        Example:

        ```robotframework
        *** Test Cases ***
        Guests Without The Agent
            Set Guest Access    serial    user=qa    password=${PASSWORD}    sudo=True
            ${guest} =    Start New Guest    vpmem=ns_0
        ```
        """
        opened = self._context.current
        opened.channel = channel or opened.channel
        opened.bridge = bridge or opened.bridge
        opened.access = _changed(
            opened.access,
            user=user,
            password=password,
            key_file=key_file,
            key_passphrase=key_passphrase,
            known_hosts=known_hosts,
            host_key_name=host_key_name,
            host_key=host_key,
            sudo=sudo,
        )

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
        """Look into a guest another way from now on: every keyword that takes this guest goes through the channel.

        - `agent` is the QEMU guest agent: no network, no user and no password, but the agent must run in the guest.
        - `ssh` is an SSH server in the guest. It is reached from the guest's host, through the host's own connection,
          so that the guest's address needs to be known there only. A guest that was defined with `network=True` has an
          address that needs no server: its IPv6 link-local one.
        - `serial` is a POSIX shell on the guest's serial console, by libvirt. Where the console asks for a log-in, the
          user logs in; a shell that is open is used as it is. What the kernel writes in between does no harm. It needs
          `base64`, `md5sum` and such, as coreutils and busybox have them, and room in `$TMPDIR` or `/tmp`. It is slow
          where a guest's processor is emulated: about a kilobyte a second.

        Nothing is connected before it is used, so a guest may be started after this.

        Args:
            guest: The guest or its name.
            channel: `agent`, `ssh` or `serial`.
            user: Who logs in; what the hosts file or [Set Guest Access] says by default, as with all that follow.
            password: The user's password, as a `Secret`.
            key_file: A private key on this machine, for SSH.
            known_hosts: The file that holds the guest's SSH key, read and never written.
            host_key_name: The name that it has the key under; by default the guest's address.
            address: The guest's address as its host knows it; by default its IPv6 link-local one on the host's bridge.
            port: Its SSH port, 22 by default.

        Raises:
            NotFoundError: There is no such guest.
            InvalidValueError: `ssh` has no address, or a value cannot be.

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
        opened = self._context.current
        access = _changed(
            opened.access,
            user=user,
            password=password,
            key_file=key_file,
            known_hosts=known_hosts,
            host_key_name=host_key_name,
            address=address,
            port=port,
        )
        opened.guest(guest).use_channel(channel, access)

    @keyword(tags=("guest", "getter"))
    def get_guest_channel(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the channel by which a guest is looked into, and assert it when an operator is given.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The channel that is expected: `agent`, `ssh` or `serial`.
            message: Your own failure text.

        Returns:
            The channel.

        Raises:
            NotFoundError: There is no such guest.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        By The Agent Unless Told Otherwise
            Get Guest Channel    ${guest}    ==    agent
        ```
        """
        found = self._context.current.guest(guest)
        return assert_text(str(found.channel), assertion_operator, expected, f"Channel of guest {found.name}", message)


def _changed(access: GuestAccess, **given: object) -> GuestAccess:
    """Return an access with what was given in the place of what it had."""
    values: dict[str, Any] = {name: value for name, value in given.items() if value not in (None, "")}
    return replace(access, **{name: each.value if isinstance(each, Secret) else each for name, each in values.items()})
