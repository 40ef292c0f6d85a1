"""Find out whether the kernel reaches a file's bytes by DAX or through the page cache, and whether it grants MAP_SYNC.

A mount option proves neither. So this module asks the kernel about a file: with statx, with mincore after a write, and
with mmap. ``xfs_io`` (xfsprogs) makes these calls on any file system.
"""

from __future__ import annotations

import errno
import os
import re

from msgspec import Struct

from VpmemLibrary.errors import (
    InvalidValueError,
    ToolMissingError,
    UnreadableOutputError,
    UnsupportedError,
    ViewsDisagreeError,
)
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult, Transport

GRANTED = "granted"
"""The result of `map_sync` if the kernel maps a file with MAP_SYNC."""

_ATTR_DAX = 0x00200000  # STATX_ATTR_DAX, include/uapi/linux/stat.h
_PROBE_SIZE = 4 * MiB
_ATTRIBUTES = ("attributes", "attributes_mask")
_MISSING = 127

# new_file DIRECTORY SIZE COUNT sets $file to a new file of COUNT blocks. In a directory of another user, a name may
# become a link to another place at any moment. Therefore the file gets a random name, its name is removed at once, and
# the script uses only its descriptor. So no file remains, even if the script is killed.
_NEW_FILE = r"""
new_file() {
    umask 077
    file=$(mktemp -u -- "$1/.vpmem-XXXXXX") || exit
    set -C
    exec 3>"$file" || exit
    set +C
    rm -f -- "$file"
    file=/proc/self/fd/3
    dd if=/dev/zero bs="$2" count="$3" 2>/dev/null >&3
}
"""

# For a mapping that was not touched, mincore reports the pages in the page cache. A DAX file has no pages there.
_STATE = r"""
file=$1 kind=file
if [ -d "$1" ]; then
    kind=new
    new_file "$1" 1048576 "$2" || exit
elif ! [ -f "$1" ]; then
    if [ -e "$1" ]; then echo other; else echo absent; fi
    exit 0
fi
size=$(stat -L -c %s -- "$file") || exit
echo "$kind $size"
set -- -c 'statx -r'
[ "$size" -gt 0 ] && set -- "$@" -c "mmap -r 0 $size" -c mincore
xfs_io -r "$@" "$file"
"""

# A device-DAX node can be mapped only in multiples of its alignment.
_SYNC = r"""
file=$1 length=4096
if [ -d "$1" ]; then
    new_file "$1" 4096 1 || exit
elif [ -c "$1" ]; then
    number=$(stat -L -c '%t:%T' -- "$1")
    sys=/sys/dev/char/$((0x${number%:*})):$((0x${number#*:}))
    length=$(cat "$sys/align" "$sys/device/align" 2>/dev/null | head -n 1)
    [ -n "$length" ] || { echo other; exit 0; }
elif ! [ -f "$1" ]; then
    if [ -e "$1" ]; then echo other; else echo absent; fi
    exit 0
fi
xfs_io -r -c "mmap -rS 0 $length" "$file"
"""


class FileDax(Struct, frozen=True):
    """What the kernel reports about one file.

    Args:
        path: The file, or the directory in which a new file was written.
        attribute: Whether statx reports that the file is DAX.
        size: The file's size.
        cached: How many bytes of the file are in the page cache.
        new: Whether this module has just written the file. If such a file is not DAX, all of it is in the page cache.
    """

    path: str
    attribute: bool
    size: Size
    cached: Size
    new: bool = False

    @property
    def dax(self) -> bool:
        """Whether the kernel reaches the file by DAX.

        Raises:
            ViewsDisagreeError: statx and the page cache contradict each other.
        """
        if (self.attribute and self.cached) or (self.new and not self.attribute and not self.cached):
            raise ViewsDisagreeError(
                f"The kernel contradicts itself about {self.path}: statx says that it is "
                f"{'DAX' if self.attribute else 'not DAX'}, and {self.cached} of {self.size} are in the page cache."
            )
        return self.attribute

    def __str__(self) -> str:
        what = f"a new file in {self.path}" if self.new else self.path
        return (
            f"{what}: statx says {'DAX' if self.attribute else 'not DAX'}, "
            f"{self.cached} of {self.size} are in the page cache"
        )


