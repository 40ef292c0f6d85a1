"""Files that users give as a private key, of every kind: made for a test, or made once by their own program."""

from __future__ import annotations

import base64
import textwrap

from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from VpmemLibrary.transport.ssh.wire import packed

PASSPHRASE = "open sesame"

# puttygen 0.78: puttygen -t ed25519 -O private
PPK = b"""PuTTY-User-Key-File-3: ssh-ed25519
Encryption: none
Comment: ed25519-key-20261128
Public-Lines: 2
AAAAC3NzaC1lZDI1NTE5AAAAINxBUUfzpmz8nEJaNJ74hS7pQB7hzOmwBbwleq77
x74b
Private-Lines: 1
AAAAIMNOnwLbx3pRuVjx00bzt4pigtnxZFwfAcNqvM/fwKQC
Private-MAC: 13f951d396fd2122b28d612252a7022b04969ee110e84871627c4905c232e223
"""


def armoured(data: bytes) -> bytes:
    """Return a key in the text form of OpenSSH."""
    lines = textwrap.fill(base64.b64encode(data).decode(), 70)
    return f"-----BEGIN OPENSSH PRIVATE KEY-----\n{lines}\n-----END OPENSSH PRIVATE KEY-----\n".encode()


def openssh(
    public: bytes, private: bytes, cipher: str = "none", derivation: str = "none", options: bytes = b""
) -> bytes:
    """Return a key in OpenSSH's own form (PROTOCOL.key).

    Args:
        public: The public key.
        private: The private section after the check numbers.
        cipher: What it is locked with.
        derivation: How the cipher's key is made from the passphrase.
        options: What that takes.
    """
    section = bytes([1, 2, 3, 4]) * 2 + private
    section += bytes(range(1, 1 + -len(section) % 8))
    head = b"openssh-key-v1\0" + packed(cipher, derivation, options) + (1).to_bytes(4, "big")
    return armoured(head + packed(public, section))


def fido(kind: str = "sk-ssh-ed25519@openssh.com") -> bytes:
    """Return the file of a FIDO key as ssh-keygen -t ed25519-sk or ecdsa-sk writes it."""
    point = (bytes([7]) * 32,) if "ed25519" in kind else (b"nistp256", b"\4" + bytes([7]) * 64)
    public = packed(kind, *point, "ssh:")
    return openssh(public, public + b"\1" + packed(b"handle" * 10, b"", "me@desk"))


def pem(key: object, form: PrivateFormat, passphrase: str = "", encoding: Encoding = Encoding.PEM) -> bytes:
    """Return a private key in one of OpenSSL's forms."""
    locked: KeySerializationEncryption = BestAvailableEncryption(passphrase.encode()) if passphrase else NoEncryption()
    return key.private_bytes(encoding, form, locked)  # type: ignore[attr-defined,no-any-return]


ED25519 = ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(65537, 2048)
EC = {curve.name: ec.generate_private_key(curve) for curve in (ec.SECP256R1(), ec.SECP384R1(), ec.SECP521R1())}
PUBLIC = ED25519.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
_EC = EC["secp256r1"]


def small_rsa() -> rsa.RSAPrivateKey:
    """Return an RSA key of 511 bits, which no program makes any more."""
    p, q, e = 2**255 - 19, 2**256 - 189, 65537
    d = pow(e, -1, (p - 1) * (q - 1))
    public = rsa.RSAPublicNumbers(e, p * q)
    return rsa.RSAPrivateNumbers(p, q, d, d % (p - 1), d % (q - 1), pow(q, -1, p), public).private_key()


_OPENSSH, _PKCS1, _PKCS8 = PrivateFormat.OpenSSH, PrivateFormat.TraditionalOpenSSL, PrivateFormat.PKCS8

