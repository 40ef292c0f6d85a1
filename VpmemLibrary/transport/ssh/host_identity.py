"""Check that a key or certificate belongs to a host, by known-hosts files, host certificates and the policy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import HostKeyError, InvalidValueError
from VpmemLibrary.transport.bounded_file import expanded, read_bounded
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.ssh.address import SSH_PORT
from VpmemLibrary.transport.ssh.host_certificates import Certificate, parse_certificate
from VpmemLibrary.transport.ssh.known_hosts import HostKey, KnownKeys, parse_known_keys, read_known_keys
from VpmemLibrary.transport.ssh.protocol import supports
from VpmemLibrary.transport.ssh.public_keys import SUFFIX
from VpmemLibrary.transport.ssh.settings import HostKeyPolicy, SshSettings
from VpmemLibrary.transport.ssh.wire import Reader

_LARGEST_LIST = 32 << 20
_REVOCATION_LIST = b"SSHKRL\n\0"
_OTHER_FILES = (Path("~/.ssh/known_hosts2"), Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))


class Known(Struct, frozen=True):
    """The known keys of one host.

    Args:
        host: The keys under the host's own name.
        all: The same keys, and the keys under the host's name without the port. As in ssh, these keys are accepted too,
            but they may belong to an SSH server on another port.
    """

    host: KnownKeys
    all: KnownKeys

    @property
    def types(self) -> tuple[str, ...]:
        """The types of the host's known keys."""
        return tuple(key.type for key in self.all.keys)


def known_hosts_files(settings: SshSettings) -> tuple[Path, ...]:
    """Return the files to search for a host's key.

    If the settings have `known_hosts`, return only this file. Otherwise return the user's own file and
    `more_known_hosts`. If the settings have no `more_known_hosts`, the other default files of ssh replace them.
    """
    if settings.known_hosts is not None:
        return (expanded(settings.known_hosts),)
    more = settings.more_known_hosts or _OTHER_FILES
    return (settings.known_hosts_file, *(expanded(file) for file in more))


