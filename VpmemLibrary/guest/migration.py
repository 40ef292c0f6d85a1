"""Migrate a guest with persistent memory to another host through libvirt.

A live migration copies the guest's RAM and the bytes of its devices, because QEMU treats an NVDIMM as memory. An
offline migration moves only the definition. This process holds the libvirt connections to both hosts. So the hosts need
no access to each other, except for QEMU's own migration stream.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import GuestError, InvalidValueError, LibvirtTimeoutError, UnsupportedError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.checks import check_backings
from VpmemLibrary.guest.domain.domains import guest_names, refuse_shared
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import parse_domain, read_devices
from VpmemLibrary.guest.guest import START_TIMEOUT, Guest
from VpmemLibrary.transport.base import Transport

if TYPE_CHECKING:
    import libvirt


class Destination(Struct, frozen=True):
    """The host that a guest is migrated to.

    Args:
        host: The transport to the target host.
        link: The libvirt connection of the target host.
        address: The address by which the source's QEMU reaches the target. Empty leaves it to libvirt, which uses the
            host's name.
    """

    host: Transport
    link: LibvirtLink
    address: str = ""


def migrate(
    guest: Guest, target: Destination, backings: Sequence[str], *, live: bool, timeout: float = START_TIMEOUT
) -> tuple[VpmemDevice, ...]:
    """Migrate a guest to another host, and return its devices on that host.

    Afterwards the domain is persistent on the target and no longer defined on the source.

    Args:
        guest: The guest.
        target: The target host.
        backings: The backing on the target for each device, in the order of the devices.
        live: Whether the guest runs and keeps running. If false, the guest must be off, and libvirt copies no byte of
            its devices.
        timeout: Seconds until the migration must end. It never ends if the guest writes faster than QEMU sends.

    Raises:
        InvalidValueError: A backing is absent, too small or in use on the target, or the number of backings differs
            from the number of devices. Nothing was changed.
        GuestError: The guest runs and `live` is false, or the guest is off and `live` is true.
        LibvirtError: libvirt or QEMU refused. The guest is still on the source.
        LibvirtTimeoutError: The migration did not end within `timeout` and was aborted. The message gives the guest's
            state on both hosts.
    """
    state = guest.state()
    if live is not (state == "running"):
        raise GuestError(
            f"Guest {guest.name} is {state}: it can only be migrated {'offline' if live else 'live'} (live={not live})."
        )
    devices = read_devices(guest.xml(inactive=not live))
    if len(backings) != len(devices):
        raise InvalidValueError(
            "vpmem", list(backings), f"{len(devices)} backings on the target, one for each device of the guest"
        )
    moved = tuple(replace(device, path=path) for device, path in zip(devices, backings, strict=True))
    check_backings(target.host, moved)
    refuse_shared(target.host, target.link, guest.name, moved)
    if guest.name in guest_names(target.link):
        raise InvalidValueError("guest name", guest.name, f"a name that no domain of {target.link.host} has")
    paths = {device.path: path for device, path in zip(devices, backings, strict=True)}
    try:
        _migrate(guest, target, paths, live=live, timeout=timeout)
    except LibvirtTimeoutError as error:
        error.add(f"And {Guest(target.host, target.link, guest.name).state_for_message()}.")
        raise
    return moved


def _migrate(guest: Guest, target: Destination, paths: Mapping[str, str], *, live: bool, timeout: float) -> None:
    import libvirt  # noqa: PLC0415

    mode = libvirt.VIR_MIGRATE_LIVE if live else libvirt.VIR_MIGRATE_OFFLINE
    flags = mode | libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    migratable = libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    inactive = migratable | libvirt.VIR_DOMAIN_XML_INACTIVE
    there = target.link.call("connect", lambda connection: connection)

    def run(domain: libvirt.virDomain) -> None:
        parameters = {
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: with_backings(domain.XMLDesc(migratable if live else inactive), paths),
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: with_backings(domain.XMLDesc(inactive), paths),
        }
        if target.address and live:
            parameters[libvirt.VIR_MIGRATE_PARAM_URI] = f"tcp://{target.address}"
        domain.migrate3(there, parameters, flags)

    guest.run_job(f"migrate to {target.link.host} the", run, timeout)


def with_backings(xml: str, paths: Mapping[str, str]) -> str:
    """Return a domain's XML with other backings for its devices.

    Args:
        xml: The XML.
        paths: The new backing for each old backing. Other backings stay.

    Raises:
        InvalidValueError: `xml` is no domain XML.
        UnsupportedError: A device that needs another backing comes from ``<qemu:commandline>``.
    """
    from lxml import etree  # noqa: PLC0415

    domain = parse_domain(xml, comments=True)
    there = {path.text for path in domain.findall("./devices/memory/source/path")}
    for device in read_devices(xml):
        if device.path not in there and paths.get(device.path, device.path) != device.path:
            raise UnsupportedError(
                f"<qemu:commandline> in the domain's XML adds {device.path}, and the library cannot change its "
                "backing. Define the device as a <memory> element, or use the same path on both hosts."
            )
    for path in domain.findall("./devices/memory/source/path"):
        path.text = paths.get(path.text or "", path.text)
    return etree.tostring(domain, encoding="unicode")
