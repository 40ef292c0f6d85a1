"""The output of a command, up to a limit."""

from __future__ import annotations

from VpmemLibrary.sizes import MiB
from VpmemLibrary.transport.base import OUTPUT_LIMIT

MOST_OUTPUT = 16 * MiB
"""Maximum bytes of an output or file from a guest, so that a guest cannot fill the memory of this process. The guest
agent has the same limit (QEMU, qga/commands.c)."""


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
