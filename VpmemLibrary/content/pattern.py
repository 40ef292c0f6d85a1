"""Patterns: bytes generated from a seed, the same on every machine and different at every offset.

A pattern is the keystream of AES-128 in counter mode, with a key made from the seed. Any piece of a pattern can be
generated without the rest. A comparison detects bytes that were moved, swapped, or written from another seed.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import KiB, Size

BLOCK = 4 * KiB
"""Offsets and lengths are multiples of this block. Direct I/O, which bypasses the page cache, needs that."""

_CIPHER_BLOCK = 16


class Pattern(Struct, frozen=True):
    """A piece of the pattern of a seed. The pattern itself has no end.

    Args:
        seed: Any non-empty text.
        length: How many bytes, a multiple of 4 KiB.
        offset: Where the piece begins in the pattern, a multiple of 4 KiB.

    Raises:
        InvalidValueError: The seed is empty, or the length or offset is not a multiple of 4 KiB or is out of range.

    Example: ``Pattern("first tenant", length=Size.parse("62MiB"))``.
    """

    seed: str
    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        if not self.seed:
            raise InvalidValueError("seed", self.seed, "any text, e.g. 'first tenant'")
        if self.length <= 0 or self.length % BLOCK:
            raise InvalidValueError("length", _shown(self.length), "a multiple of 4KiB, at least 4KiB")
        if self.offset < 0 or self.offset % BLOCK:
            raise InvalidValueError("offset", _shown(self.offset), "a multiple of 4KiB, at least 0")

    @property
    def key(self) -> str:
        """The AES key as hexadecimal digits."""
        return hashlib.sha256(self.seed.encode()).hexdigest()[:32]

    @property
    def counter(self) -> str:
        """The first counter block as hexadecimal digits."""
        return f"{self.offset // _CIPHER_BLOCK:032x}"

    @property
    def cipher(self) -> tuple[str, ...]:
        """The command that turns zeros into the pattern, and the pattern into zeros."""
        return ("openssl", "enc", "-aes-128-ctr", "-nosalt", "-K", self.key, "-iv", self.counter)

    def __str__(self) -> str:
        return f"{Size(self.length)} of pattern {self.seed!r} from {Size(self.offset)}"


def _shown(value: int) -> str:
    return str(Size(value)) if value >= 0 else str(value)
