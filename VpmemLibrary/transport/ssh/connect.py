"""Opening an SSH connection: host keys, log-in, and an error of its own for each way to fail."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from VpmemLibrary.errors import AccessDeniedError, HostKeyError, UnreachableError, VpmemError
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.deadline import within
from VpmemLibrary.transport.ssh.proxy import Dial, Way, dial_for
from VpmemLibrary.transport.ssh.settings import SshSettings

if TYPE_CHECKING:
    import paramiko

    from VpmemLibrary.transport.ssh.host_identity import HostIdentity
    from VpmemLibrary.transport.ssh.login import Login

_KEEPALIVE = 10
_SLACK = 8  # times the timeout: each step of a log-in has a deadline of its own
_SILENT = logging.NullHandler()


class Connector:
    """Opens connections to one host, and remembers the key it accepted for as long as it lives.

    Args:
        settings: How to reach the host.
        dial: What opens the connection; by default this machine, through jump hosts or a ProxyCommand if there are any.
    """

    def __init__(self, settings: SshSettings, dial: Dial | None = None) -> None:
        self._settings = settings
        self._dial = dial or dial_for(settings, Connector)
        self._identity: HostIdentity | None = None

    def connect(self) -> paramiko.SSHClient:
        """Return a connection that is logged in.

        Raises:
            InvalidValueError: The key file or a known-hosts file cannot be used.
            UnreachableError: Nothing answers there.
            HostKeyError: The host's key is unknown, revoked or has changed, or its certificate is invalid.
            AccessDeniedError: The host refused the credentials. The message lists what was tried.
        """
        # These load paramiko, which is slow to import and needed only with a first command.
        from VpmemLibrary.transport.ssh.host_identity import HostIdentity  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.identities import find_identities  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.login import Login, MoreToTryError  # noqa: PLC0415

        # paramiko tells its log what it then raises; without a log set up, Python would print that on stderr.
        logging.getLogger("paramiko").addHandler(_SILENT)
        self._identity = self._identity or HostIdentity(self._settings)
        login = Login(self._settings, find_identities(self._settings))
        try:
            return self._connect(self._identity, login)
        except MoreToTryError:
            try:
                return self._connect(self._identity, login)
            except (AccessDeniedError, HostKeyError):
                raise
            except UnreachableError as error:
                raise login.failed_again(error) from error

    def _connect(self, identity: HostIdentity, login: Login) -> paramiko.SSHClient:
        import paramiko  # noqa: PLC0415

        from VpmemLibrary.transport.ssh.known_hosts import HostKey  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.login import MoreToTryError  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.protocol import HostTransport, Link  # noqa: PLC0415

        settings = self._settings
        known = identity.known()
        transports: list[HostTransport] = []

        def transport(*_: object, **__: object) -> HostTransport:
            made = HostTransport(link, known.types, certified=bool(known.all.authorities))
            made.handshake_timeout = settings.connect_timeout
            transports.append(made)
            return made

        class Policy(paramiko.MissingHostKeyPolicy):
            def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
                identity.check(HostKey(key.get_name(), key.asbytes()), transports[0].shown, known)

        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(Policy())  # which sees every key: the client itself knows none

        def log_in() -> None:
            client.connect(
                settings.address,
                port=settings.port,
                username=settings.user,
                sock=link,  # type: ignore[arg-type]  # it has the methods of a socket that are used
                timeout=settings.connect_timeout,
                banner_timeout=settings.connect_timeout,
                transport_factory=transport,
                auth_strategy=login,  # type: ignore[arg-type]  # it has the one method that is called
            )

        connection: Way | None = None
        try:
            connection = self._dial(settings.address, settings.port, settings.connect_timeout)
            link = Link(connection)
            within(_SLACK * settings.connect_timeout, log_in)
        except BaseException as error:
            client.close()
            if connection is not None:  # paramiko closes it only if it got as far as the handshake
                connection.close()
            if not isinstance(error, Exception) or isinstance(error, (VpmemError, MoreToTryError)):
                raise
            translated = self._translate(error)
            explanation = getattr(connection, "explanation", None)  # of a ProxyCommand
            if explanation is not None and type(translated) is UnreachableError:
                translated = UnreachableError(f"{translated}\n{explanation()}")
            raise translated from error
        transports[0].set_keepalive(_KEEPALIVE)
        return client

    def _translate(self, error: Exception) -> VpmemError:
        """Return the error of a connection whose handshake failed: what a host sends can raise anything in paramiko."""
        settings = self._settings
        if short := shortage(f"connect to {settings.label}", error):
            return short
        reason = str(error) or type(error).__name__
        if reason == "No existing session":
            reason = f"the handshake did not end within {settings.connect_timeout:g} s"
        if "no acceptable host key" in reason:
            reason += "; its keys sign with SHA-1 only: make others there with ssh-keygen -A, or update its SSH server"
        return UnreachableError(
            f"Something answers at {settings.address} port {settings.port}, but no SSH connection came about: {reason}."
        )
