"""Outside text of the ways to a host: SSH configurations, addresses, hosts files, in near-valid forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.hosts_file import read_hosts, settings_of
from VpmemLibrary.transport.ssh import config as ssh_config
from VpmemLibrary.transport.ssh import resolve as ssh_resolve
from VpmemLibrary.transport.ssh.address import parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import SshSettings

pytestmark = fuzz

ODD = st.text(st.sampled_from(" \t\r\n\f\0\"'\\#;%=:,@[]{}$~*?!/.-x1\u200b\udcffüß٢\x85\u2028"), max_size=8)
HOSTS = st.sampled_from(
    [
        "rack1",
        "rack*",
        "!rack1",
        "192.0.2.13",
        "::1",
        "fe80::1%eth0",
        "[::1]:22",
        "*",
        "bücher.example",
        "rack1.",
        "a" * 70,
    ]
)
WORDS = st.one_of(
    HOSTS,
    ODD,
    st.sampled_from(
        [
            "yes",
            "no",
            "none",
            "ask",
            "accept-new",
            "22",
            "99999",
            "10s",
            "~/.ssh/id",
            "~nobody-at-all/x",
            "%h",
            "%%",
            "%d/x",
            "${HOME}/x",
            "${VPMEM_NOT_SET}",
            "$SHELL",
            '"a b"',
            "qa@rack1:22",
            "a,b,rack1",
            "all",
            "host",
            "final",
            "user",
            "!user",
            "canonical",
            "localnetwork",
            "exec",
            "tagged",
            "config",
            "part",
            "part*",
            "\\",
        ]
    ),
)
OPTIONS = st.sampled_from([*sorted(ssh_config._KNOWN), "ControlMaster", "HostName", '"Host"', "", "#"])
LINES = st.builds(
    lambda option, between, words, end: option + between + " ".join(words) + end,
    OPTIONS,
    st.sampled_from([" ", "=", " = ", "\t", ""]),
    st.lists(WORDS, max_size=4),
    st.sampled_from(["", " # why", "\r", " ", '"']),
)
CONFIGS = st.lists(LINES, max_size=12).map("\n".join)


def only_own_errors(work: Callable[[], object]) -> None:
    try:
        work()
    except VpmemError as error:
        assert str(error)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ssh_config, "USER_FILE", str(tmp_path / "config"))
    monkeypatch.setattr(ssh_resolve, "_exists", lambda name: name.startswith("r"))
    monkeypatch.setattr(ssh_resolve, "_succeeds", lambda command: "x" in command)
    return tmp_path


@fuzzed
@given(text=CONFIGS, part=CONFIGS, address=HOSTS)
def test_any_ssh_configuration_is_understood_or_refused(home: Path, text: str, part: str, address: str) -> None:
    for name, content in (("config", text), ("part", part)):
        (home / name).write_bytes(content.encode("utf-8", "surrogateescape"))
        (home / name).chmod(0o600)

    def work() -> None:
        settings = resolve(SshRequest(address))
        assert isinstance(settings, SshSettings)
        assert "\n" not in settings.configured
        for path in (*settings.identity_files, *settings.certificate_files, settings.known_hosts_file):
            path.exists()

    only_own_errors(work)


@fuzzed
@given(
    text=st.one_of(
        st.text(max_size=40),
        st.builds(
            lambda scheme, user, host, port, end: scheme + user + host + port + end,
            st.sampled_from(["", "ssh://", "SSH://", "http://", "://"]),
            st.sampled_from(["", "qa@", "@", "q:p@", "a@b@", "-x@", "q%40@", "q%@"]),
            st.one_of(HOSTS, ODD, st.text(max_size=70)),
            st.sampled_from(["", ":", ":22", ":0", ":٢٢", ":" + "9" * 5000, "::"]),
            st.one_of(st.just(""), ODD),
        ),
    )
)
def test_any_address_is_understood_or_refused(text: str) -> None:
    def work() -> None:
        parsed = parse_address(text)
        assert parsed.host.isascii()
        settings = SshSettings(parsed.host, port=parsed.port or 22, user=parsed.user or "root")
        assert settings.label
        found = resolve(SshRequest(text, config=ConfigFiles(off=True))).address
        assert found == resolve(SshRequest(found, config=ConfigFiles(off=True))).address

    only_own_errors(work)


FIELDS = st.sampled_from(
    [
        "host_address",
        "host_user",
        "host_port",
        "host_sudo",
        "host_key_file",
        "host_ssh_config",
        "host_power_off",
        "host_adress",
        "host_power_on",
        "host_power_env",
        "host_through",
        "guest_cmdline",
        "guest_channel",
        "tags",
        "HOST_ADDRESS",
        "# x",
        "",
    ]
)
SECTIONS = st.builds(
    lambda header, fields: (
        header + "\n" + "\n".join(indent + name + mark + value for indent, name, mark, value in fields)
    ),
    st.one_of(st.sampled_from(["[a]", "[b]", "[DEFAULT]", "[ a ]", "[a", "[a] # x", "[]", ""]), ODD.map("[{}]".format)),
    st.lists(
        st.tuples(st.sampled_from(["", "", " ", "\t"]), FIELDS, st.sampled_from([" = ", "=", ": ", " "]), WORDS),
        max_size=6,
    ),
)


@fuzzed
@given(
    text=st.lists(SECTIONS, max_size=4).map("\n".join),
    encoding=st.sampled_from(["utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "latin-1"]),
)
def test_any_hosts_file_is_understood_or_refused(home: Path, text: str, encoding: str) -> None:
    (home / "hosts.dat").write_bytes(text.encode(encoding, "replace"))

    def work() -> None:
        for entry in read_hosts(home / "hosts.dat"):
            only_own_errors(lambda entry=entry: settings_of(entry))  # type: ignore[misc]

    only_own_errors(work)
