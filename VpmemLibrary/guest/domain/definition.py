"""Define guests, and find guests that any user or run defined."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError, LibvirtError, NotFoundError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.checks import check_backings, check_devices
from VpmemLibrary.guest.domain.domains import guest_names, libvirt_version, made_guests, refuse_shared
from VpmemLibrary.guest.domain.machine import choose_machine, has_kvm
from VpmemLibrary.guest.domain.records import AUTO, GuestSpec, VpmemDevice, in_slots
from VpmemLibrary.guest.domain.states import NO_DOMAIN
from VpmemLibrary.guest.domain.template import add_devices, as_own
from VpmemLibrary.guest.domain.xml import build_domain, parse_xml, read_devices, read_name
from VpmemLibrary.guest.domain.xml_checks import check_domain
from VpmemLibrary.guest.guest import Guest, WrapTransport
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
    """Define a guest. Check its devices first, and leave no half-defined domain.

    Args:
        host: The transport to the guest's host.
        link: The host's libvirt connection.
        spec: The specification of the guest.
        unshared: Allow devices without shared access, on which nothing persists.
        share_backing: Allow another running guest to use a backing of these devices.
        wrap: Wraps the transport into the guest.

    Raises:
        InvalidValueError: A device is invalid, a guest of that name exists, or QEMU has no machine type of the wanted
            name.
        UnsupportedError: QEMU has no machine type for the guest.
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
    """Define a guest from a user's own domain XML with devices added. Leave no half-defined domain.

    Args:
        host: The transport to the guest's host.
        link: The host's libvirt connection.
        xml: The user's XML. Only what the devices need is changed, and the run's mark is added.
        devices: The devices to add. Without devices, the XML is checked as it is.
        run_id: The run that defines the guest.
        name: A name to use instead of the name in the XML.
        unshared: Allow devices without shared access, on which nothing persists.
        wrap: Wraps the transport into the guest.

    Raises:
        InvalidValueError: `xml` is not domain XML, a device in it is invalid, or a guest of that name exists.
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
    """Fill in a specification: the machine type that suits the host, and the hypervisor if it is ``auto``.

    Args:
        link: The host's libvirt connection.
        spec: The specification of the guest.

    Raises:
        InvalidValueError: QEMU has no machine type of the wanted name.
        UnsupportedError: QEMU has no machine type for the guest.
    """
    if spec.hypervisor == AUTO:
        spec = replace(spec, hypervisor=best_hypervisor(link))
    if spec.hypervisor == "test":  # libvirt's test driver has its own machine types
        return spec
    return replace(spec, machine=choose_machine(_capabilities(link), spec.machine))


def best_hypervisor(link: LibvirtLink) -> str:
    """Return ``kvm`` if libvirt offers KVM for the host's architecture, and ``qemu`` otherwise."""
    return "kvm" if has_kvm(_capabilities(link)) else "qemu"


def read_security_driver(link: LibvirtLink) -> str:
    """Return the security driver that confines guests on the host: ``apparmor``, ``selinux``, or an empty string.

    libvirt also lists ``dac``, its own setting of file owners, among the drivers (formatcaps document, *secmodel*).
    """
    models = parse_xml(_capabilities(link), "capabilities").findall("./host/secmodel/model")
    return next((model.text for model in models if model.text and model.text != "dac"), "")


def _capabilities(link: LibvirtLink) -> str:
    return str(link.call("read the capabilities", lambda connection: connection.getCapabilities()))


def find_guest(host: Transport, link: LibvirtLink, name: str, *, wrap: WrapTransport | None = None) -> Guest:
    """Return an existing guest, which any user or run may have defined.

    Raises:
        NotFoundError: The host has no guest of that name. The message lists the guests of the host.
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
    """Return the guests that a given run defined."""
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
        raise InvalidValueError("guest name", name, "a name that no domain of the host has")
    if not share_backing:
        refuse_shared(host, link, name, devices)
    link.call(
        f"define guest {name}",
        lambda connection: connection.defineXMLFlags(xml, libvirt.VIR_DOMAIN_DEFINE_VALIDATE),
    )
    return Guest(host, link, name, devices=in_slots(devices), wrap=wrap)
