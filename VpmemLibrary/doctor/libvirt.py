"""Read facts from a host's libvirt."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.transport.base import Transport

if TYPE_CHECKING:
    import libvirt

_TIMEOUT = 18.0
_MODEL = re.compile(r"<secmodel>\s*<model>([^<]*)</model>")
_GUEST = re.compile(r"<guest>.*?</guest>", re.DOTALL)
_MACHINE = re.compile(r"<machine\b[^>]*>([^<]*)</machine>")
_ARCHITECTURE = re.compile(r"<arch>([^<]*)</arch>")
_PATH = re.compile(r"<path>([^<]*)</path>")


class LibvirtFacts(Struct, frozen=True):
    """The answers of a host's libvirt.

    Args:
        version: The version of libvirt, e.g. ``11.3.0``.
        models: The security models of libvirt, e.g. ``("apparmor", "dac")``.
        emulator: The QEMU that libvirt starts by default. Empty if libvirt has no QEMU for this host.
        machine: The machine type that a domain gets by default, e.g. ``pc-i440fx-10.0``.
        machines: The names of all machine types of the host's architecture, with their aliases.
    """

    version: str
    models: tuple[str, ...] = ()
    emulator: str = ""
    machine: str = ""
    machines: tuple[str, ...] = ()


def ask_libvirt(transport: Transport, daemon: Daemon = SYSTEM) -> LibvirtFacts:
    """Connect to a host's libvirt in the same way as a run does, and return its answers.

    Args:
        transport: The transport to the host.
        daemon: The libvirt daemon of the host to use.

    Raises:
        LibvirtError: libvirt does not answer, or reports an error.
        UnreachableError: The host cannot be reached.
    """
    link = LibvirtLink(transport, daemon=daemon)
    try:
        return link.call("read its capabilities", _read, timeout=_TIMEOUT)
    finally:
        link.close()


def _read(connection: libvirt.virConnect) -> LibvirtFacts:
    import libvirt  # noqa: PLC0415

    number = connection.getLibVersion()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    capabilities = connection.getCapabilities()
    try:
        domain = connection.getDomainCapabilities(None, None, None, None)
    except libvirt.libvirtError:  # libvirt found no QEMU
        return LibvirtFacts(version, tuple(_MODEL.findall(capabilities)))
    return decode_capabilities(version, capabilities, domain)


def decode_capabilities(version: str, capabilities: str, domain: str) -> LibvirtFacts:
    """Return the facts in libvirt's XML documents about the host and about its default domain."""
    architecture = _first(_ARCHITECTURE, domain)
    guest = next((each for each in _GUEST.findall(capabilities) if f"<arch name='{architecture}'>" in each), "")
    return LibvirtFacts(
        version,
        tuple(_MODEL.findall(capabilities)),
        _first(_PATH, domain),
        _first(_MACHINE, domain),
        tuple(dict.fromkeys(_MACHINE.findall(guest))),
    )


def _first(pattern: re.Pattern[str], text: str) -> str:
    match = pattern.search(text)
    return match[1] if match else ""
