"""The libvirt of a host, asked as a run asks it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from VpmemLibrary.guest.libvirt_link import LibvirtLink
from VpmemLibrary.host.transport import Transport

_TIMEOUT = 7.0
_MODEL = re.compile(r"<secmodel>\s*<model>([^<]*)</model>")


@dataclass(frozen=True, slots=True)
class LibvirtFacts:
    """What a host's libvirt answered.

    Args:
        version: Its version, e.g. ``11.3.0``.
        models: Its security models, e.g. ``("apparmor", "dac")``.
    """

    version: str
    models: tuple[str, ...]


def ask_libvirt(transport: Transport) -> LibvirtFacts:
    """Connect to a host's libvirt as a run does, and return what it answers.

    Args:
        transport: The way to the host.

    Raises:
        LibvirtError: libvirt does not answer, or refuses.
        UnreachableError: The host cannot be reached.
    """
    link = LibvirtLink(transport)
    try:
        number, capabilities = link.call(
            "read its capabilities",
            lambda connection: (connection.getLibVersion(), connection.getCapabilities()),
            timeout=_TIMEOUT,
        )
    finally:
        link.close()
    version = f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
    return LibvirtFacts(version, tuple(_MODEL.findall(capabilities)))
