"""List the mounts of one machine from the kernel's table. Mount and unmount, and prove both by the same table.

The exit status of mount is no proof. With ``dax=always``, XFS mounts even a device that does not support DAX, and
reports this only in the kernel's log (kernel, ``fs/xfs/xfs_super.c``). So this module reads ``/proc/self/mountinfo``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import CommandError, DeviceBusyError, InvalidValueError, NotFoundError, UnreadableOutputError
from VpmemLibrary.pmem.guard import NODE, Guard, act, path_target, target_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.transport.base import CommandResult, query
from VpmemLibrary.visible import quoted

# The script prints the numbers and names of the block devices, because the source of a mount is only mount's argument.
_LIST = r"""
for block in /sys/class/block/*; do
    [ -r "$block/dev" ] && read -r number <"$block/dev" && printf 'block %s %s\n' "$number" "${block##*/}"
done
cat /proc/self/mountinfo
"""

# Print the programs that use a path at or below a directory: open, as working or root directory, or mapped.
USERS_SCRIPT = r"""
for process in /proc/[0-9]*; do
    {
        readlink "$process/cwd" "$process/root" "$process"/fd/*
        sed 's/^[^/]*//' "$process/maps"
    } 2>/dev/null | sed 's|$|/|' | grep -qF -e "$1/" || continue
    name=
    { IFS= read -r name <"$process/comm"; } 2>/dev/null # the name of a program may have several lines
    printf 'process %s (%s)\n' "${process##*/}" "$name"
done
exit 0
"""
_FIELDS_BEFORE_TAGS = 6
_UNFIT = ("absent", "full")  # the reports of an unusable mount point


class DaxOption(StrEnum):
    """The mount option ``dax=`` of ext4 and XFS (kernel, Documentation/filesystems/dax.rst)."""

    always = "always"
    """Every file is DAX."""
    inode = "inode"
    """A file is DAX if its own flag is set. A new file inherits the flag from its directory."""
    never = "never"
    """No file is DAX."""


class Mount(Struct, frozen=True):
    """One mount.

    Args:
        mount_point: The directory.
        source: The source that was given to mount.
        type: The file system's type.
        options: All options, of the mount and of the file system.
        device: The number of the device, ``major:minor``.
        node: The name of the block device with that number, e.g. ``pmem0``. Empty if there is no such block device.
        root: The directory of the file system that is mounted.
    """

    mount_point: str
    source: str
    type: str
    options: tuple[str, ...]
    device: str
    node: str = ""
    root: str = "/"

    @property
    def dax(self) -> str:
        """The kernel's value of ``dax=``. Empty if the kernel reports none."""
        found = [option for option in self.options if option.partition("=")[0] == "dax"]
        return (found[-1].partition("=")[2] or DaxOption.always) if found else ""

    def __str__(self) -> str:
        return f"{quoted(self.source)} at {quoted(self.mount_point)} ({quoted(self.type)})"


