"""libvirt that does not answer: a call ends at its deadline or when a signal comes, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import libvirt
import pytest
from shortages import no_descriptors

from VpmemLibrary.errors import (
    ControllerError,
    GuestError,
    InvalidValueError,
    LibvirtError,
    LibvirtTimeoutError,
)
from VpmemLibrary.guest import lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.channel.libvirt_session import LibvirtSession, translated
from VpmemLibrary.guest.channel.relay import Relay
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.migration import Destination, migrate
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.local import LocalTransport

ROOM = 30.0
"""Seconds more than a deadline that a busy machine may take; without a deadline it would take forever."""

SILENT = """#!/bin/sh
[ "$1" != --version ] || exit 0
echo x >>"{started}"
cat >/dev/null
"""

SUITE = """
*** Settings ***
Library    VpmemLibrary

*** Test Cases ***
Silent
    [Timeout]    {timeout}
    Open Local Host
    Get Guests
"""


class Daemon:
    """A libvirt daemon on this machine that takes connections and says nothing."""

    def __init__(self, directory: Path) -> None:
        self._started = directory / "started"
        self.path = f"{directory}:{os.environ['PATH']}"
        helper = directory / "virt-ssh-helper"
        helper.write_text(SILENT.format(started=self._started))
        helper.chmod(0o755)

    @property
    def connections(self) -> int:
        """How many connections it took."""
        return len(self._started.read_text().split()) if self._started.exists() else 0


@pytest.fixture
def daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Daemon:
    found = Daemon(tmp_path)
    monkeypatch.setenv("PATH", found.path)
    return found


@pytest.fixture
def link(daemon: Daemon) -> Iterator[LibvirtLink]:
    opened = LibvirtLink(LocalTransport(), timeout=lambda: 1.0)
    yield opened
    opened.close()


@pytest.fixture
def driver() -> Iterator[LibvirtLink]:
    """libvirt's own test driver, which has a running domain called test."""
    opened = LibvirtLink(LocalTransport(), uri="test:///default")
    yield opened
    opened.close()


