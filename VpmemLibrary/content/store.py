"""Writing patterns and proving them where they lie: no byte of them travels over a transport."""

from __future__ import annotations

import re
from dataclasses import dataclass

from VpmemLibrary.content.pattern import BLOCK, Pattern
from VpmemLibrary.content.pipeline import SECOND_INPUT, run_pipeline
from VpmemLibrary.content.target import Target, TargetKind, chunk_of, look_at
from VpmemLibrary.errors import ContentDiffersError, InvalidValueError, UnreadableOutputError
from VpmemLibrary.host.transport import CommandResult, Transport
from VpmemLibrary.sizes import MiB, Size

_LARGEST_READ = MiB

COUNTED = MiB
"""How many differing bytes of two devices are counted at most: each of them is a line that cmp prints."""

# Each differing byte is a line; that there are some is no failure.
_LIST = ("sh", "-c", 'cmp -l "$1" -; [ $? -le 1 ]', "sh", SECOND_INPUT)
_OVER = 3  # the status by which the counting stage says that there are more
_COUNT = f"NR > {COUNTED} {{ over = 1; exit {_OVER} }} END {{ print over ? NR - 1 : NR }}"


@dataclass(frozen=True, slots=True)
class Transfer:
    """What was written or read.

    Args:
        path: Where.
        offset: From which byte on.
        length: How many bytes.
        seconds: How long it took, making or comparing the bytes included.
    """

    path: str
    offset: Size
    length: Size
    seconds: float

    @property
    def throughput(self) -> float:
        """MiB a second."""
        return self.length / MiB / self.seconds if self.seconds else float("inf")

    def __str__(self) -> str:
        return f"{self.length} at {self.offset} of {self.path} in {self.seconds:.2f} s ({self.throughput:.0f} MiB/s)"


@dataclass(frozen=True, slots=True)
class Verification:
    """How bytes compare with what they should be.

    Args:
        transfer: What was read.
        expected: What the bytes should be, in words.
        differing: How many bytes differ.
        first: The offset in the target of the first byte that differs; None when none does.
        more: Whether more bytes differ than were counted.
    """

    transfer: Transfer
    expected: str
    differing: int
    first: Size | None = None
    more: bool = False

    @property
    def intact(self) -> bool:
        """Whether every byte is as it should be."""
        return self.differing == 0

    def require(self) -> None:
        """Raise unless every byte is as it should be.

        Raises:
            ContentDiffersError: Names the first differing offset and how many bytes differ.
        """
        if not self.intact:
            counted = f"more than {self.differing}" if self.more else str(self.differing)
            raise ContentDiffersError(
                f"{self.transfer.path} does not hold {self.expected}: {counted} of {int(self.transfer.length)} "
                f"bytes from {self.transfer.offset} differ, the first at byte {int(self.first or 0)}."
            )


