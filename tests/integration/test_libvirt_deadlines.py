"""A daemon and a QEMU that are stopped on a real host, and a user there who would be taken for a guest's QEMU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from VpmemLibrary.errors import GuestError, LibvirtTimeoutError
from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.confinement import read_confinement, refusals
from VpmemLibrary.guest.domain.definition import define_guest
from VpmemLibrary.guest.domain.domains import guest_names
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.ownership.marks import RunMark

pytestmark = pytest.mark.lab
DEADLINE = 4.0
ROOM = 30.0
"""Seconds beyond its deadline that a call may take: some eleven to abort its job and to read the state of the guest. A
busy machine needs more."""

AGAIN = 90.0
"""Seconds in which libvirt answers as before; it waits 30 s for a job that another call has."""

# An unprivileged user's process, with the arguments of the guest's QEMU and an executable that is called as one.
_DECOY = r"""
program=$(mktemp -d)/qemu-system-decoy
chmod 755 "${program%/*}"
cp /bin/sh "$program"
setpriv --reuid=65534 --regid=65534 --clear-groups setsid "$program" -c 'while :; do sleep 1; done' x \
    -name "guest=$1,debug-threads=on" -uuid "$2" </dev/null >/dev/null 2>&1 &
echo "$!" "$program"
"""

# A pipe that is read so slowly that a guest's memory takes much longer than a call here may.
_SLOW_FILE = r"""
directory=$(mktemp -d /var/lib/libvirt/qemu/save/slow-XXXXXX)
mkfifo "$directory/slow"
setsid sh -c 'while sleep 0.5; do dd bs=1M count=1 iflag=fullblock; done' <>"$directory/slow" >/dev/null 2>&1 &
echo "$directory" "$!"
"""


@dataclass
class Bench:
    """A host, its libvirt, and a running guest without devices, which is confined."""

    host: Host
    link: LibvirtLink
    guest: Guest

    @contextlib.contextmanager
    def stopped(self, process: int) -> Iterator[None]:
        """Stop a process of the host by SIGSTOP in the ``with``."""
        self.host.run(["kill", "-STOP", str(process)]).check()
        try:
            yield
        finally:
            self.host.run(["kill", "-CONT", str(process)]).check()

    def daemon(self) -> int:
        """Return the process id of libvirt's daemon."""
        show = ["systemctl", "show", "--property=MainPID", "--value", "libvirtd.service"]
        return int(self.host.run(show).check().text)


@pytest.fixture(scope="module")
def bench(lab_hosts: Path) -> Iterator[Bench]:
    entry = read_hosts(lab_hosts)[0]
    host = Host(entry.name, transport_to(entry))
    link = LibvirtLink(host.transport, timeout=lambda: AGAIN)
    run = RunMark.of_this_run()
    guest = None
    try:
        boot = BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline)
        spec = GuestSpec(name=f"deadline-{run.run_id}", boot=boot, devices=(), run_id=run.run_id, confined=True)
        guest = define_guest(host.transport, link, spec)
        lifecycle.start(guest)
        yield Bench(host, link, guest)
    finally:
        if guest is not None:
            if guest.state() != "shut off":
                lifecycle.destroy(guest)
            lifecycle.undefine(guest)
        link.close()
        host.close()


def test_a_stopped_daemon_ends_a_call_at_its_deadline_and_goes_on_afterwards(bench: Bench) -> None:
    for link in (bench.link, LibvirtLink(bench.host.transport)):
        with bench.stopped(bench.daemon()):
            began = time.monotonic()
            with pytest.raises(LibvirtTimeoutError, match=f"list guests.*{bench.link.host}"):
                link.call("list guests", lambda connection: connection.listAllDomains(), timeout=DEADLINE)
            assert time.monotonic() - began < DEADLINE + ROOM
        assert bench.guest.name in guest_names(link)
        link.close()
    assert bench.guest.state() == "running"


def test_a_stopped_daemon_ends_a_keywords_wait_at_its_deadline(bench: Bench) -> None:
    with bench.stopped(bench.daemon()):
        began = time.monotonic()
        with pytest.raises((LibvirtTimeoutError, GuestError)):
            readiness.wait_until_ready(bench.guest, DEADLINE)
        assert time.monotonic() - began < DEADLINE + ROOM
    readiness.wait_until_ready(bench.guest, 300)


