"""Namespaces of one machine: created, changed and destroyed by its own ndctl.

A mistake is refused before anything is changed, what was changed is proven by a fresh listing, and a create that fails
leaves nothing behind.
"""

from __future__ import annotations

import uuid as uuids
from contextlib import suppress

from VpmemLibrary.errors import (
    CommandError,
    DeviceBusyError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    OutOfSpaceError,
    VpmemError,
)
from VpmemLibrary.host.in_use import refuse_in_use
from VpmemLibrary.host.ndctl import Ndctl, is_uuid
from VpmemLibrary.host.ndctl_errors import NO_DEVICE, checked
from VpmemLibrary.host.prediction import (
    ALIGNMENTS,
    DEFAULT_ALIGN,
    SECTOR_SIZES,
    checked_align,
    checked_sector_size,
    checked_size,
    size_step,
)
from VpmemLibrary.host.transport import CommandResult, checked_name
from VpmemLibrary.model import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import Size

_MAPPED = (NamespaceMode.fsdax, NamespaceMode.devdax)


class Namespaces:
    """The namespaces of one machine.

    Args:
        ndctl: The machine's ndctl.

    Example::

        namespaces = Namespaces(Ndctl(transport))
        namespace = namespaces.create("region0", mode=NamespaceMode.devdax, size=Size.parse("256MiB"))
        namespaces.destroy(namespace)
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def create(
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
        target = self._ndctl.region(region)
        identity = _checked_uuid(uuid)
        options = _options(target, mode, map_location, align, sector_size)
        if name:
            options += ["--name", checked_name("name", name)]
        self._ndctl.refuse_unlabeled(target)
        if size is not None:
            size = Size.parse(size)
            step = size_step(region_align=target.align, ways=target.ways, align=_mapping_align(mode, align))
            options += ["--size", str(int(checked_size(size, step)))]
        if (size or Size(1)) > target.free_extent:
            raise OutOfSpaceError(_no_room(target, size))
        try:
            self._checked_create(["--region", target.dev, "--uuid", identity, *options], target, size)
            return self._ndctl.namespace(identity)
        except BaseException as error:
            self._reclaim(identity, error)
            raise

    def reconfigure(
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
        before = self._ndctl.namespace(namespace)
        options = _options(self._ndctl.region(before.region), mode, map_location, align, sector_size)
        identity = _checked_uuid(uuid) if before.label_uuid else ""
        if identity:
            options += ["--uuid", identity]
        if before.name:
            options += ["--name", before.name]
        if before.active:
            self._disable(before)
        command = ["create-namespace", "--no-autolabel", "--reconfig", before.dev, *options]
        try:
            checked(self._ndctl.change(before.region, *command), f"reconfigure {before.called} as {mode}")
        except CommandError:
            self._restore(before)
            raise
        return self._ndctl.namespace(identity or before)

    def disable(self, namespace: Namespace | str) -> Namespace:
        """Disable a namespace: its node goes, its label and bytes stay. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            BusyError: It is in use: mounted, or open or mapped by a process.
        """
        before = self._ndctl.namespace(namespace)
        if not before.active:
            return before
        result = self._disable(before)
        after = self._ndctl.namespace(before)
        if after.active:
            raise DeviceBusyError(result, f"{before.called} is still active though ndctl reports success")
        return after

    def enable(self, namespace: Namespace | str) -> Namespace:
        """Enable a namespace. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            CommandError: It could not be enabled, whatever ndctl's exit status.
        """
        before = self._ndctl.namespace(namespace)
        if before.active:
            return before
        result = checked(self._ndctl.change(before.region, "enable-namespace", before.dev), f"enable {before.called}")
        after = self._ndctl.namespace(before)
        if not after.active:
            raise CommandError(result, f"{before.called} is still disabled though ndctl reports success")
        return after

    def destroy(self, namespace: Namespace | str) -> None:
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
        self._destroy(self._ndctl.namespace(namespace))

    def _checked_create(self, options: list[str], region: Region, size: Size | None) -> None:
        result = self._ndctl.change(region.dev, "create-namespace", "--no-autolabel", *options)
        if result.exit_status == NO_DEVICE:
            now = self._ndctl.region(region)
            if (size or Size(1)) > now.free_extent:  # another took the room since it was looked at
                raise NoSpaceError(result, _no_room(now, size))
        checked(result, f"create a namespace in {region.dev}")

    def _reclaim(self, identity: str, error: BaseException) -> None:
        """Remove what a failed create left: only what carries the UUID that was made for it."""
        try:
            with suppress(NotFoundError):
                self._destroy(self._ndctl.namespace(identity))
        except VpmemError as leak:
            raise VpmemError(f"{error}\nWhat it left (UUID {identity}) could not be removed: {leak}") from error

    def _restore(self, before: Namespace) -> None:
        """Enable again what a failed reconfiguration left disabled; the caller tells why that failed."""
        if before.active:
            with suppress(VpmemError):
                self.enable(before)

    def _disable(self, namespace: Namespace) -> CommandResult:
        refuse_in_use(self._ndctl.transport, namespace)
        return checked(
            self._ndctl.change(namespace.region, "disable-namespace", namespace.dev), f"disable {namespace.called}"
        )

    def _destroy(self, namespace: Namespace) -> None:
        if namespace.active:
            self._disable(namespace)  # without --force, ndctl refuses one that is active all the same
        result = checked(
            self._ndctl.change(namespace.region, "destroy-namespace", namespace.dev), f"destroy {namespace.called}"
        )
        try:
            left = self._ndctl.namespace(namespace)
        except NotFoundError:
            return
        if left.label_uuid or left.active:
            raise CommandError(result, f"{namespace.called} is still there though ndctl reports success")


def _checked_uuid(text: str | None) -> str:
    """Return a UUID as ndctl lists it; a random one for none."""
    if text is None:
        return str(uuids.uuid4())
    if not is_uuid(text):
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
