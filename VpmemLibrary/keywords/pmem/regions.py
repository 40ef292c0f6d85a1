"""Keywords for regions and DIMMs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.pmem.room import logged_room
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_count, assert_property, assert_size
from VpmemLibrary.keywords.support.converters import wanted_align
from VpmemLibrary.keywords.support.log import log_regions
from VpmemLibrary.ownership.regions import require_own_region
from VpmemLibrary.pmem.namespaces.plan import smallest_size, step_of
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import Dimm, NamespaceMode, Region
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size


class RegionProperty(Enum):
    """A property of a region.

    - `size`: The size of the region.
    - `available_size`: The free bytes. They may be in several extents.
    - `largest_free_extent`: The size of the largest free extent. It limits the largest namespace that can be created.
    - `fragmentation`: The share of the free bytes that are outside the largest free extent, a whole number of per cent.
      0 means that all free bytes are in one extent, or that nothing is free. The log lists the extents.
    - `state`: `enabled` or `disabled`.
    - `label_state`: How the kernel uses the labels. `labeled`: the namespaces come from labels. `lost`: they do, but
      the labels are gone, as after [Zero Labels]. The whole region is free, and the next create writes labels of
      version 1.2. The state lasts until the host boots again. `unlabeled`: there are no labels. One raw namespace
      fills the region, and no other namespace can be created. `ignored`: the kernel does not use the labels. One raw
      namespace fills the region. `none`: there is no label area, as with `virtio-pmem`.
    - `label_version`: `1.1` or `1.2`.
    - `label_slots`: The number of label slots on each DIMM, from the current index block.
    - `available_label_slots`: How many more labels the kernel can write to each DIMM, as the kernel counts. This is one
      less than the number of free slots: the kernel keeps one slot free, because it never changes a label in place.
    - `label_area_size`: The size of the smallest label area of the region's DIMMs.
    """

    size = "size"
    available_size = "available size"
    largest_free_extent = "largest free extent"
    fragmentation = "fragmentation"
    state = "state"
    label_state = "label state"
    label_version = "label version"
    label_slots = "label slots"
    available_label_slots = "available label slots"
    label_area_size = "label area size"


_VALUES: dict[RegionProperty, Callable[[Host, Region], Size | int | str]] = {
    RegionProperty.size: lambda _, region: region.size,
    RegionProperty.available_size: lambda _, region: region.available_size,
    RegionProperty.largest_free_extent: lambda _, region: region.free_extent,
    RegionProperty.fragmentation: lambda host, region: logged_room(host.transport, region).fragmentation,
    RegionProperty.state: lambda _, region: region.state or "enabled",
    RegionProperty.label_state: lambda host, region: str(host.regions.label_state(region)),
    RegionProperty.label_version: lambda host, region: host.labels.labeled(region)[0].version,
    RegionProperty.label_slots: lambda host, region: host.labels.labeled(region)[0].nslot,
    RegionProperty.available_label_slots: lambda host, region: host.labels.available_slots(region),
    RegionProperty.label_area_size: lambda host, region: min(area.size for area in host.labels.read(region)),
}


class RegionKeywords:
    """Keywords for regions and DIMMs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _ndctl(self) -> Ndctl:
        return self._session.host.ndctl

    def _roomy(self, at_least: Size, numa_node: int | None, provider: str = "*") -> list[Region]:
        """Return the regions with a free extent of at least `at_least`, the largest extent first.

        The result is never empty. It has no region in which namespaces cannot be created: volatile, blk, disabled or
        read-only.
        """
        every: tuple[Region, ...] = self.get_regions(provider=provider)
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
                "Namespaces need a region of type pmem that is enabled and not read-only."
            )
        if not listed:
            of = "" if provider == "*" else f" of provider {provider}"
            raise UnsupportedError(
                f"Host {self._session.host.alias} has no region{of}. Host Should Support Vpmem reports what is missing."
            )
        regions = [region for region in listed if numa_node in (None, region.numa_node)]
        if not regions:
            nodes = ", ".join(f"{region.dev} {region.numa_node}" for region in listed)
            raise UnsupportedError(f"No region of {self._session.host.alias} is on NUMA node {numa_node}: {nodes}.")
        large_enough = [region for region in regions if region.free_extent >= at_least]
        if not large_enough:
            free = ", ".join(f"{region.dev} {region.free_extent}" for region in regions)
            raise UnsupportedError(
                f"No region of {self._session.host.alias} has {at_least} free in one piece: {free}. "
                "A region without labels has no free space: see Initialize Labels."
            )
        return sorted(large_enough, key=lambda region: region.free_extent, reverse=True)

    @keyword(tags=("region", "getter"))
    def get_regions(
        self,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
        *,
        provider: str = "*",
        numa_node: int | None = None,
        size: Size = ALL,
        on_dimms: bool | None = None,
    ) -> Any:
        """Return the regions of the current host, and show them in the log.

        With an operator, also assert the number of regions.

        Args:
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.
            provider: Only regions on a bus of this provider, e.g. `ACPI.NFIT`, `CXL` or `nfit_test*`. In a pattern, `*`
                and `?` stand for any characters and for one character.
            numa_node: Only regions of this NUMA node of the host.
            size: Only regions of exactly this size.
            on_dimms: `True` returns only regions on DIMMs. `False` returns only regions without DIMMs, such as those of
                `virtio-pmem`.

        Returns:
            Records with `dev`, `size`, `available_size`, `max_available_extent`, `numa_node`, `provider`, `dimms`,
            `namespaces` and more. The result is empty if the host has no such region.

        Raises:
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Four Regions On Two Nodes
            Get Regions    ==    4
            ${regions} =    Get Regions    ==    2    numa_node=1
            Log    ${regions}[0].dev
        ```
        """
        regions = tuple(
            region
            for region in self._ndctl.inventory().regions
            if fnmatchcase(region.provider, provider)
            and numa_node in (None, region.numa_node)
            and (size is ALL or region.size == size)
            and on_dimms in (None, bool(region.dimms))
        )
        subject = f"Regions of {self._session.host.alias}"
        log_regions(subject, regions)
        return assert_count(regions, assertion_operator, expected, subject, message)

    @keyword(tags=("region", "getter"))
    def get_region(self, region: Region | str) -> Region:
        """Return one region from a new listing.

        Args:
            region: The region's record or its name.

        Returns:
            The region's record, as in [Get Regions].

        Raises:
            NotFoundError: There is no such region. The message lists the existing regions.

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
    def get_region_property(
        self,
        region: Region | str,
        property: RegionProperty,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the current value of one property of a region, and assert it if an operator is given.

        Args:
            region: The region's record or its name, e.g. `region0`.
            property: The name of the property.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected value, e.g. `512MiB` or `labeled`.
            message: Your own failure text.

        Returns:
            A size in bytes, a number, or a text.

        Raises:
            NotFoundError: There is no such region. The message lists the existing regions.
            UnsupportedError: The region has no such value: it has no label area, no labels, or labels of different
                versions or slot counts on its DIMMs. Or it is disabled, so that its fragmentation is unknown.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        There Is Space
            Get Region Property    region0    available size    >=    256MiB
            Get Region Property    region0    label version    ==    1.2
            ${size} =    Get Region Property    region0    size
        ```
        """
        found = self._ndctl.region(region)
        subject = f"{property.value[0].upper()}{property.value[1:]} of {found.dev}"
        value = _VALUES[property](self._session.host, found)
        return assert_property(value, assertion_operator, expected, subject, message)

    @keyword(tags=("region", "getter"))
    def get_region_with_largest_free_extent(
        self, at_least: Size = Size(0), numa_node: int | None = None, provider: str = "*"
    ) -> Region:
        """Return the region of the current host with the largest free extent, optionally on one NUMA node.

        Args:
            at_least: The minimum size of the free extent, e.g. `256MiB`.
            numa_node: The NUMA node of the host to which the region must belong. The default is any node.
            provider: Only regions on a bus of this provider, as in [Get Regions].

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
        return self._roomy(at_least, numa_node, provider)[0]

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
            Get Namespace Property    ${namespace}    size    ==    ${usable}
        ```
        """
        found = self._ndctl.region(region)
        return smallest_size(found, at_least, mode=mode, align=wanted_align(align))

    @keyword(tags=("region",))
    def reserve_region(
        self, at_least: Size = Size(0), numa_node: int | None = None, *, timeout: timedelta = timedelta(hours=2)
    ) -> Region:
        """Acquire an exclusive lease on a region of the current host for this worker.

        Several workers can share one host in this way. The library chooses a region that no other worker has. Among
        these regions it takes the region with the largest free extent. The lease keeps out only workers that also call
        this keyword. The host's own kernel keeps the lease, as with [Reserve Host]. The lease ends when the host is
        closed. Until then no worker can reserve the whole host.

        Args:
            at_least: The minimum size of the free extent, e.g. `256MiB`.
            numa_node: The NUMA node of the host to which the region must belong. The default is any node.
            timeout: How long to wait for a free region.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: No region has such a free extent. The message lists the free extent of each region.
            BusyError: Other workers still have all these regions, or the host. The message names the holders, and
                says since when.
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
        return self._session.current.tenancy.reservations.reserve_region(
            self._roomy(at_least, numa_node), timeout.total_seconds()
        )

    @keyword(tags=("region",))
    def enable_region(self, region: Region | str) -> Region:
        """Enable a disabled region and its namespaces.

        The keyword checks ndctl's count and a new listing, because `ndctl enable-region` may fail and exit 0.

        Args:
            region: The region's record or its name.

        Returns:
            The region's record after the change.

        Raises:
            NotFoundError: There is no such region. The message lists the existing regions.
            CommandError: The region could not be enabled (ndctl's exit status may still be 0). For example, one of its
                DIMMs is disabled.

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Disable Region    region0
            Enable Region    region0
            Get Region Property    region0    state    ==    enabled
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
            Get Region Property    region0    state    ==    disabled
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
            NotFoundError: There is no such DIMM. The message lists the existing DIMMs.
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

    def _require_own(self, region: Region | str, foreign: bool) -> None:
        if not foreign:
            require_own_region(self._session.host, self._session.run, region)