class Mounts:
    """The mounts of one machine.

    Args:
        guard: The machine's guard.

    Example::

        mounts = Mounts(Guard(transport))
        mounted = mounts.mount("/dev/pmem0", "ext4", "/mnt", options=["dax=always"])
        mounts.unmount(mounted)
    """

    def __init__(self, guard: Guard) -> None:
        self._transport = guard.transport
        self._guard = guard

    def all(self) -> tuple[Mount, ...]:
        """Return every mount that a program on the machine sees, in the order of mounting.

        Raises:
            UnreadableOutputError: The kernel's table does not have the documented form.
        """
        return decode_mounts(self._transport.run(query(_LIST)).check())

    def at(self, mount_point: str) -> Mount:
        """Return the mount at a directory. If there are several, return the topmost mount.

        Raises:
            NotFoundError: Nothing is mounted there.
        """
        mounts = self.all()
        for mount in reversed(mounts):
            if mount.mount_point == mount_point:
                return mount
        there = [mount.mount_point for mount in mounts if mount.node]
        raise NotFoundError("mount point", mount_point, there, where=self._transport.name)

    def mount(
        self,
        where: Namespace | str,
        file_system: str,
        mount_point: str,
        *,
        options: Sequence[str] = (),
        make: bool = False,
    ) -> Mount:
        """Mount a block device. Prove by the kernel's table that it is mounted with the requested options.

        Args:
            where: The namespace, or the path of a block device.
            file_system: The file system's type.
            mount_point: An empty directory at which nothing is mounted.
            options: The options, e.g. ``dax=always``.
            make: Make the directory. Unmounting removes it.

        Raises:
            InvalidValueError: The mount point is invalid. Nothing was changed.
            NotFoundError: The namespace no longer exists. Nothing was changed.
            LeaseLostError: The caller has lost a lease. Nothing was changed.
            CommandError: The device could not be mounted as requested. It is not mounted.
        """
        _check_point(mount_point, self.all())
        chosen = ["-o", ",".join(options)] if options else []
        command = act("mount_at", "make" if make else "", mount_point, NODE, "-t", file_system, *chosen)
        meant = target_of(where)
        result = self._guard.run(command, meant)
        if result.text.strip() in _UNFIT:
            raise InvalidValueError("mount_point", mount_point, "an existing empty directory")
        result.check(f"Could not mount {meant.called} at {mount_point}")
        return self._proven(result, meant.called, file_system, mount_point, options, made=make)

    def unmount(self, mount: Mount, *, remove: bool = False) -> Mount:
        """Unmount one mount, prove by the kernel's table that it is gone, and return it.

        Args:
            mount: The mount. If another device is mounted there now, nothing is unmounted.
            remove: Remove the directory too.

        Raises:
            NotFoundError: The mount is no longer there.
            BusyError: A program has something open or mapped there. The message names the program.
            LeaseLostError: The caller has lost a lease. Nothing was changed.
            CommandError: The mount could not be unmounted.
        """
        listed = re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", mount.mount_point)
        command = act("unmount_from", mount.device, mount.mount_point, listed, "remove" if remove else "")
        result = self._guard.run(command, replace(path_target(mount.mount_point), called=str(mount)))
        if mount in self.all():
            users = self._transport.run(query(USERS_SCRIPT, mount.mount_point)).check().lines
            raise DeviceBusyError(result, f"{mount} is in use: {', '.join(users) or 'the program is unknown'}")
        result.check(f"Could not {'remove' if remove else 'unmount'} {mount.mount_point}")
        return mount

    def _proven(
        self,
        result: CommandResult,
        called: str,
        file_system: str,
        mount_point: str,
        options: Sequence[str],
        *,
        made: bool,
    ) -> Mount:
        try:
            found = self.at(mount_point)
        except NotFoundError:
            if made:
                self._transport.run(["rmdir", mount_point])
            raise CommandError(result, f"{called} is not mounted at {mount_point} though mount exited 0") from None
        asked = [option.partition("=")[2] for option in options if option.startswith("dax=")]
        wrong = ""
        if found.type != file_system or found.device != result.text.strip():
            wrong = f"the kernel lists {found}"
        elif asked and found.dax != asked[-1] and (found.dax or asked[-1] == DaxOption.always):
            wrong = f"the kernel has it with dax={found.dax or '(nothing)'}; its log (dmesg) may say why"
        if wrong:
            self.unmount(found, remove=made)
            raise CommandError(result, f"{called} was not mounted as requested, so it was unmounted again: {wrong}")
        return found


def decode_mounts(result: CommandResult) -> tuple[Mount, ...]:
    """Return the mounts of a listing (``/proc/PID/mountinfo``, kernel, Documentation/filesystems/proc.rst).

    Raises:
        UnreadableOutputError: The listing does not have that form.
    """
    nodes: dict[str, str] = {}
    mounts = []
    for line in result.lines:
        if line.startswith("block "):
            _, number, name = f"{line}  ".split(" ", 2)
            nodes[number] = name.strip(" ")
            continue
        fields = line.split(" ")
        try:
            end = fields.index("-", _FIELDS_BEFORE_TAGS)
            _, _, device, root, mount_point, own = fields[:_FIELDS_BEFORE_TAGS]
            file_system, source, whole = fields[end + 1 : end + 4]
        except ValueError:
            raise UnreadableOutputError(result, f"The kernel's table of mounts has an unknown line {line!r}") from None
        options = tuple(dict.fromkeys([*own.split(","), *whole.split(",")]))
        paths = [_unescaped(text) for text in (mount_point, source, root)]
        mounts.append(Mount(paths[0], paths[1], file_system, options, device, nodes.get(device, ""), paths[2]))
    return tuple(mounts)


def _check_point(mount_point: str, mounts: Sequence[Mount]) -> None:
    if not mount_point.startswith("/") or mount_point != mount_point.rstrip("/"):
        raise InvalidValueError("mount_point", mount_point, "an absolute path without a slash at its end, e.g. /mnt")
    for mount in mounts:
        if mount.mount_point == mount_point:
            raise InvalidValueError("mount_point", mount_point, f"a directory without a mount; this one has {mount}")


def _unescaped(text: str) -> str:
    r"""Return a path of the kernel's table without escapes. The table writes blanks and backslashes as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
