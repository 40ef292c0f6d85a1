"""Create, change and destroy namespaces of one machine with its own ndctl.

Invalid requests are refused before anything is changed. A fresh listing proves each change. A failed create leaves
nothing behind.
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
        """Create a namespace in one region. Return the namespace from a fresh listing.

        Args:
            region: The region's record or name. Required, because ndctl would pick any region, and two creates could
                then disturb each other.
            mode: The namespace's mode.
            size: The bytes that the namespace takes from the region. The default is the whole largest free extent.
                `AtLeast` means the smallest valid size that is not below it.
            name: The namespace's name. By default, it has no name.
            map_location: The location of the page map, for fsdax and devdax. The default is ``dev``.
            align: The mapping alignment, for fsdax and devdax. The default is 2 MiB.
            sector_size: The sector size in bytes. The default is 4096 for sector, 512 for fsdax and raw.
            uuid: The UUID of the namespace's label. The default is a random UUID.

        Raises:
            InvalidValueError: A value is invalid. Nothing was changed.
            OutOfSpaceError: The region has no free extent of this size. Nothing was changed.
            UnsupportedError: The region is disabled, read-only or volatile, or has no labels.
            NotFoundError: The region does not exist.
            CommandError: ndctl failed. Its leftovers were removed.
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
        """Change the mode of a namespace. Its place in the region and its name stay, but its content is lost.

        The namespace's label gets a new UUID, because the kernel refuses the current UUID.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            mode: The new mode.
            map_location: The location of the page map, for fsdax and devdax. The default is ``dev``.
            align: The mapping alignment, for fsdax and devdax. The default is 2 MiB.
            sector_size: The sector size in bytes. The default is 4096 for sector, 512 for fsdax and raw.
            uuid: The new UUID of the namespace's label. The default is a random UUID.

        Raises:
            NotFoundError: The namespace does not exist.
            InvalidValueError: A value is invalid. Nothing was changed.
            BusyError: The namespace is in use. Nothing was changed.
            CommandError: ndctl failed. The namespace's content may be lost.
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
            result = checked(self._ndctl.change(command, namespace_target(before), must_be_unused=True), action)
        except BaseException:
            self._restore(before)
            raise
        wanted = identity or before
        after = next((each for each in self._ndctl.inventory().namespaces if is_namespace(each, wanted)), None)
        if after is None or after.mode is not mode:
            raise CommandError(result, f"Could not {action} though ndctl exited 0")
        return after

    def rename(self, namespace: Namespace | str, name: str) -> Namespace:
        """Rename a namespace. Its UUID, place, mode and content do not change.

        ndctl cannot rename a namespace. The kernel accepts a new name while the namespace is disabled
        (``drivers/nvdimm/namespace_devs.c``, ``alt_name_store``) and writes it to the labels. Therefore this method
        disables an active namespace during the change.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            name: The new name.

        Raises:
            InvalidValueError: The name is invalid. Nothing was changed.
            NotFoundError: The namespace does not exist.
            UnsupportedError: The namespace has no label, and only a label can store a name.
            BusyError: The namespace is in use. Nothing was changed.
            CommandError: The kernel refused the name, or the namespace has a different name or is disabled afterwards.
        """
        checked_name("name", name)
        before = self._ndctl.namespace(namespace)
        if not before.label_uuid:
            raise UnsupportedError(f"{before.called} has no label, and only a label can store a name.")
        command = act("rename", NAMESPACE, name)
        try:
            result = self._ndctl.change(command, namespace_target(before), must_be_unused=True)
            checked(result, f"rename {before.called} to {name}")
        except BaseException:
            self._restore(before)
            raise
        after = self._ndctl.namespace(before)
        if after.name != name:
            raise CommandError(
                result, f"{before.called} has the name {after.name!r} though the kernel accepted {name!r}"
            )
        if after.active is not before.active:
            raise CommandError(result, f"{before.called} was renamed to {name}, but it is disabled now")
        return after

    @contextmanager
    def disabled(self, namespace: Namespace | str) -> Iterator[Namespace]:
        """Disable a namespace inside the ``with`` block. Afterwards, enable it again if it was active.

        Raises:
            NotFoundError: The namespace does not exist.
            BusyError: The namespace is in use. Nothing was changed.
            CommandError: The namespace could not be disabled, or could not be enabled again.
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
        """Disable a namespace. Its node disappears, its label and content stay. Do nothing if it is already disabled.

        Raises:
            NotFoundError: The namespace does not exist.
            BusyError: The namespace is mounted, or a process has it open or mapped.
        """
        return self._disabled(self._ndctl.namespace(namespace))

    def enable(self, namespace: Namespace | str) -> Namespace:
        """Enable a namespace. Do nothing if it is already enabled.

        Raises:
            NotFoundError: The namespace does not exist.
            CommandError: The namespace is not enabled afterwards. ndctl's exit status may still be 0.
        """
        return self._enabled(self._ndctl.namespace(namespace))

    def destroy(self, namespace: Namespace | str) -> None:
        """Destroy one namespace. Prove by a fresh listing that the namespace no longer exists.

        The act disables the namespace first and does not use ndctl's ``--force``. Therefore a namespace in use is
        refused. A namespace without a label cannot be removed. In this case its info block is zeroed, and a bare
        namespace remains that fills the region.

        Args:
            namespace: The record, UUID, device name or name of exactly one namespace.

        Raises:
            NotFoundError: The namespace does not exist.
            AmbiguousError: Several namespaces have that name.
            BusyError: The namespace is in use.
            CommandError: The namespace could not be destroyed.
        """
        self.destroy_listed(self._ndctl.namespace(namespace))

    def destroy_listed(self, namespace: Namespace) -> None:
        """Destroy a namespace by its record. See `destroy`.

        Args:
            namespace: The namespace's record. The namespace is found by its label's UUID, even if its device name has
                changed.

        Raises:
            NotFoundError: The namespace no longer exists. Nothing was changed.
            BusyError: The namespace is in use.
            CommandError: The namespace could not be destroyed.
        """
        for failure in self.still_there([(namespace, self.remove(namespace))]):
            raise failure

    def remove(self, namespace: Namespace) -> CommandResult:
        """Destroy a namespace by its record, without the proof by a fresh listing. Use `still_there` for the proof.

        Args:
            namespace: The namespace's record. The namespace is found by its label's UUID, even if its device name has
                changed.

        Returns:
            ndctl's result, for `still_there`.

        Raises:
            NotFoundError: The namespace no longer exists. Nothing was changed.
            BusyError: The namespace is in use.
            CommandError: The namespace could not be destroyed.
        """
        command = act("destroy", NAMESPACE)
        result = self._ndctl.change(command, namespace_target(namespace), must_be_unused=True)
        return checked(result, f"destroy {namespace.called}")

    def still_there(self, removed: Iterable[tuple[Namespace, CommandResult]]) -> tuple[CommandError, ...]:
        """List the namespaces again. Return an error for each removed namespace that still exists.

        Args:
            removed: The records of the removed namespaces, each with ndctl's result.
        """
        there = [left for left in self._ndctl.inventory().namespaces if not left.bare]
        return tuple(
            CommandError(said, f"{namespace.called} still exists though ndctl exited 0")
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
            raise CommandError(result, f"ndctl exited 0 but created no namespace in {plan.region.dev}") from error

    def _refuse_without_room(self, plan: Plan, identity: str, result: CommandResult) -> None:
        """Raise NoSpaceError if a create failed because the region has no room.

        Another worker may have taken the room. Kernels before 4.20 list only the sum of the free bytes, so the free
        extents are read from sysfs.
        """
        now = self._ndctl.region(plan.region)
        if any(namespace.label_uuid == identity for namespace in now.namespaces):
            return  # there was room: ndctl created a part of the namespace
        wanted = plan.size or Size(1)
        if wanted > now.free_extent:
            raise NoSpaceError(result, no_room(now, plan.size))
        if now.max_available_extent is None:
            room = read_room(self._ndctl.transport, now)
            if wanted > room.largest:
                raise NoSpaceError(result, no_room(now, plan.size, room.free))
        if meant_status(result) in NO_ROOM:
            raise NoSpaceError(result, f"ndctl found no room in {now.dev}, though {now.free_extent} are free")

    def _reclaim(self, identity: str, error: BaseException) -> None:
        """Remove the leftovers of a failed create, and add the outcome to the error.

        Only a namespace with the UUID of this create is removed.
        """
        try:
            self.destroy(identity)
        except NotFoundError:
            found = f"It left nothing: a fresh listing has no namespace {identity}."
        except VpmemError as leak:
            found = f"Its leftover, namespace {identity}, could not be found or removed: {leak}"
        else:
            found = f"It had created namespace {identity}, which was removed again."
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
        """Raise if the new alignment leaves no usable bytes. The kernel reports this after the old mode is lost."""
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
        """Enable a namespace that a failed change left disabled. The caller reports why the change failed."""
        if before.active:
            with suppress(VpmemError):
                self.enable(before)

    def _disabled(self, before: Namespace) -> Namespace:
        if not before.active:
            return before
        result = self._disable(before)
        after = self._ndctl.namespace(before)
        if after.active:
            raise DeviceBusyError(result, f"{before.called} is still active though ndctl exited 0")
        return after

    def _enabled(self, before: Namespace) -> Namespace:
        if before.active:
            return before
        command = ["ndctl", "enable-namespace", NAMESPACE]
        result = checked(self._ndctl.change(command, namespace_target(before)), f"enable {before.called}")
        after = self._ndctl.namespace(before)
        if not after.active:
            raise CommandError(result, f"{before.called} is still disabled though ndctl exited 0")
        return after

    def _disable(self, namespace: Namespace) -> CommandResult:
        command = ["ndctl", "disable-namespace", NAMESPACE]
        result = self._ndctl.change(command, namespace_target(namespace), must_be_unused=True)
        return checked(result, f"disable {namespace.called}")


def _checked_uuid(text: str | None) -> str:
    """Return a UUID as ndctl lists it. Return a random UUID if none is given."""
    if text is None:
        return str(uuids.uuid4())
    if not is_uuid(text):
        raise InvalidValueError("uuid", text, f"a UUID, e.g. {uuids.uuid4()}")
    return text.lower()
