"""The output of a command, kept up to a limit."""

from __future__ import annotations

from VpmemLibrary.transport.base import OUTPUT_LIMIT


class Output:
    """The first `OUTPUT_LIMIT` bytes of an output. Later bytes are dropped."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.too_large = False
        """Whether bytes were dropped."""

    def add(self, data: bytes) -> None:
        """Add received bytes."""
        room = OUTPUT_LIMIT - len(self.data)
        self.data += data[:room]
        self.too_large |= len(data) > room

    def take(self) -> bytes:
        """Return the kept bytes and remove them."""
        taken, self.data = bytes(self.data), bytearray()
        return taken
