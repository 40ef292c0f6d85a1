"""A host's address as users write it: a name, an IP address, ``user@host:port`` or ``ssh://user@host:port``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import unquote

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError

SSH_PORT = 22

_VALID = "a host's name or IP address, e.g. 192.0.2.13, qa@rack1:2222, [2001:db8::13]:2222 or ssh://qa@rack1:2222"
_HIDDEN = "***"

_Refuse = Callable[[str], InvalidValueError]
"""Returns the error for an invalid address. The argument says what would be valid."""

# OpenSSH refuses these characters in the name of a host or user, because a ProxyCommand would pass them to a shell.
_UNSAFE_NAME = r"[\s'`\"$\\;&<>|(){}]"
_UNSAFE_USER = r"[\s'`\";&<>|(){}]|\\$"
_SCOPE = r"[A-Za-z0-9_.@-]{1,15}"  # the name of a network interface, which may reach a shell
_AMBIGUOUS = "ßς\u200c\u200d"
"""The two standards of international names encode these characters differently."""


class Address(Struct, frozen=True):
    """The address of a host.

    Args:
        host: The host's name or IP address alone. An international name is in its ASCII form.
        user: The user in the text; None if the text has no user.
        port: The port in the text; None if the text has no port.
    """

    host: str
    user: str | None = None
    port: int | None = None


def parse_address(text: str, what: str = "address") -> Address:
    """Parse an address.

    Args:
        text: The address: ``host``, ``user@host``, ``host:port``, ``[IPv6]:port``, an IPv6 literal with or without a
            scope such as ``fe80::1%eth0``, or ``ssh://user@host:port``.
        what: The name of the argument or setting, for messages.

    Raises:
        InvalidValueError: The text has none of these forms.

    Example: ``parse_address("qa@rack1:2222").port`` is 2222.
    """
    rest = text.strip()
    shown = _without_password(rest)

    def refuse(valid: str) -> InvalidValueError:
        return InvalidValueError(what, shown, valid)

    is_uri = "://" in rest
    if is_uri:
        scheme, _, rest = rest.partition("://")
        if scheme.lower() != "ssh":
            raise refuse(f"{_VALID}; of URIs only ssh:// is supported")
        rest, slash, path = rest.partition("/")
        if path:
            raise refuse(f"an ssh:// URI without the path {slash + path!r}")
    user, at, rest = rest.rpartition("@")
    if at:
        name, colon, _ = user.partition(":")
        if colon:
            raise refuse("no password in the address: set password, or host_password_env in a hosts file")
        user = unquote(name) if is_uri else name
        if not user:
            raise refuse("a user's name before the @, e.g. qa@rack1")
        check_user(user, what)
    host, port = _host_and_port(rest, refuse)
    if is_uri:
        host = unquote(host)
    return Address(_checked_host(host, refuse), user if at else None, port)


def check_user(user: str, what: str = "user") -> None:
    """Raise unless a text is a possible name of a user and is safe in a ProxyCommand.

    Raises:
        InvalidValueError: The text is empty, begins with ``-``, or has white space or a character of the shell.
    """
    if not user or user.startswith("-") or not user.isprintable() or re.search(_UNSAFE_USER, user):
        raise InvalidValueError(what, user, "the name of the user who logs in, e.g. root, and nothing after the name")


def checked_port(text: str, what: str) -> int:
    """Parse a port.

    Raises:
        InvalidValueError: The text is not a whole number from 1 to 65535.
    """
    if text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) < 65536:
        return int(text)
    raise InvalidValueError(what, text, "a port number, 1 to 65535")


def is_ipv6(host: str) -> bool:
    """Return whether a text is an IPv6 address, with or without a scope."""
    address, percent, scope = host.partition("%")
    if percent and not re.fullmatch(_SCOPE, scope):
        return False
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return True


def host_and_port(host: str, port: int) -> str:
    """Return a host as messages show it: its address, with the port unless the port is 22."""
    if port == SSH_PORT:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host_and_port(text: str, refuse: _Refuse) -> tuple[str, int | None]:
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or not host or (after and not after.startswith(":")):
            raise refuse("an IPv6 address in brackets, then the port: [2001:db8::13]:2222")
        return host, _port(after[1:], refuse) if after else None
    if text.count(":") > 1:
        if not is_ipv6(text):
            raise refuse(f"{_VALID}; an IPv6 address with a port stands in brackets")
        return text, None
    host, colon, port = text.partition(":")
    return host, _port(port, refuse) if colon else None


def _port(text: str, refuse: _Refuse) -> int:
    try:
        return checked_port(text, "port")
    except InvalidValueError:
        raise refuse("a port number, 1 to 65535, after the host and its colon, e.g. rack1:2222") from None


def _checked_host(host: str, refuse: _Refuse) -> str:
    if ":" in host:
        if not is_ipv6(host):
            raise refuse(f"{_VALID}; this is not an IPv6 address")
        return host
    if not host or host.startswith("-") or not host.isprintable() or re.search(_UNSAFE_NAME, host):
        raise refuse(_VALID)
    if "[" in host or "]" in host:
        raise refuse("an IPv6 address in brackets, then the port: [2001:db8::13]:2222")
    _refuse_wrong_ipv4(host, refuse)
    return host if host.isascii() else _ascii(host, refuse)


def _refuse_wrong_ipv4(host: str, refuse: _Refuse) -> None:
    address, slash, length = host.partition("/")
    numbers = address.split(".")
    if len(numbers) != 4 or not all(number.isascii() and number.isdigit() for number in numbers):
        return
    if slash and length.isdigit():
        raise refuse("the address of one host, not a network")
    try:
        ipaddress.IPv4Address(address)
    except ValueError:
        raise refuse("an IPv4 address of four numbers from 0 to 255 without leading zeros, e.g. 192.0.2.13") from None


def _ascii(host: str, refuse: _Refuse) -> str:
    if any(character in host for character in _AMBIGUOUS):
        raise refuse("the ASCII form of the name (xn--...): programs encode this name in two ways")
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        raise refuse("a host's name; this one has no ASCII form (xn--...)") from None


def _without_password(text: str) -> str:
    before, at, host = text.rpartition("@")
    scheme, separator, login = before.rpartition("://")
    user, colon, _ = login.partition(":")
    return f"{scheme}{separator}{user}:{_HIDDEN}@{host}" if at and colon else text
