"""Percent tokens and environment variables in the values of an SSH configuration: ssh_config(5), "TOKENS"."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError


class Tokens(Struct, frozen=True):
    """The values of the tokens.

    Args:
        hostname: ``%h``: the host's name after HostName.
        original: ``%n``: the host's name as the user gave it.
        port: ``%p``: the port.
        user: ``%r``: the user for the log-in.
        local_user: ``%u``: the user of this process.
        key_name: ``%k``: the HostKeyAlias, or the name as the user gave it.
        jump: ``%j``: the ProxyJump.
    """

    hostname: str
    original: str
    port: int
    user: str
    local_user: str
    key_name: str = ""
    jump: str = ""


def expand(text: str, tokens: Tokens, where: str, *, allowed: str = "CLdhijklnpru", environment: bool = False) -> str:
    """Replace the tokens in a value.

    Args:
        text: The value.
        tokens: The values of the tokens.
        where: The option and its line, for messages.
        allowed: The letters of the tokens that the option allows, besides ``%%``.
        environment: Also replace ``${NAME}`` by the environment variable of that name.

    Raises:
        InvalidValueError: A token is unknown, or a variable is not set.
    """

    def replaced(found: re.Match[str]) -> str:
        letter = found[1]
        if letter == "%":
            return "%"
        if not letter or letter not in allowed:
            known = ", ".join(f"%{each}" for each in f"%{allowed}")
            raise InvalidValueError(where, text, f"only the tokens {known}, not {found[0]}")
        return _MEANINGS[letter](tokens)

    before = expand_environment(text, where, escape=lambda value: value.replace("%", "%%")) if environment else text
    return re.sub(r"%(.?)", replaced, before, flags=re.DOTALL)


def expand_environment(text: str, where: str, *, escape: Callable[[str], str] = str) -> str:
    """Replace each ``${NAME}`` in a value by the environment variable of that name.

    Raises:
        InvalidValueError: A variable is not set.
    """

    def replaced(found: re.Match[str]) -> str:
        value = os.environ.get(found[1])
        if value is None:
            raise InvalidValueError(where, text, f"an environment variable that is set; {found[1]!r} is not")
        return escape(value)

    return re.sub(r"\$\{([^}]*)\}", replaced, text)


def home(path: str, where: str) -> str:
    """Replace ``~`` or ``~user`` in a path.

    Raises:
        InvalidValueError: The user does not exist.
    """
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        valid = "a path below the home directory of a user who exists"
        if path.startswith("~/") or path == "~":
            valid += "; the user of this process has no home directory: set HOME"
        raise InvalidValueError(where, path, valid) from None


def _connection(tokens: Tokens) -> str:
    parts = (socket.gethostname(), tokens.hostname, str(tokens.port), tokens.user, tokens.jump)
    return hashlib.sha1("".join(parts).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


_MEANINGS: dict[str, Callable[[Tokens], str]] = {
    "C": _connection,
    "L": lambda _: socket.gethostname().partition(".")[0],
    "d": lambda _: home("~", "%d"),
    "h": lambda tokens: tokens.hostname,
    "i": lambda _: str(os.getuid()),
    "j": lambda tokens: tokens.jump,
    "k": lambda tokens: tokens.key_name or tokens.original,
    "l": lambda _: socket.gethostname(),
    "n": lambda tokens: tokens.original,
    "p": lambda tokens: str(tokens.port),
    "r": lambda tokens: tokens.user,
    "u": lambda tokens: tokens.local_user,
}
