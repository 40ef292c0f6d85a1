"""Reaching a host: its address and key, the log-in, the sessions of a connection, and what the login shell prints."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import resources
from typing import TYPE_CHECKING

from VpmemLibrary.doctor.findings import Finding, ok, problem, reason, warning
from VpmemLibrary.errors import AccessDeniedError, HostKeyError, InvalidValueError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_file import HostEntry, transport_to
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.deadline import within
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.ssh.channel import close_channel
from VpmemLibrary.transport.ssh.connect import Connector
from VpmemLibrary.transport.ssh.known_hosts import HostKey
from VpmemLibrary.transport.ssh.settings import SshSettings

if TYPE_CHECKING:
    import paramiko

SESSIONS = 10
"""How many sessions a connection should have: eight for commands, one to end a command, one for a file."""

CONNECT_TIMEOUT = 10.0

LINES = ("exec /bin/sh", "sh")
"""The command lines by which a login shell becomes a POSIX shell; the second one is for shells that are restricted."""

_TIMEOUT = 15.0
_CHUNK = 1 << 16
_LONGEST = 1 << 20
_MARK = "VPMEM_MARK"
_SCRIPT = resources.files("VpmemLibrary.doctor").joinpath("account.sh").read_text("ascii")


@dataclass(frozen=True, slots=True)
class Account:
    """What the account that logs in is.

    Args:
        facts: The facts of ``account.sh`` by name; without ``end`` the script did not run to its end.
        before: What was printed on standard output before the script ran.
        complaints: What was printed on standard error before the script ran.
        after: What was printed on standard output after the script.
    """

    facts: dict[str, str]
    before: str = ""
    complaints: str = ""
    after: str = ""

    @property
    def ran(self) -> bool:
        """Whether the script ran to its end."""
        return "end" in self.facts

    @property
    def user(self) -> str:
        """The user's name."""
        return self.facts.get("user", "")

    @property
    def root(self) -> bool:
        """Whether the user is root."""
        return self.facts.get("uid") == "0"

    @property
    def shell(self) -> str:
        """The login shell's path, from the account's entry in the user database; empty if there is no entry."""
        return self.facts.get("passwd", "").split("\n")[0].rpartition(":")[2]


def plain_transport_to(entry: HostEntry) -> Transport:
    """Return the way to a host as the user that logs in, without sudo and without another program in front."""
    return transport_to(replace(entry, sudo=False, through=()))


