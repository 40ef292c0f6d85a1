"""Keywords that give a guest devices, or take them from it, after it was defined."""

from __future__ import annotations

from datetime import timedelta

from robot.api.deco import keyword

from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.hotplug import Attached, attach, detach
from VpmemLibrary.keywords.guest.devices import device_on
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.records import Namespace


class HotplugKeywords:
    """Devices of guests that are there already."""

    def __init__(self, context: Context) -> None:
        self._context = context

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
        """Attach a device to a guest: while it runs, for its next start, or both.

        What cannot be is refused before libvirt is asked: no memory slot or room left, a backing that another device
        of the guest or another running guest has, one that is absent. For a running guest the keyword waits for
        libvirt's event and until the guest's kernel has a region for the device, which it enumerates late.

        Args:
            guest: The guest or its name.
            device: A namespace, or what [New Vpmem Device] returned.
            live: Attach it to the running guest.
            persistent: Attach it to the configuration of the next start.
            timeout: How long the guest's kernel may take to have it.

        Returns:
            A record with `device` (with its slot or alias), `event` (the alias that libvirt's event named, which is
            not always the device's) and `region` (the record of the region in the guest's kernel).

        Raises:
            InvalidValueError: The device cannot be, or its backing is in use.
            OutOfSpaceError: The guest has no memory slot, or no room below its maxMemory, left.
            LibvirtError: libvirt or QEMU refused.
            GuestError: The guest's kernel has no region for it in time.

        Example:

        ```robotframework
        *** Test Cases ***
        One More
            ${attached} =    Attach Vpmem Device    ${guest}    ns_1
            Should Be Equal As Integers    ${attached.device.slot}    1
            All Views Should Agree    ${guest}
        ```
        """
        found = self._context.current.guest(guest)
        attached = attach(
            found, self._device(device), live=live, persistent=persistent, timeout=timeout.total_seconds()
        )
        if live:
            logger.info(f"libvirt told of {attached.event}; the guest's kernel has it as {attached.region}.")
        return attached

    @keyword(tags=("guest", "destructive"))
    def detach_vpmem_device(
        self, guest: Guest | str, device: VpmemDevice | Namespace | str, *, live: bool = False, foreign: bool = False
    ) -> None:
        """Detach a device from the configuration of a guest's next start; its backing and its bytes stay.

        QEMU takes no NVDIMM and no virtio-pmem device out of a running guest: with `live` its refusal is what comes.

        Args:
            guest: The guest or its name.
            device: The device, or its backing: a namespace or a path.
            live: From the running guest.
            foreign: Allow it on a guest that this run did not make.

        Raises:
            NotFoundError: The guest has no such device.
            ForeignError: This run did not make the guest, and `foreign` is not set.
            LibvirtError: libvirt or QEMU refused; always for a running guest.

        Example:

        ```robotframework
        *** Test Cases ***
        One Less
            Stop Guest    ${guest}
            Detach Vpmem Device    ${guest}    ns_1
            Start Guest    ${guest}
        ```
        """
        found = self._context.current.guest(guest)
        if not foreign:
            found.require_made_by(self._context.run.run_id)
        detach(found, self._path(device), live=live)

    def _device(self, device: VpmemDevice | Namespace | str) -> VpmemDevice:
        return device if isinstance(device, VpmemDevice) else device_on(self._context, device)

    def _path(self, device: VpmemDevice | Namespace | str) -> str:
        if isinstance(device, VpmemDevice):
            return device.path
        if isinstance(device, str) and device.startswith("/"):
            return device
        return self._context.host.ndctl.namespace(device).device
