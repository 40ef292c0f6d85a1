"""Check how a host is reached: its address and key, the log-in, the sessions of a connection, and the login shell."""

from __future__ import annotations

import secrets
import shlex
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import resources
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.doctor.findings import Finding, ok, problem, reason, warning
from VpmemLibrary.errors import AccessDeniedError, HostKeyError, InvalidValueError, UnreachableError, VpmemError
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import transport_to
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.ssh.channel import close_channel
from VpmemLibrary.transport.ssh.connect import Connector
from VpmemLibrary.transport.ssh.known_hosts import HostKey
from VpmemLibrary.transport.ssh.settings import SshSettings

if TYPE_CHECKING:
    import paramiko

SESSIONS = 10
"""How many sessions sshd should allow for a connection: eight for commands, one to end a command, one for a file."""

CONNECT_TIMEOUT = 10.0

LINES = ("exec /bin/sh", "sh")
"""The command lines that turn a login shell into a POSIX shell. The second command line is for restricted shells."""

_TIMEOUT = 15.0
_CHUNK = 1 << 16
_LONGEST = 1 << 20
_MARK = "VPMEM_MARK"
_SCRIPT = resources.files("VpmemLibrary.doctor").joinpath("account.sh").read_text("ascii")


class Account(Struct, frozen=True):
    """The account that logs in, and the output of its login shell.

    Args:
        facts: The facts of ``account.sh`` by name. If ``end`` is missing, the script did not run to its end.
        before: The text on standard output before the script ran.
        complaints: The text on standard error before the script ran.
        after: The text on standard output after the script.
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
        """The login shell's path, from the account's entry in the user database. Empty if there is no entry."""
        return self.facts.get("passwd", "").split("\n")[0].rpartition(":")[2]


def plain_transport_to(entry: HostEntry) -> Transport:
    """Return the transport to a host as the user that logs in, without sudo and without the host_through program."""
    return transport_to(replace(entry, sudo=False, through=()))


class Link:
    """The doctor's own SSH connection to one host."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._client: paramiko.SSHClient | None = None
        self._session: paramiko.Channel | None = None

    @property
    def is_open(self) -> bool:
        """Whether a user is logged in."""
        return self._client is not None

    def log_in(self) -> list[Finding]:
        """Connect, and return the findings about address, host key and log-in."""
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
        """Open up to `SESSIONS` sessions, and return the finding. Keep the first session open for `ask_account`."""
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
        """Return the account that logs in.

        Raises:
            UnreachableError: sshd allowed no session.
            SSHException, OSError, EOFError: The connection broke, or sshd refused to start a command.
        """
        session, self._session = self._session, None
        if session is None or self._client is None:
            raise UnreachableError(f"sshd on {self._settings.label} allows no session.")
        account = _ask_account(session, LINES[0])
        if account.ran:
            return account
        return _ask_account(_transport(self._client).open_session(timeout=CONNECT_TIMEOUT), LINES[1])

    def close(self) -> None:
        """Close the connection. Do nothing if it is already closed."""
        client, self._client = self._client, None
        if client is not None:
            client.close()


def refused(settings: SshSettings, error: VpmemError) -> list[Finding]:
    """Return the findings of a failed connection: the failed step, and the steps before it."""
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
    """Return the finding for the number of sessions that sshd allowed."""
    if count >= SESSIONS:
        return ok("sessions", f"sshd allows {SESSIONS} or more for each connection")
    found = f"sshd allows {count} for each connection (MaxSessions), but a run may need {SESSIONS} at once"
    fix = (
        f"printf 'MaxSessions {SESSIONS}\\n' | sudo tee /etc/ssh/sshd_config.d/10-vpmem.conf && "
        "sudo systemctl reload sshd"
    )
    if not count:
        return problem("sessions", found, fix)
    return warning("sessions", f"{found}, so a run opens more connections", fix)


def _ask_account(session: paramiko.Channel, line: str) -> Account:
    """Run ``account.sh`` in a session, close the session, and return the account.

    The login shell gets the command line `line`, which starts the shell that reads the script.

    Raises:
        SSHException, OSError, EOFError: The connection broke, or sshd refused to start a command.
    """
    mark = f"vpmem-{secrets.token_hex(8)}"
    deadline = time.monotonic() + _TIMEOUT
    try:
        call_with_deadline(CONNECT_TIMEOUT, lambda: session.exec_command(line))
        session.settimeout(_TIMEOUT)
        with suppress(OSError, EOFError):  # a login shell may end without reading its input
            session.sendall(_SCRIPT.replace(_MARK, mark).encode())
            session.shutdown_write()
        stdout, stderr = _read(session, session.recv, deadline), _read(session, session.recv_stderr, deadline)
    finally:
        close_channel(session)
    return read_account(stdout, stderr, mark)


def _read(session: paramiko.Channel, receive: Callable[[int], bytes], deadline: float) -> bytes:
    """Return the output until its end, the deadline or the size limit. Partial output is better than an error."""
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
    """Return the account of this process."""
    mark = f"vpmem-{secrets.token_hex(8)}"
    result = LocalTransport().run(["/bin/sh"], stdin=_SCRIPT.replace(_MARK, mark).encode(), timeout=_TIMEOUT)
    return read_account(result.stdout, result.stderr, mark)


def read_account(stdout: bytes, stderr: bytes, mark: str) -> Account:
    """Return the output of the script, separated from the output of other programs before and after the script."""
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
        raise UnreachableError("The connection broke right after the log-in.")
    return link


def _method(link: paramiko.Transport) -> str:
    """Return the log-in method that succeeded, and the methods that failed before."""
    handler = getattr(link, "auth_handler", None)
    method = getattr(link, "logged_in_by", "") or getattr(handler, "auth_method", "") or "a method that is not known"
    refused = "; ".join(getattr(link, "outcomes", ()))
    return f"{method} (earlier attempts: {refused})" if refused else str(method)
