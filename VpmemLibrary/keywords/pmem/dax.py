"""Keywords for device DAX: as a device, as system RAM, and back."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import ForeignError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.dax.daxctl import DaxDevices
from VpmemLibrary.pmem.dax.memory import DaxMemory
from VpmemLibrary.pmem.records import DaxDevice, DaxMode, DaxRegion, Namespace
from VpmemLibrary.sizes import ALL, Size

TIMEOUT = timedelta(minutes=1)


class DaxKeywords:
    """Device DAX."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: set[tuple[str, str]] = set()

    @property
    def _dax(self) -> DaxDevices:
        return self._context.host.dax

    @keyword(tags=("dax", "getter"))
    def get_dax_devices(self) -> tuple[DaxDevice, ...]:
        """Return every device-DAX instance of the current host, disabled ones too, and show them in the log.

        Returns:
            Records with `chardev`, `size`, `mode` (`devdax` or `system-ram`), `align`, `target_node`, `state`; empty
            when there is none.

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
        _log_devices(f"Device-DAX instances of {self._context.host.alias}", devices)
        return devices

    @keyword(tags=("dax", "getter"))
    def get_dax_regions(self) -> tuple[DaxRegion, ...]:
        """Return every device-DAX region of the current host and show them in the log.

        A devdax namespace is a static region with one instance. Instances can be cut from a dynamic one only.

        Returns:
            Records with `id`, `size`, `available_size`, `dynamic`, `devices`; empty when there is none.

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
            f"Device-DAX regions of {self._context.host.alias}",
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
        """Return how a device-DAX instance is used, as the kernel has it, and assert it when an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The mode that is expected: `devdax`, `system-ram`, or `disabled` for one that no driver holds.
            message: Your own failure text.

        Returns:
            The mode as text.

        Raises:
            NotFoundError: There is no such namespace or instance.
            InvalidValueError: The namespace has no instance: it is not devdax, or not active.
            AssertionError: It is not as expected.

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
        """Return a device-DAX instance and its memory blocks as the kernel has them, and show them in the log.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.

        Returns:
            A record with `mode`, `blocks` (each with `number`, `state`, `zones`), `block_size`, `online` (how many
            blocks are), `growth` (predicted), `auto_online` (the kernel's policy for new memory), `total` (MemTotal).

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
        """Return the RAM of the current host (MemTotal of `/proc/meminfo`), and assert it when an operator is given.

        Args:
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `4GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            AssertionError: It is not as expected.

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
        subject = f"MemTotal of {self._context.host.alias}"
        return assert_size(total, assertion_operator, expected, subject, message)

    @keyword(tags=("dax", "prediction"))
    def get_predicted_memory_growth(self, namespace: Namespace | str) -> Size:
        """Return by how much MemTotal grows when a namespace's device-DAX instance is made system RAM.

        The kernel takes whole memory blocks only. The part of the namespace that is no whole block stays unused; a
        namespace of 256 MiB in blocks of 128 MiB usually gives 128 MiB, as its first bytes are its info block.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.

        Returns:
            The predicted growth in bytes; 0 when it holds no whole memory block.

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
        """Make a namespace's device-DAX instance system RAM of the host, or a device again. What it holds is lost.

        Nothing is believed of daxctl: the driver, every memory block and its zone are read from the kernel afterwards.
        A change that fails leaves the instance as it was, as far as the kernel allows, and the failure tells what it
        is. The module `kmem` is loaded when it is missing. To ask for the mode that it has is harmless.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.
            mode: `system-ram` or `devdax`.
            online: For `system-ram`: put the memory online, so that it is used.
            movable: For `system-ram`: put it into the movable zone. From another zone it may never come back.
            force: For `devdax`: put the memory offline first; what is in it is moved to other memory. Otherwise memory
                that is online is refused, with daxctl's own refusal.
            timeout: How long each command of daxctl may take.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The record of [Get Dax Memory] afterwards.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            InvalidValueError: It is not devdax, or holds no whole memory block; nothing was changed.
            BusyError: A process has it open or mapped; or its memory cannot be put offline, and is online as before.
            UnsupportedError: The kernel cannot add memory at run time, or has no module `kmem`.
            CommandError: daxctl failed, or did not do what it reports.

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
        """Put the memory of a namespace that is system RAM online, and prove that every block is.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.
            movable: Into the movable zone. Memory that is online in another zone is refused.
            timeout: How long daxctl may take.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The record of [Get Dax Memory] afterwards.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: It is not system RAM, or is online in another zone.
            CommandError: daxctl failed, or did not do what it reports.

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
        """Put the memory of a namespace that is system RAM offline, and prove that every block is.

        What is in it is moved to other memory of the host. The kernel tries that for ever, so it ends with `timeout`;
        all of the memory is then online again.

        Args:
            namespace: The namespace's record, UUID, name or device name; or the instance's name, e.g. `dax0.0`.
            timeout: How long daxctl may take.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The record of [Get Dax Memory] afterwards.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: It is not system RAM.
            BusyError: Some of it is in use and cannot be moved; nothing is lost.

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
        """Cut a device-DAX instance from a dynamic device-DAX region, such as special-purpose or CXL memory.

        A devdax namespace is a static region: it has one instance, of a fixed size.

        Args:
            region: The region's record or its number.
            size: Its bytes, a multiple of the region's alignment; `all` takes all that is available.

        Returns:
            The instance's record.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: The region is static; nothing was changed.
            OutOfSpaceError: The region has not so much; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        A Piece Of Special Purpose Memory
            ${device} =    Create Dax Device    0    size=64MiB
            Destroy Dax Device    ${device}
        ```
        """
        device = self._dax.create(region, size=None if size is ALL else size)
        self._made.add((self._context.host.alias, device.chardev))
        _log_devices("Created", (device,))
        return device

    @keyword(tags=("dax", "destructive"))
    def resize_dax_device(self, device: DaxDevice | str, *, size: Size, foreign: bool = False) -> DaxDevice:
        """Give a device-DAX instance of a dynamic region another size.

        Args:
            device: The instance's record or name, e.g. `dax0.0`.
            size: Its new size, a multiple of its alignment.
            foreign: Allow it on an instance that this run did not make.

        Returns:
            The instance's record afterwards.

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            UnsupportedError: Its region is static; nothing was changed.
            BusyError: It is in use; nothing was changed.

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
        """Destroy one device-DAX instance of a dynamic region, and prove that it is gone.

        `daxctl destroy-device` on the one of a namespace would disable it and then fail; it is refused before that.

        Args:
            device: The instance's record or name, e.g. `dax0.0`. There is no default and no "all".
            foreign: Allow it on an instance that this run did not make.

        Raises:
            ForeignError: This run did not make it, and `foreign` is not set.
            UnsupportedError: Its region is static: destroy the namespace; nothing was changed.
            BusyError: It is in use; nothing was changed.

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
        self._made.discard((self._context.host.alias, _chardev(device)))

    def _owned(self, namespace: Namespace | str, foreign: bool) -> Namespace | str:
        """Return a namespace, or an instance by name, that may be changed."""
        owner = self._dax.namespace(namespace)
        if owner is None:
            self._require_own(namespace, foreign)
            return namespace
        if not foreign:
            self._context.run.require_own(owner)
        return owner

    def _require_own(self, device: DaxDevice | Namespace | str, foreign: bool) -> None:
        """Raise unless this process cut an instance, or this run made the namespace that it is of."""
        if foreign or (self._context.host.alias, _chardev(device)) in self._made:
            return
        owner = self._dax.namespace(device)
        if owner is not None:
            self._context.run.require_own(owner)
            return
        raise ForeignError(
            f"Device-DAX instance {_chardev(device)} on {self._context.host.alias} is not this run's own. It was left "
            "as it is. Say foreign=True to change or destroy it all the same."
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
