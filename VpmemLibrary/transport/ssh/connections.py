"""The connections to one host: one connection, or more if sshd allows few sessions per connection (MaxSessions)."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from VpmemLibrary.errors import UnreachableError
from VpmemLibrary.polling import attempts

if TYPE_CHECKING:
    import paramiko

SESSIONS = 8
"""How many commands can run at once on a host. sshd allows ten sessions per connection; two are to end commands."""

_WINDOW = 1 << 22
_RETRY = 0.005
_LOG = logging.getLogger(__name__)


class _SilentConnectionError(EOFError):
    """A connection did not answer the request for a session."""


class _Connection:
    """One connection with its sessions."""

    def __init__(self, client: paramiko.SSHClient, transport: paramiko.Transport) -> None:
        self.client = client
        self.transport = transport
        self.opening = 0
        self.silent = False
        """Whether the connection did not answer the request for a session."""
        self._channels: list[paramiko.Channel] = []

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        self._channels = [channel for channel in self._channels if not channel.closed]
        return len(self._channels)

    def add(self, channel: paramiko.Channel) -> None:
        """Add an open session."""
        self._channels.append(channel)


class Connections:
    """Opens sessions on a host, with as few connections as sshd's session limit allows."""

    settled_after = 1.0
    """Seconds of refusal after which the limit counts as reached. sshd still counts a closed session for a moment."""

    def __init__(self, connect: Callable[[], paramiko.SSHClient], name: str, timeout: float) -> None:
        self.limit = SESSIONS
        """Maximum number of sessions per connection."""
        self._connect = connect
        self._name = name
        self._timeout = timeout
        self._lock = threading.Lock()
        self._connections: list[_Connection] = []

    def transport(self) -> paramiko.Transport:
        """Return an active connection. Make a new connection if there is none."""
        with self._lock:
            return self._connection(need_room=False).transport

    def open_session(self) -> paramiko.Channel:
        """Open a session.

        Raises:
            UnreachableError: No connection is possible, or sshd allows no session on a new connection.
            ControllerError: This machine has no descriptor or thread left for a connection.
            SSHException, OSError, EOFError: The connection broke repeatedly.
        """
        try:
            return self._open_session()
        except _SilentConnectionError:
            # A router may have dropped the connection. A new connection shows whether the host still answers.
            return self._open_session()

    def _open_session(self) -> paramiko.Channel:
        import paramiko  # noqa: PLC0415  slow to import, only the first command needs it

        refused_since: dict[tuple[int, int], float] = {}
        failure: Exception = UnreachableError()
        for attempt in attempts(f"a session on {self._name}", timeout=self._timeout, interval=_RETRY):
            with self._lock:
                connection = self._connection(need_room=True)
                connection.opening += 1
            try:
                channel = connection.transport.open_session(window_size=_WINDOW, timeout=self._timeout)
            except paramiko.ChannelException as error:
                with self._lock:
                    others = connection.sessions
                    since = refused_since.setdefault((id(connection), others), attempt.seconds)
                    if others and attempt.seconds - since > self.settled_after:
                        self._learn(others)
                failure = UnreachableError(
                    f"sshd on {self._name} lets the user in, but allows no session ({error.text}). Set MaxSessions 10 "
                    "in its sshd_config."
                )
            except (paramiko.SSHException, OSError, EOFError) as error:  # no command was started yet
                if isinstance(error, paramiko.SSHException) and connection.transport.is_active():
                    connection.silent = True
                    raise _SilentConnectionError(str(error)) from error
                connection.transport.close()
                failure = error
            else:
                with self._lock:
                    connection.add(channel)
                return channel
            finally:
                with self._lock:
                    connection.opening -= 1
        raise failure

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            connections, self._connections = self._connections, []
        for connection in connections:
            connection.client.close()

    def _learn(self, sessions: int) -> None:
        if sessions < self.limit:
            self.limit = sessions
            _LOG.info(
                "sshd on %s allows %d sessions for each connection (MaxSessions), so more connections are used",
                self._name,
                sessions,
            )

    def _connection(self, *, need_room: bool) -> _Connection:
        for connection in list(self._connections):
            if not connection.transport.is_active() or (
                connection.silent and not connection.sessions and not connection.opening
            ):
                self._connections.remove(connection)
                connection.client.close()
        for connection in self._connections:
            if not connection.silent and (not need_room or connection.sessions + connection.opening < self.limit):
                return connection
        try:
            client = self._connect()
        except UnreachableError as error:
            if any(not connection.silent for connection in self._connections):
                raise UnreachableError(
                    f"sshd on {self._name} allows {self.limit} sessions for each connection, and another connection "
                    f"failed: {error} Set MaxSessions 10 in its sshd_config."
                ) from error
            raise
        transport = client.get_transport()
        if transport is None:
            with contextlib.suppress(OSError, EOFError):
                client.close()
            raise UnreachableError(f"The connection to {self._name} broke right after the log-in.")
        connection = _Connection(client, transport)
        self._connections.append(connection)
        return connection
