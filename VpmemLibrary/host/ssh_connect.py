"""Opening an SSH connection: settings, host keys, credentials, and an error of its own for each way to fail."""

from __future__ import annotations

import contextlib
import logging
import shlex
import signal
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from VpmemLibrary.errors import AccessDeniedError, HostKeyError, InvalidValueError, UnreachableError
from VpmemLibrary.host.controller import shortage
from VpmemLibrary.host.deadline import within
from VpmemLibrary.host.known_hosts import HostKey, KnownKeys, read_known_keys
from VpmemLibrary.host.ssh_proxy import CommandConnection, Dial, Way, dial_for
from VpmemLibrary.host.ssh_settings import HostKeyPolicy, SshSettings

if TYPE_CHECKING:
    import paramiko

_KEEPALIVE = 10
_STALLED = 30.0
_SILENT = logging.NullHandler()

# paramiko raises these as it does a refusal of credentials.
_NO_REFUSAL = ("Authentication timeout.", "Authentication failed: transport shut down or saw EOF")
_RSA = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


class Connector:
    """Opens connections to one host, and remembers the key it accepted for as long as it lives.

    Args:
        settings: How to reach the host.
        dial: What opens the connection; by default this machine, through jump hosts or a ProxyCommand if there are any.
    """

    def __init__(self, settings: SshSettings, dial: Dial | None = None) -> None:
        self._settings = settings
        self._dial = dial or dial_for(settings, Connector)
        self._accepted: HostKey | None = None

    def connect(self) -> paramiko.SSHClient:
        """Return a connection that is logged in.

        Raises:
            InvalidValueError: The key file or the known-hosts file cannot be used.
            UnreachableError: Nothing answers there.
            HostKeyError: The host's key is unknown or has changed.
            AccessDeniedError: The host refused the credentials.
        """
        import paramiko  # noqa: PLC0415  slow to import, needed only with a first command

        settings = self._settings
        # paramiko tells its log what it then raises; without a log set up, Python would print that on stderr.
        logging.getLogger("paramiko").addHandler(_SILENT)
        key = self._key()
        known = self._known_keys(("ssh-rsa", *paramiko.Transport._preferred_keys))  # type: ignore[attr-defined]
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(self._policy(known))  # which sees every key: the client itself knows none

        def log_in() -> None:
            client.connect(
                settings.address,
                port=settings.port,
                username=settings.user,
                password=settings.password,
                pkey=key,
                sock=link,  # type: ignore[arg-type]  # it has the methods of a socket that are used
                timeout=settings.connect_timeout,
                banner_timeout=settings.connect_timeout,
                auth_timeout=settings.connect_timeout,
                allow_agent=settings.use_agent,
                look_for_keys=key is None and settings.password is None,
                transport_factory=_transport_class(tuple(key.type for key in known.keys)),  # type: ignore[arg-type]  # the stubs forget its keywords
            )

        connection: Way | None = None
        try:
            connection = self._dial(settings.address, settings.port, settings.connect_timeout)
            link = _Link(connection)
            within(2 * settings.connect_timeout, log_in)  # an agent, too, may not answer
        except BaseException as error:
            translated = self._translate(error, key)
            if isinstance(connection, CommandConnection) and type(translated) is UnreachableError:
                translated = UnreachableError(f"{translated}\n{connection.explanation()}")
            client.close()
            if connection is not None:  # paramiko closes it only if it got as far as the handshake
                connection.close()
            if translated is not None:
                raise translated from error
            raise
        transport = client.get_transport()
        if transport is not None:
            transport.set_keepalive(_KEEPALIVE)
        return client

    def _key(self) -> paramiko.PKey | None:
        import paramiko  # noqa: PLC0415

        named = [path for path in self._settings.identity_files if path.exists()]
        if self._settings.key_file is None and not named:
            return None
        path = (self._settings.key_file or named[0]).expanduser()
        passphrase = self._settings.key_passphrase
        valid = "a readable private key in OpenSSH or PEM form"
        try:
            path.read_bytes()
            return paramiko.PKey.from_path(path, passphrase.encode() if passphrase else None)  # type: ignore[arg-type]  # takes bytes only
        except OSError as error:
            if short := shortage(f"read {path}", error):
                raise short from error
            raise InvalidValueError("key_file", str(path), f"{valid} ({error.strerror})") from error
        except (TypeError, paramiko.PasswordRequiredException) as error:
            reason = "it is locked: give key_passphrase" if not passphrase else "it has no passphrase: give none"
            raise InvalidValueError("key_file", str(path), f"{valid} ({reason})") from error
        except (ValueError, paramiko.SSHException) as error:
            reason = "not one, or key_passphrase is wrong" if passphrase else "this is not one"
            raise InvalidValueError("key_file", str(path), f"{valid} ({reason})") from error

    def _known_keys(self, supported: Sequence[str]) -> KnownKeys:
        path = self._settings.known_hosts_file
        if self._settings.known_hosts is None:
            path = next((each for each in (path, *self._settings.more_known_hosts) if each.exists()), path)
        try:
            known = read_known_keys(path, self._settings.key_name)
        except FileNotFoundError as error:
            if self._settings.known_hosts is not None:
                raise InvalidValueError("known_hosts", str(path), "a file that exists") from error
            return KnownKeys()
        except OSError as error:
            if short := shortage(f"read {path}", error):
                raise short from error
            raise InvalidValueError("known_hosts", str(path), f"a readable file ({error.strerror})") from error
        return replace(known, keys=tuple(key for key in known.keys if key.type in supported))

    def _policy(self, known: KnownKeys) -> paramiko.MissingHostKeyPolicy:
        import paramiko  # noqa: PLC0415

        connector = self

        class Policy(paramiko.MissingHostKeyPolicy):
            def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
                connector._check(_host_key(key), known)

        return Policy()

    def _check(self, key: HostKey, known: KnownKeys) -> None:
        """Raise unless the host may have a key."""
        settings = self._settings
        where = settings.known_hosts_file
        if key in known.revoked:
            raise HostKeyError(
                f"The key of host {settings.label} is revoked: {where} has {key} as @revoked. Somebody else may have "
                "its private half. Give the host a new key, and replace its lines in that file."
            )
        if key in known.keys:
            return
        if known.keys:
            same_type = [each for each in known.keys if each.type == key.type]
            raise self._changed(key, (same_type or known.keys)[0], str(where))
        if settings.host_key is HostKeyPolicy.strict:
            raise HostKeyError(
                f"The key of host {settings.label} is not known: {key} is not in {where}. Compare this fingerprint "
                "with the host's own (ssh-keygen -lf on the host). If they are the same, add this very key with:\n"
                f"echo {shlex.quote(key.line(settings.key_name))} >> {shlex.quote(str(where))}"
            )
        if self._accepted is not None and self._accepted != key:
            raise self._changed(key, self._accepted, "what it had when it was first reached")
        self._accepted = key

    def _changed(self, got: HostKey, expected: HostKey, where: str) -> HostKeyError:
        settings = self._settings
        return HostKeyError(
            f"The key of host {settings.label} has changed: it is {got}, but {where} has {expected}. Either the host "
            "was installed again or another machine answers in its place. If it was installed again, forget the old "
            f"key with:\nssh-keygen -f {shlex.quote(str(settings.known_hosts_file))} -R '{settings.key_name}'"
        )

    def _translate(self, error: BaseException, key: paramiko.PKey | None) -> Exception | None:
        import paramiko  # noqa: PLC0415

        settings = self._settings
        if isinstance(error, paramiko.AuthenticationException) and str(error) not in _NO_REFUSAL:
            offered = getattr(error, "allowed_types", None)
            accepts = f" The host accepts: {', '.join(offered)}." if offered else ""
            return AccessDeniedError(
                f"Host {settings.label} does not let user {settings.user!r} in; tried: {self._tried(key)}.{accepts} "
                "Check the user's name, and that the key is in the user's authorized_keys."
            )
        if isinstance(error, UnreachableError):
            return None
        if short := shortage(f"connect to {settings.label}", error):
            return short
        if isinstance(error, (paramiko.SSHException, OSError, EOFError)):
            if str(error) == "No authentication methods available":
                return AccessDeniedError(
                    f"There is nothing to log in to {settings.label} with as user {settings.user!r}: no password or "
                    "key_file was given, and neither an agent nor ~/.ssh has a key."
                )
            return UnreachableError(
                f"Something answers at {settings.address} port {settings.port}, but no SSH connection came about: "
                f"{str(error) or type(error).__name__}."
            )
        return None

    def _tried(self, key: paramiko.PKey | None) -> str:
        settings = self._settings
        tried = []
        if key is not None:
            tried.append(f"the key {settings.key_file} ({_host_key(key)})")
        if settings.use_agent:
            tried.append("the agent's keys")
        if key is None and settings.password is None:
            tried.append("the keys in ~/.ssh")
        if settings.password is not None:
            tried.append("the password")
        return ", ".join(tried)


