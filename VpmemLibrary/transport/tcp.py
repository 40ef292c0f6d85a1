"""Open TCP connections from this machine, with a specific error for each kind of failure."""

from __future__ import annotations

import socket
import time

from VpmemLibrary.errors import UnreachableError
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.deadline import call_with_deadline

_DEAD_AFTER_MS = 60_000


def connect_tcp(address: str, port: int, timeout: float) -> socket.socket:
    """Return a connection without send delay (TCP_NODELAY). It breaks if the peer confirms no data for 60 s.

    Args:
        address: A name or IP address.
        port: The port.
        timeout: Seconds for the name look-up and the attempts at all addresses together.

    Raises:
        UnreachableError: The address did not answer.
        ControllerError: This machine has no descriptor or thread left for the connection.
    """
    try:
        connection = _connect(address, port, timeout)
    except socket.gaierror as error:
        raise UnreachableError(
            f"Host {address} cannot be found: {error.strerror}. Check the name, or give the IP address."
        ) from error
    except (UnicodeError, ValueError) as error:  # an invalid name: an empty or too long label, or a NUL
        raise UnreachableError(
            f"Host {address} cannot be found: this is not a valid host name. Check the name."
        ) from error
    except TimeoutError as error:
        raise UnreachableError(
            f"Host {address} did not answer on port {port} within "
            f"{timeout:g} s. Check that the host is up and that no firewall blocks port {port}."
        ) from error
    except ConnectionRefusedError as error:
        raise UnreachableError(
            f"Host {address} refuses connections on port {port}. Check that sshd runs there on this port."
        ) from error
    except OSError as error:
        if short := shortage(f"connect to {address} port {port}", error):
            raise short from error
        raise UnreachableError(
            f"Host {address} cannot be reached on port {port}: {error.strerror or error}."
        ) from error
    connection.settimeout(timeout)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _DEAD_AFTER_MS)
    return connection


def _connect(address: str, port: int, timeout: float) -> socket.socket:
    deadline = time.monotonic() + timeout
    failure: OSError | None = None
    found = call_with_deadline(timeout, lambda: socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))
    for number, (family, kind, protocol, _, where) in enumerate(found):
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:  # e.g. this machine has no IPv6
            failure = error
            continue
        try:
            # Divide the remaining time, because an address may not answer. This is common with IPv6.
            connection.settimeout(max(0.001, (deadline - time.monotonic()) / (len(found) - number)))
            connection.connect(where)
        except OSError as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            return connection
    raise failure or OSError(f"{address} has no address")
