"""Combine the values that a user gives with the user's SSH configuration into the settings for a host."""

from __future__ import annotations

import os
import pwd
import re
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError, UnreachableError
from VpmemLibrary.record import hide_fields
from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.deadline import call_with_deadline
from VpmemLibrary.transport.ssh.address import check_user, is_ipv6, parse_address
from VpmemLibrary.transport.ssh.config import DEFAULT_FILES, ConfigFiles, HostOptions, Line, Query, Reader
from VpmemLibrary.transport.ssh.settings import NO_IDENTITY, HostKeyPolicy, SshSettings
from VpmemLibrary.transport.ssh.tokens import Tokens, expand, home

DEFAULT_USER = "root"
CONNECT_TIMEOUT = 15.0
"""Default timeout of each step of connecting, in seconds."""

_MOST_JUMPS = 16
_EXEC_SECONDS = 15.0
_GLOBAL_KNOWN_HOSTS = ("/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2")
_USER_KNOWN_HOSTS = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2")
_YES = ("yes", "true")
_NO = ("no", "false")
_POLICIES = {
    "yes": HostKeyPolicy.strict,
    "true": HostKeyPolicy.strict,
    "ask": HostKeyPolicy.strict,  # there is no user to ask
    "accept-new": HostKeyPolicy.accept_new,
    # With these values, ssh would also accept a changed key. This library never does.
    "no": HostKeyPolicy.accept_new,
    "off": HostKeyPolicy.accept_new,
    "false": HostKeyPolicy.accept_new,
}
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@hide_fields("password", "key_passphrase")
class SshRequest(Struct, frozen=True):
    """The values that a user gives to reach a host; see `SshSettings`. Other values come from the configuration.

    Args:
        address: An address for `parse_address`, or an alias in the configuration.
        config: The configuration files to read.

    Example: ``resolve(SshRequest("rack1", user="qa"))``.
    """

    address: str
    port: int | None = None
    user: str | None = None
    password: str | None = None
    key_file: Path | None = None
    key_passphrase: str | None = None
    known_hosts: Path | None = None
    host_key: HostKeyPolicy | None = None
    sudo: bool = False
    connect_timeout: float | None = None
    config: ConfigFiles = DEFAULT_FILES


def resolve(request: SshRequest) -> SshSettings:
    """Return the settings for a host. As with options of ``ssh``, given values override the configuration.

    Raises:
        InvalidValueError: A value or a line of the configuration is invalid, or the jump hosts form a loop.
        UnreachableError: CanonicalizeHostname is set, and the name was not found.
    """
    target = _Target.of(request.address, request.user, request.port)
    found = _look_up(target, request.config, DEFAULT_USER)
    settings = _settings(found, request)
    route = () if request.config.off else _route(found, request)
    seen: set[tuple[str, int, str]] = set()
    for each in (*route, settings):
        key = (each.address, each.port, each.user)
        if key in seen:
            line = found.options.first("proxyjump")
            raise InvalidValueError(
                f"proxyjump in {line.where}" if line else "proxyjump",
                each.label,
                f"jump hosts that form no loop; the route is {', '.join(hop.label for hop in (*route, settings))}",
            )
        seen.add(key)
    return replace(settings, jumps=route, configured=_described(found, request))


class _Target(Struct, frozen=True):
    """The name, user and port of a host, as the user of this library gave them."""

    host: str
    user: str | None
    port: int | None

    @classmethod
    def of(cls, text: str, user: str | None, port: int | None, what: str = "address") -> _Target:
        address = parse_address(text, what)
        for name, given, inside in (("user", user, address.user), ("port", port, address.port)):
            if given is not None and inside is not None and given != inside:
                raise InvalidValueError(
                    name, given, f"one {name} only: the address {text.strip()!r} already has {inside!r}"
                )
        user = address.user if user is None else user
        port = address.port if port is None else port
        if user is not None:
            check_user(user)
        if port is not None and not 0 < port < 65536:
            raise InvalidValueError("port", port, "1 to 65535")
        return cls(address.host, user, port)


