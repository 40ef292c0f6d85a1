"""Private key files: every kind works or is named with what to do."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from key_samples import GOOD, LOCKED, PASSPHRASE, PUBLIC, UNUSABLE, openssh
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.ssh.key_files import read_key_file
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport
from VpmemLibrary.transport.ssh.wire import packed


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "key"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", GOOD)
def test_a_key_is_read(tmp_path: Path, kind: str) -> None:
    for passphrase in (None, "not needed"):
        found = read_key_file(written(tmp_path, GOOD[kind]), passphrase)
        assert found.problem == ""
        assert found.key is not None
        assert found.key.sign(b"data", "rsa-sha2-256" if "rsa" in found.key.public.type else found.key.public.type)


@pytest.mark.parametrize("kind", LOCKED)
def test_a_locked_key_needs_its_passphrase(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, LOCKED[kind])
    assert read_key_file(path, PASSPHRASE).key is not None
    assert f"it is locked: give key_passphrase, or start an agent and load it with ssh-add {path}" in (
        read_key_file(path).problem
    )
    assert "key_passphrase is wrong" in read_key_file(path, "wrong").problem
    assert "wrong words" not in read_key_file(path, "wrong words").problem


@pytest.mark.parametrize("kind", UNUSABLE)
def test_a_file_that_is_no_usable_key_is_named_with_what_to_do(tmp_path: Path, kind: str) -> None:
    content, says = UNUSABLE[kind]
    path = written(tmp_path, content)
    settings = SshSettings("192.0.2.1", key_file=path, use_agent=False)
    with SshTransport(settings) as host, pytest.raises(InvalidValueError) as caught:
        host.run(["true"])
    assert says.replace("FILE", str(path)) in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_directory_and_a_file_without_end_are_named(tmp_path: Path) -> None:
    assert f"it is a directory: name the key in it, e.g. {tmp_path}/id_ed25519" in read_key_file(tmp_path).problem
    assert "it cannot be read: It has more than 1 MiB" in read_key_file(Path("/dev/zero")).problem
    (tmp_path / "file").touch()
    for name in ("absent", "file/below", "a\0b", "\ud800"):
        with pytest.raises(FileNotFoundError):
            read_key_file(tmp_path / name)


def test_the_public_half_of_a_locked_key_is_known(tmp_path: Path) -> None:
    path = written(tmp_path, LOCKED["openssh"])
    public = read_key_file(path).public
    assert public is not None
    assert public.type == "ssh-ed25519"
    path = written(tmp_path, LOCKED["pkcs8"])
    assert read_key_file(path).public is None
    path.with_name("key.pub").write_bytes(PUBLIC)
    beside = read_key_file(path).public
    assert beside is not None
    assert beside == read_key_file(path.with_name("key.pub")).public


def test_a_key_that_takes_for_ever_to_unlock_is_refused(tmp_path: Path) -> None:
    options = packed(b"salt" * 4) + (1 << 31).to_bytes(4, "big")
    content = openssh(packed("ssh-ed25519", bytes(32)), bytes(40), "aes256-ctr", "bcrypt", options)
    assert "2147483648 rounds of bcrypt" in read_key_file(written(tmp_path, content), "x").problem


@pytest.mark.parametrize("cipher", [b"DES-CBC", b"AES-192-CBC", b"CAMELLIA-256-CBC"])
def test_an_old_cipher_is_not_taken_for_a_wrong_passphrase(tmp_path: Path, cipher: bytes) -> None:
    path = written(tmp_path, LOCKED["pkcs1"].replace(b"AES-256-CBC", cipher))
    assert "locked with an old or rare cipher" in read_key_file(path, PASSPHRASE).problem
    assert f"openssl pkey -provider legacy -provider default -aes256 -in {path}" in (
        read_key_file(path, PASSPHRASE).problem
    )


def test_a_passphrase_of_odd_bytes_is_wrong_and_no_more(tmp_path: Path) -> None:
    assert "key_passphrase is wrong" in read_key_file(written(tmp_path, LOCKED["openssh"]), "caf\udce9").problem


@pytest.mark.parametrize("cipher", ["aes256-ctr", "aes256-gcm@openssh.com", "aes128-ctr", "3des-cbc"])
@pytest.mark.skipif(SSHD is None, reason="OpenSSH is not installed")
def test_keys_that_ssh_keygen_locked_are_read_or_named(tmp_path: Path, cipher: str) -> None:
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", PASSPHRASE, "-Z", cipher, "-f", str(path)], check=True)
    found = read_key_file(path, PASSPHRASE)
    assert (found.key is not None) == cipher.startswith("aes256")
    assert found.key is not None or f"ssh-keygen -p -Z aes256-ctr -f {path}" in found.problem


@pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")
def test_each_kind_of_key_lets_in(tmp_path: Path) -> None:
    kinds = ("openssh ed25519", "pkcs8 ed25519", "pkcs1 rsa", "sec1 secp256r1", "openssh secp384r1", "pkcs8 secp521r1")
    keys = {**{kind: GOOD[kind] for kind in kinds}, "locked": LOCKED["openssh"]}
    publics = []
    for content in keys.values():
        key = read_key_file(written(tmp_path, content), PASSPHRASE).key
        assert key is not None
        line = key.public.type, base64.b64encode(key.public.data).decode()
        load_ssh_public_key(" ".join(line).encode())
        publics.append(" ".join(line) + "\n")
    (tmp_path / "authorized").write_text("".join(publics))
    server = OpensshServer(tmp_path, AuthorizedKeysFile=tmp_path / "authorized")
    for kind, content in keys.items():
        path = written(tmp_path, content)
        settings = replace(server.settings(), key_file=path, key_passphrase=PASSPHRASE)
        with SshTransport(settings) as host:
            assert host.run(["echo", kind]).text == f"{kind}\n"
    server.close()


def test_a_home_directory_that_does_not_exist_is_refused() -> None:
    settings = SshSettings("192.0.2.1", key_file=Path("~no-such-user/key"), use_agent=False)
    with SshTransport(settings) as host, pytest.raises(InvalidValueError, match="key_file '~no-such-user/key'"):
        host.run(["true"])
    settings = SshSettings("127.0.0.1", port=1, known_hosts=Path("~no-such-user/known"), use_agent=False)
    with SshTransport(settings) as host, pytest.raises(InvalidValueError, match="known_hosts '~no-such-user/known'"):
        host.run(["true"])
