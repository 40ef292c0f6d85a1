"""Write patterns to devices and files, and verify them.

The machine itself generates and compares the bytes. They do not travel over the transport.

A long range is processed in pieces. Each piece is one command with a deadline that depends on its length. So a terabyte
may take hours, but a hung device is detected within minutes. Each write of a piece is a guarded act: the guard finds
the device again, and checks that the caller still has the leases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.content.pattern import BLOCK, Pattern
from VpmemLibrary.content.pipeline import SECOND_INPUT, SUBJECT, Guarded, Runner, run_pipeline
from VpmemLibrary.content.target import Target, TargetKind, chunk_of, inspect_path
from VpmemLibrary.errors import (
    ContentDiffersError,
    InvalidValueError,
    UnreadableOutputError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.pmem.guard import NODE, Guard, target_of
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import GiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult, Transport

PIECE = GiB
"""How many bytes one command writes or reads.

A write to a namespace locks the region for one piece at a time, so other workers do not wait for the whole range.
"""

_LARGEST_READ = MiB
_SLOWEST = 5_000_000  # bytes a second; a slower device counts as hung
_STARTING = 300.0  # seconds to wait for the region's lock and to start, on a loaded or emulated machine

COUNTED = MiB
"""The maximum number of differing bytes that `ContentStore.compare` counts. cmp prints one line for each byte."""

# cmp exits 1 if the bytes differ. This is not a failure.
_LIST = ("sh", "-c", 'cmp -l "$1" -; [ $? -le 1 ]', "sh", SECOND_INPUT)
_OVER = 3  # the exit status of awk if more than COUNTED bytes differ
_COUNT = f"NR > {COUNTED} {{ over = 1; exit {_OVER} }} END {{ print over ? NR - 1 : NR }}"


class Transfer(Struct, frozen=True):
    """A range that was written or read.

    Args:
        path: The path of the target.
        offset: The offset of the first byte.
        length: How many bytes.
        seconds: The seconds of the transfer, including the time to generate or compare the bytes.
    """

    path: str
    offset: Size
    length: Size
    seconds: float

    @property
    def throughput(self) -> float:
        """The throughput in MiB per second."""
        return self.length / MiB / self.seconds if self.seconds else float("inf")

    def __str__(self) -> str:
        return f"{self.length} at {self.offset} of {self.path} in {self.seconds:.2f} s ({self.throughput:.0f} MiB/s)"


class Verification(Struct, frozen=True):
    """The result of a comparison of bytes with the expected bytes.

    Args:
        transfer: The range that was read.
        expected: A description of the expected bytes.
        differing: How many bytes differ.
        first: The offset in the target of the first differing byte. None if no byte differs.
        more: Whether more bytes differ than were counted.
    """

    transfer: Transfer
    expected: str
    differing: int
    first: Size | None = None
    more: bool = False

    @property
    def intact(self) -> bool:
        """Whether every byte is as expected."""
        return self.differing == 0

    def require(self) -> None:
        """Raise unless every byte is as expected.

        Raises:
            ContentDiffersError: A byte differs. The message has the first differing offset and the number of bytes.
        """
        if not self.intact:
            counted = f"more than {self.differing}" if self.more else str(self.differing)
            raise ContentDiffersError(
                f"{self.transfer.path} does not contain {self.expected}: {counted} of {int(self.transfer.length)} "
                f"bytes from {self.transfer.offset} differ, the first at byte {int(self.first or 0)}."
            )


class _Subject(Struct, frozen=True):
    """The target of a command, the runner of the command, and the path that the command uses."""

    target: Target
    runner: Runner
    path: str


class ContentStore:
    """The bytes of devices and files on one machine.

    The machine needs a POSIX shell, ``dd``, ``tr``, ``cmp`` and ``wc`` (coreutils or busybox), and ``openssl``.
    Device-DAX nodes support neither read nor write, so they need ``daxio``.

    Args:
        transport: The transport to the machine: a host or a guest.
        guard: The machine's guard. With it, each write finds the namespace's device again. `must_be_unused` needs it.
        piece: How many bytes one command writes or reads, a multiple of 4 KiB.
        progress: Called with a line of text after each piece, if a range is longer than one piece.

    Raises:
        InvalidValueError: A path does not exist, a range is outside its target, or a number is not a multiple of 4 KiB.
            Nothing was written.
        UnsupportedError: A path is neither a block device, a device-DAX node nor a file, or `must_be_unused` is set and
            the store has no guard.
        NotFoundError: The namespace no longer exists.
        BusyError: The target is in use and `must_be_unused` is set, or the lock of its region was not released in time.
        LeaseLostError: The caller has lost a lease. The messages of these three errors say how much was written before.
        ToolMissingError: openssl or daxio is not installed.
        CommandError: A tool failed. Part of the range may still have its old content.

    Example::

        store = ContentStore(transport)
        pattern = Pattern("first tenant", length=Size.parse("62MiB"))
        store.write("/dev/dax0.0", pattern)
        store.verify("/dev/dax0.0", pattern).require()
    """

    def __init__(
        self,
        transport: Transport,
        *,
        guard: Guard | None = None,
        piece: int = PIECE,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._transport = transport
        self._guard = guard
        self._piece = piece
        self._progress = progress

    def write(
        self, where: Namespace | str, pattern: Pattern, *, at: int | None = None, force: bool = False
    ) -> Transfer:
        """Write a pattern and flush it.

        Args:
            where: A namespace, or the path of a block device, a device-DAX node or a file. A file keeps its size.
            pattern: The pattern.
            at: The offset in the target, a multiple of 4 KiB. The default is the pattern's own offset.
            force: Do not check whether the range is within a device. So a test can see how the tool behaves past the
                end. The call fails even if daxio writes only the bytes before the end and exits 0.
        """
        subject, offset = self._subject(where, pattern.length, pattern.offset if at is None else at, force=force)
        return self._store(subject, offset, pattern.length, pattern)

    def zero(
        self, where: Namespace | str, offset: int = 0, length: int | None = None, *, must_be_unused: bool = False
    ) -> Transfer:
        """Overwrite a range with zeros and flush it.

        Args:
            where: A namespace, or the path of a block device, a device-DAX node or a file.
            offset: The offset of the first byte, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB. The default is to the end.
            must_be_unused: Raise BusyError if the target is in use.
        """
        subject, offset = self._subject(where, length, offset, must_be_unused=must_be_unused)
        length = subject.target.size - offset if length is None else length
        return self._store(subject, offset, length, None)

    def verify(self, path: str, pattern: Pattern, *, at: int | None = None, force: bool = False) -> Verification:
        """Compare a range with a pattern, byte for byte.

        Args:
            path: A block device, a device-DAX node or a file.
            pattern: The expected pattern.
            at: The offset in the target, a multiple of 4 KiB. The default is the pattern's own offset. A guest
                and its host may have the same bytes at different offsets of their devices.
            force: Do not check whether the range is within a device. See `write`.
        """
        target, offset = self._target(path, pattern.length, pattern.offset if at is None else at, force=force)
        return self._compare(self._readable(target), offset, pattern.length, pattern)

    def verify_zero(self, path: str, offset: int = 0, length: int | None = None) -> Verification:
        """Compare a range with zeros, byte for byte.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: The offset of the first byte, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB. The default is to the end.
        """
        target, offset = self._target(path, length, offset)
        length = target.size - offset if length is None else length
        return self._compare(self._readable(target), offset, length, None)

    def wipe(
        self, where: Namespace | str, offset: int = 0, length: int | None = None, *, must_be_unused: bool = False
    ) -> Transfer:
        """Overwrite a range with zeros, flush it, and read it again to prove that it contains only zeros.

        Args:
            where: A namespace, or the path of a block device, a device-DAX node or a file.
            offset: The offset of the first byte, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB. The default is to the end.
            must_be_unused: Raise BusyError if the target is in use.

        Returns:
            The transfer of the write. Its time does not include the proof.

        Raises:
            ContentDiffersError: A byte is not zero, although the tools reported success.
        """
        subject, offset = self._subject(where, length, offset, must_be_unused=must_be_unused)
        length = subject.target.size - offset if length is None else length
        written = self._store(subject, offset, length, None)
        try:
            proof = self._compare(subject, offset, length, None)
        except VpmemError as error:
            error.add(f"The whole range was overwritten ({written}), but it was not read again to check that.")
            raise
        proof.require()
        return written

    def copy(
        self,
        source: str,
        where: Namespace | str,
        *,
        offset: int = 0,
        at: int | None = None,
        length: int | None = None,
        must_be_unused: bool = False,
    ) -> Transfer:
        """Copy a range of one target to another target, and flush it.

        Args:
            source: The path to read: a block device, a device-DAX node or a file.
            where: The target to write: a namespace, or a path.
            offset: The offset of the first byte to read, a multiple of 4 KiB.
            at: The offset of the first byte to write, a multiple of 4 KiB. The default is `offset`.
            length: How many bytes, a multiple of 4 KiB. The default is to the end of the source.
            must_be_unused: Raise BusyError if the written target is in use.
        """
        read, start = self._target(source, length, offset)
        length = read.size - start if length is None else length
        subject, there = self._subject(where, length, offset if at is None else at, must_be_unused=must_be_unused)
        path = subject.target.path
        action = f"copy {Size(length)} of {source} to {path}"

        def copy(done: int, part: int) -> CommandResult:
            stages = [read.reader(start + done, part), _place(subject).writer(there + done, part)]
            result = self._act(subject, stages, part, action)
            _require_copied(result, part, action, times=2)
            return result

        seconds = sum(result.seconds for _, result in self._in_pieces(length, action, copy))
        return Transfer(path, there, Size(length), seconds)

    def compare(
        self, path: str, other: str, *, offset: int = 0, at: int | None = None, length: int | None = None
    ) -> Verification:
        """Compare two targets byte for byte.

        Args:
            path: A block device, a device-DAX node or a file. The result has the offsets of this target.
            other: The other block device, device-DAX node or file.
            offset: The offset of the first byte, a multiple of 4 KiB.
            at: The offset of the first byte in the other target. The default is `offset`.
            length: How many bytes, a multiple of 4 KiB. The default is to the end of both targets, if both ranges then
                have the same length.

        Returns:
            The result of the comparison. At most 1 MiB of differing bytes are counted.

        Raises:
            InvalidValueError: `length` is not given and the lengths of the two ranges differ.
        """
        target, start = self._target(path, length, offset)
        second, there = self._target(other, length, start if at is None else at)
        if length is None:
            length = target.size - start
            if second.size - there != length:
                raise InvalidValueError(
                    "length",
                    "all",
                    f"a length that fits both targets: {path} has {int(length)} bytes from {start} on, {other} has "
                    f"{int(second.size - there)} from {there} on",
                )
        action = f"compare {path} with {other}"
        expected = f"the content of {other} at {there}"
        one, two = target.reader(start, length), second.reader(there, length)

        def run(*stages: tuple[str, ...], allowed: int) -> CommandResult:
            return run_pipeline(
                self._transport, [two, *stages], action=action, timeout=deadline(length), allowed=(allowed,), beside=one
            )

        found = run(("cmp", SECOND_INPUT, "-"), allowed=1)
        transfer = Transfer(path, start, Size(length), found.seconds)
        differs = re.search(r"differ: (?:byte|char) ([0-9]+)", found.text + found.error_text)
        if found.exit_status == 0:
            _require_copied(found, length, action, times=2)
            return Verification(transfer, expected, 0)
        if differs is None:
            raise UnreadableOutputError(found, f"Could not {action}: cmp did not report where they differ")
        counted = run(_LIST, ("awk", _COUNT), allowed=_OVER)
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
            offset: The offset of the first byte, a multiple of 4 KiB.
            length: How many bytes, a multiple of 4 KiB. The default is to the end.
        """
        target, offset = self._target(path, length, offset)
        length = target.size - offset if length is None else length
        result = self._read(self._readable(target), offset, length, [("sha256sum",)], f"read {path}")
        digest = result.text.split(" ", 1)[0]
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            raise UnreadableOutputError(result, "sha256sum printed no digest")
        return digest

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Read some bytes, such as a label or an info block, over the transport.

        Args:
            path: A block device, a device-DAX node or a file.
            offset: The offset of the first byte. It needs no alignment.
            length: How many bytes, at most 1 MiB.

        Raises:
            InvalidValueError: The length is too large.
        """
        if length > _LARGEST_READ:
            raise InvalidValueError("length", str(Size(length)), f"{Size(_LARGEST_READ)} at most; see checksum")
        target = inspect_path(self._transport, path)
        target.check_range(offset, length)
        start = offset // BLOCK * BLOCK
        end = min(int(Size(offset + length).up_to(BLOCK)), int(target.size))
        result = self._read(self._readable(target), start, end - start, [], f"read {path}")
        return result.stdout[offset - start : offset - start + length]

    def size(self, path: str) -> Size:
        """Return the size of a block device, a device-DAX node or a file."""
        return inspect_path(self._transport, path).size

    def _target(self, path: str, length: int | None, offset: int, *, force: bool = False) -> tuple[Target, Size]:
        for what, value in (("offset", offset), ("length", length)):
            if value is not None and value % BLOCK:
                raise InvalidValueError(what, value, "a multiple of 4KiB")
        target = inspect_path(self._transport, path)
        if force and target.kind is not TargetKind.file and offset >= 0:
            return target, Size(offset)
        target.check_range(offset, target.size - offset if length is None else length)
        return target, Size(offset)

    def _subject(
        self,
        where: Namespace | str,
        length: int | None,
        offset: int,
        *,
        force: bool = False,
        must_be_unused: bool = False,
    ) -> tuple[_Subject, Size]:
        """Inspect the device or file at its path now. Return the target to change, and the offset in the target."""
        path = where if isinstance(where, str) else where.device
        target, start = self._target(path, length, offset, force=force)
        if self._guard is None:
            if must_be_unused:
                raise UnsupportedError(
                    f"This store has no guard, so it cannot check whether {path} on {self._transport.name} is in use."
                )
            return _Subject(target, self._transport, path), start
        return _Subject(target, Guarded(self._guard, target_of(where), must_be_unused), NODE), start

    def _readable(self, target: Target) -> _Subject:
        return _Subject(target, self._transport, target.path)

    def _in_pieces(
        self, length: int, action: str, run: Callable[[int, int], CommandResult]
    ) -> Iterator[tuple[int, CommandResult]]:
        """Call `run` for each piece of a range. Yield the offset of the piece in the range, and the result.

        `run` gets the offset of the piece in the range, and the length of the piece.
        """
        done = 0
        while done < length:
            part = int(min(self._piece, length - done))  # an int, because a command would show a Size as 2MiB
            try:
                result = run(done, part)
            except VpmemError as error:
                if done:
                    error.add(f"{Size(done)} of {Size(length)} were done before the failure.")
                raise
            yield done, result
            done += part
            if self._progress and length > self._piece:
                self._progress(f"{action}: {Size(done)} of {Size(length)}")

    def _act(
        self, subject: _Subject, stages: list[tuple[str, ...]], length: int, action: str, allowed: tuple[int, ...] = ()
    ) -> CommandResult:
        """Run a pipeline on a target. Fail if the kind or size of the target has changed."""
        about = {"subject": subject.path, "condition": subject.target.condition}
        return run_pipeline(subject.runner, stages, action=action, timeout=deadline(length), allowed=allowed, **about)

    def _store(self, subject: _Subject, offset: Size, length: int, pattern: Pattern | None) -> Transfer:
        """Write zeros or a pattern to a range."""
        path = subject.target.path
        action = f"write {pattern or 'zeros'} to {path}"

        def store(done: int, part: int) -> CommandResult:
            stages = [_place(subject).zeroer(offset + done, part)]
            if pattern:
                zeros = ("head", "-c", str(part), "/dev/zero")
                stages = [zeros, *_filters(pattern, done, part), _place(subject).writer(offset + done, part)]
            result = self._act(subject, stages, part, action)
            _require_copied(result, part, action)
            return result

        seconds = sum(result.seconds for _, result in self._in_pieces(length, action, store))
        return Transfer(path, offset, Size(length), seconds)

    def _read(
        self, subject: _Subject, offset: int, length: int, filters: list[tuple[str, ...]], action: str
    ) -> CommandResult:
        result = self._act(subject, [_place(subject).reader(offset, length), *filters], length, action)
        _require_copied(result, length, action)
        return result

    def _compare(self, subject: _Subject, offset: Size, length: int, pattern: Pattern | None) -> Verification:
        """Count the bytes that differ from the pattern or from zeros. The cipher turns the pattern into zeros."""
        path, expected = subject.target.path, str(pattern or "zeros")
        action = f"compare {path} with {expected}"

        def count(done: int, part: int) -> CommandResult:
            stages = [*_filters(pattern, done, part), ("tr", "-d", "\\000"), ("wc", "-c")]
            return self._read(subject, offset + done, part, stages, action)

        seconds, differing, first = 0.0, 0, None
        for done, result in self._in_pieces(length, action, count):
            if not result.text.strip().isdigit():
                raise UnreadableOutputError(result, "wc printed no number")
            seconds += result.seconds
            differing += int(result.text)
            if differing and first is None:
                part = int(min(self._piece, length - done))
                filters = _filters(pattern, done, part)
                first = Size(offset + done + self._first(subject, offset + done, part, filters, action))
        return Verification(Transfer(path, offset, Size(length), seconds), expected, differing, first)

    def _first(self, subject: _Subject, offset: int, length: int, filters: list[tuple[str, ...]], action: str) -> Size:
        """Return the offset of the first differing byte, counted from the start of the range."""
        stages = [_place(subject).reader(offset, length), *filters, ("cmp", "-", "/dev/zero")]
        found = self._act(subject, stages, length, action, allowed=(1,))
        match = re.search(r"differ: (?:byte|char) ([0-9]+)", found.text + found.error_text)
        if match is None:
            raise UnreadableOutputError(found, "cmp did not report where the bytes differ")
        return Size(int(match[1]) - 1)


def deadline(length: int) -> float:
    """Return the maximum seconds of a command that writes or reads `length` bytes."""
    return _STARTING + length / _SLOWEST


def _place(subject: _Subject) -> Target:
    """Return the target with the placeholder `SUBJECT` as its path. `run_pipeline` replaces it by the real path."""
    return replace(subject.target, path=SUBJECT)


def _filters(pattern: Pattern | None, done: int, length: int) -> list[tuple[str, ...]]:
    """Return the cipher for one piece of a pattern. It turns zeros into the piece, and the piece into zeros."""
    return [replace(pattern, offset=pattern.offset + done, length=length).cipher] if pattern else []


def _require_copied(result: CommandResult, length: int, action: str, *, times: int = 1) -> None:
    """Raise unless dd or daxio reports, `times` times, that it copied every byte."""
    # Two programs may report at the same time, so a report may start inside a line. busybox reports only records.
    reported = [int(each) for each in re.findall(r"([0-9]+) bytes", result.error_text)]
    records = re.findall(r"([0-9]+)\+0 records out", result.error_text)
    copied = reported + [int(each) * chunk_of(length) for each in records[: times - len(reported)]]
    if copied != [int(length)] * times:
        raise UnreadableOutputError(result, f"Could not {action}: the tool did not copy all {int(length)} bytes")
