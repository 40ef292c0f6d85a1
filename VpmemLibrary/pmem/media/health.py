"""How the DIMMs of one machine are: flags, health, dirty shutdowns, bad blocks.

What a DIMM or the kernel does not tell is None, never 0: a DIMM without SMART has no health rather than a good one.
QEMU's NVDIMMs have none, and ndctl then lists no health and exits 0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import InvalidValueError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.decode import decode_inventory, whole_number
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Dimm, Inventory, Namespace, Region
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.visible import one_line

HEALTH_COMMAND = ("ndctl", "list", "-BDRNi", "-H", "-M", "-v")
"""Lists all there is with the health of each DIMM and the bad blocks of each region and namespace."""

ABSENT = "absent"
"""How what is not told is shown."""

SECTOR = 512
"""The unit of bad blocks, in ndctl as in the kernel, whatever a namespace's sector size is."""

_ABSURD = 1 << 64  # no number that the kernel or a DIMM has is that large

_DIMM = re.compile(r"nmem[0-9]+", re.ASCII)
_REGION = re.compile(r"region[0-9]+", re.ASCII)

# The kernel's words (drivers/acpi/nfit/core.c, flags_show) and ndctl's (ndctl/json.c) for the same bits.
_FLAGS = {
    "save_fail": "failed_save",
    "restore_fail": "failed_restore",
    "flush_fail": "failed_flush",
    "not_armed": "failed_arm",
    "map_fail": "failed_map",
    "smart_event": "smart_event",
}
_ALARMS = {
    "alarm_temperature": "temperature",
    "alarm_controller_temperature": "controller temperature",
    "alarm_spares": "spares",
}

# What cannot be read is not printed: dirty_shutdown is only there where the DIMM counts.
KERNEL_SCRIPT = r"""
while [ "$1" != -- ]; do
    sys=/sys/bus/nd/devices/$1
    [ -d "$sys" ] && printf 'dimm %s\n' "$1"
    [ -d "$sys" ] && [ ! -e "$sys/driver" ] && printf 'state disabled\n'
    for group in nfit papr cxl; do
        for name in flags dirty_shutdown handle phys_id id; do
            [ -r "$sys/$group/$name" ] && read -r value <"$sys/$group/$name" && printf '%s %s\n' "$name" "$value"
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

# What is claimed lies where its holder (pfn or dax device) says; else the namespace's own range counts.
PLACE_SCRIPT = r"""
cd /sys/bus/nd/devices || exit 1
holder=
read -r holder <"$1/holder"
[ -n "$holder" ] && [ -r "$holder/resource" ] || holder=$1
read -r region <"$2/resource" && read -r resource <"$holder/resource" && read -r size <"$holder/size" || exit 0
printf '%s %s %s\n' "$((region))" "$((resource))" "$size"
"""


@dataclass(frozen=True, slots=True)
class BadBlock:
    """A piece that cannot be read.

    Args:
        offset: Where it begins, in bytes from the beginning of what was asked about.
        length: How many bytes.
        dimms: The DIMMs that it lies on, where ndctl knows.
    """

    offset: Size
    length: Size
    dimms: tuple[str, ...] = ()

    @property
    def end(self) -> Size:
        """Where it ends: the first byte after it."""
        return self.offset + self.length

    def within(self, begin: int, length: int) -> BadBlock:
        """Return the part of it that lies in a range, its offset counted from there; of no bytes when none does."""
        first, end = max(int(self.offset), begin), min(int(self.end), begin + length)
        return BadBlock(Size(max(0, first - begin)), Size(max(0, end - first)), self.dimms)

    def __str__(self) -> str:
        return f"{self.length} at {self.offset}" + (f" on {', '.join(self.dimms)}" if self.dimms else "")


@dataclass(frozen=True, slots=True)
class DimmHealth:
    """One DIMM as ndctl and the kernel tell it; what neither tells is None.

    Args:
        dev: Its name.
        state: ``active`` or ``disabled``.
        flags: What is wrong with it in ndctl's words, e.g. ``failed_arm``; empty when nothing is.
        kernel_flags: The kernel's own words for it, e.g. ``not_armed``.
        health_state: ``ok``, ``non-critical``, ``critical``, ``fatal``, or ``unknown`` when the DIMM did not answer.
        temperature: Of the media, in degrees Celsius.
        controller_temperature: Of the controller, in degrees Celsius.
        spares: The spare capacity that is left, in per cent.
        life_used: In per cent.
        alarms: What is beyond its threshold.
        shutdown_state: ``clean`` or ``dirty``: how the last shutdown was.
        shutdown_count: How many shutdowns were dirty, as SMART has it.
        dirty_shutdown: How many shutdowns were dirty, as the kernel read it at boot.
        values: All that ndctl lists of its health.
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
        """How many shutdowns were dirty: the kernel's number, or SMART's where the kernel has none."""
        return self.shutdown_count if self.dirty_shutdown is None else self.dirty_shutdown

    def as_rows(self) -> tuple[tuple[str, str], ...]:
        """Return it as rows of a table; what is not told is shown as absent, no flags as none."""
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


