"""The known-hosts file of OpenSSH, read as ssh reads it."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.ssh.host_identity import HostIdentity
from VpmemLibrary.transport.ssh.known_hosts import HostKey, KnownKeys, read_known_keys
from VpmemLibrary.transport.ssh.settings import SshSettings


def key(number: int, kind: str = "ssh-ed25519") -> HostKey:
    """Return a key of its own."""
    return HostKey(kind, len(kind).to_bytes(4, "big") + kind.encode() + bytes([0, 0, 0, 32]) + bytes([number]) * 32)


A, B = key(1), key(2)
# Made by `ssh-keygen -H` of OpenSSH 9.2 for the name server.example.
HASHED = "|1|OTZk9GqZ5j07fSwGylizYhjAtJg=|LApC98V2iJSVxTvU/0T2eqi6xzQ="


def known(tmp_path: Path, name: str, *lines: str | bytes) -> KnownKeys:
    """Return what a file of these lines says of a host."""
    path = tmp_path / "known_hosts"
    path.write_bytes(b"".join((line.encode() if isinstance(line, str) else line) + b"\n" for line in lines))
    return read_known_keys(path, name)


@pytest.mark.parametrize(
    ("names", "name", "is_for"),
    [
        ("192.0.2.13", "192.0.2.13", True),
        ("192.0.2.13", "192.0.2.1", False),
        ("a,b,c", "b", True),
        ("[192.0.2.13]:2222", "[192.0.2.13]:2222", True),
        ("192.0.2.13", "[192.0.2.13]:2222", False),
        ("*.example.com", "rack1.example.com", True),
        ("rack?.example.com", "rack1.example.com", True),
        ("rack?.example.com", "rack10.example.com", False),
        ("*,!rack1", "rack1", False),
        ("!rack1,*", "rack1", False),
        ("!rack1,*", "rack2", True),
        ("Rack1.Example.COM", "rack1.example.com", True),
        ("a.b", "axb", False),
        ("*", "", True),
        ("*a*b*", "xaxxbx", True),
        ("*a*b*", "xbxa", False),
        ("a?", "a", False),
        ("[*]:2222", "[10.0.0.1]:2222", True),
        ("*" * 1000 + "x", "a" * 1000, False),
        (HASHED, "server.example", True),
        (HASHED, "Server.Example", True),
        (HASHED, "server.example.com", False),
        ("|1|nonsense", "nonsense", False),
        ("|1|a|b|c", "a", False),
    ],
)
def test_a_line_is_for_the_hosts_that_its_names_stand_for(tmp_path: Path, names: str, name: str, is_for: bool) -> None:
    assert known(tmp_path, name, A.line(names)).keys == ((A,) if is_for else ())


def test_all_keys_of_a_host_are_known(tmp_path: Path) -> None:
    ecdsa = key(3, "ecdsa-sha2-nistp256")
    assert known(tmp_path, "a", A.line("a"), ecdsa.line("x,a"), B.line("b"), B.line("a")).keys == (A, ecdsa, B)


def test_a_certificate_authority_is_no_key_of_a_host(tmp_path: Path) -> None:
    lines = ("# an operator's own file", f"@cert-authority {B.line('*')} lab host CA", A.line("a"))
    assert known(tmp_path, "a", *lines) == KnownKeys((A,), (), (B,))


def test_a_revoked_key_is_reported_for_the_hosts_of_its_line(tmp_path: Path) -> None:
    lines = (f"@revoked {B.line('*')}", f"@revoked {A.line('b')}", A.line("a"))
    assert known(tmp_path, "a", *lines) == KnownKeys((A,), (B,))


@pytest.mark.parametrize(
    "line",
    [
        "",
        "a",
        "a ssh-ed25519",
        "a ssh-ed25519 AAA",
        "a ssh-ed25519 %%%%",
        "a ssh-ed25519 AAAAC3Nz",
        "a ssh-rsa " + A.line("a").split()[2],
        "@unknown-marker " + A.line("a"),
        "@revoked",
        "a 2048 65537 1234567890",
        b"server-b\xfcro.example ssh-ed25519 " + base64.b64encode(A.data),
        b"a ssh-\xfc " + base64.b64encode(A.data),
        b"\xff\xfe\x00",
    ],
)
def test_a_line_that_cannot_be_read_is_skipped(tmp_path: Path, line: str | bytes) -> None:
    assert known(tmp_path, "a", line, B.line("a")) == KnownKeys((B,))


@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "ssh-of-the-future"])
def test_keys_of_other_types_are_known_as_well(tmp_path: Path, kind: str) -> None:
    assert known(tmp_path, "a", key(3, kind).line("a"), A.line("a")).keys == (key(3, kind), A)


@pytest.mark.parametrize("name", ["rsa-sha2-256", "rsa-sha2-512"])
def test_a_signature_algorithm_as_the_type_of_an_rsa_key_is_understood(tmp_path: Path, name: str) -> None:
    rsa = key(3, "ssh-rsa")
    assert known(tmp_path, "a", rsa.line("a").replace("ssh-rsa", name)).keys == (rsa,)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_a_file_in_utf_16_is_refused_with_the_command_that_converts_it(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "known_hosts"
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + (A.line("a") + "\r\n").encode(encoding))
    with pytest.raises(InvalidValueError, match=f"iconv -f UTF-16 -t UTF-8 {path}"):
        HostIdentity(SshSettings("a", known_hosts=path)).known()


def test_a_key_says_where_it_is(tmp_path: Path) -> None:
    found = known(tmp_path, "a", "", A.line("b"), b"a \xfc", A.line("a")).keys[0]
    assert found.where == f"{tmp_path / 'known_hosts'}, line 4"


def test_a_byte_order_mark_and_very_long_lines_do_not_matter(tmp_path: Path) -> None:
    names = ",".join(f"h{number}" for number in range(200_000))
    lines = (b"\xef\xbb\xbf" + A.line("a").encode(), "#" * 1_000_000, B.line(names + ",a"))
    assert known(tmp_path, "a", *lines).keys == (A, B)


def test_a_file_without_end_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="more than 32 MiB"):
        read_known_keys(Path("/dev/zero"), "a")
    with pytest.raises(OSError, match="Is a directory"):
        read_known_keys(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    assert read_known_keys(tmp_path / "pipe", "a") == KnownKeys()


def test_words_may_be_separated_by_any_blanks(tmp_path: Path) -> None:
    assert known(tmp_path, "a", "\t" + A.line("a").replace(" ", " \t ") + "  a comment\r").keys == (A,)


def test_a_line_that_is_written_is_read_again(tmp_path: Path) -> None:
    assert known(tmp_path, "[192.0.2.13]:2222", A.line("[192.0.2.13]:2222")).keys == (A,)


def test_a_fingerprint_is_that_of_ssh_keygen() -> None:
    # ssh-keygen -lf on the line of this key
    assert str(A) == "ssh-ed25519 SHA256:RXm/ruZ0eTzRXKwi1AQEDynB0VgHQ2ac9KPSFdf/YnA"
