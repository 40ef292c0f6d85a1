"""Compute the addresses of a guest on a bridge of its host, so that no server needs to assign them."""

from __future__ import annotations

import hashlib
import ipaddress

_PREFIX = "52:54:00"
"""The first three bytes of the MAC addresses that QEMU and libvirt give their guests."""


def mac_address(run_id: str, name: str) -> str:
    """Return the MAC address of a guest's interface. The same guest of the same run always gets the same address.

    Args:
        run_id: The run that defines the guest.
        name: The guest's name.

    Example: ``mac_address("1a2b3c4d", "a")`` is ``52:54:00:...``.
    """
    digest = hashlib.sha256(f"{run_id} {name}".encode()).digest()
    return f"{_PREFIX}:{digest[:3].hex(':')}"


def link_local_address(mac: str) -> str:
    """Return the IPv6 link-local address that a kernel derives from a MAC address (RFC 4291, appendix A).

    Args:
        mac: The MAC address.

    Example: ``link_local_address("52:54:00:12:34:56")`` is ``fe80::5054:ff:fe12:3456``.
    """
    octets = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes([octets[0] ^ 0x02]) + octets[1:3] + b"\xff\xfe" + octets[3:]
    return str(ipaddress.IPv6Address(b"\xfe\x80" + bytes(6) + identifier))
