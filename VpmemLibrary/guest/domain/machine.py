"""Read the machine types of a host's QEMU from libvirt's capabilities (formatcaps document, *Guest capabilities*)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.guest.domain.xml import parse_xml
from VpmemLibrary.visible import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

BUILT_FOR = "x86_64"
"""The architecture of the guests for which this library builds the XML."""

_PREFERRED = ("pc", "q35")
"""Machine types, the fastest to boot first. A QEMU of RHEL 10 has only q35."""

_VERSIONED = ("pc-i440fx-", "pc-q35-")

_WHY = {
    "aarch64": "an aarch64 guest finds an NVDIMM only with the machine `virt`, ACPI and UEFI firmware",
    "ppc64le": "a ppc64le guest needs the machine `pseries`, and each NVDIMM a label area and a multiple of 256MiB",
    "s390x": "QEMU has no NVDIMM on s390x",
}


class Machine(Struct, frozen=True):
    """One machine type.

    Args:
        name: The name, e.g. ``pc-q35-10.0`` or ``q35``.
        canonical: The full name, if `name` is an alias.
        deprecated: Whether a future QEMU will remove the machine type.
    """

    name: str
    canonical: str = ""
    deprecated: bool = False


def host_architecture(capabilities: str) -> str:
    """Return the architecture of a host.

    Raises:
        InvalidValueError: The text is no capabilities XML.
    """
    return (parse_xml(capabilities, "capabilities").findtext("./host/cpu/arch") or BUILT_FOR).strip()


def read_machines(capabilities: str, architecture: str = BUILT_FOR) -> tuple[Machine, ...]:
    """Return the machine types of a host's QEMU for an architecture, in libvirt's order.

    Raises:
        InvalidValueError: The text is no capabilities XML.
    """
    found: dict[str, Machine] = {}
    for element in _architectures(capabilities, architecture):
        for machine in element.iter("machine"):
            name = (machine.text or "").strip()
            found.setdefault(name, Machine(name, machine.get("canonical", ""), machine.get("deprecated") == "yes"))
    found.pop("", None)
    return tuple(found.values())


def has_kvm(capabilities: str) -> bool:
    """Return whether libvirt offers KVM for guests whose XML this library builds.

    KVM runs only guests of the host's own architecture.

    Raises:
        InvalidValueError: The text is no capabilities XML.
    """
    return host_architecture(capabilities) == BUILT_FOR and any(
        element.find("./domain[@type='kvm']") is not None for element in _architectures(capabilities, BUILT_FOR)
    )


def choose_machine(capabilities: str, wanted: str = "") -> str:
    """Return the machine type for a guest whose XML this library builds.

    Args:
        capabilities: The host's capabilities.
        wanted: The machine type that the user wants. Empty chooses ``pc`` if QEMU has it and it is not deprecated,
            otherwise ``q35``.

    Raises:
        InvalidValueError: QEMU has no machine type of that name.
        UnsupportedError: QEMU has neither ``pc`` nor ``q35``, or the host has another architecture.

    Example: ``choose_machine(connection.getCapabilities()) == "pc"``.
    """
    machines = {machine.name: machine for machine in read_machines(capabilities)}
    if not machines:
        architecture = host_architecture(capabilities)
        why = _WHY.get(architecture)
        raise UnsupportedError(
            f"The host is {architecture}, and its QEMU has no {BUILT_FOR} machine. This library builds guests only for "
            f"such machines{f': {why}' if why else ''}. Write the domain's XML yourself: Define Guest From Xml."
        )
    if wanted:
        if wanted not in machines:
            raise InvalidValueError("guest_machine", wanted, f"a machine of the host's QEMU: {_shown(machines)}")
        return wanted
    versioned = [name for name in machines if name.startswith(_VERSIONED)]
    there = [*(name for name in _PREFERRED if name in machines), *versioned]
    if there:
        return next((name for name in there if not machines[name].deprecated), there[0])
    raise UnsupportedError(
        f"The host's QEMU has neither {' nor '.join(_PREFERRED)}. Choose one of its machines by guest_machine in the "
        f"hosts file or by Set Guest Image: {_shown(machines)}."
    )


def _architectures(capabilities: str, name: str) -> Iterator[Element]:
    for element in parse_xml(capabilities, "capabilities").findall("./guest/arch"):
        if element.get("name") == name:
            yield element


def _shown(names: dict[str, Machine]) -> str:
    most = 20
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return one_line(", ".join([*names][:most])) + more