class _Found(Struct, frozen=True):
    """The configuration of a target."""

    target: _Target
    options: HostOptions
    tokens: Tokens

    def path(self, line: Line) -> str:
        """Return the path in an option. Replace ``~``, tokens and environment variables."""
        return self.expanded(line.value, line)

    def expanded(self, value: str, line: Line) -> str:
        where = f"{line.option} in {line.where}"
        return expand(home(value, where), self.tokens, where, environment=True)

    def flag(self, option: str) -> bool:
        """Return whether an option is set to yes."""
        line = self.options.first(option)
        if line is None or line.value.lower() in _NO:
            return False
        if line.value.lower() not in _YES:
            raise line.wrong("yes or no")
        return True


def _look_up(target: _Target, files: ConfigFiles, default_user: str) -> _Found:
    options = HostOptions()
    query = Query(target.host, target.host, _local_user(), _succeeds, default_user, user=target.user, port=target.port)
    reader = Reader(options, query)
    reader.read(files)
    tokens = query.tokens(options)
    wanted, name = _canonical(tokens.hostname.lower(), options)
    if wanted or reader.wants_final:
        origin = options.first("hostname")
        place = (origin.file, origin.number) if origin else ("", 0)
        options.lines["hostname"] = [Line("hostname", (name.replace("%", "%%"),), *place)]
        query = replace(query, host=name, final=True)
        Reader(options, query).read(files)
        tokens = query.tokens(options)
    return _Found(target, options, tokens)


def _settings(found: _Found, request: SshRequest) -> SshSettings:
    options, tokens = found.options, found.tokens
    line = options.first("hostname")
    what = f"hostname in {line.where}" if line and line.file else "address"
    parsed = parse_address(tokens.hostname, what)
    if parsed.user is not None or parsed.port is not None:
        valid = "a host's name or IP address alone: User and Port are options of their own"
        raise InvalidValueError(what, tokens.hostname, valid)
    address = parsed.host
    user = options.first("user")
    if user is not None and found.target.user is None:
        check_user(tokens.user, f"user in {user.where}")
    use_agent, agent = _agent(found)
    known_hosts, more = _known_hosts(found, request)
    revoked = options.first("revokedhostkeys")
    return SshSettings(
        address=_canonical_address(address if is_ipv6(address) else address.lower()),
        port=tokens.port,
        user=tokens.user,
        password=request.password,
        key_file=_absolute(request.key_file, "key_file"),
        key_passphrase=request.key_passphrase,
        known_hosts=_absolute(request.known_hosts, "known_hosts"),
        host_key=_policy(found, request),
        host_key_name=tokens.key_name,
        use_agent=use_agent,
        identity_agent=agent,
        identity_files=tuple(_identities(found, "identityfile")),
        certificate_files=tuple(_identities(found, "certificatefile")),
        identities_only=found.flag("identitiesonly"),
        user_known_hosts=known_hosts,
        more_known_hosts=more,
        revoked_host_keys=Path(found.path(revoked)) if revoked and revoked.value.lower() != "none" else None,
        proxy_command=_proxy_command(found),
        sudo=request.sudo,
        connect_timeout=_connect_timeout(found) if request.connect_timeout is None else request.connect_timeout,
    )


def _route(found: _Found, request: SshRequest, depth: int = 0) -> tuple[SshSettings, ...]:
    """Return the jump hosts of a host, in order from this machine. Look up each jump host in the configuration."""
    line = found.options.first("proxyjump")
    if line is None or line.value.lower() == "none":
        return ()
    what = f"proxyjump in {line.where}"
    texts = [text.strip() for text in line.value.strip().strip('"').split(",")]
    if depth + len(texts) > _MOST_JUMPS:
        valid = f"at most {_MOST_JUMPS} jump hosts. If they form a loop, put first a block for the jump host with "
        raise InvalidValueError(what, line.value, valid + "`ProxyJump none`")
    hops: list[SshSettings] = []
    for position, text in enumerate(texts):
        expanded = expand(text, found.tokens, what, allowed="hnpr")
        hop = _look_up(_Target.of(expanded, None, None, what), request.config, _local_user())
        settings = _settings(hop, SshRequest(text, connect_timeout=request.connect_timeout, config=request.config))
        if position == 0:
            hops.extend(_route(hop, request, depth + len(texts)))
        else:  # the previous jump host connects to this jump host, without this one's ProxyJump and ProxyCommand
            settings = replace(settings, proxy_command="")
        hops.append(settings)
    return tuple(hops)


