"""Keywords for snapshots of a guest's memory."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.snapshots import revert_to_snapshot, take_snapshot
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.keywords.guests import READY_TIMEOUT


class SnapshotKeywords:
    """Snapshots of a guest's memory."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest", "destructive"))
    def take_guest_snapshot(
        self, guest: Guest | str, name: str, *, memory_file: str = "", foreign: bool = False
    ) -> None:
        """Take a snapshot of a running guest's memory by libvirt; the guest runs on.

        Args:
            guest: The guest or its name.
            name: The snapshot's name.
            memory_file: Where on the host the memory goes, an absolute path. Without one libvirt is asked for an
                internal snapshot, which lies in the guest's disk image.
            foreign: Allow it on a guest that this run did not make.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            LibvirtError: libvirt refused; its code is in the message.

        Example:

        ```robotframework
        *** Test Cases ***
        A Moment To Come Back To
            Take Guest Snapshot    ${guest}    before    memory_file=/var/tmp/before
            Revert Guest To Snapshot    ${guest}    before
        ```
        """
        found = self._context.current.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        take_snapshot(found, name, memory_file)

    @keyword(tags=("guest", "destructive"))
    def revert_guest_to_snapshot(
        self, guest: Guest | str, name: str, *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Have a guest go on where a snapshot was taken, and wait until its agent answers.

        Args:
            guest: The guest or its name.
            name: The snapshot's name.
            foreign: Allow it on a guest that this run did not make.
            timeout: How long it may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            LibvirtError: There is no such snapshot, or libvirt refused; its code is in the message.
            GuestError: It did not answer in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Back
            Revert Guest To Snapshot    ${guest}    before
        ```
        """
        found = self._context.current.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        revert_to_snapshot(found, name)
        found.wait_until_ready(timeout.total_seconds())
