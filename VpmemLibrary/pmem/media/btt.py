"""The block translation table of a sector namespace: checked, repaired, and torn on purpose.

What makes its sectors atomic is a map from sectors to blocks, a log of the writes under way, and an info block with a
second copy (``drivers/nvdimm/btt.c``). ``ndctl check-namespace`` checks them, but exits 0 when the second copy of the
info block is broken: what it complains of on stderr counts, not the exit status alone.
"""

from __future__ import annotations

import errno
import re
import struct
from dataclasses import dataclass
from enum import StrEnum

from VpmemLibrary.errors import DamagedError, InvalidValueError, NotFoundError, UnsupportedError
from VpmemLibrary.pmem.guard import NAMESPACE, namespace_target
from VpmemLibrary.pmem.media.info_block import SectorInfoBlock
from VpmemLibrary.pmem.media.info_blocks import InfoBlocks
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.namespaces.raw_access import RawBytes
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Namespace, NamespaceMode

_COMPLAINT = re.compile(r"^[^\s:]+: [a-z0-9_]+: (.+)$", re.MULTILINE)
_DAMAGED = {status_of(number) for number in (errno.ENXIO, errno.EIO, errno.EFAULT, errno.EINVAL)}
_LINE = 64  # bytes that a processor writes back at once: what tears
_LOG_ENTRY = struct.Struct("<4I")  # struct log_entry: sector, old block, new block, sequence number
_MAP_ENTRY = struct.Struct("<I")
_NORMAL = 0xC0000000  # MAP_ENT_NORMAL: neither an error nor trimmed


class SectorPart(StrEnum):
    """A part of the metadata of a sector namespace that can be torn.

    `write` is a sector write that was cut off after the log, before the map: what a power failure leaves.
    """

    info = "info"
    backup = "backup"
    map = "map"
    log = "log"
    write = "write"