class Link:
    """An SSH connection of the doctor's own to one host.

    Args:
        settings: How the host is reached.
    """

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._client: paramiko.SSHClient | None = None
        self._session: paramiko.Channel | None = None

    @property
    def is_open(self) -> bool:
        """Whether a user is logged in."""
        return self._client is not None

    def log_in(self) -> list[Finding]:
        """Connect, and return what is found about address, key and log-in."""
        settings = self._settings
        quick = replace(settings, connect_timeout=min(settings.connect_timeout, CONNECT_TIMEOUT))
        try:
            client = Connector(quick).connect()
            link = _transport(client)
        except VpmemError as error:
            return refused(settings, error)
        self._client = client
        key = link.get_remote_server_key()
        configured = getattr(settings, "configured", "")
        return [
            *([ok("ssh_config", configured)] if configured else []),
            ok("address", f"{settings.label} answers as {link.remote_version}"),
            ok("host key", f"{HostKey(key.get_name(), key.asbytes())}, {_known(settings)}"),
            ok("log-in", f"user {settings.user} by {_method(link)}"),
        ]

    def count_sessions(self) -> list[Finding]:
        """Open as many sessions as a run needs, at most. The first one stays open."""
        import paramiko  # noqa: PLC0415

        sessions: list[paramiko.Channel] = []
        if self._client is not None:
            with suppress(paramiko.SSHException, OSError, EOFError):
                while len(sessions) < SESSIONS:
                    sessions.append(_transport(self._client).open_session(timeout=CONNECT_TIMEOUT))
        for session in sessions[1:]:
            close_channel(session)
        self._session = sessions[0] if sessions else None
        return [judge_sessions(len(sessions))]

    def ask_account(self) -> Account:
        """Return what the account that logs in is.

        Raises:
            UnreachableError: sshd gave no session.
            SSHException, OSError, EOFError: The connection broke, or sshd refused to start a command.
        """
        session, self._session = self._session, None
        if session is None or self._client is None:
            raise UnreachableError(f"sshd on {self._settings.label} gives a connection no session.")
        account = _ask_account(session, LINES[0])
        if account.ran:
            return account
        return _ask_account(_transport(self._client).open_session(timeout=CONNECT_TIMEOUT), LINES[1])

    def close(self) -> None:
        """End the connection; ending it twice is harmless."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def refused(settings: SshSettings, error: VpmemError) -> list[Finding]:
    """Return what a failed connection says of a host: the step that failed, and the steps before it.

    Args:
        settings: How the host is reached.
        error: How the connection failed.
    """
    found, newline, fix = str(error).rpartition("\n")
    if not newline:
        found, fix = fix, ""
    found = " ".join(found.split())
    target = f"{settings.user}@{settings.address}"
    address = ok("address", f"{settings.label} answers")
    if isinstance(error, HostKeyError):
        return [address, problem("host key", found, fix)]
    if isinstance(error, AccessDeniedError):
        keys = ok("host key", _known(settings))
        return [
            address,
            keys,
            problem("log-in", reason(error), f"ssh-copy-id -p {settings.port} {shlex.quote(target)}"),
        ]
    if isinstance(error, InvalidValueError):
        return [problem("settings", reason(error))]
    return [problem("address", reason(error), f"ssh -v -p {settings.port} {shlex.quote(target)} true")]


def judge_sessions(count: int) -> Finding:
    """Return what a number of sessions means for a run.

    Args:
        count: How many could be opened; no more than `SESSIONS` are tried.
    """
    if count >= SESSIONS:
        return ok("sessions", f"sshd gives a connection {SESSIONS} or more")
    found = f"sshd gives a connection {count} (MaxSessions); all commands at once need {SESSIONS}"
    fix = (
        f"printf 'MaxSessions {SESSIONS}\\n' | sudo tee /etc/ssh/sshd_config.d/10-vpmem.conf && "
        "sudo systemctl reload sshd"
    )
    if not count:
        return problem("sessions", found, fix)
    return warning("sessions", f"{found}, so a run makes more connections", fix)


def _ask_account(session: paramiko.Channel, line: str) -> Account:
    """Return what the account that logs in is.

    Args:
        session: An SSH session in which nothing was started yet. It is closed.
        line: The command line for the login shell.

    Raises:
        SSHException, OSError, EOFError: The connection broke, or sshd refused to start a command.
    """
    mark = f"vpmem-{secrets.token_hex(8)}"
    deadline = time.monotonic() + _TIMEOUT
    try:
        within(CONNECT_TIMEOUT, lambda: session.exec_command(line))
        session.settimeout(_TIMEOUT)
        with suppress(OSError, EOFError):  # a login shell may end without reading
            session.sendall(_SCRIPT.replace(_MARK, mark).encode())
            session.shutdown_write()
        stdout, stderr = _read(session, session.recv, deadline), _read(session, session.recv_stderr, deadline)
    finally:
        close_channel(session)
    return read_account(stdout, stderr, mark)


def _read(session: paramiko.Channel, receive: Callable[[int], bytes], deadline: float) -> bytes:
    """Return what comes until the end, the deadline, or the most that is looked at: each says more than an error."""
    data = b""
    while len(data) < _LONGEST:
        session.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            chunk = receive(_CHUNK)
        except TimeoutError:
            break
        if not chunk:
            break
        data += chunk
    return data


def ask_local_account() -> Account:
    """Return what the account of this process is."""
    mark = f"vpmem-{secrets.token_hex(8)}"
    result = LocalTransport().run(["/bin/sh"], stdin=_SCRIPT.replace(_MARK, mark).encode(), timeout=_TIMEOUT)
    return read_account(result.stdout, result.stderr, mark)


def read_account(stdout: bytes, stderr: bytes, mark: str) -> Account:
    """Return what the script printed, apart from what other programs printed before and after it.

    Args:
        stdout: All of standard output.
        stderr: All of standard error.
        mark: The word that the script printed first and last.
    """
    text, complaints = stdout.decode("utf-8", "replace"), stderr.decode("utf-8", "replace")
    before, started, rest = text.partition(f"{mark}\n")
    if not started:
        return Account({}, before, complaints)
    facts, _, after = rest.partition(mark)
    parts = facts.split("\0")
    found = dict(zip(parts[0::2], (part.strip() for part in parts[1::2]), strict=False))
    return Account(found, before, complaints.partition(f"{mark}\n")[0], after)


def _known(settings: SshSettings) -> str:
    return f"looked up as {settings.key_name} in {settings.known_hosts_file}"


def _transport(client: paramiko.SSHClient) -> paramiko.Transport:
    link = client.get_transport()
    if link is None:
        raise UnreachableError("The connection broke as soon as it was made.")
    return link


def _method(link: paramiko.Transport) -> str:
    """Return the method that let the user in, and those that did not."""
    handler = getattr(link, "auth_handler", None)
    method = getattr(link, "logged_in_by", "") or getattr(handler, "auth_method", "") or "a method that is not known"
    refused = "; ".join(getattr(link, "outcomes", ()))
    return f"{method} (before it: {refused})" if refused else str(method)
