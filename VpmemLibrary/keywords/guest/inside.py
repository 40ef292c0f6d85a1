"""Keywords that work inside a guest: run commands, compare views, and check the bytes of devices."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword
from robot.api.types import Secret

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.guest import inspection, readiness
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.prediction import backing_offset, guest_region_size, label_area_offset
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.converters import to_bytes
from VpmemLibrary.keywords.support.drawing import chain_svg
from VpmemLibrary.keywords.support.log import log_drawing, log_regions, log_table, logger
from VpmemLibrary.keywords.support.targets import backing_of, path_of
from VpmemLibrary.pmem.records import Namespace, Region
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult


class InsideKeywords:
    """Keywords for the inside of a guest."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def _guest(self, guest: Guest | str) -> Guest:
        return self._session.current.guests.find(guest)

    @keyword(tags=("inside",))
    def run_in_guest(
        self,
        guest: Guest | str,
        *command: str,
        timeout: timedelta | None = None,
        stdin: str | Secret = "",
        expected_status: int | None = 0,
    ) -> CommandResult:
        """Run a command in a guest through its channel.

        The channel is the QEMU guest agent, unless [Use Guest Channel] chose another channel. The command is a list of
        arguments and no shell interprets it, as with [Run On Host]. The agent can return up to 3 MiB of output.

        Args:
            guest: The guest or its name.
            command: The program and its arguments, each as its own value.
            timeout: How long the command may run. A command that runs longer is ended. The default is the library's own
                timeout.
            stdin: The command's standard input. A `Secret` is never logged. Other text is logged at level TRACE.
            expected_status: The expected exit status. `None` accepts any exit status.

        Returns:
            A result with `exit_status`, `text` (standard output), `error_text`, `seconds` and `command`.

        Raises:
            CommandError: The exit status is not the expected one. The message has the command, the status and standard
                error.
            CommandTimeoutError: The command took too long.
            GuestError: The agent, or the shell on the serial console, does not answer or cannot return that much
                output.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Devices
            ${result} =    Run In Guest    ${guest}    ndctl    list    -N
            Log    ${result.text}
        ```
        """
        seconds = self._session.timeout if timeout is None else timeout.total_seconds()
        result = self._guest(guest).transport.run(command, timeout=seconds, stdin=to_bytes(stdin))
        return result.expect(expected_status)

    @keyword(tags=("inside", "getter"))
    def get_guest_boot_id(
        self,
        guest: Guest | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the boot id of a guest's kernel, and assert it if an operator is given.

        Every boot has a different id (`/proc/sys/kernel/random/boot_id`). A changed id proves that the guest has booted
        again.

        Args:
            guest: The guest or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected id.
            message: Your own failure text.

        Returns:
            The boot id.

        Raises:
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Another Boot
            ${before} =    Get Guest Boot Id    ${guest}
            Reboot Guest    ${guest}
            Get Guest Boot Id    ${guest}    !=    ${before}
        ```
        """
        found = self._guest(guest)
        return assert_text(
            readiness.current_boot_id(found), assertion_operator, expected, f"Boot id of guest {found.name}", message
        )

    @keyword(tags=("inside", "getter"))
    def get_guest_regions(self, guest: Guest | str) -> tuple[Region, ...]:
        """Return the regions of a guest's kernel, and show them in the log.

        The records are the same as for a host's regions.

        Args:
            guest: The guest or its name.

        Returns:
            The records of the regions, with their namespaces.

        Raises:
            GuestError: The guest's agent does not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        One Device One Region
            ${regions} =    Get Guest Regions    ${guest}
            Length Should Be    ${regions}    1
        ```
        """
        found = self._guest(guest)
        regions = found.ndctl.inventory().regions
        log_regions(f"Regions in guest {found.name}", regions)
        return regions

    @keyword(tags=("inside", "getter"))
    def get_guest_region_size(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str | None = None,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the size of a device's region in the guest's kernel, and assert it if an operator is given.

        The library finds the region by the device's NFIT handle (its memory slot + 1), never by order.

        Args:
            guest: The guest or its name.
            device: The device or its backing, which is a namespace or a path. It is optional if the guest has one
                device.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected size, e.g. `252MiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: The guest has no such device, or the guest's kernel has no region for the device.
            AmbiguousError: No device is given, and the guest has several devices.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Less Its Label Area
            ${size} =    Get Predicted Guest Region Size    ${device}
            Get Guest Region Size    ${guest}    ${device}    ==    ${size}
        ```
        """
        found = self._guest(guest)
        target = found.device(backing_of(self._session, device))
        region = inspection.region_of(found, target)
        return assert_size(
            region.size, assertion_operator, expected, f"Size of {region.dev} in guest {found.name}", message
        )

    @keyword(tags=("inside", "getter"))
    def get_guest_device(self, guest: Guest | str, backing: Namespace | str | None = None) -> VpmemDevice:
        """Return one device of a guest.

        Args:
            guest: The guest or its name.
            backing: The device's backing: a namespace or a path. It is optional if the guest has one device.

        Returns:
            The device's record.

        Raises:
            NotFoundError: The guest has no device on that backing. The message lists the guest's backings.
            AmbiguousError: No backing is given, and the guest has several devices.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Slot
            ${device} =    Get Guest Device    ${guest}    backing=ns_0
            Should Be Equal As Integers    ${device.slot}    0
        ```
        """
        return self._guest(guest).device(backing_of(self._session, backing))

    @keyword(tags=("inside", "getter"))
    def get_guest_device_node(self, guest: Guest | str, device: VpmemDevice | Namespace | str | None = None) -> str:
        """Return the device node of a guest's device inside the guest, e.g. `/dev/pmem0`.

        The library finds the region by the device's NFIT handle, never by order. The node belongs to the only namespace
        of that region.

        Args:
            guest: The guest or its name.
            device: The device or its backing. It is optional if the guest has one device.

        Returns:
            The node's path in the guest.

        Raises:
            NotFoundError: The guest has no such device, or the guest's kernel has no node for the device.
            AmbiguousError: Several devices or nodes match.

        Example:

        ```robotframework
        *** Test Cases ***
        As The Guest Calls It
            ${node} =    Get Guest Device Node    ${guest}    ${device}
            Run In Guest    ${guest}    test    -b    ${node}
        ```
        """
        found = self._guest(guest)
        return inspection.node_of(found, found.device(backing_of(self._session, device)))

    @keyword(tags=("guest", "getter"))
    def get_guest_mapping_flags(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str | None = None,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the flags of QEMU's mapping of a device's backing, and assert them if an operator is given.

        The flags are read from the host's kernel (`VmFlags` in `/proc/PID/smaps`). Each flag has two letters: `sf` is a
        mapping with MAP_SYNC, `sh` is a shared mapping. QEMU requests MAP_SYNC if the device is shared and `pmem`. If
        the kernel refuses MAP_SYNC, QEMU continues without it (QEMU, util/mmap-alloc.c).

        Args:
            guest: The guest or its name.
            device: The device or its backing. It is optional if the guest has one device.
            assertion_operator: See *Assertions* in the introduction. `contains` and `not contains` are useful here.
            expected: An expected flag, or all expected flags with `==`.
            message: Your own failure text.

        Returns:
            The flags, separated by blanks, e.g. `rd wr sh mr mw me ms sf hg`.

        Raises:
            GuestError: The guest is not running.
            NotFoundError: The guest's QEMU has not mapped that backing.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Synchronous
            Get Guest Mapping Flags    ${guest}    ${device}    contains    sf
        ```
        """
        found = self._guest(guest)
        target = found.device(backing_of(self._session, device))
        flags = " ".join(inspection.mapping_flags(found, target))
        return assert_text(flags, assertion_operator, expected, f"QEMU's mapping of {target.path}", message)

    @keyword(tags=("prediction",))
    def get_predicted_guest_region_size(self, device: VpmemDevice) -> Size:
        """Predict the size of a device's region in the guest. No guest is started.

        The size is the device without its label area, rounded down to the device's alignment (QEMU, docs/nvdimm.txt).

        Args:
            device: The device's record.

        Returns:
            The predicted size in bytes.

        Example:

        ```robotframework
        *** Test Cases ***
        How Much The Guest Gets
            ${device} =    New Vpmem Device    ns_0
            ${size} =    Get Predicted Guest Region Size    ${device}
        ```
        """
        return guest_region_size(device)

    @keyword(tags=("prediction",))
    def get_predicted_label_area_offset(self, device: VpmemDevice) -> Size:
        """Predict the offset of a device's label area in its backing. The label area is at the end of the device.

        Args:
            device: The device's record.

        Returns:
            The offset in bytes (QEMU, hw/mem/nvdimm.c).

        Raises:
            InvalidValueError: The device has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        No Labels Yet
            ${device} =    New Vpmem Device    ns_0    label_size=128KiB
            ${offset} =    Get Predicted Label Area Offset    ${device}
            Content Should Be Zero    ns_0    offset=${offset}    length=128KiB
        ```
        """
        return label_area_offset(device)

    @keyword(tags=("inside", "assertion"))
    def all_views_should_agree(self, guest: Guest | str) -> None:
        """Fail unless all views of every device of a running guest agree.

        The views are independent readings:

        - what the test asked for,
        - libvirt's live XML,
        - the command line of the running QEMU process,
        - QEMU's monitor (QMP),
        - the guest's kernel.

        The keyword compares path, size, label area, alignment, sharing, pmem, read-only state, NUMA node and slot, as
        far as a view can know these values. It matches devices by slot and NFIT handle, never by order. The log has a
        table for each device and a drawing of the chain from host to guest.

        Args:
            guest: The guest or its name.

        Raises:
            ViewsDisagreeError: The views differ. The message is a table in which the differing cells are marked.
            GuestError: The guest is not running, or its agent does not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same Story
            All Views Should Agree    ${guest}
        ```
        """
        found = self._guest(guest)
        agreements = inspection.compare_views(found)
        for agreement in agreements:
            log_table(agreement.subject, agreement.header, agreement.rows, marked=agreement.marked)
        self._draw(found)
        for agreement in agreements:
            agreement.require()

    @keyword(tags=("inside", "content", "destructive"))
    def write_pattern_in_guest(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str | None = None,
        *,
        seed: str,
        length: Size,
        offset: Size = Size(0),
    ) -> None:
        """Write a pattern to a guest's device from inside the guest, and flush it.

        The guest generates the pattern itself. It writes the pattern to the device's block device and bypasses the page
        cache.

        Args:
            guest: The guest or its name.
            device: The device or its backing. It is optional if the guest has one device.
            seed: Any text. The same seed gives the same bytes on every machine.
            length: The number of bytes to write, a multiple of 4 KiB.
            offset: The start offset in the device, a multiple of 4 KiB.

        Raises:
            NotFoundError: The guest has no such device.
            InvalidValueError: The offset or the length is not aligned, or the range goes beyond the end of the device.

        Example:

        ```robotframework
        *** Test Cases ***
        Bytes
            Write Pattern In Guest    ${guest}    seed=first tenant    length=16MiB
            Guest Pattern Should Be Intact    ${guest}    seed=first tenant    length=16MiB
        ```
        """
        found = self._guest(guest)
        target = found.device(backing_of(self._session, device))
        report = found.content.write(inspection.node_of(found, target), _pattern(seed, offset, length))
        logger.info(f"Wrote {report}.")

    @keyword(tags=("inside", "content", "assertion"))
    def guest_pattern_should_be_intact(
        self,
        guest: Guest | str,
        device: VpmemDevice | Namespace | str | None = None,
        *,
        seed: str,
        length: Size,
        offset: Size = Size(0),
    ) -> None:
        """Fail unless a guest's device contains a pattern. The guest itself reads and compares the bytes.

        Args:
            guest: The guest or its name.
            device: The device or its backing. It is optional if the guest has one device.
            seed: The pattern's seed.
            length: The number of bytes to compare.
            offset: The start offset in the device.

        Raises:
            AssertionError: The bytes differ. The message has the first differing offset and the number of differing
                bytes.

        Example:

        ```robotframework
        *** Test Cases ***
        Still There
            Guest Pattern Should Be Intact    ${guest}    seed=first tenant    length=16MiB
        ```
        """
        found = self._guest(guest)
        target = found.device(backing_of(self._session, device))
        found.content.verify(inspection.node_of(found, target), _pattern(seed, offset, length)).require()

    @keyword(tags=("content", "assertion"))
    def host_should_hold_guest_pattern(
        self,
        guest: Guest | str,
        namespace: Namespace | str,
        *,
        seed: str,
        length: Size,
        offset: Size = Size(0),
    ) -> None:
        """Fail unless the host finds a guest's pattern in the backing, at the offset that the library predicts.

        The host reads its own namespace or file. The guest need not run.

        Args:
            guest: The guest or its name.
            namespace: The namespace or the file path that backs the guest's device.
            seed: The pattern's seed.
            length: The number of bytes to compare.
            offset: The offset in the device at which the guest wrote the pattern.

        Raises:
            NotFoundError: The guest has no device on that backing.
            AssertionError: The pattern is not in the backing. The message has the first differing offset.

        Example:

        ```robotframework
        *** Test Cases ***
        The Host's Own Look
            Host Should Hold Guest Pattern    ${guest}    ns_0    seed=first tenant    length=16MiB
        ```
        """
        path = path_of(self._session, namespace)
        device = self._guest(guest).device(path)
        pattern = _pattern(seed, offset, length)
        where = backing_offset(device, offset)
        logger.info(f"The guest's byte {int(offset)} is predicted at byte {int(where)} of {path}.")
        self._session.host.content.verify(path, pattern, at=where).require()

    def _draw(self, guest: Guest) -> None:
        inventory = self._session.host.ndctl.inventory()
        by_device = {namespace.device: namespace for namespace in inventory.namespaces}
        regions = inspection.regions_by_path(guest)
        chains = []
        for device in guest.devices:
            namespace = by_device.get(device.path)
            region = regions.get(device.path, Region("no region"))
            node = ", ".join(each.device for each in region.namespaces if each.device)
            chains.append(
                [
                    (namespace.region, self._session.host.alias) if namespace else (device.path, "a file"),
                    (namespace.called, f"{namespace.mode}, {namespace.size}") if namespace else (device.path, "file"),
                    _device_box(device),
                    (f"{region.dev} {node}", f"{region.size}"),
                ]
            )
        log_drawing(chain_svg(("host", "backing", f"guest {guest.name}", "its kernel"), chains))


def _device_box(device: VpmemDevice) -> tuple[str, str]:
    if device.slot is None:
        return (str(device.model), str(device.size))
    return (f"{device.model} in slot {device.slot}", f"label {device.label_size}, align {device.align}")


def _pattern(seed: str, offset: Size, length: Size) -> Pattern:
    return Pattern(seed=seed, offset=offset, length=length)
