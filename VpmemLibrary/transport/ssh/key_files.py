"""Read private key files of every kind. If a kind is not supported, say which kind it is and what to do."""

from __future__ import annotations

import base64
import itertools
import re
import shlex
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    load_ssh_private_key,
)
from msgspec import Struct

from VpmemLibrary.transport.bounded_file import read_bounded
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.ssh.public_keys import SUFFIX, PublicKey, decode_key
from VpmemLibrary.transport.ssh.signing import SSH_CURVES, PrivateKey
from VpmemLibrary.transport.ssh.wire import Reader

_LARGEST = 1 << 20  # same limit as ssh
_MOST_ROUNDS = 4000  # of bcrypt: about a minute
_MAGIC = b"openssh-key-v1\0"
_BLOCK = re.compile(rb"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_PARAMETERS = b"EC PARAMETERS"  # openssl ecparam -genkey writes this block before the key
_PRIVATE = ("OPENSSH PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY")
_SMALLEST_RSA = 1024  # bits, same limit as ssh
_DAMAGED = "it is an OpenSSH key, but it is damaged: its beginning cannot be read"
_CIPHERS = ("aes256-ctr", "aes256-cbc", "aes256-gcm@openssh.com")
_PUBLIC_TYPE = re.compile(r"(sk-)?(ssh|ecdsa|rsa)-[\w@.-]+")
_PKCS12 = b"\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"  # the OID of PKCS#7 data, which a PKCS#12 file contains
_BOM = b"\xef\xbb\xbf"


class KeyFile(Struct, frozen=True):
    """The content of a key file.

    Args:
        path: The file.
        key: The private key, if it is usable.
        public: The public key, if it is readable. The public key of a locked private key is readable.
        problem: The kind of the file and what to do, if it has no usable private key.
    """

    path: Path
    key: PrivateKey | None
    public: PublicKey | None
    problem: str = ""


class _UnusableError(Exception):
    """The file has no usable private key. The text says what kind of file it is and what to do."""


def read_key_file(path: Path, passphrase: str | None = None) -> KeyFile:
    """Read a key file. The content of the file never causes an exception.

    Args:
        path: The file.
        passphrase: The passphrase of the key. It is ignored if the key is not locked.

    Raises:
        FileNotFoundError: The file does not exist.
        ControllerError: This machine has no descriptor left.
    """
    try:
        content = read_bounded(path, _LARGEST)
    except FileNotFoundError:
        raise
    except IsADirectoryError:
        return KeyFile(path, None, None, f"it is a directory: name the key in it, e.g. {path / 'id_ed25519'}")
    except OSError as error:
        if short := shortage(f"read {path}", error):
            raise short from error
        return KeyFile(path, None, None, f"it cannot be read: {error.strerror}")
    if b"-----\\n" in content:
        command = f"printf '%b' \"$(cat {shlex.quote(str(path))})\" > NEW"
        return KeyFile(path, None, None, f"its line breaks are written as \\n: convert it with {command}")
    public: PublicKey | None = None
    try:
        public = _public_half(content)
        secret = passphrase.encode("utf-8", "surrogateescape") if passphrase else None
        key = _private_key(content, shlex.quote(str(path)), secret)
    except _UnusableError as error:
        return KeyFile(path, None, public or _beside(path), str(error))
    return KeyFile(path, key, key.public)


def _private_key(content: bytes, name: str, passphrase: bytes | None) -> PrivateKey:
    if not content.strip():
        raise _UnusableError("it is empty")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _UnusableError(f"it is a text in UTF-16: convert it with iconv -f UTF-16 -t UTF-8 {name} > NEW")
    content = content.removeprefix(_BOM)
    if content.startswith((b"\x30\x81", b"\x30\x82", b"\x30\x2e")):
        if _PKCS12 in content[:64]:
            raise _UnusableError(
                f"it is a PKCS#12 file (.p12, .pfx): convert it with openssl pkcs12 -in {name} -nocerts -out NEW"
            )
        return _loaded(load_der_private_key, content, "a binary (DER) key", name, passphrase)
    blocks = [match for match in _BLOCK.finditer(content) if match[1] != _PARAMETERS]
    if not blocks:
        raise _UnusableError(_kind_of_text(content, name))
    blocks.sort(key=lambda match: match[1].decode() not in _PRIVATE)  # a bundle may have its certificates first
    tag = blocks[0][1].decode()
    block = b"\n".join(line.strip() for line in blocks[0][0].splitlines()) + b"\n"
    if tag == "OPENSSH PRIVATE KEY":
        _check_openssh(_header(blocks[0][2]), name, passphrase)
        return _loaded(load_ssh_private_key, block, "an OpenSSH key", name, passphrase)
    if tag == "DSA PRIVATE KEY":
        raise _UnusableError(_UNUSABLE_TYPES["ssh-dss"])
    if tag in _PRIVATE:
        return _loaded(load_pem_private_key, block, f"a PEM file ({tag})", name, passphrase)
    raise _UnusableError(_kind_of_block(tag, name))


def _loaded(load: object, data: bytes, kind: str, name: str, passphrase: bytes | None) -> PrivateKey:
    for secret in (passphrase, None) if passphrase else (None,):
        try:
            return _usable(load(data, secret))  # type: ignore[operator]  # three functions with the same signature
        except _UnusableError:
            raise
        except TypeError:  # a locked key without a passphrase, or a passphrase without a locked key
            continue
        except UnsupportedAlgorithm as error:
            raise _UnusableError(
                f"it is {kind} of a type that is not supported ({error}). If ssh can read it, write it again with "
                f"ssh-keygen -p -f {name}, or load it into an agent with ssh-add {name}"
            ) from error
        except Exception as error:  # the loaders raise many kinds of errors for invalid data
            if str(error).startswith(_UNKNOWN_CIPHERS):
                raise _UnusableError(
                    f"it is {kind} that is locked with an old or rare cipher, which is not supported: lock it with "
                    f"another cipher (openssl pkey -provider legacy -provider default -aes256 -in {name} -out NEW)"
                ) from error
            if secret:
                raise _UnusableError(f"it is {kind}, and key_passphrase is wrong, or it is damaged") from error
            raise _UnusableError(f"it is {kind}, but it is damaged or not a private key") from error
    raise _UnusableError(_locked(name))


_UNKNOWN_CIPHERS = ("Key encrypted with unknown cipher", "Unknown key encryption algorithm")
"""The beginnings of cryptography's messages for an unknown cipher. A wrong passphrase raises the same type of error."""


def _locked(name: str) -> str:
    return f"it is locked: give key_passphrase, or start an agent and load it with ssh-add {name}"


def _usable(key: object) -> PrivateKey:
    if isinstance(key, dsa.DSAPrivateKey):
        raise _UnusableError(_UNUSABLE_TYPES["ssh-dss"])
    if isinstance(key, ec.EllipticCurvePrivateKey) and key.curve.name not in SSH_CURVES:
        raise _UnusableError(
            f"it is an EC key of the curve {key.curve.name}, which SSH does not have: make a key with ssh-keygen -t "
            "ed25519"
        )
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)):
        kind = type(key).__name__.removesuffix("PrivateKey")
        raise _UnusableError(
            f"it is a {kind} key, which SSH servers do not accept: make a key with ssh-keygen -t ed25519"
        )
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < _SMALLEST_RSA:
        raise _UnusableError(
            f"it is an RSA key of {key.key_size} bits, which SSH servers do not accept: make a key with ssh-keygen -t "
            "ed25519"
        )
    text = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
    return PrivateKey(PublicKey(text.split()[0], base64.b64decode(text.split()[1])), key)


