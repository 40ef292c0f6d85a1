"""Connect to a host without a direct TCP connection from this machine: by a ProxyCommand or a ProxyJump."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, TypeAlias

from msgspec.structs import replace

from VpmemLibrary.errors import UnreachableError, VpmemError
from VpmemLibrary.transport.base import Connection
from VpmemLibrary.transport.controller import shortage, start_thread
from VpmemLibrary.transport.ssh.settings import SshSettings
from VpmemLibrary.transport.tcp import connect_tcp

if TYPE_CHECKING:
    import paramiko

Way: TypeAlias = "Connection | CommandConnection | ThroughJump"
"""A connection that carries the bytes to a host."""

Dial = Callable[[str, int, float], Way]
"""Opens a connection to an address and port within a number of seconds."""

_STDERR = 4096
_GRACE = 1.0
_ORIGIN = ("127.0.0.1", 0)


class Hop(Protocol):
    """Connects to one jump host."""

    def connect(self) -> paramiko.SSHClient:
        """Connect and log in."""


def dial_for(settings: SshSettings, connector: Callable[[SshSettings], Hop]) -> Dial:
    """Return a function that connects to a host: directly, by its ProxyCommand, or through its jump hosts."""
    if settings.jumps:
        return _JumpDial(settings, connector)
    if settings.proxy_command.strip():
        return lambda _address, _port, _timeout: CommandConnection(settings.proxy_command, settings.label)
    return connect_tcp


class CommandConnection:
    """A connection over the standard input and output of a local command. `close` ends the command.

    Raises:
        UnreachableError: The shell cannot be run.
        ControllerError: This machine has no process or descriptor left for the command.
    """

    def __init__(self, command: str, host: str) -> None:
        # Messages show only the program of the command, because its arguments may contain a password.
        self._called = f"the ProxyCommand ({command.split(maxsplit=1)[0]} ...) of host {host}"
        self._errors = b""
        self._ended = False
        shell = os.environ.get("SHELL") or "/bin/sh"
        try:
            self._socket, theirs = socket.socketpair()
            try:
                self._process = subprocess.Popen(
                    [shell, "-c", f"exec {command}"],
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=subprocess.PIPE,
                    start_new_session=True,
                )
            except BaseException:
                self._socket.close()
                raise
            finally:
                theirs.close()
        except (OSError, ValueError) as error:
            if short := shortage(f"run {self._called}", error):
                raise short from error
            raise UnreachableError(f"The controller could not run {self._called} with {shell}: {error}.") from error
        self._closing = threading.Lock()
        self._reader = start_thread(self._read_errors, "standard error of a ProxyCommand")

    def send(self, data: bytes) -> int:
        """Send bytes to the command. Return how many bytes the command accepted."""
        return self._socket.send(data)

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes of the command's output; no bytes if the command has ended."""
        data = self._socket.recv(size)
        self._ended = not data
        return data

    @property
    def _closed(self) -> bool:
        """Whether the connection is closed. paramiko reads this attribute of a socket."""
        return self._socket.fileno() < 0

    def settimeout(self, timeout: float | None) -> None:
        """Set the timeout of `send` and `recv` in seconds."""
        self._socket.settimeout(timeout)

    def close(self) -> None:
        """End the command and all its processes. A second call has no effect."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        with self._closing:
            if self._ended:  # wait, because the command's own exit status is more useful than a signal
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
            for number in (signal.SIGHUP, signal.SIGKILL):
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._process.pid, number)
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_GRACE)
                    break

    def explanation(self) -> str:
        """Return how the command ended, and its last output on standard error."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE)
        status = self._process.returncode
        if status is not None:
            self._reader.join(_GRACE)
        text = self._errors.decode("utf-8", "replace").strip()
        if status is None:
            ended = "still ran"
        elif status < 0:
            ended = f"was ended by signal {-status}"
        else:
            ended = f"ended with exit status {status}"
        printed = f": {text}" if text else " and printed nothing on standard error."
        return f"{self._called[0].upper()}{self._called[1:]} {ended}{printed}"

    def _read_errors(self) -> None:
        stream = self._process.stderr
        assert stream is not None  # noqa: S101  it is a pipe
        with stream, suppress(OSError, ValueError):
            while data := os.read(stream.fileno(), _STDERR):
                self._errors = (self._errors + data)[-_STDERR:]


class _JumpDial:
    """Opens connections through jump hosts. The object remembers the accepted host keys."""

    def __init__(self, settings: SshSettings, connector: Callable[[SshSettings], Hop]) -> None:
        *before, last = settings.jumps
        self._hop = replace(last, jumps=tuple(before))
        self._target = settings.label
        self._connector = connector(self._hop)

    def __call__(self, address: str, port: int, timeout: float) -> Way:
        name = self._hop.label
        try:
            client = self._connector.connect()
        except VpmemError as error:
            error.add(f"{name} is a jump host on the way to {self._target} (ProxyJump).")
            raise
        try:
            transport = client.get_transport()
            assert transport is not None  # noqa: S101  the client is logged in
            channel = open_tcp_channel(transport, address, port, timeout, f"jump host {name}")
        except BaseException:
            client.close()
            raise
        channel.settimeout(timeout)
        return ThroughJump(channel, client)


class ThroughJump:
    """A connection through a jump host. `close` also closes the connection to the jump host."""

    def __init__(self, channel: paramiko.Channel, client: paramiko.SSHClient) -> None:
        self._channel = channel
        self._client = client

    def __getattr__(self, name: str) -> object:
        return getattr(self._channel, name)

    def send(self, data: bytes) -> int:
        return self._channel.send(data)

    def recv(self, size: int) -> bytes:
        return self._channel.recv(size)

    def close(self) -> None:
        with suppress(Exception):  # paramiko may raise anything; close the client anyway
            self._channel.close()
        self._client.close()


def open_tcp_channel(
    transport: paramiko.Transport, address: str, port: int, timeout: float, origin: str
) -> paramiko.Channel:
    """Open a TCP connection from the host `origin` of an SSH connection (direct-tcpip: RFC 4254, section 7.2).

    Raises:
        UnreachableError: The address did not answer, or the host's sshd does not forward connections.
    """
    import paramiko  # noqa: PLC0415  slow to import

    target = f"{address} port {port}"
    try:
        return transport.open_channel("direct-tcpip", (address, port), _ORIGIN, timeout=timeout)
    except paramiko.ChannelException as error:
        if error.code == paramiko.OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:  # type: ignore[attr-defined]  # not in the stubs
            raise UnreachableError(
                f"sshd on {origin} does not forward connections to {target}. Set AllowTcpForwarding (yes or local) "
                "there, without DisableForwarding and PermitOpen, and without restrict and no-port-forwarding at the "
                "key in authorized_keys."
            ) from error
        raise UnreachableError(
            f"{target} does not answer, as seen from {origin}. Check that a server is up and listens on this port."
        ) from error
    except (paramiko.SSHException, OSError, EOFError) as error:
        raise UnreachableError(
            f"{target} cannot be reached from {origin}: {str(error) or type(error).__name__}."
        ) from error
