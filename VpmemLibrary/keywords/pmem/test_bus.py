"""Keywords that exchange a host's NVDIMMs for a test bus."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.errors import BusyError, VpmemError
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.session.session import Session


class TestBusKeywords:
    """Keywords for a test bus."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("host", "destructive"))
    def add_test_bus(self, *, timeout: timedelta = timedelta(minutes=3)) -> tuple[Region, ...]:
        """Exchange the NVDIMMs of the current host for a test bus, with the command `host_test_bus_add`.

        A test bus is a bus of the kernel's `nfit_test` module. It supports injected errors and SMART values,
        passphrases and firmware. Its regions share DIMMs, as interleaved regions do. Its memory is volatile. The kernel
        cannot map it, so this library refuses guests and device DAX there. [Remove Test Bus] or a reboot brings the
        NVDIMMs back, with their content. The command is a setting of the host's section of the hosts file, and runs on
        the machine that runs the tests. The lab's hosts file has a command of its own.

        Args:
            timeout: How long the command may take.

        Returns:
            The regions of the test bus that can have namespaces, the largest first.

        Raises:
            UnsupportedError: The host's section has no `host_test_bus_add` and `host_test_bus_remove`, or the host is a
                guest.
            ForeignError: The host may not be rebooted, or other workers use it: see [Reboot Host].
            BusyError: A guest runs on the host.
            CommandError: The command failed, for example because a namespace is in use.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup       Add Test Bus
        Suite Teardown    Remove Test Bus
        ```
        """
        control = self._session.current.require_test_bus_control()
        self._require_idle("have its NVDIMMs exchanged for a test bus")
        control.run(add=True, timeout=timeout.total_seconds())
        if not (regions := self._regions()):
            raise VpmemError(
                f"{self._session.host.alias} has no test bus although host_test_bus_add succeeded. The command must "
                "wait until the kernel has the bus. Check with `ndctl list -BR` on the host."
            )
        return regions

    @keyword(tags=("host", "destructive"))
    def remove_test_bus(self, *, timeout: timedelta = timedelta(minutes=3)) -> None:
        """Give the current host its NVDIMMs back, with the command `host_test_bus_remove`.

        All content of the test bus is lost.

        Args:
            timeout: How long the command may take.

        Raises:
            UnsupportedError: The host's section has no `host_test_bus_add` and `host_test_bus_remove`, or the host is a
                guest.
            ForeignError: The host may not be rebooted, or other workers use it: see [Reboot Host].
            CommandError: The command failed, for example because a namespace is in use.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Remove Test Bus
        ```
        """
        control = self._session.current.require_test_bus_control()
        self._require_idle("have its test bus removed")
        control.run(add=False, timeout=timeout.total_seconds())
        if regions := self._regions():
            names = ", ".join(region.dev for region in regions)
            raise VpmemError(
                f"{self._session.host.alias} still has regions of a test bus although host_test_bus_remove succeeded: "
                f"{names}. A reboot brings the NVDIMMs back."
            )

    def _require_idle(self, action: str) -> None:
        opened = self._session.current
        opened.power.require_permission(action)
        if running := opened.guests.running():
            raise BusyError(
                f"Host {opened.alias} may not {action}: guests run there ({', '.join(running)}). Stop them first."
            )

    def _regions(self) -> tuple[Region, ...]:
        regions = [
            region
            for region in self._session.host.ndctl.inventory().regions
            if region.provider.startswith(TEST_BUS) and region.dimms and region.holds_namespaces
        ]
        return tuple(sorted(regions, key=lambda region: region.size, reverse=True))
