"""The percent tokens and environment variables in the values of an SSH configuration: ssh_config(5), "TOKENS"."""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.errors import InvalidValueError


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the tokens stand for.

    Args:
        hostname: ``%h``: the host's name after HostName.
        original: ``%n``: the host's name as it was given.
        port: ``%p``: the port.
        user: ``%r``: the user who logs in.
        local_user: ``%u``: the user of this process.
        key_name: ``%k``: the HostKeyAlias, or the name as it was given.
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
    """Return a value with its tokens replaced.

    Args:
        text: The value.
        tokens: What they stand for.
        where: The option and its line, for messages.
        allowed: The letters of the tokens that the option takes, beside ``%%``.
        environment: Whether ``${NAME}`` stands for an environment variable.

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
    """Return a value with each ``${NAME}`` replaced by the environment variable of that name.

    Args:
        text: The value.
        where: The option and its line, for messages.
        escape: What is done to the variable's value.

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
    """Return a path with its ``~`` or ``~user`` replaced.

    Raises:
        InvalidValueError: There is no such user.
    """
    try:
        return str(Path(path).expanduser())
    except RuntimeError:
        raise InvalidValueError(where, path, "a path below the home directory of a user who exists") from None


def _connection(tokens: Tokens) -> str:
    parts = (socket.gethostname(), tokens.hostname, str(tokens.port), tokens.user, tokens.jump)
    return hashlib.sha1("".join(parts).encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()


_MEANINGS: dict[str, Callable[[Tokens], str]] = {
    "C": _connection,
    "L": lambda _: socket.gethostname().partition(".")[0],
    "d": lambda _: str(Path("~").expanduser()),
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
