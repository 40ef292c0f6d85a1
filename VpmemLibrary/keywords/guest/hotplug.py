"""Keywords that attach devices to guests and detach devices from guests."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.hotplug import Attached, attach, detach
from VpmemLibrary.keywords.guest.devices import device_on
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.session.session import Session


class HotplugKeywords:
    """Keywords for devices of existing guests."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("guest",))
    def attach_vpmem_device(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str,
        *,
        live: bool = True,
        persistent: bool = True,
        timeout: timedelta = timedelta(minutes=2),
    ) -> Attached:
        """Attach a device to a running guest, to the configuration of its next start, or to both.

        The library refuses an invalid request before it calls libvirt. A request is invalid if no memory slot or no
        room is left, if the backing does not exist, or if another device of the guest or another running guest uses the
        backing. For a running guest the keyword waits for libvirt's event. It then waits until the guest's kernel has a
        region for the device, which can take some time.

        Args:
            guest: The guest or its name.
            device: A namespace, or a record from [New Vpmem Device].
            live: Attach the device to the running guest.
            persistent: Attach the device to the configuration of the next start.
            timeout: How long to wait until the guest's kernel has the device.

        Returns:
            A record with `device` (with its slot or alias), `event` (the alias in libvirt's event, which is not always
            the device's alias) and `region` (the region in the guest's kernel).

        Raises:
            InvalidValueError: The device is invalid, or its backing is in use.
            OutOfSpaceError: The guest has no free memory slot, or no room left below its maxMemory.
            LibvirtError: libvirt or QEMU refused the device.
            GuestError: The guest's kernel had no region for the device in time.

        Example:

        ```robotframework
        *** Test Cases ***
        One More
            ${attached} =    Attach Vpmem Device    ${guest}    ns_1
            Should Be Equal As Integers    ${attached.device.slot}    1
            All Views Should Agree    ${guest}
        ```
        """
        found = self._session.current.guests.find(guest)
        attached = attach(
            found, self._device(device), live=live, persistent=persistent, timeout=timeout.total_seconds()
        )
        if live:
            logger.info(f"libvirt reported {attached.event}. The device is {attached.region} in the guest's kernel.")
        return attached

    @keyword(tags=("guest", "destructive"))
    def detach_vpmem_device(
        self, guest: Guest | str, device: VpmemDevice | Namespace | str, *, live: bool = False, foreign: bool = False
    ) -> None:
        """Detach a device from the configuration of a guest's next start. The backing and its bytes stay.

        QEMU cannot remove an NVDIMM or a virtio-pmem device from a running guest. With `live` the keyword therefore
        always fails with QEMU's refusal.

        Args:
            guest: The guest or its name.
            device: The device, or its backing: a namespace or a path.
            live: Detach the device from the running guest.
            foreign: Allow this keyword to change a guest that this run did not make.

        Raises:
            NotFoundError: The guest has no such device.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            LibvirtError: libvirt or QEMU refused to detach the device, as they always do with `live`.

        Example:

        ```robotframework
        *** Test Cases ***
        One Less
            Stop Guest    ${guest}
            Detach Vpmem Device    ${guest}    ns_1
            Start Guest    ${guest}
        ```
        """
        found = self._session.current.guests.find(guest)
        if not foreign:
            found.require_made_by(self._session.run.run_id)
        detach(found, self._path(device), live=live)

    def _device(self, device: VpmemDevice | Namespace | str) -> VpmemDevice:
        return device if isinstance(device, VpmemDevice) else device_on(self._session, device)

    def _path(self, device: VpmemDevice | Namespace | str) -> str:
        if isinstance(device, VpmemDevice):
            return device.path
        if isinstance(device, str) and device.startswith("/"):
            return device
        return self._session.host.ndctl.namespace(device).device
