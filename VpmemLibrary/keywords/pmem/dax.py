"""Keywords for device DAX: as a device, as system RAM, and back to a device."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import ForeignError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.dax.memory import DaxMemory
from VpmemLibrary.pmem.records import DaxDevice, DaxMode, DaxRegion, Namespace
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size

TIMEOUT = timedelta(minutes=1)


class DaxKeywords:
    """Keywords for device DAX."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._made: set[tuple[str, str]] = set()

    @property
    def _dax(self) -> DaxDevices:
        return self._session.host.dax

    @keyword(tags=("dax", "getter"))
    def get_dax_devices(self) -> tuple[DaxDevice, ...]:
        """Return all device-DAX instances of the current host, including disabled ones, and show them in the log.

        Returns:
            Records with `chardev`, `size`, `mode` (`devdax` or `system-ram`), `align`, `target_node`, `state`. The
            result is empty if the host has no instance.

        Example:

        ```robotframework
        *** Test Cases ***
        None Is System RAM
            ${devices} =    Get Dax Devices
            FOR    ${device}    IN    @{devices}
                Should Be Equal    ${device.mode}    devdax
            END
        ```
        """
        devices = self._dax.list()
        _log_devices(f"Device-DAX instances of {self._session.host.alias}", devices)
        return devices

    @keyword(tags=("dax", "getter"))
    def get_dax_regions(self) -> tuple[DaxRegion, ...]:
        """Return all device-DAX regions of the current host, and show them in the log.

        A devdax namespace is a static region with one instance. New instances can be created only in a dynamic region.

        Returns:
            Records with `id`, `size`, `available_size`, `dynamic`, `devices`. The result is empty if the host has no
            such region.

        Example:

        ```robotframework
        *** Test Cases ***
        What A Namespace Is
            ${regions} =    Get Dax Regions
            Should Not Be True    ${regions[0].dynamic}
        ```
        """
        regions = self._dax.regions()
        log_table(
            f"Device-DAX regions of {self._session.host.alias}",
            ("region", "kind", "size", "available", "align", "devices"),
            (
                (
                    region.id,
                    "dynamic" if region.dynamic else "static",
                    region.size,
                    region.available_size,
                    region.align or "-",
                    " ".join(device.chardev for device in region.devices),
                )
                for region in regions
            ),
        )
        return regions

    @keyword(tags=("dax", "getter"))
    def get_dax_device_mode(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the mode of a device-DAX instance from the kernel, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected mode: `devdax`, `system-ram`, or `disabled` for an instance without a driver.
            message: Your own failure text.

        Returns:
            The mode as text.

        Raises:
            NotFoundError: There is no such namespace or instance.
            InvalidValueError: The namespace has no instance, because it is not devdax or not active.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        A Device
            Get Dax Device Mode    ns_0    ==    devdax
        ```
        """
        memory = self._dax.memory(namespace)
        mode = str(memory.mode or "disabled")
        return assert_text(mode, assertion_operator, expected, f"Mode of {memory.chardev}", message)

    @keyword(tags=("dax", "getter"))
    def get_dax_memory(self, namespace: Namespace | str) -> DaxMemory:
        """Return a device-DAX instance and its memory blocks from the kernel, and show them in the log.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.

        Returns:
            A record with `mode`, `blocks` (each with `number`, `state`, `zones`), `block_size`, `online` (the number of
            online blocks), `growth` (the predicted growth of MemTotal), `auto_online` (the kernel's policy for new
            memory) and `total` (MemTotal).

        Raises:
            NotFoundError: There is no such namespace or instance.
            InvalidValueError: The namespace has no instance.

        Example:

        ```robotframework
        *** Test Cases ***
        Every Block Is Online
            ${memory} =    Get Dax Memory    ns_0
            Length Should Be    ${memory.blocks}    ${memory.online}
        ```
        """
        memory = self._dax.memory(namespace)
        _log_memory("Found", memory)
        return memory

    @keyword(tags=("dax", "getter"))
    def get_memory_total(
        self,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the RAM of the current host (MemTotal of `/proc/meminfo`), and assert it if an operator is given.

        Args:
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected size, e.g. `4GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        It Grew
            ${before} =    Get Memory Total
            Reconfigure Dax Device    ns_0    mode=system-ram
            Get Memory Total    >    ${before}
        ```
        """
        total = self._dax.total_memory()
        subject = f"MemTotal of {self._session.host.alias}"
        return assert_size(total, assertion_operator, expected, subject, message)

    @keyword(tags=("dax", "prediction"))
    def get_predicted_memory_growth(self, namespace: Namespace | str) -> Size:
        """Predict how much MemTotal grows when a namespace's device-DAX instance becomes system RAM.

        The kernel adds only whole memory blocks. The rest of the namespace stays unused. For example, a namespace of
        256 MiB with memory blocks of 128 MiB usually adds 128 MiB, because its first bytes are its info block.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.

        Returns:
            The predicted growth in bytes. It is 0 if the instance contains no whole memory block.

        Raises:
            NotFoundError: There is no such namespace or instance.
            InvalidValueError: The namespace has no instance.

        Example:

        ```robotframework
        *** Test Cases ***
        What It Gives
            ${growth} =    Get Predicted Memory Growth    ns_0
            Should Be Equal As Integers    ${growth}    ${128 * 1024 * 1024}
        ```
        """
        return self._dax.memory(namespace).growth

    @keyword(tags=("dax", "destructive"))
    def reconfigure_dax_device(
        self,
        namespace: Namespace | str,
        *,
        mode: DaxMode,
        online: bool = True,
        movable: bool = True,
        force: bool = True,
        timeout: timedelta = TIMEOUT,
        foreign: bool = False,
    ) -> DaxMemory:
        """Convert a namespace's device-DAX instance to system RAM of the host, or back to a device.

        The content of the instance is lost. The keyword does not trust daxctl: after the change it reads the driver,
        every memory block and its zone from the kernel. If the change fails, the instance returns to its previous
        state, as far as the kernel allows. The message reports the actual state. The keyword loads the module `kmem` if
        necessary. It does nothing if the instance already has the requested mode.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.
            mode: `system-ram` or `devdax`.
            online: For `system-ram`: put the memory online, so that the host uses it.
            movable: For `system-ram`: put the memory into the movable zone. Memory in another zone may never become a
                device again.
            force: For `devdax`: put the memory offline first. The kernel moves its content to other memory. Without
                `force`, daxctl refuses memory that is online.
            timeout: How long each daxctl command may take.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The instance's record after the change, as in [Get Dax Memory].

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            InvalidValueError: The namespace is not devdax, or contains no whole memory block. Nothing was changed.
            BusyError: A process has the instance open or mapped, or its memory cannot be put offline and is still
                online.
            UnsupportedError: The kernel cannot add memory at run time, or has no module `kmem`.
            CommandError: daxctl failed, or reported a change that it did not make.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            Reconfigure Dax Device    ns_0    mode=system-ram
            Reconfigure Dax Device    ns_0    mode=devdax
            Get Dax Device Mode    ns_0    ==    devdax
        ```
        """
        found = self._owned(namespace, foreign)
        seconds = timeout.total_seconds()
        if mode is DaxMode.system_ram:
            after = self._dax.to_system_ram(found, online=online, movable=movable, timeout=seconds)
        else:
            after = self._dax.to_devdax(found, force=force, timeout=seconds)
        _log_memory("Reconfigured", after)
        return after

    @keyword(tags=("dax",))
    def set_dax_memory_online(
        self,
        namespace: Namespace | str,
        *,
        movable: bool = True,
        timeout: timedelta = TIMEOUT,
        foreign: bool = False,
    ) -> DaxMemory:
        """Put the memory of a namespace that is system RAM online, and verify that every memory block is online.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.
            movable: Use the movable zone. The keyword refuses memory that is online in another zone.
            timeout: How long daxctl may take.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The instance's record after the change, as in [Get Dax Memory].

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The namespace is not system RAM, or its memory is online in another zone.
            CommandError: daxctl failed, or reported a change that it did not make.

        Example:

        ```robotframework
        *** Test Cases ***
        Off And On
            Set Dax Memory Offline    ns_0
            Set Dax Memory Online    ns_0
        ```
        """
        found = self._owned(namespace, foreign)
        after = self._dax.online(found, movable=movable, timeout=timeout.total_seconds())
        _log_memory("Put online", after)
        return after

    @keyword(tags=("dax",))
    def set_dax_memory_offline(
        self, namespace: Namespace | str, *, timeout: timedelta = TIMEOUT, foreign: bool = False
    ) -> DaxMemory:
        """Put the memory of a namespace that is system RAM offline, and verify that every memory block is offline.

        The kernel moves the content to other memory of the host. The kernel retries this without end, so the keyword
        stops the attempt after `timeout`. All of the memory is then online again.

        Args:
            namespace: The namespace's record, UUID, name or device name. The name of an instance is also allowed, e.g.
                `dax0.0`.
            timeout: How long daxctl may take.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The instance's record after the change, as in [Get Dax Memory].

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The namespace is not system RAM.
            BusyError: A part of the memory is in use and cannot be moved. Nothing is lost.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            ${before} =    Get Memory Total
            Set Dax Memory Offline    ns_0
            Get Memory Total    <    ${before}
        ```
        """
        after = self._dax.offline(self._owned(namespace, foreign), timeout=timeout.total_seconds())
        _log_memory("Put offline", after)
        return after

    @keyword(tags=("dax", "destructive"))
    def create_dax_device(self, region: DaxRegion | str, *, size: Size = ALL) -> DaxDevice:
        """Create a device-DAX instance in a dynamic device-DAX region, such as special-purpose or CXL memory.

        A devdax namespace is a static region. It has exactly one instance, of a fixed size.

        Args:
            region: The region's record or its number.
            size: The instance's size in bytes, a multiple of the region's alignment. `all` takes the whole available
                size.

        Returns:
            The instance's record.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: The region is static. Nothing was changed.
            OutOfSpaceError: The region does not have enough free space. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        A Piece Of Special Purpose Memory
            ${device} =    Create Dax Device    0    size=64MiB
            Destroy Dax Device    ${device}
        ```
        """
        device = self._dax.create(region, size=None if size is ALL else size)
        self._made.add((self._session.host.alias, device.chardev))
        _log_devices("Created", (device,))
        return device

    @keyword(tags=("dax", "destructive"))
    def resize_dax_device(self, device: DaxDevice | str, *, size: Size, foreign: bool = False) -> DaxDevice:
        """Resize a device-DAX instance of a dynamic region.

        Args:
            device: The instance's record or name, e.g. `dax0.0`.
            size: The new size, a multiple of the instance's alignment.
            foreign: Allow this keyword to change an instance that this run did not make.

        Returns:
            The instance's record after the change.

        Raises:
            ForeignError: This run did not make the instance, and `foreign` is not set.
            UnsupportedError: The region of the instance is static. Nothing was changed.
            BusyError: The instance is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Half
            ${device} =    Create Dax Device    0    size=64MiB
            Resize Dax Device    ${device}    size=32MiB
        ```
        """
        self._require_own(device, foreign)
        after = self._dax.resize(device, size)
        _log_devices("Resized", (after,))
        return after

    @keyword(tags=("dax", "destructive"))
    def destroy_dax_device(self, device: DaxDevice | str, *, foreign: bool = False) -> None:
        """Destroy one device-DAX instance of a dynamic region, and verify that it is gone.

        The keyword refuses the instance of a devdax namespace, because `daxctl destroy-device` would disable that
        instance and then fail.

        Args:
            device: The instance's record or name, e.g. `dax0.0`. There is no default and no "all".
            foreign: Allow this keyword to change an instance that this run did not make.

        Raises:
            ForeignError: This run did not make the instance, and `foreign` is not set.
            UnsupportedError: The region of the instance is static. Destroy the namespace instead. Nothing was changed.
            BusyError: The instance is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            ${device} =    Create Dax Device    0    size=64MiB
            Destroy Dax Device    ${device}
        ```
        """
        self._require_own(device, foreign)
        self._dax.destroy(device)
        self._made.discard((self._session.host.alias, _chardev(device)))

    def _owned(self, namespace: Namespace | str, foreign: bool) -> Namespace | str:
        """Return the namespace, or the name of the instance, after a check that this run may change it."""
        owner = self._dax.namespace(namespace)
        if owner is None:
            self._require_own(namespace, foreign)
            return namespace
        if not foreign:
            self._session.run.require_own(owner)
        return owner

    def _require_own(self, device: DaxDevice | Namespace | str, foreign: bool) -> None:
        """Raise unless this process created the instance, or this run made the instance's namespace."""
        if foreign or (self._session.host.alias, _chardev(device)) in self._made:
            return
        owner = self._dax.namespace(device)
        if owner is not None:
            self._session.run.require_own(owner)
            return
        raise ForeignError(
            f"Device-DAX instance {_chardev(device)} on {self._session.host.alias} is not this run's own. Nothing was "
            "changed. Use foreign=True to change or destroy it anyway."
        )


def _chardev(device: DaxDevice | Namespace | str) -> str:
    return device if isinstance(device, str) else device.chardev


def _log_devices(caption: str, devices: tuple[DaxDevice, ...]) -> None:
    log_table(
        caption,
        ("device", "mode", "size", "align", "node", "state"),
        (
            (
                device.chardev,
                device.mode,
                device.size,
                device.align or "-",
                "-" if device.target_node is None else device.target_node,
                device.state or "enabled",
            )
            for device in devices
        ),
    )


def _log_memory(what: str, memory: DaxMemory) -> None:
    logger.info(f"{what}: {memory.chardev} is {memory.state}. MemTotal of the host: {memory.total}.")
    if memory.blocks:
        log_table(
            f"Memory blocks of {memory.chardev}, {memory.block_size} each",
            ("block", "state", "zones"),
            ((block.number, block.state, " ".join(block.zones)) for block in memory.blocks),
        )
