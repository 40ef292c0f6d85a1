"""How a host is reached over SSH: what was given, with what the user's SSH configuration adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.bounded_file import expanded
from VpmemLibrary.transport.ssh.address import SSH_PORT, check_user, host_and_port, parse_address

NO_IDENTITY = Path("/nonexistent/none")
"""The identity file of a user who has none, as OpenSSH's ``IdentityFile none``."""


class HostKeyPolicy(StrEnum):
    """What to do with a host whose key is not known. A key that has changed is always refused."""

    strict = "strict"
    """Refuse it."""
    accept_new = "accept-new"
    """Take it for as long as this process lives; nothing is written."""


@dataclass(frozen=True, slots=True)
class SshSettings:
    """How to reach a host over SSH.

    Args:
        address: Its name or IP address.
        port: Its SSH port.
        user: Who logs in.
        password: The user's password.
        key_file: A private key; without one, and without a password, the agent's and the user's own keys are tried.
        key_passphrase: What the private key is locked with.
        known_hosts: The file that holds the host's key, read and never written; ``~/.ssh/known_hosts`` by default.
        host_key: What to do with an unknown host key.
        host_key_name: The name that `known_hosts` has the host's key under, as OpenSSH's HostKeyAlias; by default the
            address, with the port unless that is 22.
        use_agent: Whether the keys of a running SSH agent are tried.
        identity_files: More private keys to try, in this order, as OpenSSH's IdentityFile; one that does not exist is
            passed over.
        certificate_files: Certificates of private keys, as OpenSSH's CertificateFile.
        identities_only: Whether only `key_file` and `identity_files` are tried, as OpenSSH's IdentitiesOnly.
        identity_agent: The socket of the SSH agent, as OpenSSH's IdentityAgent; by default ``SSH_AUTH_SOCK`` has it.
        user_known_hosts: The file in the place of ``~/.ssh/known_hosts``, as the first of OpenSSH's UserKnownHostsFile;
            passed over if it does not exist.
        more_known_hosts: More files that may hold the host's key, as OpenSSH's UserKnownHostsFile and
            GlobalKnownHostsFile; one that does not exist is passed over.
        jumps: The hosts that the connection goes through, the first one first, as OpenSSH's ProxyJump.
        proxy_command: A command of this machine whose standard input and output are the connection, as OpenSSH's
            ProxyCommand, with its percent tokens replaced.
        configured: What of all this is from the user's SSH configuration, in one line for the log; no secret is in it.
        sudo: Whether every command is run through ``sudo -n``.
        connect_timeout: Seconds that each of these may take: the TCP connection, the handshake, the log-in, and sshd's
            answer to the request to start a command.

    Example: ``SshSettings("192.0.2.13", user="qa", key_file=Path("~/.ssh/id_ed25519"), sudo=True)``.

    Raises:
        InvalidValueError: The address, the port or the user is invalid, or the timeout is not positive.
    """

    address: str
    port: int = SSH_PORT
    user: str = "root"
    password: str | None = field(default=None, repr=False)
    key_file: Path | None = None
    key_passphrase: str | None = field(default=None, repr=False)
    known_hosts: Path | None = None
    host_key: HostKeyPolicy = HostKeyPolicy.strict
    host_key_name: str = ""
    use_agent: bool = True
    identity_files: tuple[Path, ...] = ()
    certificate_files: tuple[Path, ...] = ()
    identities_only: bool = False
    identity_agent: str = ""
    user_known_hosts: Path | None = None
    more_known_hosts: tuple[Path, ...] = ()
    jumps: tuple[SshSettings, ...] = ()
    proxy_command: str = field(default="", repr=False)
    configured: str = field(default="", compare=False)
    sudo: bool = False
    connect_timeout: float = 15.0

    def __post_init__(self) -> None:
        address = parse_address(self.address)
        if address.user is not None or address.port is not None:
            valid = "a host's name or IP address alone: the user and the port are settings of their own"
            raise InvalidValueError("address", self.address, valid)
        if not 0 < self.port < 65536:
            raise InvalidValueError("port", self.port, "1 to 65535")
        check_user(self.user)
        if not self.connect_timeout > 0:
            raise InvalidValueError("connect_timeout", self.connect_timeout, "more than 0 seconds")

    @property
    def label(self) -> str:
        """The host in messages: its address, and its port unless that is 22."""
        return host_and_port(self.address, self.port)

    @property
    def key_name(self) -> str:
        """The name that `known_hosts` has the host's key under."""
        default = self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"
        return self.host_key_name or default

    @property
    def known_hosts_file(self) -> Path:
        """The file that the host's key is looked up in."""
        return expanded(self.known_hosts or self.user_known_hosts or Path("~/.ssh/known_hosts"))
