"""Detect and make file systems on block devices of one machine, with the machine's own tools."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import CommandError, InvalidValueError, ToolMissingError, UnreadableOutputError
from VpmemLibrary.pmem.guard import NODE, Guard, act, target_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.transport.base import CommandResult, Transport, query

_TIMEOUT = 300.0

# blkid reads the device itself (-p), not its cache. It exits 2 if it recognises nothing on the device, and 8 if it
# recognises several things (blkid(8)).
_LOOK = r"""
if ! [ -b "$1" ]; then
    if [ -e "$1" ]; then echo other; else echo absent; fi
    exit 0
fi
blkid -p -o export "$1"
status=$?
case "$status" in
    0 | 2) exit 0 ;;
    8) echo TYPE=ambivalent; exit 0 ;;
esac
exit "$status"
"""


class FileSystemType(StrEnum):
    """The file systems that support DAX."""

    ext4 = "ext4"
    xfs = "xfs"


# DAX needs blocks of the size of a page. reflink=0 keeps XFS from sharing blocks between files: kernels before 6.0
# refused DAX on a file system that may share blocks (kernel, fs/xfs/xfs_super.c).
_MAKE = {
    FileSystemType.ext4: ("mkfs.ext4", "-q", "-F", "-b", "4096"),
    FileSystemType.xfs: ("mkfs.xfs", "-q", "-f", "-b", "size=4096", "-m", "reflink=0"),
}
_PACKAGES = {"mkfs.ext4": "e2fsprogs", "mkfs.xfs": "xfsprogs"}


class FileSystem(Struct, frozen=True):
    """What a block device contains, read from the device itself.

    Args:
        path: The block device.
        type: The type of the file system or of the partition table. Empty if blkid recognises nothing.
        uuid: The file system's UUID.
    """

    path: str
    type: str = ""
    uuid: str = ""

    def known_type(self) -> str:
        """Return the type of the file system.

        Raises:
            InvalidValueError: The device has no file system.
        """
        if not self.type:
            raise InvalidValueError("path", self.path, "a device with a file system: see Make File System")
        return self.type


def read_file_system(transport: Transport, path: str) -> FileSystem:
    """Return what a block device contains.

    Args:
        transport: The transport to the machine.
        path: The block device.

    Raises:
        InvalidValueError: The path is not a block device.
        ToolMissingError: blkid is not installed.
        CommandError: The device cannot be read.
    """
    result = transport.run(query(_LOOK, path))
    if result.exit_status == 127:
        raise ToolMissingError(result, "blkid is not installed (package util-linux)")
    result.check(f"Could not read the content type of {path}")
    text = result.text.strip("\n")
    if text in ("absent", "other"):
        there = "a path that exists" if text == "absent" else "a block device, not device DAX, a file or a directory"
        raise InvalidValueError("path", path, f"{there} on {transport.name}")
    known = dict(line.partition("=")[::2] for line in result.lines)
    # For an empty partition, blkid reports only its entry in the partition table (util-linux, misc-utils/blkid.c).
    about = {name for name in known if name != "DEVNAME" and not name.startswith("PART_ENTRY_")}
    if text and about and not {"TYPE", "PTTYPE"} & about:
        raise UnreadableOutputError(result, f"blkid did not report the type of the content of {path}")
    return FileSystem(path, known.get("TYPE", "") or known.get("PTTYPE", ""), known.get("UUID", ""))


def make_file_system(
    guard: Guard, where: Namespace | str, file_system: FileSystemType, *, overwrite: bool = False
) -> FileSystem:
    """Make a file system that supports DAX on a block device. Return the file system as read back from the device.

    Args:
        guard: The machine's guard.
        where: The namespace, or the path of a block device.
        file_system: The type of the file system.
        overwrite: Make the file system even if the device already contains a file system, or other known content.

    Raises:
        InvalidValueError: The path is not a block device, or the device contains something. Nothing was changed.
        NotFoundError: The namespace no longer exists. Nothing was changed.
        BusyError: The device is in use, or something was written to it meanwhile. Nothing was changed.
        LeaseLostError: The caller has lost a lease. Nothing was changed.
        CommandError: The file system could not be made.
    """
    path = where if isinstance(where, str) else where.device
    there = read_file_system(guard.transport, path)
    if there.type and not overwrite:
        raise InvalidValueError(
            "path", path, f"an empty device (this device holds {there.type}), or overwrite=True to destroy the content"
        )
    command = act("make_file_system", NODE, "overwrite" if overwrite else "", *_MAKE[file_system], NODE)
    result = guard.run(command, target_of(where), must_be_unused=True, timeout=_TIMEOUT)
    _check_made(result, path, file_system)
    found = read_file_system(guard.transport, path)
    if found.type != file_system:
        program = _MAKE[file_system][0]
        raise CommandError(result, f"{path} holds {found.type or 'nothing known'} though {program} succeeded")
    return found


def _check_made(result: CommandResult, path: str, file_system: FileSystemType) -> None:
    if result.exit_status == 127:
        program = _MAKE[file_system][0]
        raise ToolMissingError(result, f"{program} is not installed (package {_PACKAGES[program]})")
    wants = " (mkfs.xfs needs a device of more than 300 MiB)" if file_system is FileSystemType.xfs else ""
    result.check(f"Could not make {file_system} on {path}{wants}")
