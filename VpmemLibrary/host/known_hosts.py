"""The known-hosts file of OpenSSH (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"): which keys a host may have."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from pathlib import Path

_REVOKED = "@revoked"
_HASHED = "|1|"
_LENGTH = 4  # bytes of the length before a string, RFC 4251 section 5


@dataclass(frozen=True, slots=True)
class HostKey:
    """The public key of a host.

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

    def line(self, name: str) -> str:
        """Return the line of a known-hosts file that has this key for a host of that name."""
        return f"{name} {self.type} {base64.b64encode(self.data).decode()}"


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What a known-hosts file says of one host.

    Args:
        keys: The keys that the host may have.
        revoked: The keys that it must not have any more.
    """

    keys: tuple[HostKey, ...] = ()
    revoked: tuple[HostKey, ...] = ()


def read_known_keys(path: Path, name: str) -> KnownKeys:
    """Return the keys of a host.

    Lines that cannot be read are skipped, as ssh skips them. So are certificate authorities: host certificates are not
    looked at.

    Args:
        path: The file.
        name: The host's name there, e.g. ``192.0.2.13`` or ``[192.0.2.13]:2222``.

    Raises:
        OSError: The file cannot be read.
    """
    keys: list[HostKey] = []
    revoked: list[HostKey] = []
    for line in path.read_bytes().decode("utf-8", "surrogateescape").split("\n"):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", _REVOKED):
            continue
        key = _key(words[1], words[2])
        if key is not None and _is_for(words[0], name):
            (revoked if marker else keys).append(key)
    return KnownKeys(tuple(keys), tuple(revoked))


def _key(kind: str, text: str) -> HostKey | None:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    length = int.from_bytes(data[:_LENGTH], "big")
    return HostKey(kind, data) if data[_LENGTH : _LENGTH + length] == kind.encode("utf-8", "surrogateescape") else None


def _is_for(names: str, name: str) -> bool:
    """Whether the first field of a line stands for a host: a hashed name, or patterns of which none excludes it."""
    if names.startswith(_HASHED):
        return _is_hash_of(names, name) or _is_hash_of(names, name.lower())
    matched = False
    for pattern in names.split(","):
        if _matches(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed.removeprefix(_HASHED).split("|"))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), "sha1"), digest)


def _matches(pattern: str, name: str) -> bool:
    expression = re.escape(pattern).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(expression, name, re.IGNORECASE | re.DOTALL) is not None
