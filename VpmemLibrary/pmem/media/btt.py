"""Check, repair and deliberately tear the block translation table (BTT) of a sector namespace.

Three parts make sectors atomic (``drivers/nvdimm/btt.c``): a map from sectors to blocks, a log of the current writes,
and an info block with a backup copy. ``ndctl check-namespace`` checks these parts, but exits 0 if the backup copy of
the info block is broken. Therefore this module reads ndctl's complaints on stderr as well as the exit status.
"""

from __future__ import annotations

import errno
import re
import struct
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import DamagedError, InvalidValueError, NotFoundError, UnsupportedError
from VpmemLibrary.pmem.guard import NAMESPACE, namespace_target
from VpmemLibrary.pmem.media.info_block import SectorInfoBlock
from VpmemLibrary.pmem.media.info_blocks import InfoBlocks
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.raw_access import RawBytes
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Namespace, NamespaceMode

_COMPLAINT = r"(?m)^[^\s:]+: [a-z0-9_]+: (.+)$"
_DAMAGED = {status_of(number) for number in (errno.ENXIO, errno.EIO, errno.EFAULT, errno.EINVAL)}
_LINE = 64  # bytes of a cache line, the unit in which writes tear
_LOG_ENTRY = struct.Struct("<4I")  # struct log_entry: sector, old block, new block, sequence number
_MAP_ENTRY = struct.Struct("<I")
_NORMAL = 0xC0000000  # MAP_ENT_NORMAL: neither an error nor trimmed


class SectorPart(StrEnum):
    """A part of a sector namespace's metadata that can be torn.

    `write` means a sector write that a power failure interrupts after the log is written and before the map is written.
    """

    info = "info"
    backup = "backup"
    map = "map"
    log = "log"
    write = "write"