def test_a_stopped_qemu_ends_a_save_at_its_deadline(bench: Bench) -> None:
    process = inspection.process_id(bench.guest)
    with bench.stopped(process):
        began = time.monotonic()
        with pytest.raises(LibvirtTimeoutError, match=r"save guest(.|\n)*(it is \w+ on|its state is unknown)"):
            lifecycle.save(bench.guest, DEADLINE)
        assert time.monotonic() - began < DEADLINE + ROOM
    deadline = time.monotonic() + AGAIN
    while bench.guest.state() not in ("running", "shut off") and time.monotonic() < deadline:
        time.sleep(1)
    if bench.guest.state() == "shut off":  # QEMU saw to it once it went on
        lifecycle.start(bench.guest)
    readiness.wait_until_ready(bench.guest, 300)


def test_a_save_that_does_not_end_is_aborted_and_the_guest_runs_on(bench: Bench) -> None:
    directory, reader = bench.host.run(["sh", "-c", _SLOW_FILE]).check().text.split()
    try:
        before = inspection.process_id(bench.guest)
        began = time.monotonic()
        with pytest.raises(LibvirtTimeoutError, match=r"save guest(.|\n)*job was aborted(.|\n)*it is running on"):
            bench.guest.run_job("save", lambda domain: domain.save(f"{directory}/slow"), DEADLINE)
        assert time.monotonic() - began < DEADLINE + ROOM
        readiness.wait_until_ready(bench.guest, 300)
        assert inspection.process_id(bench.guest) == before
    finally:
        bench.host.run(["kill", reader]).check()
        bench.host.run(["rm", "-r", directory]).check()


def test_a_qemu_is_told_from_a_process_that_a_user_made_look_like_it(bench: Bench) -> None:
    run = bench.host.run
    qemu, process = inspection.qemu_process(bench.guest), inspection.process_id(bench.guest)
    file = f"/run/libvirt/qemu/{bench.guest.name}.pid"
    written = run(["cat", file]).check().text
    decoy, program = run(["sh", "-c", _DECOY, "sh", qemu.name, qemu.uuid]).check().text.split()
    try:
        assert run(["readlink", f"/proc/{decoy}/exe"]).check().text.strip() == program
        assert int(written) == process == inspection.process_id(bench.guest)
        for text in (decoy, "0", "-1", "../self", ""):
            run(["tee", file], stdin=text.encode()).check()
            assert qemu.read(bench.host.transport)[0] == process
        run(["rm", file]).check()
        assert qemu.read(bench.host.transport)[0] == process
        lifecycle.destroy(bench.guest)
        with pytest.raises(GuestError, match="not running"):
            qemu.read(bench.host.transport)
        with pytest.raises(GuestError, match="not running"):
            lifecycle.kill(bench.guest, DEADLINE)
        run(["kill", "-0", decoy]).check()
    finally:
        run(["kill", "-KILL", decoy]).check()
        run(["rm", "-rf", str(Path(program).parent)]).check()
        if bench.guest.state() == "running":
            run(["tee", file], stdin=written.encode()).check()
        else:
            lifecycle.start(bench.guest)


def test_a_confined_qemu_may_not_open_what_every_user_may(bench: Bench) -> None:
    qemu = inspection.qemu_process(bench.guest)
    confinement = read_confinement(bench.host.transport, qemu)
    if not confinement.profile:
        pytest.skip("the host confines guests by no AppArmor profile")
    refused = refusals(bench.host.transport, qemu, confinement, ["/etc/hostname", "/dev/null"])
    assert "Permission denied" in refused["/etc/hostname"]
    assert refused["/dev/null"] == ""
    unconfined = refusals(bench.host.transport, qemu, replace(confinement, profile=""), ["/etc/hostname"])
    assert unconfined["/etc/hostname"] == "", "without the profile any user may"


def test_a_stopped_qemu_ends_a_question_at_its_deadline_and_is_destroyed(bench: Bench) -> None:
    bench.host.run(["kill", "-STOP", str(inspection.process_id(bench.guest))]).check()
    began = time.monotonic()
    with pytest.raises(LibvirtTimeoutError, match="query QEMU's monitor"), libvirt_deadline(DEADLINE):
        bench.guest.ask_monitor("query-status", {})
    assert time.monotonic() - began < DEADLINE + ROOM
    lifecycle.destroy(bench.guest)
    assert bench.guest.state() == "shut off"
