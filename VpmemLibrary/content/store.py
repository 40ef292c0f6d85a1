"""Writing patterns and proving them where they lie: no byte of them travels over a transport."""

from __future__ import annotations

import re
from dataclasses import dataclass

from VpmemLibrary.content.pattern import BLOCK, Pattern
from VpmemLibrary.content.pipeline import run_pipeline
from VpmemLibrary.content.target import Target, chunk_of, look_at
from VpmemLibrary.errors import ContentDiffersError, InvalidValueError, UnreadableOutputError
from VpmemLibrary.host.transport import CommandResult, Transport
from VpmemLibrary.sizes import MiB, Size

_LARGEST_READ = MiB


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
    """

    transfer: Transfer
    expected: str
    differing: int
    first: Size | None = None

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
            raise ContentDiffersError(
                f"{self.transfer.path} does not hold {self.expected}: {self.differing} of {int(self.transfer.length)} "
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

    def write(self, path: str, pattern: Pattern, *, at: int | None = None) -> Transfer:
        """Write a pattern and flush it.

        Args:
            path: A block device, a device-DAX node or a file, which is not made longer.
            pattern: What to write.
            at: Where on the target, a multiple of 4 KiB; at the pattern's own offset by default.

        Raises:
            InvalidValueError: The path is absent or the range lies outside; nothing was written.
            UnsupportedError: The path is something else.
            ToolMissingError: openssl or daxio is not installed.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, pattern.length, pattern.offset if at is None else at)
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

    def verify(self, path: str, pattern: Pattern, *, at: int | None = None) -> Verification:
        """Compare a range with a pattern, byte for byte, on the machine itself.

        Args:
            path: A block device, a device-DAX node or a file.
            pattern: What should be there.
            at: Where on the target, a multiple of 4 KiB; at the pattern's own offset by default. A guest's pattern
                lies elsewhere on the host's device than on the guest's.

        Raises:
            InvalidValueError: The path is absent or the range lies outside.
            ToolMissingError: openssl or daxio is not installed.
            CommandError: A tool failed.
        """
        target, offset = self._target(path, pattern.length, pattern.offset if at is None else at)
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

    def _target(self, path: str, length: int | None, offset: int) -> tuple[Target, Size]:
        for what, value in (("offset", offset), ("length", length)):
            if value is not None and value % BLOCK:
                raise InvalidValueError(what, value, "a multiple of 4KiB")
        target = look_at(self._transport, path)
        target.check_range(offset, target.size - offset if length is None else length)
        return target, Size(offset)

    def _store(
        self, target: Target, offset: Size, length: int, filters: list[tuple[str, ...]], action: str
    ) -> Transfer:
        source = ("head", "-c", str(int(length)), "/dev/zero")
        result = run_pipeline(
            self._transport,
            [source, *filters, target.writer(offset, length)],
            action=action,
            timeout=self._timeout,
        )
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


def _require_copied(result: CommandResult, length: int, action: str) -> None:
    """Raise unless dd or daxio says that it copied every byte."""
    told = re.search(r"(?:^|copied )([0-9]+) bytes", result.error_text, re.MULTILINE)
    records = re.search(r"^([0-9]+)\+0 records out", result.error_text, re.MULTILINE)
    copied = int(told[1]) if told else int(records[1]) * chunk_of(length) if records else -1
    if copied != length:
        raise UnreadableOutputError(result, f"Could not {action}: {int(length)} bytes should have been copied")
