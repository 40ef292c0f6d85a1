"""The user's SSH configuration: what is taken from it, compared with OpenSSH's own client, and what is refused."""

from __future__ import annotations

import getpass
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from VpmemLibrary.host import ssh_config, ssh_resolve
from VpmemLibrary.host.ssh_config import ConfigFiles
from VpmemLibrary.host.ssh_resolve import SshRequest, resolve
from VpmemLibrary.host.ssh_settings import SshSettings

SSH = shutil.which("ssh")
USER = pwd.getpwuid(os.getuid()).pw_name


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory with an empty ``.ssh``, and a system's file beside it."""
    (tmp_path / "home" / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ssh_config, "USER_FILE", "~/.ssh/config")
    monkeypatch.setattr(ssh_config, "SYSTEM_FILE", str(tmp_path / "etc" / "ssh_config"))
    return tmp_path / "home"


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def settings(path: Path, address: str, **given: object) -> SshSettings:
    return resolve(SshRequest(address, config=ConfigFiles(path), **given))  # type: ignore[arg-type]


CONFIGS = {
    "patterns": """
User first
Host rack1
    HostName 192.0.2.13
    User late
    Port 2222
Host rack? !rack2
    HostName other
    IdentityFile ~/.ssh/rack
    IdentityFile ~/.ssh/rack
    IdentityFile ~/.ssh/more
Host *.example "with space" RACK3
    HostName %h.internal
    Port=2200
    ProxyJump bastion:2022
Host !rack3 *
    IdentitiesOnly yes
    ConnectTimeout 7
    UserKnownHostsFile /a /b
    UserKnownHostsFile /c
    StrictHostKeyChecking accept-new
""",
    "quotes": """
Host "rack1" 'rack2'
    IdentityFile "/keys/my key"   # a comment
    IdentityFile = '/keys/other key'
    CertificateFile\t/keys/a\\ b
  CertificateFile   =/keys/c
    hOSTkEYaLIAS "alias" # why
    GlobalKnownHostsFile "/a b" /c
    HostName="192.0.2.1"
    User qa
    UnknownToUs = x "
#  Host rack3
Host rack3
    Port 1
    IdentityAgent none
    StrictHostKeyChecking off
""".replace('    UnknownToUs = x "\n', ""),
    "match": """
Match host rack1,rack2 user root
    Port 1001
Match host rack3 user qa
    Port 1002
Host rack2
    HostName inner
Match originalhost rack2 host inner
    HostKeyAlias second
Match host rack2
    HostKeyAlias wrong
Match !host rack1,rack3
    ConnectTimeout 3
Match final host inner
    ConnectTimeout 4
    Port 1003
Match final originalhost rack1
    HostKeyAlias final
Match canonical
    User canonical
Match localuser "nobody-else"
    User wrong
Match exec "test %h = rack3"
    IdentityFile /keys/exec-%h
Match !exec "test %n = rack1"
    CertificateFile /keys/not-rack1
Match all
    IdentitiesOnly yes
""",
    "proxy": """
Host rack1
    ProxyCommand none
    ProxyJump bastion
Host rack2
    ProxyJump none
    ProxyCommand nc %h %p
Host rack3
    ProxyJump first,qa@[2001:db8::1]:2222
    ProxyCommand nc %h %p
Host *
    ProxyCommand nc -X connect "%h" %p # not a comment
""",
    "case": """
Host RACK1
    Port 1
Host rack1
    Port 2
    HostName Upper.Example
Match host upper.example
    User lower
Match host Upper.Example
    User upper
Match final host upper.example
    HostKeyAlias final-lower
""",
}


OPTIONS = (
    *("hostname", "user", "port", "identityfile", "certificatefile", "identitiesonly", "identityagent", "proxyjump"),
    *("proxycommand", "hostkeyalias", "userknownhostsfile", "globalknownhostsfile", "stricthostkeychecking"),
    "connecttimeout",
)


def asked_ssh(path: Path, host: str, *more: str) -> dict[str, list[str]]:
    assert SSH is not None
    shown = subprocess.run([SSH, "-G", "-F", path, *more, host], capture_output=True, text=True, check=True)
    found: dict[str, list[str]] = {}
    for line in shown.stdout.splitlines():
        name, _, value = line.partition(" ")
        found.setdefault(name, []).append(value)
    return found


def understood(path: Path, host: str, user: str | None) -> dict[str, list[str]]:
    target = ssh_resolve._Target.of(host, user, None)
    found = ssh_resolve._look_up(target, ConfigFiles(path), USER)
    said = {option: [" ".join(line.values) for line in lines] for option, lines in found.options.lines.items() if lines}
    said["hostname"] = [found.tokens.hostname.lower()]
    said["user"] = [found.tokens.user]
    said["port"] = [str(found.tokens.port)]
    return said


@pytest.mark.skipif(SSH is None, reason="ssh is not installed (package openssh-client)")
@pytest.mark.parametrize("user", [None, "root", "qa"])
@pytest.mark.parametrize("host", ["rack1", "rack2", "rack3", "RACK3", "a.example", "with.space", "192.0.2.7"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_means_what_ssh_takes_it_for(tmp_path: Path, name: str, host: str, user: str | None) -> None:
    path = write(tmp_path / "config", CONFIGS[name])
    expected = asked_ssh(path, host, *(["-l", user] if user else []))
    empty = asked_ssh(write(tmp_path / "empty", ""), host)
    said = understood(path, host, user)
    for option in OPTIONS:
        mine = said.get(option, empty.get(option, []))
        if option == "stricthostkeychecking":
            mine = [{"yes": "true", "off": "false", "no": "false"}.get(value, value) for value in mine]
        theirs = expected.get(option, [])
        if option in ("proxyjump", "proxycommand"):  # ssh -G does not print `none`
            mine = [value for value in mine if value != "none"]
        assert mine == theirs, option


def test_nothing_is_asked_of_a_configuration_that_is_turned_off(home: Path) -> None:
    write(home / ".ssh/config", "Host rack1\n HostName 192.0.2.13\n")
    assert resolve(SshRequest("rack1")).address == "192.0.2.13"
    for word in ("no", "None", "false"):
        assert resolve(SshRequest("rack1", config=ConfigFiles.named(word))) == SshSettings("rack1")
    other = write(home / "other", "Host rack1\n HostName 192.0.2.14\n")
    assert resolve(SshRequest("rack1", config=ConfigFiles.named(str(other)))).address == "192.0.2.14"
    assert getpass.getuser()
