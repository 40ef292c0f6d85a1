"""Host certificates of OpenSSH's own server, checked as ssh checks them."""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import HostKeyError, InvalidValueError
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.host_certificates import Certificate, parse_certificate
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport
from VpmemLibrary.transport.ssh.wire import Reader, packed

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")

KINDS = ("ed25519", "rsa", "ecdsa")


def keygen(*arguments: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True)


def make_key(path: Path, kind: str) -> None:
    bits = ("-b", 2048) if kind == "rsa" else ()  # made in less time
    keygen("-t", kind, *bits, "-N", "", "-f", path)


def public(path: Path) -> str:
    """Return type and base64 of a key."""
    return " ".join(path.with_name(path.name + ".pub").read_text().split()[:2])


class Certified:
    """A server whose key has a certificate.

    Args:
        directory: Where its keys are.
        kind: The kind of its key and of the key of its CA.
        arguments: More arguments of the command that signs the key.
        name: The name in the certificate.
    """

    def __init__(self, directory: Path, kind: str = "ed25519", *arguments: str, name: str = "127.0.0.1") -> None:
        self.directory = directory
        for key in ("ca", "other_ca", "host_key"):
            make_key(directory / key, kind)
        names = ("-n", name) if name else ()
        keygen("-s", directory / "ca", "-h", "-I", "the host", *names, *arguments, directory / "host_key.pub")
        self.server = OpensshServer(directory, HostCertificate=directory / "host_key-cert.pub")

    def opened(self, *lines: str, **settings: object) -> str:
        """Return what a command on the host says when the known-hosts file has some lines."""
        known = self.directory / "known_hosts"
        known.write_text("".join(line + "\n" for line in lines))
        with SshTransport(replace(self.server.settings(), **settings)) as host:
            return host.run(["echo", "in"]).text

    def refused(self, *lines: str, **settings: object) -> str:
        with pytest.raises(HostKeyError) as caught:
            self.opened(*lines, **settings)
        return str(caught.value)

    @property
    def trusts(self) -> str:
        """The line that trusts the CA."""
        return f"@cert-authority [127.0.0.1]:{self.server.port} {public(self.directory / 'ca')} the CA"


@pytest.fixture(scope="module", params=KINDS)
def kinds(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Certified]:
    certified = Certified(tmp_path_factory.mktemp("certified"), request.param)
    yield certified
    certified.server.close()


@pytest.fixture
def certified(tmp_path: Path) -> Iterator[Certified]:
    made = Certified(tmp_path)
    yield made
    made.server.close()


@pytest.mark.parametrize("names", ["[127.0.0.1]:PORT", "*", "127.0.0.1", "127.0.0.*,!127.0.0.2"])
def test_a_certificate_of_a_known_authority_lets_a_host_in(kinds: Certified, names: str) -> None:
    names = names.replace("PORT", str(kinds.server.port))
    assert kinds.opened(f"@cert-authority {names} {public(kinds.directory / 'ca')}") == "in\n"


def test_a_known_key_lets_in_a_host_whose_authority_is_not_known(kinds: Certified) -> None:
    key = f"[127.0.0.1]:{kinds.server.port} {public(kinds.directory / 'host_key')}"
    assert kinds.opened(key) == "in\n"
    assert kinds.opened(f"@cert-authority * {public(kinds.directory / 'other_ca')}", key) == "in\n"


def test_a_certificate_of_another_authority_is_named(kinds: Certified) -> None:
    text = kinds.refused(f"@cert-authority * {public(kinds.directory / 'other_ca')}")
    assert "is unknown" in text
    assert "'the host' of the CA" in text
    assert f"({kinds.directory / 'known_hosts'}, line 1 have others)" in text


