"""Switch device-DAX instances between devdax and system RAM, and divide dynamic regions into instances.

daxctl makes the changes, and a reading of the kernel's state proves them. A failed change is undone as far as the
kernel allows. The error then describes the instance's new state.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

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
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS, mapping_refused
from VpmemLibrary.pmem.decode import DAX_REGIONS_COMMAND, decode_dax_regions
from VpmemLibrary.pmem.guard import NODE, Target, act, lock_target, namespace_target, path_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import DaxDevice, DaxMode, DaxRegion, Namespace
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult, query

_CHARDEV = r"(?a)(?:/dev/)?(dax[0-9]+\.[0-9]+)"
_MODULE_SCRIPT = "[ -d /sys/module/kmem ] || modprobe -n -q kmem || modprobe -q -D kmem >/dev/null"
_DYNAMIC_SCRIPT = r"""
for path in "$@"; do
    if [ -e "/sys/devices$path/dax_region/create" ] || [ -e "/sys/devices$path/create" ]; then
        printf '%s\n' "$path"
    fi
done
"""


class _Found(Struct, frozen=True):
    """A device-DAX instance, and its namespace if it has one."""

    chardev: str
    namespace: Namespace | None

    @property
    def called(self) -> str:
        return f"{self.chardev} ({self.namespace.called})" if self.namespace else self.chardev

    @property
    def targets(self) -> tuple[Target, ...]:
        """The targets of a change: the namespace, or the device node under the lock of its device-DAX region."""
        if self.namespace is not None:
            return (replace(namespace_target(self.namespace), called=self.called),)
        region = self.chardev.partition(".")[0]
        return path_target(f"/dev/{self.chardev}"), lock_target(region, "")


class DaxDevices:
    """The device-DAX instances of one machine.

    An instance is given by its record, by its name (``dax0.0``), or by its namespace.

    Args:
        ndctl: The machine's ndctl.

    Example::

        dax = DaxDevices(Ndctl(transport))
        grown = dax.to_system_ram("ns_0").growth
        dax.to_devdax("ns_0")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    # Listings

    def list(self) -> tuple[DaxDevice, ...]:
        """Return every instance that daxctl lists, including disabled instances.

        Raises:
            ToolMissingError: daxctl is not installed.
            UnreadableOutputError: daxctl printed something other than its JSON.
        """
        return self._ndctl.dax_devices()

    def regions(self) -> tuple[DaxRegion, ...]:
        """Return every device-DAX region with its instances. sysfs shows which regions are dynamic."""
        regions = decode_dax_regions(checked(self._ndctl.run(DAX_REGIONS_COMMAND), "list the device-DAX regions"))
        if not regions:
            return ()
        result = self._ndctl.run(query(_DYNAMIC_SCRIPT, *(region.path for region in regions))).check()
        dynamic = result.lines
        return tuple(replace(region, dynamic=region.path in dynamic) for region in regions)

    def device(self, which: DaxDevice | Namespace | str) -> DaxDevice:
        """Return one instance from a fresh listing.

        Raises:
            NotFoundError: The instance does not exist. The message lists the existing instances.
            InvalidValueError: The namespace has no instance.
        """
        return self._listed(self._find(which).chardev)

    def namespace(self, which: DaxDevice | Namespace | str) -> Namespace | None:
        """Return the namespace of an instance. Return None for an instance of a dynamic region.

        Raises:
            NotFoundError: The namespace does not exist.
            InvalidValueError: The namespace has no instance.
        """
        return self._find(which).namespace

    def memory(self, which: DaxDevice | Namespace | str) -> DaxMemory:
        """Return an instance and its memory blocks from a reading of the kernel's state.

        Raises:
            NotFoundError: The instance does not exist.
            InvalidValueError: The namespace has no instance.
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
        """Make an instance system RAM. Its content is lost.

        Args:
            which: The instance.
            online: Put the memory online, so that the machine uses it.
            movable: Put the memory into the movable zone. Only memory in this zone can reliably be put offline again.
            timeout: Seconds for daxctl. The default is the ndctl object's timeout.

        Raises:
            InvalidValueError: The instance contains no whole memory block. Nothing was changed.
            UnsupportedError: The kernel does not support this, or the instance is on a test bus. Nothing was changed.
            BusyError: The instance is in use. Nothing was changed.
            CommandError: daxctl failed, or daxctl reported success without effect.
        """
        found = self._find(which)
        if found.namespace and self._ndctl.region(found.namespace.region).provider.startswith(TEST_BUS):
            raise mapping_refused(found.called, self._name)
        before = self._memory(found)
        if before.mode is DaxMode.system_ram:
            return self._online(found, before, movable, timeout) if online else before
        self._refuse_as_ram(found, before)
        options = ["--mode=system-ram"]
        options += [] if online else ["--no-online"]
        options += [] if movable else ["--no-movable"]
        # If the kernel puts new memory online automatically, daxctl refuses without --force. Memory in the wrong state
        # or zone is then put offline and online again.
        options += ["--force"] if before.auto_online.startswith("online") and (movable or not online) else []
        action = f"make {found.called} system RAM"
        try:
            result = self._change(found, ["reconfigure-device", *options, NODE], timeout, must_be_unused=True)
            checked(result, action)
        except CommandError as error:
            meaning = f"{error.meaning}. {self._back_to_devdax(found)}{self._without_node(found)}"
            raise type(error)(error.result, meaning) from error
        after = self._memory(found)
        if after.mode is not DaxMode.system_ram:
            raise CommandError(result, f"Could not {action} though daxctl exited 0. {self._back_to_devdax(found)}")
        if not online or (movable and not after.movable):
            after = self._offline(found, after, timeout)
        return self._online(found, after, movable, timeout) if online else after

    def to_devdax(
        self, which: DaxDevice | Namespace | str, *, force: bool = True, timeout: float | None = None
    ) -> DaxMemory:
        """Make an instance a device again. Its content from before and from its time as RAM is lost.

        Args:
            which: The instance.
            force: Put the memory offline first. daxctl refuses online memory.
            timeout: Seconds for each daxctl command. The default is the ndctl object's timeout.

        Raises:
            DeviceBusyError: The memory is online, or it cannot be put offline. The instance stays RAM.
            CommandError: daxctl failed, or daxctl reported success without effect.
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
            checked(result, f"{action} (it is {after.state})")
            raise CommandError(result, f"Could not {action} though daxctl exited 0: it is {after.state}")
        return after

    def online(
        self, which: DaxDevice | Namespace | str, *, movable: bool = True, timeout: float | None = None
    ) -> DaxMemory:
        """Put all memory of an instance online. Do nothing if all memory is already online.

        Args:
            which: The instance, which must be system RAM.
            movable: Put the memory into the movable zone.
            timeout: Seconds for daxctl. The default is the ndctl object's timeout.

        Raises:
            UnsupportedError: The instance is not system RAM, or is online in another zone.
            CommandError: daxctl failed, or daxctl reported success without effect.
        """
        found = self._find(which)
        return self._online(found, self._ram(found), movable, timeout)

    def offline(self, which: DaxDevice | Namespace | str, *, timeout: float | None = None) -> DaxMemory:
        """Put all memory of an instance offline. The kernel moves the used pages to other memory.

        Do nothing if the memory is already offline.

        Args:
            which: The instance, which must be system RAM.
            timeout: Seconds for daxctl. The default is the ndctl object's timeout. Without a timeout, the kernel tries
                forever to move pages that cannot be moved.

        Raises:
            UnsupportedError: The instance is not system RAM.
            DeviceBusyError: Some memory cannot be moved. All memory is online again.
        """
        found = self._find(which)
        return self._offline(found, self._ram(found), timeout)

    def release(self, namespace: Namespace) -> bool:
        """Make a namespace's instance a device again if it is system RAM. Return whether it was system RAM.

        Args:
            namespace: The namespace's record.

        Raises:
            NotFoundError: The namespace no longer exists. Nothing was changed.
            DeviceBusyError: The memory cannot be put offline.
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
        """Create an instance in a dynamic device-DAX region. Return the instance from a fresh listing.

        Args:
            region: The region's record or number.
            size: The instance's bytes. The default is all available bytes.

        Raises:
            NotFoundError: The region does not exist.
            UnsupportedError: The region is static, like the region of a devdax namespace. Nothing was changed.
            InvalidValueError: The size is not a multiple of the region's alignment. Nothing was changed.
            OutOfSpaceError: The region has less free space. Nothing was changed.
            CommandError: daxctl failed, or daxctl reported success without effect.
        """
        target = self._region(region)
        self._refuse_static(target, "it has exactly one instance")
        wanted = target.available_size if size is None else size
        step = target.align or Size(1)
        if size is not None and (size < step or size % step):
            raise InvalidValueError("size", str(size), f"a multiple of {step}, at least {step}")
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
            raise CommandError(result, f"daxctl exited 0 but created no {wanted} instance (new instances: {there})")
        return made[0]

    def destroy(self, which: DaxDevice | str) -> None:
        """Destroy one instance of a dynamic region, and prove that it is gone.

        The last instance of a region is not removed. It stays with a size of 0 bytes.

        Raises:
            NotFoundError: The instance does not exist.
            UnsupportedError: The instance's region is static. Destroy its namespace instead. daxctl would disable the
                instance and then fail.
            BusyError: The instance is in use, or is system RAM. Nothing was changed.
            CommandError: daxctl failed. The instance was enabled again.
        """
        found = self._dynamic(which, "its instance exists as long as its namespace")
        result = self._ndctl.change(act("remove", NODE), *found.targets, must_be_unused=True)
        checked(result, f"destroy {found.called}")
        left = [device for device in self.list() if device.chardev == found.chardev and device.size]
        if left:
            raise CommandError(result, f"{found.called} still exists with {left[0].size} though daxctl exited 0")

    def resize(self, which: DaxDevice | str, size: Size) -> DaxDevice:
        """Change the size of an instance of a dynamic region. The bytes that remain keep their content.

        Raises:
            NotFoundError: The instance does not exist.
            UnsupportedError: The instance's region is static, so the namespace defines the size. Nothing was changed.
            InvalidValueError: The size is not a multiple of the instance's alignment. Nothing was changed.
            OutOfSpaceError: The region has less free space. Nothing was changed.
            BusyError: The instance is in use, or is system RAM. Nothing was changed.
            CommandError: daxctl failed. The instance was enabled again.
        """
        found = self._dynamic(which, "its instance has the size of its namespace")
        before = self._listed(found.chardev)
        step = before.align or Size(1)
        if size < step or size % step:
            raise InvalidValueError("size", str(size), f"a multiple of {step}, at least {step}")
        room = self._region_of(found.chardev).available_size + before.size
        if size > room:
            raise OutOfSpaceError(f"{found.called} on {self._name} can have at most {room}, not {size}.")
        result = self._ndctl.change(act("resize", NODE, str(int(size))), *found.targets, must_be_unused=True)
        checked(result, f"resize {found.called}")
        after = self._listed(found.chardev)
        if after.size != size:
            raise CommandError(result, f"{found.called} has {after.size} though daxctl exited 0")
        return after

    # Helpers

    @property
    def _name(self) -> str:
        return self._ndctl.transport.name

    def _find(self, which: DaxDevice | Namespace | str) -> _Found:
        if isinstance(which, DaxDevice) or (isinstance(which, str) and re.fullmatch(_CHARDEV, which)):
            chardev = which.chardev if isinstance(which, DaxDevice) else which.removeprefix("/dev/")
            of = [namespace for namespace in self._ndctl.inventory().namespaces if namespace.chardev == chardev]
            return _Found(chardev, of[0] if of else None)
        namespace = self._ndctl.namespace(which)
        if not namespace.chardev:
            raise InvalidValueError(
                "namespace",
                namespace.called,
                f"an active namespace of mode devdax (mode: {namespace.mode or 'none'}, {namespace.state or 'active'})",
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
                f"{found.called} on {self._name} is {memory.state}, so it has no memory to put online or offline."
            )
        return memory

    def _change(
        self, found: _Found, command: Sequence[str], timeout: float | None, *, must_be_unused: bool = False
    ) -> CommandResult:
        return self._ndctl.change(["daxctl", *command], *found.targets, must_be_unused=must_be_unused, timeout=timeout)

    def _refuse_as_ram(self, found: _Found, memory: DaxMemory) -> None:
        if not memory.block_size:
            raise UnsupportedError(f"The kernel of {self._name} cannot add memory at run time (CONFIG_MEMORY_HOTPLUG).")
        if not memory.growth:
            lies = ", ".join(f"{first:#x}-{last:#x}" for first, last in memory.ranges)
            raise InvalidValueError(
                "device-DAX instance",
                found.called,
                f"an instance with a whole memory block of {memory.block_size}; it has {memory.size} at {lies}",
            )
        if self._ndctl.run(query(_MODULE_SCRIPT)).exit_status != 0:
            raise UnsupportedError(
                f"The kernel of {self._name} has no module kmem, which makes device DAX system RAM "
                "(CONFIG_DEV_DAX_KMEM). Install the modules of its distribution's kernel."
            )

    def _without_node(self, found: _Found) -> str:
        """Return the reason why an instance without a NUMA node cannot be RAM. Return an empty text for others."""
        if any(device.target_node is None for device in self.list() if device.chardev == found.chardev):
            return (
                ". daxctl lists no target_node for it, and the kernel makes no RAM without a NUMA node: the machine's "
                "firmware (ACPI SRAT) or hypervisor must assign a node"
            )
        return ""

    def _back_to_devdax(self, found: _Found) -> str:
        """Try to make an instance a device again after a failed change. Return a description of its state."""
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
            action = f"put the memory of {found.called} online: it is {_memory_text(after)}"
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
        # The guard gives the lock only after daxctl has ended. By then, the kernel has stopped its attempt.
        options = [] if before.movable else ["--no-movable"]
        self._change(found, ["online-memory", *options, NODE], None)
        again = self._memory(found)
        raise DeviceBusyError(
            result,
            f"Could not put the memory of {found.called} offline: a part of the memory is in use and cannot be moved. "
            f"No content is lost: the instance is {_memory_text(again)}",
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
                f"Device-DAX region {region.id} on {self._name} is static (device: {devices}), like the region of a "
                f"devdax namespace: {because}. Create or destroy the namespace instead."
            )


def _listed_as_device(namespace: Namespace) -> bool:
    """Return whether ndctl's listing (``ndctl list -X``) shows every instance of a namespace as a device."""
    region = namespace.extra.get("daxregion")
    devices = region.get("devices") if isinstance(region, Mapping) else None
    if not isinstance(devices, list) or not devices:
        return False
    return all(isinstance(device, Mapping) and device.get("mode") == DaxMode.devdax for device in devices)


def _memory_text(memory: DaxMemory) -> str:
    zones = sorted({zone for block in memory.blocks if block.online for zone in block.zones})
    return memory.state + (f" in zone {', '.join(zones)}" if zones else "")
