"""Read the known keys of a host from OpenSSH's known-hosts files (sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT")."""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.record import compare_without
from VpmemLibrary.transport.bounded_file import read_bounded
from VpmemLibrary.transport.ssh.patterns import matches_any
from VpmemLibrary.transport.ssh.public_keys import PublicKey, decode_key

_AUTHORITY = "@cert-authority"
_REVOKED = "@revoked"
_HASHED = "|1|"
_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_RSA_NAMES = {"rsa-sha2-256": "ssh-rsa", "rsa-sha2-512": "ssh-rsa"}
"""Names of signature algorithms that some programs write as the type of an RSA key. ssh accepts these names as well."""
_LARGEST = 32 << 20
_LONGEST_PATTERN = 1024  # same limit as ssh


@compare_without("file", "number")
class HostKey(PublicKey, frozen=True):
    """The public key of a host, or of a certificate authority (CA).

    Args:
        file: The known-hosts file of the key, if the key is from a file. Equal keys may be from different files.
        number: The line number in the file; the first line is 1.
    """

    file: Path = Path()
    number: int = 0

    @property
    def where(self) -> str:
        """The file and line of the key."""
        return f"{self.file}, line {self.number}"

    def line(self, name: str) -> str:
        """Return the known-hosts line of this key for the host `name`."""
        return f"{name} {self.type} {base64.b64encode(self.data).decode()}"


class KnownKeys(Struct, frozen=True):
    """The keys of one host in known-hosts files."""

    keys: tuple[HostKey, ...] = ()
    """The keys that the host may have."""
    revoked: tuple[HostKey, ...] = ()
    """The keys that neither the host nor a CA may use any more."""
    authorities: tuple[HostKey, ...] = ()
    """The keys of the certificate authorities (CA) that may sign a certificate of the host."""

    def __add__(self, other: KnownKeys) -> KnownKeys:
        """Return the keys of both."""
        return KnownKeys(self.keys + other.keys, self.revoked + other.revoked, self.authorities + other.authorities)


def read_known_keys(path: Path, *names: str) -> KnownKeys:
    """Return the keys of a host. As in ssh, skip unreadable lines.

    Args:
        path: The file.
        names: The host's names in the file, e.g. ``192.0.2.13`` or ``[192.0.2.13]:2222``. A line needs one name only.

    Raises:
        OSError: The file cannot be read.
        UnicodeError: The file is a text in UTF-16. PowerShell writes such a file for ``ssh-keyscan HOST > FILE``.
    """
    content = read_bounded(path, _LARGEST)
    if content.startswith(_UTF16) and content.count(0) > len(content) // 3:
        raise UnicodeError("It is a text in UTF-16")
    return parse_known_keys(content, path, names)


def parse_known_keys(content: bytes, path: Path, names: Sequence[str]) -> KnownKeys:
    """Return the keys of a host with these names in the content of the file `path`."""
    found: dict[str, list[HostKey]] = {"": [], _REVOKED: [], _AUTHORITY: []}
    for number, line in enumerate(content.removeprefix(_BOM).split(b"\n"), 1):
        words = [word.decode("utf-8", "surrogateescape") for word in line.split(maxsplit=4)[:4]]
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in found:
            continue
        kind = _RSA_NAMES.get(words[1], words[1])
        if any(_is_for(words[0], name) for name in names) and (data := decode_key(kind, words[2])):
            found[marker].append(HostKey(kind, data, path, number))
    return KnownKeys(*(tuple(keys) for keys in found.values()))


def _is_for(names: str, name: str) -> bool:
    """Return whether the first field of a line matches a host. The field is a hashed name or a list of patterns."""
    if names.startswith(_HASHED):
        return _is_hash_of(names, name) or _is_hash_of(names, name.lower())
    patterns = names.lower().split(",")
    return matches_any((each for each in patterns if len(each) <= _LONGEST_PATTERN), name.lower())


def _is_hash_of(hashed: str, name: str) -> bool:
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in hashed.removeprefix(_HASHED).split("|"))
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode("utf-8", "surrogateescape"), "sha1"), digest)
