"""An open host: the host itself, what is allowed on it, its guests, and this worker's leases there."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.ownership.leaks import HostState
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.guests import Guests
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.power import Power
from VpmemLibrary.session.reporting import Reporting
from VpmemLibrary.session.tenancy import Tenancy

if TYPE_CHECKING:
    from VpmemLibrary.leases.host_leases import HostLeases


class OpenHost:
    """An open host. `Session` opens hosts.

    Args:
        host: The host.
        run: The run that this worker belongs to.
        policy: What is allowed on the host.
        guest_defaults: The settings of new guests.
        libvirt: The libvirt daemon of the host to use.
        reporting: Reports the commands that run in guests.
        leases: The leases of this worker on the host. The default is leases of a new holder.
        guest: The guest, if the host is a guest. Such a host has no libvirt and no guests of its own.
        outer_host: The host that the guest runs on.

    Attributes:
        host: The host itself: its regions, namespaces, files and commands.
        policy: What is allowed on the host.
        guests: The guests of the host.
        tenancy: The leases, reservations and claims of this worker.
        power: Reboot the host and switch its power.
        guest: The guest, if the host is a guest.
        outer_host: The host that the guest runs on.
    """

    def __init__(
        self,
        host: Host,
        run: RunMark,
        *,
        policy: Policy | None = None,
        guest_defaults: GuestDefaults | None = None,
        libvirt: Daemon = SYSTEM,
        reporting: Reporting | None = None,
        leases: HostLeases | None = None,
        guest: Guest | None = None,
        outer_host: OpenHost | None = None,
    ) -> None:
        self.host = host
        self.policy = policy or Policy()
        self.guest = guest
        self.outer_host = outer_host
        self.tenancy = Tenancy(
            host,
            run,
            leases or _new_leases(host, run),
            lambda: self.guests.link,
            in_guest=guest is not None,
        )
        self.guests = Guests(
            host,
            run,
            guest_defaults or GuestDefaults(),
            libvirt=libvirt,
            hold_run_lease=self.tenancy.hold_run_lease,
            reporting=reporting or Reporting(),
            inside=guest,
        )
        self.power = Power(host, self.policy, self.guests, self.tenancy, guest=guest)
        self._remembered: HostState | None = None
        host.ndctl.guard.use_lease_proofs(self.tenancy.lease_proofs)

    @property
    def alias(self) -> str:
        """The host's alias."""
        return self.host.alias

    @property
    def remembered(self) -> HostState | None:
        """The state that `remember_state` read. None before the first call."""
        return self._remembered

    def state(self) -> HostState:
        """Return the current state of the host, with the names that its regions had when the state was remembered."""
        return self.state_with(self._remembered.regions if self._remembered else {})

    def state_with(self, regions: Mapping[str, str]) -> HostState:
        """Return the current state of the host, with the names of its regions in an earlier state."""
        return HostState.read(self.host, self.guests.names(), self.tenancy.entries(), regions)

    def remember_state(self) -> None:
        """Read the current state of the host and keep it in `remembered`."""
        self._remembered = self.state()

    def require_cxl_control(self) -> BusControl:
        """Return the control that adds a CXL device to the host and removes it.

        Raises:
            UnsupportedError: The host is a guest, or has no such control.
        """
        return self._require_bus_control(self.policy.cxl, "CXL device", "host_cxl")

    def require_test_bus_control(self) -> BusControl:
        """Return the control that adds a test bus to the host and removes it.

        Raises:
            UnsupportedError: The host is a guest, or has no such control.
        """
        return self._require_bus_control(self.policy.test_bus, "test bus", "host_test_bus")

    def _require_bus_control(self, control: BusControl | None, what: str, field: str) -> BusControl:
        if self.guest is not None:
            raise UnsupportedError(f"{self.alias} is guest {self.guest.name}: no {what} can be added to a guest.")
        if control is None:
            raise UnsupportedError(
                f"{self.alias} has no commands that add and remove a {what}. Set {field}_add and {field}_remove in its "
                "section of the hosts file, each to a command."
            )
        return control

    def close(self) -> None:
        """Close the connections, even if closing one of them fails. Programs that run on the host continue.

        Raises:
            LeaseLostError: This worker lost a lease, and this was not reported yet.
        """
        with contextlib.ExitStack() as stack:  # the last is called first
            stack.callback(self.host.close)
            stack.callback(self.tenancy.end)
            stack.callback(self.guests.close)


def _new_leases(host: Host, run: RunMark) -> HostLeases:
    from VpmemLibrary.leases.host_leases import HostLeases  # noqa: PLC0415  needed only with a host

    return HostLeases(host.transport, Holder.here(run.run_id, secrets.token_hex(8)))
