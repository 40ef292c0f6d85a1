"""Extend paramiko's transport, and the connection that the transport uses."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterable

import paramiko
from paramiko.common import MSG_CHANNEL_CLOSE, MSG_CHANNEL_REQUEST, cMSG_CHANNEL_CLOSE

from VpmemLibrary.transport.ssh.proxy import Way
from VpmemLibrary.transport.ssh.public_keys import SUFFIX
from VpmemLibrary.transport.ssh.wire import Reader

_STALLED = 30.0
_RSA = ("rsa-sha2-512", "rsa-sha2-256")

SUPPORTED: tuple[str, ...] = tuple(
    algorithm
    for algorithm in paramiko.Transport._preferred_keys  # type: ignore[attr-defined]  # not in the stubs
    if algorithm not in ("ssh-rsa", "ssh-dss")
)
"""The accepted algorithms of host keys. ssh-rsa and ssh-dss are not accepted, because they sign with SHA-1."""


def supports(key_type: str) -> bool:
    """Return whether a host can prove that it has a key of a type, e.g. ``ssh-rsa``."""
    return key_type == "ssh-rsa" or key_type in SUPPORTED


class Link:
    """A connection that fails if the other side accepts no bytes for 30 s. paramiko alone would retry for ever."""

    def __init__(self, connection: Way) -> None:
        self._connection = connection
        self._stalled_since: float | None = None

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def send(self, data: bytes) -> int:
        try:
            sent = self._connection.send(data)
        except TimeoutError:
            now = time.monotonic()
            self._stalled_since = self._stalled_since or now
            if now - self._stalled_since > _STALLED:
                self._connection.close()
            raise
        self._stalled_since = None
        return sent


def _handle_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
    position = message.packet.tell()
    if message.get_text() == "exit-signal":
        message.get_boolean()
        channel.exit_status = -_signal_number(message.get_text())
        channel.status_event.set()
        return
    message.packet.seek(position)
    channel._handle_request(message)  # type: ignore[attr-defined]  # not in the stubs


def _handle_close(channel: paramiko.Channel, message: paramiko.Message) -> None:
    # When a host closes a channel, it has sent all data. paramiko also closes the channels of a lost connection.
    # `eof_received` distinguishes the two cases.
    channel.eof_received = True
    channel._handle_close(message)  # type: ignore[attr-defined]  # not in the stubs


class HostTransport(paramiko.Transport):
    """A paramiko transport with extensions.

    - If a CA is known for the host, request a certificate first, then a key of a known type.
    - Keep the key that the host showed, and the reason why the host ended the connection.
    - Report the signal that ended a command (RFC 4254, section 6.10). paramiko ignores ``exit-signal`` and sets the
      channel's exit status to -1, as for a lost connection.
    - Close a session that sshd opens too late, when nobody waits for it. Otherwise sshd would count the session for
      ever.
    """

    _channel_handler_table = {  # noqa: RUF012  same as in the base class
        **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]  # not in the stubs
        MSG_CHANNEL_REQUEST: _handle_request,
        MSG_CHANNEL_CLOSE: _handle_close,
    }

    def __init__(self, connection: Link, key_types: Iterable[str] = (), *, certified: bool = False) -> None:
        super().__init__(connection)  # type: ignore[arg-type]  # it has all methods of a socket that paramiko uses
        wanted = {algorithm for kind in key_types for algorithm in (_RSA if kind == "ssh-rsa" else (kind,))}
        plain = tuple(sorted(SUPPORTED, key=lambda algorithm: algorithm not in wanted))
        certificates = tuple(algorithm + SUFFIX for algorithm in SUPPORTED)
        self._asked = certificates + plain if certified else plain
        self.shown = b""
        """The key or certificate that the host showed."""
        self.ended = ""
        """The host's reason for ending the connection."""
        self.logged_in_by = ""
        """The label of the successful log-in attempt."""
        self.outcomes: tuple[str, ...] = ()
        """The earlier attempts and their outcomes."""

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._asked

    def _verify_key(self, host_key: bytes, signature: bytes) -> None:
        expected = str(self.host_key_type).removesuffix(SUFFIX)
        if (algorithm := Reader(signature).text()) != expected:
            raise paramiko.SSHException(f"the host signed with {algorithm} where {expected} was agreed on")
        super()._verify_key(host_key, signature)  # type: ignore[misc]
        self.shown = self.shown or bytes(host_key)

    def _parse_disconnect(self, message: paramiko.Message) -> None:
        message.get_int()
        self.ended = message.get_binary().decode("utf-8", "replace")

    def _parse_channel_open_success(self, message: paramiko.Message) -> None:
        position = message.packet.tell()
        ours, theirs = message.get_int(), message.get_int()
        message.packet.seek(position)
        if self._channels.get(ours) is not None:  # type: ignore[attr-defined]
            super()._parse_channel_open_success(message)  # type: ignore[misc]
            return
        close = paramiko.Message()
        close.add_byte(cMSG_CHANNEL_CLOSE)
        close.add_int(theirs)
        self._send_user_message(close)  # type: ignore[attr-defined]


def _signal_number(name: str) -> int:
    with contextlib.suppress(KeyError):
        return int(signal.Signals[f"SIG{name}"])
    return int(signal.SIGKILL)
