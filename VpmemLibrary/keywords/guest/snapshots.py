"""Keywords for snapshots of a guest's memory."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.guest import readiness
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.snapshots import revert_to_snapshot, take_snapshot
from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.session.session import Session


class SnapshotKeywords:
    """Keywords for snapshots."""

    def __init__(self, session: Session) -> None:
        self._session = session

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
        """Take a snapshot of a running guest's memory through libvirt. The guest continues to run.

        Args:
            guest: The guest or its name.
            name: The snapshot's name.
            memory_file: The absolute path of the file on the host for the memory. Nothing may exist at the path, and
                only root may have write access to its directory. Without this argument libvirt takes an internal
                snapshot, which is stored in the guest's disk image.
            foreign: Allow this keyword to change a guest that this run did not make.
            timeout: How long the snapshot may take.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            InvalidValueError: The name is invalid, `memory_file` is relative, or something exists at its path.
            LibvirtError: libvirt refused the snapshot. The message has libvirt's error code.
            LibvirtTimeoutError: The snapshot was not finished in time, and was aborted. The message reports the guest's
                state.

        Example:

        ```robotframework
        *** Test Cases ***
        A Guest Reverts To Its Snapshot
            Take Guest Snapshot    ${guest}    before    memory_file=/var/lib/libvirt/qemu/save/before
            Revert Guest To Snapshot    ${guest}    before
        ```
        """
        found = self._session.current.guests.find(guest)
        if not foreign:
            found.require_made_by(self._session.run.run_id)
        seconds = timeout.total_seconds()
        with libvirt_deadline(seconds):
            take_snapshot(found, name, memory_file, timeout=seconds)

    @keyword(tags=("guest", "destructive"))
    def revert_guest_to_snapshot(
        self, guest: Guest | str, name: str, *, foreign: bool = False, timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Revert a guest to a snapshot and wait until its agent answers.

        Args:
            guest: The guest or its name.
            name: The snapshot's name.
            foreign: Allow this keyword to change a guest that this run did not make.
            timeout: How long to wait until the agent answers.

        Raises:
            NotFoundError: There is no such guest.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            LibvirtError: There is no such snapshot, or libvirt refused to revert. The message has libvirt's error code.
            LibvirtTimeoutError: The guest was not reverted in time. The message reports the guest's state.
            GuestError: The guest did not answer in time.

        Example:

        ```robotframework
        *** Test Cases ***
        A Guest Reverts To An Earlier Snapshot
            Revert Guest To Snapshot    ${guest}    before
        ```
        """
        found = self._session.current.guests.find(guest)
        if not foreign:
            found.require_made_by(self._session.run.run_id)
        seconds = timeout.total_seconds()
        with libvirt_deadline(seconds):
            revert_to_snapshot(found, name, timeout=seconds)
            readiness.wait_until_ready(found, seconds)
