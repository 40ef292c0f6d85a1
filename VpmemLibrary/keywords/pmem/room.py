"""Keywords that predict sizes and report free space, before anything is created."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.keywords.support.converters import unless_default, wanted_align
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.pmem.namespaces.plan import alignments_of, plan_namespace
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import ALIGNMENTS, DEFAULT_ALIGN, predict_usable_size
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode, Region
from VpmemLibrary.pmem.regions.room import Extent, Room, read_room
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size
from VpmemLibrary.transport.base import Transport


class RoomKeywords:
    """Keywords for sizes, free space and fragmentation."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _ndctl(self) -> Ndctl:
        return self._session.host.ndctl

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
        region: Region | str | None = None,
    ) -> Size:
        """Predict the usable size of a namespace. No host is accessed, unless `region` is a name.

        The size depends on the page size of the machine's kernel. By default, pages have 4 KiB. Give the region if the
        machine may have pages of 64 KiB, as on IBM Power and on some arm64 machines.

        Args:
            size: The size that is taken from the region.
            mode: The namespace's mode.
            map: The location of the page map, for `devdax` and `fsdax`.
            align: The mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for `sector`.
            label_version: The version of the region's labels, for `sector`: `1.1` or `1.2`. A given region without
                DIMMs has no labels, and the tables of `sector` are there as with labels 1.1.
            region: The region's record or its name, for the page size and the mapping alignments of its machine.

        Returns:
            The usable size in bytes.

        Raises:
            InvalidValueError: A namespace of that size is invalid.
            NotFoundError: There is no such region.

        Example:

        ```robotframework
        *** Test Cases ***
        Predicted Size
            ${usable} =    Get Predicted Usable Size    64MiB    mode=fsdax    map=dev
            Should Be Equal As Integers    ${usable}    ${62 * 1024 * 1024}
        ```
        """
        known = region if region is None or isinstance(region, Region) else self._ndctl.region(region)
        return predict_usable_size(
            size,
            mode=mode,
            map_location=map,
            align=wanted_align(align),
            sector_size=sector_size,
            # Without DIMMs the kernel writes a BTT of version 1 (drivers/nvdimm/namespace_devs.c, btt_claim_class).
            label_version=label_version if known is None or known.dimms else "1.1",
            alignments=alignments_of(known, mode) if known else ALIGNMENTS,
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
        """Fail unless a region has space for a namespace now. Nothing is created.

        The keyword makes the same checks as [Create Namespace].

        Args:
            region: The region's record or its name.
            mode: `devdax`, `fsdax`, `sector` or `raw`.
            size: The size to take from the region, as in [Create Namespace]: `64MiB`, `at least 64MiB`, or `all` for
                the region's largest free extent.
            map: The location of the page map, for `devdax` and `fsdax`.
            align: The mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes.

        Returns:
            The usable size that the namespace would have, in bytes.

        Raises:
            InvalidValueError: Such a namespace is invalid. If the size is wrong, the message lists the nearest valid
                sizes.
            OutOfSpaceError: The region has no free extent of this size. The message lists the region's free extents.
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
    def get_region_extents(self, region: Region | str) -> tuple[Extent, ...]:
        """Return the free and used extents of a region, in the order of their offsets, and show them in the log.

        The extents are read from sysfs. This reading is independent of the available size that ndctl reports.

        Args:
            region: The region's record or its name.

        Returns:
            Records with `offset` from the region's first byte, `size`, and `holder`: the device name of the namespace
            in the extent, or empty for a free extent.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: The region is disabled.

        Example:

        ```robotframework
        *** Test Cases ***
        How It Is Divided
            ${extents} =    Get Region Extents    region0
            Log    ${extents}[0].size at ${extents}[0].offset
        ```
        """
        return logged_room(self._session.host.transport, self._ndctl.region(region)).extents

    @keyword(tags=("region", "assertion"))
    def region_room_views_should_agree(self, region: Region | str) -> None:
        """Fail unless ndctl and sysfs agree about the free space of a region.

        ndctl reports the available size and the largest free extent. The sysfs view computes both from the gaps between
        the namespaces.

        Args:
            region: The region's record or its name.

        Raises:
            ViewsDisagreeError: The views differ. The message is a table in which the differing cells are marked.

        Example:

        ```robotframework
        *** Test Cases ***
        Capacity Adds Up
            Region Room Views Should Agree    region0
        ```
        """
        found = self._ndctl.region(region)
        room = logged_room(self._session.host.transport, found)
        agreement = Agreement(
            found.dev,
            {
                "ndctl": {"available": found.available_size, "largest free extent": found.free_extent},
                "sysfs": {"available": room.available, "largest free extent": room.largest},
            },
        )
        log_table(f"Room of {found.dev}", agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()


def logged_room(transport: Transport, region: Region) -> Room:
    """Read the extents of a region from sysfs, and show them in the log."""
    room = read_room(transport, region)
    log_table(
        f"{region.dev}: {room.available} free, {room.fragmentation} % of it outside the largest extent",
        ("offset", "size", "holder"),
        ((extent.offset, extent.size, extent.holder or "free") for extent in room.extents),
    )
    return room
