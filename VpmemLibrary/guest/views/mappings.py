"""Read from /proc on the host how a guest's QEMU has mapped the backing of a device."""

from __future__ import annotations

from msgspec import Struct

from VpmemLibrary.errors import NotFoundError, UnreadableOutputError
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.transport.base import Transport

# Prints one line for each mapping of a file: the flags, a tab, and the path.
_SCRIPT = r"""
exec awk '
    /^[0-9a-f]+-[0-9a-f]+ / { path = ""; if (match($0, /\//)) path = substr($0, RSTART) }
    /^VmFlags:/ && path != "" { sub(/^VmFlags: */, ""); sub(/ +$/, ""); print $0 "\t" path }
' smaps
"""


class Mapping(Struct, frozen=True):
    """A file that a process has mapped.

    Args:
        path: The path of the file, as the process sees it.
        flags: The mapping's flags, two letters each: ``sh`` shared, ``wr`` writable, ``sf`` synchronous page faults
            (MAP_SYNC) and more (kernel, Documentation/filesystems/proc.rst, VmFlags).
    """

    path: str
    flags: tuple[str, ...]


def read_mappings(transport: Transport, qemu: QemuProcess) -> tuple[Mapping, ...]:
    """Return the files that a guest's QEMU has mapped.

    Args:
        transport: The transport to the host.
        qemu: The guest's QEMU.

    Raises:
        GuestError: The guest is not running.
        CommandError: The mappings of QEMU cannot be read.
    """
    result = qemu.run(transport, _SCRIPT, reads_only=True).check(
        f"Could not read the memory mappings of the QEMU of guest {qemu.name}"
    )
    found = []
    for line in result.lines:
        flags, tab, path = line.partition("\t")
        if not tab:
            raise UnreadableOutputError(
                result, f"The kernel listed a mapping of the QEMU of guest {qemu.name} without a path"
            )
        found.append(Mapping(path, tuple(flags.split())))
    return tuple(found)


def mapping_flags(transport: Transport, qemu: QemuProcess, path: str) -> tuple[str, ...]:
    """Return the flags of QEMU's mapping of a file. For several mappings, return the flags that all of them have.

    Args:
        transport: The transport to the host.
        qemu: The guest's QEMU.
        path: The file. A QEMU in its own mount namespace may have another path for the file, with the same last part.

    Raises:
        GuestError: The guest is not running.
        NotFoundError: QEMU has not mapped the file.
    """
    mappings = read_mappings(transport, qemu)
    name = path.rpartition("/")[2]
    found = [each for each in mappings if each.path == path] or [
        each for each in mappings if each.path.rpartition("/")[2] == name
    ]
    if not found:
        there = sorted({each.path for each in mappings})
        raise NotFoundError("mapping of", path, there, where=f"{transport.name}, the QEMU of guest {qemu.name}")
    return tuple(flag for flag in found[0].flags if all(flag in each.flags for each in found))
