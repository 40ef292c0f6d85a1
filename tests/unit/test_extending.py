"""The extensions of examples/extending: a library that works on the open hosts, and an own channel into a guest."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from robot.api import ExecutionResult
from robot.run import run

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT
from VpmemLibrary.transport.local import LocalTransport

EXAMPLE = Path(__file__).parents[2] / "examples" / "extending"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example, which is importable for one test."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    for name in ("command_channel", "StorageKeywords"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return EXAMPLE


@pytest.fixture
def guest(example: Path) -> Guest:
    """A guest whose host is this machine; the program of its channel is a shell of this machine."""
    from command_channel import CommandChannel  # noqa: PLC0415  the example is importable only in a test

    host = LocalTransport()
    found = Guest(host, LibvirtLink(host), "a")
    found.use_own_channel("command", CommandChannel("a", host, ["sh", "-c"]))
    return found


def test_a_library_of_another_project_works_on_the_open_hosts(example: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("w") as output:
        status = run(
            str(example / "storage.robot"),
            outputdir=str(tmp_path), log="NONE", report="NONE", pythonpath=str(example), stdout=output, stderr=output,
        )  # fmt: skip
    assert status == 0, log.read_text()
    assert ExecutionResult(tmp_path / "output.xml").statistics.total.passed == 1


def test_commands_and_files_of_a_guest_use_its_own_channel(guest: Guest, tmp_path: Path) -> None:
    path = str(tmp_path / "a file")
    guest.transport.write_file(path, b"text")
    assert guest.transport.read_file(path) == b"text"
    result = guest.transport.run(["printf", "%s|%s", "two words", "$HOME"])
    assert result.argv[:2] == ("sh", "-c")
    assert result.text == "two words|$HOME"
    assert guest.answers()
    assert guest.channel == "command"


def test_a_failed_command_is_a_result(guest: Guest) -> None:
    assert guest.transport.run(["sh", "-c", "exit 3"]).exit_status == 3


def test_what_the_channel_cannot_do_is_unsupported(guest: Guest) -> None:
    with pytest.raises(UnsupportedError, match="guest a has no TCP"):
        guest.transport.connect("127.0.0.1", 22, timeout=DEFAULT_TIMEOUT)


def test_a_guest_goes_back_to_a_channel_of_the_library(guest: Guest) -> None:
    guest.use_channel(GuestChannel.agent, GuestAccess())
    assert guest.channel is GuestChannel.agent


def test_what_read_the_guest_through_the_old_channel_is_read_through_the_new(guest: Guest) -> None:
    before = guest.ndctl
    guest.use_channel(GuestChannel.agent, GuestAccess())
    assert guest.ndctl is not before


def test_the_old_channel_is_closed(guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []
    channel: Any = guest.transport
    monkeypatch.setattr(channel, "close", lambda: closed.append(True))
    guest.use_channel(GuestChannel.agent, GuestAccess())
    assert closed == [True]


def test_an_object_without_the_methods_is_no_channel(guest: Guest) -> None:
    with pytest.raises(InvalidValueError, match=r"LocalTransport.*all methods of Channel"):
        guest.use_own_channel("local", LocalTransport())  # type: ignore[arg-type]  # it has no ping
    assert guest.channel == "command"


@pytest.mark.parametrize("name", ["agent", "serial", "two words"])
def test_an_own_channel_has_a_name_of_its_own(guest: Guest, name: str) -> None:
    channel: Any = guest.transport
    with pytest.raises(InvalidValueError, match=name):
        guest.use_own_channel(name, channel)
