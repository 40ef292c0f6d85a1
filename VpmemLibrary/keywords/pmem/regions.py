"""Keywords for regions and DIMMs."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.converters import wanted_align
from VpmemLibrary.keywords.support.log import log_regions, log_table
from VpmemLibrary.ownership.regions import require_own_region
from VpmemLibrary.pmem.namespaces.plan import smallest_size, step_of
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import Dimm, NamespaceMode, Region
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size


class RegionKeywords:
    """Keywords for regions and DIMMs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _ndctl(self) -> Ndctl:
        return self._session.host.ndctl

    def _roomy(self, at_least: Size, numa_node: int | None) -> list[Region]:
        """Return the regions with a free extent of at least `at_least`, the largest extent first.

        The result is never empty. Regions in which namespaces cannot be created are left out: volatile, blk, disabled
        and read-only regions.
        """
        every: tuple[Region, ...] = self.get_regions()
        listed = [region for region in every if region.holds_namespaces and region.state != "disabled"]
        read_only = self._ndctl.read_only(listed)
        listed = [region for region in listed if region.dev not in read_only]
        if every and not listed:
            kinds = ", ".join(
                f"{region.dev} {region.state or ('read-only' if region.dev in read_only else region.type)}"
                for region in every
            )
            raise UnsupportedError(
                f"No region of {self._session.host.alias} can have namespaces: {kinds}. "
                "One of type pmem is needed that is enabled and not read-only."
            )
        if not listed:
            raise UnsupportedError(
                f"Host {self._session.host.alias} has no region: Host Should Support Vpmem names what is missing."
            )
        regions = [region for region in listed if numa_node in (None, region.numa_node)]
        if not regions:
            nodes = ", ".join(f"{region.dev} {region.numa_node}" for region in listed)
            raise UnsupportedError(f"No region of {self._session.host.alias} is on NUMA node {numa_node}: {nodes}.")
        roomy = [region for region in regions if region.free_extent >= at_least]
        if not roomy:
            free = ", ".join(f"{region.dev} {region.free_extent}" for region in regions)
            raise UnsupportedError(
                f"No region of {self._session.host.alias} has {at_least} free in one piece: {free}. "
                "A region whose DIMMs have no labels shows nothing free: see Initialize Labels."
            )
        return sorted(roomy, key=lambda region: region.free_extent, reverse=True)

    @keyword(tags=("region", "getter"))
    def get_regions(self) -> tuple[Region, ...]:
        """Return all regions of the current host, and show them in the log.

        Returns:
            Records with `dev`, `size`, `available_size`, `max_available_extent`, `numa_node`, `dimms`, `namespaces` and
            more. The result is empty if the host has no region.

        Example:

        ```robotframework
        *** Test Cases ***
        Four Regions
            ${regions} =    Get Regions
            Length Should Be    ${regions}    4
        ```
        """
        regions = self._ndctl.inventory().regions
        log_regions(f"Regions of {self._session.host.alias}", regions)
        return regions

    @keyword(tags=("region", "getter"))
    def get_region(self, region: Region | str) -> Region:
        """Return one region from a new listing.

        Args:
            region: The region's record or its name.

        Returns:
            The region's record, as in [Get Regions].

        Raises:
            NotFoundError: There is no such region. The message lists the ones that exist.

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
        """Return all DIMMs of the current host, and show them in the log.

        Returns:
            Records with `dev`, `id`, `handle`, `state`, `flags` and more. The result is empty if the host has no DIMM.

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
            f"DIMMs of {self._session.host.alias}",
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
        """Return a region's size, and assert it if an operator is given.

        Args:
            region: The region's record or its name, e.g. `region0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected size, e.g. `1GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such region. The message lists the ones that exist.
            AssertionError: The value is not as expected.

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
        """Return the number of free bytes of a region, and assert it if an operator is given.

        The free bytes may be in several extents. `max_available_extent` of the region's record is the largest extent.

        Args:
            region: The region's record or its name. The library always reads the current value.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected size, e.g. `1GiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such region.
            AssertionError: The value is not as expected.

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
    def get_region_with_largest_free_extent(self, at_least: Size = Size(0), numa_node: int | None = None) -> Region:
        """Return the region of the current host with the largest free extent, optionally on one NUMA node.

        Args:
            at_least: The minimum size of the free extent, e.g. `256MiB`.
            numa_node: The NUMA node of the host to which the region must belong. The default is any node.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: No region has such a free extent. The message lists the free extent of each region.

        Example:

        ```robotframework
        *** Test Cases ***
        Somewhere
            ${region} =    Get Region With Largest Free Extent    at_least=256MiB
            Create Namespace    ${region}    size=at least 256MiB
        ```
        """
        return self._roomy(at_least, numa_node)[0]

    @keyword(tags=("region", "getter"))
    def get_region_size_step(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        align: Size = DEFAULT_ALIGN,
    ) -> Any:
        """Return the step of namespace sizes in a region, and assert it if an operator is given.

        The size of a namespace must be a multiple of the step. The step results from the region's own alignment and
        from the namespace's mapping alignment on each DIMM: 16 MiB for one DIMM, 96 MiB for six interleaved DIMMs. Use
        [Get Smallest Namespace Size] to get a valid size.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected step, e.g. `16MiB`.
            message: Your own failure text.
            mode: The namespace's mode.
            align: The namespace's mapping alignment, for `devdax` and `fsdax`.

        Returns:
            The step in bytes.

        Raises:
            NotFoundError: There is no such region.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Two Steps
            ${step} =    Get Region Size Step    region0
            Create Namespace    region0    size=${{2 * $step}}
        ```
        """
        found = self._ndctl.region(region)
        step = step_of(found, mode, wanted_align(align))
        return assert_size(step, assertion_operator, expected, f"Size step of {found.dev}", message)

    @keyword(tags=("region", "getter"))
    def get_smallest_namespace_size(
        self,
        region: Region | str,
        at_least: Size = Size(0),
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        align: Size = DEFAULT_ALIGN,
    ) -> Size:
        """Return the smallest namespace size that a region allows and that is not smaller than `at_least`.

        A test with the fixed size `64MiB` fails on some hosts: a region of six interleaved DIMMs allows only multiples
        of 96 MiB. [Create Namespace] computes the same size itself with `size=at least 64MiB`.

        Args:
            region: The region's record or its name.
            at_least: The lower limit of the size, e.g. `64MiB`.
            mode: The namespace's mode.
            align: The namespace's mapping alignment, for `devdax` and `fsdax`.

        Returns:
            The size in bytes that is taken from the region. The usable size is smaller: see
            [Get Predicted Usable Size].

        Raises:
            NotFoundError: There is no such region.

        Example:

        ```robotframework
        *** Test Cases ***
        As Much As Predicted
            ${size} =    Get Smallest Namespace Size    region0    at_least=64MiB
            ${namespace} =    Create Namespace    region0    size=${size}
            ${usable} =    Get Predicted Usable Size    ${size}
            Get Namespace Size    ${namespace}    ==    ${usable}
        ```
        """
        found = self._ndctl.region(region)
        return smallest_size(found, at_least, mode=mode, align=wanted_align(align))

    @keyword(tags=("region",))
    def reserve_region(
        self, at_least: Size = Size(0), numa_node: int | None = None, *, timeout: timedelta = timedelta(hours=2)
    ) -> Region:
        """Acquire an exclusive lease on a region of the current host for this worker.

        Several workers can share one host in this way. The library chooses a region that no other worker holds. Among
        these regions it takes the region with the largest free extent. The lease keeps out only workers that also call
        this keyword. The host's own kernel keeps the lease, as with [Reserve Host]. The lease ends when the host is
        closed. Until then nobody can hold the whole host.

        Args:
            at_least: The minimum size of the free extent, e.g. `256MiB`.
            numa_node: The NUMA node of the host to which the region must belong. The default is any node.
            timeout: How long to wait for a free region.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: No region has such a free extent. The message lists the free extent of each region.
            BusyError: Other workers still hold all of these regions, or the host. The message names the holders and
                when they acquired the lease.
            ToolMissingError: The host has no bash or no flock.

        Example:

        ```robotframework
        *** Test Cases ***
        A Region Of My Own
            Open Host    192.0.2.13
            ${region} =    Reserve Region    at_least=256MiB
            Create Namespace    ${region}    size=at least 256MiB
        ```
        """
        return self._session.current.holds.region(self._roomy(at_least, numa_node), timeout.total_seconds())

    @keyword(tags=("region",))
    def enable_region(self, region: Region | str) -> Region:
        """Enable a disabled region and its namespaces.

        The keyword checks ndctl's count and a new listing, because `ndctl enable-region` may fail and exit 0.

        Args:
            region: The region's record or its name.

        Returns:
            The region's record after the change.

        Raises:
            NotFoundError: There is no such region. The message lists the ones that exist.
            CommandError: The region could not be enabled (ndctl's exit status may still be 0). For example, one of its
                DIMMs is disabled.

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Disable Region    region0
            Enable Region    region0
            Get Region State    region0    ==    enabled
        ```
        """
        return self._session.host.regions.enable(region)

    @keyword(tags=("region",))
    def disable_region(self, region: Region | str, *, foreign: bool = False) -> Region:
        """Disable a region and its namespaces. Their device nodes disappear, and their labels and bytes stay.

        Args:
            region: The region's record or its name. There is no default and no "all".
            foreign: Allow this keyword to disable a region with namespaces that this run did not make.

        Returns:
            The region's record after the change.

        Raises:
            NotFoundError: There is no such region.
            ForeignError: The region has namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: The region could not be disabled (ndctl's exit status may still be 0).

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Disable Region    region0
            Get Region State    region0    ==    disabled
        ```
        """
        self._require_own(region, foreign)
        return self._session.host.regions.disable(region)

    @keyword(tags=("region",))
    def enable_dimm(self, dimm: Dimm | str) -> Dimm:
        """Enable a disabled DIMM. Its regions can then be enabled.

        Args:
            dimm: The DIMM's record or its name, e.g. `nmem0`.

        Returns:
            The DIMM's record after the change.

        Raises:
            NotFoundError: There is no such DIMM. The message lists the ones that exist.
            CommandError: The DIMM could not be enabled (ndctl's exit status may still be 0).

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Enable Dimm    nmem0
            Enable Region    region0
        ```
        """
        return self._session.host.regions.enable_dimm(dimm)

    @keyword(tags=("region",))
    def disable_dimm(self, dimm: Dimm | str, *, foreign: bool = False) -> Dimm:
        """Disable a DIMM. Its regions must be disabled.

        A region with labels cannot be enabled while one of its DIMMs is disabled.

        Args:
            dimm: The DIMM's record or its name. There is no default and no "all".
            foreign: Allow this keyword to disable a DIMM with namespaces that this run did not make.

        Returns:
            The DIMM's record after the change.

        Raises:
            NotFoundError: There is no such DIMM.
            ForeignError: The DIMM has namespaces that this run did not make, and `foreign` is not set.
            CommandError: The DIMM could not be disabled (ndctl's exit status may still be 0). For example, one of its
                regions is enabled.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Disable Region    region0
            Disable Dimm    nmem0
        ```
        """
        found = self._ndctl.dimm(dimm)
        for region in self._ndctl.inventory().regions:
            if found.dev in region.dimms:
                self._require_own(region, foreign)
        return self._session.host.regions.disable_dimm(found)

    @keyword(tags=("region", "getter"))
    def get_region_state(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a region's current state, `enabled` or `disabled`, and assert it if an operator is given.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected state.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such region.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Get Region State    region0    ==    enabled
        ```
        """
        found = self._ndctl.region(region)
        return assert_text(found.state or "enabled", assertion_operator, expected, f"State of {found.dev}", message)

    def _require_own(self, region: Region | str, foreign: bool) -> None:
        if not foreign:
            require_own_region(self._session.host, self._session.run, region)
