"""The kinds of values that a field of a hosts file may have, and the declaration of a field.

`hosts_entry.HostEntry` declares each field once. Parsing, writing, messages and docs/hosts-file.md use it.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import fields, replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.control import HIDDEN, passed_on
from VpmemLibrary.host.libvirt_daemon import Daemon
from VpmemLibrary.transport.ssh.address import check_user, checked_port
from VpmemLibrary.transport.ssh.config import ConfigFiles
from VpmemLibrary.transport.ssh.tokens import home

Parse = Callable[[str, str], Any]
"""Parses the text of a field. The second argument is the field and its section, for messages."""


class Kind(Struct, frozen=True):
    """A kind of value.

    Args:
        name: The name of the kind in the documentation, e.g. ``a path``.
        parse: Turns the text of a field into its value.
        write: Turns a value into the text of a field.
        words: Whether the value is a list of words. Such a value may have several lines and quotes.
        secret: Whether the value may contain a password, also by mistake. Then no message shows the value.
    """

    name: str
    parse: Parse
    write: Callable[[Any], str] = str
    words: bool = False
    secret: bool = False


class Declaration(Struct, frozen=True):
    """The declaration of one field of a hosts file.

    Args:
        name: The name of the field in the file.
        kind: The kind of the value.
        meaning: What the value sets, in Markdown.
        absent: What applies without the field, in Markdown.
        example: A valid value.
        default: The value of the attribute without the field.
        attribute: The attribute of `HostEntry` that has the value.
    """

    name: str
    kind: Kind
    meaning: str
    absent: str
    example: str
    default: Any = None
    attribute: str = ""

    def __call__(self) -> Any:
        """Return the value of the attribute without the field: a new one for each entry."""
        return self.default.copy() if isinstance(self.default, dict) else self.default


def declared(default: Any, name: str, kind: Kind, meaning: str, *, example: str, absent: str = "") -> Any:
    """Declare a field of a hosts file, as a field of a record. See `Declaration`.

    Args:
        default: The value without the field.
        name: The name of the field in the file.
        kind: The kind of the value.
        meaning: What the value sets, in Markdown.
        example: A valid value.
        absent: What applies without the field, in Markdown. The default is the text of `default`.
    """
    # The declaration makes the default value, so the record's field leads to the declaration.
    return field(
        default_factory=Declaration(name, kind, meaning, absent or f"`{kind.write(default)}`", example, default)
    )


def declarations(entry: type[Struct]) -> dict[str, Declaration]:
    """Return the declarations of a record in its order. The keys are the names of the fields in the file."""
    return {
        each.default_factory.name: replace(each.default_factory, attribute=each.name)
        for each in fields(entry)
        if isinstance(each.default_factory, Declaration)
    }


def one_of(*choices: str) -> Kind:
    """Return the kind of a value that must be one of these words."""

    def parse(value: str, what: str) -> str:
        if value not in choices:
            raise InvalidValueError(what, value, "one of " + ", ".join(choices))
        return value

    return Kind(" or ".join(f"`{choice}`" for choice in choices), parse)


def _text(value: str, _: str) -> str:
    return value


def _path(value: str, what: str) -> Path:
    return Path(home(value, what))


def _user(value: str, what: str) -> str:
    check_user(value, what)
    return value


def _ssh_config(value: str, what: str) -> str:
    return value if ConfigFiles.named(value).file is None else home(value, what)


def _libvirt_uri(value: str, what: str) -> str:
    return Daemon.of(value, what).uri


def _yes_or_no(value: str, what: str) -> bool:
    from configparser import ConfigParser  # noqa: PLC0415  only a hosts file needs it

    states = ConfigParser.BOOLEAN_STATES
    if value.lower() not in states:
        raise InvalidValueError(what, value, "yes or no")
    return states[value.lower()]


def _write_yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _command(value: str, what: str, *, shown: bool = True) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(value))
    except ValueError as error:
        valid = f"a program and its arguments, quoted as in a shell ({error})"
        raise InvalidValueError(what, value if shown else HIDDEN, valid) from None


def _secret_command(value: str, what: str) -> tuple[str, ...]:
    return _command(value, what, shown=False)


def _tags(value: str, _: str) -> tuple[str, ...]:
    return tuple(tag.strip() for tag in value.split(","))  # as pabot reads them


def _write_tags(value: Sequence[str]) -> str:
    return ", ".join(value)


def _variables(value: str, what: str) -> dict[str, str]:
    return passed_on(what, value.replace(",", " ").split())


def _write_variables(value: Mapping[str, str]) -> str:
    return ", ".join(name if name == source else f"{name}={source}" for name, source in value.items())


TEXT = Kind("text", _text)
PATH = Kind("a path", _path)
HOST_PATH = Kind("a path on the host", _text)
USER = Kind("a user", _user)
PORT = Kind("a port", checked_port)
YES_NO = Kind("`yes` or `no`", _yes_or_no, _write_yes_or_no)
LIBVIRT_URI = Kind("a libvirt URI", _libvirt_uri)
SSH_CONFIG = Kind("`no`, or a path", _ssh_config)
VARIABLE = Kind("the name of an environment variable", _text, secret=True)
TAGS = Kind("words, separated by commas", _tags, _write_tags, words=True)
KERNEL_COMMAND_LINE = Kind("a kernel command line", _text, words=True)
COMMAND = Kind("a command", _command, shlex.join, words=True)
SECRET_COMMAND = Kind("a command", _secret_command, shlex.join, words=True, secret=True)
VARIABLES = Kind("names of environment variables", _variables, _write_variables, words=True, secret=True)
