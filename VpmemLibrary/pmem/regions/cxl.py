"""Manage the CXL memory devices of one machine: the regions of their persistent memory, and their poison.

A CXL memory device (memdev) has no region until a CXL region is assembled from it. Then the kernel creates a libnvdimm
region with the same name, on the bus with the provider ``CXL``. Namespaces can be created in this region as in every
other region (kernel, Documentation/driver-api/cxl; cxl-create-region(1)).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from msgspec import Struct, field

from VpmemLibrary.errors import CommandError, InvalidValueError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.decode import Fields, printed_json
from VpmemLibrary.pmem.guard import act, lock_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.polling import poll
from VpmemLibrary.record import compare_without
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, query

REGION_ALIGN = 256 * MiB
"""The size step of a CXL region, for each of its devices (drivers/cxl/core/region.c, alloc_hpa)."""

POISON_UNIT = 64
"""The unit of poison in bytes: a cache line (kernel, Documentation/ABI/testing/debugfs-cxl)."""

UUIDS_SCRIPT = r"""
for region in /sys/bus/cxl/devices/region*; do
    [ -r "$region/uuid" ] && read -r uuid <"$region/uuid" && printf '%s %s\n' "${region##*/}" "$uuid"
done
exit 0
"""
"""Print the name and the UUID of each region that has a UUID."""

_NO_UUID = b"unknown option `uuid="
_OLD_CXL = (
    "cxl has no option --uuid, so no region can have this run's mark. Fix: a newer ndctl, e.g. 81 of Debian 13 (76 of "
    "Debian 12 is too old)"
)

_READY_SECONDS = 30.0
_POLL = 0.1


@compare_without("extra")
class CxlMemdev(Struct, frozen=True):
    """One CXL memory device.

    Args:
        dev: The device's name, e.g. ``mem0``.
        pmem_size: The size of its persistent memory.
        ram_size: The size of its volatile memory.
        serial: The serial number.
        host: The name of its PCI device.
        extra: All other fields that cxl lists.
    """

    dev: str
    pmem_size: Size = Size(0)
    ram_size: Size = Size(0)
    serial: int | None = None
    host: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


@compare_without("extra")
class CxlRegion(Struct, frozen=True):
    """One CXL region, from cxl and sysfs.

    Args:
        dev: The region's name, e.g. ``region4``. The libnvdimm region has the same name.
        size: The region's size.
        memory: ``pmem`` or ``ram``.
        memdevs: The region's memory devices, in the order of interleaving.
        state: ``commit`` while the region's decoders are configured, ``reset`` otherwise.
        uuid: The UUID that was given at creation. Empty for a volatile region.
        extra: All other fields that cxl lists.
    """

    dev: str
    size: Size
    memory: str
    memdevs: tuple[str, ...]
    state: str = ""
    uuid: str = ""
    extra: Mapping[str, object] = field(default_factory=dict)


class MediaError(Struct, frozen=True):
    """A poisoned range of a CXL memory device.

    Args:
        offset: The start of the range in bytes from the start of the device (its DPA).
        length: The number of bytes.
        source: The source of the poison: ``Injected``, ``Internal`` or ``External``.
    """

    offset: Size
    length: Size
    source: str


Item = TypeVar("Item", CxlMemdev, CxlRegion)


class Cxl:
    """The CXL memory of one machine.

    Args:
        ndctl: The machine's ndctl.

    Example::

        cxl = Cxl(Ndctl(transport))
        region = cxl.create_region(["mem0"], uuid=str(uuid.uuid4()))
        print(region.provider, region.size)
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def memdevs(self) -> tuple[CxlMemdev, ...]:
        """Return every CXL memory device. Return an empty tuple if there are none.

        Raises:
            ToolMissingError: cxl is not installed.
            UnreadableOutputError: cxl printed something other than its JSON.
        """
        return tuple(
            CxlMemdev(
                dev=each.device("memdev"),
                pmem_size=each.size("pmem_size") or Size(0),
                ram_size=each.size("ram_size") or Size(0),
                serial=each.bits("serial", 64),
                host=each.text("host"),
                extra=each.rest(),
            )
            for each in self._list("memdev", "--memdevs")
        )

    def memdev(self, which: CxlMemdev | str) -> CxlMemdev:
        """Return one CXL memory device from a fresh listing.

        Raises:
            NotFoundError: The device does not exist. The message lists the existing devices.
        """
        return self._one("CXL memory device", which, self.memdevs())

    def regions(self) -> tuple[CxlRegion, ...]:
        """Return every assembled region. Return an empty tuple if there are none."""
        uuids = self.region_uuids()
        found = []
        for each in self._list("region", "--regions", "--targets"):
            dev = each.device("region")
            placed = sorted(
                (one.number("position") or 0, one.text("memdev")) for one in each.children("mappings", "mapping")
            )
            found.append(
                CxlRegion(
                    dev=dev,
                    size=each.size("size") or Size(0),
                    memory=each.text("type"),
                    memdevs=tuple(memdev for _, memdev in placed),
                    state=each.text("decode_state"),
                    uuid=uuids.get(dev, ""),
                    extra=each.rest(),
                )
            )
        return tuple(found)

    def region_uuids(self) -> dict[str, str]:
        """Return the UUID of each persistent region from sysfs. This works without the program cxl."""
        words = [line.split() for line in self._ndctl.run(query(UUIDS_SCRIPT)).check().lines]
        return {pair[0]: pair[1] for pair in words if len(pair) == 2}

    def region(self, which: CxlRegion | Region | str) -> CxlRegion:
        """Return one CXL region from a fresh listing.

        Raises:
            NotFoundError: The region does not exist. The message lists the existing regions.
        """
        regions = self.regions()
        if isinstance(which, CxlRegion) and which.uuid:
            regions = tuple(region for region in regions if region.uuid == which.uuid)
            which = regions[0].dev if regions else which
        return self._one("CXL region", which, regions)

    def create_region(self, memdevs: Sequence[CxlMemdev | str], *, uuid: str, size: Size | None = None) -> Region:
        """Assemble a persistent region from memory devices. Return the region from ndctl's listing.

        Args:
            memdevs: The devices, in the order of interleaving.
            uuid: The UUID of the new region.
            size: The size of the new region. The default is all available persistent memory.

        Raises:
            NotFoundError: A device does not exist.
            InvalidValueError: A device is given twice or has no persistent memory, or the size is invalid. Nothing was
                changed.
            UnsupportedError: The host's cxl cannot give a region its UUID. Nothing was changed.
            CommandError: cxl failed, or the kernel has no region of that size afterwards.
        """
        found = [self.memdev(each) for each in memdevs]
        _refuse(found, size)
        options = [] if size is None else [f"--size={size:d}"]
        names = [each.dev for each in found]
        before = {region.dev for region in self.regions()}
        fixed = (f"--decoder={self._root_decoder(found)}", "--type=pmem", f"--uuid={uuid}", *options)
        command = ["cxl", "create-region", *fixed, "--memdevs", *names]
        result = self._ndctl.change(_on_memdevs(found, command), lock_target("cxl", f"CXL memory {', '.join(names)}"))
        if _NO_UUID in result.stderr:
            raise UnsupportedError(result.describe(_OLD_CXL))
        result.check(f"Could not assemble a region from {', '.join(names)}")
        made = next((region for region in self.regions() if region.uuid == uuid and region.dev not in before), None)
        if made is None:
            raise CommandError(result, "cxl exited 0, but there is no new region with that UUID")
        return self._as_ndctl_has_it(made, result)

    def destroy_region(self, which: CxlRegion | Region | str) -> None:
        """Destroy a region. The labels on its devices keep their namespaces.

        Args:
            which: The region's record or name. If a record has a UUID, only the region with this UUID matches.

        Raises:
            NotFoundError: The region does not exist.
            BusyError: The region has an active namespace, even an unused one. Nothing was changed.
            CommandError: cxl failed, or the region still exists.
        """
        found = self.region(which)
        called = f"CXL region {found.dev}"
        result = self._ndctl.change(act("take_apart", found.dev, found.uuid), lock_target(found.dev, called))
        result.check(f"Could not destroy {called}")
        if any(region.dev == found.dev for region in self.regions()):
            raise CommandError(result, f"cxl exited 0, but {found.dev} still exists")

    def media_errors(self, memdev: CxlMemdev | str) -> tuple[MediaError, ...]:
        """Return the poisoned ranges that a device lists.

        Raises:
            NotFoundError: The device does not exist.
        """
        name = self.memdev(memdev).dev
        return tuple(
            MediaError(each.size("offset") or Size(0), each.size("length") or Size(0), each.text("source"))
            for listed in self._list("memdev", "--memdevs", f"--memdev={name}", "--media-errors")
            for each in listed.children("media_errors", "media error")
        )

    def inject_poison(self, memdev: CxlMemdev | str, offset: Size) -> tuple[MediaError, ...]:
        """Poison one cache line of a device. Return all poisoned ranges of the device.

        Args:
            memdev: The device's record or name.
            offset: The cache line's offset in bytes from the start of the device; a multiple of 64.

        Raises:
            NotFoundError: The device does not exist.
            InvalidValueError: The offset is not a multiple of 64, or is outside the device. Nothing was changed.
            CommandError: The kernel or the device refused, or the device does not list the cache line afterwards.
        """
        return self._poison(memdev, offset, inject=True)

    def clear_poison(self, memdev: CxlMemdev | str, offset: Size) -> tuple[MediaError, ...]:
        """Clear the poison of one cache line, which writes zeros to it. Return the device's remaining poisoned ranges.

        Args:
            memdev: The device's record or name.
            offset: The cache line's offset in bytes from the start of the device; a multiple of 64.

        Raises:
            NotFoundError: The device does not exist.
            InvalidValueError: The offset is not a multiple of 64, or is outside the device. Nothing was changed.
            CommandError: The kernel or the device refused, or the device still lists the cache line.
        """
        return self._poison(memdev, offset, inject=False)

    def _poison(self, memdev: CxlMemdev | str, offset: Size, *, inject: bool) -> tuple[MediaError, ...]:
        found = self.memdev(memdev)
        end = found.pmem_size + found.ram_size
        if offset % POISON_UNIT or not 0 <= offset < end:
            valid = f"a multiple of {POISON_UNIT} bytes, below the {Size(end)} of {found.dev}"
            raise InvalidValueError("offset", str(offset), valid)
        verb = "inject" if inject else "clear"
        command = _on_memdevs([found], ["poison", verb, found.dev, hex(offset)])
        result = self._ndctl.change(command, lock_target(found.dev, f"CXL memory device {found.dev}"))
        result.check(
            f"Could not {verb} poison at {offset} of {found.dev}: it needs root, debugfs, and support by the device"
        )
        after = self.media_errors(found)
        poisoned = any(each.offset < offset + POISON_UNIT and offset < each.offset + each.length for each in after)
        if poisoned != inject:
            listed = "lists no poison there" if inject else "still lists poison there"
            raise CommandError(result, f"Could not {verb} poison at {offset} of {found.dev}: the device {listed}")
        return after

    def _root_decoder(self, memdevs: Sequence[CxlMemdev]) -> str:
        """Return the CXL window (root decoder) with the most room for persistent memory of all these devices."""
        fitting: dict[str, int] = {}
        for place, memdev in enumerate(memdevs):
            listed = self._list("decoder", "--decoders", "--decoder=root", f"--memdev={memdev.dev}")
            room = {
                each.device("decoder"): each.size("max_available_extent") or 0
                for each in listed
                if each.flag("pmem_capable")
            }
            fitting = room if not place else {name: size for name, size in fitting.items() if name in room}
        if not fitting:
            valid = "devices below one CXL window of the host that supports persistent memory (cxl list -D -d root)"
            raise InvalidValueError("memdevs", ", ".join(each.dev for each in memdevs), valid)
        return max(fitting, key=lambda name: fitting[name])

    def _as_ndctl_has_it(self, made: CxlRegion, result: CommandResult) -> Region:
        def listed() -> Region | None:
            regions = self._ndctl.inventory().regions
            return next((each for each in regions if each.dev == made.dev and each.size == made.size), None)

        return poll(
            listed,
            f"libnvdimm to list {made.dev}",
            timeout=_READY_SECONDS,
            interval=_POLL,
            failure=lambda _: CommandError(result, f"libnvdimm did not list {made.dev} within {_READY_SECONDS:g} s"),
        )

    def _list(self, key: str, *options: str) -> list[Fields]:
        result = self._ndctl.run(["cxl", "list", "--idle", *options]).check("Could not list CXL memory")
        if not result.stdout.strip():
            return []
        try:
            listed = printed_json(result)
        except UnreadableOutputError as error:
            raise UnreadableOutputError(result, f"cxl list printed no JSON: {error.meaning}") from None
        items = [each for item in listed for each in _members(item)] if isinstance(listed, list) else [None]
        if not all(isinstance(each, dict) and each.get(key) for each in items):
            raise UnreadableOutputError(result, f"cxl list printed no list of objects with {key!r}")
        return [Fields(result, key, each) for each in items]

    def _one(self, what: str, which: object, there: tuple[Item, ...]) -> Item:
        name = which if isinstance(which, str) else str(getattr(which, "dev", which))
        for each in there:
            if each.dev == name:
                return each
        raise NotFoundError(what, name, [each.dev for each in there], where=self._ndctl.transport.name)


