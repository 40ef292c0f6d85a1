"""Read the state of one machine's DIMMs: flags, health, dirty shutdowns and bad blocks.

A value that neither the DIMM nor the kernel reports is None, never 0. A DIMM without SMART has no health value, which
does not mean good health. QEMU's NVDIMMs have no SMART. For such NVDIMMs, ndctl lists no health and exits 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from msgspec import Struct, field

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import GoneError, InvalidValueError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.decode import decode_inventory, whole_number
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Dimm, Inventory, Namespace, Region
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.visible import one_line

HEALTH_COMMAND = ("ndctl", "list", "-BDRNi", "-H", "-M", "-v")
"""List everything, with the health of each DIMM and the bad blocks of each region and namespace."""

ABSENT = "absent"
"""The text for a value that is not reported."""

SECTOR = 512
"""The unit of bad blocks in ndctl and in the kernel, for every sector size of a namespace."""

_ABSURD = 1 << 64  # no value from the kernel or a DIMM is that large

_DIMM = r"(?a)nmem[0-9]+"
_REGION = r"(?a)region[0-9]+"

# The kernel's names (drivers/acpi/nfit/core.c, flags_show) and ndctl's names (ndctl/json.c) for the same flags.
_FLAGS = {
    "save_fail": "failed_save",
    "restore_fail": "failed_restore",
    "flush_fail": "failed_flush",
    "not_armed": "failed_arm",
    "map_fail": "failed_map",
    "smart_event": "smart_event",
}
# IBM Power reports a pending health event under another name (arch/powerpc/platforms/pseries/papr_scm.c, flags_show).
_PAPR_FLAGS = _FLAGS | {"smart_notify": "smart_event"}
_ALARMS = {
    "alarm_temperature": "temperature",
    "alarm_controller_temperature": "controller temperature",
    "alarm_spares": "spares",
}

# An unreadable value is not printed. dirty_shutdown exists only if the DIMM counts dirty shutdowns. On IBM Power, the
# file with the flags is empty if no flag is set. read fails for an empty file, cat does not.
KERNEL_SCRIPT = r"""
while [ "$1" != -- ]; do
    sys=/sys/bus/nd/devices/$1
    [ -d "$sys" ] && printf 'dimm %s\n' "$1"
    [ -d "$sys" ] && [ ! -e "$sys/driver" ] && printf 'state disabled\n'
    for group in nfit papr cxl; do
        for name in flags dirty_shutdown handle phys_id id; do
            [ -r "$sys/$group/$name" ] && value=$(cat "$sys/$group/$name") && printf '%s %s\n' "$name" "$value"
        done
    done
    shift
done
shift
for region; do
    [ -r "/sys/bus/nd/devices/$region/badblocks" ] || continue
    printf 'region %s\n' "$region"
    while read -r sector count; do
        printf 'bad %s %s\n' "$sector" "$count"
    done <"/sys/bus/nd/devices/$region/badblocks"
