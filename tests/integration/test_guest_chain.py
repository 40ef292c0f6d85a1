"""A guest on the lab host: its agent, its views, its end, and the ways it may go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec.structs import replace

from VpmemLibrary.content.pattern import Pattern
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import (
    BusyError,
    CommandTimeoutError,
    ForeignError,
    GuestError,
    InvalidValueError,
    LibvirtError,
    NotFoundError,
)
from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest, find_guest
from VpmemLibrary.guest.domain.domains import guest_names
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.prediction import backing_offset
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import MiB, Size

pytestmark = pytest.mark.lab
READY = 300.0


@dataclass
class Bench:
    """A host, a namespace on it, and a guest on that."""

    host: Host
    link: LibvirtLink
    run: RunMark
    namespace: Namespace
    spec: GuestSpec
    guest: Guest


@pytest.fixture(scope="module")
def bench(lab_hosts: Path) -> Iterator[Bench]:
    entry = read_hosts(lab_hosts)[0]
    host = Host(entry.name, transport_to(entry))
    link = LibvirtLink(host.transport)
    run = RunMark.of_this_run()
    guest = None
    try:
        if any(region.dev == "region1" for region in host.regions.unlabeled()):
            host.regions.initialize_labels("region1")
        namespace = host.namespaces.create(
            "region1",
            mode=NamespaceMode.devdax,
            map_location=MapLocation.mem,
            size=Size(64 * MiB),
            name="chain",
            uuid=run.new_uuid(),
        )
        spec = GuestSpec(
            name=f"chain-{run.run_id}",
            boot=BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline),
            devices=(VpmemDevice(path=namespace.device, size=namespace.size),),
            run_id=run.run_id,
        )
        guest = define_guest(host.transport, link, spec)
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, READY)
        yield Bench(host, link, run, namespace, spec, guest)
    finally:
        if guest is not None:
            if guest.state() != "shut off":
                lifecycle.destroy(guest)
            lifecycle.undefine(guest)
        link.close()
        clean_up(host, run)
        host.close()


def test_the_agent_runs_commands_as_a_host_does(bench: Bench) -> None:
    run = bench.guest.transport.run
    assert run(["printf", "%s|", "a b", "$HOME", "'\"`;"]).text == "a b|$HOME|'\"`;|"
    assert run(["sh", "-c", "echo no >&2; exit 7"]).exit_status == 7
    assert run(["sh", "-c", "echo no >&2; exit 7"]).error_text == "no\n"
    assert run(["cat"], stdin=b"\0\xff\n").stdout == b"\0\xff\n"
    assert run(["sh", "-c", "kill -TERM $$"]).exit_status == -15
    assert run(["no-such-program"]).exit_status == 127


def test_a_command_that_hangs_is_ended_in_the_guest(bench: Bench) -> None:
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s"):
        bench.guest.transport.run(["sleep", "4321"], timeout=1)
    assert "4321" not in bench.guest.transport.run(["ps"]).text


def test_files_go_in_and_come_out_whole(bench: Bench) -> None:
    data = bytes(range(256)) * 64
    bench.guest.transport.write_file("/tmp/a file", data, mode=0o640)
    assert bench.guest.transport.read_file("/tmp/a file") == data
    assert bench.guest.transport.run(["stat", "-c", "%a", "/tmp/a file"]).text.strip() == "640"
    with pytest.raises(GuestError, match="No such file"):
        bench.guest.transport.read_file("/tmp/absent")


def test_views_agree_and_a_wrong_expectation_is_found(bench: Bench) -> None:
    (agreement,) = inspection.compare_views(bench.guest)
    agreement.require()
    device = bench.guest.devices[0]
    wrong = Guest(
        bench.host.transport, bench.link, bench.guest.name, devices=(replace(device, label_size=Size(4 * MiB)),)
    )
    assert set(inspection.compare_views(wrong)[0].disagreements) == {"label size", "region size"}


def test_the_host_reads_what_the_guest_wrote(bench: Bench) -> None:
    device = bench.guest.devices[0]
    pattern = Pattern("from the guest", length=MiB, offset=2 * MiB)
    bench.guest.content.write(inspection.node_of(bench.guest, device), pattern)
    where = backing_offset(device, pattern.offset)
    store = ContentStore(bench.host.transport)
    store.verify(bench.namespace.device, pattern, at=where).require()
    assert not store.verify(bench.namespace.device, replace(pattern, seed="another"), at=where).intact


def test_a_namespace_under_a_guest_cannot_be_destroyed(bench: Bench) -> None:
    with pytest.raises(BusyError, match="qemu"):
        bench.host.namespaces.destroy(bench.namespace)
    assert bench.host.ndctl.namespace(bench.namespace).active


def test_the_same_name_and_the_same_backing_are_refused(bench: Bench) -> None:
    with pytest.raises(InvalidValueError, match="guest name"):
        define_guest(bench.host.transport, bench.link, bench.spec)
    with pytest.raises(InvalidValueError, match=f"guest {bench.guest.name} uses it"):
        define_guest(bench.host.transport, bench.link, replace(bench.spec, name="thief"))
    assert "thief" not in guest_names(bench.link)


def test_what_libvirt_refuses_is_told_with_its_code_and_leaves_no_domain(bench: Bench) -> None:
    spec = replace(bench.spec, name="refused", devices=(), hypervisor="test")
    with pytest.raises(LibvirtError, match="define guest refused") as caught:
        define_guest(bench.host.transport, bench.link, spec)
    assert caught.value.code > 0
    assert "refused" not in guest_names(bench.link)


def test_a_guest_that_is_not_there_is_told_with_those_that_are(bench: Bench) -> None:
    with pytest.raises(NotFoundError, match=rf"No guest 'absent'.*{bench.guest.name}"):
        find_guest(bench.host.transport, bench.link, "absent")


def test_a_guest_of_another_run_is_refused(bench: Bench) -> None:
    bench.guest.require_made_by(bench.run.run_id)
    with pytest.raises(ForeignError, match=f"run {bench.run.run_id} made it"):
        bench.guest.require_made_by("00000000")


def test_the_connection_comes_back_after_libvirt_restarts(bench: Bench) -> None:
    before = inspection.process_id(bench.guest)
    bench.host.run(["systemctl", "restart", "libvirtd"], timeout=120).check()
    assert bench.guest.state() == "running"
    assert inspection.process_id(bench.guest) == before
    readiness.wait_until_ready(bench.guest, READY)


def test_a_guest_that_never_boots_fails_with_its_last_console_lines(bench: Bench) -> None:
    """The kernel is given a root that is not there and no initramfs, so it panics: GB-06."""
    boot = replace(bench.spec.boot, initrd="", cmdline="console=ttyS0 panic=-1 root=/dev/none rootwait=0")
    guest = define_guest(bench.host.transport, bench.link, replace(bench.spec, name="panics", devices=(), boot=boot))
    try:
        lifecycle.start(guest)
        with pytest.raises(GuestError, match=r"(?s)^Guest panics on .*\nIts console at the panic:\n.*VFS: .*root"):
            readiness.wait_until_ready(guest, 60)
    finally:
        if guest.state() != "shut off":
            lifecycle.destroy(guest)
        lifecycle.undefine(guest)
