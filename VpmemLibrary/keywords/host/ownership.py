"""Keywords that clean up what this run made, and prove that nothing else was touched."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.ownership.cleanup import clean_up, clean_up_cxl
from VpmemLibrary.ownership.mounts import unmount_owned
from VpmemLibrary.visible import quoted


class OwnershipKeywords:
    """Ownership, cleanup, leaks."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("ownership", "getter"))
    def get_run_id(self) -> str:
        """Return the id of this run: what marks the things that it makes.

        Returns:
            8 hexadecimal digits.

        Example:

        ```robotframework
        *** Test Cases ***
        Who Am I
            ${id} =    Get Run Id
        ```
        """
        return self._context.run.run_id

    @keyword(tags=("ownership", "destructive"))
    def clean_up_host(self) -> None:
        """Remove from the current host what this run made there: guests, then mounts, namespaces, and CXL regions.

        Nothing else is touched: a thing without this run's mark stays as it is.

        Raises:
            BusyError: Something that this run made is in use by something that it did not make.

        Example:

        ```robotframework
        *** Settings ***
        Test Teardown    Clean Up Host
        ```
        """
        opened = self._context.current
        removed = [f"guest {name}" for name in self._context.remove_guests()]
        try:
            removed += [f"mount of {mount}" for mount in unmount_owned(opened.host, self._context.run)]
        finally:  # what is not mounted goes all the same
            gone = clean_up(opened.host, self._context.run)
            removed += [f"namespace {quoted(namespace.name or namespace.dev)} ({namespace.uuid})" for namespace in gone]
            if gone and not opened.inside:  # nobody can be given what is not there, so nothing is unfit any more
                opened.leases.mended(namespace.label_uuid for namespace in gone)
        removed += [
            f"CXL region {region.dev} ({region.uuid})" for region in clean_up_cxl(opened.host, self._context.run)
        ]
        logger.info(f"Removed from {opened.host.alias}: {', '.join(removed) or 'nothing'}.")

    @keyword(tags=("ownership", "destructive"))
    def reclaim_what_dead_runs_left(self) -> list[str]:
        """Take back what runs left on the current host that were killed, or that ended without cleaning up.

        A run that lives holds a lease of its own on the host from the first thing that it makes there; the host's
        kernel frees it when the worker or its connection dies. So what carries a run's mark and has no such lease was
        left: guests are ended and undefined, namespaces unmounted, wiped and destroyed. A namespace that a dead worker
        had claimed and that no run made is wiped and stays. All that is taken back is told in the log.

        What has no mark, and what a living run made, is not touched.

        Returns:
            What was taken back, in words.

        Raises:
            BusyError: Something of it is in use by something else; all the rest was taken back.
            VpmemError: Something could not be taken back; all the rest was.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Reclaim What Dead Runs Left
        ```
        """
        opened = self._context.current
        found = opened.reclaim.all()
        for what in found.done:
            logger.warn(f"Took back on {opened.host.alias} what a dead run left: {what}.")
        if found.failed:
            raise found.failed[0]
        return list(found.done)

    @keyword(tags=("ownership",))
    def remember_host_state(self) -> None:
        """Remember what is on the current host, for [Host Should Be As Remembered].

        Remembered are each region's free bytes, every namespace by UUID, every mount of one, every libvirt domain, who
        holds which namespace, and the files where guests and suites keep theirs: `/var/lib/libvirt/images`,
        `/var/lib/libvirt/qemu` and `/var/lib/vpmem`. In `/dev/shm` and `/tmp/tmp.*`, where every user of the host may
        write, the files of root, of QEMU's user and of the user that commands run as are remembered, and no others.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Remember Host State
        ```
        """
        opened = self._context.current
        opened.remembered = opened.state()

    @keyword(tags=("ownership", "assertion"))
    def host_should_be_as_remembered(self) -> None:
        """Fail if the current host has more or less on it than [Remember Host State] found.

        Raises:
            AssertionError: Something leaked or went; the message lists it.
            UnsupportedError: Nothing was remembered.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Host Should Be As Remembered
        ```
        """
        opened = self._context.current
        if opened.remembered is None:
            raise UnsupportedError("Nothing was remembered of this host: run Remember Host State first.")
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
