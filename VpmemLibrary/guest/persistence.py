"""Predict whether a guest's writes persist, from the device and its backing, without starting the guest."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.domain.records import Access, VpmemDevice
from VpmemLibrary.host.file_dax import read_file_dax
from VpmemLibrary.transport.base import Transport, query

_LOOK = r"""
if [ -c "$1" ]; then
    number=$(stat -L -c '%t:%T' -- "$1")
    sys=/sys/dev/char/$((0x${number%:*})):$((0x${number#*:}))
    if [ "$sys/subsystem" -ef /sys/bus/dax ]; then echo devdax; else echo other; fi
elif [ -f "$1" ]; then stat -L -f -c 'file %T' -- "$1"
elif [ -e "$1" ]; then echo other
else echo absent
fi
"""
_IN_MEMORY = ("tmpfs", "ramfs", "hugetlbfs")


class BackingKind(StrEnum):
    """The kind of a device's backing."""

    devdax = "devdax"
    """A device-DAX node."""
    dax_file = "dax file"
    """A file in a DAX file system, accessed without the page cache."""
    plain_file = "plain file"
    """A file that is accessed through the page cache."""
    memory_file = "memory file"
    """A file in memory: tmpfs, hugetlbfs."""
    memfd = "memfd"
    """Memory that QEMU frees when it ends."""


class Persistence(Struct, frozen=True):
    """Whether the writes that a guest flushed persist.

    Args:
        restart: Whether the writes survive when the guest is destroyed and started.
        power_loss: Whether the writes survive a power loss of the host.
        reason: The reason, as text.
    """

    restart: bool
    power_loss: bool
    reason: str

    def __str__(self) -> str:
        return (
            f"the guest's writes {'survive' if self.restart else 'do not survive'} a restart and "
            f"{'survive' if self.power_loss else 'do not survive'} a power loss: {self.reason}"
        )


def persistence_of(device: VpmemDevice, kind: BackingKind) -> Persistence:
    """Return whether the writes that a guest flushed to a device persist.

    QEMU, docs/nvdimm.txt: without ``share=on`` writes stay in a private copy. Persistence is guaranteed only for device
    DAX, and for a file in a DAX file system that is mapped with MAP_SYNC. QEMU maps a file with MAP_SYNC if it has
    ``share=on,pmem=on`` (util/mmap-alloc.c). Bytes in the host's page cache or memory survive the end of QEMU, but not
    a power loss of the host.

    Args:
        device: The device.
        kind: The kind of the device's backing.

    Example: ``persistence_of(VpmemDevice("/dev/dax0.0", size), BackingKind.devdax).power_loss`` is True.
    """
    in_memory = kind in (BackingKind.memory_file, BackingKind.memfd)
    restart, power_loss = kind is not BackingKind.memfd, not in_memory
    if device.readonly:
        reason = "the guest cannot write to the device"
    elif device.access is not Access.shared:
        restart, power_loss, reason = False, False, "without shared access, writes stay in QEMU's private copy"
    elif in_memory:
        reason = "the backing is in memory, " + ("which the host keeps" if restart else "which QEMU frees when it ends")
    elif kind is BackingKind.devdax:
        reason = "writes go to the medium itself"
    elif kind is BackingKind.dax_file and device.pmem:
        reason = "QEMU maps the file with MAP_SYNC"
    elif kind is BackingKind.dax_file:
        power_loss, reason = False, "without pmem QEMU maps the file without MAP_SYNC"
    else:
        power_loss, reason = False, "the bytes are in the page cache until the host writes them back"
    return Persistence(restart, power_loss, reason)


def backing_kind(transport: Transport, path: str) -> BackingKind:
    """Return the kind of a backing, as the host's kernel reports it.

    Args:
        transport: The transport to the host.
        path: A device-DAX node or a file.

    Raises:
        InvalidValueError: The path does not exist.
        UnsupportedError: The path is neither a device-DAX node nor a file, or the kernel does not report DAX.
    """
    result = transport.run(query(_LOOK, path)).check()
    match result.text.split():
        case ["devdax"]:
            return BackingKind.devdax
        case ["file", system] if system in _IN_MEMORY:
            return BackingKind.memory_file
        case ["file", *_]:
            return BackingKind.dax_file if read_file_dax(transport, path).dax else BackingKind.plain_file
        case ["other"]:
            raise UnsupportedError(f"{path} on {transport.name} is neither a device-DAX node nor a file.")
        case ["absent"]:
            raise InvalidValueError("path", path, f"a path that exists on {transport.name}")
    raise UnreadableOutputError(result, f"The host did not report the kind of {path}")
