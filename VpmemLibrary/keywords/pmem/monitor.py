"""Keywords that wait for the events of DIMMs."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.media.monitor import DimmEvent, DimmEventKind, DimmMonitor
from VpmemLibrary.pmem.records import Dimm
from VpmemLibrary.session.session import Session


class MonitorKeywords:
    """Keywords for ``ndctl monitor``."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("health",))
    def start_dimm_monitor(self, *dimms: Dimm | str, timeout: timedelta = timedelta(minutes=1)) -> DimmMonitor:
        """Start `ndctl monitor` on the current host, and wait until it watches the DIMMs.

        The monitor ends with [Stop Dimm Monitor] or when the host is closed. It switches on the temperature alarm of a
        DIMM's controller.

        Args:
            *dimms: The records or names of the DIMMs, e.g. `nmem0`.
            timeout: How long the start may take.

        Returns:
            The monitor, for [Wait For Dimm Event] and [Stop Dimm Monitor].

        Raises:
            NotFoundError: There is no such DIMM. The message lists the existing DIMMs.
            VpmemError: ndctl monitor ended, or does not watch the DIMMs within `timeout`.

        Example:

        ```robotframework
        *** Test Cases ***
        An Alarm
            ${monitor} =    Start Dimm Monitor    nmem0
            Inject Smart    nmem0    fatal=True
            Wait For Dimm Event    ${monitor}    nmem0    health_state
            [Teardown]    Stop Dimm Monitor    ${monitor}
        ```
        """
        ndctl = self._session.host.ndctl
        listed = ndctl.inventory()
        names = [ndctl.dimm(dimm, listed).dev for dimm in dimms]
        monitor = DimmMonitor(ndctl.transport, names)
        try:
            monitor.wait_until_watching(timeout.total_seconds())
        except BaseException:
            monitor.close()
            raise
        return monitor

    @keyword(tags=("health",))
    def wait_for_dimm_event(
        self,
        monitor: DimmMonitor,
        dimm: Dimm | str,
        event: DimmEventKind,
        *,
        timeout: timedelta = timedelta(minutes=1),
    ) -> DimmEvent:
        """Wait for an event of a DIMM. A next call waits for a later event.

        Args:
            monitor: The monitor of [Start Dimm Monitor].
            dimm: The DIMM's record or name, e.g. `nmem0`.
            event: `spares`, `media_temperature`, `controller_temperature`, `health_state` or `unclean_shutdown`.
            timeout: How long to wait.

        Returns:
            A record with `dimm`, `kinds` (of the event, under ndctl's names) and `health` (a dictionary of the values
            that ndctl lists, e.g. `temperature_celsius`).

        Raises:
            VpmemError: There was no such event within `timeout`, or the monitor ended. The message lists the events.

        Example:

        ```robotframework
        *** Test Cases ***
        Too Hot
            ${event} =    Wait For Dimm Event    ${monitor}    nmem0    media_temperature    timeout=10s
            Log    ${event.health}[temperature_celsius]
        ```
        """
        name = dimm if isinstance(dimm, str) else dimm.dev
        found = monitor.wait(name, event, timeout=timeout.total_seconds())
        logger.info(f"{found.dimm} reported {', '.join(found.kinds)}: {dict(found.health)}")
        return found

    @keyword(tags=("health",))
    def stop_dimm_monitor(self, monitor: DimmMonitor) -> None:
        """End a monitor of [Start Dimm Monitor].

        Args:
            monitor: The monitor.

        Example:

        ```robotframework
        *** Test Cases ***
        No More Events
            Stop Dimm Monitor    ${monitor}
        ```
        """
        monitor.close()
