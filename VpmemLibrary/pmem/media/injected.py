"""Find what an injection leaves on a machine: bad blocks of regions, and SMART values of DIMMs.

An injected error or value stays until it is removed, also when its namespace is destroyed.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS
from VpmemLibrary.pmem.decode import whole_number
from VpmemLibrary.pmem.media.health import SECTOR, BadBlock, Health
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Inventory
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, query

_INTEL = 0  # NVDIMM_FAMILY_INTEL, linux/ndctl.h
_INJECT_SMART = 1 << 18  # ND_INTEL_SMART_INJECT, ndctl/lib/intel.h
_VARYING = ("temperature", "controller temperature")
"""The values that change without an injection, except on a test bus."""

# Reading fails for a disabled region, so its list counts as empty.
SCRIPT = r"""
cd /sys/bus/nd/devices 2>/dev/null || exit 0
for region in region*; do
    while read -r sector count; do
        printf 'bad %s %s %s\n' "$region" "$sector" "$count"
    done <"$region/badblocks"
done 2>/dev/null
for dimm in nmem*; do
    read -r family <"$dimm/nfit/family" && read -r mask <"$dimm/nfit/dsm_mask" || continue
    printf 'dimm %s %s %s\n' "$dimm" "$family" "$mask"
done 2>/dev/null
exit 0
"""


class Injected(Struct, frozen=True):
    """The bad blocks of a machine, and the values that injections change.

    Args:
        bad_blocks: Each bad block with its region.
        smart: The values of each DIMM that supports the injection of SMART values.
    """

    bad_blocks: tuple[tuple[str, BadBlock], ...] = ()
    smart: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


def read_injected(ndctl: Ndctl, inventory: Inventory) -> Injected:
    """Return the bad blocks of every region, and the SMART values of every DIMM that supports injections.

    The bad blocks are those of the kernel. The SMART values need two more commands, so they are read only if a DIMM
    supports injections.

    Args:
        ndctl: The machine's ndctl.
        inventory: A recent listing.

    Raises:
        CommandError: ndctl failed.
        UnreadableOutputError: sysfs contains anything else than expected.
    """
    result = ndctl.run(query(SCRIPT)).check()
    bad_blocks = []
    injectable = set()
    for line in result.lines:
        match line.split():
            case ["bad", region, sector, count]:
                bad_blocks.append((region, BadBlock(_bytes(result, sector), _bytes(result, count))))
            case ["dimm", dimm, family, mask]:
                if whole_number(family) == _INTEL and (whole_number(mask) or 0) & _INJECT_SMART:
                    injectable.add(dimm)
            case _:
                raise UnreadableOutputError(result, f"sysfs has a line {line!r}")
    on_test_bus = {dimm.dev for bus in inventory.buses if bus.provider.startswith(TEST_BUS) for dimm in bus.dimms}
    smart = {
        health.dev: {
            name: value
            for name, value in health.injectable.items()
            if health.dev in on_test_bus or name not in _VARYING
        }
        for health in (Health(ndctl).dimms() if injectable else ())
        if health.dev in injectable
    }
    return Injected(tuple(bad_blocks), smart)


def _bytes(result: CommandResult, sectors: str) -> Size:
    number = whole_number(sectors)
    if number is None:
        raise UnreadableOutputError(result, f"The kernel's list of bad blocks has the number {sectors!r}")
    return Size(number * SECTOR)