class ContentStore:
    """The bytes of devices and files on one machine.

    It needs a POSIX shell, ``dd``, ``tr``, ``cmp`` and ``wc`` (coreutils or busybox), ``openssl``, and ``daxio`` for
    device-DAX nodes, which know neither read nor write.

    Args:
        transport: The way to the machine: a host or a guest.
        timeout: Seconds that one operation may take.

    Example::

        store = ContentStore(transport)
        pattern = Pattern("first tenant", length=Size.parse("62MiB"))
        store.write("/dev/dax0.0", pattern)
        store.verify("/dev/dax0.0", pattern).require()
    """

    def __init__(self, transport: Transport, *, timeout: float = 600.0) -> None:
        self._transport = transport
        self._timeout = timeout

    def write(self, path: str, pattern: Pattern, *, at: int | None = None, force: bool = False) -> Transfer:
        """Write a pattern and flush it.

        Args:
            path: A block device, a device-DAX node or a file, which is not made longer.
            pattern: What to write.
            at: Where on the target, a multiple of 4 KiB; at the pattern's own offset by default.
            force: Leave it to the tool to refuse a range that reaches past the end of a device. daxio writes what fits
                and exits 0; that is a failure here.

        Raises:
            InvalidValueError: The path is absent or the range lies outside; nothing was written.
            UnsupportedError: The path is something else.
            ToolMissingError: openssl or daxio is not installed.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, pattern.length, pattern.offset if at is None else at, force=force)
        return self._store(target, offset, pattern.length, [pattern.cipher], f"write {pattern} to {path}")

    def zero(self, path: str, offset: int = 0, length: int | None = None) -> Transfer:
        """Overwrite a range with zeros and flush it.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: Where to begin, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB; to the end by default.

        Raises:
            InvalidValueError: The path is absent or the range lies outside; nothing was written.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, length, offset)
        length = target.size - offset if length is None else length
        return self._store(target, offset, length, [], f"write zeros to {path}")

    def verify(self, path: str, pattern: Pattern, *, at: int | None = None, force: bool = False) -> Verification:
        """Compare a range with a pattern, byte for byte, on the machine itself.

        Args:
            path: A block device, a device-DAX node or a file.
            pattern: What should be there.
            at: Where on the target, a multiple of 4 KiB; at the pattern's own offset by default. A guest's pattern
                lies elsewhere on the host's device than on the guest's.
            force: Leave it to the tool to refuse a range that reaches past the end of a device.

        Raises:
            InvalidValueError: The path is absent or the range lies outside.
            ToolMissingError: openssl or daxio is not installed.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, pattern.length, pattern.offset if at is None else at, force=force)
        return self._compare(target, offset, pattern.length, [pattern.cipher], str(pattern))

    def verify_zero(self, path: str, offset: int = 0, length: int | None = None) -> Verification:
        """Prove that a range holds zeros and nothing else.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: Where to begin, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB; to the end by default.

        Raises:
            InvalidValueError: The path is absent or the range lies outside.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, length, offset)
        length = target.size - offset if length is None else length
        return self._compare(target, offset, length, [], "zeros")

    def wipe(self, path: str, offset: int = 0, length: int | None = None) -> Transfer:
        """Overwrite a range with zeros, flush it, and prove by reading it again that it holds nothing else.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: Where to begin, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB; to the end by default.

        Returns:
            The writing, without the proof.

        Raises:
            InvalidValueError: The path is absent or the range lies outside; nothing was written.
            CommandError: A tool failed: some of the range may hold what it held.
            ContentDiffersError: Something is left though the tools reported success.
        """
        written = self.zero(path, offset, length)
        self.verify_zero(path, offset, length).require()
        return written

    def copy(
        self, source: str, path: str, *, offset: int = 0, at: int | None = None, length: int | None = None
    ) -> Transfer:
        """Write to one target what another holds, and flush it.

        Args:
            source: Where to read: a block device, a device-DAX node or a file.
            path: Where to write: another one.
            offset: Where to begin reading, a multiple of 4 KiB.
            at: Where to begin writing, a multiple of 4 KiB; at `offset` by default.
            length: How many bytes, a multiple of 4 KiB; to the end of the source by default.

        Raises:
            InvalidValueError: A path is absent or a range lies outside; nothing was written.
            CommandError: A tool failed.
        """
        read, start = self._target(source, length, offset)
        length = read.size - start if length is None else length
        written, there = self._target(path, length, offset if at is None else at)
        action = f"copy {Size(length)} of {source} to {path}"
        stages = [read.reader(start, length), written.writer(there, length)]
        result = run_pipeline(self._transport, stages, action=action, timeout=self._timeout)
        _require_copied(result, length, action, times=2)
        return Transfer(path, there, Size(length), result.seconds)

    def compare(
        self, path: str, other: str, *, offset: int = 0, at: int | None = None, length: int | None = None
    ) -> Verification:
        """Compare two targets byte for byte.

        Args:
            path: A block device, a device-DAX node or a file: the one whose offsets are told.
            other: Another one.
            offset: Where to begin, a multiple of 4 KiB.
            at: Where to begin on the other one; at `offset` by default.
            length: How many bytes, a multiple of 4 KiB. By default to their ends, which must be equally far.

        Returns:
            How they compare; differing bytes are counted up to 1 MiB of them.

        Raises:
            InvalidValueError: A path is absent, a range lies outside, or the ends are not equally far.
            CommandError: A tool failed.
        """
        target, start = self._target(path, length, offset)
        second, there = self._target(other, length, start if at is None else at)
        if length is None:
            length = target.size - start
            if second.size - there != length:
                raise InvalidValueError(
                    "length",
                    "all",
                    f"one that both have: {path} has {int(length)} bytes from {start} on, {other} has "
                    f"{int(second.size - there)} from {there} on",
                )
        action = f"compare {path} with {other}"
        expected = f"what {other} holds at {there}"
        readers = target.reader(start, length), second.reader(there, length)
        found = self._beside(*readers, [("cmp", SECOND_INPUT, "-")], action, allowed=1)
        transfer = Transfer(path, start, Size(length), found.seconds)
        differs = re.search(r"differ: (?:byte|char) ([0-9]+)", found.text + found.error_text)
        if found.exit_status == 0:
            _require_copied(found, length, action, times=2)
            return Verification(transfer, expected, 0)
        if differs is None:
            raise UnreadableOutputError(found, f"Could not {action}: cmp did not say where they differ")
        counted = self._beside(*readers, [_LIST, ("awk", _COUNT)], action, allowed=_OVER)
        if not counted.text.strip().isdigit():
            raise UnreadableOutputError(counted, f"Could not {action}: awk printed no number")
        if counted.exit_status == 0:
            _require_copied(counted, length, action, times=2)
        first = Size(start + int(differs[1]) - 1)
        return Verification(transfer, expected, int(counted.text), first, counted.exit_status == _OVER)

    def checksum(self, path: str, offset: int = 0, length: int | None = None) -> str:
        """Return the SHA-256 of a range as 64 hexadecimal digits.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: Where to begin, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB; to the end by default.

        Raises:
            InvalidValueError: The path is absent or the range lies outside.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, length, offset)
        length = target.size - offset if length is None else length
        result = self._read(target, offset, length, [("sha256sum",)], f"read {path}")
        digest = result.text.split(" ", 1)[0]
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UnreadableOutputError(result, "sha256sum printed no digest")
        return digest

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Return a few bytes, such as a label or an info block: these do travel.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: Where to begin, any byte.
            length: How many bytes, 1 MiB at most.

        Raises:
            InvalidValueError: The path is absent, the range lies outside, or it is too much.
            CommandError: A tool failed.
        """
        if length > _LARGEST_READ:
            raise InvalidValueError("length", str(Size(length)), f"{Size(_LARGEST_READ)} at most; see checksum")
        target = look_at(self._transport, path)
        target.check_range(offset, length)
        start = offset // BLOCK * BLOCK
        end = min(int(Size(offset + length).up_to(BLOCK)), int(target.size))
        result = self._read(target, start, end - start, [], f"read {path}")
        return result.stdout[offset - start : offset - start + length]

    def size(self, path: str) -> Size:
        """Return how many bytes a block device, a device-DAX node or a file has.

        Raises:
            InvalidValueError: The path is absent.
            UnsupportedError: It is something else.
        """
        return look_at(self._transport, path).size

    def _target(self, path: str, length: int | None, offset: int, *, force: bool = False) -> tuple[Target, Size]:
        for what, value in (("offset", offset), ("length", length)):
            if value is not None and value % BLOCK:
                raise InvalidValueError(what, value, "a multiple of 4KiB")
        target = look_at(self._transport, path)
        if force and target.kind is not TargetKind.file and offset >= 0:
            return target, Size(offset)
        target.check_range(offset, target.size - offset if length is None else length)
        return target, Size(offset)

    def _store(
        self, target: Target, offset: Size, length: int, filters: list[tuple[str, ...]], action: str
    ) -> Transfer:
        """Store zeros, or what the filters make of them."""
        zeros = ("head", "-c", str(int(length)), "/dev/zero")
        stages = [zeros, *filters, target.writer(offset, length)] if filters else [target.zeroer(offset, length)]
        result = run_pipeline(self._transport, stages, action=action, timeout=self._timeout)
        _require_copied(result, length, action)
        return Transfer(target.path, offset, Size(length), result.seconds)

    def _read(
        self, target: Target, offset: int, length: int, filters: list[tuple[str, ...]], action: str
    ) -> CommandResult:
        result = run_pipeline(
            self._transport, [target.reader(offset, length), *filters], action=action, timeout=self._timeout
        )
        _require_copied(result, length, action)
        return result

    def _beside(
        self,
        one: tuple[str, ...],
        other: tuple[str, ...],
        stages: list[tuple[str, ...]],
        action: str,
        *,
        allowed: int,
    ) -> CommandResult:
        """Run a pipeline that reads one target at `SECOND_INPUT` and the other as its first input."""
        return run_pipeline(
            self._transport, [other, *stages], action=action, timeout=self._timeout, allowed=(allowed,), beside=one
        )

    def _compare(
        self, target: Target, offset: Size, length: int, filters: list[tuple[str, ...]], expected: str
    ) -> Verification:
        """Turn what should be there into zeros, and count what is not zero."""
        action = f"compare {target.path} with {expected}"
        result = self._read(target, offset, length, [*filters, ("tr", "-d", "\\000"), ("wc", "-c")], action)
        if not result.text.strip().isdigit():
            raise UnreadableOutputError(result, "wc printed no number")
        differing = int(result.text)
        transfer = Transfer(target.path, offset, Size(length), result.seconds)
        if not differing:
            return Verification(transfer, expected, 0)
        return Verification(
            transfer, expected, differing, offset + self._first(target, offset, length, filters, action)
        )

    def _first(self, target: Target, offset: int, length: int, filters: list[tuple[str, ...]], action: str) -> Size:
        """Return how far into the range the first byte lies that does not become zero."""
        found = run_pipeline(
            self._transport,
            [target.reader(offset, length), *filters, ("cmp", "-", "/dev/zero")],
            action=action,
            timeout=self._timeout,
            allowed=(1,),
        )
        match = re.search(r"differ: (?:byte|char) ([0-9]+)", found.text + found.error_text)
        if match is None:
            raise UnreadableOutputError(found, "cmp did not say where the bytes differ")
        return Size(int(match[1]) - 1)


def _require_copied(result: CommandResult, length: int, action: str, *, times: int = 1) -> None:
    """Raise unless dd or daxio says that it copied every byte, and each of several that it did."""
    # Two of them may write at once, so a line need not begin with what one of them says; busybox tells records only.
    told = [int(each) for each in re.findall(r"([0-9]+) bytes", result.error_text)]
    records = re.findall(r"([0-9]+)\+0 records out", result.error_text)
    copied = told + [int(each) * chunk_of(length) for each in records[: times - len(told)]]
    if copied != [int(length)] * times:
        raise UnreadableOutputError(result, f"Could not {action}: {int(length)} bytes should have been copied")
