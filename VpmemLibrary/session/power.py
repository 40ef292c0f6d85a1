"""Reboot an open host, and cut and restore its power, while this worker keeps its leases there."""

from __future__ import annotations

import time

from VpmemLibrary.errors import ForeignError, UnsupportedError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.power import PowerControl, cut_power, restore_power
from VpmemLibrary.host.reboot import reboot
from VpmemLibrary.session.guests import Guests
from VpmemLibrary.session.policy import Policy
from VpmemLibrary.session.tenancy import Tenancy

# Seconds for which a worker keeps its leases after the timeout of a reboot or a power cut. Afterwards other workers may
# take the leases, because the worker may be dead.
_AFTER_REBOOT = 60.0
_WITHOUT_POWER = 900.0


class Power:
    """Reboot one open host, and switch its power.

    Args:
        host: The host.
        policy: What is allowed on the host.
        guests: The guests of the host.
        tenancy: The leases of this worker on the host.
        guest: The guest, if the host is a guest.
    """

    def __init__(
        self, host: Host, policy: Policy, guests: Guests, tenancy: Tenancy, *, guest: Guest | None = None
    ) -> None:
        self._host = host
        self._policy = policy
        self._guests = guests
        self._tenancy = tenancy
        self._guest = guest
        self._ended_boot: str | None = None

    def require_permission(self, action: str = "be rebooted") -> None:
        """Raise unless the host may be rebooted, and nobody else uses it.

        This worker must have an exclusive lease on the host, or be the only holder of any lease there.

        Args:
            action: What the host may not do, for the message.

        Raises:
            ForeignError: The host may not be rebooted, a foreign guest runs on it, or other workers have leases on it.
            LeaseLostError: This worker lost a lease there.
        """
        alias = self._host.alias
        fix = "Nothing was changed. Use foreign=True to do it anyway."
        if not self._policy.may_reboot and self._guest is not None:
            raise ForeignError(f"Guest {self._guest.name} may not {action}: this run did not make it. {fix}")
        if not self._policy.may_reboot:
            raise ForeignError(
                f"Host {alias} may not {action}: its section of the hosts file does not have host_may_reboot = yes. "
                f"{fix}"
            )
        if running := self._guests.foreign_running():
            raise ForeignError(f"{alias} runs guests that this run did not make: {', '.join(running)}. {fix}")
        if others := self._tenancy.leases_of_others():
            raise ForeignError(
                f"Other workers use {alias}: {'; '.join(others)}. {fix} Or reserve the host first (Reserve Host)."
            )

    def require_control(self) -> PowerControl:
        """Return the commands that cut and restore the host's power.

        Raises:
            UnsupportedError: The host is a guest, or its section of the hosts file has no such commands.
        """
        if self._guest is not None:
            raise UnsupportedError(
                f"{self._host.alias} is guest {self._guest.name}. Kill it by Stop Guest with how=kill."
            )
        if self._policy.power is None:
            raise UnsupportedError(
                f"{self._host.alias} has no commands that cut and restore its power. Set host_power_off and "
                "host_power_on in its section of the hosts file, each to a command."
            )
        return self._policy.power

    def reboot(self, timeout: float) -> float:
        """Reboot the host in good order. Wait until it answers with a new boot id. Return the seconds that this took.

        Args:
            timeout: Maximum seconds until the host answers again.

        Raises:
            UnsupportedError: The host is the machine that this process runs on.
            CommandError: The host refused to reboot.
            UnreachableError: The host did not answer with a new boot id within `timeout`.
            GuestError: The host is a guest, and did not answer with a new boot id within `timeout`.
        """
        started = time.monotonic()
        if self._guest is not None:
            lifecycle.reboot(self._guest, timeout)
            return time.monotonic() - started
        with self._tenancy.kept(timeout + _AFTER_REBOOT):
            took = reboot(self._host.transport, timeout=timeout)
        self._tenancy.renew()
        return took

    def cut(self, timeout: float) -> None:
        """Cut the host's power and wait until the host no longer answers.

        Args:
            timeout: Maximum seconds until the host no longer answers.

        Raises:
            UnsupportedError: The host has no commands for its power, or is the machine that this process runs on.
            CommandError: The command failed, or the host still answers.
        """
        control = self.require_control()
        with self._tenancy.kept(timeout + _WITHOUT_POWER):
            self._ended_boot = cut_power(self._host.transport, control, timeout=timeout)

    def restore(self, timeout: float) -> float:
        """Restore the host's power. Wait until the host and its libvirt answer. Return the seconds that this took.

        Args:
            timeout: Maximum seconds until the host and libvirt answer.

        Raises:
            UnsupportedError: The host's power was not cut.
            CommandError: The command failed.
            UnreachableError: The host did not answer with a new boot id within `timeout`.
            LibvirtError: libvirt was used before, and did not answer within `timeout`.
        """
        if self._ended_boot is None:
            raise UnsupportedError(f"The power of {self._host.alias} is on: Cut Host Power did not cut it.")
        started = time.monotonic()
        restore_power(self._host.transport, self.require_control(), self._ended_boot, timeout=timeout)
        self._ended_boot = None
        self._tenancy.renew()
        self._guests.recover_from_power_loss(timeout - (time.monotonic() - started))
        return time.monotonic() - started