@pytest.mark.parametrize(
    ("arguments", "name", "says"),
    [
        (("-V", "20200101:20200102"), "127.0.0.1", "it was valid until 2020-01-0"),
        (("-V", "20990101:20990102"), "127.0.0.1", "it is not valid before 20"),
        ((), "rack1,rack2", "it is for 'rack1', 'rack2', not for '127.0.0.1'"),
        ((), "", "it names no host"),
        (("-O", "critical:answer@example.com=42"), "127.0.0.1", "options that are not known: 'answer@example.com'"),
    ],
)
def test_an_invalid_certificate_is_refused_with_what_is_wrong(
    tmp_path: Path, arguments: tuple[str, ...], name: str, says: str
) -> None:
    certified = Certified(tmp_path, "ed25519", *arguments, name=name)
    try:
        for policy in HostKeyPolicy:
            text = certified.refused(certified.trusts, host_key=policy)
            assert says in text
            assert f"{tmp_path / 'known_hosts'}, line 1" in text
            assert "ssh-keygen -s" in text
    finally:
        certified.server.close()


def test_a_revoked_authority_or_key_is_refused(certified: Certified) -> None:
    for name, says in (("ca", "signed by a revoked CA"), ("host_key", "is revoked")):
        text = certified.refused(certified.trusts, f"@revoked * {public(certified.directory / name)}")
        assert says in text
        assert "line 2" in text


def test_the_keys_of_revoked_host_keys_are_refused(certified: Certified, tmp_path: Path) -> None:
    listed, config = tmp_path / "revoked", tmp_path / "ssh_config"
    config.write_text(f"RevokedHostKeys {listed}\n")
    settings = resolve(SshRequest("a", config=ConfigFiles(config)))
    assert settings.revoked_host_keys == listed
    listed.write_text(f"# none\n\n{public(certified.directory / 'user_key')}\n")
    assert certified.opened(certified.trusts, revoked_host_keys=listed) == "in\n"
    for name, says in (("ca", "signed by a revoked CA"), ("host_key", "is revoked")):
        listed.write_text(f"# stolen\n{public(certified.directory / name)}\n")
        text = certified.refused(certified.trusts, revoked_host_keys=listed)
        assert says in text
        assert str(listed) in text
    keygen("-k", "-f", listed, certified.directory / "host_key.pub")
    for file, says in ((listed, "a key revocation list"), (tmp_path / "absent", "no host is trusted")):
        with pytest.raises(InvalidValueError, match=says):
            certified.opened(certified.trusts, revoked_host_keys=file)


def test_a_server_without_a_certificate_is_named(tmp_path: Path) -> None:
    keygen("-t", "ed25519", "-N", "", "-f", tmp_path / "ca")
    server = OpensshServer(tmp_path)
    (tmp_path / "known_hosts").write_text(f"@cert-authority * {public(tmp_path / 'ca')}\n")
    with SshTransport(server.settings()) as host, pytest.raises(HostKeyError, match="the host showed no certificate"):
        host.run(["true"])
    server.close()


def test_a_wildcard_principal_is_for_the_hosts_of_its_pattern(tmp_path: Path) -> None:
    for name, why in (("127.*", ""), ("128.*", "it is for '128.*', not for '127.0.0.1'")):
        directory = tmp_path / name
        directory.mkdir()
        for key in ("ca", "host_key"):
            keygen("-t", "ed25519", "-N", "", "-f", directory / key)
        keygen("-s", directory / "ca", "-h", "-I", "x", "-n", name, directory / "host_key.pub")
        assert certificate_of(directory / "host_key-cert.pub").why_not_for("127.0.0.1") == why


def test_a_certificate_of_a_user_and_one_that_was_changed_are_no_host_certificates(tmp_path: Path) -> None:
    for key in ("ca", "host_key"):
        keygen("-t", "ed25519", "-N", "", "-f", tmp_path / key)
    keygen("-s", tmp_path / "ca", "-I", "x", "-n", "a", tmp_path / "host_key.pub")
    assert "a certificate of a user" in certificate_of(tmp_path / "host_key-cert.pub").why_not_for("a")
    keygen("-s", tmp_path / "ca", "-h", "-I", "x", "-n", "a", tmp_path / "host_key.pub")
    data = bytes_of(tmp_path / "host_key-cert.pub")
    assert parse_certificate(data).why_not_for("a") == ""
    changed = data.replace(packed(packed("a")), packed(packed("b")))
    assert parse_certificate(changed).why_not_for("b") == "its CA did not make its signature"


