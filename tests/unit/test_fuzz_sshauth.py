"""Outside text of SSH: known-hosts files, key files, certificates, an agent's answers, a host's questions."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_agent import identities
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from key_samples import GOOD, LOCKED, UNUSABLE

from VpmemLibrary.errors import HostKeyError
from VpmemLibrary.transport.ssh.agent import Agent, AgentError
from VpmemLibrary.transport.ssh.host_certificates import parse_certificate
from VpmemLibrary.transport.ssh.host_identity import HostIdentity, Known
from VpmemLibrary.transport.ssh.key_files import read_key_file
from VpmemLibrary.transport.ssh.known_hosts import HostKey, parse_known_keys
from VpmemLibrary.transport.ssh.login import _NotOfferedError, _prompts
from VpmemLibrary.transport.ssh.public_keys import PublicKey
from VpmemLibrary.transport.ssh.transport import SshSettings
from VpmemLibrary.transport.ssh.wire import packed

pytestmark = fuzz

KEY = HostKey("ssh-ed25519", packed("ssh-ed25519", bytes(32)))
KNOWN = (
    f"@cert-authority *.lab.example.com {KEY.line('').strip()} lab host CA\n"
    f"@revoked * {KEY.line('').strip()}\n"
    f"|1|OTZk9GqZ5j07fSwGylizYhjAtJg=|LApC98V2iJSVxTvU/0T2eqi6xzQ= {KEY.line('').strip()}\r\n"
    f"# a comment\n{KEY.line('a,!b,*.c?,[a]:22')} server-b\xfcro\n"
).encode("latin-1")


def changed(samples: list[bytes]) -> st.SearchStrategy[bytes]:
    """Texts near valid ones: pieces cut out, doubled, put in the place of others, and bytes changed."""
    edit = st.tuples(st.floats(0, 1), st.floats(0, 0.3), st.one_of(st.binary(max_size=12), st.sampled_from(PIECES)))

    def apply(sample: bytes, edits: list[tuple[float, float, bytes]]) -> bytes:
        for where, share, piece in edits:
            start = int(where * len(sample))
            sample = sample[:start] + piece + sample[start + int(share * share * len(sample)) :]
        return sample

    return st.builds(apply, st.sampled_from(samples), st.lists(edit, max_size=4))


PIECES = [
    b"",
    b"\n",
    b" ",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\0\0\1",
    b"*" * 40,
    b"|1|",
    b"@revoked ",
    b"@cert-authority ",
    b"-----BEGIN OPENSSH PRIVATE KEY-----\n",
    b"-----END OPENSSH PRIVATE KEY-----\n",
    b"Proc-Type: 4,ENCRYPTED\n",
    b"ssh-dss",
    b"sk-ssh-ed25519@openssh.com",
]
KEYS = [*GOOD.values(), *LOCKED.values(), *(content for content, _ in UNUSABLE.values())]


def within(seconds: float, act: Callable[[], object]) -> None:
    started = time.monotonic()
    act()
    assert time.monotonic() - started < seconds


@fuzzed
@given(changed([KNOWN]), st.text(max_size=20))
def test_known_hosts_files(content: bytes, name: str) -> None:
    within(5, lambda: parse_known_keys(content, Path("known_hosts"), (name, "rack1.lab.example.com", "[a]:22")))


@fuzzed
@given(changed(KEYS), st.sampled_from([None, "x"]))
def test_key_files(tmp_path: Path, content: bytes, passphrase: str | None) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)

    def read() -> None:
        found = read_key_file(path, passphrase)
        assert (found.key is None) == bool(found.problem)

    within(60, read)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Certificates of OpenSSH of each kind."""
    directory = tmp_path_factory.mktemp("certificates")
    made = []
    for kind in ("ed25519", "rsa", "ecdsa"):
        for name in ("ca", "key"):
            path = directory / f"{kind}_{name}"
            subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
        options = ["-h", "-I", "me", "-n", "a,b", "-O", "critical:x@y=z", "-O", "extension:x@y=z"]
        ca, key = directory / f"{kind}_ca", directory / f"{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-s", str(ca), *options, f"{key}.pub"], check=True)
        made.append(base64.b64decode((directory / f"{kind}_key-cert.pub").read_text().split()[1]))
    return made


@fuzzed
@given(data=st.data())
def test_certificates(certificates: list[bytes], data: st.DataObject) -> None:
    blob = data.draw(changed(certificates))
    try:
        certificate = parse_certificate(blob)
    except ValueError as error:
        assert str(error)
    else:
        assert certificate.why_not_for("a")  # each sample has an option that is not known
    known = parse_known_keys(KNOWN.replace(b"@revoked *", b"@revoked x"), Path("k"), ("x.lab.example.com", "x"))
    identity = HostIdentity(SshSettings("x.lab.example.com"))
    with pytest.raises(HostKeyError):
        identity.check(HostKey("ssh-rsa", b"none of the known"), blob, Known(known, known))


@fuzzed
@given(
    changed([identities((KEY.data, "a"), (b"x", "b\xfc")), packed(bytes([14]) + packed(packed("ssh-ed25519", b"x")))])
)
def test_answers_of_an_agent(answer: bytes) -> None:
    agent = Agent("unused", 1)
    agent._ask = lambda _: (answer[4] if len(answer) > 4 else 0, answer[5:])  # type: ignore[method-assign,assignment]
    for act in (agent.keys, lambda: agent.sign(_public(), b"data", "ssh-ed25519")):
        try:
            act()
        except AgentError as error:
            assert str(error)


def _public() -> PublicKey:
    return PublicKey(KEY.type, KEY.data)


@fuzzed
@given(changed([packed("name", "do this", "") + b"\0\0\0\2" + packed("Password: ") + b"\0" + packed("Code") + b"\1"]))
def test_questions_of_a_host(message: bytes) -> None:
    try:
        asked = _prompts(message)
    except _NotOfferedError as error:
        assert str(error)
    else:
        assert all(isinstance(prompt, str) for prompt, _ in asked)
