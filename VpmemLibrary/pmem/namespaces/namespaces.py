"""Namespaces of one machine: created, changed and destroyed by its own ndctl.

A mistake is refused before anything is changed, what was changed is proven by a fresh listing, and a create that fails
leaves nothing behind.
"""

from __future__ import annotations

import uuid as uuids
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from VpmemLibrary.errors import (
    CommandError,
    DeviceBusyError,
    InvalidValueError,
    NoSpaceError,
    NotFoundError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.guard import NAMESPACE, REGION, act, namespace_target, region_target
from VpmemLibrary.pmem.namespaces.plan import (
    Plan,
    alignments_of,
    mapping_align,
    mode_options,
    no_room,
    plan_namespace,
    step_of,
)
from VpmemLibrary.pmem.ndctl import Ndctl, is_namespace, is_uuid
from VpmemLibrary.pmem.ndctl_errors import NO_DEVICE, NO_ROOM, checked, meant_status
from VpmemLibrary.pmem.prediction import checked_size, predict_usable_size, region_align
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.pmem.regions.room import read_room
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, checked_name


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
            size: What it takes from the region; all of its largest free extent by default. `AtLeast` is the
                smallest size that the region allows and that is not smaller.
            name: Its name; none by default.
            map_location: Where its page map lives, for fsdax and devdax; ``dev`` by default.
            align: Its mapping alignment, for fsdax and devdax; 2 MiB by default.
            sector_size: In bytes; 4096 by default for sector, 512 for fsdax and raw.
            uuid: The UUID of its label; a random one by default.

        Raises:
            InvalidValueError: A value that cannot be; nothing was changed.
            OutOfSpaceError: The region has no extent so large; nothing was changed.
            UnsupportedError: The region is disabled, read-only, volatile or has no labels.
            NotFoundError: There is no such region.
            CommandError: ndctl failed; what it left of the attempt was removed.
        """
        identity = _checked_uuid(uuid)
        plan = plan_namespace(
            self._ndctl,
            region,
            mode=mode,
            size=size,
            name=name,
            map_location=map_location,
            align=align,
            sector_size=sector_size,
        )
        try:
            return self._checked_create(plan, identity)
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
            sector_size: In bytes; 4096 by default for sector, 512 for fsdax and raw.
            uuid: The new UUID of its label; a random one by default.

        Raises:
            NotFoundError: There is no such namespace.
            InvalidValueError: A value that cannot be; nothing was changed.
            BusyError: It is in use; nothing was changed.
            CommandError: ndctl failed; what the namespace held may be lost.
        """
        before = self._ndctl.namespace(namespace)
        region = self._ndctl.region(before.region)
        options = mode_options(region, mode, map_location, align, sector_size)
        self._refuse_unusable(before, region, mode, map_location, align)
        identity = _checked_uuid(uuid) if before.label_uuid else ""
        if identity:
            options += ["--uuid", identity]
        if before.name:
            options += ["--name", before.name]
        action = f"reconfigure {before.called} as {mode}"
        command = act("reconfigure", NAMESPACE, *options)
        try:
            result = checked(self._ndctl.change(command, namespace_target(before), unused=True), action)
        except BaseException:
            self._restore(before)
            raise
        wanted = identity or before
        after = next((each for each in self._ndctl.inventory().namespaces if is_namespace(each, wanted)), None)
        if after is None or after.mode is not mode:
            raise CommandError(result, f"Could not {action} though ndctl reports success")
        return after

    def rename(self, namespace: Namespace | str, name: str) -> Namespace:
        """Give a namespace another name; its UUID, place, mode and every byte stay.

        ndctl cannot. The kernel takes a name while the namespace is disabled (``drivers/nvdimm/namespace_devs.c``,
        ``alt_name_store``) and writes it to the labels: an active one is disabled for the time of it.

        Args:
            namespace: Its record, UUID, device name or name.
            name: Its new name.

        Raises:
            InvalidValueError: It cannot be a name; nothing was changed.
            NotFoundError: There is no such namespace.
            UnsupportedError: It has no label, so it has no name.
            BusyError: It is in use; nothing was changed.
            CommandError: The kernel did not take the name, or it has another one afterwards.
        """
        checked_name("name", name)
        before = self._ndctl.namespace(namespace)
        if not before.label_uuid:
            raise UnsupportedError(f"{before.called} has no label, and a name is kept in the label.")
        command = act("rename", NAMESPACE, name)
        try:
            result = self._ndctl.change(command, namespace_target(before), unused=True)
            checked(result, f"rename {before.called} to {name}")
        except BaseException:
            self._restore(before)
            raise
        after = self._ndctl.namespace(before)
        if after.name != name:
            raise CommandError(result, f"{before.called} is called {after.name!r} though the kernel took {name!r}")
        if after.active is not before.active:
            raise CommandError(result, f"{before.called} was renamed to {name}, but it is disabled since")
        return after

    @contextmanager
    def disabled(self, namespace: Namespace | str) -> Iterator[Namespace]:
        """Have a namespace disabled for a while; one that was active is enabled again, whatever happens meanwhile.

        Raises:
            NotFoundError: There is no such namespace.
            BusyError: It is in use; nothing was changed.
            CommandError: It could not be disabled, or not be enabled again.
        """
        before = self._ndctl.namespace(namespace)
        idle = self._disabled(before)
        try:
            yield idle
        except BaseException:
            self._restore(before)
            raise
        if before.active:
            self._enabled(idle)

    def disable(self, namespace: Namespace | str) -> Namespace:
        """Disable a namespace: its node goes, its label and bytes stay. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            BusyError: It is in use: mounted, or open or mapped by a process.
        """
        return self._disabled(self._ndctl.namespace(namespace))

    def enable(self, namespace: Namespace | str) -> Namespace:
        """Enable a namespace. Doing it twice is harmless.

        Raises:
            NotFoundError: There is no such namespace.
            CommandError: It could not be enabled, whatever ndctl's exit status.
        """
        return self._enabled(self._ndctl.namespace(namespace))

    def destroy(self, namespace: Namespace | str) -> None:
        """Destroy one namespace and prove by a fresh listing that it is gone.

        The same act disables it first instead of forcing ndctl, so that one in use is refused. Without labels there is
        nothing to be removed: its info block is zeroed, and it is left as the disabled raw namespace that fills the
        region.

        Args:
            namespace: Its record, UUID, device name or name; always exactly one.

        Raises:
            NotFoundError: There is no such namespace.
            AmbiguousError: Several have that name.
            BusyError: It is in use.
            CommandError: It could not be destroyed.
        """
        self.destroy_listed(self._ndctl.namespace(namespace))

    def destroy_listed(self, namespace: Namespace) -> None:
        """Destroy a namespace as `destroy` does, by its record.

        Args:
            namespace: Its record. It is found by the UUID of its label, whatever device it is by now.

        Raises:
            NotFoundError: It is not there any more; nothing was changed.
            BusyError: It is in use.
            CommandError: It could not be destroyed.
        """
        for failure in self.still_there([(namespace, self.remove(namespace))]):
            raise failure

    def remove(self, namespace: Namespace) -> CommandResult:
        """Destroy a namespace as `destroy` does, by its record; `still_there` proves it.

        Args:
            namespace: Its record. It is found by the UUID of its label, whatever device it is by now.

        Returns:
            What ndctl said.

        Raises:
            NotFoundError: It is not there any more; nothing was changed.
            BusyError: It is in use.
            CommandError: It could not be destroyed.
        """
        command = act("destroy", NAMESPACE)
        result = self._ndctl.change(command, namespace_target(namespace), unused=True)
        return checked(result, f"destroy {namespace.called}")

    def still_there(self, removed: Iterable[tuple[Namespace, CommandResult]]) -> tuple[CommandError, ...]:
        """Return a failure for each removed namespace that one fresh listing still has.

        Args:
            removed: The records, and what ndctl said of each.
        """
        there = [left for left in self._ndctl.inventory().namespaces if left.label_uuid or left.active]
        return tuple(
            CommandError(said, f"{namespace.called} is still there though ndctl reports success")
            for namespace, said in removed
            if any(is_namespace(left, namespace) for left in there)
        )

    def _checked_create(self, plan: Plan, identity: str) -> Namespace:
        command = ["ndctl", "create-namespace", "--no-autolabel", "--region", REGION, "--uuid", identity, *plan.options]
        result = self._ndctl.change(command, region_target(plan.region))
        if meant_status(result) in (NO_DEVICE, *NO_ROOM) or "set_size" in result.error_text:
            self._refuse_without_room(plan, identity, result)
        checked(result, f"create a namespace in {plan.region.dev}")
        try:
            return self._ndctl.namespace(identity)
        except NotFoundError as error:
            raise CommandError(result, f"No namespace is new in {plan.region.dev} though ndctl exited 0") from error

    def _refuse_without_room(self, plan: Plan, identity: str, result: CommandResult) -> None:
        """Raise if a create failed for want of room: another took it, or the kernel did not list that it is in pieces.

        Kernels before 4.20 list the sum of what is free alone, so the pieces themselves are looked at.
        """
        now = self._ndctl.region(plan.region)
        if any(namespace.label_uuid == identity for namespace in now.namespaces):
            return  # there was room: it was made in part
        wanted = plan.size or Size(1)
        if wanted > now.free_extent:
            raise NoSpaceError(result, no_room(now, plan.size))
        if now.max_available_extent is None:
            room = read_room(self._ndctl.transport, now)
            if wanted > room.largest:
                raise NoSpaceError(result, no_room(now, plan.size, room.free))
        if meant_status(result) in NO_ROOM:
            raise NoSpaceError(result, f"ndctl found no room in {now.dev}, though {now.free_extent} of it are free")

    def _reclaim(self, identity: str, error: BaseException) -> None:
        """Remove what a failed create left, only what carries the UUID that was made for it, and tell what it was."""
        try:
            self.destroy(identity)
        except NotFoundError:
            found = f"Nothing is left of it: a fresh listing has no namespace {identity}."
        except VpmemError as leak:
            found = f"What is left of it, namespace {identity}, is not known or could not be removed: {leak}"
        else:
            found = f"It had made namespace {identity}, which was removed again."
        if isinstance(error, VpmemError):
            error.add(found)
        else:
            error.add_note(found)

    def _refuse_unusable(
        self,
        namespace: Namespace,
        region: Region,
        mode: NamespaceMode,
        map_location: MapLocation | None,
        align: Size | None,
    ) -> None:
        """Raise where an alignment leaves nothing usable: the kernel says so only when the old mode is gone."""
        chosen = mapping_align(region, mode, align)
        if chosen is None or region_align(region) % chosen == 0:
            return
        room = read_room(self._ndctl.transport, region)
        for extent in room.extents:
            if extent.holder == namespace.dev:
                checked_size(extent.size, step_of(region, mode, align))
                predict_usable_size(
                    extent.size,
                    mode=mode,
                    map_location=map_location,
                    align=chosen,
                    start=room.start + extent.offset,
                    alignments=alignments_of(region, mode),
                )

    def _restore(self, before: Namespace) -> None:
        """Enable again what a failed change left disabled; the caller tells why that failed."""
        if before.active:
            with suppress(VpmemError):
                self.enable(before)

    def _disabled(self, before: Namespace) -> Namespace:
        if not before.active:
            return before
        result = self._disable(before)
        after = self._ndctl.namespace(before)
        if after.active:
            raise DeviceBusyError(result, f"{before.called} is still active though ndctl reports success")
        return after

    def _enabled(self, before: Namespace) -> Namespace:
        if before.active:
            return before
        command = ["ndctl", "enable-namespace", NAMESPACE]
        result = checked(self._ndctl.change(command, namespace_target(before)), f"enable {before.called}")
        after = self._ndctl.namespace(before)
        if not after.active:
            raise CommandError(result, f"{before.called} is still disabled though ndctl reports success")
        return after

    def _disable(self, namespace: Namespace) -> CommandResult:
        command = ["ndctl", "disable-namespace", NAMESPACE]
        result = self._ndctl.change(command, namespace_target(namespace), unused=True)
        return checked(result, f"disable {namespace.called}")


def _checked_uuid(text: str | None) -> str:
    """Return a UUID as ndctl lists it; a random one for none."""
    if text is None:
        return str(uuids.uuid4())
    if not is_uuid(text):
        raise InvalidValueError("uuid", text, f"a UUID, e.g. {uuids.uuid4()}")
    return text.lower()
