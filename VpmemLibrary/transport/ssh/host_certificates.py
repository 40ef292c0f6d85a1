"""Parse and check host certificates (OpenSSH's PROTOCOL.certkeys) by the rules of ssh.

A host may show a certificate instead of a plain key.
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import cast

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import SSHCertificate, SSHCertificateType, load_ssh_public_identity
from msgspec import Struct

from VpmemLibrary.transport.ssh.known_hosts import HostKey
from VpmemLibrary.transport.ssh.patterns import matches
from VpmemLibrary.transport.ssh.public_keys import SUFFIX, PublicKey
from VpmemLibrary.transport.ssh.wire import Reader, packed

_FOREVER = (1 << 64) - 1
_SHA1 = "ssh-rsa"


class Certificate(Struct, frozen=True):
    """A parsed certificate. Parsing does not check its validity.

    Args:
        key: The certified key.
        blob: The certificate itself.
        authority: The key of the certificate authority (CA) that signed the certificate.
        signature: The algorithm of the CA's signature.
        parsed: The other fields.
    """

    key: PublicKey
    blob: PublicKey
    authority: HostKey
    signature: str
    parsed: SSHCertificate

    @property
    def of_host(self) -> bool:
        """Whether this is a host certificate. Otherwise it is a user certificate."""
        return self.parsed.type is SSHCertificateType.HOST

    @property
    def identity(self) -> str:
        """The key id that the CA gave to the certificate."""
        return self.parsed.key_id.decode("utf-8", "replace")

    @property
    def principals(self) -> tuple[str, ...]:
        """The names of the certified hosts or users."""
        return tuple(name.decode("utf-8", "replace") for name in self.parsed.valid_principals)

    def invalid_now(self) -> str:
        """Return why the certificate is not valid now; an empty text if it is valid."""
        now = time.time()
        if now < self.parsed.valid_after:
            return f"it is not valid before {_date(self.parsed.valid_after)}"
        if now >= self.parsed.valid_before:
            return f"it was valid until {_date(self.parsed.valid_before)}"
        return ""

    def why_not_signed(self) -> str:
        """Return why the CA's signature is not accepted; an empty text if it is accepted."""
        if self.signature == _SHA1:
            return "its CA signed it with SHA-1, which is not safe: sign it again with ssh-keygen -t rsa-sha2-512"
        try:
            self.parsed.verify_cert_signature()
        except (InvalidSignature, UnsupportedAlgorithm, ValueError, NotImplementedError, TypeError, AssertionError):
            return "its CA did not make its signature"
        return ""

    def why_not_for(self, name: str) -> str:
        """Return why the host `name` may not use the certificate; an empty text if it may."""
        if not self.of_host:
            return "it is a certificate of a user, not of a host (it was signed without ssh-keygen -h)"
        if why := self.invalid_now() or self.why_not_signed():
            return why
        if not self.principals:
            return "it names no host: sign it again with ssh-keygen -n NAME"
        if not any(matches(principal.lower(), name.lower()) for principal in self.principals):
            return f"it is for {', '.join(map(repr, self.principals[:8]))}, not for {name!r}"
        if self.parsed.critical_options:
            options = ", ".join(repr(option.decode("utf-8", "replace")) for option in self.parsed.critical_options)
            return f"it has critical options that are not known: {options}"
        return ""


def parse_certificate(data: bytes) -> Certificate:
    """Parse a certificate in its wire format.

    Raises:
        ValueError: The data is not a certificate, or its kind is not supported. The text says why.
    """
    reader = Reader(data)
    kind = reader.text()
    if not kind.endswith(SUFFIX):
        raise ValueError(f"a key of type {kind} is no certificate")
    reader.string()  # a nonce
    start = reader.position
    for _ in range(1 if kind.startswith("ssh-ed25519") else 2):  # the fields of the public key
        reader.string()
    plain = kind.removesuffix(SUFFIX)
    key = PublicKey(plain, packed(plain) + data[start : reader.position])
    reader.take(8 + 4)  # serial number; user or host
    reader.string()  # key id
    reader.string()  # principals
    reader.take(8 + 8)  # start and end of validity
    for _ in range(3):  # options, extensions, a reserved field
        reader.string()
    authority, signature = reader.string(), reader.string()
    if Reader(authority).text().startswith("sk-"):
        raise ValueError("its CA is a FIDO key, whose signatures are not supported: use a CA of another kind")
    try:
        line = kind.encode() + b" " + base64.b64encode(data)
        parsed = cast("SSHCertificate", load_ssh_public_identity(line))  # its type implies the suffix
    except (UnsupportedAlgorithm, NotImplementedError, TypeError) as error:
        raise ValueError(f"certificates of type {kind} are not supported ({error})") from error
    return Certificate(
        key, PublicKey(kind, data), HostKey(Reader(authority).text(), authority), Reader(signature).text(), parsed
    )


def _date(seconds: int) -> str:
    if seconds == _FOREVER:
        return "for ever"
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"
