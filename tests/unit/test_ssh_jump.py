"""Hosts that are reached through jump hosts and proxy commands, with OpenSSH's own servers and client."""

from __future__ import annotations

import getpass
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import AccessDeniedError, HostKeyError, InvalidValueError, UnreachableError
from VpmemLibrary.transport.ssh import config as ssh_config
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy, SshSettings
from VpmemLibrary.transport.ssh.transport import SshTransport

pytestmark = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")


class Servers:
    """Three hosts, of which each has its own keys, and the configuration that leads to them."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.servers = {}
        for name in ("first", "second", "target"):
            (directory / name).mkdir()
            self.servers[name] = OpensshServer(directory / name)

    def port(self, name: str) -> int:
        return self.servers[name].port

    def host(self, name: str, *lines: str) -> str:
        """Return the block of a host, reached by an alias that is no name of the DNS."""
        own = self.directory / name
        block = [
            f"Host {name}.lab",
            "HostName 127.0.0.1",
            f"Port {self.port(name)}",
            f'IdentityFile "{own / "user_key"}"',
            "IdentitiesOnly yes",
            f"UserKnownHostsFile /nonexistent/known_hosts {own / 'known_hosts'}",
            f"User {getpass.getuser()}",
            *lines,
        ]
        return "\n    ".join(block) + "\n"

    def config(self, tmp_path: Path, *blocks: str) -> ConfigFiles:
        path = tmp_path / "config"
        path.write_text("GlobalKnownHostsFile none\n" + "".join(blocks))
        return ConfigFiles(path)

    def close(self) -> None:
        for server in self.servers.values():
            server.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    opened = Servers(tmp_path_factory.mktemp("servers"))
    yield opened
    opened.close()


def reached(config: ConfigFiles, address: str = "target.lab") -> SshSettings:
    return resolve(SshRequest(address, connect_timeout=5, config=config))


def answers(settings: SshSettings) -> bool:
    with SshTransport(settings) as host:
        return host.run(["echo", "here"]).text == "here\n"


def connections_to(port: int) -> list[int]:
    """Return which connections this process has to a local port."""
    return [
        each.laddr.port
        for each in psutil.Process().net_connections("tcp")
        if each.raddr and each.raddr.port == port and each.status == psutil.CONN_ESTABLISHED
    ]


def test_a_host_is_reached_through_two_jump_hosts_and_all_connections_end_with_it(
    servers: Servers, tmp_path: Path
) -> None:
    config = servers.config(
        tmp_path,
        servers.host("first"),
        servers.host("second", "ProxyJump first.lab"),
        servers.host("target", "ProxyJump second.lab"),
    )
    settings = reached(config)
    assert [hop.port for hop in settings.jumps] == [servers.port("first"), servers.port("second")]
    host = SshTransport(settings)
    ports = host.run(["sh", "-c", "echo $SSH_CONNECTION"]).text.split()
    assert int(ports[3]) == servers.port("target")
    assert len(connections_to(servers.port("first"))) == 1
    assert connections_to(servers.port("second")) == connections_to(servers.port("target")) == []
    host.close()
    assert connections_to(servers.port("first")) == []


def test_a_list_of_jump_hosts_is_gone_through_in_its_order(servers: Servers, tmp_path: Path) -> None:
    config = servers.config(
        tmp_path,
        servers.host("first"),
        servers.host("second", "ProxyCommand false"),
        servers.host("target", f"ProxyJump first.lab,{getpass.getuser()}@second.lab:{servers.port('second')}"),
    )
    settings = reached(config)
    assert [hop.port for hop in settings.jumps] == [servers.port("first"), servers.port("second")]
    assert answers(settings)


def test_the_connection_comes_back_after_the_jump_host_ended_it(servers: Servers, tmp_path: Path) -> None:
    config = servers.config(tmp_path, servers.host("first"), servers.host("target", "ProxyJump first.lab"))
    with SshTransport(reached(config)) as host:
        assert host.run(["true"]).exit_status == 0
        for child in psutil.Process(servers.servers["first"]._process.pid).children(recursive=True):
            child.kill()
        deadline = time.monotonic() + 30
        while connections_to(servers.port("first")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert host.run(["echo", "again"]).text == "again\n"


def test_the_key_of_a_jump_host_is_checked(servers: Servers, tmp_path: Path) -> None:
    first = servers.host("first").replace(str(servers.directory / "first" / "known_hosts"), "/nonexistent/other")
    config = servers.config(tmp_path, first, servers.host("target", "ProxyJump first.lab"))
    with pytest.raises(HostKeyError, match=rf"127\.0\.0\.1:{servers.port('first')} is unknown") as caught:
        answers(reached(config))
    assert f"jump host on the way to 127.0.0.1:{servers.port('target')}" in str(caught.value)
    accepting = servers.config(
        tmp_path, first + "    StrictHostKeyChecking accept-new\n", servers.host("target", "ProxyJump first.lab")
    )
    assert answers(reached(accepting))


def test_the_key_of_the_host_behind_a_jump_host_is_checked(servers: Servers, tmp_path: Path) -> None:
    target = servers.host("target", "ProxyJump first.lab")
    changed = tmp_path / "known_hosts"
    key = (servers.directory / "first" / "host_key.pub").read_text()
    changed.write_text(f"[127.0.0.1]:{servers.port('target')} {key}")
    config = servers.config(
        tmp_path, servers.host("first"), target.replace(str(servers.directory / "target" / "known_hosts"), str(changed))
    )
    with pytest.raises(HostKeyError, match="has changed"):
        answers(reached(config))


def test_a_jump_host_that_lets_nobody_in_is_named(servers: Servers, tmp_path: Path) -> None:
    first = servers.host("first").replace(
        str(servers.directory / "first" / "user_key"), str(servers.directory / "target" / "user_key")
    )
    config = servers.config(tmp_path, first, servers.host("target", "ProxyJump first.lab"))
    with pytest.raises(
        AccessDeniedError, match=rf"127\.0\.0\.1:{servers.port('first')}.*jump host on the way"
    ) as caught:
        answers(reached(config))
    assert caught.value is not None


def test_a_host_that_does_not_answer_its_jump_host_is_named_with_it(servers: Servers, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    target = servers.host("target", "ProxyJump first.lab").replace(f"Port {servers.port('target')}", f"Port {port}")
    with pytest.raises(UnreachableError) as caught:
        answers(reached(servers.config(tmp_path, servers.host("first"), target)))
    assert f"127.0.0.1 port {port} does not answer, as seen from jump host 127.0.0.1:{servers.port('first')}" in str(
        caught.value
    )
    assert connections_to(servers.port("first")) == []


@pytest.mark.parametrize("command", ["nc %h %p", "ssh -F {home}/config -W %h:%p first.lab", "socat - TCP:%h:%p"])
def test_a_proxy_command_carries_the_connection_and_ends_with_it(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    program = command.split(maxsplit=1)[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    config = servers.config(
        tmp_path,
        servers.host("first", "BatchMode yes"),
        servers.host("target", f"ProxyCommand {command.format(home=tmp_path)}"),
    )
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    with SshTransport(reached(config)) as host:
        assert host.run(["echo", "here"]).text == "here\n"
        children = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
        started = [child for child in children if child.name() == program]
        assert started
    assert not [child for child in started if child.is_running()]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("echo no route s3cret >&2; exit 7", "ended with exit status 7: no route s3cret"),
        ("no-such-program %h", "ended with exit status 127: "),
        ("printf 'no SSH\\n\\n'", "ended with exit status 0 and printed nothing"),
        ("kill -9 $$", "was ended by signal 9"),
    ],
)
def test_a_proxy_command_that_fails_is_named_with_what_it_printed(
    servers: Servers, tmp_path: Path, command: str, shown: str
) -> None:
    config = servers.config(tmp_path, servers.host("target", f'ProxyCommand sh -c "{command}" --password hunter2'))
    before = {child.pid for child in psutil.Process().children()}  # the sshd of the fixture has children of its own
    with pytest.raises(UnreachableError) as caught:
        answers(reached(config))
    assert f"ProxyCommand (sh ...) of host 127.0.0.1:{servers.port('target')}" in str(caught.value)
    assert shown in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert {child.pid for child in psutil.Process().children()} == before


def test_a_proxy_command_that_is_silent_is_given_up_and_ended(servers: Servers, tmp_path: Path) -> None:
    config = servers.config(tmp_path, servers.host("target", "ProxyCommand sleep 600"))
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    settings = resolve(SshRequest("target.lab", connect_timeout=1, config=config))
    with pytest.raises(UnreachableError, match=r"ProxyCommand \(sleep \.\.\.\)"):
        answers(settings)
    assert {child.pid for child in psutil.Process().children(recursive=True)} == before


def test_the_alias_of_a_host_key_is_looked_up(servers: Servers, tmp_path: Path) -> None:
    key = (servers.directory / "target" / "host_key.pub").read_text()
    known = tmp_path / "known_hosts"
    known.write_text(f"rack1 {key}")
    target = servers.host("target", "HostKeyAlias rack1")
    target = target.replace(str(servers.directory / "target" / "known_hosts"), "/nonexistent/more")
    target = target.replace("/nonexistent/known_hosts", str(known))
    assert answers(reached(servers.config(tmp_path, target)))


def test_a_host_of_an_included_file_is_opened(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ssh_config, "USER_FILE", "~/.ssh/config")
    monkeypatch.setattr(ssh_config, "SYSTEM_FILE", "/nonexistent/ssh_config")
    included = tmp_path / ".ssh" / "config.d" / "lab"
    included.parent.mkdir(parents=True)
    included.write_text(servers.host("target"))
    (tmp_path / ".ssh" / "config").write_text("Include config.d/*\n")
    for path in (included, tmp_path / ".ssh" / "config"):
        path.chmod(0o600)
    settings = resolve(SshRequest("target.lab", connect_timeout=5))
    assert answers(settings)
    assert f"User {getpass.getuser()} ({included} line 7)" in settings.configured


@pytest.mark.parametrize(
    "text",
    [
        "Host *\n ProxyJump bastion",
        "Host a\n ProxyJump b\nHost b\n ProxyJump a",
        "Host a\n ProxyJump b,c,b",
        "Host a\n ProxyJump b\nHost b\n ProxyJump c\nHost c\n ProxyJump b",
    ],
)
def test_jump_hosts_that_form_a_loop_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)
    with pytest.raises(InvalidValueError, match=r"proxyjump in .* line \d.*loop"):
        resolve(SshRequest("a", config=ConfigFiles(path)))


def test_a_jump_host_takes_what_the_configuration_says_of_it(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text(
        "Host a\n ProxyJump qa@[2001:db8::1]:2222,b\n"
        "Host b\n HostName 192.0.2.2\n Port 23\n IdentityFile /keys/b\n StrictHostKeyChecking no\n ConnectTimeout 3\n"
        "Host c\n ProxyJump none\n"
    )
    settings = resolve(SshRequest("a", password="secret", config=ConfigFiles(path)))
    first, second = settings.jumps
    assert (first.address, first.port, first.user, first.password) == ("2001:db8::1", 2222, "qa", None)
    assert (second.address, second.port, second.user) == ("192.0.2.2", 23, getpass.getuser())
    assert (second.identity_files, second.host_key) == ((Path("/keys/b"),), HostKeyPolicy.accept_new)
    assert (first.connect_timeout, second.connect_timeout) == (15, 3)
    assert resolve(SshRequest("c", config=ConfigFiles(path))).jumps == ()
