"""An open host, with its guests, its leases and its settings."""

from __future__ import annotations

import contextlib
import math
import secrets
import time
from collections.abc import Iterator
from functools import cached_property

from VpmemLibrary.claims.host_claims import HostClaims
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import (
    ForeignError,
    InvalidValueError,
    LeaseLostError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel, address_of
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest, define_guest_from, find_guest, guests_of_run
from VpmemLibrary.guest.domain.domains import guest_names, running_guests
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.cxl_control import CxlControl
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.libvirt_daemon import SYSTEM
from VpmemLibrary.host.power import PowerControl, cut_power, restore_power
from VpmemLibrary.host.reboot import reboot
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import HOST_KEY, Holder, is_namespace_key, run_key
from VpmemLibrary.leases.reservations import Reservations, host_lock
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.reclaim import Reclaim
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.reporting import Reporting
from VpmemLibrary.sizes import GiB, Size
from VpmemLibrary.transport.base import Transport

# A worker keeps its leases for so many seconds after the timeout of a reboot or of a power cut. Then other workers may
# take the leases, in case the worker does not return.
_COMING_UP = 60.0
_WITHOUT_POWER = 900.0


class OpenHost:
    """An open host, with its guests, its leases and its settings.

    Args:
        host: The host.
        run: The run. Guests that are defined here carry its mark.
        inside: The guest, if this host is a guest. Such a host has no libvirt and no guests of its own.
        outer: The host that the guest runs on.
        reporting: Where the commands in its guests are reported.
    """

    def __init__(
        self,
        host: Host,
        run: RunMark,
        *,
        inside: Guest | None = None,
        outer: OpenHost | None = None,
        reporting: Reporting | None = None,
    ) -> None:
        self.host = host
        self._reporting = reporting or Reporting()
        host.ndctl.guard.lease_proofs = self.lease_proofs
        self.inside = inside
        self.outer = outer
        self.boot: BootSource | None = None
        self.access = GuestAccess()
        self.channel = GuestChannel.agent
        self.bridge = ""
        self.machine = ""
        self.confined = True
        self.may_initialize_labels = False
        self.may_reboot = False
        self.migration_address = ""
        self.libvirt = SYSTEM
        self.power: PowerControl | None = None
        self.cxl: CxlControl | None = None
        self.remembered: HostState | None = None
        self._run = run
        self._link: LibvirtLink | None = None
        self._guests: dict[str, Guest] = {}
        self._made = 0
        self._cut: str | None = None

    @cached_property
    def leases(self) -> HostLeases:
        """The leases of this worker on the host."""
        return HostLeases(self.host.transport, Holder.here(self._run.run_id, secrets.token_hex(8)))

    @cached_property
    def reservations(self) -> Reservations:
        """The reservations of this worker on the host."""
        return Reservations(self.leases, self.host.alias)

    def lease_proofs(self) -> tuple[LeaseProof, ...]:
        """Return the proofs that this worker still holds its leases on the host; none in a guest.

        Raises:
            LeaseLostError: The worker lost the lease on its host or region, and has not taken it again.
        """
        return () if self.inside else self.leases.proofs()

    def host_lock(self, work: str) -> contextlib.AbstractContextManager[None]:
        """Return a lock that lets one worker at a time do `work` on this host; it does nothing in a guest.

        Args:
            work: The work, e.g. ``initialize-labels``.
        """
        return contextlib.nullcontext() if self.inside else host_lock(self.leases, work, self.host.alias)

    @cached_property
    def claims(self) -> HostClaims:
        """The claimable namespaces of the host, and the claims of this worker."""
        return HostClaims(
            self.host,
            self._run,
            self.leases,
            self._clean,
            before_marking=self.show_alive,
            spread=secrets.token_hex(4),
        )

    @property
    def reclaim(self) -> Reclaim:
        """The `Reclaim` that removes the leftovers of dead runs from this host.

        Raises:
            UnsupportedError: The host is a guest.
        """
        self.refuse_inside()
        return Reclaim(self.host, self.link, self.leases)

    def _clean(self, namespace: Namespace, left_by: Holder) -> None:
        self.reclaim.clean(namespace, left_by)

    def show_alive(self) -> None:
        """Hold this run's own lease on the host, so that other runs do not treat its things as leftovers.

        Raises:
            LeaseLostError: This worker lost a lease there. The next call takes the run's own lease again. If the worker
                lost its host or region, it must take that lease again first.
            ToolMissingError: The host has no bash or no flock.
        """
        if self.inside is not None:  # the lease on the outer host already covers a guest
            return
        self.lease_proofs()
        key = run_key(self._run.run_id)
        if key in self.leases.held:
            self.leases.require([key])
        else:
            self.leases.take([[key]], shared=True)

    def new_uuid(self) -> str:
        """Return a UUID with this run's mark, for a namespace on the host."""
        self.show_alive()
        return self._run.new_uuid()

    @property
    def content(self) -> ContentStore:
        """The content store of the host, which reads and writes patterns."""
        return self.host.content

    @property
    def link(self) -> LibvirtLink:
        """The host's only libvirt connection. The first call opens it.

        Raises:
            UnsupportedError: The host is a guest.
        """
        self.refuse_inside()
        if self._link is None:
            self._link = LibvirtLink(self.host.transport, daemon=self.libvirt, timeout=lambda: self.host.ndctl.timeout)
        return self._link

    def guest_spec(
        self,
        *,
        name: str,
        memory: Size,
        vcpus: int,
        devices: tuple[VpmemDevice, ...],
        numa_cells: int = 1,
        spare_slots: int = 2,
        spare_memory: Size = Size(4 * GiB),
        network: bool = False,
        confined: bool | None = None,
    ) -> GuestSpec:
        """Return the specification of a new guest of this run.

        A guest that is reached over SSH always has a network.

        Raises:
            InvalidValueError: No boot image is set, no bridge is set for a network, or a value is invalid.
            UnsupportedError: The host is a guest.
        """
        self.refuse_inside()
        network = network or (self.channel is GuestChannel.ssh and not self.access.address)
        if network and not self.bridge:
            raise InvalidValueError(
                "guest network", "none", "a bridge of the host: guest_bridge in the hosts file, or Set Guest Access"
            )
        if self.boot is None:
            raise InvalidValueError(
                "guest image",
                "none",
                "guest_kernel and guest_initrd, or guest_disk, in the hosts file, or Set Guest Image",
            )
        self.show_alive()
        self._made += 1
        return GuestSpec(
            name=name or f"vpmem-{self._run.run_id}-{self._made}",
            boot=self.boot,
            devices=devices,
            memory=memory,
            vcpus=vcpus,
            run_id=self._run.run_id,
            numa_cells=numa_cells,
            spare_slots=spare_slots,
            spare_memory=spare_memory,
            machine=self.machine,
            bridge=self.bridge if network else "",
            confined=self.confined if confined is None else confined,
        )

    def define_guest(self, spec: GuestSpec, *, share_backing: bool = False, unshared: bool = False) -> Guest:
        """Define a guest that carries this run's mark.

        Raises:
            InvalidValueError: A device is invalid.
        """
        return self._keep(
            define_guest(
                self.host.transport,
                self.link,
                spec,
                share_backing=share_backing,
                unshared=unshared,
                wrap=self._wrap,
            )
        )

    def define_guest_from(
        self, xml: str, devices: tuple[VpmemDevice, ...], *, name: str = "", unshared: bool = False
    ) -> Guest:
        """Define a guest from a user's XML. The guest carries this run's mark.

        Raises:
            InvalidValueError: The XML is not domain XML, a device is invalid, or the guest is to be reached over SSH
                and has no address.
        """
        if self.channel is GuestChannel.ssh:
            address_of(self.access, name, xml)
        self.show_alive()
        return self._keep(
            define_guest_from(
                self.host.transport,
                self.link,
                xml,
                devices,
                run_id=self._run.run_id,
                name=name,
                unshared=unshared,
                wrap=self._wrap,
            )
        )

    def _wrap(self, transport: Transport) -> Transport:
        return self._reporting.wrap(transport, transport.name)

    def _keep(self, guest: Guest) -> Guest:
        if self.channel is not GuestChannel.agent:
            guest.use_channel(self.channel, self.access)
        self._guests[guest.name] = guest
        return guest

    def adopt_guest(self, name: str, devices: tuple[VpmemDevice, ...]) -> Guest:
        """Return a guest that was migrated to this host from another host of this run.

        Args:
            name: The name of the guest.
            devices: The devices that were requested for the guest.
        """
        return self._keep(Guest(self.host.transport, self.link, name, devices=devices, wrap=self._wrap))

    def forget_guest(self, name: str) -> None:
        """Forget a guest that is no longer on this host."""
        self._guests.pop(name, None)

    def guest(self, which: Guest | str) -> Guest:
        """Return a guest of this host. Any run or user may have defined the guest.

        Raises:
            NotFoundError: No guest has that name.
        """
        if not isinstance(which, str):
            return which
        if which not in self._guests:
            self._keep(find_guest(self.host.transport, self.link, which, wrap=self._wrap))
        return self._guests[which]

    def guest_names(self) -> list[str]:
        """Return the names of the host's guests; none if the host has no libvirt."""
        return [] if self.inside else guest_names(self.link)

    def state(self) -> HostState:
        """Return the current state of the host."""
        return HostState.read(self.host, self.guest_names(), () if self.inside else self.leases.entries())

    def undefine_guest(self, guest: Guest) -> None:
        """Undefine a guest and forget it."""
        lifecycle.undefine(guest)
        self._guests.pop(guest.name, guest).close()

    def foreign_guests_running(self) -> list[str]:
        """Return the names of the running guests that this run did not make; none if the host has no libvirt."""
        if self.inside:
            return []
        return [name for name, maker in running_guests(self.link) if maker != self._run.run_id]

    def remove_guests(self) -> list[str]:
        """Destroy and undefine the guests that this run made. Return their names."""
        removed: list[str] = []
        if self.inside:
            return removed
        for guest in guests_of_run(self.host.transport, self.link, self._run.run_id):
            if guest.state() != "shut off":
                lifecycle.destroy(guest)
            self.undefine_guest(guest)
            removed.append(guest.name)
        return removed

    def reboot(self, timeout: float) -> float:
        """Reboot the host in good order and wait until it answers with a new boot id. Return the seconds it took.

        Raises:
            UnsupportedError: The host is the machine that this process runs on.
            CommandError: The host refused to reboot.
            UnreachableError: The host did not answer with a new boot id within `timeout`.
            GuestError: The host is a guest, and did not answer with a new boot id within `timeout`.
        """
        started = time.monotonic()
        if self.inside is not None:
            lifecycle.reboot(self.inside, timeout)
            return time.monotonic() - started
        with self._kept_leases(timeout + _COMING_UP):
            took = reboot(self.host.transport, timeout=timeout)
        self._renew_leases()
        return took

    def require_may_reboot(self, action: str = "be rebooted") -> None:
        """Raise unless the host may be rebooted, and nobody else uses it.

        This worker must have an exclusive lease on the host, or be the only holder of any lease there.

        Args:
            action: The action that the message names.

        Raises:
            ForeignError: The host may not be rebooted, a foreign guest runs on it, or others hold leases there.
            LeaseLostError: This worker lost a lease there.
        """
        mend = "It was left as it is. Say foreign=True to do it anyway."
        if not self.may_reboot and self.inside is not None:
            raise ForeignError(f"Guest {self.inside.name} may not {action}: this run did not make it. {mend}")
        if not self.may_reboot:
            raise ForeignError(
                f"Host {self.host.alias} may not {action}: its section of the hosts file does not say "
                f"host_may_reboot = yes. {mend}"
            )
        if running := self.foreign_guests_running():
            raise ForeignError(
                f"Guests run on {self.host.alias} that this run did not make: {', '.join(running)}. {mend}"
            )
        if others := self._others_that_hold():
            raise ForeignError(
                f"Others use {self.host.alias}, which this worker does not have alone: {'; '.join(others)}. {mend} "
                "Or call Reserve Host before."
            )

    def _others_that_hold(self) -> list[str]:
        """Return the leases of other holders on the host; none if this worker has the host alone."""
        if self.inside is not None:
            return []
        self.lease_proofs()
        if self.reservations.has_host_alone:
            self.leases.require([HOST_KEY])
            return []
        return [
            f"{entry.key} is {entry.description}"
            for entry in self.leases.entries()
            if entry.held and entry.holder.token != self.leases.holder.token
        ]

    def require_cxl_control(self) -> CxlControl:
        """Return the control that adds a CXL device to the host and removes it.

        Raises:
            UnsupportedError: The host is a guest, or has no such control.
        """
        if self.inside is not None:
            raise UnsupportedError(f"{self.host.alias} is guest {self.inside.name}: a guest is given no CXL device.")
        if self.cxl is None:
            raise UnsupportedError(
                f"No CXL device can be added to {self.host.alias}: say host_cxl_add and host_cxl_remove, a command "
                "each, in its section of the hosts file."
            )
        return self.cxl

    def require_power_control(self) -> PowerControl:
        """Return the control that switches the host off and on.

        Raises:
            UnsupportedError: The host is a guest, or has no such control.
        """
        if self.inside is not None:
            raise UnsupportedError(f"{self.host.alias} is guest {self.inside.name}: Stop Guest with how=kill ends it.")
        if self.power is None:
            raise UnsupportedError(
                f"The power of {self.host.alias} cannot be cut: say host_power_off and host_power_on, a command each, "
                "in its section of the hosts file."
            )
        return self.power

    def cut_power(self, timeout: float) -> None:
        """Cut the host's power and wait until the host no longer answers.

        Raises:
            UnsupportedError: The host has no power control, or is the machine that this process runs on.
            CommandError: The command failed, or the host still answers.
        """
        control = self.require_power_control()
        with self._kept_leases(timeout + _WITHOUT_POWER):
            self._cut = cut_power(self.host.transport, control, timeout=timeout)

    def restore_power(self, timeout: float) -> float:
        """Restore the host's power and wait until the host and its libvirt answer. Return the seconds it took.

        Raises:
            UnsupportedError: The host's power was not cut.
            CommandError: The command failed.
            UnreachableError: The host did not answer with a new boot id within `timeout`.
            LibvirtError: libvirt was used before, and did not answer within `timeout`.
        """
        if self._cut is None:
            raise UnsupportedError(f"{self.host.alias} has its power: Cut Host Power did not cut it.")
        started = time.monotonic()
        restore_power(self.host.transport, self.require_power_control(), self._cut, timeout=timeout)
        self._cut = None
        self._renew_leases()
        if self._link is not None:
            self._link.wait_until_it_answers(timeout - (time.monotonic() - started))
            for guest in guests_of_run(self.host.transport, self._link, self._run.run_id):
                lifecycle.remove_power_loss_leftovers(guest)
        return time.monotonic() - started

    def close(self) -> None:
        """Close the connections. Programs that run on the host continue."""
        link, self._link = self._link, None
        guests = list(self._guests.values())
        self._guests.clear()
        with contextlib.ExitStack() as stack:  # close all, guests first, even if one close fails
            stack.callback(self.host.close)
            if link is not None:
                stack.callback(link.close)
            stack.callback(self._end_leases)
            for guest in guests:
                stack.callback(guest.close)

    def refuse_inside(self) -> None:
        """Raise if the host is a guest.

        Raises:
            UnsupportedError: The host is a guest, which has no libvirt.
        """
        if self.inside is not None:
            raise UnsupportedError(
                f"{self.host.alias} is guest {self.inside.name}, opened as a host: no libvirt is reached in a guest, "
                "so there are no guests of its own. Switch Host to the host that it runs on."
            )

    @contextlib.contextmanager
    def _kept_leases(self, seconds: float) -> Iterator[None]:
        """Keep this worker's leases on the host while the host goes down in the ``with``."""
        if self.inside is not None:
            yield
            return
        self.leases.keep(math.ceil(seconds))
        try:
            yield
        except VpmemError:
            with contextlib.suppress(VpmemError):  # an unreachable host keeps the leases until the time ends
                self.leases.keep(0)
            raise

    def _renew_leases(self) -> None:
        """Re-acquire the leases that were held before the host booted, before another worker takes them."""
        self.leases.require(self.leases.held)

    def _end_leases(self) -> None:
        """Release the leases of this worker and its run, but no claims: their namespaces were not wiped."""
        try:
            self.leases.release(key for key in self.leases.held if not is_namespace_key(key))
        except LeaseLostError:
            raise
        except VpmemError:  # a broken connection holds no leases
            pass
        finally:
            self.leases.close()