def _header(block: bytes) -> tuple[str, str, bytes, PublicKey]:
    """Return the cipher, the key derivation, its options and the public key of a key in OpenSSH's own format."""
    try:
        data = base64.b64decode(block)
        reader = Reader(data[len(_MAGIC) :])
        cipher, derivation, options, _ = reader.text(), reader.text(), reader.string(), reader.number()
        public = reader.string()
        kind = Reader(public).text()
    except ValueError as error:
        raise _UnusableError(_DAMAGED) from error
    if not data.startswith(_MAGIC):
        raise _UnusableError(_DAMAGED)
    return cipher, derivation, options, PublicKey(kind, public)


def _check_openssh(header: tuple[str, str, bytes, PublicKey], name: str, passphrase: bytes | None) -> None:
    cipher, derivation, options, public = header
    if public.type.startswith("sk-"):
        raise _UnusableError(
            f"it is a FIDO key ({public.type}), which needs its security key to sign: plug in the security key, and "
            f"load this key into an agent with ssh-add {name}; or give a key of another kind (ssh-keygen -t ed25519)"
        )
    if public.type in _UNUSABLE_TYPES:
        raise _UnusableError(_UNUSABLE_TYPES[public.type])
    if cipher == "none":
        return
    if cipher not in _CIPHERS:
        raise _UnusableError(
            f"it is locked with the cipher {cipher}, which is not supported: lock it with another cipher "
            f"(ssh-keygen -p -Z aes256-ctr -f {name}), or load it into an agent with ssh-add {name}"
        )
    if not passphrase:
        raise _UnusableError(_locked(name))
    try:
        reader = Reader(options)
        reader.string()
        rounds = reader.number()
    except ValueError as error:
        raise _UnusableError(_DAMAGED) from error
    if derivation == "bcrypt" and rounds > _MOST_ROUNDS:
        raise _UnusableError(
            f"unlocking it takes {rounds} rounds of bcrypt, more than the {_MOST_ROUNDS} that are supported: lock it "
            f"again with ssh-keygen -p -a 100 -f {name}"
        )


