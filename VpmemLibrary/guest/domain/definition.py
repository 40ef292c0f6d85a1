"""Defining guests, and finding those that are there, whoever defined them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from VpmemLibrary.errors import InvalidValueError, LibvirtError, NotFoundError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.checks import check_backings, check_devices
from VpmemLibrary.guest.domain.domains import guest_names, libvirt_version, made_guests, refuse_shared
from VpmemLibrary.guest.domain.machine import choose_machine, has_kvm
from VpmemLibrary.guest.domain.records import AUTO, GuestSpec, VpmemDevice, in_slots
from VpmemLibrary.guest.domain.template import add_devices, as_own
from VpmemLibrary.guest.domain.xml import build_domain, parse_xml, read_devices, read_name
from VpmemLibrary.guest.domain.xml_checks import check_domain
from VpmemLibrary.guest.guest import NO_DOMAIN, Guest, WrapTransport
from VpmemLibrary.transport.base import Transport


def define_guest(
    host: Transport,
    link: LibvirtLink,
    spec: GuestSpec,
    *,
    unshared: bool = False,
    share_backing: bool = False,
    wrap: WrapTransport | None = None,
) -> Guest:
    """Define a guest; mistakes are refused before, and no half-defined domain is left.

    Args:
        host: The way to its host.
        link: The host's libvirt connection.
        spec: What it should be.
        unshared: Devices without shared access are wanted, though nothing on them persists.
        share_backing: Another running guest may have a backing of its devices.
        wrap: What is put around the transport into the guest.

    Raises:
        InvalidValueError: A device cannot be what it is asked to be, a guest of that name is there, or QEMU has no such
            machine.
        UnsupportedError: QEMU has no machine for the guest.
        LibvirtError: libvirt refused.
    """
    check_devices(spec.devices, unshared=unshared, cells=spec.numa_cells)
    spec = for_host(link, spec)
    xml = build_domain(spec, security_driver="" if spec.confined else read_security_driver(link))
    return _define(host, link, spec.name, xml=xml, devices=spec.devices, share_backing=share_backing, wrap=wrap)


def define_guest_from(
    host: Transport,
    link: LibvirtLink,
    xml: str,
    devices: Iterable[VpmemDevice],
    *,
    run_id: str,
    name: str = "",
    unshared: bool = False,
    wrap: WrapTransport | None = None,
) -> Guest:
    """Define a guest from a user's own domain XML with devices added; no half-defined domain is left.

    Args:
        host: The way to its host.
        link: The host's libvirt connection.
        xml: The user's XML; only what devices need is changed in it, and the run's mark is added.
        devices: The devices to add; without any, the XML is checked as it is.
        run_id: The run that makes it.
        name: Another name than the XML's.
        unshared: Devices without shared access are wanted, though nothing on them persists.
        wrap: What is put around the transport into the guest.

    Raises:
        InvalidValueError: It is no domain XML, a device cannot be in it, or a guest of that name is there.
        LibvirtError: libvirt refused.
    """
    added = tuple(devices)
    version = libvirt_version(link)
    full = as_own(xml, run_id, name=name)
    if added:
        full = add_devices(full, added, unshared=unshared, libvirt=version)
    check_domain(full, unshared=unshared, libvirt=version)
    return _define(host, link, read_name(full), xml=full, devices=read_devices(full), wrap=wrap)


def for_host(link: LibvirtLink, spec: GuestSpec) -> GuestSpec:
    """Return a guest with what its host decides: the hypervisor where it is left open, and the machine type.

    Args:
        link: The host's libvirt connection.
        spec: The guest.

    Raises:
        InvalidValueError: QEMU has no machine of the wanted name.
        UnsupportedError: QEMU has no machine for the guest.
    """
    if spec.hypervisor == AUTO:
        spec = replace(spec, hypervisor=best_hypervisor(link))
    if spec.hypervisor == "test":  # libvirt's test driver has machines of its own
        return spec
    return replace(spec, machine=choose_machine(_capabilities(link), spec.machine))


def best_hypervisor(link: LibvirtLink) -> str:
    """Return ``kvm`` where libvirt offers it for this machine's architecture, and ``qemu`` otherwise."""
    return "kvm" if has_kvm(_capabilities(link)) else "qemu"


def read_security_driver(link: LibvirtLink) -> str:
    """Return what confines guests on the host: ``apparmor``, ``selinux``, or nothing.

    libvirt lists its own setting of owners, ``dac``, among the drivers (formatcaps document, *secmodel*).
    """
    models = parse_xml(_capabilities(link), "capabilities").findall("./host/secmodel/model")
    return next((model.text for model in models if model.text and model.text != "dac"), "")


def _capabilities(link: LibvirtLink) -> str:
    return str(link.call("read the capabilities", lambda connection: connection.getCapabilities()))


def find_guest(host: Transport, link: LibvirtLink, name: str, *, wrap: WrapTransport | None = None) -> Guest:
    """Return a guest that is there, whoever defined it.

    Raises:
        NotFoundError: There is none of that name; the message names those that are.
    """
    guest = Guest(host, link, name, wrap=wrap)
    try:
        guest.state()
    except LibvirtError as error:
        if error.code != NO_DOMAIN:
            raise
        raise NotFoundError("guest", name, guest_names(link), where=link.host) from None
    return guest


def guests_of_run(host: Transport, link: LibvirtLink, run_id: str) -> Iterator[Guest]:
    """Return the guests that a run defined, and no other."""
    for name in made_guests(link, run_id):
        yield Guest(host, link, name)


def _define(
    host: Transport,
    link: LibvirtLink,
    name: str,
    *,
    xml: str,
    devices: tuple[VpmemDevice, ...],
    share_backing: bool = False,
    wrap: WrapTransport | None,
) -> Guest:
    import libvirt  # noqa: PLC0415

    check_backings(host, devices)
    if name in guest_names(link):
        raise InvalidValueError("guest name", name, "one that no domain of the host has")
    if not share_backing:
        refuse_shared(host, link, name, devices)
    link.call(
        f"define guest {name}",
        lambda connection: connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
    )
    return Guest(host, link, name, devices=in_slots(devices), wrap=wrap)
