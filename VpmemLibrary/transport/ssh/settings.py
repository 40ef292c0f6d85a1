"""The complete settings to reach a host over SSH: values from the caller and from the user's SSH configuration."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.record import compare_without, hide_fields
from VpmemLibrary.transport.bounded_file import expanded
from VpmemLibrary.transport.ssh.address import SSH_PORT, check_user, host_and_port, parse_address

NO_IDENTITY = Path("/nonexistent/none")
"""The identity file that means "no key", as OpenSSH's ``IdentityFile none``. The file does not exist. With this file in
`SshSettings.identity_files`, the default keys are not tried, either."""


class HostKeyPolicy(StrEnum):
    """How to treat a host with an unknown key. This library always refuses a changed key."""

    strict = "strict"
    """Refuse the host."""
    accept_new = "accept-new"
    """Accept the key until this process ends. Write it to no file."""


@hide_fields("password", "key_passphrase", "proxy_command")
@compare_without("configured")
class SshSettings(Struct, frozen=True):
    """How to reach a host over SSH.

    Args:
        address: The host's name or IP address.
        port: The SSH port.
        user: The user for the log-in.
        password: The user's password.
        key_file: A private key. Without a key file and a password, the agent's keys and the user's own keys are tried.
        key_passphrase: The passphrase of the private key.
        known_hosts: The file with the host's key; the default is ``~/.ssh/known_hosts``. It is read and never written.
        host_key: How to treat an unknown host key.
        host_key_name: The host's name in `known_hosts`, as OpenSSH's HostKeyAlias. The default is the address, with the
            port unless the port is 22.
        use_agent: Try the keys of a running SSH agent.
        identity_files: More private keys to try, in this order, as OpenSSH's IdentityFile. Files that do not exist are
            skipped.
        certificate_files: Certificates of private keys, as OpenSSH's CertificateFile.
        identities_only: Try only `key_file` and `identity_files`, as OpenSSH's IdentitiesOnly.
        identity_agent: The socket of the SSH agent, as OpenSSH's IdentityAgent. The default is ``SSH_AUTH_SOCK``.
        user_known_hosts: A file that replaces ``~/.ssh/known_hosts``, as the first file of OpenSSH's
            UserKnownHostsFile. It is skipped if it does not exist.
        more_known_hosts: More files that may have the host's key, as OpenSSH's UserKnownHostsFile and
            GlobalKnownHostsFile. Files that do not exist are skipped.
        revoked_host_keys: A file with the keys that no host and no CA may use, as OpenSSH's RevokedHostKeys.
        jumps: The jump hosts on the way to the host, in order from this machine, as OpenSSH's ProxyJump.
        proxy_command: A command of this machine whose standard input and output are the connection, as OpenSSH's
            ProxyCommand, with its percent tokens replaced.
        configured: A one-line summary of the values from the user's SSH configuration, for the log. It has no secrets.
        sudo: Run every command as root, through sudo or doas.
        connect_timeout: Timeout, in seconds, of each of these steps: the TCP connection, the handshake, the log-in, and
            sshd's answer to the request to start a command.

    Example: ``SshSettings("192.0.2.13", user="qa", key_file=Path("~/.ssh/id_ed25519"), sudo=True)``.

    Raises:
        InvalidValueError: The address, the port or the user is invalid, or the timeout is not positive.
    """

    address: str
    port: int = SSH_PORT
    user: str = "root"
    password: str | None = None
    key_file: Path | None = None
    key_passphrase: str | None = None
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
    revoked_host_keys: Path | None = None
    jumps: tuple[SshSettings, ...] = ()
    proxy_command: str = ""
    configured: str = ""
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
        """The host's name in messages: the address, with the port unless the port is 22."""
        return host_and_port(self.address, self.port)

    @property
    def key_name(self) -> str:
        """The host's name in `known_hosts`."""
        default = self.address if self.port == SSH_PORT else f"[{self.address}]:{self.port}"
        return self.host_key_name or default

    @property
    def known_hosts_file(self) -> Path:
        """The file to search for the host's key."""
        return expanded(self.known_hosts or self.user_known_hosts or Path("~/.ssh/known_hosts"))
