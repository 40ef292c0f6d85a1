"""Keywords that tell a guest's RAM from its persistent memory."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.views.memory import memory_views
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table


class GuestMemoryKeywords:
    """RAM and persistent memory of guests."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("inside", "assertion"))
    def guest_memory_should_agree(self, guest: Guest | str) -> None:
        """Fail unless all views of a running guest agree on how much of its memory is RAM and how much is persistent.

        The views are what was asked for, libvirt's live XML, libvirt's info and statistics, QEMU's command line and
        monitor, and the guest's kernel (`/proc/iomem` and the sizes of its regions). Persistent memory is what the
        guest can use of its nvdimm and virtio-pmem devices, without their label areas; libvirt counts label areas in,
        and its sum is compared as such. DIMMs, and what virtio-mem devices have plugged in, are RAM.

        Args:
            guest: The guest or its name.

        Raises:
            ViewsDisagreeError: Views differ; the message is a table with the differing cells marked.
            GuestError: The guest is not running, or cannot be looked into.

        Example:

        ```robotframework
        *** Test Cases ***
        RAM Is RAM
            Guest Memory Should Agree    ${guest}
        ```
        """
        agreement = memory_views(self._context.current.guest(guest))
        log_table(agreement.subject, agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()