@dataclass(frozen=True, slots=True)
class _Kernel:
    """What sysfs has: for each DIMM what it tells, for each region its bad blocks."""

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
        """Return every DIMM, read afresh by ndctl and from sysfs."""
        inventory = self._inventory()
        kernel = self._kernel((dimm.dev for dimm in inventory.dimms), ())
        return tuple(_health(dimm, kernel.dimms.get(dimm.dev, {})) for dimm in inventory.dimms)

    def dimm(self, which: Dimm | str) -> DimmHealth:
        """Return one DIMM.

        Raises:
            NotFoundError: It is not there; the message names those that are.
        """
        asked = which if isinstance(which, str) else which.dev
        healths = self.dimms()
        for health in healths:
            if health.dev == asked:
                return health
        raise NotFoundError("DIMM", asked, [each.dev for each in healths], where=self._ndctl.transport.name)

    def dirty_shutdown_count(self, which: Dimm | str) -> int:
        """Return how many shutdowns of a DIMM were dirty: lost what was on its way to the media.

        Raises:
            NotFoundError: There is no such DIMM.
            UnsupportedError: Neither SMART nor the kernel tells.
        """
        health = self.dimm(which)
        if health.dirty_shutdown_count is None:
            raise UnsupportedError(
                f"The dirty-shutdown count of {health.dev} on {self._ndctl.transport.name} is {ABSENT}: neither its "
                "SMART health nor the kernel (nfit/dirty_shutdown) has one. It is not 0. QEMU's NVDIMMs do not count."
            )
        return health.dirty_shutdown_count

    def bad_blocks(self, where: Namespace | Region | Dimm | str) -> tuple[BadBlock, ...]:
        """Return the bad blocks of a namespace, a region or a DIMM.

        ndctl lists them for regions. Those of a namespace are computed from where it lies, as ndctl lists for a raw
        namespace all of its region's (``util_namespace_to_json``, ndctl 81), and for a sector namespace none.

        Args:
            where: A record, or a name: ``region0``, ``nmem0``, or a namespace's. Offsets count from its first usable
                byte; those of a DIMM from the beginning of its region; those of a sector namespace, whose table moves
                blocks, from where it begins in its region.

        Raises:
            NotFoundError: It is not there.
            UnsupportedError: The kernel keeps no list of bad blocks for its region.
        """
        if isinstance(where, Dimm) or (isinstance(where, str) and _DIMM.fullmatch(where)):
            dimm = self._ndctl.dimm(where)
            regions = self._listed(lambda region: dimm.dev in region.dimms)
            return tuple(bad for region in regions for bad in _bad_blocks(region) if dimm.dev in bad.dimms)
        if isinstance(where, Region) or (isinstance(where, str) and _REGION.fullmatch(where)):
            name = self._ndctl.region(where).dev
            (region,) = self._listed(lambda region: region.dev == name)
            return _bad_blocks(region)
        namespace = self._ndctl.namespace(where)
        (region,) = self._listed(lambda region: region.dev == namespace.region)
        begin, length = self._place(namespace)
        pieces = (bad.within(begin, length) for bad in _bad_blocks(region))
        return tuple(piece for piece in pieces if piece.length)

    def views(self, which: Dimm | str) -> Agreement:
        """Return one DIMM as ndctl and sysfs each have it, with the bad blocks of its regions.

        Raises:
            NotFoundError: There is no such DIMM.
        """
        dev = self._ndctl.dimm(which).dev
        inventory = self._inventory()
        dimm = next(dimm for dimm in inventory.dimms if dimm.dev == dev)
        regions = [region for region in inventory.regions if dev in region.dimms]
        kernel = self._kernel([dev], [region.dev for region in regions])
        told = kernel.dimms.get(dev, {})
        health = _health(dimm, told)
        ndctl: dict[str, object] = {"state": health.state, "flags": _shown(tuple(sorted(dimm.flags)))}
        sysfs: dict[str, object] = {"state": told.get("state", "active")}
        if health.kernel_flags is not None:
            known = (_FLAGS[flag] for flag in health.kernel_flags if flag in _FLAGS)
            sysfs["flags"] = _shown(tuple(sorted(known)))
        for name, number in (("handle", dimm.handle), ("phys_id", dimm.phys_id)):
            if number is not None:
                ndctl[name] = number
            if name in told:
                sysfs[name] = _or_as_it_is(told[name])
        ndctl["id"] = dimm.id
        sysfs["id"] = told.get("id", "")
        counts = ((ndctl, health.shutdown_count), (sysfs, health.dirty_shutdown))
        for view, count in counts:
            # The kernel counted the dirty shutdowns when it found the DIMM, even if the DIMM does not answer ndctl now.
            if count is not None or health.dirty_shutdown_count is None:
                view["dirty shutdowns"] = ABSENT if count is None else count
        for region in regions:
            ndctl[f"bad in {region.dev}"] = _extents(_bad_blocks(region))
            if region.dev in kernel.regions:
                sysfs[f"bad in {region.dev}"] = _extents(kernel.regions[region.dev])
        return Agreement(dev, {"ndctl": ndctl, "sysfs": sysfs})

    def _inventory(self) -> Inventory:
        result = checked(self._ndctl.run(HEALTH_COMMAND), "list the health of what there is")
        inventory = decode_inventory(result)
        for region in inventory.regions:
            if None in _listed_blocks(region):
                raise UnreadableOutputError(result, f"A bad block of {region.dev} has no offset and length")
        return inventory

    def _kernel(self, dimms: Iterable[str], regions: Iterable[str]) -> _Kernel:
        result = self._ndctl.run(query(KERNEL_SCRIPT, *dimms, "--", *regions)).check()
        return _parsed(result)

    def _listed(self, wanted: Callable[[Region], bool]) -> tuple[Region, ...]:
        """Return regions with their bad blocks, or raise if the kernel keeps no list of one."""
        regions = tuple(region for region in self._inventory().regions if wanted(region))
        kept = self._kernel((), (region.dev for region in regions)).regions
        for region in regions:
            if region.dev not in kept:
                raise UnsupportedError(
                    f"The kernel of {self._ndctl.transport.name} keeps no list of bad blocks for {region.dev}: "
                    "that none is listed would say nothing."
                )
        return regions

    def _place(self, namespace: Namespace) -> tuple[int, int]:
        """Return where the bytes of a namespace begin in its region, and how many they are."""
        result = self._ndctl.run(query(PLACE_SCRIPT, namespace.dev, namespace.region)).check()
        numbers = [whole_number(word) for word in result.text.split()]
        match numbers:
            case [int(region), int(begin), int(length)]:
                return begin - region, length
        raise UnreadableOutputError(result, f"sysfs does not say where {namespace.called} lies; only root may read it")


