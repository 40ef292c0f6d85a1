"""Sign data with private keys. The signatures have the formats of SSH (RFC 4253, 5656, 8332, 8709)."""

from __future__ import annotations

from typing import Protocol

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from msgspec import Struct

from VpmemLibrary.record import hide_fields
from VpmemLibrary.transport.ssh.public_keys import SUFFIX, PublicKey
from VpmemLibrary.transport.ssh.wire import packed

_CURVE_HASHES: dict[str, hashes.HashAlgorithm] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}
SSH_CURVES = tuple(_CURVE_HASHES)
"""The elliptic curves of SSH keys."""
_RSA_HASHES: dict[str, hashes.HashAlgorithm] = {"rsa-sha2-512": hashes.SHA512(), "rsa-sha2-256": hashes.SHA256()}
RSA = "ssh-rsa"
"""The type of RSA keys. The signature algorithm of the same name uses SHA-1, so this library never uses it."""


class Signer(Protocol):
    """Signs with a private key."""

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return a signature in the format of SSH."""
        ...


@hide_fields("key")
class PrivateKey(Struct, frozen=True):
    """A private key in memory."""

    public: PublicKey
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return a signature in the format of SSH."""
        key = self.key
        if isinstance(key, rsa.RSAPrivateKey):
            return packed(algorithm, key.sign(data, padding.PKCS1v15(), _RSA_HASHES[algorithm]))
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return packed(algorithm, key.sign(data))
        numbers = decode_dss_signature(key.sign(data, ec.ECDSA(_CURVE_HASHES[key.curve.name])))
        return packed(algorithm, packed(*(number.to_bytes(number.bit_length() // 8 + 1, "big") for number in numbers)))


def algorithm_for(key_type: str, accepted: tuple[str, ...]) -> str | None:
    """Return the signature algorithm to use; None if the server accepts no safe algorithm.

    Args:
        key_type: The type of the key or certificate.
        accepted: The algorithms that the server accepts (``server-sig-algs``); empty if the server sent no list.

    Example: ``algorithm_for("ssh-rsa", ("ssh-ed25519", "rsa-sha2-256")) == "rsa-sha2-256"``.
    """
    plain = key_type.removesuffix(SUFFIX)
    if plain != RSA:
        return key_type
    suffix = SUFFIX if plain != key_type else ""
    usable = [algorithm for algorithm in _RSA_HASHES if not accepted or algorithm in accepted]
    return usable[0] + suffix if usable else None
