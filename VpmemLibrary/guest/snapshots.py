"""Snapshots of a running guest's memory, by libvirt.

What is in a snapshot of a guest with persistent memory is decided by QEMU: its migration stream has every block of
guest RAM, and a device's backing is one of them.
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
    """Take a snapshot of a running guest's memory; it runs on.

    Args:
        guest: The guest.
        name: The snapshot's name.
        memory_file: Where on the host the memory goes; without one into the guest's first disk image (an internal
            snapshot), which must be qcow2.
        timeout: Seconds that it may take.

    Raises:
        InvalidValueError: The name is invalid, `memory_file` is relative, or something is there.
        LibvirtError: libvirt refused; its code is in the message.
        LibvirtTimeoutError: It was not taken in time; the message says in which state the guest is.
    """
    xml = snapshot_xml(checked_name("snapshot name", name), memory_file)
    if memory_file:
        refuse_present(guest.host, memory_file)
    guest.run_job("take a snapshot of", lambda domain: domain.snapshotCreateXML(xml, 0), timeout)


def revert_to_snapshot(guest: Guest, name: str, *, timeout: float = START_TIMEOUT) -> None:
    """Let a guest go on where a snapshot was taken.

    Args:
        guest: The guest.
        name: The snapshot's name.
        timeout: Seconds that it may take.

    Raises:
        LibvirtError: There is no such snapshot, or libvirt refused.
        LibvirtTimeoutError: The guest did not go back in time; the message says in which state it is.
    """

    def revert(domain: libvirt.virDomain) -> None:
        domain.revertToSnapshot(domain.snapshotLookupByName(name), 0)

    guest.run_job(f"revert to snapshot {name} of", revert, timeout)


def snapshot_xml(name: str, memory_file: str = "") -> str:
    """Return what libvirt's virDomainSnapshotCreateXML takes for a snapshot with memory (its formatsnapshot document).

    Args:
        name: The snapshot's name.
        memory_file: Where the memory goes; empty for an internal snapshot.

    Raises:
        InvalidValueError: The path has a control character.
    """
    from lxml import etree  # noqa: PLC0415
    from lxml.builder import E  # noqa: PLC0415

    try:
        memory = E.memory(snapshot="external", file=memory_file) if memory_file else E.memory(snapshot="internal")
    except ValueError as error:
        raise InvalidValueError("memory_file", memory_file, f"a path on the host that XML can hold ({error})") from None
    text: str = etree.tostring(E.domainsnapshot(E.name(name), memory), encoding="unicode")
    return text