def _members(item: object) -> list[object]:
    """Return the members of a group of objects, or the object itself.

    cxl groups its list if there are disabled devices: ``[{"anon memdevs": [...]}, {"memdevs": [...]}]``.
    """
    match list(item.values()) if isinstance(item, dict) else []:
        case [list(members)]:
            return members
    return [item]


def _refuse(memdevs: Sequence[CxlMemdev], size: Size | None) -> None:
    names = [each.dev for each in memdevs]
    if not names or len(set(names)) < len(names):
        raise InvalidValueError("memdevs", ", ".join(names) or "none", "at least one device, and no device twice")
    without = [each.dev for each in memdevs if not each.pmem_size]
    if without:
        raise InvalidValueError("memdevs", ", ".join(without), "devices with persistent memory")
    whole = min(each.pmem_size for each in memdevs) * len(memdevs)
    unit = REGION_ALIGN * len(memdevs)
    if size is not None and (size <= 0 or size % unit or size > whole):
        raise InvalidValueError("size", str(size), f"a multiple of {Size(unit)}, at most the {Size(whole)} of {names}")


def _on_memdevs(memdevs: Sequence[CxlMemdev], command: Sequence[str]) -> list[str]:
    """Return a command that runs only if the memory devices still have their listed serial numbers."""
    known = [(each.dev, f"{each.serial:#x}" if each.serial else "0") for each in memdevs if each.serial is not None]
    return act("on_memdevs", str(len(known)), *(word for pair in known for word in pair), *command)
