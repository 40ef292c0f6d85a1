"""Keywords that clean up the things that this run made, and check that nothing else was changed."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.session.session import Session


class OwnershipKeywords:
    """Ownership, cleanup and leaks."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("ownership", "getter"))
    def get_run_id(self) -> str:
        """Return the id of this run. The id marks everything that this run makes.

        Returns:
            8 hexadecimal digits.

        Example:

        ```robotframework
        *** Test Cases ***
        Who Am I
            ${id} =    Get Run Id
        ```
        """
        return self._session.run.run_id

    @keyword(tags=("ownership", "destructive"))
    def clean_up_host(self) -> None:
        """Remove what this run made on the current host: guests, mounts, namespaces and CXL regions, in this order.

        The keyword does not change a thing without this run's mark.

        Raises:
            BusyError: A thing of this run is used by a thing that this run did not make.

        Example:

        ```robotframework
        *** Settings ***
        Test Teardown    Clean Up Host
        ```
        """
        removed = self._session.clean_up()
        logger.info(f"Removed from {self._session.host.alias}: {', '.join(removed) or 'nothing'}.")

    @keyword(tags=("ownership", "destructive"))
    def clean_up_after_dead_runs(self) -> list[str]:
        """Clean up the leftovers of dead runs on the current host.

        A dead run was killed, or ended without cleaning up. A living run holds its own lease on the host from the first
        thing that it makes there. The host's kernel frees this lease when the worker or its connection dies. So a thing
        with the mark of a run that has no such lease is a leftover. Guests among the leftovers are stopped and
        undefined. Namespaces are unmounted, wiped and destroyed. A namespace that a dead worker had claimed but no run
        made is wiped and stays. The log lists everything that was cleaned up.

        Things without a mark and things of a living run are not changed.

        Returns:
            A description of each thing that was cleaned up.

        Raises:
            BusyError: Something else uses one of the leftovers. All other leftovers were cleaned up.
            VpmemError: A leftover could not be cleaned up. All other leftovers were cleaned up.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Clean Up After Dead Runs
        ```
        """
        opened = self._session.current
        found = opened.tenancy.reclaim.remove_all()
        for what in found.done:
            logger.warn(f"Removed the leftover of a dead run on {opened.host.alias}: {what.rstrip('.')}.")
        if found.failed:
            raise found.failed[0]
        return list(found.done)

    @keyword(tags=("ownership",))
    def remember_host_state(self) -> None:
        """Remember the state of the current host, for [Host State Should Be Unchanged].

        The state has these parts:

        - the free bytes of each region
        - every namespace, by UUID
        - every mount of a namespace
        - every libvirt domain
        - the holder of each claimed namespace
        - the bad blocks of each region
        - the spares, the health and the last shutdown of each DIMM that supports injections; on a test bus also its
          temperatures
        - the files in `/var/lib/libvirt/images`, `/var/lib/libvirt/qemu` and `/var/lib/vpmem`, where guests and suites
          keep files

        Every user of the host may write to `/dev/shm` and `/tmp/tmp.*`. In these places, the keyword remembers only the
        files of root, of QEMU's user and of the user that runs commands.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Remember Host State
        ```
        """
        opened = self._session.current
        opened.remember_state()

    @keyword(tags=("ownership", "assertion"))
    def host_state_should_be_unchanged(self) -> None:
        """Fail if the state of the current host differs from the state that [Remember Host State] read.

        Raises:
            AssertionError: Something was added or removed. The message lists it.
            UnsupportedError: No state was remembered.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Host State Should Be Unchanged
        ```
        """
        opened = self._session.current
        if opened.remembered is None:
            raise UnsupportedError("The state of this host is not remembered. Call Remember Host State first.")
        now = opened.state()
        log_table(
            f"Host {opened.host.alias} before and after",
            ("what", "before", "after"),
            [
                (what, before, after)
                for (what, before), (_, after) in zip(opened.remembered.rows, now.rows, strict=True)
            ],
        )
        difference = opened.remembered.difference(now)
        if difference:
            raise AssertionError(f"Host {opened.host.alias} is not as it was:\n" + "\n".join(difference))
