"""Logging in to OpenSSH's own server and others: what is tried, in which order, and what the failure lists."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import paramiko
import pytest
from fake_agent import FAILURE, fake_agent, identities, real_agent
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer
from ssh_server import PASSWORD, Server, Sessions

from VpmemLibrary.errors import AccessDeniedError, InvalidValueError, UnreachableError
from VpmemLibrary.transport.ssh.public_keys import PublicKey
from VpmemLibrary.transport.ssh.signing import algorithm_for
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport
from VpmemLibrary.transport.ssh.wire import Reader, packed

needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")


def keygen(*arguments: object) -> None:
    subprocess.run(["ssh-keygen", "-q", *map(str, arguments)], check=True)


def make_key(path: Path, kind: str = "ed25519", passphrase: str = "") -> Path:
    bits = ("-b", 2048) if kind == "rsa" else ()  # made in less time
    keygen("-t", kind, *bits, "-N", passphrase, "-C", path.name, "-f", path)
    return path


def blob_of(path: Path) -> bytes:
    line = path.with_name(path.name + ".pub").read_text()
    return paramiko.pkey.PublicBlob.from_string(line).key_blob


def log_in(settings: SshSettings) -> None:
    with SshTransport(settings) as host:
        assert host.run(["echo", "in"]).text == "in\n"


def denied(settings: SshSettings) -> str:
    with SshTransport(settings) as host, pytest.raises(AccessDeniedError) as caught:
        host.run(["true"])
    return str(caught.value)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without keys, and no agent."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return directory


@pytest.fixture
def agent_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "agent"
    monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
    return path


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpensshServer]:
    server = OpensshServer(tmp_path_factory.mktemp("sshd"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("ssh"))
    yield server
    server.close()


def with_agent(server: OpensshServer | Server, **more: object) -> SshSettings:
    """Return settings with the agent and without a key file."""
    return replace(server.settings(), **{"key_file": None, "use_agent": True, **more})


def user_key(server: OpensshServer) -> Path:
    key = server.settings().key_file
    assert key is not None
    return key


# Keys of an agent


@needs_sshd
@pytest.mark.parametrize("kind", ["rsa", "ecdsa", "ed25519"])
def test_a_key_of_a_real_agent_lets_in(tmp_path: Path, agent_path: Path, kind: str) -> None:
    make_key(tmp_path / "user_key", kind)
    server = OpensshServer(tmp_path)
    with real_agent(agent_path) as add:
        add(tmp_path / "user_key")
        log_in(with_agent(server))
    server.close()


@needs_sshd
def test_eight_wrong_keys_in_the_agent_leave_tries_for_the_key_file_and_the_rest(
    sshd: OpensshServer, tmp_path: Path, agent_path: Path, home: Path
) -> None:
    with real_agent(agent_path) as add:
        for number in range(8):
            add(make_key(tmp_path / f"wrong{number}"))
        log_in(with_agent(sshd, key_file=user_key(sshd)))
        log_in(with_agent(sshd, identity_files=(user_key(sshd),)))
        (home / ".ssh/id_ed25519").write_bytes(user_key(sshd).read_bytes())
        log_in(with_agent(sshd))
        add(user_key(sshd))
        log_in(with_agent(sshd))
        log_in(with_agent(sshd, identities_only=True, identity_files=(Path(f"{user_key(sshd)}.pub"),)))


@needs_sshd
def test_too_many_wrong_keys_are_listed(sshd: OpensshServer, tmp_path: Path, agent_path: Path) -> None:
    with real_agent(agent_path) as add:
        for number in range(14):
            add(make_key(tmp_path / f"wrong{number}"))
        text = denied(with_agent(sshd))
    assert text.count("ended the connection: Too many authentication failures") == 2
    assert text.count("agent key 'wrong") == 12
    assert "2 more: not tried" in text


@needs_sshd
def test_only_named_keys_of_the_agent_are_offered(sshd: OpensshServer, tmp_path: Path, agent_path: Path) -> None:
    with real_agent(agent_path) as add:
        add(user_key(sshd))
        other = make_key(tmp_path / "other")
        text = denied(with_agent(sshd, identities_only=True, identity_files=(other,)))
    assert text.count("refused") == 1
    assert str(other) in text
    assert "agent key" not in text


@needs_sshd
def test_a_locked_key_or_a_public_half_names_the_agents_key(
    tmp_path: Path, agent_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_key(tmp_path / "user_key", passphrase="secret words")
    server = OpensshServer(tmp_path)
    keygen("-p", "-P", "secret words", "-N", "", "-f", tmp_path / "user_key")
    with real_agent(agent_path) as add:
        add(tmp_path / "user_key")
        keygen("-p", "-P", "", "-N", "secret words", "-f", tmp_path / "user_key")
        for name in ("user_key", "user_key.pub"):
            log_in(with_agent(server, key_file=tmp_path / name))
        log_in(with_agent(server, key_file=tmp_path / "user_key", key_passphrase="secret words"))
    monkeypatch.delenv("SSH_AUTH_SOCK")
    for name, says in (("user_key", "it is locked: give key_passphrase"), ("user_key.pub", "it is a public key")):
        settings = with_agent(server, key_file=tmp_path / name)
        with SshTransport(settings) as host, pytest.raises(InvalidValueError, match=says):
            host.run(["true"])
    server.close()


SIGN = 13


def refusing(blob: bytes, reply: bytes | None) -> Callable[[bytes], bytes | None]:
    """Return an agent with one key, which answers a request to sign with a reply."""
    return lambda request: reply if request[0] == SIGN else identities((blob, "token"))


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (FAILURE, "the agent did not sign"),
        (packed(bytes([14]) + packed(packed("ssh-rsa", b"x"))), "the agent signed with ssh-rsa, not with rsa-sha2-512"),
        (packed(bytes([14])), "the agent's signature cannot be read"),
        (packed(b"\x63garbage"), r"the agent did not sign (answer 99)"),
        (b"", "closed the connection"),
        (b"\xff\xff\xff\xff", "does not speak the agent's protocol"),
        (None, "no answer within 1 s"),
    ],
)
def test_a_key_that_does_not_sign_leaves_the_password(
    server: Server, agent_path: Path, reply: bytes | None, says: str
) -> None:
    with fake_agent(agent_path, refusing(server.user_key.asbytes(), reply)) as requests:
        log_in(with_agent(server, password=PASSWORD, connect_timeout=1))
        assert [request[0] for request in requests] == [11, SIGN]
        text = denied(with_agent(server, password="wrong", connect_timeout=1))
    assert (
        f"agent key 'token' (ssh-rsa SHA256:{server.user_key.fingerprint.partition(':')[2]}): {says}"
        in text.replace("it closed", "closed").replace(f"{agent_path} does", "does")
    )
    assert "the password: refused" in text
    assert "wrong" not in text


def test_after_an_agent_that_hangs_its_other_keys_are_not_tried(server: Server, agent_path: Path) -> None:
    key = server.user_key.asbytes()
    listed = identities(*((key, f"token {number}") for number in range(5)))
    with fake_agent(agent_path, lambda request: None if request[0] == SIGN else listed) as requests:
        log_in(with_agent(server, password=PASSWORD, connect_timeout=1))
        assert len(requests) == 2


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (FAILURE, "the agent: it did not list its keys (answer 5)"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "does not speak the agent's protocol"),
        (packed(bytes([12, 0, 0, 0, 9])), "the agent: its list of keys cannot be read"),
        (packed(bytes([12, 255, 255, 255, 255])), "the agent: it says that it has 4294967295 keys"),
        (packed(bytes([12, 0, 0, 0, 1]) + packed(b"\0", "x")), "the agent: its list of keys cannot be read"),
        (b"", "the agent: it closed the connection without an answer"),
        (None, "the agent: no answer within 1 s"),
    ],
)
def test_an_agent_that_cannot_be_asked_leaves_the_password(
    server: Server, agent_path: Path, reply: bytes | None, says: str
) -> None:
    with fake_agent(agent_path, lambda _: reply):
        log_in(with_agent(server, password=PASSWORD, connect_timeout=1))
        assert says in denied(with_agent(server, password="wrong", connect_timeout=1))


@pytest.mark.parametrize("name", ["absent", "file", "stale", "x" * 200])
def test_a_socket_without_an_agent_leaves_the_password(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "stale"))
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / name))
    log_in(with_agent(server, password=PASSWORD))
    assert f"the agent: nothing answers at {tmp_path / name}" in denied(with_agent(server, password="wrong"))


@needs_sshd
def test_a_key_that_the_host_does_not_take_is_not_signed_with(
    sshd: OpensshServer, tmp_path: Path, agent_path: Path
) -> None:
    other = make_key(tmp_path / "other")
    with fake_agent(agent_path, refusing(blob_of(other), None)) as requests:
        assert "agent key 'token'" in denied(with_agent(sshd))
        assert [request[0] for request in requests] == [11]


# Key files and certificates


@needs_sshd
@pytest.mark.parametrize(
    ("kind", "where"),
    [
        ("rsa", "key file"),
        ("rsa", "agent"),
        ("ecdsa", "key file"),
        ("ed25519", "key file"),
        ("ed25519", "identity file"),
        ("ed25519", "certificate file"),
        ("ed25519", "agent with file"),
    ],
)
def test_a_user_certificate_lets_in(
    tmp_path: Path, agent_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    make_key(tmp_path / "ca", kind)
    (tmp_path / "user").mkdir()
    key = make_key(tmp_path / "user/key", kind)
    keygen("-s", tmp_path / "ca", "-I", "me", "-n", user, f"{key}.pub")
    server = OpensshServer(tmp_path, TrustedUserCAKeys=tmp_path / "ca.pub")
    moved = tmp_path / "moved-cert.pub"
    with real_agent(agent_path) as add:
        if where == "agent":
            add(key)
            settings = with_agent(server)
        elif where == "agent with file":
            (tmp_path / "user/key-cert.pub").rename(moved)
            add(key)
            settings = with_agent(server, certificate_files=(moved,))
        else:
            monkeypatch.delenv("SSH_AUTH_SOCK")
            settings = with_agent(server, key_file=key)
            if where == "certificate file":
                (tmp_path / "user/key-cert.pub").rename(moved)
                settings = replace(settings, certificate_files=(moved,))
            elif where == "identity file":
                settings = replace(settings, key_file=None, identity_files=(key,))
        log_in(settings)
    server.close()


@needs_sshd
def test_a_certificate_that_cannot_let_in_is_named(sshd: OpensshServer, tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    key = make_key(tmp_path / "key")
    keygen("-s", tmp_path / "ca", "-I", "me", "-n", "x", "-V", "20200101:20200102", f"{key}.pub")
    text = denied(replace(sshd.settings(), key_file=key))
    assert f"with certificate {tmp_path / 'key-cert.pub'}, it was valid until 2020-01-0" in text
    keygen("-s", tmp_path / "ca", "-h", "-I", "me", "-n", "x", f"{key}.pub")
    for content, says in ((None, "it is a certificate of a host"), ("garbage", "it is not a certificate")):
        if content is not None:
            (tmp_path / "key-cert.pub").write_text(content)
        log_in(replace(sshd.settings(), certificate_files=(tmp_path / "key-cert.pub",)))
        assert f"certificate {tmp_path / 'key-cert.pub'}: {says}" in denied(replace(sshd.settings(), key_file=key))


@needs_sshd
def test_default_keys_are_tried_and_locked_ones_are_named(sshd: OpensshServer, home: Path) -> None:
    make_key(home / ".ssh/id_rsa", "rsa", "secret words")
    text = denied(with_agent(sshd))
    assert "~/.ssh/id_rsa: it is locked: give key_passphrase, or start an agent" in text
    assert "authorized_keys" not in text
    (home / ".ssh/id_ed25519").write_bytes(user_key(sshd).read_bytes())
    (home / ".ssh/id_ed25519").chmod(0o600)
    log_in(with_agent(sshd))
    log_in(with_agent(sshd, password="not needed"))
    keygen("-p", "-P", "", "-N", "secret words", "-f", home / ".ssh/id_ed25519")
    (home / ".ssh/id_rsa").unlink()
    assert "~/.ssh/id_ed25519: it is locked" in denied(with_agent(sshd))
    log_in(with_agent(sshd, key_passphrase="secret words"))


@needs_sshd
@needs_sshd
def test_a_key_that_the_host_asks_not_for_is_named(tmp_path: Path) -> None:
    server = OpensshServer(tmp_path, PubkeyAuthentication="no")
    text = denied(server.settings())
    assert "The host accepts: password, keyboard-interactive." in text
    assert f"the key {tmp_path / 'user_key'} (ssh-ed25519" in text
    assert "not tried, because the host does not accept this method" in text
    server.close()


@needs_sshd
def test_what_a_host_says_before_it_ends_the_connection_is_shown(tmp_path: Path) -> None:
    (tmp_path / "banner").write_bytes(b"Your account has expired; \xff please contact your administrator.\n")
    server = OpensshServer(tmp_path, MaxAuthTries=1, Banner=tmp_path / "banner")
    text = denied(replace(server.settings(), key_file=make_key(tmp_path / "wrong")))
    assert "(the host said: Your account has expired; \ufffd please contact your administrator.)" in text
    server.close()


@needs_sshd
@pytest.mark.parametrize(
    ("option", "value", "instead"),
    [
        ("KexAlgorithms", "sntrup761x25519-sha512@openssh.com", "curve25519-sha256@libssh.org"),
        ("Ciphers", "chacha20-poly1305@openssh.com", "aes256-ctr"),
        ("MACs", "umac-128@openssh.com", "hmac-sha2-256"),
    ],
)
def test_a_host_without_a_common_algorithm_is_named_with_one_to_add(
    tmp_path: Path, option: str, value: str, instead: str
) -> None:
    server = OpensshServer(tmp_path, **{"Ciphers": "aes256-ctr", option: value})
    with SshTransport(server.settings()) as host, pytest.raises(UnreachableError, match=f"add {instead}, .* {option} "):
        host.run(["true"])
    server.close()
    server = OpensshServer(tmp_path, **{"Ciphers": "aes256-ctr", option: f"{value},{instead}"})
    log_in(server.settings())
    server.close()


@needs_sshd
def test_nothing_to_log_in_with_says_so(sshd: OpensshServer) -> None:
    assert "No key and no password can log in to" in denied(with_agent(sshd))


def test_rsa_signs_with_what_the_server_takes() -> None:
    assert algorithm_for("ssh-rsa", ()) == "rsa-sha2-512"
    assert algorithm_for("ssh-rsa", ("ssh-ed25519", "rsa-sha2-256")) == "rsa-sha2-256"
    assert algorithm_for("ssh-rsa", ("ssh-ed25519", "ssh-rsa")) is None
    certificate = "ssh-rsa-cert-v01@openssh.com"
    assert algorithm_for(certificate, ("rsa-sha2-256",)) == "rsa-sha2-256-cert-v01@openssh.com"
    assert algorithm_for("sk-ssh-ed25519@openssh.com", ("x",)) == "sk-ssh-ed25519@openssh.com"


def test_a_server_that_takes_rsa_with_sha1_only_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "VpmemLibrary.transport.ssh.userauth.UserAuth.accepted_algorithms", lambda _: ("ssh-ed25519", "ssh-rsa")
    )
    text = denied(server.settings())
    assert "RSA keys with SHA-1 signatures only" in text
    assert "authorized_keys" not in text


# Passwords, questions, several methods


class Asking(Sessions):
    """Asks questions, and may want a key or password first."""

    first: str = ""
    questions: tuple[tuple[str, bool], ...] = (("Password: ", False),)
    replies: tuple[str, ...] = (PASSWORD,)
    got: list[str]
    passed = False
    tries = 0

    def get_allowed_auths(self, username: str) -> str:
        return self.first if self.first and not self.passed else "keyboard-interactive"

    def check_auth_password(self, username: str, password: str) -> int:
        return self._part(super().check_auth_password(username, password))

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        return self._part(super().check_auth_publickey(username, key))

    def _part(self, result: int) -> int:
        if result == paramiko.AUTH_SUCCESSFUL and self.first:  # type: ignore[attr-defined]
            self.passed = True
            return paramiko.AUTH_PARTIALLY_SUCCESSFUL  # type: ignore[attr-defined,no-any-return]
        return result

    def check_auth_interactive(self, username: str, submethods: str) -> int | paramiko.server.InteractiveQuery:
        return paramiko.server.InteractiveQuery("", "", *self.questions)

    def check_auth_interactive_response(self, responses: list[str]) -> int:
        good = tuple(responses) == self.replies
        return paramiko.AUTH_SUCCESSFUL if good else paramiko.AUTH_FAILED  # type: ignore[attr-defined,no-any-return]


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(**attributes: object) -> Server:
        monkeypatch.setattr("ssh_server.Sessions", type("Asked", (Asking,), attributes))
        servers.append(Server(tmp_path))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def test_questions_that_hide_what_is_typed_are_answered(asking: Callable[..., Server]) -> None:
    log_in(with_agent(asking(), password=PASSWORD))
    log_in(with_agent(asking(questions=(), replies=()), password=PASSWORD))
    two = (("Mot de passe : ", False), ("Encore : ", False))
    log_in(with_agent(asking(questions=two, replies=(PASSWORD, PASSWORD)), password=PASSWORD))


@pytest.mark.parametrize(
    "question",
    [("Verification code: ", False), ("Passcode or option (1-3): ", True), ("Favourite\x1b[2J colour? ", True)],
)
def test_a_second_factor_is_refused_with_its_question(
    asking: Callable[..., Server], question: tuple[str, bool]
) -> None:
    text = denied(with_agent(asking(questions=(("Password: ", False), question)), password=PASSWORD))
    assert question[0].strip().replace("\x1b", r"\x1b") in text.replace(r"\\", "\\")
    assert "only a person can answer" in text
    assert PASSWORD not in text


@pytest.mark.parametrize("third", ["New password: ", "Neues Passwort: "])
def test_an_expired_password_is_named_and_not_changed(asking: Callable[..., Server], third: str) -> None:
    prompts = iter(("Current password: ", third))
    replies: list[str] = []

    def again(_: object, responses: list[str]) -> paramiko.server.InteractiveQuery:
        replies.extend(responses)
        return paramiko.server.InteractiveQuery("", "", (next(prompts), False))

    text = denied(with_agent(asking(check_auth_interactive_response=again), password=PASSWORD))
    assert f"the host asks {third.strip()!r}: the password has expired. Log in once with ssh, and change it" in text
    assert replies == [PASSWORD, PASSWORD]


def test_a_wrong_answer_is_refused(asking: Callable[..., Server]) -> None:
    text = denied(with_agent(asking(), password="wrong"))
    assert "(keyboard-interactive): refused" in text
    assert "the password: not tried, because the host does not accept this method" in text


@pytest.mark.parametrize("first", ["publickey", "password"])
def test_several_methods_one_after_the_other_let_in(asking: Callable[..., Server], first: str) -> None:
    server = asking(first=first)
    log_in(replace(server.settings(), password=PASSWORD))


def test_a_method_that_is_missing_after_another_one_is_named(asking: Callable[..., Server]) -> None:
    text = denied(asking(first="publickey").settings())
    assert "accepted, but the host requires another method as well" in text
    assert "The host accepts: keyboard-interactive." in text
    assert "authorized_keys" not in text


@needs_sshd
def test_two_keys_one_after_the_other_let_in(tmp_path: Path) -> None:
    make_key(tmp_path / "user_key")
    second = make_key(tmp_path / "second")
    (tmp_path / "both").write_text((tmp_path / "user_key.pub").read_text() + (tmp_path / "second.pub").read_text())
    server = OpensshServer(
        tmp_path, AuthenticationMethods="publickey,publickey", AuthorizedKeysFile=tmp_path / "both", MaxAuthTries=2
    )
    log_in(replace(server.settings(), identity_files=(second,)))
    server.close()


@needs_sshd
def test_a_host_that_ends_the_connection_at_once_is_not_asked_for_ever(tmp_path: Path) -> None:
    server = OpensshServer(tmp_path, MaxAuthTries=1)
    wrong = make_key(tmp_path / "wrong")
    log_in(server.settings())
    log_in(replace(server.settings(), key_file=wrong, identity_files=(user_key(server),)))
    text = denied(replace(server.settings(), key_file=wrong))
    assert "Too many authentication failures" in text
    server.close()


def test_a_host_that_does_not_answer_the_log_in_is_given_up(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = threading.Event()
    monkeypatch.setattr(Sessions, "check_auth_password", lambda *_: answers.wait(30))
    settings = with_agent(server, password="x", connect_timeout=1)
    with SshTransport(settings) as host, pytest.raises(UnreachableError, match=r"did not answer within 1 s while user"):
        host.run(["true"])
    answers.set()


def test_a_certificate_in_an_agent_is_offered(agent_path: Path, server: Server, tmp_path: Path) -> None:
    make_key(tmp_path / "ca")
    key = make_key(tmp_path / "key")
    keygen("-s", tmp_path / "ca", "-I", "me", "-n", "x", f"{key}.pub")
    certificate = blob_of(tmp_path / "key-cert")
    assert Reader(certificate).text() == "ssh-ed25519-cert-v01@openssh.com"
    with fake_agent(agent_path, refusing(certificate, FAILURE)):
        text = denied(with_agent(server))
    assert str(PublicKey("ssh-ed25519-cert-v01@openssh.com", certificate)) in text