def seconds_of(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def names(connection: libvirt.virConnect) -> list[str]:
    return [each.name() for each in connection.listAllDomains()]


def soon(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + ROOM
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def test_a_call_to_a_silent_daemon_ends_at_its_deadline_and_says_what_to_look_at(link: LibvirtLink) -> None:
    began = time.monotonic()
    with pytest.raises(
        LibvirtTimeoutError, match=r"list guests.*1 s on local.*\n.*systemctl status libvirtd"
    ) as caught:
        link.call("list guests", names)
    assert time.monotonic() - began < ROOM
    assert caught.value.code == libvirt.VIR_ERR_OPERATION_TIMEOUT


def test_the_next_call_connects_again(link: LibvirtLink, daemon: Daemon) -> None:
    for number in (1, 2):
        with pytest.raises(LibvirtTimeoutError):
            link.call("list guests", names)
        assert daemon.connections == number


def test_an_abandoned_call_fails_and_gives_its_thread_back(link: LibvirtLink) -> None:
    ended = threading.Event()

    def work(session: LibvirtSession) -> None:
        try:
            session.connection()
        finally:
            ended.set()

    with pytest.raises(LibvirtTimeoutError):
        link._call("list guests", work)
    assert ended.wait(ROOM)
    assert soon(lambda: not [each for each in threading.enumerate() if each.name.startswith("relay")])


def test_what_waits_for_libvirt_ends_with_its_own_timeout(link: LibvirtLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "_timeout", lambda: 600.0)
    guest = Guest(LocalTransport(), link, "a")
    waits: tuple[Callable[[], object], ...] = (
        lambda: readiness.wait_until_ready(guest, 1),
        lambda: lifecycle.shut_down(guest, 1),
        lambda: lifecycle.reboot(guest, 1),
        lambda: lifecycle.save(guest, 1),
        lambda: lifecycle.kill(guest, 1),
        lambda: lifecycle.start(guest, timeout=1),
        lambda: link.wait_until_it_answers(1),
    )
    for wait in waits:
        began = time.monotonic()
        with pytest.raises((LibvirtTimeoutError, GuestError)):
            wait()
        assert time.monotonic() - began < ROOM


def test_a_connection_is_closed_though_the_daemon_is_silent(daemon: Daemon) -> None:
    link = LibvirtLink(LocalTransport(), timeout=lambda: 1.0)
    with pytest.raises(LibvirtTimeoutError):
        link.call("list guests", names)
    assert seconds_of(link.close) < ROOM


def test_a_call_costs_hardly_more_by_another_thread(driver: LibvirtLink) -> None:
    driver.call("ask", names)
    calls = 200
    assert seconds_of(lambda: [driver.call("ask", names) for _ in range(calls)]) / calls < 0.01


class Domain:
    """A domain whose jobs end only when they are aborted, or not at all."""

    def __init__(self, *, abortable: bool = True) -> None:
        self._aborted = threading.Event()
        self._abortable = abortable
        self.ended = threading.Event()

    def abortJob(self) -> None:  # noqa: N802  libvirt's name
        if self._abortable:
            self._aborted.set()

    def job(self, *_: object) -> None:
        self._aborted.wait(10 * ROOM)
        self.ended.set()
        raise libvirt.libvirtError("operation aborted")

    migrate3 = managedSave = job  # noqa: N815

    def state(self) -> tuple[int, int]:
        return libvirt.VIR_DOMAIN_RUNNING, 1

    def XMLDesc(self, _flags: int) -> str:  # noqa: N802
        return "<domain type='kvm' id='1'><name>a</name></domain>"

    def end(self) -> None:
        self._aborted.set()


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Domain]:
    found = Domain(abortable=getattr(request, "param", True))
    monkeypatch.setattr(LibvirtSession, "domain", lambda *_: found)
    yield found
    found.end()


def test_a_job_is_aborted_at_its_deadline_and_the_guests_state_is_told(driver: LibvirtLink, domain: Domain) -> None:
    session = driver._session
    with pytest.raises(LibvirtTimeoutError, match=r"save guest a.*1 s(.|\n)*was aborted(.|\n)*it is running on local"):
        lifecycle.save(Guest(LocalTransport(), driver, "a"), 1)
    assert domain.ended.is_set()
    assert driver._session is session, "the connection is as good as before"


@pytest.mark.parametrize("domain", [False], indirect=True)
def test_a_job_that_cannot_be_aborted_is_abandoned(driver: LibvirtLink, domain: Domain) -> None:
    session = driver._session
    with pytest.raises(LibvirtTimeoutError, match=r"abandoned(.|\n)*it is running on local"):
        lifecycle.save(Guest(LocalTransport(), driver, "a"), 1)
    assert not domain.ended.is_set()
    assert driver._session is not session


def test_an_interrupted_job_is_aborted(driver: LibvirtLink, domain: Domain) -> None:
    timer = threading.Timer(0.5, os.kill, [os.getpid(), signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        lifecycle.save(Guest(LocalTransport(), driver, "a"), 10 * ROOM)
    assert domain.ended.wait(ROOM)


def test_a_job_that_ends_just_after_its_deadline_has_ended(driver: LibvirtLink) -> None:
    gate = threading.Event()

    def work(_: Any) -> str:
        gate.wait(10 * ROOM)
        return "saved"

    assert driver._call("save", work, 0.1, lambda _: gate.set()) == "saved"


def test_a_migration_ends_at_its_deadline_and_tells_where_the_guest_is(
    driver: LibvirtLink, domain: Domain, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = LibvirtLink(LocalTransport(name="there"), uri="test:///default")
    device = VpmemDevice("/dev/dax0.0", Size(64 * MiB), model=VpmemModel.nvdimm, access=Access.shared)
    for name in ("check_backings", "refuse_shared"):
        monkeypatch.setattr(f"VpmemLibrary.guest.migration.{name}", lambda *_: None)
    monkeypatch.setattr("VpmemLibrary.guest.migration.read_devices", lambda _: (device,))
    monkeypatch.setattr("VpmemLibrary.guest.migration.with_backings", lambda xml, _: xml)
    guest = Guest(LocalTransport(name="here"), driver, "a")
    with pytest.raises(
        LibvirtTimeoutError, match=r"migrate to there(.|\n)*aborted(.|\n)*running on local(.|\n)*And it is \w+ on there"
    ):
        migrate(guest, Destination(LocalTransport(), there, ""), ["/dev/dax1.0"], live=True, timeout=1)
    there.close()


def run_robot(daemon: Daemon, directory: Path, timeout: str) -> subprocess.Popen[bytes]:
    suite = directory / "silent.robot"
    suite.write_text(SUITE.format(timeout=timeout))
    command = [sys.executable, "-m", "robot", "--loglevel", "DEBUG", "-d", str(directory), str(suite)]
    environment = {**os.environ, "PATH": daemon.path, "TMPDIR": str(directory)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def relays(directory: Path) -> list[Path]:
    return list(directory.glob("vpmem-*"))


def test_a_timeout_of_robot_framework_ends_a_keyword_on_a_silent_daemon(daemon: Daemon, tmp_path: Path) -> None:
    process = run_robot(daemon, tmp_path, "3 seconds")
    try:
        assert process.wait(20 * ROOM) == 1
    finally:
        process.kill()
    test = ET.parse(tmp_path / "output.xml").find("./suite/test")
    assert test is not None
    status = test.find("status")
    assert status is not None
    assert status.text == "Test timeout 3 seconds exceeded."
    assert float(status.get("elapsed", "inf")) < 3 + 5
    assert daemon.connections == 1
    assert not relays(tmp_path)


def test_ctrl_c_ends_a_keyword_on_a_silent_daemon(daemon: Daemon, tmp_path: Path) -> None:
    process = run_robot(daemon, tmp_path, "10 minutes")
    try:
        assert soon(lambda: daemon.connections == 1)
        process.send_signal(signal.SIGINT)
        assert process.wait(ROOM) == 1
    finally:
        process.kill()
    test = ET.parse(tmp_path / "output.xml").find("./suite/test/status")
    assert test is not None
    assert "Execution terminated by signal" in (test.text or "")
    assert not relays(tmp_path)


def test_a_process_that_is_killed_leaves_no_socket_behind(daemon: Daemon, tmp_path: Path) -> None:
    process = run_robot(daemon, tmp_path, "10 minutes")
    try:
        assert soon(lambda: daemon.connections == 1)
    finally:
        process.kill()
    assert process.wait(ROOM) == -signal.SIGKILL
    assert not relays(tmp_path)


def test_an_interpreter_ends_though_a_connection_to_a_silent_daemon_is_open(daemon: Daemon, tmp_path: Path) -> None:
    script = (
        "from VpmemLibrary.transport.deadline import Call\n"
        "from VpmemLibrary.guest.channel.libvirt_session import LibvirtSession\n"
        "from VpmemLibrary.transport.local import LocalTransport\n"
        "session = LibvirtSession(LocalTransport(), '')\n"
        "assert not Call(session.connection).wait(1)\n"
    )
    environment = {**os.environ, "PATH": daemon.path, "TMPDIR": str(tmp_path)}
    ended = subprocess.run([sys.executable, "-c", script], env=environment, timeout=4 * ROOM, check=False)
    assert ended.returncode == 0
    assert daemon.connections == 1
    assert not relays(tmp_path)


def test_a_deep_directory_for_temporary_files_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, daemon: Daemon
) -> None:
    deep = tmp_path / ("workspace " * 12) / "größe"
    deep.mkdir(parents=True)
    for place in (deep, tmp_path / "größe"):
        place.mkdir(exist_ok=True)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        relay = Relay(lambda: LocalTransport().stream(["cat"]))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(relay.path))
            client.sendall(b"to and fro")
            assert client.recv(100) == b"to and fro"
        relay.close()
        link = LibvirtLink(LocalTransport(), timeout=lambda: 1.0)
        with pytest.raises(LibvirtTimeoutError):
            link.call("connect", lambda connection: connection)
        link.close()
    assert not [*deep.iterdir(), *(tmp_path / "größe").iterdir()]


def test_no_directory_for_a_socket_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(ControllerError, match=f"{tmp_path}: Permission denied.* Set TMPDIR to a short"):
        LibvirtLink(LocalTransport()).call("connect", lambda connection: connection)


def test_an_answer_that_is_not_utf8_is_an_error_of_libvirts(driver: LibvirtLink) -> None:
    with pytest.raises(LibvirtError, match=r"could not list guests: its answer is not UTF-8: b'caf\\xe9'"):
        driver.call("list guests", lambda _: b"caf\xe9".decode())
    with pytest.raises(InvalidValueError, match="without a NUL byte"):
        driver.call("find guest", lambda connection: connection.lookupByName("a\0b"))


@pytest.mark.parametrize("free", [0, 1, 4, 16, 31])
def test_a_controller_with_too_few_descriptors_is_named(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = sorted(tmp_path.iterdir())
    link = LibvirtLink(LocalTransport(), timeout=lambda: ROOM)
    with no_descriptors(free=free), pytest.raises(ControllerError, match=r"could not connect to qemu.*open files"):
        link.call("connect", lambda connection: connection)
    assert daemon.connections == 0
    assert sorted(tmp_path.iterdir()) == before


def test_the_descriptors_that_a_connection_requires_are_enough(link: LibvirtLink, daemon: Daemon) -> None:
    with no_descriptors(free=32), pytest.raises(LibvirtTimeoutError):
        link.call("connect", lambda connection: connection)
    assert daemon.connections


def test_a_relay_without_descriptors_leaves_no_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with no_descriptors(), pytest.raises(ControllerError, match="could not make a socket"):
        Relay(lambda: LocalTransport().stream(["cat"]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "text", "fix"),
    [
        (1, "internal error: virtio-pmem memory device info is not handled yet", "9\\.4"),
        (67, "unsupported configuration: revert to external snapshot not supported yet", "9\\.9"),
    ],
)
def test_a_request_that_an_old_libvirt_does_not_support_names_the_fix(code: int, text: str, fix: str) -> None:
    """The texts are those of libvirt 9.0.0-4+deb12u2."""
    error = libvirt.libvirtError("libvirt refused")
    error.err = (code, 10, text)
    with pytest.raises(LibvirtError, match=f"Fix: libvirt {fix} or newer"), translated("start guest a"):
        raise error
