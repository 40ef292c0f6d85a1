"""Keywords that find the leaks of this run in a cloud."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.leaks import CloudState
from VpmemLibrary.errors import CloudUnavailableError, UnsupportedError
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.polling import poll
from VpmemLibrary.session.session import Session

_POLL = 2.0


class CloudLeakKeywords:
    """Leaks in the open cloud.

    Args:
        cloud: Returns the open cloud.
        session: Returns the session with the open hosts.
    """

    def __init__(self, cloud: Callable[[], Cloud], session: Callable[[], Session]) -> None:
        self._cloud = cloud
        self._session = session
        self._remembered: CloudState | None = None

    @keyword(tags=("cloud", "ownership"))
    def remember_cloud_state(self) -> None:
        """Remember the leftovers in the cloud and on the open hosts, for [Cloud Should Have No Leaks].

        The state has these parts:

        - the servers, flavors and images of this run
        - the allocations in placement whose consumer is neither a server nor an unfinished migration, on the resource
          providers with persistent memory
        - on each open host: the domains with Nova's names, and the directories in `/var/lib/nova/instances`, whose
          server Nova does not have

        Open the compute hosts first. What other users of the cloud have is not in the state. The policy may forbid to
        read placement or the servers of other projects: then [Cloud Should Have No Leaks] warns which part it did not
        compare.

        Raises:
            CloudError: The cloud did not answer.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Remember Cloud State
        ```
        """
        self._remembered = CloudState.read(self._session(), self._cloud())

    @keyword(tags=("cloud", "ownership", "assertion"))
    def cloud_should_have_no_leaks(self, *, timeout: timedelta = timedelta(minutes=2)) -> None:
        """Fail if the cloud and the open hosts have leftovers that [Remember Cloud State] did not find.

        Nova removes some things only at its next audit, each minute by default, so the keyword asks until the timeout.

        Args:
            timeout: How long to wait for the end of the leftovers.

        Raises:
            AssertionError: There are leftovers. The message lists them.
            UnsupportedError: No state was remembered.
            CloudError: The cloud did not answer.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Run Keywords    Clean Up Cloud    AND    Cloud Should Have No Leaks
        ```
        """
        before, cloud = self._remembered, self._cloud()
        if before is None:
            raise UnsupportedError("The state of the cloud is not remembered. Call Remember Cloud State first.")
        seconds = timeout.total_seconds()
        leaks: tuple[str, ...] = ()

        def without_leaks() -> CloudState | None:
            nonlocal leaks
            now = CloudState.read(self._session(), cloud)
            leaks = before.difference(now)
            return None if leaks else now

        now = poll(
            without_leaks,
            f"cloud {cloud.name} to have no leaks",
            timeout=seconds,
            interval=_POLL,
            retry_on=CloudUnavailableError,
            failure=lambda error: (
                error or AssertionError(f"Cloud {cloud.name} has leaks after {seconds:g} s:\n" + "\n".join(leaks))
            ),
        )
        for line in before.not_compared(now):
            logger.warn(f"Not compared in cloud {cloud.name}: {line}")
