"""The ways into a guest: SSH through the host, and what they are chosen by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import paramiko
import pytest
from lxml import etree
from msgspec.structs import replace
from robot.api.types import Secret
from ssh_server import PASSWORD, Server

from VpmemLibrary.errors import (
    AccessDeniedError,
    CommandTimeoutError,
    HostKeyError,
    InvalidValueError,
    UnreachableError,
)
from VpmemLibrary.guest.channel.agent import AgentTransport
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.channel.opening import SshChannel, open_channel
from VpmemLibrary.guest.domain.network import link_local_address, mac_address
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.domain.xml import build_domain, read_interface
from VpmemLibrary.host.host import Host
from VpmemLibrary.keywords.guest.channels import ChannelKeywords
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.guest_defaults import GuestDefaults
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.session.tenancy import Tenancy
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.serial.transport import SerialTransport
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport

SPEC = GuestSpec(name="a", boot=BootSource(kernel="/boot/vmlinuz"), run_id="1a2b3c4d")


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Server]]:
    host, guest = (Server(tmp_path_factory.mktemp(name)) for name in ("host", "guest"))
    yield host, guest
    host.close()
    guest.close()


@pytest.fixture
def host_server(servers: tuple[Server, Server]) -> Iterator[Server]:
    servers[0].forwarded.clear()
    yield servers[0]
    servers[0].forwards = True


@pytest.fixture
def guest_server(servers: tuple[Server, Server]) -> Server:
    return servers[1]


@pytest.fixture
def host(host_server: Server) -> Iterator[SshTransport]:
    with SshTransport(host_server.settings()) as transport:
        yield transport


@pytest.fixture
def channel(host: SshTransport, guest_server: Server) -> Iterator[SshChannel]:
    with SshChannel("a", guest_server.settings(), host) as channel:
        yield channel


def test_commands_in_a_guest_share_one_connection_through_the_host(channel: SshChannel, host_server: Server) -> None:
    assert isinstance(channel, Transport)
    result = channel.run(["sh", "-c", "cat; echo no >&2; exit 7"], stdin=b"\0\xff")
    assert (result.exit_status, result.stdout, result.stderr, result.host) == (7, b"\0\xff", b"no\n", "guest a")
    assert channel.run(["sh", "-c", "kill -TERM $$"]).exit_status == -15
    data = bytes(1 << 20)
    assert channel.run(["cat"], stdin=data).stdout == data
    assert len(host_server.forwarded) == 1


def test_a_stream_and_files_go_through_the_host_as_well(channel: SshChannel, tmp_path: Path) -> None:
    stream = channel.stream(["cat"])
    stream.send(b"there")
    assert stream.recv(100) == b"there"
    stream.close()
    channel.write_file(str(tmp_path / "file"), b"\0\n", mode=0o640)
    assert channel.read_file(str(tmp_path / "file")) == b"\0\n"


def test_a_timeout_ends_all_that_a_command_started_without_a_process_group(channel: SshChannel, tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    script = 'setsid sleep 600 & echo $! > "$1"; echo $$ >> "$1"; wait'
    with pytest.raises(CommandTimeoutError):
        channel.run(["sh", "-c", script, "sh", str(pids)], timeout=2)
    assert not [pid for pid in pids.read_text().split() if _runs(int(pid))]


def test_a_guest_that_does_not_answer_is_reported_as_its_host_sees_it(host: SshTransport) -> None:
    settings = SshSettings("127.0.0.1", port=1, known_hosts=Path("/dev/null"))
    with SshChannel("a", settings, host) as channel:
        with pytest.raises(UnreachableError, match=r"127\.0\.0\.1 port 1 does not answer, as seen from 127\.0\.0\.1:"):
            channel.run(["true"])
        assert not channel.ping(2)


def test_a_host_that_forwards_nothing_is_reported_with_the_fix(channel: SshChannel, host_server: Server) -> None:
    host_server.forwards = False
    with pytest.raises(UnreachableError, match="Set AllowTcpForwarding"):
        channel.run(["true"])


def test_a_local_host_connects_by_itself(guest_server: Server) -> None:
    with SshChannel("a", guest_server.settings(), LocalTransport()) as channel:
        assert channel.run(["echo", "in"]).text == "in\n"


def test_the_key_may_have_a_name_of_its_own_and_the_file_is_never_written(
    host: SshTransport, guest_server: Server, tmp_path: Path
) -> None:
    known = tmp_path / "known_hosts"
    key = guest_server.host_key
    known.write_text(f"any-guest {key.get_name()} {key.get_base64()}\n")
    settings = replace(guest_server.settings(), known_hosts=known, host_key_name="any-guest")
    with SshChannel("a", settings, host) as channel:
        assert channel.ping(10)
    other = paramiko.ECDSAKey.generate()
    known.write_text(f"any-guest {other.get_name()} {other.get_base64()}\n")
    with SshChannel("a", settings, host) as channel, pytest.raises(HostKeyError, match="-R 'any-guest'"):
        channel.ping(10)
    known.write_text("")
    with SshChannel("a", settings, host) as channel, pytest.raises(HostKeyError, match="is unknown"):
        channel.ping(10)
    assert known.read_text() == ""


def test_a_refused_log_in_is_reported_and_not_waited_for(host: SshTransport, guest_server: Server) -> None:
    settings = replace(guest_server.settings(), key_file=None, password="wrong secret")
    with SshChannel("a", settings, host) as channel, pytest.raises(AccessDeniedError) as caught:
        channel.ping(10)
    assert "wrong secret" not in str(caught.value)
    with SshChannel("a", replace(settings, password=PASSWORD), host) as channel:
        assert channel.ping(10)


def test_a_guest_that_rebooted_is_reached_again(channel: SshChannel, guest_server: Server) -> None:
    assert channel.ping(10)
    guest_server.break_connections()
    assert channel.run(["echo", "again"]).text == "again\n"


@pytest.mark.parametrize(
    ("mac", "address"),
    [("52:54:00:12:34:56", "fe80::5054:ff:fe12:3456"), ("00:00:5E:00:53:01", "fe80::200:5eff:fe00:5301")],
)
def test_a_link_local_address_is_made_of_the_mac_address(mac: str, address: str) -> None:
    assert link_local_address(mac) == address


def test_guests_have_different_mac_addresses_and_keep_them() -> None:
    macs = {mac_address("1a2b3c4d", f"vpmem-{number}") for number in range(100)}
    assert len(macs) == 100
    assert all(mac.startswith("52:54:00:") and len(mac) == 17 for mac in macs)
    assert mac_address("1a2b3c4d", "vpmem-1") in macs


def test_a_guest_has_an_interface_only_where_it_has_a_bridge() -> None:
    assert read_interface(build_domain(SPEC)) == ("", "")
    xml = build_domain(replace(SPEC, bridge="br0"))
    assert read_interface(xml) == (mac_address("1a2b3c4d", "a"), "br0")
    interface = etree.fromstring(xml).find("./devices/interface")
    assert interface is not None
    model = interface.find("./model")
    assert model is not None
    assert (interface.get("type"), model.get("type")) == ("bridge", "virtio")
    with pytest.raises(InvalidValueError, match="bridge"):
        replace(SPEC, bridge="a bridge of more than fifteen")


def opened(kind: GuestChannel, access: GuestAccess, xml: str) -> Any:
    nothing: Any = None
    return open_channel(kind, access, name="a", host=LocalTransport(), link=nothing, agent=nothing, xml=lambda: xml)


def test_each_kind_of_channel_is_its_own_transport() -> None:
    xml = build_domain(replace(SPEC, bridge="br0"))
    kinds = {GuestChannel.agent: AgentTransport, GuestChannel.ssh: SshChannel, GuestChannel.serial: SerialTransport}
    for kind, transport in kinds.items():
        channel = opened(kind, GuestAccess(), xml)
        assert type(channel) is transport
        assert isinstance(channel, Transport)
        assert channel.name == "guest a"


def test_ssh_goes_to_the_given_address_or_the_link_local_one() -> None:
    bridged = build_domain(replace(SPEC, bridge="br0"))
    by_mac = opened(GuestChannel.ssh, GuestAccess(), bridged).settings.address
    assert by_mac == f"{link_local_address(mac_address('1a2b3c4d', 'a'))}%br0"
    given = GuestAccess(address="192.168.122.7", port=2222, user="qa", password="secret")
    settings = opened(GuestChannel.ssh, given, bridged).settings
    assert (settings.address, settings.port, settings.user) == ("192.168.122.7", 2222, "qa")
    assert "secret" not in repr(given)
    with pytest.raises(InvalidValueError, match=r"address.*guest a: .*no interface on a bridge"):
        opened(GuestChannel.ssh, GuestAccess(), build_domain(SPEC))


def opened_host() -> OpenHost:
    defaults = GuestDefaults(boot=BootSource(kernel="/boot/vmlinuz"))
    return OpenHost(Host("rack1", LocalTransport()), RunMark.of_this_run("1a2b3c4d"), guest_defaults=defaults)


def change(opened: OpenHost, **values: object) -> None:
    opened.guests.set_defaults(replace(opened.guests.defaults, **values))


def spec_of(opened: OpenHost, *, network: bool = False) -> GuestSpec:
    return opened.guests.spec(name="", memory=Size(256 * MiB), vcpus=1, devices=(), network=network)


def test_a_guest_has_a_network_where_it_is_asked_for_or_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tenancy, "hold_run_lease", lambda _: None)  # there is no host here to hold a lease on
    opened = opened_host()
    with pytest.raises(InvalidValueError, match=r"guest_bridge '' .*in the hosts file or by Set Guest Access"):
        spec_of(opened, network=True)
    change(opened, bridge="br0")
    assert spec_of(opened).bridge == ""
    assert spec_of(opened, network=True).bridge == "br0"
    change(opened, channel=GuestChannel.ssh)
    assert spec_of(opened).bridge == "br0"


def settings_of(opened: OpenHost) -> tuple[GuestChannel, str, GuestAccess]:
    defaults = opened.guests.defaults
    return defaults.channel, defaults.bridge, defaults.access


def keywords_on(opened: OpenHost) -> ChannelKeywords:
    session = Session(RunMark.of_this_run("1a2b3c4d"), 60)
    session._open["a"], session._current = opened, "a"
    return ChannelKeywords(session)


def test_access_that_is_set_keeps_what_is_not_given() -> None:
    opened = opened_host()
    access = GuestAccess(user="qa", key_file=Path("/key"), sudo=True, host_key=HostKeyPolicy.accept_new)
    change(opened, access=access, bridge="br0", channel=GuestChannel.ssh)
    keywords = keywords_on(opened)
    keywords.set_guest_access(password=Secret("hidden"))
    kept = GuestAccess(
        user="qa", key_file=Path("/key"), sudo=True, host_key=HostKeyPolicy.accept_new, password="hidden"
    )
    assert settings_of(opened) == (GuestChannel.ssh, "br0", kept)
    keywords.set_guest_access(user="root", sudo=False, bridge="br1")
    assert settings_of(opened) == (GuestChannel.ssh, "br1", replace(kept, user="root", sudo=False))
    keywords.set_guest_access(GuestChannel.agent, host_key=HostKeyPolicy.strict)
    defaults = opened.guests.defaults
    assert (defaults.channel, defaults.access.host_key) == (GuestChannel.agent, HostKeyPolicy.strict)


def test_a_guest_s_own_channel_keeps_what_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = opened_host()
    change(opened, access=GuestAccess(user="qa", port=2222))
    used: list[tuple[GuestChannel, GuestAccess]] = []

    class Named:
        def use_channel(self, channel: GuestChannel, access: GuestAccess) -> None:
            used.append((channel, access))

    monkeypatch.setattr(opened.guests, "find", lambda _: Named())
    keywords_on(opened).use_guest_channel("g", GuestChannel.ssh, address="192.168.122.7")
    assert used == [(GuestChannel.ssh, GuestAccess(user="qa", port=2222, address="192.168.122.7"))]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False
