"""Keywords that tell what fits where, before anything is made."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_value
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.converters import unless_default, wanted_align
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.pmem.namespaces.plan import plan_namespace
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN, predict_usable_size
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode, Region
from VpmemLibrary.pmem.regions.room import Extent, Room, read_room
from VpmemLibrary.sizes import ALL, Size


class RoomKeywords:
    """Sizes, room, fragmentation."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _ndctl(self) -> Ndctl:
        return self._context.host.ndctl

    @keyword(tags=("namespace", "prediction"))
    def get_predicted_usable_size(
        self,
        size: Size,
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        sector_size: int = 4096,
        label_version: str = "1.2",
    ) -> Size:
        """Return how much a namespace will have usable, computed without touching a host.

        Args:
            size: What is taken from the region.
            mode: The namespace's mode.
            map: Where its page map lives, for `devdax` and `fsdax`.
            align: Its mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for `sector`.
            label_version: The version of the region's labels, for `sector`: `1.1` or `1.2`.

        Returns:
            The usable bytes.

        Raises:
            InvalidValueError: A namespace of that size cannot be.

        Example:

        ```robotframework
        *** Test Cases ***
        What Is Left
            ${usable} =    Get Predicted Usable Size    64MiB    mode=fsdax    map=dev
            Should Be Equal As Integers    ${usable}    ${62 * 1024 * 1024}
        ```
        """
        return predict_usable_size(
            size, mode=mode, map_location=map, align=align, sector_size=sector_size, label_version=label_version
        )

    @keyword(tags=("namespace", "prediction", "assertion"))
    def namespace_should_fit(
        self,
        region: Region | str,
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        size: Size = ALL,
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        sector_size: int | None = None,
    ) -> Size:
        """Fail unless a region can give such a namespace now, as [Create Namespace] would find it; nothing is made.

        Args:
            region: The region's record or its name.
            mode: `devdax`, `fsdax`, `sector` or `raw`.
            size: What to take from the region, as [Create Namespace] has it: `64MiB`, `at least 64MiB`, or `all` for
                its largest free extent.
            map: Where its page map lives, for `devdax` and `fsdax`.
            align: Its mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes.

        Returns:
            The bytes that it would have usable.

        Raises:
            InvalidValueError: Such a namespace cannot be; a wrong size names the nearest valid ones.
            OutOfSpaceError: The region has no extent so large; the message has its free extents.
            UnsupportedError: The region is disabled, read-only, volatile or has no labels.

        Example:

        ```robotframework
        *** Test Cases ***
        There Is Room
            Namespace Should Fit    region0    mode=devdax    size=at least 256MiB
        ```
        """
        return plan_namespace(
            self._ndctl,
            region,
            mode=mode,
            size=None if size is ALL else size,
            map_location=unless_default(mode, map, MapLocation.dev),
            align=wanted_align(align),
            sector_size=sector_size,
        ).usable

    @keyword(tags=("region", "getter"))
    def get_largest_free_extent(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the size of a region's largest free piece, and assert it when an operator is given.

        It is the largest namespace that can be: what is free in all may lie in pieces.

        Args:
            region: The region's record or its name. It is read afresh.
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `512MiB`.
            message: Your own failure text.

        Returns:
            The size in bytes; 0 when nothing is free.

        Raises:
            NotFoundError: There is no such region.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Room For One
            Get Largest Free Extent    region0    >=    256MiB
        ```
        """
        found = self._ndctl.region(region)
        return assert_size(
            found.free_extent, assertion_operator, expected, f"Largest free extent of {found.dev}", message
        )

    @keyword(tags=("region", "getter"))
    def get_region_extents(self, region: Region | str) -> tuple[Extent, ...]:
        """Return the pieces of a region, free and taken, in the order in which they lie, and show them in the log.

        They are read from sysfs: it is an independent reading of what ndctl sums up as available.

        Args:
            region: The region's record or its name.

        Returns:
            Records with `offset` from the region's first byte, `size`, and `holder`: the device name of the namespace
            that has it, empty for a free one.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It is disabled.

        Example:

        ```robotframework
        *** Test Cases ***
        How It Is Divided
            ${extents} =    Get Region Extents    region0
            Log    ${extents}[0].size at ${extents}[0].offset
        ```
        """
        return self._room(self._ndctl.region(region)).extents

    @keyword(tags=("region", "getter"))
    def get_region_fragmentation(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many per cent of a region's free bytes lie outside its largest free piece, and assert it.

        0 is no fragmentation: all that is free lies in one piece, or nothing is free. The log has the pieces.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The per cent that are expected, a whole number.
            message: Your own failure text.

        Returns:
            A whole number from 0 to 99.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: It is disabled.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        In One Piece
            Get Region Fragmentation    region0    ==    0
        ```
        """
        found = self._ndctl.region(region)
        per_cent = self._room(found).fragmentation
        return assert_value(per_cent, assertion_operator, expected, f"Fragmentation of {found.dev}", message)

    @keyword(tags=("region", "assertion"))
    def region_room_views_should_agree(self, region: Region | str) -> None:
        """Fail unless ndctl's figures of a region's room are those of the gaps between its namespaces in sysfs.

        Args:
            region: The region's record or its name.

        Raises:
            ViewsDisagreeError: They differ; the message is the table with the differing cells marked.

        Example:

        ```robotframework
        *** Test Cases ***
        Capacity Adds Up
            Region Room Views Should Agree    region0
        ```
        """
        found = self._ndctl.region(region)
        room = self._room(found)
        agreement = Agreement(
            found.dev,
            {
                "ndctl": {"available": found.available_size, "largest free extent": found.free_extent},
                "sysfs": {"available": room.available, "largest free extent": room.largest},
            },
        )
        log_table(f"Room of {found.dev}", agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()

    def _room(self, region: Region) -> Room:
        room = read_room(self._context.host.transport, region)
        log_table(
            f"{region.dev}: {room.available} free, {room.fragmentation} % of it outside the largest piece",
            ("offset", "size", "holder"),
            ((extent.offset, extent.size, extent.holder or "free") for extent in room.extents),
        )
        return room