_UNUSABLE_TYPES = {
    "ssh-dss": "it is a DSA key, which SSH servers no longer accept: make a key with ssh-keygen -t ed25519",
    "ssh-xmss@openssh.com": "it is an XMSS key, which is not supported: make a key with ssh-keygen -t ed25519",
}

_BLOCKS = (
    ("SSH2 ENCRYPTED PRIVATE", "a key of SSH.com's software: convert it with ssh-keygen -i -f {name} > NEW"),
    ("PGP", "a PGP (GnuPG) file: for a key in GnuPG use gpg-agent as SSH agent (enable-ssh-support)"),
    ("AGE ENCRYPTED", "a file that age encrypted: decrypt it with age -d {name} > NEW"),
    ("CERTIFICATE", "an X.509 certificate: give the private key that belongs to it"),
    ("TSS2 PRIVATE", "a key of a TPM: load it into an agent that can use the TPM, e.g. ssh-tpm-agent"),
    ("SSH SIGNATURE", "a signature of ssh-keygen -Y: give a private key"),
    ("PUBLIC KEY", "a public key: give the private key"),
)


def _kind_of_block(tag: str, name: str) -> str:
    for part, kind in _BLOCKS:
        if part in tag:
            return "it is " + kind.format(name=name)
    return f"it is a PEM file of another kind ({tag}): give a private key in OpenSSH or PEM form"


_PGP_BYTES = (b"\x80", b"\x85", b"\x94", b"\x95", b"\x99", b"\xc5", b"\xc6")
_BEGINNINGS = (
    (
        (b"PuTTY-User-Key-File-",),
        "it is a key of PuTTY (.ppk): convert it with puttygen {name} -O private-openssh -o NEW (package putty-tools), "
        "and give NEW",
    ),
    (
        (b"SSH PRIVATE KEY FILE FORMAT 1",),
        "it is a key of SSH protocol 1, which no server accepts: make a key with ssh-keygen -t ed25519",
    ),
    ((b"age-encryption.org/",), "it is a file that age encrypted: decrypt it with age -d {name} > NEW"),
    ((b"AGE-SECRET-KEY-", b"# created: "), "it is a key of age, which encrypts files: give a private key of SSH"),
    ((b"$ANSIBLE_VAULT;",), "it is encrypted by Ansible: decrypt it with ansible-vault decrypt --output NEW {name}"),
    ((b"LS0tLS1CRUdJTi",), "it is a key that was encoded in base64 twice: decode it with base64 -d {name} > NEW"),
    (_PGP_BYTES, "it looks like a PGP (GnuPG) file: for a key in GnuPG use gpg-agent as SSH agent"),
)


def _kind_of_text(content: bytes, name: str) -> str:
    for beginnings, kind in _BEGINNINGS:
        if content.startswith(beginnings):
            return kind.format(name=name)
    if found := re.search(rb"---- ?BEGIN (SSH2 [A-Z ]+?) ?----", content):
        return _kind_of_block(found[1].decode(), name)
    if found := re.search(rb"-----BEGIN ([A-Z0-9 ]+)-----", content):
        return f"it is a PEM file ({found[1].decode()}), but its end is missing: copy the whole file"
    return _kind_of_public(content, name)


def _kind_of_public(content: bytes, name: str) -> str:
    public = _public_line(content)
    if public is None:
        return "this is not a private key: give a key in OpenSSH or PEM form, e.g. from ssh-keygen -t ed25519"
    if public.type.endswith(SUFFIX):
        return "it is a certificate: give the private key NAME; the library finds NAME-cert.pub in the same directory"
    private = f", {name.removesuffix('.pub')}" if name.endswith(".pub") else ""
    return f"it is a public key: give the private key{private}, or load the private key into an agent"


def _public_line(content: bytes) -> PublicKey | None:
    for line in content[:65536].decode("utf-8", "replace").splitlines():
        words = line.split()
        for kind, text in itertools.pairwise(words):
            if _PUBLIC_TYPE.fullmatch(kind) and (data := decode_key(kind, text)):
                return PublicKey(kind, data)
    return None


def _public_half(content: bytes) -> PublicKey | None:
    """Return the public key in a public key file, or at the beginning of a private key in OpenSSH's own format."""
    for match in _BLOCK.finditer(content):
        if match[1] == b"OPENSSH PRIVATE KEY":
            return _header(match[2])[3]
    return _public_line(content)


def _beside(path: Path) -> PublicKey | None:
    try:
        return _public_line(read_bounded(path.with_name(path.name + ".pub"), _LARGEST))
    except OSError:
        return None
