"""Open an SSH connection: check the host key, log in, and raise a specific error for each kind of failure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from VpmemLibrary.errors import AccessDeniedError, HostKeyError, UnreachableError, VpmemError
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.transport.ssh.proxy import Dial, Way, dial_for
from VpmemLibrary.transport.ssh.settings import SshSettings

if TYPE_CHECKING:
    import paramiko

    from VpmemLibrary.transport.ssh.host_identity import HostIdentity
    from VpmemLibrary.transport.ssh.login import Login

_KEEPALIVE = 10
_SLACK = 8  # times the timeout, because each step of a log-in has its own deadline
_MISSING = {
    "kex": ("KexAlgorithms", "curve25519-sha256@libssh.org"),
    "ciphers": ("Ciphers", "aes256-ctr"),
    "macs": ("MACs", "hmac-sha2-256"),
}
"""The kinds of algorithms in paramiko's errors, each with the option of sshd and an algorithm that paramiko has."""
_SILENT = logging.NullHandler()


class Connector:
    """Opens connections to one host. The object remembers the accepted host key.

    Args:
        settings: How to reach the host.
        dial: Opens the TCP connection. By default this machine connects, through the jump hosts or the ProxyCommand of
            `settings`, if there are any.
    """

    def __init__(self, settings: SshSettings, dial: Dial | None = None) -> None:
        self._settings = settings
        self._dial = dial or dial_for(settings, Connector)
        self._identity: HostIdentity | None = None

    def connect(self) -> paramiko.SSHClient:
        """Connect and log in.

        Raises:
            InvalidValueError: The key file or a known-hosts file is invalid or cannot be read.
            UnreachableError: The host did not answer.
            HostKeyError: The host's key is unknown, revoked or has changed, or its certificate is invalid.
            AccessDeniedError: The host refused the credentials. The message lists all attempts.
        """
        # These modules load paramiko. Its import is slow, and only the first command needs it.
        from VpmemLibrary.transport.ssh.host_identity import HostIdentity  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.identities import find_identities  # noqa: PLC0415
        from VpmemLibrary.transport.ssh.login import Login, MoreToTryError  # noqa: PLC0415

        # paramiko also logs the errors that it raises. Without a log handler, Python would print these records on
        # stderr.
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
        client.set_missing_host_key_policy(Policy())  # the client knows no keys, so the policy sees every key

        def log_in() -> None:
            client.connect(
                settings.address,
                port=settings.port,
                username=settings.user,
                sock=link,  # type: ignore[arg-type]  # it has all methods of a socket that paramiko uses
                timeout=settings.connect_timeout,
                banner_timeout=settings.connect_timeout,
                transport_factory=transport,
                auth_strategy=login,  # type: ignore[arg-type]  # it has the only method that paramiko calls
            )

        connection: Way | None = None
        try:
            connection = self._dial(settings.address, settings.port, settings.connect_timeout)
            link = Link(connection)
            call_with_deadline(_SLACK * settings.connect_timeout, log_in)
        except BaseException as error:
            client.close()
            if connection is not None:  # paramiko closes the connection only after the handshake has begun
                connection.close()
            if not isinstance(error, Exception) or isinstance(error, (VpmemError, MoreToTryError)):
                raise
            translated = self._translate(error)
            explanation = getattr(connection, "explanation", None)  # only a CommandConnection has this method
            if explanation is not None and type(translated) is UnreachableError:
                translated = UnreachableError(f"{translated}\n{explanation()}")
            raise translated from error
        transports[0].set_keepalive(_KEEPALIVE)
        return client

    def _translate(self, error: Exception) -> VpmemError:
        """Return the error for a failed handshake. The data from a host can make paramiko raise any exception."""
        settings = self._settings
        if short := shortage(f"connect to {settings.label}", error):
            return short
        reason = str(error) or type(error).__name__
        if reason == "No existing session":
            reason = f"the handshake did not end within {settings.connect_timeout:g} s"
        if "no acceptable host key" in reason:
            reason += (
                "; its keys sign with SHA-1 only: create other keys there with ssh-keygen -A, or update its SSH server"
            )
        for kind, (option, example) in _MISSING.items():
            if f"no acceptable {kind}" in reason:
                reason += f"; add {example}, which this library has, to {option} in its sshd_config"
        answers = f"Something answers at {settings.address} port {settings.port}"
        if settings.proxy_command:
            answers = f"The ProxyCommand of host {settings.label} was started"
        return UnreachableError(f"{answers}, but the SSH connection failed: {reason}.")
