"""A hundred domains inspected over one connection, against virsh on the host itself for each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest
from ratios import compare, require

from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size

pytestmark = [pytest.mark.lab, pytest.mark.benchmark]
DOMAINS = 100
ROUNDS = 3

BARE = 'for name; do virsh -q dumpxml "$name" >/dev/null || exit; done'


@pytest.fixture
def opened(entry: HostEntry) -> Iterator[OpenHost]:
    with Session(RunMark.of_this_run()) as session:
        yield session.open(entry)


@pytest.fixture
def guests(opened: OpenHost) -> Iterator[list[Guest]]:
    backing = f"/var/lib/libvirt/images/vpmem-bench-{secrets.token_hex(4)}"
    opened.host.run(["truncate", "-s", "64M", backing]).check()
    device = VpmemDevice(path=backing, size=Size(64 * MiB))
    try:
        defined = [opened.guests.define(opened.guests.spec(devices=(device,))) for _ in range(DOMAINS)]
        yield [Guest(opened.host.transport, opened.guests.link, guest.name) for guest in defined]
    finally:
        opened.guests.remove_own()
        opened.host.run(["rm", "-f", backing]).check()


def test_a_hundred_domains_beside_virsh_for_each(opened: OpenHost, guests: list[Guest]) -> None:
    names = [guest.name for guest in guests]
    ours, bare = compare(
        lambda: [guest.devices for guest in guests],
        lambda: opened.host.run(["sh", "-c", BARE, "sh", *names], timeout=300).check(),
        ROUNDS,
    )
    assert all(len(guest.devices) == 1 for guest in guests)
    require(f"{DOMAINS} domains inspected against virsh dumpxml for each", ours, bare, 0.10)
