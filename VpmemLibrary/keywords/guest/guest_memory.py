"""Keywords that check how much of a guest's memory is RAM and how much is persistent."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.views.memory import memory_views
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.session.session import Session


class GuestMemoryKeywords:
    """Keywords for RAM and persistent memory of guests."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("inside", "assertion"))
    def guest_memory_should_agree(self, guest: Guest | str) -> None:
        """Fail unless all views of a running guest agree on the sizes of its RAM and its persistent memory.

        The views are:

        - what the test asked for,
        - libvirt's live XML,
        - libvirt's info and statistics,
        - QEMU's command line and monitor,
        - the guest's kernel (`/proc/iomem` and the sizes of its regions).

        Persistent memory is the usable part of the guest's nvdimm and virtio-pmem devices, without label areas.
        libvirt's sum includes the label areas, and the comparison considers this. DIMMs, and memory that virtio-mem
        devices have plugged in, count as RAM.

        Args:
            guest: The guest or its name.

        Raises:
            ViewsDisagreeError: The views differ. The message is a table in which the differing cells are marked.
            GuestError: The guest is not running, or does not answer through its channel.

        Example:

        ```robotframework
        *** Test Cases ***
        RAM Is RAM
            Guest Memory Should Agree    ${guest}
        ```
        """
        agreement = memory_views(self._session.current.guests.find(guest))
        log_table(agreement.subject, agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()
