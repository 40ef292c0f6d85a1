"""Public keys and their fingerprints."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass

from VpmemLibrary.transport.ssh.wire import Reader

SUFFIX = "-cert-v01@openssh.com"
"""The end of the name of each type of certificate, and of its algorithms."""
_LONGEST = 64 << 10  # characters; the key of RSA with 16384 bits has 2.8 Ki


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A public key or a certificate.

    Args:
        type: Its type, e.g. ``ssh-ed25519``.
        data: The key as RFC 4253, section 6.6, encodes it.
    """

    type: str
    data: bytes

    def __str__(self) -> str:
        """Return type and fingerprint as ``ssh-keygen -l`` prints them."""
        digest = base64.b64encode(hashlib.sha256(self.data).digest()).decode().rstrip("=")
        return f"{self.type} SHA256:{digest}"


def decode_key(kind: str, text: str) -> bytes | None:
    """Return the bytes of a key that a file has as type and base64; None if they are not those of a key of that type.

    Args:
        kind: The type.
        text: The key in base64.
    """
    if len(text) > _LONGEST:
        return None
    try:
        data = base64.b64decode(text, validate=True)
        named = Reader(data).string()
    except (binascii.Error, ValueError):
        return None
    return data if named == kind.encode("utf-8", "surrogateescape") else None


def plain_type(kind: str) -> str:
    """Return the type of the key in a certificate of a type; that of a plain key is returned as it is.

    Example: ``plain_type("ssh-rsa-cert-v01@openssh.com") == "ssh-rsa"``.
    """
    return kind.replace("-cert-v01@", "@") if kind.startswith("sk-") else kind.removesuffix(SUFFIX)
