"""A hundred domains inspected over one connection, against virsh on the host itself for each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ratios import compare, require

from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import transport_to
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.sizes import MiB, Size

pytestmark = [pytest.mark.lab, pytest.mark.benchmark]
DOMAINS = 100
ROUNDS = 3

BARE = 'for name; do virsh -q dumpxml "$name" >/dev/null || exit; done'


@pytest.fixture
def host(entry: HostEntry) -> Iterator[Host]:
    opened = Host(entry.name, transport_to(entry))
    yield opened
    opened.close()


@pytest.fixture
def guests(host: Host, entry: HostEntry) -> Iterator[list[Guest]]:
    link = LibvirtLink(host.transport)
    run = RunMark.of_this_run()
    backing = f"/var/lib/libvirt/images/vpmem-{run.run_id}"
    host.run(["truncate", "-s", "64M", backing]).check()
    boot = BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline)
    device = VpmemDevice(path=backing, size=Size(64 * MiB))
    defined = []
    try:
        for number in range(DOMAINS):
            spec = GuestSpec(name=f"bench-{run.run_id}-{number}", boot=boot, devices=(device,), run_id=run.run_id)
            defined.append(define_guest(host.transport, link, spec))
        yield [Guest(host.transport, link, guest.name) for guest in defined]
    finally:
        for guest in defined:
            lifecycle.undefine(guest)
        link.close()
        host.run(["rm", "-f", backing]).check()


def test_a_hundred_domains_beside_virsh_for_each(host: Host, guests: list[Guest]) -> None:
    names = [guest.name for guest in guests]
    ours, bare = compare(
        lambda: [guest.devices for guest in guests],
        lambda: host.run(["sh", "-c", BARE, "sh", *names], timeout=300).check(),
        ROUNDS,
    )
    assert all(len(guest.devices) == 1 for guest in guests)
    require(f"{DOMAINS} domains inspected against virsh dumpxml for each", ours, bare, 0.10)