done
exit 0
"""

# The range of a claimed namespace is the range of its holder (a pfn or dax device). Otherwise it is the namespace's own
# range.
PLACE_SCRIPT = r"""
cd /sys/bus/nd/devices || exit 1
holder=
read -r holder <"$1/holder"
[ -n "$holder" ] && [ -r "$holder/resource" ] || holder=$1
read -r region <"$2/resource" && read -r resource <"$holder/resource" && read -r size <"$holder/size" || exit 0
printf '%s %s %s\n' "$((region))" "$((resource))" "$size"
"""


class BadBlock(Struct, frozen=True):
    """A bad block: a range of bytes that cannot be read.

    Args:
        offset: The first bad byte, counted from the start of the namespace, region or DIMM in the request.
        length: The number of bad bytes.
        dimms: The DIMMs with the bad bytes, if ndctl lists them.
    """

    offset: Size
    length: Size
    dimms: tuple[str, ...] = ()

    @property
    def end(self) -> Size:
        """The offset of the first byte after the bad block."""
        return self.offset + self.length

    def within(self, begin: int, length: int) -> BadBlock:
        """Return the part of the bad block within a range, with its offset counted from `begin`.

        The length is 0 if no part is within the range.
        """
        first, end = max(int(self.offset), begin), min(int(self.end), begin + length)
        return BadBlock(Size(max(0, first - begin)), Size(max(0, end - first)), self.dimms)

    def __str__(self) -> str:
        return f"{self.length} at {self.offset}" + (f" on {', '.join(self.dimms)}" if self.dimms else "")


class DimmHealth(Struct, frozen=True):
    """The health of one DIMM from ndctl and the kernel. A value is None if neither of them reports it.

    Args:
        dev: The DIMM's name.
        state: ``active`` or ``disabled``.
        flags: The DIMM's problems under ndctl's names, e.g. ``failed_arm``. Empty if there are none.
        kernel_flags: The DIMM's problems under the kernel's names, e.g. ``not_armed``.
        health_state: ``ok``, ``non-critical``, ``critical``, ``fatal``, or ``unknown`` if the DIMM did not answer.
        temperature: The temperature of the media, in degrees Celsius.
        controller_temperature: The temperature of the controller, in degrees Celsius.
        spares: The remaining spare capacity, in per cent.
        life_used: The used part of the DIMM's lifetime, in per cent.
        alarms: The values beyond their thresholds.
        shutdown_state: ``clean`` or ``dirty``: the state of the last shutdown.
        shutdown_count: The number of dirty shutdowns, from SMART.
        dirty_shutdown: The number of dirty shutdowns, from the kernel at boot.
        values: All health values that ndctl lists.
    """

    dev: str
    state: str = "active"
    flags: tuple[str, ...] = ()
    kernel_flags: tuple[str, ...] | None = None
    health_state: str | None = None
    temperature: float | None = None
    controller_temperature: float | None = None
    spares: int | None = None
    life_used: int | None = None
    alarms: tuple[str, ...] | None = None
    shutdown_state: str | None = None
    shutdown_count: int | None = None
    dirty_shutdown: int | None = None
    values: Mapping[str, object] = field(default_factory=dict)

    @property
    def dirty_shutdown_count(self) -> int | None:
        """The number of dirty shutdowns from SMART. If SMART has no number, the kernel's number.

        The kernel reads the number when it finds the DIMM, so SMART's number may be newer.
        """
        return self.dirty_shutdown if self.shutdown_count is None else self.shutdown_count

    @property
    def injectable(self) -> dict[str, object]:
        """The values that can be injected, under the names of the messages."""
        return {
            "temperature": self.temperature,
            "controller temperature": self.controller_temperature,
            "spares": self.spares,
            "health": self.health_state,
            "last shutdown": self.shutdown_state,
        }

    def as_rows(self) -> tuple[tuple[str, str], ...]:
        """Return the rows of a table. A missing value is `absent`. An empty list of flags is `none`."""
        return tuple(
            (name, ABSENT if value is None else _shown(value))
            for name, value in (
                ("state", self.state),
                ("flags (ndctl)", self.flags),
                ("flags (kernel)", self.kernel_flags),
                ("health", self.health_state),
                ("temperature", self.temperature),
                ("controller temperature", self.controller_temperature),
                ("spares", self.spares),
                ("life used", self.life_used),
                ("alarms", self.alarms),
                ("last shutdown", self.shutdown_state),
                ("dirty shutdowns (SMART)", self.shutdown_count),
                ("dirty shutdowns (kernel)", self.dirty_shutdown),
            )
        )


class _Kernel(Struct, frozen=True):
    """The values of each DIMM and the bad blocks of each region, from sysfs."""

    dimms: Mapping[str, Mapping[str, str]]
    regions: Mapping[str, tuple[BadBlock, ...]]


class Health:
    """The health of one machine's persistent memory.

    Args:
        ndctl: The machine's ndctl.

    Example::

        health = Health(Ndctl(transport))
        for dimm in health.dimms():
            print(dimm.dev, dimm.health_state or "absent")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def dimms(self) -> tuple[DimmHealth, ...]:
        """Return the health of every DIMM from a fresh reading of ndctl and sysfs."""
        inventory = self._inventory()
        kernel = self._kernel((dimm.dev for dimm in inventory.dimms), ())
        return tuple(_health(dimm, kernel.dimms.get(dimm.dev, {})) for dimm in inventory.dimms)

    def dimm(self, which: Dimm | str) -> DimmHealth:
        """Return the health of one DIMM.

        Raises:
            NotFoundError: The DIMM does not exist. The message lists the existing DIMMs.
        """
        asked = which if isinstance(which, str) else which.dev
        healths = self.dimms()
        for health in healths:
            if health.dev == asked:
                return health
        raise NotFoundError("DIMM", asked, [each.dev for each in healths], where=self._ndctl.transport.name)

    def dirty_shutdown_count(self, which: Dimm | str) -> int:
        """Return the number of a DIMM's dirty shutdowns. A dirty shutdown loses data on the way to the media.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: Neither SMART nor the kernel reports the number.
        """
        health = self.dimm(which)
        if health.dirty_shutdown_count is None:
            raise UnsupportedError(
                f"The dirty-shutdown count of {health.dev} on {self._ndctl.transport.name} is {ABSENT}: neither its "
                "SMART health nor the kernel (nfit/dirty_shutdown) has it. It is not 0. QEMU's NVDIMMs have no count."
            )
        return health.dirty_shutdown_count

    def bad_blocks(self, where: Namespace | Region | Dimm | str) -> tuple[BadBlock, ...]:
        """Return the bad blocks of a namespace, a region or a DIMM.

        This method computes the bad blocks of a namespace from ndctl's list for the region. ndctl's own list for a
        namespace is not usable: for a raw namespace, it has all bad blocks of the region (``util_namespace_to_json``,
        ndctl 81), and for a sector namespace, it is empty.

        Args:
            where: A record, or a name: ``region0``, ``nmem0``, or a namespace's name. The offsets count from the first
                usable byte of a namespace, or from the start of the region (also for a DIMM). For a sector namespace,
                they count from the namespace's first byte, because its table moves blocks.

        Raises:
            NotFoundError: The namespace, region or DIMM does not exist.
            UnsupportedError: The kernel keeps no list of bad blocks for the region.
        """
        if isinstance(where, Dimm) or (isinstance(where, str) and re.fullmatch(_DIMM, where)):
            dimm = self._ndctl.dimm(where)
            regions = self._listed(lambda region: dimm.dev in region.dimms)
            return tuple(bad for region in regions for bad in _bad_blocks(region) if dimm.dev in bad.dimms)
        if isinstance(where, Region) or (isinstance(where, str) and re.fullmatch(_REGION, where)):
            name = self._ndctl.region(where).dev
            return _bad_blocks(self._listed_region(name))
        namespace = self._ndctl.namespace(where)
        region = self._listed_region(namespace.region)
        begin, length = self._place(namespace)
        pieces = (bad.within(begin, length) for bad in _bad_blocks(region))
        return tuple(piece for piece in pieces if piece.length)

    def views(self, which: Dimm | str) -> Agreement:
        """Return two views of one DIMM, from ndctl and from sysfs, with the bad blocks of its regions.

        Raises:
            NotFoundError: The DIMM does not exist.
        """
        inventory = self._inventory()
        dimm = self._ndctl.dimm(which, inventory)
        dev = dimm.dev
        regions = [region for region in inventory.regions if dev in region.dimms]
        kernel = self._kernel([dev], [region.dev for region in regions])
        attributes = kernel.dimms.get(dev, {})
        health = _health(dimm, attributes)
        ndctl: dict[str, object] = {"state": health.state, "flags": _shown(tuple(sorted(dimm.flags)))}
        sysfs: dict[str, object] = {"state": attributes.get("state", "active")}
        if health.kernel_flags is not None:
            provider = next((bus.provider for bus in inventory.buses if dimm in bus.dimms), "")
            names = _PAPR_FLAGS if provider.startswith("ibm,") else _FLAGS
            known = (names[flag] for flag in health.kernel_flags if flag in names)
            sysfs["flags"] = _shown(tuple(sorted(known)))
        for name, number in (("handle", dimm.handle), ("phys_id", dimm.phys_id)):
            if number is not None:
                ndctl[name] = number
            if name in attributes:
                sysfs[name] = _or_as_it_is(attributes[name])
        ndctl["id"] = dimm.id
        sysfs["id"] = attributes.get("id", "")
        # The kernel reads the number of dirty shutdowns once, when it finds the DIMM. ndctl reads it now, so ndctl's
        # number may be larger.
        now, then = health.shutdown_count, health.dirty_shutdown
        if now is not None and then is not None and now < then:
            ndctl["dirty shutdowns"], sysfs["dirty shutdowns"] = now, then
        for region in regions:
            ndctl[f"bad in {region.dev}"] = _extents(_bad_blocks(region))
            if region.dev in kernel.regions:
                sysfs[f"bad in {region.dev}"] = _extents(kernel.regions[region.dev])
        return Agreement(dev, {"ndctl": ndctl, "sysfs": sysfs})

    def _inventory(self) -> Inventory:
        result = checked(self._ndctl.run(HEALTH_COMMAND), "list the health")
        inventory = decode_inventory(result)
        for region in inventory.regions:
            if None in _listed_blocks(region):
                raise UnreadableOutputError(result, f"A bad block of {region.dev} has no offset and length")
        return inventory

    def _kernel(self, dimms: Iterable[str], regions: Iterable[str]) -> _Kernel:
        result = self._ndctl.run(query(KERNEL_SCRIPT, *dimms, "--", *regions)).check()
        return _parsed(result)

    def _listed(self, wanted: Callable[[Region], bool]) -> tuple[Region, ...]:
        """Return regions with their bad blocks. Raise if the kernel keeps no list of bad blocks for a region."""
        regions = tuple(region for region in self._inventory().regions if wanted(region))
        kept = self._kernel((), (region.dev for region in regions)).regions
        for region in regions:
            if region.dev not in kept:
                raise UnsupportedError(
                    f"The kernel of {self._ndctl.transport.name} keeps no list of bad blocks for {region.dev}, "
                    "so its bad blocks are unknown."
                )
        return regions

    def _listed_region(self, name: str) -> Region:
        """Return one region with its bad blocks. Raise if the region no longer exists."""
        for region in self._listed(lambda region: region.dev == name):
            return region
        raise GoneError(f"Region {name}", self._ndctl.transport.name)

    def _place(self, namespace: Namespace) -> tuple[int, int]:
        """Return the offset of a namespace's bytes in its region, and the number of bytes."""
        result = self._ndctl.run(query(PLACE_SCRIPT, namespace.dev, namespace.region)).check()
        numbers = [whole_number(word) for word in result.text.split()]
        match numbers:
            case [int(region), int(begin), int(length)]:
                return begin - region, length
        raise UnreadableOutputError(
            result, f"sysfs does not report the address of {namespace.called}; only root may read it"
        )