@dataclass(frozen=True, slots=True)
class SectorCheck:
    """What a check of a sector namespace found.

    Args:
        namespace: The namespace.
        complaints: What ndctl complained of, a sentence each; nothing when it is healthy.
    """

    namespace: Namespace
    complaints: tuple[str, ...]

    @property
    def healthy(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def require(self) -> None:
        """Raise unless it is healthy.

        Raises:
            DamagedError: The message has ndctl's complaints.
        """
        if self.complaints:
            raise DamagedError(
                f"The sector metadata of {self.namespace.called} is damaged: {'; '.join(self.complaints)}."
            )


class Btt:
    """The metadata of sector namespaces.

    A namespace is disabled for the time of a check, and enabled again if it was active: one in use is refused.

    Args:
        ndctl: The machine's ndctl.
        namespaces: The machine's namespaces.
        info_blocks: Their info blocks.
    """

    def __init__(self, ndctl: Ndctl, namespaces: Namespaces, info_blocks: InfoBlocks) -> None:
        self._ndctl = ndctl
        self._namespaces = namespaces
        self._info_blocks = info_blocks

    def check(self, namespace: Namespace | str) -> SectorCheck:
        """Return what is wrong with a sector namespace; nothing is changed.

        Args:
            namespace: Its record, UUID, device name or name.

        Raises:
            NotFoundError: There is no such namespace.
            UnsupportedError: It has another mode.
            BusyError: It is in use.
            CommandError: ndctl could not check it.
        """
        before = self._sector(namespace)
        with self._namespaces.disabled(before) as idle:
            return self._check(idle)

    def repair(self, namespace: Namespace | str, *, rewrite_log: bool = False) -> SectorCheck:
        """Repair a sector namespace as far as ndctl can, prove it by another check, and return what was wrong.

        ndctl restores either copy of the info block from the other, and finishes a write that its log knows. It cannot
        restore the map or the log.

        Args:
            namespace: Its record, UUID, device name or name.
            rewrite_log: Write the log afresh as well, to the layout of kernels from 4.15 on.

        Raises:
            NotFoundError: There is no such namespace.
            UnsupportedError: It has another mode.
            BusyError: It is in use.
            DamagedError: It is still damaged; the message has ndctl's complaints.
            CommandError: ndctl could not check it.
        """
        before = self._sector(namespace)
        with self._namespaces.disabled(before) as idle:
            found = self._check(idle)
            if not found.healthy or rewrite_log:
                self._check(idle, "--repair", *(["--rewrite-log"] if rewrite_log else []))
                self._check(idle).require()
        return found

    def tear(self, namespace: Namespace | str, part: SectorPart) -> Namespace:
        """Damage a part of the metadata of a sector namespace as a torn write does; it is disabled afterwards.

        It stays disabled so that what is torn is checked before the kernel, which mends some of it, enables it.

        Args:
            namespace: Its record, UUID, device name or name.
            part: Which part of its first arena.

        Raises:
            InvalidValueError: There is no such part, or no write to be cut off: nothing was written yet.
            NotFoundError: There is no such namespace, or it has no info block.
            UnsupportedError: It has another mode.
            BusyError: It is in use; nothing was changed.
        """
        part = SectorPart(part)
        idle = self._namespaces.disable(self._sector(namespace))
        block = self._info_blocks.read(idle)
        if not isinstance(block, SectorInfoBlock):
            raise UnsupportedError(f"{idle.called} is no sector namespace: its info block is that of {block.mode}.")
        raw = RawBytes(self._ndctl, idle)
        raw.write(*_torn(raw, block, part))
        return idle

    def _sector(self, namespace: Namespace | str) -> Namespace:
        found = self._ndctl.namespace(namespace)
        if found.active and found.mode is not NamespaceMode.sector:
            raise UnsupportedError(
                f"{found.called} has mode {found.mode}: only a sector namespace has metadata to be checked."
            )
        return found

    def _check(self, idle: Namespace, *options: str) -> SectorCheck:
        result = self._ndctl.change(
            ["ndctl", "check-namespace", *options, NAMESPACE], namespace_target(idle), unused=True
        )
        complaints = tuple(_COMPLAINT.findall(result.error_text))
        if result.exit_status not in _DAMAGED or not complaints:
            checked(result, f"check {idle.called}")
        elif self._has_another_mode(idle):
            raise UnsupportedError(f"{idle.called} is no sector namespace: its info block is that of another mode.")
        return SectorCheck(idle, complaints)

    def _has_another_mode(self, idle: Namespace) -> bool:
        try:
            block = self._info_blocks.read(idle)
        except NotFoundError:
            return False
        return block.mode is not NamespaceMode.sector and not block.faults(idle.label_uuid)


def _torn(raw: RawBytes, block: SectorInfoBlock, part: SectorPart) -> tuple[int, bytes]:
    """Return what to write where, so that a part is torn."""
    line = b"\xff" * _LINE
    match part:
        case SectorPart.info:
            return block.at + _LINE, line  # behind the signature, so that only the checksum tells
        case SectorPart.backup:
            return block.at + block.backup_offset + _LINE, line
        case SectorPart.map:
            return block.at + block.map_offset, line
        case SectorPart.log:
            return block.at + block.log_offset, line
        case SectorPart.write:
            return _unfinished(raw, block)


def _unfinished(raw: RawBytes, block: SectorInfoBlock) -> tuple[int, bytes]:
    """Return how the map was before the last write of a lane that its log knows."""
    lanes = raw.read(block.at + block.log_offset, block.free_blocks * 4 * _LOG_ENTRY.size)
    for lane in range(block.free_blocks):
        entries = [_LOG_ENTRY.unpack_from(lanes, (4 * lane + index) * _LOG_ENTRY.size) for index in range(4)]
        used = [entry for entry in entries if entry[3]]
        if len(used) != 2:
            continue  # never written through, or a layout that is not known
        first, second = used
        sector, old, new, _ = second if second[3] == first[3] % 3 + 1 else first
        if old != new:
            return block.at + block.map_offset + sector * _MAP_ENTRY.size, _MAP_ENTRY.pack(old | _NORMAL)
    raise InvalidValueError("part", str(SectorPart.write), "one of the others: no sector was written yet")