def _identities(found: _Found, option: str) -> list[Path]:
    lines = found.options.lines.get(option, [])
    if option == "identityfile" and lines and all(line.value.lower() == "none" for line in lines):
        return [NO_IDENTITY]
    return [Path(found.path(line)) for line in lines if line.value.lower() != "none"]


def _agent(found: _Found) -> tuple[bool, str]:
    """Return whether an agent is used, and the agent's socket. An empty text means ``SSH_AUTH_SOCK``."""
    line = found.options.first("identityagent")
    if line is None or line.value == "SSH_AUTH_SOCK":
        return True, ""
    if line.value.lower() == "none":
        return False, ""
    if line.value.startswith("$") and not line.value.startswith("${"):
        name = line.value[1:]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise line.wrong("the path of a socket, `none`, or the name of an environment variable such as $AGENT")
        socket_path = os.environ.get(name, "")
        return bool(socket_path), socket_path
    return True, found.path(line)


def _known_hosts(found: _Found, request: SshRequest) -> tuple[Path | None, tuple[Path, ...]]:
    """Return the user's file, and the other files that may have the host's key."""
    if request.known_hosts is not None or request.config.off:
        return None, ()
    line = found.options.first("userknownhostsfile")
    if line is None:
        user = [home(path, "known_hosts") for path in _USER_KNOWN_HOSTS]
    else:
        user = [found.expanded(value, line) for value in line.values if value.lower() != "none"]
    line = found.options.first("globalknownhostsfile")
    system = list(_GLOBAL_KNOWN_HOSTS) if line is None else [value for value in line.values if value.lower() != "none"]
    first, *more = [*(user or [os.devnull]), *system]
    return Path(first), tuple(Path(path) for path in more or [os.devnull])  # os.devnull: do not read the default files


def _policy(found: _Found, request: SshRequest) -> HostKeyPolicy:
    line = found.options.first("stricthostkeychecking")
    if line is not None and line.value.lower() not in _POLICIES:
        raise line.wrong("one of yes, no, ask, accept-new, off")
    if request.host_key is not None:
        return request.host_key
    return HostKeyPolicy.strict if line is None else _POLICIES[line.value.lower()]


def _connect_timeout(found: _Found) -> float:
    line = found.options.first("connecttimeout")
    if line is None or line.value.lower() == "none":
        return CONNECT_TIMEOUT
    text = line.value.lower()
    if not re.fullmatch(r"([0-9]{1,9}[smhdw]?)+", text, re.ASCII) or len(text) > 40:
        raise line.wrong("a time, e.g. 10, 30s or 1m")
    seconds = sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"([0-9]+)([smhdw]?)", text))
    return min(float(seconds), 86400.0) or CONNECT_TIMEOUT


def _proxy_command(found: _Found) -> str:
    line = found.options.first("proxycommand")
    if line is None or line.value.lower() == "none":
        return ""
    passing = found.options.first("proxyusefdpass")
    if passing is not None and found.flag("proxyusefdpass"):
        raise passing.wrong(
            "no: a ProxyCommand must carry the bytes itself. Give such a host by name, or use ProxyJump"
        )
    return expand(line.value, found.tokens, f"proxycommand in {line.where}", allowed="hnpr")