def sectors_of(what: str, value: Size) -> int:
    """Convert an offset or a length to a number of sectors, the unit of bad blocks.

    Raises:
        InvalidValueError: The value is not a multiple of 512.
    """
    if value % SECTOR:
        raise InvalidValueError(what, str(value), f"a multiple of {SECTOR} bytes")
    return int(value) // SECTOR


def _health(dimm: Dimm, attributes: Mapping[str, str]) -> DimmHealth:
    listed = dimm.extra.get("health")
    values: Mapping[str, object] = listed if isinstance(listed, dict) else {}
    alarms = [key for key in _ALARMS if key in values]
    return DimmHealth(
        dev=dimm.dev,
        state=dimm.state or "active",
        flags=dimm.flags,
        kernel_flags=tuple(attributes["flags"].split()) if "flags" in attributes else None,
        health_state=_text(values, "health_state"),
        temperature=_number(values, "temperature_celsius"),
        controller_temperature=_number(values, "controller_temperature_celsius"),
        spares=_whole(values, "spares_percentage"),
        life_used=_whole(values, "life_used_percentage"),
        alarms=tuple(_ALARMS[key] for key in alarms if values[key] is True) if alarms else None,
        shutdown_state=_text(values, "shutdown_state"),
        shutdown_count=_whole(values, "shutdown_count"),
        dirty_shutdown=whole_number(attributes.get("dirty_shutdown", "")),
        values=values,
    )


