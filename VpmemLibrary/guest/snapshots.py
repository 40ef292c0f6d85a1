"""Take snapshots of a running guest's memory through libvirt, and revert to them.

QEMU decides what a snapshot contains: its migration stream, with every block of guest RAM. The backing of a
persistent-memory device is one of these blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.checks import refuse_present
from VpmemLibrary.guest.guest import START_TIMEOUT, Guest
from VpmemLibrary.transport.base import checked_name

if TYPE_CHECKING:
    import libvirt


def take_snapshot(guest: Guest, name: str, memory_file: str = "", *, timeout: float = START_TIMEOUT) -> None:
    """Take a snapshot of a running guest's memory. The guest keeps running.

    Args:
        guest: The guest.
        name: The snapshot's name.
        memory_file: The path on the host for the memory. Without a path the memory goes into the guest's first disk
            image (an internal snapshot), which must be qcow2.
        timeout: Seconds that the snapshot may take.

    Raises:
        InvalidValueError: The name is invalid, or `memory_file` is relative or exists already.
        LibvirtError: libvirt refused. The message has its error code.
        LibvirtTimeoutError: The snapshot was not taken within `timeout`. The message gives the guest's state.
    """
    xml = snapshot_xml(checked_name("snapshot name", name), memory_file)
    if memory_file:
        refuse_present(guest.host, memory_file)
    guest.run_job("take a snapshot of", lambda domain: domain.snapshotCreateXML(xml, 0), timeout)


def revert_to_snapshot(guest: Guest, name: str, *, timeout: float = START_TIMEOUT) -> None:
    """Revert a guest to a snapshot. The guest continues from the moment of the snapshot.

    Args:
        guest: The guest.
        name: The snapshot's name.
        timeout: Seconds that the revert may take.

    Raises:
        LibvirtError: There is no such snapshot, or libvirt refused.
        LibvirtTimeoutError: The revert did not end within `timeout`. The message gives the guest's state.
    """

    def revert(domain: libvirt.virDomain) -> None:
        domain.revertToSnapshot(domain.snapshotLookupByName(name), 0)

    guest.run_job(f"revert to snapshot {name} of", revert, timeout)


def snapshot_xml(name: str, memory_file: str = "") -> str:
    """Return the XML for libvirt's virDomainSnapshotCreateXML for a snapshot with memory (document formatsnapshot).

    Args:
        name: The snapshot's name.
        memory_file: The path for the memory; empty for an internal snapshot.

    Raises:
        InvalidValueError: The path has a control character.
    """
    from lxml import etree  # noqa: PLC0415
    from lxml.builder import E  # noqa: PLC0415

    try:
        memory = E.memory(snapshot="external", file=memory_file) if memory_file else E.memory(snapshot="internal")
    except ValueError as error:
        raise InvalidValueError("memory_file", memory_file, f"a path without control characters ({error})") from None
    text: str = etree.tostring(E.domainsnapshot(E.name(name), memory), encoding="unicode")
    return text
