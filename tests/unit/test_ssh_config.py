"""The user's SSH configuration: what is taken from it, compared with OpenSSH's own client, and what is refused."""

from __future__ import annotations

import functools
import grp
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError, UnreachableError
from VpmemLibrary.transport.ssh import config as ssh_config
from VpmemLibrary.transport.ssh import resolve as ssh_resolve
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import NO_IDENTITY, HostKeyPolicy, SshSettings

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
    HostKeyAlias Second
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


@functools.cache
def defaults() -> dict[str, list[str]]:
    return asked_ssh(Path("/dev/null"), "any")


def default(option: str) -> list[str]:
    return defaults().get(option, [])


def understood(path: Path, host: str, user: str | None) -> dict[str, list[str]]:
    target = ssh_resolve._Target.of(host, user, None)
    found = ssh_resolve._look_up(target, ConfigFiles(path), USER)
    said = {option: [" ".join(line.values) for line in lines] for option, lines in found.options.lines.items() if lines}
    said["hostname"] = [found.tokens.hostname.lower()]
    said["user"] = [found.tokens.user]
    said["port"] = [str(found.tokens.port)]
    if found.tokens.key_name:
        said["hostkeyalias"] = [found.tokens.key_name]
    return said


@pytest.mark.skipif(SSH is None, reason="ssh is not installed (package openssh-client)")
@pytest.mark.parametrize("user", [None, "root", "qa"])
@pytest.mark.parametrize("host", ["rack1", "rack2", "rack3", "RACK3", "a.example", "with.space", "192.0.2.7"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_means_what_ssh_takes_it_for(tmp_path: Path, name: str, host: str, user: str | None) -> None:
    path = write(tmp_path / "config", CONFIGS[name])
    expected = asked_ssh(path, host, *(["-l", user] if user else []))
    if (name, host) == ("proxy", "rack2") and "proxycommand" not in expected:
        pytest.skip("this ssh ignores a ProxyCommand after `ProxyJump none`, as Debian's 9.2 did until an update")
    said = understood(path, host, user)
    for option in OPTIONS:
        mine = said.get(option, default(option))
        if option == "stricthostkeychecking":
            mine = [{"yes": "true", "off": "false", "no": "false"}.get(value, value) for value in mine]
        theirs = expected.get(option, [])
        if option in ("proxyjump", "proxycommand"):  # ssh -G does not print `none`
            mine = [value for value in mine if value != "none"]
        assert mine == theirs, option


@pytest.mark.skipif(SSH is None, reason="ssh is not installed (package openssh-client)")
@pytest.mark.parametrize(
    "address",
    [
        "2001:DB8:0:0::1",
        "::ffff:0102:0304",
        "fe80::0001%lo",
        "fe80::0001%no-such",
        "127.1",
        "rack1",
        "rack1.",
        "1.2.3.4.5",
    ],
)
def test_an_address_has_the_form_that_ssh_looks_up_in_known_hosts(tmp_path: Path, address: str) -> None:
    path = write(tmp_path / "config", "")
    assert settings(path, address).key_name == asked_ssh(path, address)["hostname"][0]


def test_nothing_is_asked_of_a_configuration_that_is_turned_off(home: Path) -> None:
    write(home / ".ssh/config", "Host rack1\n HostName 192.0.2.13\n")
    assert resolve(SshRequest("rack1")).address == "192.0.2.13"
    for word in ("no", "None", "false"):
        assert resolve(SshRequest("rack1", config=ConfigFiles.named(word))) == SshSettings("rack1")
    other = write(home / "other", "Host rack1\n HostName 192.0.2.14\n")
    assert resolve(SshRequest("rack1", config=ConfigFiles.named(str(other)))).address == "192.0.2.14"


def test_what_is_given_wins_over_the_configuration(home: Path) -> None:
    path = write(
        home / "config",
        "Host rack1\n User qa\n Port 2222\n ConnectTimeout 3\n StrictHostKeyChecking no\n UserKnownHostsFile /a\n",
    )
    bare = settings(path, "rack1")
    assert (bare.user, bare.port, bare.connect_timeout) == ("qa", 2222, 3)
    assert (bare.host_key, bare.user_known_hosts) == (HostKeyPolicy.accept_new, Path("/a"))
    given = settings(
        path,
        "root@rack1:22",
        connect_timeout=9.0,
        host_key=HostKeyPolicy.strict,
        known_hosts=Path("/b"),
    )
    assert (given.user, given.port, given.connect_timeout) == ("root", 22, 9)
    assert (given.host_key, given.known_hosts_file) == (HostKeyPolicy.strict, Path("/b"))
    assert (given.user_known_hosts, given.more_known_hosts, given.configured) == (None, (), "")
    assert settings(path, "rack1", port=22).port == 22


@pytest.mark.parametrize(
    ("word", "policy"),
    [("yes", "strict"), ("ask", "strict"), ("accept-new", "accept-new"), ("no", "accept-new"), ("OFF", "accept-new")],
)
def test_strict_host_key_checking_becomes_a_policy(home: Path, word: str, policy: str) -> None:
    assert settings(write(home / "config", f"StrictHostKeyChecking {word}"), "a").host_key == policy


def test_paths_have_their_tokens_and_variables_replaced(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys/50%u")
    path = write(
        home / "config",
        "Host rack1\n HostName 192.0.2.13\n User qa\n HostKeyAlias Alias\n Port 23\n IdentityFile ~/.ssh/%n-%h-%p-%r\n"
        " IdentityFile %d/a%%b\n IdentityFile ${KEYS}/%u\n CertificateFile %d/%k-%i\n IdentityAgent ~/agent-%h\n"
        " UserKnownHostsFile ~/known/%h %d/other none\n GlobalKnownHostsFile /etc/one\n",
    )
    found = settings(path, "rack1")
    assert found.identity_files == (
        home / ".ssh/rack1-192.0.2.13-23-qa",
        home / "a%b",
        Path(f"/keys/50%u/{USER}"),
    )
    assert found.certificate_files == (home / f"alias-{os.getuid()}",)
    assert (found.identity_agent, found.use_agent) == (f"{home}/agent-192.0.2.13", True)
    assert found.user_known_hosts == home / "known/192.0.2.13"
    assert found.more_known_hosts == (home / "other", Path("/etc/one"))
    assert found.key_name == "alias"


def test_the_known_hosts_files_are_those_of_ssh(home: Path) -> None:
    found = resolve(SshRequest("a"))
    assert found.known_hosts_file == home / ".ssh/known_hosts"
    assert found.more_known_hosts == (
        home / ".ssh/known_hosts2",
        Path("/etc/ssh/ssh_known_hosts"),
        Path("/etc/ssh/ssh_known_hosts2"),
    )
    none = settings(write(home / "config", "UserKnownHostsFile none\nGlobalKnownHostsFile none\n"), "a")
    assert (none.known_hosts_file, none.more_known_hosts) == (Path("/dev/null"), (Path("/dev/null"),))


@pytest.mark.parametrize(
    ("value", "used", "socket"),
    [
        ("none", False, ""),
        ("SSH_AUTH_SOCK", True, ""),
        ("$VPMEM_AGENT", True, "/run/agent"),
        ("${VPMEM_AGENT}/x", True, "/run/agent/x"),
        ("$VPMEM_NO_AGENT", False, ""),
    ],
)
def test_the_agent_is_the_one_that_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, value: str, used: bool, socket: str
) -> None:
    monkeypatch.setenv("VPMEM_AGENT", "/run/agent")
    found = settings(write(home / "config", f"IdentityAgent {value}"), "a")
    assert (found.use_agent, found.identity_agent) == (used, socket)


def test_no_identity_file_leaves_no_default_key(home: Path) -> None:
    found = settings(write(home / "config", "IdentityFile none\n"), "a")
    assert found.identity_files == (NO_IDENTITY,)
    assert not NO_IDENTITY.exists()


def test_files_are_included_from_any_place_and_any_block(home: Path, tmp_path: Path) -> None:
    write(home / ".ssh/config", "Host rack1\n Include conf.d/*.conf nowhere ~/more ${HOME}/env\nHost *\n User last\n")
    write(home / ".ssh/conf.d/10.conf", "Port 2222\nHost other\n Port 1\n")
    write(home / ".ssh/conf.d/20.conf", "Include deeper\n")
    write(home / ".ssh/deeper", "Match host *\n HostName 192.0.2.13\n")
    write(home / "more", "ConnectTimeout 4\n")
    write(home / "env", "HostKeyAlias env\n")
    write(tmp_path / "etc/ssh_config", "Include part\nHost *\n Port 3333\n")
    write(tmp_path / "etc/part", "IdentitiesOnly yes\n")
    found = resolve(SshRequest("rack1"))
    assert (found.address, found.port, found.user) == ("192.0.2.13", 2222, "last")
    assert (found.connect_timeout, found.host_key_name, found.identities_only) == (4, "env", True)
    other = resolve(SshRequest("other"))
    assert (other.address, other.port, other.user) == ("other", 3333, "last")


def test_the_log_says_what_came_from_which_line_and_shows_no_secret(home: Path) -> None:
    path = write(
        home / "config",
        "Host rack1\n HostName 192.0.2.13\n User qa\n ProxyCommand sshpass -p hunter2 ssh -W %h:%p gate\n"
        "Match localnetwork x\n",
    )
    found = settings(path, "rack1", user="root")
    assert found.configured == (
        f"SSH configuration of rack1: HostName 192.0.2.13 ({path} line 2), ProxyCommand sshpass ... ({path} line 4), "
        f"not understood and skipped: Match localnetwork ({path} line 5)"
    )
    assert found.proxy_command == "sshpass -p hunter2 ssh -W 192.0.2.13:22 gate"
    assert "hunter2" not in repr(found)


def test_a_canonical_name_is_looked_for_in_the_domains(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_resolve, "_exists", lambda name: name == "rack1.two.example")
    path = write(
        home / "config",
        "CanonicalizeHostname yes\nCanonicalDomains one.example two.example\n"
        "Match canonical host *.two.example\n User two\nHost *.two.example\n Port 2222\n",
    )
    found = settings(path, "rack1")
    assert (found.address, found.user, found.port) == ("rack1.two.example", "two", 2222)
    assert settings(path, "a.b.c").address == "a.b.c"
    write(path, "CanonicalizeHostname yes\nCanonicalDomains one.example\nCanonicalizeFallbackLocal no\n")
    with pytest.raises(UnreachableError, match="rack1 cannot be found in any of the CanonicalDomains"):
        settings(path, "rack1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Port 99999", "port in .*config line 2 '99999' .*1 to 65535"),
        ("Port ssl-none", "port in .* line 2 'ssl-none'"),
        ("Port", "port in .* line 2 '' .*a value"),
        ("HostName", "hostname in .* line 2"),
        ("HostName a b", "one value"),
        ("HostName -oProxyCommand=x", "hostname in .* line 2"),
        ("HostName %z", r"hostname in .* line 2 '%z' .*tokens %%, %h, not %z"),
        ("HostName qa@rack1", "hostname in .* line 2"),
        ("HostName rack1:22", "hostname in .* line 2 'rack1:22' .*User and Port are options"),
        ("HostName [2001:db8::1]:22", r"hostname in .* line 2 '\[2001:db8::1\]:22' .*User and Port are options"),
        ("HostName\u00a0192.0.2.13", "config line 2 .*a no-break space"),
        ("\u00a0\u00a0HostName 192.0.2.13", "config line 2 .*a no-break space"),
        ("\u200bPort 2222", "config line 2 .*a no-break space"),
        ('User "qa', "user in .* line 2 .*quotes that are closed"),
        ("User a;b", "user in .* line 2"),
        ("IdentitiesOnly perhaps", "identitiesonly in .* line 2 'perhaps' .*yes or no"),
        ("StrictHostKeyChecking perhaps", "stricthostkeychecking in .* line 2"),
        ("ConnectTimeout soon", "connecttimeout in .* line 2"),
        ("CanonicalizeHostname perhaps", "canonicalizehostname in .* line 2"),
        ("IdentityFile ~no-such-user/key", "identityfile in .* line 2 .*a user who exists"),
        ("IdentityFile ${VPMEM_NOT_SET}/key", "identityfile in .* line 2 .*'VPMEM_NOT_SET' is not"),
        ("IdentityFile a\0b", "identityfile in .* line 2 .*NUL"),
        ("IdentityAgent $1", "identityagent in .* line 2"),
        ("ProxyJump a,,b", "proxyjump in .* line 2"),
        ("ProxyJump a:b:c", "proxyjump in .* line 2"),
        ("ProxyCommand nc %z", "proxycommand in .* line 2"),
        ("ProxyCommand x\nProxyUseFdpass yes", "proxyusefdpass in .* line 3 'yes' .*carry the bytes itself"),
        ("Match", "match in .* line 2"),
        ("Match host", "match in .* line 2 .*a value after 'host'"),
        ("Match hots rack1", "match in .* line 2 .*criteria that ssh knows .*not 'hots'"),
        ("Match all host a", "match in .* line 2 .*`all` alone"),
        ("Include ~no-such-user/x", "include in .* line 2"),
        ("Include /dev/zero", "ssh_config '/dev/zero' .*a regular file"),
        ("Include config", "ssh_config .*16 levels"),
        ("Include config config config", "ssh_config .*16 levels"),
        ('Match exec "sleep 600"', "Match exec 'sleep 600' .*ends within"),
    ],
)
def test_a_wrong_line_is_named_with_its_file(
    home: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.setattr(ssh_resolve, "_EXEC_SECONDS", 0.3)
    write(home / ".ssh/config", f"# a comment\n{text}\n")
    with pytest.raises(InvalidValueError, match=message):
        resolve(SshRequest("rack1"))


def test_what_is_not_known_and_what_is_for_others_does_no_harm(home: Path) -> None:
    path = write(
        home / "config",
        'NewOption "x\n = \n"Odd" line\nControlMaster auto\nMatch localnetwork 10.0.0.0/8\n Port 1\n'
        "Host *\n Port 2222\r\n"
        "# \udcff\n".encode("utf-8", "surrogateescape").decode("latin-1"),
    )
    assert settings(path, "rack1").port == 2222


def test_a_file_that_others_can_write_is_refused_as_ssh_refuses_it(home: Path) -> None:
    path = write(home / ".ssh/config", "Match exec true\n User qa\n")
    path.chmod(0o666)
    with pytest.raises(InvalidValueError, match="chmod go-w"):
        resolve(SshRequest("rack1"))
    path.chmod(0o600)
    assert resolve(SshRequest("rack1")).user == "qa"


def test_a_file_of_a_private_group_is_read_and_one_of_another_user_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(home / ".ssh/config", "User qa\n")
    path.chmod(0o664)
    entry, group = pwd.getpwuid(os.getuid()), path.stat().st_gid
    mine = pwd.struct_passwd((entry[0], "x", entry[2], group, *entry[4:]))
    monkeypatch.setattr(pwd, "getpwall", lambda: [mine])
    monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group(("qa", "x", number, [])))
    assert resolve(SshRequest("rack1")).user == "qa"
    monkeypatch.setattr(grp, "getgrgid", lambda number: grp.struct_group(("qa", "x", number, ["other"])))
    with pytest.raises(InvalidValueError, match="chmod go-w"):
        resolve(SshRequest("rack1"))
    monkeypatch.setattr(os, "getuid", lambda: entry.pw_uid + 4242)
    if entry.pw_uid:
        with pytest.raises(InvalidValueError, match=f"not of user id {entry.pw_uid}"):
            resolve(SshRequest("rack1"))
    else:
        os.chown(path, 4242, -1)
        monkeypatch.setattr(os, "getuid", lambda: 0)
        with pytest.raises(InvalidValueError, match="not of user id 4242"):
            resolve(SshRequest("rack1"))