def _canonical(name: str, options: HostOptions) -> tuple[bool, str]:
    """Return whether CanonicalizeHostname is set, and the host's full name in the first domain that has the name."""
    line = options.first("canonicalizehostname")
    setting = line.value.lower() if line else "no"
    if line is None or setting in (*_NO, "none"):
        return False, name
    if setting not in (*_YES, "always"):
        raise line.wrong("yes, no or always")
    proxy = options.first("proxyjump") or options.first("proxycommand")
    if proxy is not None and proxy.value.lower() != "none" and setting != "always":
        return True, name
    dots = options.first("canonicalizemaxdots")
    if dots is not None and not re.fullmatch(r"[0-9]{1,4}", dots.value, re.ASCII):
        raise dots.wrong("a number of dots, e.g. 1")
    domains = options.first("canonicaldomains")
    if name.count(".") > (int(dots.value) if dots else 1) or ":" in name or _is_ipv4(name):
        return True, name
    for domain in domains.values if domains else ():
        if _exists(f"{name}.{domain.lower()}"):
            return True, f"{name}.{domain.lower()}"
    fallback = options.first("canonicalizefallbacklocal")
    if fallback is not None and fallback.value.lower() in _NO:
        raise UnreachableError(
            f"Host {name} cannot be found in any of the CanonicalDomains, and {fallback.where} forbids the "
            "unchanged name. Check the name, or give the IP address."
        )
    return True, name


def _canonical_address(host: str) -> str:
    """Return an IP address in the form that ssh writes to known_hosts. Return a name unchanged."""
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        canonical, _ = socket.getnameinfo(found[0][4], socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    except (OSError, UnicodeError, ValueError):
        return host
    return host if canonical.lower() == host.lower() else canonical


def _is_ipv4(name: str) -> bool:
    with suppress(OSError):
        socket.inet_aton(name)
        return True
    return False


def _exists(name: str) -> bool:
    try:
        return bool(call_with_deadline(CONNECT_TIMEOUT, lambda: socket.getaddrinfo(name, None)))
    except (OSError, UnicodeError):
        return False


def _succeeds(command: str) -> bool:
    """Return whether the command of a ``Match exec`` exits with 0. As in ssh, the user's shell runs the command."""
    shell = os.environ.get("SHELL") or "/bin/sh"
    try:
        null = subprocess.DEVNULL
        process = subprocess.Popen([shell, "-c", command], stdin=null, stdout=null, stderr=null, start_new_session=True)
    except (OSError, ValueError) as error:
        if short := shortage("run the command of a Match exec", error):
            raise short from error
        raise InvalidValueError("Match exec", command, f"a command that {shell} can run ({error})") from error
    try:
        return process.wait(_EXEC_SECONDS) == 0
    except subprocess.TimeoutExpired:
        raise InvalidValueError("Match exec", command, f"a command that ends within {_EXEC_SECONDS:g} s") from None
    finally:
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _local_user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # in a container, the user may have no name
        return os.environ.get("USER") or str(os.getuid())


def _absolute(path: Path | None, what: str) -> Path | None:
    return None if path is None else Path(home(str(path), what))


_SHOWN = {
    name.lower(): name
    for name in (
        *("HostName", "User", "Port", "IdentityFile", "CertificateFile", "IdentitiesOnly", "IdentityAgent"),
        *("ProxyJump", "ProxyCommand", "HostKeyAlias", "UserKnownHostsFile", "GlobalKnownHostsFile"),
        *("RevokedHostKeys", "StrictHostKeyChecking", "ConnectTimeout"),
    )
}


def _described(found: _Found, request: SshRequest) -> str:
    """Return a one-line summary of the values from the configuration; empty if it has no values."""
    given = {
        "user": found.target.user,
        "port": found.target.port,
        "stricthostkeychecking": request.host_key,
        "connecttimeout": request.connect_timeout,
        "userknownhostsfile": request.known_hosts,
        "globalknownhostsfile": request.known_hosts,
    }
    parts: list[str] = []
    for option, name in _SHOWN.items():
        for line in found.options.lines.get(option, []):
            if given.get(option) is not None or not line.file:
                continue
            # Show only the program of a ProxyCommand, because its arguments may contain a password.
            value = line.value.split()[0] + " ..." if option == "proxycommand" else " ".join(line.values)
            parts.append(f"{name} {value} ({line.where})")
    skipped = [f"not understood and skipped: {each}" for each in dict.fromkeys(found.options.skipped)]
    if not parts and not skipped:
        return ""
    return f"SSH configuration of {found.target.host}: " + ", ".join(parts + skipped)