class SectorCheck(Struct, frozen=True):
    """The result of a check of a sector namespace.

    Args:
        namespace: The namespace.
        complaints: ndctl's complaints, one sentence each. Empty for a healthy namespace.
    """

    namespace: Namespace
    complaints: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether ndctl found no damage."""
        return not self.complaints

    def require(self) -> None:
        """Raise if the namespace is damaged.

        Raises:
            DamagedError: The namespace is damaged. The message contains ndctl's complaints.
        """
        if self.complaints:
            raise DamagedError(
                f"The sector metadata of {self.namespace.called} is damaged: {'; '.join(self.complaints)}."
            )


class Btt:
    """The metadata of sector namespaces.

    A check disables the namespace, and enables it again if it was active. A namespace in use is refused.

    Args:
        ndctl: The machine's ndctl.
        namespaces: The machine's namespaces.
        info_blocks: The info blocks of these namespaces.
    """

    def __init__(self, ndctl: Ndctl, namespaces: Namespaces, info_blocks: InfoBlocks) -> None:
        self._ndctl = ndctl
        self._namespaces = namespaces
        self._info_blocks = info_blocks

    def check(self, namespace: Namespace | str) -> SectorCheck:
        """Check a sector namespace and return the damage. Change nothing.

        Args:
            namespace: The namespace's record, UUID, device name or name.

        Raises:
            NotFoundError: The namespace does not exist.
            UnsupportedError: The namespace has another mode.
            BusyError: The namespace is in use.
            CommandError: ndctl could not check the namespace.
        """
        before = self._sector(namespace)
        with self._namespaces.disabled(before) as idle:
            return self._check(idle)

    def repair(self, namespace: Namespace | str, *, rewrite_log: bool = False) -> SectorCheck:
        """Repair a sector namespace and prove the repair by another check. Return the damage from before the repair.

        ndctl restores each copy of the info block from the other copy. It also finishes a write that is in the log.
        ndctl cannot restore the map or the log.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            rewrite_log: Also rewrite the log in the layout of kernels from 4.15 on.

        Raises:
            NotFoundError: The namespace does not exist.
            UnsupportedError: The namespace has another mode.
            BusyError: The namespace is in use.
            DamagedError: The namespace is still damaged. The message contains ndctl's complaints.
            CommandError: ndctl could not check the namespace.
        """
        before = self._sector(namespace)
        with self._namespaces.disabled(before) as idle:
            found = self._check(idle)
            if not found.healthy or rewrite_log:
                self._check(idle, "--repair", *(["--rewrite-log"] if rewrite_log else []))
                self._check(idle).require()
        return found

    def tear(self, namespace: Namespace | str, part: SectorPart) -> Namespace:
        """Damage a part of a sector namespace's metadata like a torn write. The namespace is disabled afterwards.

        The kernel repairs some damage when it enables a namespace. The namespace stays disabled so that the damage can
        be checked first.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            part: The part of the namespace's first arena.

        Raises:
            InvalidValueError: The part is invalid, or `part` is `write` and the namespace was never written to.
            NotFoundError: The namespace does not exist, or it has no info block.
            UnsupportedError: The namespace has another mode.
            BusyError: The namespace is in use. Nothing was changed.
        """
        part = SectorPart(part)
        idle = self._namespaces.disable(self._sector(namespace))
        block = self._info_blocks.read(idle)
        if not isinstance(block, SectorInfoBlock):
            raise UnsupportedError(f"{idle.called} is not a sector namespace: its info block has mode {block.mode}.")
        raw = RawBytes(self._ndctl, idle)
        raw.write(*_torn(raw, block, part))
        return idle

    def _sector(self, namespace: Namespace | str) -> Namespace:
        found = self._ndctl.namespace(namespace)
        if found.active and found.mode is not NamespaceMode.sector:
            raise UnsupportedError(
                f"{found.called} has mode {found.mode}, but only a sector namespace has metadata to check."
            )
        return found

    def _check(self, idle: Namespace, *options: str) -> SectorCheck:
        result = self._ndctl.change(
            ["ndctl", "check-namespace", *options, NAMESPACE], namespace_target(idle), must_be_unused=True
        )
        complaints = tuple(re.findall(_COMPLAINT, result.error_text))
        if result.exit_status not in _DAMAGED or not complaints:
            checked(result, f"check {idle.called}")
        elif self._has_another_mode(idle):
            raise UnsupportedError(f"{idle.called} is not a sector namespace: its info block has another mode.")
        return SectorCheck(idle, complaints)

    def _has_another_mode(self, idle: Namespace) -> bool:
        try:
            block = self._info_blocks.read(idle)
        except NotFoundError:
            return False
        return block.mode is not NamespaceMode.sector and not block.faults(idle.label_uuid)


def _torn(raw: RawBytes, block: SectorInfoBlock, part: SectorPart) -> tuple[int, bytes]:
    """Return the offset and the bytes that damage a part."""
    line = b"\xff" * _LINE
    match part:
        case SectorPart.info:
            return block.at + _LINE, line  # after the signature, so that only the checksum is wrong
        case SectorPart.backup:
            return block.at + block.backup_offset + _LINE, line
        case SectorPart.map:
            return block.at + block.map_offset, line
        case SectorPart.log:
            return block.at + block.log_offset, line
        case SectorPart.write:
            return _unfinished(raw, block)


def _unfinished(raw: RawBytes, block: SectorInfoBlock) -> tuple[int, bytes]:
    """Return the offset and the bytes of a map entry as it was before the last write of a lane in the log."""
    lanes = raw.read(block.at + block.log_offset, block.free_blocks * 4 * _LOG_ENTRY.size)
    for lane in range(block.free_blocks):
        entries = [_LOG_ENTRY.unpack_from(lanes, (4 * lane + index) * _LOG_ENTRY.size) for index in range(4)]
        used = [entry for entry in entries if entry[3]]
        if len(used) != 2:
            continue  # the lane was never used, or its layout is unknown
        first, second = used
        sector, old, new, _ = second if second[3] == first[3] % 3 + 1 else first
        if old != new:
            return block.at + block.map_offset + sector * _MAP_ENTRY.size, _MAP_ENTRY.pack(old | _NORMAL)
    raise InvalidValueError("part", str(SectorPart.write), "another part, because no sector was written yet")
