"""How the kernel reaches the bytes of a file: by DAX or through the page cache; and whether it grants MAP_SYNC.

Nothing of it follows from a mount option. The kernel itself is asked of a file: by statx, by what is in the page cache
after a write, and by mmap. ``xfs_io`` (xfsprogs) asks it, on every file system.
"""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

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
"""What `map_sync` returns where the kernel maps a file with MAP_SYNC."""

_ATTR_DAX = 0x00200000  # STATX_ATTR_DAX, include/uapi/linux/stat.h
_PROBE_SIZE = 4 * MiB
_ATTRIBUTES = ("attributes", "attributes_mask")
_MISSING = 127

# new_file DIRECTORY SIZE COUNT makes $file a new file with so many blocks. The file is created under a name that nobody
# knew before and then used by its descriptor only: in a directory of another user, a name may be a link to elsewhere a
# moment later. The file has no name any more when it is used, so nothing is left of it, however the script ends.
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

# mincore tells of a mapping that was not touched what the page cache holds of it; a DAX file has nothing there.
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

# A device-DAX node is mapped in steps of its alignment only.
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


@dataclass(frozen=True, slots=True)
class FileDax:
    """What the kernel says of one file.

    Args:
        path: The file, or the directory that a new file was written in.
        attribute: Whether statx says that the file is DAX.
        size: The file's bytes.
        cached: How many of them are in the page cache.
        new: Whether the file was written just now, so that a file that is not DAX must be in the page cache.
    """

    path: str
    attribute: bool
    size: Size
    cached: Size
    new: bool = False

    @property
    def dax(self) -> bool:
        """Whether the file is reached by DAX.

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
    """Return what the kernel says of a file, by statx and by its page cache.

    Args:
        transport: The way to the machine.
        path: A file, of which nothing is changed; or a directory, in which a new file is written, and removed again.

    Raises:
        InvalidValueError: It is neither.
        UnsupportedError: The kernel does not tell (before 5.8).
        ToolMissingError: xfs_io is not installed.
        CommandError: The file could not be written or read.
    """
    result = transport.run(["sh", "-c", _NEW_FILE + _STATE, "sh", path, str(_PROBE_SIZE // MiB)])
    text = _checked(result, path, "find out how the kernel reaches").text
    head = re.match(r"(new|file) ([0-9]+)\n", text)
    attributes, mask = (re.search(rf"^stat\.{name} = 0x([0-9a-f]+)$", text, re.MULTILINE) for name in _ATTRIBUTES)
    if not (head and attributes and mask):
        raise UnreadableOutputError(result, f"xfs_io did not tell the attributes of {path}")
    if not int(mask[1], 16) & _ATTR_DAX:
        raise UnsupportedError(
            f"The kernel of {transport.name} does not tell whether {path} is DAX: it does from 5.8 on."
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
    """Return whether the kernel maps a file with MAP_SYNC, so that its own writes need no fsync to be found again.

    It does for a DAX file on synchronous persistent memory, and for device DAX; anything else it must refuse with
    EOPNOTSUPP (mmap(2), MAP_SHARED_VALIDATE). The file is mapped for reading: nothing of it is changed.

    Args:
        transport: The way to the machine.
        path: A file or a device-DAX node; or a directory, in which a new file is mapped, and removed again.

    Returns:
        `GRANTED`, or the name of the error, e.g. ``EOPNOTSUPP``.

    Raises:
        InvalidValueError: It is none of them.
        ToolMissingError: xfs_io is not installed.
        CommandError: It failed otherwise.
    """
    result = transport.run(["sh", "-c", _NEW_FILE + _SYNC, "sh", path])
    refused = re.fullmatch(r"mmap: (.+)\n?", result.error_text)
    if result.exit_status == 1 and refused:
        return _error_name(refused[1])
    _checked(result, path, "map")
    return GRANTED


def _checked(result: CommandResult, path: str, action: str) -> CommandResult:
    if result.exit_status == _MISSING:
        raise ToolMissingError(result, "xfs_io is not installed there (package xfsprogs)")
    if result.text.strip() in ("absent", "other"):
        there = "one that exists" if result.text.strip() == "absent" else "a file or a directory, or a device-DAX node"
        raise InvalidValueError("path", path, f"{there} on {result.host}")
    return result.check(f"Could not {action} {path}")


def _error_name(text: str) -> str:
    """Return the name of an error by its text in the C locale, the same on every Linux with glibc."""
    names = {os.strerror(number): name for number, name in errno.errorcode.items()}
    names[os.strerror(errno.EOPNOTSUPP)] = "EOPNOTSUPP"  # Linux has ENOTSUP as another name of it
    return names.get(text, text)
