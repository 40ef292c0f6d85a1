"""Device-DAX instances of one machine: switched between devdax and system RAM, and cut from regions that allow it.

daxctl changes them; that it did is proven by what the kernel says afterwards. A change that fails is undone as far as
the kernel allows, and its error tells what the instance is then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from VpmemLibrary.errors import (
    CommandError,
    CommandTimeoutError,
    DeviceBusyError,
    InvalidValueError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
)
from VpmemLibrary.pmem.dax.memory import DaxMemory, read_dax_memory, total_memory
from VpmemLibrary.pmem.decode import DAX_REGIONS_COMMAND, decode_dax_regions
from VpmemLibrary.pmem.guard import NODE, Target, act, lock_target, namespace_target, path_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import DaxDevice, DaxMode, DaxRegion, Namespace
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, query

_CHARDEV = re.compile(r"(?:/dev/)?(dax[0-9]+\.[0-9]+)", re.ASCII)
_MODULE_SCRIPT = "[ -d /sys/module/kmem ] || modprobe -n -q kmem"
_DYNAMIC_SCRIPT = r"""
for path in "$@"; do
    if [ -e "/sys/devices$path/dax_region/create" ] || [ -e "/sys/devices$path/create" ]; then
        printf '%s\n' "$path"
    fi
done
"""


@dataclass(frozen=True, slots=True)
class _Found:
    """A device-DAX instance and, where it lies in one, its namespace."""

    chardev: str
    namespace: Namespace | None

    @property
    def called(self) -> str:
        return f"{self.chardev} ({self.namespace.called})" if self.namespace else self.chardev

    @property
    def targets(self) -> tuple[Target, ...]:
        """What a change of it acts on: its namespace, or its node under the lock of its device-DAX region."""
        if self.namespace is not None:
            return (replace(namespace_target(self.namespace), called=self.called),)
        region = self.chardev.partition(".")[0]
        return path_target(f"/dev/{self.chardev}"), lock_target(region, "")


class DaxDevices:
    """The device-DAX instances of one machine.

    An instance is given by its record, by its name (``dax0.0``), or by the namespace that it lies in.

    Args:
        ndctl: The machine's ndctl.

    Example::

        dax = DaxDevices(Ndctl(transport))
        grown = dax.to_system_ram("ns_0").growth
        dax.to_devdax("ns_0")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    # What there is

    def list(self) -> tuple[DaxDevice, ...]:
        """Return every instance, as daxctl has it; disabled ones too.

        Raises:
            ToolMissingError: daxctl is not installed.
            UnreadableOutputError: daxctl printed what is not its JSON.
        """
        return self._ndctl.dax_devices()

    def regions(self) -> tuple[DaxRegion, ...]:
        """Return every device-DAX region with its instances; whether it is dynamic is the kernel's word."""
        regions = decode_dax_regions(checked(self._ndctl.run(DAX_REGIONS_COMMAND), "list the device-DAX regions"))
        if not regions:
            return ()
        result = self._ndctl.run(query(_DYNAMIC_SCRIPT, *(region.path for region in regions))).check()
        dynamic = result.lines
        return tuple(replace(region, dynamic=region.path in dynamic) for region in regions)

    def device(self, which: DaxDevice | Namespace | str) -> DaxDevice:
        """Return one instance as a fresh listing has it.

        Raises:
            NotFoundError: It is not there; the message names those that are.
            InvalidValueError: The namespace has none.
        """
        return self._listed(self._find(which).chardev)

    def namespace(self, which: DaxDevice | Namespace | str) -> Namespace | None:
        """Return the namespace that an instance is of; None for one of a dynamic region.

        Raises:
            NotFoundError: There is no such namespace.
            InvalidValueError: The namespace has no instance.
        """
        return self._find(which).namespace

    def memory(self, which: DaxDevice | Namespace | str) -> DaxMemory:
        """Return an instance and its memory blocks as the kernel has them.

        Raises:
            NotFoundError: It is not there.
            InvalidValueError: The namespace has none.
        """
        return self._memory(self._find(which))

    def total_memory(self) -> Size:
        """Return the machine's MemTotal."""
        return total_memory(self._ndctl.transport)

    # devdax and system RAM

    def to_system_ram(
        self,
        which: DaxDevice | Namespace | str,
        *,
        online: bool = True,
        movable: bool = True,
        timeout: float | None = None,
    ) -> DaxMemory:
        """Make an instance RAM of the machine. What it holds is lost.

        Args:
            which: The instance.
            online: Put its memory online, so that it is used.
            movable: Put it into the movable zone: only from there can it be counted on to be given back.
            timeout: Seconds that daxctl may take; the ndctl object's own by default.

        Raises:
            InvalidValueError: It holds no whole memory block; nothing was changed.
            UnsupportedError: The kernel cannot; nothing was changed.
            BusyError: It is in use; nothing was changed.
            CommandError: daxctl failed, or did not do what it reports.
        """
        found = self._find(which)
        before = self._memory(found)
        if before.mode is DaxMode.system_ram:
            return self._online(found, before, movable, timeout) if online else before
        self._refuse_as_ram(found, before)
        options = ["--mode=system-ram"]
        options += [] if online else ["--no-online"]
        options += [] if movable else ["--no-movable"]
        # Where the kernel puts new memory online by itself, daxctl refuses unless forced; what is not as asked for
        # afterwards is then put offline and online again.
        options += ["--force"] if before.auto_online.startswith("online") and (movable or not online) else []
        action = f"make {found.called} system RAM"
        try:
            result = self._change(found, ["reconfigure-device", *options, NODE], timeout, unused=True)
            checked(result, action)
        except CommandError as error:
            raise type(error)(error.result, f"{error.meaning}. {self._back_to_devdax(found)}") from error
        after = self._memory(found)
        if after.mode is not DaxMode.system_ram:
            raise CommandError(result, f"Could not {action} though daxctl exited 0. {self._back_to_devdax(found)}")
        if not online or (movable and not after.movable):
            after = self._offline(found, after, timeout)
        return self._online(found, after, movable, timeout) if online else after

    def to_devdax(
        self, which: DaxDevice | Namespace | str, *, force: bool = True, timeout: float | None = None
    ) -> DaxMemory:
        """Make an instance a device again. What it held as RAM, and before, is lost.

        Args:
            which: The instance.
            force: Put its memory offline first. daxctl refuses memory that is online.
            timeout: Seconds that each of daxctl's commands may take; the ndctl object's own by default.

        Raises:
            DeviceBusyError: Its memory is online, or cannot be put offline; it is RAM as before.
            CommandError: daxctl failed, or did not do what it reports.
        """
        found = self._find(which)
        before = self._memory(found)
        if before.mode is DaxMode.devdax:
            return before
        if force and before.mode is DaxMode.system_ram:
            self._offline(found, before, timeout)
        action = f"make {found.called} a device again"
        result = self._change(found, ["reconfigure-device", "--mode=devdax", NODE], timeout)
        after = self._memory(found)
        if after.mode is not DaxMode.devdax:
            checked(result, f"{action}, which is {after.state}")
            raise CommandError(result, f"Could not {action} though daxctl exited 0: it is {after.state}")
        return after

    def online(
        self, which: DaxDevice | Namespace | str, *, movable: bool = True, timeout: float | None = None
    ) -> DaxMemory:
        """Put all memory of an instance online. Doing it twice is harmless.

        Args:
            which: The instance, which must be system RAM.
            movable: Into the movable zone.
            timeout: Seconds that daxctl may take; the ndctl object's own by default.

        Raises:
            UnsupportedError: It is not system RAM, or is online in another zone.
            CommandError: daxctl failed, or did not do what it reports.
        """
        found = self._find(which)
        return self._online(found, self._ram(found), movable, timeout)

    def offline(self, which: DaxDevice | Namespace | str, *, timeout: float | None = None) -> DaxMemory:
        """Put all memory of an instance offline: what uses it is moved to other memory. Twice is harmless.

        Args:
            which: The instance, which must be system RAM.
            timeout: Seconds that daxctl may take; the ndctl object's own by default. The kernel itself tries for ever
                to move what cannot be moved.

        Raises:
            UnsupportedError: It is not system RAM.
            DeviceBusyError: Some of it cannot be moved; all of it is online again.
        """
        found = self._find(which)
        return self._offline(found, self._ram(found), timeout)

    def release(self, namespace: Namespace) -> bool:
        """Make a namespace's instance a device again if it is system RAM; return whether it was.

        Args:
            namespace: Its record.

        Raises:
            NotFoundError: It is not there any more; nothing was changed.
            DeviceBusyError: Its memory cannot be put offline.
        """
        if not namespace.chardev or not namespace.active or _listed_as_device(namespace):
            return False
        found = self._find(namespace)
        if self._memory(found).mode is not DaxMode.system_ram:
            return False
        self.to_devdax(namespace)
        return True

    # Instances of dynamic regions

    def create(self, region: DaxRegion | str, *, size: Size | None = None) -> DaxDevice:
        """Cut an instance from a dynamic device-DAX region, and return it as a fresh listing has it.

        Args:
            region: The region's record or number.
            size: Its bytes; all that is available by default.

        Raises:
            NotFoundError: There is no such region.
            UnsupportedError: The region is static, as that of a devdax namespace; nothing was changed.
            InvalidValueError: The size is no multiple of the region's alignment; nothing was changed.
            OutOfSpaceError: The region has not so much; nothing was changed.
            CommandError: daxctl failed, or did not do what it reports.
        """
        target = self._region(region)
        self._refuse_static(target, "an instance cannot be cut from it")
        wanted = target.available_size if size is None else size
        step = target.align or Size(1)
        if size is not None and (size < step or size % step):
            raise InvalidValueError("size", str(size), f"a multiple of {step}, {step} at least")
        if not wanted or wanted > target.available_size:
            raise OutOfSpaceError(
                f"Device-DAX region {target.id} on {self._name} has {target.available_size} available, not {wanted}."
            )
        before = {device.chardev: device.size for device in self.list()}
        command = ["daxctl", "create-device", f"--region={target.id}", f"--size={int(wanted)}"]
        result = self._ndctl.change(command, lock_target(f"dax{target.id}", f"Device-DAX region {target.id}"))
        checked(result, f"create a device-DAX instance in region {target.id}")
        made = [device for device in self.list() if device.size and before.get(device.chardev, 0) != device.size]
        if len(made) != 1 or made[0].size != wanted:
            there = ", ".join(f"{device.chardev} of {device.size}" for device in made) or "none"
            raise CommandError(result, f"One instance of {wanted} should be new though daxctl exited 0; new: {there}")
        return made[0]

    def destroy(self, which: DaxDevice | str) -> None:
        """Destroy one instance of a dynamic region, and prove that it is gone. The last one stays, with no bytes.

        Raises:
            NotFoundError: It is not there.
            UnsupportedError: Its region is static: destroy its namespace. daxctl would disable it and then fail.
            BusyError: It is in use, or is system RAM; nothing was changed.
            CommandError: daxctl failed; it was enabled again.
        """
        found = self._dynamic(which, "it goes with its namespace")
        result = self._ndctl.change(act("remove", NODE), *found.targets, unused=True)
        checked(result, f"destroy {found.called}")
        left = [device for device in self.list() if device.chardev == found.chardev and device.size]
        if left:
            raise CommandError(result, f"{found.called} is still there, of {left[0].size}, though daxctl exited 0")

    def resize(self, which: DaxDevice | str, size: Size) -> DaxDevice:
        """Give an instance of a dynamic region another size; what both sizes have in common stays.

        Raises:
            NotFoundError: It is not there.
            UnsupportedError: Its region is static: its size is its namespace's; nothing was changed.
            InvalidValueError: The size is no multiple of its alignment; nothing was changed.
            OutOfSpaceError: Its region has not so much; nothing was changed.
            BusyError: It is in use, or is system RAM; nothing was changed.
            CommandError: daxctl failed; it was enabled again.
        """
        found = self._dynamic(which, "its size is its namespace's")
        before = self._listed(found.chardev)
        step = before.align or Size(1)
        if size < step or size % step:
            raise InvalidValueError("size", str(size), f"a multiple of {step}, {step} at least")
        room = self._region_of(found.chardev).available_size + before.size
        if size > room:
            raise OutOfSpaceError(f"{found.called} on {self._name} can have {room} at most, not {size}.")
        result = self._ndctl.change(act("resize", NODE, str(int(size))), *found.targets, unused=True)
        checked(result, f"resize {found.called}")
        after = self._listed(found.chardev)
        if after.size != size:
            raise CommandError(result, f"{found.called} is of {after.size} though daxctl exited 0")
        return after

    # How

    @property
    def _name(self) -> str:
        return self._ndctl.transport.name

    def _find(self, which: DaxDevice | Namespace | str) -> _Found:
        if isinstance(which, DaxDevice) or (isinstance(which, str) and _CHARDEV.fullmatch(which)):
            chardev = which.chardev if isinstance(which, DaxDevice) else which.removeprefix("/dev/")
            of = [namespace for namespace in self._ndctl.inventory().namespaces if namespace.chardev == chardev]
            return _Found(chardev, of[0] if of else None)
        namespace = self._ndctl.namespace(which)
        if not namespace.chardev:
            raise InvalidValueError(
                "namespace",
                namespace.called,
                f"an active one in mode devdax: it is {namespace.mode or 'of no mode'}, {namespace.state or 'active'}",
            )
        return _Found(namespace.chardev, namespace)

    def _listed(self, chardev: str) -> DaxDevice:
        devices = self.list()
        for device in devices:
            if device.chardev == chardev:
                return device
        raise NotFoundError("device-DAX instance", chardev, [device.chardev for device in devices], where=self._name)

    def _memory(self, found: _Found) -> DaxMemory:
        return read_dax_memory(self._ndctl.transport, found.chardev)

    def _ram(self, found: _Found) -> DaxMemory:
        memory = self._memory(found)
        if memory.mode is not DaxMode.system_ram:
            raise UnsupportedError(
                f"{found.called} on {self._name} is {memory.state}: it is no memory to put online or offline."
            )
        return memory

    def _change(
        self, found: _Found, command: Sequence[str], timeout: float | None, *, unused: bool = False
    ) -> CommandResult:
        return self._ndctl.change(["daxctl", *command], *found.targets, unused=unused, timeout=timeout)

    def _refuse_as_ram(self, found: _Found, memory: DaxMemory) -> None:
        if not memory.block_size:
            raise UnsupportedError(
                f"The kernel of {self._name} cannot take memory at run time (CONFIG_MEMORY_HOTPLUG)."
            )
        if not memory.growth:
            lies = ", ".join(f"{first:#x}-{last:#x}" for first, last in memory.ranges)
            raise InvalidValueError(
                "device-DAX instance",
                found.called,
                f"one that holds a whole memory block of {memory.block_size}: this one of {memory.size} lies at {lies}",
            )
        if self._ndctl.run(query(_MODULE_SCRIPT)).exit_status != 0:
            raise UnsupportedError(
                f"The kernel of {self._name} has no module kmem, which makes device DAX system RAM "
                "(CONFIG_DEV_DAX_KMEM). Mend: install the modules of its distribution's kernel."
            )

    def _back_to_devdax(self, found: _Found) -> str:
        """Make what a failed change left a device again, if it can be, and tell what it is then."""
        memory = self._memory(found)
        if memory.mode is not DaxMode.devdax and not memory.online:
            self._change(found, ["reconfigure-device", "--mode=devdax", NODE], None)
            memory = self._memory(found)
        return f"{found.called} is now {memory.state}"

    def _online(self, found: _Found, before: DaxMemory, movable: bool, timeout: float | None) -> DaxMemory:
        if movable and not before.movable:
            raise UnsupportedError(
                f"Memory of {found.called} on {self._name} is online and not movable: put it offline first."
            )
        if before.online == len(before.blocks):
            return before
        options = [] if movable else ["--no-movable"]
        result = self._change(found, ["online-memory", *options, NODE], timeout)
        after = self._memory(found)
        if after.online < len(after.blocks) or (movable and not after.movable):
            action = f"put the memory of {found.called} online: it is {_told(after)}"
            checked(result, action)
            raise CommandError(result, f"Could not {action} though daxctl exited 0")
        return after

    def _offline(self, found: _Found, before: DaxMemory, timeout: float | None) -> DaxMemory:
        if before.all_offline:
            return before
        try:
            result = self._change(found, ["offline-memory", NODE], timeout)
        except CommandTimeoutError as error:
            result = error.result
        after = self._memory(found)
        if after.all_offline:
            return after
        # The lock is only free once daxctl has ended, so the kernel tries no longer to put it offline.
        options = [] if before.movable else ["--no-movable"]
        self._change(found, ["online-memory", *options, NODE], None)
        again = self._memory(found)
        raise DeviceBusyError(
            result,
            f"Could not put the memory of {found.called} offline: some of it is in use and cannot be moved. "
            f"Nothing in it is lost: it is {_told(again)}",
        )

    def _region(self, which: DaxRegion | str) -> DaxRegion:
        regions = self.regions()
        for region in regions:
            if (region.path == which.path) if isinstance(which, DaxRegion) else (str(region.id) == which):
                return region
        asked = str(which.id) if isinstance(which, DaxRegion) else which
        raise NotFoundError("device-DAX region", asked, [str(region.id) for region in regions], where=self._name)

    def _region_of(self, chardev: str) -> DaxRegion:
        regions = self.regions()
        for region in regions:
            if any(device.chardev == chardev for device in region.devices):
                return region
        there = [device.chardev for region in regions for device in region.devices]
        raise NotFoundError("device-DAX instance", chardev, there, where=self._name)

    def _dynamic(self, which: DaxDevice | str, because: str) -> _Found:
        found = self._find(which)
        self._refuse_static(self._region_of(found.chardev), because)
        if self._memory(found).mode is DaxMode.system_ram:
            raise UnsupportedError(f"{found.called} on {self._name} is system RAM: make it a device first.")
        return found

    def _refuse_static(self, region: DaxRegion, because: str) -> None:
        if not region.dynamic:
            devices = ", ".join(device.chardev for device in region.devices) or "none"
            raise UnsupportedError(
                f"Device-DAX region {region.id} on {self._name} is static (device: {devices}), as that of a devdax "
                f"namespace is: {because}. Namespaces are created and destroyed with ndctl."
            )


def _listed_as_device(namespace: Namespace) -> bool:
    """Whether ndctl's listing says of each instance of a namespace that it is a device (``ndctl list -X``)."""
    region = namespace.extra.get("daxregion")
    devices = region.get("devices") if isinstance(region, Mapping) else None
    if not isinstance(devices, list) or not devices:
        return False
    return all(isinstance(device, Mapping) and device.get("mode") == DaxMode.devdax for device in devices)


def _told(memory: DaxMemory) -> str:
    zones = sorted({zone for block in memory.blocks if block.online for zone in block.zones})
    return memory.state + (f" in zone {', '.join(zones)}" if zones else "")
