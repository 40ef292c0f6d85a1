"""Snapshots of memory, on libvirt's test driver, which keeps no memory but the order of things."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError, LibvirtError
from VpmemLibrary.guest import lifecycle
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.snapshots import revert_to_snapshot, snapshot_xml, take_snapshot
from VpmemLibrary.transport.local import LocalTransport

NO_SNAPSHOT = 72  # VIR_ERR_NO_DOMAIN_SNAPSHOT


NODE = """<node><domain type="test"><name>test</name><memory>8192</memory><os><type>hvm</type></os></domain></node>"""


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[Guest]:
    """The running domain of a test driver that no other test shares."""
    (tmp_path / "node.xml").write_text(NODE)
    link = LibvirtLink(LocalTransport(), uri=f"test://{tmp_path}/node.xml")
    yield Guest(LocalTransport(), link, "test")
    link.close()


def test_memory_goes_into_a_file_or_into_the_disk_image() -> None:
    assert snapshot_xml("a", "/var/tmp/a") == (
        '<domainsnapshot><name>a</name><memory snapshot="external" file="/var/tmp/a"/></domainsnapshot>'
    )
    assert '<memory snapshot="internal"/>' in snapshot_xml("a")


def test_a_guest_goes_back_to_what_it_was(guest: Guest) -> None:
    take_snapshot(guest, "running")
    lifecycle.destroy(guest)
    assert guest.state() == "shut off"
    revert_to_snapshot(guest, "running")
    assert guest.state() == "running"


def test_a_snapshot_that_is_not_there_is_told_with_its_code(guest: Guest) -> None:
    with pytest.raises(LibvirtError, match="could not revert to snapshot never of guest test") as caught:
        revert_to_snapshot(guest, "never")
    assert caught.value.code == NO_SNAPSHOT


@pytest.mark.parametrize("name", ["", "-x", "a/b", "<a>"])
def test_a_name_that_could_mean_something_else_is_refused(guest: Guest, name: str) -> None:
    with pytest.raises(InvalidValueError, match="snapshot name"):
        take_snapshot(guest, name)
