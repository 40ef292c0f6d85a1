"""What ndctl and the kernel say of a machine's persistent memory, as typed records.

A record keeps the fields that it does not know in `extra`, so that a newer tool loses nothing. Sizes are whole bytes.
The field names are ndctl's own (``ndctl list --human`` is never read: it turns numbers into text).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

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


@dataclass(frozen=True, slots=True)
class Dimm:
    """One NVDIMM (``nmemN``); `handle` is its NFIT handle, the stable key of a device in a guest."""

    dev: str
    id: str = ""
    handle: int | None = None
    phys_id: int | None = None
    state: str = ""
    flags: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True)  # without slots, so that decoding ten thousand of them can fill each at once
class Namespace:
    """One namespace; `size` is usable bytes, `uuid` its identity (device names change between boots).

    `uuid` is the info block's while the namespace is active and the label's otherwise; `state` is ``disabled`` or
    empty (active), as ndctl has it.
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
        """Whether the kernel has it enabled."""
        return self.state != "disabled"

    @property
    def label_uuid(self) -> str:
        """The UUID in its label, which stays through disabling and enabling; empty for one without a label.

        `raw_uuid` is listed only beside an info block; where there is none (raw, disabled), `uuid` is the label's.
        """
        return self.raw_uuid or (self.uuid if self.mode in (None, NamespaceMode.raw) else "")

    @property
    def called(self) -> str:
        """How messages name it: its name (in quotes if it is unusual) and device, or its device alone."""
        return f"{quoted(self.name)} ({self.dev})" if self.name else self.dev

    @property
    def device(self) -> str:
        """The path of its device node (``/dev/dax0.0``, ``/dev/pmem0``); empty when it has none."""
        node = self.chardev or self.blockdev
        return f"/dev/{node}" if node else ""


@dataclass(frozen=True, slots=True)
class Region:
    """One region: the capacity that namespaces are cut from."""

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
        """Whether it is persistent memory: not volatile, and no block window (``blk``) of an old NVDIMM."""
        return self.type in ("", "pmem")

    @property
    def ways(self) -> int:
        """Over how many DIMMs it is interleaved; 1 for a region without DIMMs."""
        return max(1, len(self.dimms))

    @property
    def free_extent(self) -> Size:
        """The largest namespace that fits; a kernel before 4.20 tells only the sum of what is free."""
        return self.available_size if self.max_available_extent is None else self.max_available_extent


@dataclass(frozen=True, slots=True)
class DaxDevice:
    """One device-DAX instance (``daxX.Y``) as daxctl has it; `mode` is ``devdax`` or ``system-ram``."""

    chardev: str
    size: Size = Size(0)
    mode: str = ""
    align: Size | None = None
    target_node: int | None = None
    state: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DaxRegion:
    """One device-DAX region as daxctl has it: the capacity of one or more device-DAX instances.

    A static one is a devdax namespace and has one instance of a fixed size; from a dynamic one (special-purpose memory,
    CXL) instances are cut. `path` is in sysfs.
    """

    id: int
    path: str = ""
    size: Size = Size(0)
    available_size: Size = Size(0)
    align: Size | None = None
    dynamic: bool = False
    devices: tuple[DaxDevice, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Bus:
    """One NVDIMM bus: `provider` is ``ACPI.NFIT``, ``CXL``, ``virtio-pmem``, ``nfit_test.N`` ..."""

    dev: str
    provider: str = ""
    dimms: tuple[Dimm, ...] = ()
    regions: tuple[Region, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Inventory:
    """One reading of a machine: all its buses, and the ways to walk them."""

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
