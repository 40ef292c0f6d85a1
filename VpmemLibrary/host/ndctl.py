"""Namespaces, regions and label areas of one machine, through its own ndctl.

What is read is always a fresh listing; what was changed is proven by another. A mistake is refused before anything is
changed, and a create that fails leaves nothing behind.
"""

from __future__ import annotations

import re
import uuid as uuids
from collections.abc import Iterable
from contextlib import suppress
from typing import TypeVar

from VpmemLibrary.errors import (
    AmbiguousError,
    CommandError,
    DeviceBusyError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.host.decode import DAX_LIST_COMMAND, LIST_COMMAND, decode_dax_devices, decode_inventory
from VpmemLibrary.host.in_use import refuse_in_use
from VpmemLibrary.host.ndctl_errors import NO_DEVICE, checked
from VpmemLibrary.host.prediction import (
    ALIGNMENTS,
    DEFAULT_ALIGN,
    SECTOR_SIZES,
    checked_align,
    checked_label_version,
    checked_sector_size,
    checked_size,
    size_step,
)
from VpmemLibrary.host.transport import DEFAULT_TIMEOUT, CommandResult, Transport, checked_name
from VpmemLibrary.model import DaxDevice, Dimm, Inventory, MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import Size

Item = TypeVar("Item", Region, Dimm)

_MAPPED = (NamespaceMode.fsdax, NamespaceMode.devdax)
_DEVICE = re.compile(r"namespace[0-9]+\.[0-9]+", re.ASCII)
_LABELED = "5"  # ND_DEVICE_NAMESPACE_PMEM, linux/ndctl.h: the region's namespaces come from labels
_NSTYPES = r"""
for region in "$@"; do
    printf '%s %s\n' "$region" "$(cat "/sys/bus/nd/devices/$region/nstype")"
done
"""


class Ndctl:
    """ndctl on one machine.

    Args:
        transport: The way to the machine: a host, or a guest.
        timeout: Seconds that one ndctl command may take.

    Example::

        ndctl = Ndctl(transport)
        namespace = ndctl.create_namespace("region0", mode=NamespaceMode.devdax, size=Size.parse("256MiB"))
        ndctl.destroy_namespace(namespace)
    """

    def __init__(self, transport: Transport, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._transport = transport
        self._timeout = timeout

    # What there is

    def inventory(self) -> Inventory:
        """Return all buses, DIMMs, regions and namespaces, disabled ones too; empty when there are none.

        Raises:
            ToolMissingError: ndctl is not installed.
            UnreadableOutputError: ndctl printed what is not its JSON.
            CommandError: ndctl failed.
        """
        return decode_inventory(checked(self._run(LIST_COMMAND), "list what there is"))

    def namespace(self, which: Namespace | str) -> Namespace:
        """Return one namespace as a fresh listing has it.

        Args:
            which: Its record, UUID, device name or name. A record means the namespace with the same label UUID (device
                names change between boots), or the same device where there are no labels.

        Raises:
            NotFoundError: It is not there; the message names those that are.
            AmbiguousError: Several have that name.
        """
        namespaces = self.inventory().namespaces
        found = [namespace for namespace in namespaces if _is_namespace(namespace, which)]
        if len(found) > 1:
            each = ", ".join(f"{namespace.dev} (UUID {namespace.uuid})" for namespace in found)
            raise AmbiguousError(
                f"{len(found)} namespaces on {self._transport.name} are called {which!r}: {each}. "
                "Give the UUID or the device name of the one that is meant."
            )
        if not found:
            there = [f"{ns.called} {ns.uuid}".rstrip() for ns in namespaces]
            raise NotFoundError("namespace", _asked(which), there, where=self._transport.name)
        return found[0]

    def region(self, which: Region | str) -> Region:
        """Return one region as a fresh listing has it.

        Args:
            which: Its record or its name, e.g. ``region0``.

        Raises:
            NotFoundError: It is not there; the message names those that are.
        """
        return self._one("region", _asked(which), self.inventory().regions)

    def dimm(self, which: Dimm | str) -> Dimm:
        """Return one DIMM as a fresh listing has it.

        Args:
            which: Its record or its name, e.g. ``nmem0``.

        Raises:
            NotFoundError: It is not there; the message names those that are.
        """
        return self._one("DIMM", _asked(which), self.inventory().dimms)

    def dax_devices(self) -> tuple[DaxDevice, ...]:
        """Return every device-DAX instance, as daxctl has it.

        Raises:
            ToolMissingError: daxctl is not installed.
            UnreadableOutputError: daxctl printed what is not its JSON.
        """
        return decode_dax_devices(self._run(DAX_LIST_COMMAND).check())

    def unlabeled_regions(self) -> tuple[Region, ...]:
        """Return the regions that lie on DIMMs and have no labels: one raw namespace fills each of them."""
        regions = [region for region in self.inventory().regions if region.dimms]
        labeled = self._labeled(regions)
        return tuple(region for region in regions if region.dev not in labeled)

    # Namespaces

    def create_namespace(
        self,
        region: Region | str,
        *,
        mode: NamespaceMode,
        size: Size | None = None,
        name: str = "",
        map_location: MapLocation | None = None,
        align: Size | None = None,
        sector_size: int | None = None,
        uuid: str | None = None,
    ) -> Namespace:
        """Create a namespace in one region, and return it as an independent listing has it.

        Args:
            region: The region's record or name. Always named: a create without one picks any, and two such ones race.
            mode: Its mode.
            size: What it takes from the region; all of its largest free extent by default.
            name: Its name; none by default.
            map_location: Where its page map lives, for fsdax and devdax; ``dev`` by default.
            align: Its mapping alignment, for fsdax and devdax; 2 MiB by default.
            sector_size: For sector: 4096 by default.
            uuid: The UUID of its label; a random one by default.

        Raises:
            InvalidValueError: A value that cannot be; nothing was changed.
            OutOfSpaceError: The region has no extent so large; nothing was changed.
            UnsupportedError: The region has no labels, so no namespace can be cut from it.
            NotFoundError: There is no such region.
            CommandError: ndctl failed; what it left of the attempt was removed.
        """
        target = self.region(region)
        identity = _checked_uuid(uuid)
        options = _options(target, mode, map_location, align, sector_size)
        if name:
            options += ["--name", checked_name("name", name)]
        self._refuse_unlabeled(target)
        if size is not None:
            size = Size.parse(size)
            step = size_step(region_align=target.align, ways=target.ways, align=_mapping_align(mode, align))
            options += ["--size", str(int(checked_size(size, step)))]
        if (size or Size(1)) > target.free_extent:
            raise OutOfSpaceError(_no_room(target, size))
        try:
            self._checked_create(["--region", target.dev, "--uuid", identity, *options], target, size)
            return self.namespace(identity)
        except BaseException as error:
            self._reclaim(identity, error)
            raise

    def reconfigure_namespace(
        self,
        namespace: Namespace | str,
        *,
        mode: NamespaceMode,
        map_location: MapLocation | None = None,
        align: Size | None = None,
        sector_size: int | None = None,
        uuid: str | None = None,
    ) -> Namespace:
        """Give a namespace another mode in place: its place and name stay, its content is lost.

        Its label gets a new UUID: the kernel refuses the one that it has.

        Args:
            namespace: Its record, UUID, device name or name.
            mode: Its new mode.
            map_location: Where its page map lives, for fsdax and devdax; ``dev`` by default.
            align: Its mapping alignment, for fsdax and devdax; 2 MiB by default.
            sector_size: For sector: 4096 by default.
            uuid: The new UUID of its label; a random one by default.

        Raises:
            NotFoundError: There is no such namespace.
            InvalidValueError: A value that cannot be; nothing was changed.
            BusyError: It is in use; nothing was changed.
            CommandError: ndctl failed; what the namespace held may be lost.
        """
        before = self.namespace(namespace)
        options = _options(self.region(before.region), mode, map_location, align, sector_size)
        identity = _checked_uuid(uuid) if before.label_uuid else ""
        if identity:
            options += ["--uuid", identity]
        if before.name:
            options += ["--name", before.name]
        if before.active:
            self._disable(before)
        command = ["create-namespace", "--no-autolabel", "--reconfig", before.dev, *options]
        try:
            checked(self._change(before.region, *command), f"reconfigure {before.called} as {mode}")
        except CommandError:
            self._restore(before)
            raise
        return self.namespace(identity or before)

    def disable_namespace(self, namespace: Namespace | str) -> Namespace:
        """Disable a namespace: its node goes, its label and bytes stay. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            BusyError: It is in use: mounted, or open or mapped by a process.
        """
        before = self.namespace(namespace)
        if not before.active:
            return before
        result = self._disable(before)
        after = self.namespace(before)
        if after.active:
            raise DeviceBusyError(result, f"{before.called} is still active though ndctl reports success")
        return after

    def enable_namespace(self, namespace: Namespace | str) -> Namespace:
        """Enable a namespace. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            CommandError: It could not be enabled, whatever ndctl's exit status.
        """
        before = self.namespace(namespace)
        if before.active:
            return before
        result = checked(self._change(before.region, "enable-namespace", before.dev), f"enable {before.called}")
        after = self.namespace(before)
        if not after.active:
            raise CommandError(result, f"{before.called} is still disabled though ndctl reports success")
        return after

    def destroy_namespace(self, namespace: Namespace | str) -> None:
        """Destroy one namespace and prove by a fresh listing that it is gone.

        It is disabled first instead of being forced, so that one in use is refused. Without labels there is nothing
        to be removed: its info block is zeroed, and it is left as the disabled raw namespace that fills the region.

        Args:
            namespace: Its record, UUID, device name or name; always exactly one.

        Raises:
            NotFoundError: There is no such namespace.
            AmbiguousError: Several have that name.
            BusyError: It is in use.
            CommandError: It could not be destroyed.
        """
        self._destroy(self.namespace(namespace))

    # Regions and labels

    def enable_region(self, region: Region | str) -> Region:
        """Enable a region, and prove it: ``ndctl enable-region`` can fail and exit 0.

        Raises:
            NotFoundError: There is no such region.
            CommandError: It is not enabled afterwards.
        """
        before = self.region(region)
        if before.state != "disabled":
            return before
        return self._switch_region(before, "enable", wanted="")

    def disable_region(self, region: Region | str) -> Region:
        """Disable a region and so its namespaces, and prove it.

        Raises:
            NotFoundError: There is no such region.
            BusyError: One of its namespaces is in use.
            CommandError: It is not disabled afterwards.
        """
        before = self.region(region)
        if before.state == "disabled":
            return before
        for namespace in before.namespaces:
            refuse_in_use(self._transport, namespace)
        return self._switch_region(before, "disable", wanted="disabled")

    def init_labels(self, region: Region | str, *, version: str = "1.2", overwrite: bool = False) -> Region:
        """Give every DIMM of a region a fresh label area, so that namespaces can be cut from the region.

        Args:
            region: The region's record or name; always exactly one.
            version: The label version: 1.1, or 1.2 (UEFI 2.7), under which small sector namespaces work.
            overwrite: End the labels, and so the namespaces, that there are.

        Raises:
            InvalidValueError: The version is unknown; or there are namespaces, and `overwrite` is not set.
            UnsupportedError: The region lies on no DIMM, so there is no label area.
            BusyError: One of its namespaces is in use.
            CommandError: ndctl failed; the region was enabled again.
        """
        checked_label_version(version)
        before = self.region(region)
        if not before.dimms:
            raise UnsupportedError(
                f"{before.dev} on {self._transport.name} (provider {before.provider}) lies on no DIMM: no label area."
            )
        if not overwrite and (losses := self._losses(before)):
            raise InvalidValueError(
                "overwrite", overwrite, f"True, to end what {before.dev} of {self._transport.name} has: {losses}"
            )
        self.disable_region(before)
        try:
            for dimm in before.dimms:
                self._init_dimm(before, dimm, version, overwrite)
        except BaseException:
            self._switch_region(before, "enable", wanted="")
            raise
        return self._switch_region(before, "enable", wanted="")

    # How it is done

    def _run(self, command: Iterable[str]) -> CommandResult:
        return self._transport.run(list(command), timeout=self._timeout)

    def _change(self, region: str, *arguments: str) -> CommandResult:
        """Run an ndctl command that changes a region, one at a time for each region and machine.

        Two creates at once in one region are given the same empty namespace by the kernel: one fails, or both report
        success with one UUID lost. The lock is held on the region itself by the command, so it goes with the command.
        """
        return self._run(["flock", f"/sys/bus/nd/devices/{region}", "ndctl", *arguments])

    def _one(self, what: str, asked: str, items: tuple[Item, ...]) -> Item:
        for item in items:
            if item.dev == asked:
                return item
        raise NotFoundError(what, asked, [item.dev for item in items], where=self._transport.name)

    def _labeled(self, regions: Iterable[Region]) -> set[str]:
        """Return the names of those regions whose namespaces come from labels."""
        names = [region.dev for region in regions]
        if not names:
            return set()
        result = self._run(["sh", "-c", _NSTYPES, "sh", *names]).check("The kernel has no such region")
        types = dict(line.split(" ", 1) for line in result.text.splitlines() if " " in line)
        return {name for name in names if types.get(name) == _LABELED}

    def _refuse_unlabeled(self, region: Region) -> None:
        if region.state == "disabled":
            raise UnsupportedError(f"{region.dev} on {self._transport.name} is disabled: enable it first.")
        if region.dev in self._labeled([region]):
            return
        mend = (
            "Give it labels first (init_labels), which ends what its one namespace holds."
            if region.dimms
            else f"Its provider {region.provider} has no label area: use or reconfigure the one namespace that it has."
        )
        raise UnsupportedError(
            f"{region.dev} on {self._transport.name} has no labels, so no namespace can be cut from it. {mend}"
        )

    def _checked_create(self, options: list[str], region: Region, size: Size | None) -> None:
        result = self._change(region.dev, "create-namespace", "--no-autolabel", *options)
        if result.exit_status == NO_DEVICE:
            now = self.region(region)
            if (size or Size(1)) > now.free_extent:  # another took the room since it was looked at
                raise NoSpaceError(result, _no_room(now, size))
        checked(result, f"create a namespace in {region.dev}")

    def _reclaim(self, identity: str, error: BaseException) -> None:
        """Remove what a failed create left: only what carries the UUID that was made for it."""
        try:
            with suppress(NotFoundError):
                self._destroy(self.namespace(identity))
        except VpmemError as leak:
            raise VpmemError(f"{error}\nWhat it left (UUID {identity}) could not be removed: {leak}") from error

    def _restore(self, before: Namespace) -> None:
        """Enable again what a failed reconfiguration left disabled; the caller tells why that failed."""
        if before.active:
            with suppress(VpmemError):
                self.enable_namespace(before)

    def _disable(self, namespace: Namespace) -> CommandResult:
        refuse_in_use(self._transport, namespace)
        return checked(
            self._change(namespace.region, "disable-namespace", namespace.dev), f"disable {namespace.called}"
        )

    def _destroy(self, namespace: Namespace) -> None:
        if namespace.active:
            self._disable(namespace)  # without --force, ndctl refuses one that is active all the same
        result = checked(
            self._change(namespace.region, "destroy-namespace", namespace.dev), f"destroy {namespace.called}"
        )
        try:
            left = self.namespace(namespace)
        except NotFoundError:
            return
        if left.label_uuid or left.active:
            raise CommandError(result, f"{namespace.called} is still there though ndctl reports success")

    def _switch_region(self, region: Region, verb: str, *, wanted: str) -> Region:
        result = checked(self._change(region.dev, f"{verb}-region", region.dev), f"{verb} {region.dev}")
        after = self.region(region)
        if after.state != wanted:
            raise CommandError(
                result, f"{region.dev} is {after.state or 'enabled'} though ndctl exited 0: its count is on stderr"
            )
        return after

    def _init_dimm(self, region: Region, dimm: str, version: str, overwrite: bool) -> None:
        force = ["--force"] if overwrite else []
        result = self._change(region.dev, "init-labels", "--label-version", version, *force, dimm)
        checked(result, f"initialise the labels of {dimm}")
        count = re.search(r"initialized ([0-9]+) nmem", result.error_text)
        if count is None or count[1] == "0":
            raise CommandError(result, f"The labels of {dimm} were not initialised though ndctl exited 0")

    def _losses(self, region: Region) -> str:
        """Tell what initialising labels would end; the raw namespace that fills a region without labels is nothing."""
        labeled = region.dev in self._labeled([region])
        ended = [ns.called for ns in region.namespaces if labeled or ns.mode is not NamespaceMode.raw]
        return ", ".join(ended) or ("labels, without a namespace" if labeled else "")


def _asked(which: Namespace | Region | Dimm | str) -> str:
    return which if isinstance(which, str) else (getattr(which, "label_uuid", "") or which.dev)


def _is_namespace(namespace: Namespace, which: Namespace | str) -> bool:
    if isinstance(which, Namespace):
        if which.label_uuid:
            return namespace.label_uuid == which.label_uuid
        return namespace.dev == which.dev
    if _DEVICE.fullmatch(which):
        return namespace.dev == which
    if _is_uuid(which):
        return which.lower() in (namespace.label_uuid, namespace.uuid)
    return bool(which) and namespace.name == which


def _is_uuid(text: str) -> bool:
    return re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", text) is not None


def _checked_uuid(text: str | None) -> str:
    """Return a UUID as ndctl lists it; a random one for none."""
    if text is None:
        return str(uuids.uuid4())
    if not _is_uuid(text):
        raise InvalidValueError("uuid", text, f"a UUID, e.g. {uuids.uuid4()}")
    return text.lower()


def _mapping_align(mode: NamespaceMode, align: Size | None) -> Size | None:
    return (align or DEFAULT_ALIGN) if mode in _MAPPED else None


def _options(
    region: Region, mode: NamespaceMode, map_location: MapLocation | None, align: Size | None, sector_size: int | None
) -> list[str]:
    """Return ndctl's options for a mode, each checked against what the mode takes and the region is capable of."""
    options = ["--mode", NamespaceMode(mode).value]
    if mode in _MAPPED:
        options += ["--map", MapLocation(map_location or MapLocation.dev).value]
        if align is not None:
            there = tuple(Size(each) for each in _capabilities(region, mode, "alignments")) or ALIGNMENTS
            options += ["--align", str(int(checked_align(align, there)))]
    elif map_location is not None or align is not None:
        what, value = ("map", map_location) if map_location is not None else ("align", align)
        raise InvalidValueError(what, str(value), f"none with mode {mode}: only fsdax and devdax have one")
    if mode is NamespaceMode.sector:
        if sector_size is not None:
            there_sizes = tuple(_capabilities(region, mode, "sector_sizes")) or SECTOR_SIZES
            options += ["--sector-size", str(checked_sector_size(sector_size, there_sizes))]
    elif sector_size is not None:
        raise InvalidValueError("sector_size", sector_size, f"none with mode {mode}: only sector has one")
    return options


def _capabilities(region: Region, mode: NamespaceMode, key: str) -> list[int]:
    """Return what ndctl lists as possible in a region for a mode; nothing when this ndctl does not list it."""
    capabilities = region.extra.get("capabilities")
    if isinstance(capabilities, list):
        for capability in capabilities:
            if isinstance(capability, dict) and capability.get("mode") == mode:
                return [int(each) for each in capability.get(key, [])]
    return []


def _no_room(region: Region, size: Size | None) -> str:
    wanted = "a namespace" if size is None else f"a namespace of {size}"
    free = region.free_extent
    apart = f" ({region.available_size} in all, in pieces)" if region.available_size > free else ""
    largest = f"the largest that fits has {free}{apart}" if free else "nothing of it is free"
    return f"There is no room for {wanted} in {region.dev}: {largest}."
