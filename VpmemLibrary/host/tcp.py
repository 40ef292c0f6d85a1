"""TCP connections from this machine, with an error of its own for each way to fail."""

from __future__ import annotations

import socket

from VpmemLibrary.errors import UnreachableError

_DEAD_AFTER_MS = 60_000


def connect_tcp(address: str, port: int, timeout: float) -> socket.socket:
    """Return a connection that sends at once and notices a peer that is gone.

    Args:
        address: A name or IP address.
        port: The port.
        timeout: Seconds that it may take.

    Raises:
        UnreachableError: Nothing answers there.
    """
    try:
        connection = socket.create_connection((address, port), timeout)
    except socket.gaierror as error:
        raise UnreachableError(
            f"Host {address} cannot be found: {error.strerror}. Check the name, or give the IP address."
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            f"Host {address} did not answer on port {port} within "
            f"{timeout:g} s. Is it up, and does a firewall let port {port} through?"
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"Host {address} refuses connections on port {port}. Does sshd run there, and on that port?"
        ) from error
    except OSError as error:
        raise UnreachableError(
            f"Host {address} cannot be reached on port {port}: {error.strerror or error}."
        ) from error
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return connection