def _or_as_it_is(text: str) -> int | str:
    number = whole_number(text)
    return text if number is None else number


def _text(values: Mapping[str, object], key: str) -> str | None:
    return one_line(str(values[key])) if values.get(key) is not None else None


def _number(values: Mapping[str, object], key: str) -> float | None:
    value = values.get(key)
    return float(value) if isinstance(value, (int, float)) and abs(value) < _ABSURD else None


def _whole(values: Mapping[str, object], key: str) -> int | None:
    value = values.get(key)
    return value if isinstance(value, int) and abs(value) < _ABSURD else None


def _bad_blocks(region: Region) -> tuple[BadBlock, ...]:
    return tuple(block for block in _listed_blocks(region) if block)


def _listed_blocks(region: Region) -> tuple[BadBlock | None, ...]:
    listed = region.extra.get("badblocks")
    return tuple(_bad_block(each) for each in listed) if isinstance(listed, list) else ()


def _bad_block(listed: object) -> BadBlock | None:
    """Decode a bad block from ndctl's listing. Return None if the entry has another format."""
    match listed:
        case {"offset": int(offset), "length": int(length), **rest} if all(
            0 <= number < _ABSURD for number in (offset, length)
        ):
            dimms = rest.get("dimms")
            names = tuple(one_line(str(dimm)) for dimm in dimms) if isinstance(dimms, list) else ()
            return BadBlock(Size(offset * SECTOR), Size(length * SECTOR), names)
    return None


def _parsed(result: CommandResult) -> _Kernel:
    dimms: dict[str, dict[str, str]] = {}
    regions: dict[str, tuple[BadBlock, ...]] = {}
    here: dict[str, str] = {}
    region = ""
    for line in result.lines:
        name, _, value = line.partition(" ")
        if name == "dimm":
            here = dimms.setdefault(value, {})
        elif name == "region":
            region = value
            regions[region] = ()
        elif name == "bad":
            match [whole_number(word) for word in value.split()]:
                case [int(sector), int(count)] if region:
                    regions[region] += (BadBlock(Size(sector * SECTOR), Size(count * SECTOR)),)
                case _:
                    raise UnreadableOutputError(result, f"The kernel's list of bad blocks has the line {value!r}")
        else:
            here[name] = one_line(value.strip())
    return _Kernel(dimms, regions)


def _extents(bad_blocks: Iterable[BadBlock]) -> str:
    return _shown(tuple(f"{bad.length} at {bad.offset}" for bad in bad_blocks))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str(value)