def test_a_directory_or_a_link_to_nothing_is_passed_over_as_ssh_does(home: Path) -> None:
    (home / ".ssh/config.d/sub").mkdir(parents=True)
    (home / ".ssh/config.d/gone").symlink_to("nowhere")
    write(home / ".ssh/config.d/rack", "User qa\n")
    path = write(home / ".ssh/config", "Include config.d/*\n")
    assert resolve(SshRequest("rack1")).user == "qa"
    path.unlink()
    path.symlink_to("nowhere")
    assert resolve(SshRequest("rack1")).user == "root"


def test_a_user_without_a_home_directory_is_told_to_set_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "~")  # same effect as no HOME and no entry in /etc/passwd
    path = write(tmp_path / "config", "IdentityFile %d/id\nUserKnownHostsFile /dev/null\n")
    for config in (ConfigFiles(), ConfigFiles(path)):
        with pytest.raises(InvalidValueError, match="no home directory: set HOME"):
            resolve(SshRequest("rack1", config=config))


def test_a_file_that_is_absent_is_refused_only_if_it_was_named(home: Path) -> None:
    assert resolve(SshRequest("rack1")).address == "rack1"
    with pytest.raises(InvalidValueError, match=r"ssh_config .*nowhere.*No such file"):
        settings(home / "nowhere", "rack1")
    assert settings(Path("/dev/null"), "rack1").user == "root"


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_with_a_byte_order_mark_is_refused(home: Path, encoding: str) -> None:
    path = home / "config"
    path.write_bytes("Host other\n HostName 192.0.2.13\n".encode(encoding))
    with pytest.raises(InvalidValueError, match="without a byte order mark"):
        settings(path, "rack1")