def read_file_dax(transport: Transport, path: str) -> FileDax:
    """Return what the kernel reports about a file, by statx and by its page cache.

    Args:
        transport: The transport to the machine.
        path: A file, which is not changed. Or a directory, in which a new file is written and then removed.

    Raises:
        InvalidValueError: The path is neither a file nor a directory.
        UnsupportedError: The kernel does not report DAX (before 5.8).
        ToolMissingError: xfs_io is not installed.
        CommandError: The file could not be written or read.
    """
    result = transport.run(["sh", "-c", _NEW_FILE + _STATE, "sh", path, str(_PROBE_SIZE // MiB)])
    text = _checked(result, path, "find out how the kernel reaches").text
    head = re.match(r"(new|file) ([0-9]+)\n", text)
    attributes, mask = (re.search(rf"^stat\.{name} = 0x([0-9a-f]+)$", text, re.MULTILINE) for name in _ATTRIBUTES)
    if not (head and attributes and mask):
        raise UnreadableOutputError(result, f"xfs_io did not report the attributes of {path}")
    if not int(mask[1], 16) & _ATTR_DAX:
        raise UnsupportedError(
            f"The kernel of {transport.name} does not report whether {path} is DAX. Kernel 5.8 and newer do."
        )
    pages = re.findall(r"^0x([0-9a-f]+) - 0x([0-9a-f]+) +[0-9]+ pages", text, re.MULTILINE)
    return FileDax(
        path,
        attribute=bool(int(attributes[1], 16) & _ATTR_DAX),
        size=Size(int(head[2])),
        cached=Size(sum(int(end, 16) - int(start, 16) for start, end in pages)),
        new=head[1] == "new",
    )


def map_sync(transport: Transport, path: str) -> str:
    """Return whether the kernel maps a file with MAP_SYNC.

    With MAP_SYNC, a program needs no fsync: its writes survive a crash after it flushes the processor's caches. The
    kernel grants MAP_SYNC for a DAX file on synchronous persistent memory, and for device DAX. For any other file, the
    kernel must refuse with EOPNOTSUPP (mmap(2), MAP_SHARED_VALIDATE). The file is mapped for reading and is not
    changed.

    Args:
        transport: The transport to the machine.
        path: A file or a device-DAX node. Or a directory, in which a new file is mapped and then removed.

    Returns:
        `GRANTED`, or the name of the error, e.g. ``EOPNOTSUPP``.

    Raises:
        InvalidValueError: The path is neither a file, a device-DAX node nor a directory.
        ToolMissingError: xfs_io is not installed.
        CommandError: The mapping failed for another reason.
    """
    result = transport.run(["sh", "-c", _NEW_FILE + _SYNC, "sh", path])
    refused = re.fullmatch(r"mmap: (.+)\n?", result.error_text)
    if result.exit_status == 1 and refused:
        return _error_name(refused[1])
    _checked(result, path, "map")
    return GRANTED


def _checked(result: CommandResult, path: str, action: str) -> CommandResult:
    if result.exit_status == _MISSING:
        raise ToolMissingError(result, "xfs_io is not installed (package xfsprogs)")
    if result.text.strip() in ("absent", "other"):
        there = (
            "a path that exists" if result.text.strip() == "absent" else "a file or a directory, or a device-DAX node"
        )
        raise InvalidValueError("path", path, f"{there} on {result.host}")
    return result.check(f"Could not {action} {path}")


def _error_name(text: str) -> str:
    """Return the name of an error from its text in the C locale. The text is the same on every Linux with glibc."""
    names = {os.strerror(number): name for number, name in errno.errorcode.items()}
    names[os.strerror(errno.EOPNOTSUPP)] = "EOPNOTSUPP"  # on Linux ENOTSUP is another name of this error
    return names.get(text, text)
