"""The forms of an address: what they mean, and what is refused with the right form."""

from __future__ import annotations

import socket
import time

import pytest

from VpmemLibrary.errors import InvalidValueError, UnreachableError
from VpmemLibrary.transport.ssh.address import Address, parse_address
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.resolve import SshRequest, resolve
from VpmemLibrary.transport.ssh.settings import SshSettings
from VpmemLibrary.transport.tcp import connect_tcp


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rack1", Address("rack1")),
        (" rack1\t\n", Address("rack1")),
        ("rack1.example.", Address("rack1.example.")),
        ("rack1:2222", Address("rack1", None, 2222)),
        ("qa@rack1", Address("rack1", "qa")),
        ("qa@rack1:2222", Address("rack1", "qa", 2222)),
        ("qa@corp@rack1", Address("rack1", "qa@corp")),
        ("CORP\\qa@rack1", Address("rack1", "CORP\\qa")),
        ("192.0.2.13:22", Address("192.0.2.13", None, 22)),
        ("2001:db8::13", Address("2001:db8::13")),
        ("::1", Address("::1")),
        ("fe80::1%eth0", Address("fe80::1%eth0")),
        ("qa@fe80::1%eth0", Address("fe80::1%eth0", "qa")),
        ("[2001:db8::13]", Address("2001:db8::13")),
        ("[fe80::1%eth0]:2222", Address("fe80::1%eth0", None, 2222)),
        ("[rack1]:2222", Address("rack1", None, 2222)),
        ("ssh://rack1", Address("rack1")),
        ("SSH://qa@rack1:2222/", Address("rack1", "qa", 2222)),
        ("ssh://q%40a@[fe80::1%25eth0]:22", Address("fe80::1%eth0", "q@a", 22)),
        ("bücher.example", Address("xn--bcher-kva.example")),
        ("gate/rack1", Address("gate/rack1")),
        ("rack_1", Address("rack_1")),
    ],
)
def test_an_address_has_its_parts(text: str, expected: Address) -> None:
    assert parse_address(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a host's name or IP address"),
        ("rack1 rack2", "a host's name"),
        ("-oProxyCommand=x", "a host's name"),
        ("rack1;reboot", "a host's name"),
        ("rack1$(reboot)", "a host's name"),
        ("rack1\0", "a host's name"),
        ("rack1:", "a port number, 1 to 65535"),
        ("rack1:ssh", "a port number"),
        ("rack1:0", "a port number"),
        ("rack1:65536", "a port number"),
        ("rack1:" + "9" * 5000, "a port number"),
        ("rack1:22:22", "IPv6 address with a port stands in brackets"),
        ("[::1", "in brackets, then the port"),
        ("[::1]22", "in brackets, then the port"),
        ("[]:22", "in brackets, then the port"),
        ("::1%\x80", "IPv6 address with a port stands in brackets"),
        ("[fe80::1%$(reboot)]:22", "not an IPv6 address"),
        ("[::g]:22", "not an IPv6 address"),
        ("@rack1", "a user's name before the @"),
        ("qa@", "a host's name"),
        ("-qa@rack1", "the name of the user"),
        ("q a@rack1", "the name of the user"),
        ("http://rack1", "only ssh:// is supported"),
        ("qemu+ssh://rack1/system", "only ssh:// is supported"),
        ("ssh://rack1/path", "without the path '/path'"),
        ("ssh://", "a host's name"),
        ("192.0.2.300", "an IPv4 address of four numbers"),
        ("192.0.2.0/24", "not a network"),
        ("straße.example", "the ASCII form of the name"),
        ("." * 5 + "ü", "no ASCII form"),
        ("ü" * 300, "no ASCII form"),
    ],
)
def test_a_wrong_address_is_refused_with_the_right_form(text: str, message: str) -> None:
    with pytest.raises(InvalidValueError, match=message) as caught:
        parse_address(text, "host_address")
    assert str(caught.value).startswith("host_address ")


@pytest.mark.parametrize("text", ["qa:hunter2@rack1", "ssh://qa:hunter2@rack1:22"])
def test_a_password_in_an_address_is_refused_and_not_shown(text: str) -> None:
    with pytest.raises(InvalidValueError, match="no password in the address") as caught:
        parse_address(text)
    assert "hunter2" not in str(caught.value)


def test_a_user_or_port_that_is_given_twice_must_be_the_same() -> None:
    off = ConfigFiles(off=True)
    with pytest.raises(
        InvalidValueError, match=r"user 'root' .*one user only: the address 'qa@rack1' already has 'qa'"
    ):
        resolve(SshRequest("qa@rack1", user="root", config=off))
    with pytest.raises(InvalidValueError, match=r"port 22 .*one port only: the address 'rack1:2222' already has 2222"):
        resolve(SshRequest("rack1:2222", port=22, config=off))
    found = resolve(SshRequest("qa@rack1:22", user="qa", port=22, config=off))
    assert (found.user, found.port) == ("qa", 22)


@pytest.mark.parametrize(
    ("address", "port", "label", "key_name"),
    [
        ("2001:db8::1", 22, "2001:db8::1", "2001:db8::1"),
        ("2001:db8::1", 23, "[2001:db8::1]:23", "[2001:db8::1]:23"),
        ("fe80::1%eth0", 23, "[fe80::1%eth0]:23", "[fe80::1%eth0]:23"),
        ("rack1", 23, "rack1:23", "[rack1]:23"),
        ("rack1.", 22, "rack1.", "rack1."),
    ],
)
def test_known_hosts_has_the_names_that_ssh_writes(address: str, port: int, label: str, key_name: str) -> None:
    settings = SshSettings(address, port=port)
    assert (settings.label, settings.key_name) == (label, key_name)


@pytest.mark.parametrize("address", ["qa@rack1", "rack1:22", "[::1]:22", "ssh://qa@rack1"])
def test_settings_take_the_address_alone(address: str) -> None:
    with pytest.raises(InvalidValueError, match="settings of their own"):
        SshSettings(address)


@pytest.mark.parametrize("address", ["a" * 64, "a..b", "." + "a", "a" * 300, "a\0b"])
def test_a_name_that_no_host_can_have_cannot_be_found(address: str) -> None:
    with pytest.raises(UnreachableError, match="cannot be found"):
        connect_tcp(address, 22, 5)


def test_an_address_that_is_silent_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as silent, socket.create_server(("127.0.0.1", 0)) as server:
        waiting = []
        for _ in range(8):  # more than its queue holds, so that it answers no further one
            waiting.append(socket.socket())
            waiting[-1].setblocking(False)
            waiting[-1].connect_ex(silent.getsockname())
        found = [(socket.AF_INET, socket.SOCK_STREAM, 0, "", each.getsockname()) for each in (silent, server)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        started = time.monotonic()
        connection = connect_tcp("rack1", 22, 4)
        assert time.monotonic() - started < 4
        assert connection.getpeername() == server.getsockname()
        for each in (*waiting, connection):
            each.close()
