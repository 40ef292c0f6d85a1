"""Bytes made from a seed: the same on every machine, different at every offset.

A pattern is the keystream of AES-128 in counter mode, the key being made from the seed. Any piece of it can be made by
itself, and what was moved, swapped or left over from another seed is found out.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.sizes import KiB, Size

BLOCK = 4 * KiB
"""What offsets and lengths are multiples of, so that they can be written past the page cache."""

_CIPHER_BLOCK = 16


@dataclass(frozen=True, slots=True)
class Pattern:
    """A piece of the endless pattern that a seed stands for.

    Args:
        seed: Any text but the empty one.
        length: How many bytes; a multiple of 4 KiB.
        offset: Where the piece begins in the pattern; a multiple of 4 KiB.

    Raises:
        InvalidValueError: One of them is not so.

    Example: ``Pattern("first tenant", length=Size.parse("62MiB"))``.
    """

    seed: str
    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        if not self.seed:
            raise InvalidValueError("seed", self.seed, "any text, e.g. 'first tenant'")
        if self.length <= 0 or self.length % BLOCK:
            raise InvalidValueError("length", _shown(self.length), "a multiple of 4KiB, 4KiB at least")
        if self.offset < 0 or self.offset % BLOCK:
            raise InvalidValueError("offset", _shown(self.offset), "a multiple of 4KiB, 0 at least")

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