GOOD: dict[str, bytes] = {
    "openssh ed25519": pem(ED25519, _OPENSSH),
    "openssh rsa": pem(RSA, _OPENSSH),
    "pkcs1 rsa": pem(RSA, _PKCS1),
    "pkcs8 rsa": pem(RSA, _PKCS8),
    "pkcs8 ed25519": pem(ED25519, _PKCS8),
    "der rsa": pem(RSA, _PKCS8, encoding=Encoding.DER),
    "der ed25519": pem(ED25519, _PKCS8, encoding=Encoding.DER),
    **{f"openssh {name}": pem(key, _OPENSSH) for name, key in EC.items()},
    **{f"sec1 {name}": pem(key, _PKCS1) for name, key in EC.items()},
    **{f"pkcs8 {name}": pem(key, _PKCS8) for name, key in EC.items()},
    "after parameters": b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    + pem(_EC, _PKCS1),
    "with CRLF": pem(RSA, _PKCS1).replace(b"\n", b"\r\n"),
    "after a BOM": b"\xef\xbb\xbf" + pem(ED25519, _OPENSSH),
    "indented": textwrap.indent(pem(ED25519, _OPENSSH).decode(), "    ").encode(),
    "after a comment": b"# of the lab\n\xfc\n\n" + pem(ED25519, _OPENSSH),
    "without a last newline": pem(ED25519, _OPENSSH).rstrip(),
    "after its certificate": b"Bag Attributes\n-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
    + pem(RSA, _PKCS8),
    "in one line": pem(RSA, _PKCS1).replace(b"\n", b" "),
}
LOCKED: dict[str, bytes] = {
    "openssh": pem(ED25519, _OPENSSH, PASSPHRASE),
    "pkcs1": pem(RSA, _PKCS1, PASSPHRASE),
    "pkcs8": pem(RSA, _PKCS8, PASSPHRASE),
    "sec1": pem(_EC, _PKCS1, PASSPHRASE),
}
_DSA = dsa.generate_private_key(1024)
UNUSABLE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "it is empty"),
    "blank": (b" \n\n", "it is empty"),
    "ppk": (PPK, "it is a key of PuTTY (.ppk): convert it with puttygen FILE -O private-openssh"),
    "fido ed25519": (fido(), "it is a FIDO key (sk-ssh-ed25519@openssh.com)"),
    "fido ecdsa": (fido("sk-ecdsa-sha2-nistp256@openssh.com"), "it is a FIDO key (sk-ecdsa-sha2-nistp256@openssh.com)"),
    "dsa": (pem(_DSA, _PKCS1), "it is a DSA key"),
    "dsa pkcs8": (pem(_DSA, _PKCS8), "it is a DSA key"),
    "dsa openssh": (openssh(packed("ssh-dss", b"x"), packed("ssh-dss", b"x")), "it is a DSA key"),
    "xmss": (openssh(packed("ssh-xmss@openssh.com", b"x"), b""), "it is an XMSS key"),
    "future": (openssh(packed("ssh-of-the-future", b"x"), b""), "of a type that is not supported"),
    "ed448": (pem(ed448.Ed448PrivateKey.generate(), _PKCS8), "it is a Ed448 key, which SSH servers do not accept"),
    "x25519": (pem(x25519.X25519PrivateKey.generate(), _PKCS8), "it is a X25519 key"),
    "another curve": (pem(ec.generate_private_key(ec.SECP256K1()), _PKCS1), "it is an EC key of the curve secp256k1"),
    "public": (PUBLIC + b" me", "it is a public key: give the private key"),
    "pem public": (
        ED25519.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "it is a public key",
    ),
    "rfc4716": (
        b'---- BEGIN SSH2 PUBLIC KEY ----\nComment: "x"\nAAAA\n---- END SSH2 PUBLIC KEY ----\n',
        "it is a public key",
    ),
    "ssh.com": (
        b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----\nP2/56wAA\n---- END SSH2 ENCRYPTED PRIVATE KEY ----\n",
        "ssh-keygen -i -f FILE",
    ),
    "ssh1": (b"SSH PRIVATE KEY FILE FORMAT 1.1\n\0\0\0", "it is a key of SSH protocol 1"),
    "x509": (b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "it is an X.509 certificate"),
    "pgp": (
        b"-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQ==\n-----END PGP PRIVATE KEY BLOCK-----\n",
        "it is a PGP (GnuPG) file",
    ),
    "pgp binary": (b"\x95\x01\xd8\x04", "it looks like a PGP (GnuPG) file"),
    "age": (b"age-encryption.org/v1\n-> X25519 abc\n", "it is a file that age encrypted"),
    "age armoured": (
        b"-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n",
        "it is a file that age encrypted",
    ),
    "age key": (b"# created: 2026-01-01\nAGE-SECRET-KEY-1ABC\n", "it is a key of age"),
    "ansible": (b"$ANSIBLE_VAULT;1.1;AES256\n3132\n", "ansible-vault decrypt"),
    "tpm": (b"-----BEGIN TSS2 PRIVATE KEY-----\nMIIB\n-----END TSS2 PRIVATE KEY-----\n", "it is a key of a TPM"),
    "utf-16": (pem(ED25519, _OPENSSH).decode().encode("utf-16"), "it is a text in UTF-16"),
    "text": (b"no key at all", "this is not a private key"),
    "cut": (pem(ED25519, _OPENSSH)[:200], "its end is missing"),
    "damaged": (armoured(b"openssh-key-v1\0" + b"x" * 40), "it is an OpenSSH key, but it is damaged"),
    "damaged pem": (b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n", "it is damaged or not"),
    "other pem": (b"-----BEGIN THING-----\nAAAA\n-----END THING-----\n", "it is a PEM file of another kind (THING)"),
    "cipher": (
        openssh(packed("ssh-rsa", b"x"), b"", "chacha20-poly1305@openssh.com", "bcrypt", packed(b"salt") + bytes(4)),
        "locked with the cipher chacha20-poly1305@openssh.com, which is not supported",
    ),
    "literal line breaks": (pem(ED25519, _OPENSSH).replace(b"\n", b"\\n"), "printf '%b' \"$(cat FILE)\""),
    "base64 twice": (base64.b64encode(pem(ED25519, _OPENSSH)), "base64 -d FILE > NEW"),
    "pkcs12": (
        b"\x30\x82\x0a\x00\x02\x01\x03\x30\x82\x09\x00\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01\xa0\x82",
        "it is a PKCS#12 file (.p12, .pfx): convert it with openssl pkcs12 -in FILE",
    ),
    "small rsa": (pem(small_rsa(), _PKCS1), "it is an RSA key of 511 bits, which SSH servers do not accept"),
    "der": (b"\x30\x82\x01\x00" + bytes(256), "it is a binary (DER) key, but it is damaged"),
}
