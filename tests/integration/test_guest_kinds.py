"""Guests that a user defined by other means: each view of them, and an agent that refuses to run commands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from lxml import etree
from lxml.builder import E

from VpmemLibrary.errors import AgentRefusedError, GuestError
from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest_from, for_host, read_security_driver
from VpmemLibrary.guest.domain.qemu_features import read_qemu_features
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec
from VpmemLibrary.guest.domain.xml import QEMU_NAMESPACE, build_domain, parse_domain, read_devices
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.views.memory import memory_views
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.sizes import MiB

pytestmark = pytest.mark.lab
READY = 300.0
SIZE = 64 * MiB
BLOCK = 128 * MiB
"""A memory block of x86: a kernel takes a DIMM in whole ones."""

FILES = "/var/lib/libvirt/images"


@dataclass
class Bench:
    """A host, and what guests on it boot from."""

    host: Host
    link: LibvirtLink
    entry: HostEntry
    run: RunMark

    def define(self, *memory: str, change: str = "", machine: str = "", arguments: tuple[str, ...] = ()) -> Guest:
        """Define a guest from an XML with these memory devices and QEMU arguments, and without a NUMA cell."""
        boot = BootSource(
            kernel=self.entry.guest_kernel, initrd=self.entry.guest_initrd, cmdline=self.entry.guest_cmdline
        )
        name = f"any-{self.run.run_id}"
        spec = for_host(
            self.link,
            GuestSpec(name, boot, machine=machine, run_id=self.run.run_id, hypervisor="auto", confined=False),
        )
        # libvirt's profile of a guest knows nothing of what its <qemu:commandline> opens.
        built = build_domain(spec, security_driver=read_security_driver(self.link))
        domain = parse_domain(built.replace("<vcpu>", f"{change}<vcpu>"))
        for numa in domain.findall("./cpu/numa"):
            domain.find("./cpu").remove(numa)  # type: ignore[union-attr]
        devices = domain.find("./devices")
        assert devices is not None
        for text in memory:
            devices.append(etree.fromstring(text))
        total = domain.find("./memory")
        assert total is not None
        sizes = [int(size.text or "0") for size in domain.findall("./devices/memory/target/size")]
        total.text = str(int(total.text or "0") + sum(sizes))
        if arguments:
            line = etree.SubElement(domain, f"{{{QEMU_NAMESPACE}}}commandline", nsmap={"qemu": QEMU_NAMESPACE})
            for argument in arguments:
                etree.SubElement(line, f"{{{QEMU_NAMESPACE}}}arg", value=argument)
        xml = etree.tostring(domain, encoding="unicode")
        guest = define_guest_from(self.host.transport, self.link, xml, (), run_id=self.run.run_id)
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, READY)
        return guest


@pytest.fixture(scope="module")
def bench(lab_hosts: Path) -> Iterator[Bench]:
    entry = read_hosts(lab_hosts)[0]
    host = Host(entry.name, transport_to(entry))
    link = LibvirtLink(host.transport)
    run = RunMark.of_this_run()
    paths = [f"{FILES}/any-{run.run_id}-{number}" for number in range(2)]
    try:
        for path in paths:
            host.transport.run(["fallocate", "-l", str(SIZE), path]).check()
            host.transport.run(["chmod", "666", path]).check()
        yield Bench(host, link, entry, run)
    finally:
        host.transport.run(["rm", "-f", "--", *paths])
        link.close()
        host.close()


@pytest.fixture
def ended(bench: Bench) -> Iterator[None]:
    yield
    guest = Guest(bench.host.transport, bench.link, f"any-{bench.run.run_id}")
    if guest.state_and_reason()[0] != "gone":
        if guest.state() != "shut off":
            lifecycle.destroy(guest)
        lifecycle.undefine(guest)


def memory_device(model: str, path: str = "", size: int = SIZE) -> str:
    source = E.source(E.path(path)) if path else None
    target = E.target(E.size(str(size // 1024), unit="KiB"))
    if model == "nvdimm":
        target.append(E.label(E.size("128", unit="KiB")))
    element = E.memory(*([source] if source is not None else []), target, model=model)
    return etree.tostring(element, encoding="unicode")


def test_a_dimm_beside_an_nvdimm_and_no_numa_cell(bench: Bench, ended: None) -> None:
    path = f"{FILES}/any-{bench.run.run_id}-0"
    shared = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
    guest = bench.define(memory_device("dimm", size=BLOCK), memory_device("nvdimm", path), change=shared, machine="q35")
    (view,) = inspection.compare_views(guest)
    view.require()
    assert view.subject.endswith("slot 1")
    assert view.views["QMP"]["shared"] is view.views["live XML"]["shared"] is True
    memory = memory_views(guest)
    memory.require()
    assert memory.views["guest's kernel"] == {"RAM": 256 * MiB + BLOCK, "persistent": SIZE - MiB // 8}


def test_devices_of_the_command_line_without_an_id(bench: Bench, ended: None) -> None:
    first, second = (f"{FILES}/any-{bench.run.run_id}-{number}" for number in range(2))
    guest = bench.define(
        arguments=(
            *("-machine", "nvdimm=on", "-m", "slots=2,maxmem=4G"),
            *("-object", f"memory-backend-file,id=m1,share=on,mem-path={first},size=64m,align=2M"),
            *("-device", "nvdimm,memdev=m1,label-size=0x20000"),
            *(
                "-object",
                f'{{"qom-type":"memory-backend-file","id":"m2","share":true,"mem-path":"{second}","size":67108864}}',
            ),
            *("-device", "virtio-pmem-pci,memdev=m2,addr=0x10"),
        )
    )
    views = inspection.compare_views(guest)
    assert [view.subject.partition(", ")[2] for view in views] == ["slot 0", second]
    for view in views:
        view.require()
    assert [device.path for device in read_devices(guest.xml())] == [first, second]
    assert set(inspection.regions_by_path(guest)) == {first, second}


def test_an_agent_that_refuses_to_run_commands_is_named(bench: Bench, ended: None) -> None:
    guest = bench.define()
    config = "[general]\nblock-rpcs=guest-exec,guest-exec-status\n"
    write = 'mkdir -p /etc/qemu; printf %s "$1" >/etc/qemu/qemu-ga.conf; (sleep 1; killall qemu-ga) >/dev/null 2>&1 &'
    guest.transport.run(["sh", "-c", write, "sh", config]).check()
    deadline = time.monotonic() + 60
    with pytest.raises(
        AgentRefusedError, match=r"(?s)guest-exec.*FILTER_RPC_ARGS.*qemu-guest-agent [0-9]+\."
    ) as caught:
        while time.monotonic() < deadline:
            readiness.wait_until_ready(guest, READY)
            time.sleep(0.5)
    assert isinstance(caught.value, GuestError)


def test_the_qemu_of_the_host_takes_pmem(bench: Bench) -> None:
    features = read_qemu_features(bench.host.transport)
    assert (features.program, features.pmem) == ("/usr/bin/qemu-system-x86_64", True)
