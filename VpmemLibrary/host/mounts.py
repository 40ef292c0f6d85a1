"""What is mounted on one machine, as its kernel has it; mounting and unmounting, proven by the same.

mount's exit status is no proof: XFS mounts with ``dax=always`` what cannot be DAX, and says so in the kernel's log only
(kernel, ``fs/xfs/xfs_super.c``). What counts is ``/proc/self/mountinfo``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from VpmemLibrary.errors import CommandError, DeviceBusyError, InvalidValueError, NotFoundError, UnreadableOutputError
from VpmemLibrary.host.transport import CommandResult, Transport, query
from VpmemLibrary.visible import quoted

# The block devices' numbers and names first: a mount's source is only what mount was told.
_LIST = r"""
for block in /sys/class/block/*; do
    [ -r "$block/dev" ] && read -r number <"$block/dev" && printf 'block %s %s\n' "$number" "${block##*/}"
done
cat /proc/self/mountinfo
"""

_POINT = r"""
if [ "$2" = make ]; then
    mkdir -m 0711 "$1"
elif ! [ -d "$1" ]; then
    echo absent
elif [ -n "$(ls -A "$1")" ]; then
    echo full
fi
"""

# The programs that have something at or below a directory: open, as their own directory, or mapped.
USERS_SCRIPT = r"""
for process in /proc/[0-9]*; do
    {
        readlink "$process/cwd" "$process/root" "$process"/fd/*
        sed 's/^[^/]*//' "$process/maps"
    } 2>/dev/null | sed 's|$|/|' | grep -qF -e "$1/" || continue
    name=
    { IFS= read -r name <"$process/comm"; } 2>/dev/null # a program may have any name, of several lines too
    printf 'process %s (%s)\n' "${process##*/}" "$name"
done
exit 0
"""
_FIELDS_BEFORE_TAGS = 6


class DaxOption(StrEnum):
    """The mount option ``dax=`` of ext4 and XFS (kernel, Documentation/filesystems/dax.rst)."""

    always = "always"
    """Every file is DAX."""
    inode = "inode"
    """A file is DAX when its own flag says so, which it has from its directory."""
    never = "never"
    """No file is DAX."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount.

    Args:
        mount_point: Where.
        source: What mount was told to mount.
        type: The file system's type.
        options: All options, the mount's own and the file system's.
        device: The number of its device, ``major:minor``.
        node: The name of the block device with that number, e.g. ``pmem0``; empty when it is none.
        root: Which directory of the file system is mounted.
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
        """What the kernel says that ``dax=`` is; empty when it says nothing."""
        found = [option for option in self.options if option.partition("=")[0] == "dax"]
        return (found[-1].partition("=")[2] or DaxOption.always) if found else ""

    def __str__(self) -> str:
        return f"{quoted(self.source)} at {quoted(self.mount_point)} ({quoted(self.type)})"


