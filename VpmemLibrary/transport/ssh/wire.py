"""Read and write the data types of the SSH protocol (RFC 4251, section 5). The bytes to read may be invalid."""

from __future__ import annotations

from typing import Final


class Reader:
    """Reads one value after another.

    Example: ``Reader(key).text()`` is the type of a public key.
    """

    def __init__(self, data: bytes) -> None:
        self._data: Final = data
        self.position = 0

    def take(self, size: int) -> bytes:
        """Return `size` bytes.

        Raises:
            ValueError: Fewer bytes are left.
        """
        taken = self._data[self.position : self.position + size]
        if len(taken) < size:
            raise ValueError("it ends too early")
        self.position += size
        return taken

    def number(self) -> int:
        """Return an unsigned integer of 32 bits."""
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Return a string of bytes."""
        return self.take(self.number())

    def text(self) -> str:
        """Return a string of bytes as text. Bytes that are not UTF-8 become replacement characters."""
        return self.string().decode("utf-8", "replace")


def packed(*values: bytes | str) -> bytes:
    """Return strings in the format of the protocol.

    Example: ``packed("ssh-ed25519", public_key)``.
    """
    parts = [value.encode() if isinstance(value, str) else value for value in values]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
