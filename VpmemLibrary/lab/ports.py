"""Find loopback ports, and write the known_hosts lines that bind a lab host's key to a port."""

from __future__ import annotations

import random
import socket
from collections.abc import Collection
from pathlib import Path

LOOPBACK = "127.0.0.1"

_CANDIDATES = range(20000, 65536)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
_TRIES = 100


def free_port(taken: Collection[int] = ()) -> int:
    """Return a loopback port that no process listens on, outside the kernel's range of ephemeral ports.

    A lab host that is off keeps its port, although no process listens on it. So the ports of all lab hosts are `taken`.
    A port of the ephemeral range is returned only if no other port is free, because the kernel could meanwhile give
    such a port to another program.
    """
    low, high = map(int, _EPHEMERAL.read_text().split())
    candidates = [port for port in _CANDIDATES if not low <= port <= high and port not in taken]
    for port in random.sample(candidates, min(_TRIES, len(candidates))):
        if is_free(port):
            return port
    with socket.socket() as probe:  # the kernel's range leaves no other port
        probe.bind((LOOPBACK, 0))
        found: int = probe.getsockname()[1]
        return found


def is_free(port: int) -> bool:
    """Return whether no process listens on a loopback port."""
    with socket.socket() as probe:
        # As QEMU does: ended connections may still use the port for a minute, but it is possible to listen on it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
            probe.listen()
        except OSError:
            return False
        return True


def known_hosts_line(port: int, public_key: str) -> str:
    """Return the line of a known_hosts file for a loopback port and a key (type and base64)."""
    return f"[{LOOPBACK}]:{port} {public_key}\n"
