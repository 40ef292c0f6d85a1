"""List the domains of a host, its running domains, and the backings that running domains use."""

from __future__ import annotations

from collections.abc import Iterable

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.checks import backing_identities
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import read_devices, read_mark
from VpmemLibrary.transport.base import Transport

_ACTIVE = 1  # VIR_CONNECT_LIST_DOMAINS_ACTIVE


def guest_names(link: LibvirtLink) -> list[str]:
    """Return the names of all domains of a host."""
    return sorted(link.call("list guests", lambda connection: [each.name() for each in connection.listAllDomains()]))


def libvirt_version(link: LibvirtLink) -> int:
    """Return the version of a host's libvirt in the format of getLibVersion: 9006000 for 9.6.0."""
    return int(link.call("read the version of libvirt", lambda connection: connection.getLibVersion()))


def running_guests(link: LibvirtLink) -> list[tuple[str, str]]:
    """Return the name of each running guest of a host, and the id of the run that defined it (empty without a run)."""
    return [(name, read_mark(xml)) for name, xml in _running(link)]


def refuse_shared(host: Transport, link: LibvirtLink, name: str, devices: Iterable[VpmemDevice]) -> None:
    """Raise if another running guest uses a backing of these devices. libvirt and QEMU would let both write to it.

    Backings are compared by their identity, not by their paths. So a symbolic link counts as the same backing.

    Args:
        host: The transport to the host.
        link: The host's libvirt connection.
        name: The guest that needs the backings.
        devices: The devices of that guest.

    Raises:
        InvalidValueError: Another running guest uses a backing. The message names that guest.
    """
    wanted = [device.path for device in devices]
    if not wanted:
        return
    taken = [(device.path, owner) for owner, xml in _running(link) if owner != name for device in read_devices(xml)]
    if not taken:
        return
    identities = backing_identities(host, [*wanted, *(path for path, _ in taken)])
    owners = {identities[path]: (path, owner) for path, owner in taken}
    for path in wanted:
        if identities[path] in owners:
            theirs, owner = owners[identities[path]]
            known = "" if theirs == path else f", as {theirs}"
            raise InvalidValueError("path", path, f"a backing that no running guest uses: guest {owner} uses it{known}")


def made_guests(link: LibvirtLink, run_id: str) -> list[str]:
    """Return the names of a host's guests that a given run defined."""
    return [name for name, xml in _described(link, 0) if read_mark(xml) == run_id]


def _running(link: LibvirtLink) -> list[tuple[str, str]]:
    """Return the name and the live XML of each running guest."""
    return _described(link, _ACTIVE)


def _described(link: LibvirtLink, which: int) -> list[tuple[str, str]]:
    """Return the name and the XML of each domain. Skip a domain that another worker removes during the listing."""
    import libvirt  # noqa: PLC0415

    def describe(connection: libvirt.virConnect) -> list[tuple[str, str]]:
        found = []
        for domain in connection.listAllDomains(which):
            try:
                found.append((domain.name(), domain.XMLDesc(0)))
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                    raise
        return found

    return link.call("list guests", describe)
