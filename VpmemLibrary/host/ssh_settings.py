"""How a host is reached over SSH: what was given, with what the user's SSH configuration adds."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.bounded_file import expanded

SSH_PORT = 22


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
        more_known_hosts: More files that may hold the host's key, as OpenSSH's UserKnownHostsFile and
            GlobalKnownHostsFile; one that does not exist is passed over.
        jumps: The hosts that the connection goes through, the first one first, as OpenSSH's ProxyJump.
        proxy_command: A command of this machine whose standard input and output are the connection, as OpenSSH's
            ProxyCommand, with its percent tokens replaced.
        sudo: Whether every command is run through ``sudo -n``.
        connect_timeout: Seconds that each of these may take: the TCP connection, the handshake, the log-in, and sshd's
            answer to the request to start a command.

    Example: ``SshSettings("192.0.2.13", user="qa", key_file=Path("~/.ssh/id_ed25519"), sudo=True)``.

    Raises:
        InvalidValueError: The address is empty, the port is none, or the timeout is not positive.
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
    more_known_hosts: tuple[Path, ...] = ()
    jumps: tuple[SshSettings, ...] = ()
    proxy_command: str = ""
    sudo: bool = False
    connect_timeout: float = 15.0

    def __post_init__(self) -> None:
        if not self.address or self.address.startswith("-") or any(c.isspace() for c in self.address):
            raise InvalidValueError("address", self.address, "a host's name or IP address, e.g. 192.0.2.13")
        if not 0 < self.port < 65536:
            raise InvalidValueError("port", self.port, "1 to 65535")
        if not self.user:
            raise InvalidValueError("user", self.user, "the name of who logs in, e.g. root")
        if not self.connect_timeout > 0:
            raise InvalidValueError("connect_timeout", self.connect_timeout, "more than 0 seconds")

    @property
    def label(self) -> str:
        """The host in messages: its address, and its port unless that is 22."""
        return self.address if self.port == SSH_PORT else f"{self.address}:{self.port}"

    @property
    def key_name(self) -> str:
        """The name that `known_hosts` has the host's key under."""
        default = self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"
        return self.host_key_name or default

    @property
    def known_hosts_file(self) -> Path:
        """The file that the host's key is looked up in."""
        return expanded(self.known_hosts or Path("~/.ssh/known_hosts"))
