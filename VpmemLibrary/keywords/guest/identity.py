"""Keywords that identify a guest's device by its label area, as the host reads it."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.errors import ViewsDisagreeError
from VpmemLibrary.guest import inspection
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.identity import DeviceIdentity, compare_labels, cookie_problem, read_label_area
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session


class IdentityKeywords:
    """Keywords for the identity of devices."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("content", "getter"))
    def get_device_identity(self, guest: Guest | str, namespace: Namespace | str) -> DeviceIdentity:
        """Return the identity of a guest's device: the checksum and the labels of its label area.

        The host reads the label area at the end of its own namespace, where QEMU keeps it (QEMU, hw/mem/nvdimm.c). The
        guest need not run. The identity does not depend on the guest, a memory slot or a device node. It stays the same
        when the backing moves to another guest or slot.

        Args:
            guest: The guest or its name. The library needs the guest to find the size of the label area.
            namespace: The namespace that backs the device.

        Returns:
            A record with `checksum` (SHA-256 of the label area) and `labels` (the UUID and name of each label, sorted).

        Raises:
            NotFoundError: The guest has no device on that namespace.
            InvalidValueError: The device has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        Still The Same
            ${before} =    Get Device Identity    ${guest}    ns_0
            Stop Guest    ${guest}    how=destroy
            ${after} =    Get Device Identity    ${guest}    ns_0
            Should Be Equal    ${after}    ${before}
        ```
        """
        identity, _ = read_label_area(self._session.host.content, self._device(guest, namespace))
        logger.info(f"The device is {identity}.")
        return identity

    @keyword(tags=("content", "assertion"))
    def host_should_hold_guest_labels(self, guest: Guest | str, namespace: Namespace | str) -> None:
        """Fail unless the labels in a namespace match the namespaces of the guest's kernel.

        The host decodes the label area at the end of its own namespace. The guest lists its namespaces. UUIDs and names
        must be equal, and the label area must have no faults. A kernel ignores labels that were written in another
        memory slot of QEMU. The message says so if this is the cause.

        Args:
            guest: The guest or its name.
            namespace: The namespace that backs the device.

        Raises:
            ViewsDisagreeError: The labels and the namespaces differ. The message is a table.
            AssertionError: The label area has faults. The message lists them.
            GuestError: The guest is not running, or does not answer through its channel.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same Labels
            Host Should Hold Guest Labels    ${guest}    ns_0
        ```
        """
        found = self._session.current.guests.find(guest)
        device = self._device(guest, namespace)
        _, area = read_label_area(self._session.host.content, device)
        region = inspection.region_of(found, device)
        agreement = compare_labels(area, region)
        log_table(agreement.subject, agreement.header, agreement.rows, marked=agreement.marked)
        try:
            agreement.require()
        except ViewsDisagreeError as error:
            if problem := cookie_problem(area, region):
                error.add(problem)
            raise
        if area.problems:
            raise AssertionError(f"The {area.dimm} has faults:\n" + "\n".join(area.problems))

    def _device(self, guest: Guest | str, namespace: Namespace | str) -> VpmemDevice:
        path = self._session.host.ndctl.namespace(namespace).device
        return self._session.current.guests.find(guest).device(path)
