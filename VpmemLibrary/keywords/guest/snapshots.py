"""Keywords for snapshots of a guest's memory."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.guest.channel.bounded import within
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.snapshots import revert_to_snapshot, take_snapshot
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.context import Context


class SnapshotKeywords:
    """Snapshots of a guest's memory."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("guest", "destructive"))
    def take_guest_snapshot(
        self,
        guest: Guest | str,
        name: str,
        *,
        memory_file: str = "",
        foreign: bool = False,
        timeout: timedelta = READY_TIMEOUT,
    ) -> None:
        """Take a snapshot of a running guest's memory by libvirt; the guest runs on.

        Args:
            guest: The guest or its name.
            name: The snapshot's name.
            memory_file: Where on the host the memory goes: an absolute path at which nothing is, in a directory that
                only root can write to. Without one libvirt is asked for an internal snapshot, which lies in the guest's
                disk image.
            foreign: Allow it on a guest that this run did not make.
            timeout: How long it may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: The name is invalid, `memory_file` is relative, or something is there.
            LibvirtError: libvirt refused; its code is in the message.
            LibvirtTimeoutError: It was not taken in time, and was aborted; the message says in which state the guest
                is.

        Example:

        ```robotframework
        *** Test Cases ***
        A Moment To Come Back To
            Take Guest Snapshot    ${guest}    before    memory_file=/var/lib/libvirt/qemu/save/before
            Revert Guest To Snapshot    ${guest}    before
        ```
        """
        found = self._context.current.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        seconds = timeout.total_seconds()
        with within(seconds):
            take_snapshot(found, name, memory_file, timeout=seconds)

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
            LibvirtTimeoutError: The guest did not go back in time; the message says in which state it is.
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
        seconds = timeout.total_seconds()
        with within(seconds):
            revert_to_snapshot(found, name, timeout=seconds)
            found.wait_until_ready(seconds)
