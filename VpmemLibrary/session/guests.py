"""The guests of an open host: define new guests, find guests, and remove the guests of this run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.channels import GuestChannel, address_of
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest, define_guest_from, find_guest, guests_of_run
from VpmemLibrary.guest.domain.domains import guest_names, running_guests
from VpmemLibrary.guest.domain.records import GuestSpec, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.reporting import Reporting
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import Transport


class Guests:
    """The guests of one open host.

    Args:
        host: The host.
        run: The run. Its mark is put on each guest that is defined here.
        defaults: The settings of new guests.
        libvirt: The libvirt daemon of the host to use.
        hold_run_lease: Called before a guest is marked; see `Tenancy.hold_run_lease`.
        reporting: Reports the commands that run in guests.
        inside: The guest, if the host is a guest. Such a host has no libvirt and no guests of its own.
    """

    def __init__(
        self,
        host: Host,
        run: RunMark,
        defaults: GuestDefaults,
        *,
        libvirt: Daemon = SYSTEM,
        hold_run_lease: Callable[[], None],
        reporting: Reporting,
        inside: Guest | None = None,
    ) -> None:
        self._host = host
        self._run = run
        self._defaults = defaults
        self._libvirt = libvirt
        self._hold_run_lease = hold_run_lease
        self._reporting = reporting
        self._inside = inside
        self._link: LibvirtLink | None = None
        self._guests: dict[str, Guest] = {}
        self._made = 0

    @property
    def defaults(self) -> GuestDefaults:
        """The settings of guests that are defined or first used from now on."""
        return self._defaults

    def set_defaults(self, defaults: GuestDefaults) -> None:
        """Replace the settings of guests that are defined or first used from now on."""
        self._defaults = defaults

    @property
    def link(self) -> LibvirtLink:
        """The host's only libvirt connection. The first call opens it.

        Raises:
            UnsupportedError: The host is a guest.
        """
        self.require_libvirt()
        if self._link is None:
            self._link = LibvirtLink(
                self._host.transport, daemon=self._libvirt, timeout=lambda: self._host.ndctl.timeout
            )
        return self._link

    def require_libvirt(self) -> None:
        """Raise if the host has no libvirt.

        Raises:
            UnsupportedError: The host is a guest.
        """
        if self._inside is not None:
            raise UnsupportedError(
                f"{self._host.alias} is guest {self._inside.name}, opened as a host. The library uses no libvirt "
                "in a guest, so this host has no guests. Switch to the host that runs the guest (Switch Host)."
            )

    def spec(
        self,
        *,
        name: str = "",
        memory: Size = Size(256 * MiB),
        vcpus: int = 1,
        devices: tuple[VpmemDevice, ...] = (),
        numa_cells: int = 1,
        spare_slots: int = 2,
        spare_memory: Size = Size(4 * GiB),
        network: bool = False,
        confined: bool | None = None,
    ) -> GuestSpec:
        """Return the specification of a new guest of this run.

        A guest whose channel is SSH gets a network, unless `defaults` has an address for it.

        Args:
            name: The guest's name. The default is a new name that contains the run's id.
            memory: The guest's RAM, without the devices.
            vcpus: The number of virtual CPUs.
            devices: The devices, in order.
            numa_cells: The number of the guest's NUMA nodes.
            spare_slots: The number of free memory slots.
            spare_memory: The total size of devices that can be attached later.
            network: Whether the guest has a network interface on the bridge of `defaults`.
            confined: Whether the security driver confines the guest. None means the setting of `defaults`.

        Raises:
            InvalidValueError: No boot image is set, no bridge is set for a network, or a value is invalid.
            UnsupportedError: The host is a guest.
        """
        self.require_libvirt()
        defaults = self._defaults
        network = network or (defaults.channel is GuestChannel.ssh and not defaults.access.address)
        if network and not defaults.bridge:
            raise InvalidValueError(
                "guest_bridge",
                "",
                "a bridge of the host for the guest's network, in the hosts file or by Set Guest Access",
            )
        if defaults.boot is None:
            raise InvalidValueError(
                "guest image",
                "",
                "an image to boot: guest_kernel and guest_initrd, or guest_disk, in the hosts file, or Set Guest Image",
            )
        self._hold_run_lease()
        self._made += 1
        return GuestSpec(
            name=name or f"vpmem-{self._run.run_id}-{self._made}",
            boot=defaults.boot,
            devices=devices,
            memory=memory,
            vcpus=vcpus,
            run_id=self._run.run_id,
            numa_cells=numa_cells,
            spare_slots=spare_slots,
            spare_memory=spare_memory,
            machine=defaults.machine,
            bridge=defaults.bridge if network else "",
            confined=defaults.confined if confined is None else confined,
        )

    def define(self, spec: GuestSpec, *, share_backing: bool = False, unshared: bool = False) -> Guest:
        """Define a guest that carries this run's mark.

        Args:
            spec: The result of `spec`.
            share_backing: Allow a backing that another running guest uses.
            unshared: Allow devices without shared access, on which nothing persists.

        Raises:
            InvalidValueError: A device is invalid.
        """
        return self._keep(
            define_guest(
                self._host.transport,
                self.link,
                spec,
                share_backing=share_backing,
                unshared=unshared,
                wrap=self._wrap,
            )
        )

    def define_from(
        self, xml: str, devices: tuple[VpmemDevice, ...] = (), *, name: str = "", unshared: bool = False
    ) -> Guest:
        """Define a guest from a user's XML. The guest carries this run's mark.

        Args:
            xml: The domain XML.
            devices: The devices to add.
            name: A name to use instead of the name in the XML.
            unshared: Allow devices without shared access, on which nothing persists.

        Raises:
            InvalidValueError: `xml` is not domain XML, a device is invalid, or the channel is SSH and the guest has no
                address.
        """
        if self._defaults.channel is GuestChannel.ssh:
            address_of(self._defaults.access, name, xml)
        self._hold_run_lease()
        return self._keep(
            define_guest_from(
                self._host.transport,
                self.link,
                xml,
                devices,
                run_id=self._run.run_id,
                name=name,
                unshared=unshared,
                wrap=self._wrap,
            )
        )

    def adopt(self, name: str, devices: tuple[VpmemDevice, ...]) -> Guest:
        """Return a guest that was migrated to this host from another host of this run.

        Args:
            name: The name of the guest.
            devices: The devices that were requested for the guest.
        """
        return self._keep(Guest(self._host.transport, self.link, name, devices=devices, wrap=self._wrap))

    def find(self, which: Guest | str) -> Guest:
        """Return a guest of this host. Any run or user may have defined the guest.

        Args:
            which: The guest or its name.

        Raises:
            NotFoundError: No guest has that name.
        """
        if not isinstance(which, str):
            return which
        if which not in self._guests:
            self._keep(find_guest(self._host.transport, self.link, which, wrap=self._wrap))
        return self._guests[which]

    def names(self) -> list[str]:
        """Return the names of the host's guests; none if the host is a guest."""
        return [] if self._inside else guest_names(self.link)

    def foreign_running(self) -> list[str]:
        """Return the names of the running guests that this run did not make; none if the host is a guest."""
        if self._inside:
            return []
        return [name for name, maker in running_guests(self.link) if maker != self._run.run_id]

    def running(self) -> list[str]:
        """Return the names of all running guests; none if the host is a guest."""
        return [] if self._inside else [name for name, _ in running_guests(self.link)]

    def forget(self, name: str) -> None:
        """Forget a guest that is no longer on this host."""
        self._guests.pop(name, None)

    def undefine(self, guest: Guest) -> None:
        """Undefine a guest and forget it."""
        lifecycle.undefine(guest)
        self._guests.pop(guest.name, guest).close()

    def remove_own(self) -> list[str]:
        """Destroy and undefine the guests that this run made. Return their names."""
        removed: list[str] = []
        if self._inside:
            return removed
        for guest in guests_of_run(self._host.transport, self.link, self._run.run_id):
            lifecycle.remove(guest)
            self._guests.pop(guest.name, guest).close()
            removed.append(guest.name)
        return removed

    def recover_from_power_loss(self, timeout: float) -> None:
        """Wait until libvirt answers again after a power loss. Then clear what it still has of this run's guests.

        Do nothing if libvirt was not used before.

        Args:
            timeout: Maximum seconds until libvirt answers.

        Raises:
            LibvirtError: libvirt did not answer within `timeout`.
        """
        if self._link is None:
            return
        self._link.wait_until_it_answers(timeout)
        for guest in guests_of_run(self._host.transport, self._link, self._run.run_id):
            lifecycle.remove_power_loss_leftovers(guest)

    def close(self) -> None:
        """Close the connections into the guests and to libvirt, even if closing one of them fails."""
        link, self._link = self._link, None
        guests = list(self._guests.values())
        self._guests.clear()
        with contextlib.ExitStack() as stack:
            if link is not None:
                stack.callback(link.close)
            for guest in guests:
                stack.callback(guest.close)

    def _wrap(self, transport: Transport) -> Transport:
        return self._reporting.wrap(transport, transport.name)

    def _keep(self, guest: Guest) -> Guest:
        if self._defaults.channel is not GuestChannel.agent:
            guest.use_channel(self._defaults.channel, self._defaults.access)
        self._guests[guest.name] = guest
        return guest