def sectors_of(what: str, value: Size) -> int:
    """Return an offset or a length as a number of sectors, the unit of bad blocks.

    Raises:
        InvalidValueError: It is no whole number of sectors.
    """
    if value % SECTOR:
        raise InvalidValueError(what, str(value), f"a multiple of {SECTOR} bytes")
    return int(value) // SECTOR


def _health(dimm: Dimm, told: Mapping[str, str]) -> DimmHealth:
    listed = dimm.extra.get("health")
    values: Mapping[str, object] = listed if isinstance(listed, dict) else {}
    alarms = [key for key in _ALARMS if key in values]
    return DimmHealth(
        dev=dimm.dev,
        state=dimm.state or "active",
        flags=dimm.flags,
        kernel_flags=tuple(told["flags"].split()) if "flags" in told else None,
        health_state=_text(values, "health_state"),
        temperature=_number(values, "temperature_celsius"),
        controller_temperature=_number(values, "controller_temperature_celsius"),
        spares=_whole(values, "spares_percentage"),
        life_used=_whole(values, "life_used_percentage"),
        alarms=tuple(_ALARMS[key] for key in alarms if values[key] is True) if alarms else None,
        shutdown_state=_text(values, "shutdown_state"),
        shutdown_count=_whole(values, "shutdown_count"),
        dirty_shutdown=whole_number(told.get("dirty_shutdown", "")),
        values=values,
    )


def _or_as_it_is(text: str) -> int | str:
    number = whole_number(text)
    return text if number is None else number


def _text(values: Mapping[str, object], key: str) -> str | None:
    return one_line(str(values[key])) if key in values else None


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
    """Return a bad block that ndctl listed; None when it is not listed as ndctl lists one."""
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
                    raise UnreadableOutputError(result, f"The kernel's list of bad blocks has a line {value!r}")
        else:
            here[name] = one_line(value.strip())
    return _Kernel(dimms, regions)


def _extents(bad_blocks: Iterable[BadBlock]) -> str:
    return _shown(tuple(f"{bad.length} at {bad.offset}" for bad in bad_blocks))


def _shown(value: object) -> str:
    if isinstance(value, tuple):
        return " ".join(value) or "none"
    return str(value)
