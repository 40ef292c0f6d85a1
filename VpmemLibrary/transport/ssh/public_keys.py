"""Public keys and their fingerprints."""

from __future__ import annotations

import base64
import binascii
import hashlib

from msgspec import Struct

from VpmemLibrary.transport.ssh.wire import Reader

SUFFIX = "-cert-v01@openssh.com"
"""The end of the names of all certificate types and of their algorithms."""
_LONGEST = 64 << 10  # characters; an RSA key with 16384 bits has 2.8 Ki


class PublicKey(Struct, frozen=True):
    """A public key or a certificate.

    Args:
        type: The type, e.g. ``ssh-ed25519``.
        data: The key as RFC 4253, section 6.6, encodes it.
    """

    type: str
    data: bytes

    def __str__(self) -> str:
        """Return the type and the fingerprint in the format of ``ssh-keygen -l``."""
        digest = base64.b64encode(hashlib.sha256(self.data).digest()).decode().rstrip("=")
        return f"{self.type} SHA256:{digest}"


def decode_key(kind: str, text: str) -> bytes | None:
    """Decode a key from its type and base64 text. Return None if the bytes are not a key of this type."""
    if len(text) > _LONGEST:
        return None
    try:
        data = base64.b64decode(text, validate=True)
        named = Reader(data).string()
    except (binascii.Error, ValueError):
        return None
    return data if named == kind.encode("utf-8", "surrogateescape") else None


def plain_type(kind: str) -> str:
    """Return the key type of a certificate type. Return the type of a plain key unchanged.

    Example: ``plain_type("ssh-rsa-cert-v01@openssh.com") == "ssh-rsa"``.
    """
    return kind.replace("-cert-v01@", "@") if kind.startswith("sk-") else kind.removesuffix(SUFFIX)
