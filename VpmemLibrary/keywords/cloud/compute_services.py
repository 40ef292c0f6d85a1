"""Keywords for the compute services of a cloud: nova-compute on each compute host."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.compute_hosts import compute_logs, hypervisor_host_name
from VpmemLibrary.cloud.records import AvailabilityZone
from VpmemLibrary.errors import CloudUnavailableError
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.polling import poll
from VpmemLibrary.session.session import Session

_POLL = 0.5


class ComputeServiceKeywords:
    """Keywords for the compute services of the open cloud.

    Args:
        cloud: Returns the open cloud.
        session: Returns the session with the open hosts.
    """

    def __init__(self, cloud: Callable[[], Cloud], session: Callable[[], Session]) -> None:
        self._cloud = cloud
        self._session = session

    @keyword(tags=("cloud", "destructive"))
    def set_compute_service_down(self, *, host: str = "") -> None:
        """Let Nova take the compute service of a host as down at once, as `openstack compute service set --down` does.

        Nova does not wait for missing reports then, and a server of the host can be evacuated. The mark stays until
        [Set Compute Service Up].

        Args:
            host: The compute service's host name. The default is the current host's name in libvirt.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        A Lost Host
            Set Compute Service Down    host=rack1-pmem1
        ```
        """
        self._cloud().force_down(self._named(host), down=True)

    @keyword(tags=("cloud",))
    def set_compute_service_up(self, *, host: str = "") -> None:
        """Remove the mark that [Set Compute Service Down] has set.

        Args:
            host: The compute service's host name. The default is the current host's name in libvirt.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud refused.

        Example:

        ```robotframework
        *** Test Cases ***
        A Host That Came Back
            Set Compute Service Up    host=rack1-pmem1
        ```
        """
        self._cloud().force_down(self._named(host), down=False)

    @keyword(tags=("cloud", "getter"))
    def get_availability_zone(self, *, host: str = "") -> AvailabilityZone:
        """Return the availability zone of a compute host. A server that is created in it stays among its hosts.

        Args:
            host: The compute service's host name. The default is the current host's name in libvirt.

        Returns:
            A record with `name` and `hosts` (the host names of the zone's compute services).

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud did not answer, or its policy hides the hosts of its availability zones.

        Example:

        ```robotframework
        *** Test Cases ***
        A Resize On The Same Host
            ${zone} =    Get Availability Zone    host=rack1-pmem1
            Length Should Be    ${zone.hosts}    1
            ${server} =    Create Server    ${flavor}    image=cirros    zone=${zone.name}
        ```
        """
        return self._cloud().zone(self._named(host))

    @keyword(tags=("cloud", "assertion"))
    def compute_service_should_report(self, *hosts: str, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait for the next report of each host's compute service to Nova.

        After a start, call this at once: a new nova-compute reports when it is ready for requests.

        Args:
            hosts: The compute services' host names. The default is the current host's name in libvirt.
            timeout: How long to wait for all of them.

        Raises:
            NotFoundError: Nova has no compute service on a host.
            AssertionError: A report did not come in time. The message has the last lines of nova-compute's log on the
                open hosts.
            CloudError: The cloud refused, or did not answer the last request before the timeout.

        Example:

        ```robotframework
        *** Test Cases ***
        Started Again
            Run On Host    systemctl    restart    nova-compute
            Compute Service Should Report
        ```
        """
        cloud = self._cloud()
        before = {name: cloud.service_report(name) for name in hosts or (self._named(""),)}
        waiting = dict(before)

        def reported() -> bool:
            for name in [name for name, report in waiting.items() if cloud.service_report(name) != report]:
                del waiting[name]
            return not waiting

        poll(
            reported,
            f"a report of the compute services on {', '.join(before)}",
            timeout=timeout.total_seconds(),
            interval=_POLL,
            retry_on=CloudUnavailableError,
            failure=lambda error: (
                error
                or AssertionError(
                    f"The compute service on {', '.join(waiting)} should report to Nova, but its last report is still "
                    f"that of {', '.join(waiting.values())}.\n{compute_logs(self._session())}".rstrip()
                )
            ),
        )
        logger.info("\n".join(f"The compute service on {name} reported after {time}." for name, time in before.items()))

    def _named(self, host: str) -> str:
        return host or hypervisor_host_name(self._session().current)
