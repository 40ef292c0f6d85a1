"""Loopback ports and the known_hosts lines that pin a lab host's key to one."""

from __future__ import annotations

import socket


def free_port() -> int:
    """Return a loopback port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def known_hosts_line(port: int, public_key: str) -> str:
    """Return the line of a known_hosts file for a loopback port and a key (type and base64)."""
    return f"[127.0.0.1]:{port} {public_key}\n"