class HostIdentity:
    """Decides whether a host is the intended host. The object remembers the accepted key."""

    def __init__(self, settings: SshSettings) -> None:
        self._settings = settings
        self._files = known_hosts_files(settings)
        self._accepted: HostKey | None = None

    def known(self) -> Known:
        """Return the host's keys in the known-hosts files.

        Raises:
            InvalidValueError: A file cannot be read or is a key revocation list, or `known_hosts` names a file that
                does not exist.
        """
        settings = self._settings
        bare = settings.port != SSH_PORT and not settings.host_key_name
        names = (settings.key_name, settings.address) if bare else (settings.key_name,)
        return Known(self._read(settings.key_name), self._read(*names) + self._revoked())

    def _revoked(self) -> KnownKeys:
        """Return the keys of RevokedHostKeys. As in ssh, no host is trusted if the file cannot be read."""
        path = self._settings.revoked_host_keys
        if path is None:
            return KnownKeys()
        try:
            content = read_bounded(path, _LARGEST_LIST)
        except OSError as error:
            if short := shortage(f"read {path}", error):
                raise short from error
            valid = f"a readable file, because without it no host is trusted ({error.strerror})"
            raise InvalidValueError("RevokedHostKeys", str(path), valid) from error
        if content.startswith(_REVOCATION_LIST):
            valid = "a text with one public key a line; a key revocation list (ssh-keygen -k) is not supported"
            raise InvalidValueError("RevokedHostKeys", str(path), valid)
        lines = (b"@revoked * " + line for line in content.split(b"\n"))
        return parse_known_keys(b"\n".join(lines), path, (self._settings.key_name,))

    def _read(self, *names: str) -> KnownKeys:
        known = KnownKeys()
        for path in self._files:
            try:
                known += read_known_keys(path, *names)
            except FileNotFoundError as error:
                if self._settings.known_hosts is not None:
                    raise InvalidValueError("known_hosts", str(path), "a file that exists") from error
            except UnicodeError as error:
                valid = f"a text in UTF-8, not in UTF-16: iconv -f UTF-16 -t UTF-8 {shlex.quote(str(path))} > NEW"
                raise InvalidValueError("known_hosts", str(path), valid) from error
            except OSError as error:
                if short := shortage(f"read {path}", error):
                    raise short from error
                if self._settings.known_hosts is None and path.is_relative_to("/etc"):
                    continue  # like ssh, ignore a system-wide file that this user may not read
                raise InvalidValueError("known_hosts", str(path), f"a readable file ({error.strerror})") from error
        return known

    def check(self, key: HostKey, shown: bytes, known: Known) -> None:
        """Raise unless the host may have this key.

        Args:
            key: The key that the host proved to have.
            shown: The key, or the certificate of the key, that the host showed.
            known: The known keys of the host.

        Raises:
            HostKeyError: The key or certificate is unknown, revoked, changed or invalid.
        """
        settings, lines = self._settings, known.all
        if revoked := _find(key, lines.revoked):
            raise HostKeyError(
                f"The key of host {settings.label} is revoked: {revoked.file} has {key} as @revoked in line "
                f"{revoked.number}. Somebody else may have the private key. Give the host a new key, and replace the "
                "host's lines in that file."
            )
        note = ""
        if _type_of(shown).endswith(SUFFIX):
            plain_decides = self._certificate(shown, lines)
            if plain_decides is None:
                return
            note = plain_decides
        elif lines.authorities:
            note = (
                f" A CA is known for this host ({lines.authorities[0].where}), but the host showed no certificate: "
                "check HostCertificate in its sshd_config."
            )
        if _find(key, lines.keys):
            return
        usable = [each for each in known.host.keys if supports(each.type)]
        if usable:
            same_type = [each for each in usable if each.type == key.type]
            expected = (same_type or usable)[0]
            raise self._changed(key, expected, f"{expected.file} (line {expected.number})", expected.file)
        if settings.host_key is HostKeyPolicy.strict:
            raise self._unknown(key, known.host.keys, note)
        if self._accepted is not None and self._accepted != key:
            raise self._changed(key, self._accepted, "its first connection", self._files[0])
        self._accepted = key

    def _certificate(self, shown: bytes, lines: KnownKeys) -> str | None:
        """Return None if the certificate is accepted, or why the plain key decides. Raise for a refused certificate."""
        settings = self._settings
        try:
            certificate = parse_certificate(shown)
        except ValueError as error:
            if lines.authorities:
                raise HostKeyError(f"The certificate of host {settings.label} cannot be used: {error}.") from error
            return f" It showed a certificate that cannot be used: {error}."
        authority = certificate.authority
        if revoked := _find(authority, lines.revoked):
            raise HostKeyError(
                f"The certificate of host {settings.label} is signed by a revoked CA: {revoked.file} has {authority} "
                f"as @revoked in line {revoked.number}. Sign the host's key by another CA."
            )
        listed = _find(authority, lines.authorities)
        if listed is None:
            there = f" ({', '.join(each.where for each in lines.authorities)} have others)" if lines.authorities else ""
            return (
                f" It showed certificate {certificate.identity!r} of the CA {authority}, which no @cert-authority line "
                f"of this host has{there}."
            )
        if why := certificate.why_not_for(settings.host_key_name or settings.address):
            raise self._refused(certificate, listed, why)
        return None

    def _refused(self, certificate: Certificate, listed: HostKey, why: str) -> HostKeyError:
        return HostKeyError(
            f"The certificate of host {self._settings.label} is refused: {why}. It is {certificate.identity!r}, signed "
            f"by the CA {certificate.authority} of {listed.where}. Let that CA sign the host's key again "
            "(ssh-keygen -s CA -h -I ID -n NAMES -V +52w KEY.pub), and restart or reload sshd there."
        )

    def _unknown(self, key: HostKey, others: Sequence[HostKey], note: str) -> HostKeyError:
        settings = self._settings
        where = ", ".join(str(file) for file in self._files)
        if others:
            kinds = ", ".join(f"{each.type} ({each.where})" for each in others)
            note += f" Its known keys are of a type that this library does not support: {kinds}."
        return HostKeyError(
            f"The key of host {settings.label} is unknown: {key} is not in {where}.{note} Compare this fingerprint "
            "with the fingerprint that ssh-keygen -lf prints on the host. If they are equal, add this key with:\n"
            f"echo {shlex.quote(key.line(settings.key_name))} >> {shlex.quote(str(self._files[0]))}"
        )

    def _changed(self, got: HostKey, expected: HostKey, where: str, file: Path) -> HostKeyError:
        settings = self._settings
        name = settings.key_name.replace("'", "'\\''")
        return HostKeyError(
            f"The key of host {settings.label} has changed: it is {got}, but {where} has {expected}. Either the host "
            "was installed again, or another machine answers at its address. If it was installed again, remove the old "
            f"key with:\nssh-keygen -f {shlex.quote(str(file))} -R '{name}'"
        )


def _type_of(shown: bytes) -> str:
    try:
        return Reader(shown).text()
    except ValueError as error:
        raise HostKeyError("The key that the host showed is invalid. Check that an SSH server runs there.") from error


def _find(key: HostKey, lines: Sequence[HostKey]) -> HostKey | None:
    return next((each for each in lines if each == key), None)
