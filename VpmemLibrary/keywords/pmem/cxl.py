"""Keywords for CXL memory: devices, the regions that are assembled from them, and poison."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import ForeignError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_count
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.pmem.regions.cxl import Cxl, CxlMemdev, CxlRegion, MediaError
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size

NO_SIZE = Size(0)
"""The default that means "all the persistent memory"."""


class CxlKeywords:
    """Keywords for CXL memory."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _cxl(self) -> Cxl:
        return self._session.host.cxl

    @keyword(tags=("cxl",))
    def add_cxl_device(self, *, timeout: timedelta = timedelta(minutes=2)) -> tuple[CxlMemdev, ...]:
        """Add a CXL device to the running current host, with the command `host_cxl_add` of its hosts file section.

        The command runs on the machine that runs the tests. For a real host, it can call the fabric manager of a
        switch. The lab's hosts file has a command of its own. A host that always has its devices needs no command.

        Args:
            timeout: How long the command may take.

        Returns:
            All CXL memory devices that the host has afterwards, see [Get Cxl Memory Devices].

        Raises:
            UnsupportedError: The host's section has no `host_cxl_add` and `host_cxl_remove`, or the host is a guest.
            CommandError: The command failed.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup       Add Cxl Device
        Suite Teardown    Remove Cxl Device
        ```
        """
        self._session.current.require_cxl_control().run(add=True, timeout=timeout.total_seconds())
        return self._logged_devices()

    @keyword(tags=("cxl", "destructive"))
    def remove_cxl_device(self, *, timeout: timedelta = timedelta(minutes=2)) -> None:
        """Remove the CXL device of [Add Cxl Device] from the current host, with the command `host_cxl_remove`.

        The command is a setting of the host's section of the hosts file. In the lab, the content of the device is lost.

        Args:
            timeout: How long the command may take.

        Raises:
            UnsupportedError: The host's section has no `host_cxl_add` and `host_cxl_remove`, or the host is a guest.
            ForeignError: The host has CXL regions that this run did not make. Nothing was changed.
            CommandError: The command failed, for example because something uses the device.

        Example:

        ```robotframework
        *** Settings ***
        Suite Teardown    Remove Cxl Device
        ```
        """
        control = self._session.current.require_cxl_control()
        foreign = [name for name, uuid in self._cxl.region_uuids().items() if not self._session.run.owns_uuid(uuid)]
        if foreign:
            raise ForeignError(
                f"{self._session.host.alias} has CXL regions that this run did not make: {', '.join(foreign)}. The "
                "device was not removed. Destroy these regions first, if nobody needs them."
            )
        control.run(add=False, timeout=timeout.total_seconds())

    @keyword(tags=("cxl", "getter"))
    def get_cxl_memory_devices(self) -> tuple[CxlMemdev, ...]:
        """Return the CXL memory devices of the current host, and show them in the log.

        Returns:
            Records with `dev` (`mem0`), `pmem_size` and `ram_size` in bytes, `serial`, `host` (the PCI device) and
            `extra`. The result is empty if the host has no such device.

        Raises:
            ToolMissingError: cxl is not installed on the host.

        Example:

        ```robotframework
        *** Test Cases ***
        One Device Has Persistent Memory
            ${devices} =    Get Cxl Memory Devices
            Should Be True    $devices[0].pmem_size > 0
        ```
        """
        return self._logged_devices()

    @keyword(tags=("cxl", "getter"))
    def get_cxl_region(self, region: CxlRegion | Region | str) -> CxlRegion:
        """Return one region of CXL memory from cxl and sysfs.

        Args:
            region: The region's record or name, e.g. `region4`.

        Returns:
            A record with `dev`, `size` in bytes, `memory` (`pmem` or `ram`), `memdevs`, `state` (`commit` if the
            region's decoders are set up), `uuid` and `extra`.

        Raises:
            NotFoundError: There is no such region. The message lists the existing regions.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Decoders Are Set Up
            ${region} =    Get Cxl Region    region4
            Should Be Equal    ${region.state}    commit
        ```
        """
        return self._cxl.region(region)

    @keyword(tags=("cxl",))
    def create_cxl_region(self, *memdevs: CxlMemdev | str, size: Size = NO_SIZE) -> Region:
        """Assemble a persistent region from CXL memory devices. Namespaces can be created in it as in any region.

        The region's UUID has this run's mark, so [Clean Up Host] removes the region. The devices keep the labels of the
        namespaces. If a region is assembled again from the same devices, it has the same namespaces again.

        Args:
            memdevs: The devices in the order of interleaving: records or names, e.g. `mem0`.
            size: The region's size, a multiple of 256 MiB for each device. The default is all the persistent memory.

        Returns:
            The region's record, as in [Get Region]. Its `provider` is `CXL`.

        Raises:
            NotFoundError: There is no such device.
            InvalidValueError: A device is given twice or has no persistent memory, or the size is invalid. Nothing was
                changed.
            UnsupportedError: The host's cxl cannot give a region its UUID. Nothing was changed.
            CommandError: cxl failed, or the kernel has no region of that size afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        A Namespace On CXL Memory
            ${region} =    Create Cxl Region    mem0
            ${namespace} =    Create Namespace    ${region}    mode=devdax    size=at least 64MiB
        ```
        """
        uuid = self._session.current.tenancy.new_uuid()
        region = self._cxl.create_region(memdevs, uuid=uuid, size=None if size == NO_SIZE else size)
        logger.info(f"Assembled {region.dev} of {region.size} from {', '.join(region.dimms)}.")
        return region

    @keyword(tags=("cxl", "destructive"))
    def destroy_cxl_region(self, region: CxlRegion | Region | str, *, foreign: bool = False) -> None:
        """Destroy a region of CXL memory. The labels of its namespaces stay on the devices.

        Args:
            region: The region's record or name, e.g. `region4`.
            foreign: Allow this keyword to change a region that this run did not make.

        Raises:
            NotFoundError: There is no such region.
            ForeignError: This run did not make the region, and `foreign` is not set. Nothing was changed.
            BusyError: The region has active namespaces, which would disappear while in use. Nothing was changed.
            CommandError: cxl failed, or the region still exists.

        Example:

        ```robotframework
        *** Test Cases ***
        Taken Apart
            Destroy Cxl Region    region4
        ```
        """
        found = self._cxl.region(region)
        if not foreign and not self._session.run.owns_uuid(found.uuid):
            raise ForeignError(
                f"CXL region {found.dev} (UUID {found.uuid or 'none'}) is not this run's own. Nothing was changed. "
                "Use foreign=True to destroy it anyway."
            )
        self._cxl.destroy_region(found)

    @keyword(tags=("cxl", "getter"))
    def get_media_errors(
        self,
        memdev: CxlMemdev | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the poisoned ranges of a CXL memory device, as the device lists them, and show them in the log.

        With an operator, also assert the number of ranges.

        Args:
            memdev: The device's record or name, e.g. `mem0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            Records with `offset` and `length` in bytes from the start of the device, and `source`.

        Raises:
            NotFoundError: There is no such device.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Poisoned
            Get Media Errors    mem0    ==    0
        ```
        """
        errors = self._logged(memdev, self._cxl.media_errors(memdev))
        subject = f"Number of media errors of {_name(memdev)}"
        return assert_count(errors, assertion_operator, expected, subject, message)

    @keyword(tags=("cxl", "destructive"))
    def inject_poison(self, memdev: CxlMemdev | str, *, offset: Size, foreign: bool = False) -> tuple[MediaError, ...]:
        """Poison one cache line (64 bytes) of a CXL memory device.

        Args:
            memdev: The device's record or name, e.g. `mem0`.
            offset: The offset in bytes from the start of the device, a multiple of 64.
            foreign: Allow this keyword to change a device from which this run assembled no region.

        Returns:
            All poisoned ranges of the device afterwards, see [Get Media Errors].

        Raises:
            NotFoundError: There is no such device.
            ForeignError: `foreign` is not set, and the device has no region of this run, or has a region with a
                namespace that this run did not make. Nothing was changed.
            InvalidValueError: The offset is invalid. Nothing was changed.
            CommandError: The device refused the injection, or does not list the poison afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        A Poisoned Line
            Inject Poison    mem0    offset=1MiB
            Get Media Errors    mem0    ==    1
        ```
        """
        return self._logged(memdev, self._cxl.inject_poison(self._own(memdev, foreign), offset))

    @keyword(tags=("cxl", "destructive"))
    def clear_poison(self, memdev: CxlMemdev | str, *, offset: Size, foreign: bool = False) -> tuple[MediaError, ...]:
        """Clear the poison of one cache line (64 bytes) of a CXL memory device. This writes zeros to the cache line.

        Args:
            memdev: The device's record or name, e.g. `mem0`.
            offset: The offset in bytes from the start of the device, a multiple of 64.
            foreign: Allow this keyword to change a device from which this run assembled no region.

        Returns:
            All ranges of the device that are still poisoned, see [Get Media Errors].

        Raises:
            NotFoundError: There is no such device.
            ForeignError: `foreign` is not set, and the device has no region of this run, or has a region with a
                namespace that this run did not make. Nothing was changed.
            InvalidValueError: The offset is invalid. Nothing was changed.
            CommandError: The device refused to clear the poison, or still lists it.

        Example:

        ```robotframework
        *** Test Cases ***
        Cleared
            Clear Poison    mem0    offset=1MiB
        ```
        """
        return self._logged(memdev, self._cxl.clear_poison(self._own(memdev, foreign), offset))

    def _own(self, memdev: CxlMemdev | str, foreign: bool) -> CxlMemdev:
        found = self._cxl.memdev(memdev)
        regions = [region for region in self._cxl.regions() if found.dev in region.memdevs]
        own = regions and all(self._session.run.owns_uuid(region.uuid) for region in regions)
        if not foreign and not own:
            raise ForeignError(
                f"CXL memory device {found.dev} of {self._session.host.alias} has no region of this run, or also has "
                "other regions. Nothing was changed. Use foreign=True to change its content anyway."
            )
        if not foreign:  # the device's labels may bring older namespaces into the new region
            names = {region.dev for region in regions}
            for namespace in self._session.host.ndctl.inventory().namespaces:
                if namespace.region in names and namespace.size:
                    self._session.run.require_own(namespace)
        return found

    def _logged_devices(self) -> tuple[CxlMemdev, ...]:
        found = self._cxl.memdevs()
        rows = ((each.dev, each.pmem_size, each.ram_size, each.serial, each.host) for each in found)
        header = ("device", "persistent", "volatile", "serial", "PCI")
        log_table(f"CXL memory devices of {self._session.host.alias}", header, rows)
        return found

    def _logged(self, memdev: CxlMemdev | str, errors: tuple[MediaError, ...]) -> tuple[MediaError, ...]:
        rows = ((each.offset, each.length, each.source) for each in errors)
        log_table(f"Media errors of {_name(memdev)}: {len(errors)}", ("offset", "length", "source"), rows)
        return errors


def _name(memdev: CxlMemdev | str) -> str:
    return memdev if isinstance(memdev, str) else memdev.dev