def test_a_signature_with_sha1_does_not_count(tmp_path: Path) -> None:
    for key in ("ca", "host_key"):
        make_key(tmp_path / key, "rsa")
    keygen("-s", tmp_path / "ca", "-h", "-I", "x", "-n", "a", tmp_path / "host_key.pub")
    data = bytes_of(tmp_path / "host_key-cert.pub")
    signature = Reader(data[-(4 + 4 + 12 + 4 + 256) :]).string()
    assert Reader(signature).text() == "rsa-sha2-512"
    body = data[: -len(packed(signature))]
    ca = load_ssh_private_key((tmp_path / "ca").read_bytes(), None)
    by_sha1 = ca.sign(body, padding.PKCS1v15(), hashes.SHA1())  # type: ignore[call-arg,arg-type]
    assert "SHA-1" in parse_certificate(body + packed(packed("ssh-rsa", by_sha1))).why_not_for("a")


def test_a_fido_key_as_authority_is_named(tmp_path: Path) -> None:
    for key in ("ca", "host_key"):
        make_key(tmp_path / key, "ed25519")
    keygen("-s", tmp_path / "ca", "-h", "-I", "x", "-n", "a", tmp_path / "host_key.pub")
    data = bytes_of(tmp_path / "host_key-cert.pub")
    ca = bytes_of(tmp_path / "ca.pub")
    fido = packed("sk-ssh-ed25519@openssh.com", ca[-32:], "ssh:")
    with pytest.raises(ValueError, match="its CA is a FIDO key"):
        parse_certificate(data.replace(packed(ca), packed(fido)))


def test_a_key_of_a_supported_type_is_asked_for_beside_one_that_is_not(certified: Certified) -> None:
    future = packed("ssh-of-the-future", b"x")
    other = f"[127.0.0.1]:{certified.server.port} ssh-of-the-future {base64.b64encode(future).decode()}"
    key = f"[127.0.0.1]:{certified.server.port} {public(certified.directory / 'host_key')}"
    assert certified.opened(other, key) == "in\n"
    text = certified.refused(other)
    assert "is unknown" in text
    assert "ssh-of-the-future" in text
    assert f"{certified.directory / 'known_hosts'}, line 1" in text


def test_keys_of_several_files_count(certified: Certified, monkeypatch: pytest.MonkeyPatch) -> None:
    home = certified.directory / "home"
    (home / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(home))
    system = certified.directory / "system"
    key = f"[127.0.0.1]:{certified.server.port} {public(certified.directory / 'host_key')}\n"
    settings = replace(certified.server.settings(), known_hosts=None)

    def opened(used: SshSettings) -> str:
        with SshTransport(used) as host:
            return host.run(["echo", "in"]).text

    (home / ".ssh/known_hosts2").write_text(key)
    assert opened(settings) == "in\n"
    with pytest.raises(HostKeyError, match="is unknown"):
        opened(replace(settings, more_known_hosts=(system,)))
    system.write_text(key)
    assert opened(replace(settings, more_known_hosts=(home / "absent", system))) == "in\n"
    (home / ".ssh/known_hosts").write_text(f"@revoked * {public(certified.directory / 'host_key')}\n")
    with pytest.raises(HostKeyError, match="is revoked"):
        opened(replace(settings, more_known_hosts=(system,)))


def bytes_of(path: Path) -> bytes:
    return base64.b64decode(path.read_text().split()[1])


def certificate_of(path: Path) -> Certificate:
    return parse_certificate(bytes_of(path))