class Mounts:
    """The mounts of one machine.

    Args:
        transport: The way to the machine.

    Example::

        mounts = Mounts(transport)
        mounted = mounts.mount("/dev/pmem0", "ext4", "/mnt", options=["dax=always"])
        mounts.unmount(mounted.mount_point)
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def all(self) -> tuple[Mount, ...]:
        """Return every mount that a program on the machine sees, in the order of mounting.

        Raises:
            UnreadableOutputError: The kernel's table is not of the documented form.
        """
        return decode_mounts(self._transport.run(query(_LIST)).check())

    def at(self, mount_point: str) -> Mount:
        """Return what is mounted at a directory; the topmost one of several.

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
        self, path: str, file_system: str, mount_point: str, *, options: Sequence[str] = (), make: bool = False
    ) -> Mount:
        """Mount a block device and prove by the kernel's table that it is, with the options that were asked for.

        Args:
            path: The block device.
            file_system: The file system's type.
            mount_point: An empty directory that nothing is mounted at.
            options: The options, e.g. ``dax=always``.
            make: Make the directory; it goes with the mount.

        Raises:
            InvalidValueError: The mount point cannot be one; nothing was changed.
            CommandError: It could not be mounted, or not as asked for; then it was unmounted again.
        """
        before = self.all()
        _check_point(mount_point, before)
        looked = self._transport.run(["sh", "-c", _POINT, "sh", mount_point, "make" if make else ""]).check()
        if looked.text.strip():
            raise InvalidValueError("mount_point", mount_point, "an empty directory that is there")
        try:
            chosen = ["-o", ",".join(options)] if options else []
            result = self._transport.run(["mount", "-t", file_system, *chosen, path, mount_point])
            result.check(f"Could not mount {path} at {mount_point}")
            return self._proven(result, path, file_system, mount_point, options)
        except BaseException:
            if make:
                self._transport.run(["rmdir", mount_point])
            raise

    def unmount(self, mount_point: str, *, remove: bool = False) -> Mount:
        """Unmount what is mounted at a directory, prove by the kernel's table that it is gone, and return what it was.

        Args:
            mount_point: The directory.
            remove: Remove the directory as well.

        Raises:
            NotFoundError: Nothing is mounted there.
            BusyError: Something is open or mapped there; the message says by whom.
            CommandError: It could not be unmounted.
        """
        mount = self.at(mount_point)
        result = self._transport.run(["umount", mount_point])
        if mount in self.all():
            users = self._transport.run(query(USERS_SCRIPT, mount_point)).check().lines
            raise DeviceBusyError(result, f"{mount} is in use: {', '.join(users) or 'it is not known by whom'}")
        if remove:
            self._transport.run(["rmdir", mount_point]).check(f"Could not remove {mount_point}")
        return mount

    def _proven(
        self, result: CommandResult, path: str, file_system: str, mount_point: str, options: Sequence[str]
    ) -> Mount:
        try:
            found = self.at(mount_point)
        except NotFoundError:
            raise CommandError(result, f"{path} is not mounted at {mount_point} though mount reports success") from None
        asked = [option.partition("=")[2] for option in options if option.startswith("dax=")]
        wrong = ""
        if found.type != file_system or not _is_node(found, path):
            wrong = f"the kernel has {found} there"
        elif asked and found.dax != asked[-1] and (found.dax or asked[-1] == DaxOption.always):
            wrong = f"the kernel has it with dax={found.dax or '(nothing)'}, and its log (dmesg) may say why"
        if wrong:
            self.unmount(mount_point)
            raise CommandError(result, f"{path} was not mounted as asked for and is unmounted again: {wrong}")
        return found


def decode_mounts(result: CommandResult) -> tuple[Mount, ...]:
    """Return the mounts that a listing tells of (``/proc/PID/mountinfo``, kernel, Documentation/filesystems/proc.rst).

    Raises:
        UnreadableOutputError: It is not of that form.
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
            raise UnreadableOutputError(result, f"The kernel's table of mounts has a line {line!r}") from None
        options = tuple(dict.fromkeys([*own.split(","), *whole.split(",")]))
        paths = [_unescaped(text) for text in (mount_point, source, root)]
        mounts.append(Mount(paths[0], paths[1], file_system, options, device, nodes.get(device, ""), paths[2]))
    return tuple(mounts)


def _check_point(mount_point: str, mounts: Sequence[Mount]) -> None:
    if not mount_point.startswith("/") or mount_point != mount_point.rstrip("/"):
        raise InvalidValueError("mount_point", mount_point, "an absolute path without a slash at its end, e.g. /mnt")
    for mount in mounts:
        if mount.mount_point == mount_point:
            raise InvalidValueError("mount_point", mount_point, f"a directory that nothing is mounted at, not {mount}")


def _is_node(mount: Mount, path: str) -> bool:
    return path.rpartition("/")[2] == mount.node or path == mount.source


def _unescaped(text: str) -> str:
    r"""Return a path of the kernel's table: it writes blanks and backslashes as ``\040``."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
