"""Keywords for regions, DIMMs and their label areas."""

from __future__ import annotations

from typing import Any

from robot.api import logger
from robot.api.deco import keyword

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.host.ndctl import Ndctl
from VpmemLibrary.keywords.assertions import AssertionOperator, assert_size
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.keywords.log import log_regions, log_table
from VpmemLibrary.model import Dimm, Region
from VpmemLibrary.sizes import Size


class RegionKeywords:
    """Regions, DIMMs, labels."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _ndctl(self) -> Ndctl:
        return self._context.host.ndctl

    @keyword(tags=("region", "getter"))
    def get_regions(self) -> tuple[Region, ...]:
        """Return every region of the current host and show them in the log.

        Returns:
            Records with `dev`, `size`, `available_size`, `max_available_extent`, `numa_node`, `dimms`, `namespaces`
            and more; empty when the host has none.

        Example:

        ```robotframework
        *** Test Cases ***
        Four Regions
            ${regions} =    Get Regions
            Length Should Be    ${regions}    4
        ```
        """
        regions = self._ndctl.inventory().regions
        log_regions(f"Regions of {self._context.host.alias}", regions)
        return regions

    @keyword(tags=("region", "getter"))
    def get_region(self, region: Region | str) -> Region:
        """Return one region as a fresh listing shows it.

        Args:
            region: The region's record or its name.

        Returns:
            Its record, as [Get Regions] has it.

        Raises:
            NotFoundError: There is no such region; the message names those that are there.

        Example:

        ```robotframework
        *** Test Cases ***
        What Is In It
            ${region} =    Get Region    region0
            Length Should Be    ${region.namespaces}    3
        ```
        """
        found = self._ndctl.region(region)
        log_regions("Found", (found,))
        return found

    @keyword(tags=("region", "getter"))
    def get_dimms(self) -> tuple[Dimm, ...]:
        """Return every DIMM of the current host and show them in the log.

        Returns:
            Records with `dev`, `id`, `handle`, `state`, `flags` and more; empty when the host has none.

        Example:

        ```robotframework
        *** Test Cases ***
        No Dimm Failed To Arm
            ${dimms} =    Get Dimms
            FOR    ${dimm}    IN    @{dimms}
                Should Not Contain    ${dimm.flags}    failed_arm
            END
        ```
        """
        dimms = self._ndctl.inventory().dimms
        log_table(
            f"DIMMs of {self._context.host.alias}",
            ("DIMM", "id", "handle", "state", "flags"),
            (
                (d.dev, d.id, "-" if d.handle is None else hex(d.handle), d.state or "active", " ".join(d.flags))
                for d in dimms
            ),
        )
        return dimms

    @keyword(tags=("region", "getter"))
    def get_region_size(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a region's size, and assert it when an operator is given.

        Args:
            region: The region's record or its name, e.g. `region0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `1GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such region; the message names those that are there.

        Example:

        ```robotframework
        *** Test Cases ***
        A Region Of One Gibibyte
            Get Region Size    region0    ==    1GiB
        ```
        """
        found = self._ndctl.region(region)
        return assert_size(found.size, assertion_operator, expected, f"Size of {found.dev}", message)

    @keyword(tags=("region", "getter"))
    def get_region_available_size(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many bytes of a region no namespace takes, and assert it when an operator is given.

        The bytes may lie apart: `max_available_extent` of the region's record is the largest piece.

        Args:
            region: The region's record or its name. It is read afresh.
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `1GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such region.

        Example:

        ```robotframework
        *** Test Cases ***
        There Is Room
            Get Region Available Size    region0    >=    256MiB
        ```
        """
        found = self._ndctl.region(region)
        return assert_size(
            found.available_size, assertion_operator, expected, f"Available size of {found.dev}", message
        )

    @keyword(tags=("region", "getter"))
    def get_roomiest_region(self, at_least: Size = Size(0)) -> Region:
        """Return the region of the current host with the largest free extent.

        Args:
            at_least: How much must be free in one piece, e.g. `256MiB`.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: No region has so much; the message names what each has.

        Example:

        ```robotframework
        *** Test Cases ***
        Somewhere
            ${region} =    Get Roomiest Region    at_least=256MiB
            Create Namespace    ${region}    size=256MiB
        ```
        """
        regions: tuple[Region, ...] = self.get_regions()
        best = max(regions, key=lambda region: region.free_extent, default=None)
        if best is None:
            raise UnsupportedError(
                f"Host {self._context.host.alias} has no region: Host Should Support Vpmem names what is missing."
            )
        if best.free_extent < at_least:
            free = ", ".join(f"{region.dev} {region.free_extent}" for region in regions)
            raise UnsupportedError(
                f"No region of {self._context.host.alias} has {at_least} free in one piece: {free}. "
                "A region whose DIMMs have no labels shows nothing free: see Initialize Labels."
            )
        return best

    @keyword(tags=("region", "destructive"))
    def initialize_labels(self, region: Region | str, *, version: str = "1.2", overwrite: bool = False) -> Region:
        """Give the DIMMs of one region fresh label areas, so that namespaces can be cut from it.

        The region is disabled for the time of it, and is verified to be enabled again: `ndctl enable-region` may fail
        and exit 0.

        Args:
            region: The region's record or its name. There is no default and no "all".
            version: The label version, `1.1` or `1.2` (UEFI 2.7).
            overwrite: End the labels, and so the namespaces, that are there.

        Returns:
            The region's record afterwards.

        Raises:
            InvalidValueError: The version is unknown, or there are labels and `overwrite` is not set.
            UnsupportedError: The DIMMs have no label area.
            BusyError: A namespace of the region is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        A New Host
            Initialize Labels    region0
            Get Region Available Size    region0    ==    1GiB
        ```
        """
        before = self._ndctl.region(region)
        after = self._context.host.regions.initialize_labels(before, version=version, overwrite=overwrite)
        log_regions(f"{before.dev} before", (before,))
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "destructive"))
    def initialize_unlabeled_regions(self) -> tuple[str, ...]:
        """Give labels to every region of the current host that has none, if the hosts file allows it.

        A region that has labels is left as it is. A region without labels is one raw namespace: giving it labels ends
        what that held, so it is done only on a host whose section of the hosts file says
        `host_may_initialize_labels = yes`, as the lab's does.

        Returns:
            The names of the regions that were given labels.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Initialize Unlabeled Regions
        ```
        """
        unlabeled = self._context.host.regions.unlabeled()
        if unlabeled and not self._context.current.may_initialize_labels:
            logger.info(
                f"Left without labels, as the hosts file does not say host_may_initialize_labels: "
                f"{', '.join(region.dev for region in unlabeled)}."
            )
            return ()
        for region in unlabeled:
            self.initialize_labels(region)
        return tuple(region.dev for region in unlabeled)
