"""What a command prints, kept up to a limit."""

from __future__ import annotations

from VpmemLibrary.transport.base import OUTPUT_LIMIT


class Output:
    """The first `OUTPUT_LIMIT` bytes of an output. What comes after them is dropped."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.too_large = False
        """Whether anything was dropped."""

    def add(self, data: bytes) -> None:
        """Add what came."""
        room = OUTPUT_LIMIT - len(self.data)
        self.data += data[:room]
        self.too_large |= len(data) > room

    def take(self) -> bytes:
        """Return what there is and forget it."""
        taken, self.data = bytes(self.data), bytearray()
        return taken
