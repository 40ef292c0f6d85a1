"""The settings of new guests on a host."""

from __future__ import annotations

from msgspec import Struct, field

from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.domain.records import BootSource
from VpmemLibrary.host.hosts_entry import HostEntry


class GuestDefaults(Struct, frozen=True):
    """The settings of guests that a session defines or uses first on a host. `msgspec.structs.replace` changes a copy.

    Args:
        boot: The kernel or disk image from which guests boot. None if no image is set.
        channel: The channel by which commands run in guests.
        access: The login to guests.
        bridge: The bridge of the host for guests with a network. Empty if there is none.
        machine: QEMU's machine type. Empty means ``pc``, or ``q35`` if QEMU has no ``pc``.
        confined: Whether the host's security driver confines guests.
        migration_address: The address by which QEMU on other hosts reaches this host. Empty means the host's name.

    Example: ``replace(opened.guests.defaults, machine="q35")``.
    """

    boot: BootSource | None = None
    channel: GuestChannel = GuestChannel.agent
    access: GuestAccess = field(default_factory=GuestAccess)
    bridge: str = ""
    machine: str = ""
    confined: bool = True
    migration_address: str = ""

    @classmethod
    def of(cls, entry: HostEntry) -> GuestDefaults:
        """Return the guest settings from a section of a hosts file.

        Raises:
            InvalidValueError: The environment variable with the guests' password is not set.
        """
        boot = None
        if entry.guest_kernel or entry.guest_disk:
            boot = BootSource(
                kernel=entry.guest_kernel,
                initrd=entry.guest_initrd,
                cmdline=entry.guest_cmdline,
                disk=entry.guest_disk,
            )
        access = GuestAccess(
            user=entry.guest_user,
            password=entry.guest_password(),
            key_file=entry.guest_key_file,
            known_hosts=entry.guest_known_hosts,
            host_key_name=entry.guest_host_key_name,
            sudo=entry.guest_sudo,
        )
        return cls(
            boot=boot,
            channel=GuestChannel(entry.guest_channel),
            access=access,
            bridge=entry.guest_bridge,
            machine=entry.guest_machine,
            confined=entry.guest_confined,
            migration_address=entry.migration_address,
        )
