"""Find the keys and certificates for a user's log-in, in the order of ssh."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct, field

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.bounded_file import expanded, read_bounded
from VpmemLibrary.transport.ssh.agent import Agent, AgentError, AgentKey
from VpmemLibrary.transport.ssh.host_certificates import Certificate, parse_certificate
from VpmemLibrary.transport.ssh.key_files import KeyFile, read_key_file
from VpmemLibrary.transport.ssh.public_keys import PublicKey, decode_key, plain_type
from VpmemLibrary.transport.ssh.settings import NO_IDENTITY, SshSettings
from VpmemLibrary.transport.ssh.signing import Signer

DEFAULT_NAMES = ("id_rsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk", "id_xmss", "id_dsa")
_LARGEST = 1 << 20


class Identity(Struct, frozen=True):
    """A key for the log-in.

    Args:
        label: The key's name in messages.
        public: The key or certificate to offer.
        signer: Signs with the key.
        named: Whether the settings name the key. Otherwise the key was found in a default place.
        in_agent: Whether an agent signs. The agent may ask its user.
    """

    label: str
    public: PublicKey
    signer: Signer
    named: bool
    in_agent: bool = False

    def __str__(self) -> str:
        """Return the label with the fingerprint."""
        return f"{self.label} ({self.public})"


class Identities(Struct):
    """The keys and certificates for a user's log-in."""

    offers: list[Identity] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def find_identities(settings: SshSettings) -> Identities:
    """Return the keys for a log-in: first `key_file`, then the agent's keys, then the keys of other files.

    The agent's keys that also have a file come before the agent's other keys. A certificate comes before its key.

    Raises:
        InvalidValueError: `key_file` is not usable, and the agent does not have its key.
        ControllerError: This machine has no descriptor left.
    """
    found = Identities()
    given = _read(settings.key_file, settings, found) if settings.key_file is not None else None
    identities = [path for path in settings.identity_files if path != NO_IDENTITY]
    named = [file for path in identities if (file := _read(path, settings, found))]
    if given is None and not settings.identity_files:
        defaults = [Path("~/.ssh") / name for name in DEFAULT_NAMES]
        files = [file for path in defaults if (file := _read(path, settings, None))]
    else:
        files = ([given] if given else []) + named
    in_agent = _agent_keys(settings, found)
    has = {key.public for key in in_agent}
    if given is not None and given.key is None and given.public not in has:
        raise InvalidValueError(
            "key_file", str(given.path), f"a readable private key in OpenSSH or PEM form ({given.problem})"
        )
    certificates = list(_certificates(settings, found, files))
    given_public = given.public if given is not None and given.key is not None else None
    publics = [file.public for file in files]

    def offer(key: PublicKey, label: str, signer: Signer, *, known: bool, agent: bool = False) -> None:
        for path, certificate in certificates:
            if certificate.key == key:
                invalid = certificate.invalid_now()
                note = f", {invalid}" if invalid else ""
                blob = certificate.blob
                found.offers.append(Identity(f"{label} with certificate {path}{note}", blob, signer, known, agent))
        found.offers.append(Identity(label, key, signer, known, agent))

    if given is not None and given.key is not None:
        offer(given.key.public, f"the key {given.path}", given.key, known=True)
    for key in sorted(in_agent, key=lambda key: _rank(key, publics)):
        known = _plain(key, publics) in publics
        if key.public == given_public or (settings.identities_only and not known):
            continue
        if plain_type(key.public.type) == "ssh-dss":
            found.problems.append(f"agent key {key.comment!r} ({key.public}): a DSA key, which was not offered")
            continue
        offer(key.public, f"agent key {key.comment!r}", key, known=known and bool(settings.identity_files), agent=True)
    for file in files:
        if file is given or file.public in has:
            continue
        if file.key is None:
            found.problems.append(f"{_short(file.path)}: {file.problem}")
        else:
            offer(file.key.public, _short(file.path), file.key, known=bool(settings.identity_files))
    return found


def _read(path: Path, settings: SshSettings, found: Identities | None) -> KeyFile | None:
    """Read a key file. If the file does not exist, add a note to `found` and return None."""
    full = expanded(path)
    try:
        return read_key_file(full, settings.key_passphrase)
    except FileNotFoundError as error:
        if path == settings.key_file:
            valid = "a readable private key in OpenSSH or PEM form"
            raise InvalidValueError("key_file", str(full), f"{valid} ({error.strerror})") from error
        if found is not None:
            found.problems.append(f"{_short(full)}: it does not exist")
        return None


def _agent_keys(settings: SshSettings, found: Identities) -> list[AgentKey]:
    agent = Agent.find(settings.identity_agent, settings.connect_timeout) if settings.use_agent else None
    try:
        return agent.keys() if agent is not None else []
    except AgentError as error:
        found.problems.append(f"the agent: {error}")
        return []


def _certificates(settings: SshSettings, found: Identities, files: list[KeyFile]) -> Iterator[tuple[str, Certificate]]:
    beside = [file.path.with_name(f"{file.path.name.removesuffix('.pub')}-cert.pub") for file in files]
    for path in dict.fromkeys([*(expanded(path) for path in settings.certificate_files), *beside]):
        try:
            certificate = _user_certificate(read_bounded(path, _LARGEST))
        except OSError as error:
            if not (isinstance(error, FileNotFoundError) and path in beside):
                found.problems.append(f"certificate {_short(path)}: {error.strerror}")
        except ValueError as error:
            found.problems.append(f"certificate {_short(path)}: {error}")
        else:
            yield _short(path), certificate


def _user_certificate(content: bytes) -> Certificate:
    words = content.decode("utf-8", "replace").split(maxsplit=2)
    data = decode_key(*words[:2]) if len(words) > 1 else None
    if data is None:
        raise ValueError("it is not a certificate of OpenSSH")
    certificate = parse_certificate(data)
    if certificate.of_host:
        raise ValueError("it is a certificate of a host, not of a user (it was signed with ssh-keygen -h)")
    return certificate


def _plain(key: AgentKey, publics: list[PublicKey | None]) -> PublicKey:
    """Return the plain key of an agent's key. Return a certificate unchanged if it is in `publics` or invalid."""
    if key.public in publics or key.public.type == plain_type(key.public.type):
        return key.public
    try:
        return parse_certificate(key.public.data).key
    except ValueError:
        return key.public


def _rank(key: AgentKey, publics: list[PublicKey | None]) -> tuple[int, bool]:
    plain = _plain(key, publics)
    return publics.index(plain) if plain in publics else len(publics), plain == key.public


def _short(path: Path) -> str:
    """Return a path with ~ for the home directory."""
    home = expanded(Path("~"))
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
