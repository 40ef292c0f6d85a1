"""The disruptive actions that the owner of a host allows in the hosts file."""

from __future__ import annotations

from msgspec import Struct

from VpmemLibrary.host.bus_control import BusControl
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.power import PowerControl


class Policy(Struct, frozen=True):
    """The disruptive actions that are allowed on a host, and the commands for them.

    Args:
        may_reboot: Whether the host may be rebooted, and its power cut.
        may_initialize_labels: Whether labels may be written to a region without labels. This destroys its content.
        power: The commands that cut and restore the host's power. None if the host has no such commands.
        cxl: The commands that add and remove a CXL device. None if the host has no such commands.
        test_bus: The commands that add and remove a test bus. None if the host has no such commands.

    Example: ``Policy(may_initialize_labels=True)``.
    """

    may_reboot: bool = False
    may_initialize_labels: bool = False
    power: PowerControl | None = None
    cxl: BusControl | None = None
    test_bus: BusControl | None = None

    @classmethod
    def of(cls, entry: HostEntry) -> Policy:
        """Return the policy from a section of a hosts file."""
        return cls(entry.may_reboot, entry.may_initialize_labels, entry.power, entry.cxl, entry.test_bus)