def _host_key(key: paramiko.PKey) -> HostKey:
    return HostKey(key.get_name(), key.asbytes())


class _Link:
    """A connection that fails when the other side takes no bytes for long; paramiko alone would go on trying.

    Args:
        connection: A socket, or what has the face of one.
    """

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


def _transport_class(key_types: tuple[str, ...]) -> type[paramiko.Transport]:
    """Return paramiko's transport with what it lacks.

    It asks for a host key of the types that are known. It tells which signal ended a command (RFC 4254, section 6.10):
    paramiko ignores ``exit-signal``, and a channel's exit status is then -1, as for a lost connection. It closes a
    session that sshd opens after it was no longer waited for, as sshd would count it for ever.

    Args:
        key_types: The types of the host's known keys.
    """
    import paramiko  # noqa: PLC0415
    from paramiko.common import MSG_CHANNEL_REQUEST, cMSG_CHANNEL_CLOSE  # noqa: PLC0415

    def handle_request(channel: paramiko.Channel, message: paramiko.Message) -> None:
        position = message.packet.tell()
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_status = -_signal_number(message.get_text())
            channel.status_event.set()
            return
        message.packet.seek(position)
        channel._handle_request(message)  # type: ignore[attr-defined]  # not in the stubs

    wanted = {algorithm for kind in key_types for algorithm in (_RSA if kind == "ssh-rsa" else (kind,))}

    class HostTransport(paramiko.Transport):
        _channel_handler_table = {  # noqa: RUF012  as the base class has it
            **paramiko.Transport._channel_handler_table,  # type: ignore[attr-defined]  # not in the stubs
            MSG_CHANNEL_REQUEST: handle_request,
        }
        _preferred_keys = tuple(
            sorted(paramiko.Transport._preferred_keys, key=lambda algorithm: algorithm not in wanted)  # type: ignore[attr-defined]
        )

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

    return HostTransport


def _signal_number(name: str) -> int:
    with contextlib.suppress(KeyError):
        return int(signal.Signals[f"SIG{name}"])
    return int(signal.SIGKILL)
