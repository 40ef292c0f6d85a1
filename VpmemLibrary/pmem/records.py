"""Typed records of a machine's persistent memory, as ndctl and the kernel list it.

A record keeps unknown fields in `extra`, so that no output of a newer tool is lost. Sizes are whole bytes. The field
names are ndctl's own names. ``ndctl list --human`` is never used, because it turns numbers into text.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from msgspec import Struct, field

from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted


class NamespaceMode(StrEnum):
    """How a namespace is used, as in ``ndctl create-namespace --mode``."""

    fsdax = "fsdax"
    devdax = "devdax"
    sector = "sector"
    raw = "raw"


class MapLocation(StrEnum):
    """Where the page map of an fsdax or devdax namespace lives, as in ``ndctl create-namespace --map``."""

    mem = "mem"
    dev = "dev"


class DaxMode(StrEnum):
    """How a device-DAX instance is used, as in ``daxctl reconfigure-device --mode``."""

    devdax = "devdax"
    system_ram = "system-ram"


class Dimm(Struct, frozen=True):
    """One NVDIMM (``nmemN``). `handle` is its NFIT handle, which identifies a device in a guest permanently."""

    dev: str
    id: str = ""
    handle: int | None = None
    phys_id: int | None = None
    state: str = ""
    flags: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


class Namespace(Struct, frozen=True):
    """One namespace. `size` is its usable bytes. `uuid` is its identity, because device names change between boots.

    `uuid` is the info block's UUID while the namespace is active. Otherwise `uuid` is the label's UUID. `state` is
    ``disabled``, or empty for an active namespace, as in ndctl's output.
    """

    dev: str
    mode: NamespaceMode | None = None
    size: Size = Size(0)
    name: str = ""
    uuid: str = ""
    raw_uuid: str = ""
    map: MapLocation | None = None
    align: Size | None = None
    sector_size: int | None = None
    blockdev: str = ""
    chardev: str = ""
    state: str = ""
    numa_node: int | None = None
    region: str = ""
    bus: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def active(self) -> bool:
        """Whether the namespace is enabled in the kernel."""
        return self.state != "disabled"

    @property
    def label_uuid(self) -> str:
        """The UUID in the namespace's label. Empty for a namespace without a label.

        Disabling and enabling do not change this UUID. ndctl lists `raw_uuid` only if the namespace has an info block.
        Without an info block (raw or disabled namespaces), `uuid` is the label's UUID.
        """
        return self.raw_uuid or (self.uuid if self.mode in (None, NamespaceMode.raw) else "")

    @property
    def bare(self) -> bool:
        """Whether the namespace has neither a label nor an info block, so that it only fills its region.

        ndctl lists such a namespace as raw, or as fsdax without a UUID on a bus that maps its memory (virtio-pmem).
        """
        return not (self.uuid or self.raw_uuid)

    @property
    def called(self) -> str:
        """The namespace in messages: its name and device, or only its device. An unusual name is quoted."""
        return f"{quoted(self.name)} ({self.dev})" if self.name else self.dev

    @property
    def device(self) -> str:
        """The path of the device node (``/dev/dax0.0``, ``/dev/pmem0``). Empty if there is no node."""
        node = self.chardev or self.blockdev
        return f"/dev/{node}" if node else ""


class Region(Struct, frozen=True):
    """One region: the capacity in which namespaces are created."""

    dev: str
    size: Size = Size(0)
    available_size: Size = Size(0)
    max_available_extent: Size | None = None
    align: Size | None = None
    type: str = ""
    numa_node: int | None = None
    iset_id: int | None = None
    persistence_domain: str = ""
    state: str = ""
    bus: str = ""
    provider: str = ""
    dimms: tuple[str, ...] = ()
    namespaces: tuple[Namespace, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)

    @property
    def holds_namespaces(self) -> bool:
        """Whether the region is persistent memory: not volatile, and not a block window (``blk``) of an old NVDIMM."""
        return self.type in ("", "pmem")

    @property
    def ways(self) -> int:
        """The number of interleaved DIMMs. The value is 1 for a region without DIMMs."""
        return max(1, len(self.dimms))

    @property
    def free_extent(self) -> Size:
        """The size of the largest namespace that fits. Kernels before 4.20 list only the sum of the free bytes."""
        return self.available_size if self.max_available_extent is None else self.max_available_extent


class DaxDevice(Struct, frozen=True):
    """One device-DAX instance (``daxX.Y``) from daxctl's listing. `mode` is ``devdax`` or ``system-ram``."""

    chardev: str
    size: Size = Size(0)
    mode: str = ""
    align: Size | None = None
    target_node: int | None = None
    state: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


class DaxRegion(Struct, frozen=True):
    """One device-DAX region from daxctl's listing: the capacity of one or more device-DAX instances.

    A static region is a devdax namespace. It has one instance of a fixed size. A dynamic region (special-purpose
    memory, CXL) can be divided into several instances. `path` is the region's directory in sysfs.
    """

    id: int
    path: str = ""
    size: Size = Size(0)
    available_size: Size = Size(0)
    align: Size | None = None
    dynamic: bool = False
    devices: tuple[DaxDevice, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


class Bus(Struct, frozen=True):
    """One NVDIMM bus: `provider` is ``ACPI.NFIT``, ``CXL``, ``virtio-pmem``, ``nfit_test.N`` ..."""

    dev: str
    provider: str = ""
    dimms: tuple[Dimm, ...] = ()
    regions: tuple[Region, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


class Inventory(Struct, frozen=True):
    """One reading of a machine's buses, with properties that list all regions, DIMMs and namespaces."""

    buses: tuple[Bus, ...] = ()

    @property
    def regions(self) -> tuple[Region, ...]:
        """Every region of every bus."""
        return tuple(region for bus in self.buses for region in bus.regions)

    @property
    def dimms(self) -> tuple[Dimm, ...]:
        """Every DIMM of every bus."""
        return tuple(dimm for bus in self.buses for dimm in bus.dimms)

    @property
    def namespaces(self) -> tuple[Namespace, ...]:
        """Every namespace of every region."""
        return tuple(namespace for region in self.regions for namespace in region.namespaces)
