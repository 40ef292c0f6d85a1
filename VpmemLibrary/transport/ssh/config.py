"""Read the options for one host from OpenSSH's client configuration: ``~/.ssh/config`` and ``/etc/ssh/ssh_config``.

The format is ssh_config(5). This module follows the order and the rules of OpenSSH's ``readconf.c``. The tests compare
the results with ``ssh -G``. paramiko's reader is not used: it supports no ``Include``, no quoted lists of values, only
one certificate and few percent tokens, and its errors do not name the file and the line.
"""

from __future__ import annotations

import glob
import grp
import os
import pwd
import re
import socket
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from msgspec import Struct, field
from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.transport.ssh.address import SSH_PORT, checked_port
from VpmemLibrary.transport.ssh.patterns import matches_any
from VpmemLibrary.transport.ssh.tokens import Tokens, expand, expand_environment, home

USER_FILE = "~/.ssh/config"
SYSTEM_FILE = "/etc/ssh/ssh_config"

_DEPTH = 16  # nested Include files, same limit as OpenSSH
_MOST_FILES = 256
_LARGEST = 1 << 20
_VALID = "a file in the form of ssh_config(5)"

_SEVERAL = {"identityfile", "certificatefile"}
"""Options that may have several lines. For all other options, only the first line counts."""
_LISTS = {"userknownhostsfile", "globalknownhostsfile", "canonicaldomains"}
_SINGLE = {
    "hostname",
    "user",
    "port",
    "identitiesonly",
    "identityagent",
    "hostkeyalias",
    "revokedhostkeys",
    "connecttimeout",
    "stricthostkeychecking",
    "canonicalizehostname",
    "canonicalizemaxdots",
    "canonicalizefallbacklocal",
    "proxyusefdpass",
    "tag",
}
_WITHOUT_VALUE = {"all", "canonical", "final"}
_WITH_VALUE = {"host", "originalhost", "user", "localuser", "exec", "tagged"}
_OTHER = {"localnetwork", "version", "sessiontype", "command"}
"""Criteria of newer versions of OpenSSH. This module skips a block with such a criterion."""


class Line(Struct, frozen=True):
    """One line of a configuration file, with one option.

    Args:
        option: The option's name in lower case.
        values: The option's values. ProxyCommand has one value, the rest of the line.
        file: The path of the file.
        number: The line's number in the file.
    """

    option: str
    values: tuple[str, ...]
    file: str
    number: int

    @property
    def where(self) -> str:
        """The file and the line number, as messages show them."""
        return f"{self.file} line {self.number}"

    @property
    def value(self) -> str:
        """The first value."""
        return self.values[0]

    def wrong(self, valid: str) -> InvalidValueError:
        """Return the error for invalid values in this line. `valid` describes the valid values."""
        return InvalidValueError(f"{self.option} in {self.where}", " ".join(self.values), valid)


class HostOptions(Struct):
    """The options of one host."""

    lines: dict[str, list[Line]] = field(default_factory=dict)
    """The lines that count for each option. The key is the option's name in lower case."""
    skipped: list[str] = field(default_factory=list)
    """The lines that this module does not understand, for the log."""

    def first(self, option: str) -> Line | None:
        """Return the first line of an option, or None if no line has the option."""
        found = self.lines.get(option)
        return found[0] if found else None

    def add(self, line: Line) -> None:
        """Add a line, unless an earlier line excludes the new line.

        An earlier line of the same option excludes the new line. IdentityFile and CertificateFile may have several
        lines with different values. A ProxyCommand excludes a later ProxyJump. A ProxyJump other than ``none``
        excludes a later ProxyCommand.
        """
        if line.option == "proxyjump" and "proxycommand" in self.lines:
            return
        if line.option == "proxycommand" and (jump := self.first("proxyjump")) and jump.value.lower() != "none":
            return
        there = self.lines.setdefault(line.option, [])
        if not there or (line.option in _SEVERAL and all(line.values != other.values for other in there)):
            there.append(line)


class ConfigFiles(Struct, frozen=True):
    """Which configuration files to read. The default is the user's file and the system's file.

    Args:
        file: Read only this file.
        off: Read no file.

    Example: ``ConfigFiles.named("no")``.
    """

    file: Path | None = None
    off: bool = False

    @classmethod
    def named(cls, text: str) -> ConfigFiles:
        """Return the files for a setting.

        Args:
            text: ``no`` or ``none`` for no file, a path for one file, ``yes`` or an empty text for the default files.
        """
        word = text.strip().lower()
        if word in ("no", "none", "false", "off", "0"):
            return cls(off=True)
        if word in ("", "yes", "true", "on", "1"):
            return cls()
        return cls(Path(text.strip()))


DEFAULT_FILES = ConfigFiles()
"""The user's file and the system's file."""


class Query(Struct, frozen=True):
    """The host to look up in the files.

    Like ssh, this module reads the files a second time for ``Match final`` or a canonical name.

    Args:
        original: The host's name as the user gave it.
        host: The name to match with Host patterns: in the first reading `original`, in the second reading the name
            after HostName and canonicalization.
        run: Runs the command of ``Match exec`` and returns whether the command succeeded.
        final: Whether this is the second reading.
    """

    original: str
    host: str
    local_user: str
    run: Callable[[str], bool]
    default_user: str
    user: str | None = None
    port: int | None = None
    final: bool = False

    def tokens(self, options: HostOptions) -> Tokens:
        """Return the values of the percent tokens, e.g. ``%h``, from the options that were read so far.

        Raises:
            InvalidValueError: HostName or Port is wrong.
        """
        port, user = options.first("port"), options.first("user")
        jump, alias = options.first("proxyjump"), options.first("hostkeyalias")
        tokens = Tokens(
            hostname=self.host,
            original=self.original,
            port=self.port or (_port(port) if port else SSH_PORT),
            user=self.user or (user.value if user else self.default_user),
            local_user=self.local_user,
            key_name=alias.value.lower() if alias else "",
            jump=jump.value if jump and jump.value.lower() != "none" else "",
        )
        line = options.first("hostname")
        if line is None:
            return tokens
        name = expand(line.value, replace(tokens, hostname=self.original), f"hostname in {line.where}", allowed="h")
        return replace(tokens, hostname=name)


class Reader:
    """Reads the files once, for the host of `query`, and adds the options to `options`."""

    def __init__(self, options: HostOptions, query: Query) -> None:
        self.wants_final = False
        """Whether the files have a ``Match final``. Then they must be read a second time."""
        self._options = options
        self._query = query
        self._files = 0

    def read(self, files: ConfigFiles) -> None:
        """Read the configuration.

        Raises:
            InvalidValueError: A file cannot be read or has an invalid line.
        """
        if files.off:
            return
        if files.file is not None:
            self._read_file(home(str(files.file), "ssh_config"), system=False, private=False)
            return
        user = home(USER_FILE, "ssh_config")
        for file, system in ((user, False), (SYSTEM_FILE, True)):
            if os.path.exists(file) and (not system or os.access(file, os.R_OK)):  # noqa: PTH110  no OSError
                self._read_file(file, system=system, private=not system)

    def _read_file(self, file: str, *, system: bool, private: bool, active: bool = True, depth: int = 0) -> None:
        self._files += 1
        if depth > _DEPTH or self._files > _MOST_FILES:
            raise InvalidValueError("ssh_config", file, f"files that include at most {_DEPTH} levels of files")
        enabled = active
        for number, text in enumerate(_read_text(file, private=private).split("\n"), 1):
            line = _line(text, file, number)
            if line is None:
                continue
            if line.option == "host":
                enabled = active and matches_any(line.values, self._query.host)
            elif line.option == "match":
                enabled = self._match(line, active=active)
            elif line.option == "include":
                for included in _included(line, system=system):
                    if os.path.exists(included):  # noqa: PTH110  no OSError
                        self._read_file(included, system=system, private=not system, active=enabled, depth=depth + 1)
            elif enabled:
                self._options.add(line)

    def _match(self, line: Line, *, active: bool) -> bool:
        """Return whether a Match line applies to the host."""
        matched = active
        words = _criteria(line)
        for position, (criterion, negated, value) in enumerate(words):
            if criterion == "all":
                if position > 1 or position != len(words) - 1:
                    raise line.wrong("`all` alone, or `all` as the last of two criteria")
                return matched and not negated
            if criterion in _OTHER:
                self._options.skipped.append(f"Match {criterion} ({line.where})")
                matched = False
                continue
            if criterion == "final":
                self.wants_final = True
            # As in ssh, the command of `exec` runs only if all criteria before it matched.
            if matched and self._holds(criterion, value, line) == negated:
                matched = False
        return matched

    def _holds(self, criterion: str, value: str, line: Line) -> bool:
        if criterion in ("final", "canonical"):
            return self._query.final
        tokens = self._query.tokens(self._options)
        if criterion == "exec":
            return self._query.run(expand(value, tokens, f"Match exec in {line.where}"))
        tag = self._options.first("tag")
        names = {
            "host": tokens.hostname.lower(),
            "originalhost": tokens.original.lower(),
            "user": tokens.user,
            "localuser": tokens.local_user,
            "tagged": tag.value if tag else "",
        }
        patterns = value.lower() if criterion in ("host", "originalhost") else value
        return matches_any(patterns.split(","), names[criterion])


def _read_text(file: str, *, private: bool) -> str:
    try:
        found = Path(file).stat()
        if stat.S_ISREG(found.st_mode):
            if found.st_size > _LARGEST:
                raise InvalidValueError("ssh_config", file, f"a file of at most {_LARGEST >> 10} KiB")
        elif stat.S_ISDIR(found.st_mode) or os.path.realpath(file) == os.devnull:
            return ""  # as in ssh, a directory is an empty file, e.g. for `Include config.d/*`
        else:
            raise InvalidValueError("ssh_config", file, "a regular file")
        if private and found.st_uid not in (0, os.getuid()):
            valid = f"a file of your own or of root, not of user id {found.st_uid}; ssh refuses it as well: chown it"
            raise InvalidValueError("ssh_config", file, f"{valid}, or set ssh_config to a path or to no")
        if private and (found.st_mode & 0o002 or (found.st_mode & 0o020 and not _is_own_group(found.st_gid))):
            raise InvalidValueError(
                "ssh_config", file, f"a file that only you can change; ssh refuses it as well: chmod go-w {file}"
            )
        with Path(file).open("rb") as opened:
            data = opened.read(_LARGEST)
    except (OSError, ValueError) as error:
        if isinstance(error, InvalidValueError):
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidValueError("ssh_config", file, f"{_VALID} that can be read ({reason})") from error
    if data.startswith((b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")):
        raise InvalidValueError(
            "ssh_config", file, "a text in UTF-8 without a byte order mark, which ssh refuses as well"
        )
    return data.decode("utf-8", "surrogateescape")


def _is_own_group(group: int) -> bool:
    """Return whether this user is the only member of a group.

    As in Debian's ssh, such a group may have write access to a configuration file. Debian, Ubuntu and Fedora give each
    user such a group, and some of them set the umask 002.
    """
    try:
        supplementary = grp.getgrgid(group).gr_mem
    except KeyError:
        return False
    users = pwd.getpwall()
    members = {*supplementary, *(user.pw_name for user in users if user.pw_gid == group)}
    return bool(members) and members <= {user.pw_name for user in users if user.pw_uid == os.getuid()}


def _line(text: str, file: str, number: int) -> Line | None:
    """Parse a line. Return None for a comment and for an option that is not used here."""
    stripped = text.strip(" \t\r\f")
    if not stripped or stripped.startswith("#"):
        return None
    found = re.match(r'"([^"]*)"|[^ \t=]+', stripped)
    option = ((found[1] or found[0]) if found else stripped).lower()
    rest = re.sub(r"^[ \t]*=?[ \t]*", "", stripped[found.end() :] if found else "", count=1)
    if option not in _KNOWN:
        visible = re.sub(r"[^!-~]+", " ", stripped).split()
        if not option.isascii() and visible and visible[0].lower() in _KNOWN:
            valid = "blanks and tabs between the words; it has other characters, e.g. a no-break space of a web page"
            raise InvalidValueError(f"{file} line {number}", stripped, valid)
        return None
    where = f"{option} in {file} line {number}"
    if "\0" in rest:
        raise InvalidValueError(where, rest, "a line without NUL characters")
    if option == "proxycommand":
        values: tuple[str, ...] = (rest,) if rest else ()
    elif option == "proxyjump":
        values = tuple(rest.split()[:1])  # as ssh does
    else:
        values = tuple(_words(rest, where))
    if not values or not (values[0] or option == "match"):
        raise InvalidValueError(where, "", "a value: ssh refuses a line without one")
    if len(values) > 1 and option in _SINGLE | _SEVERAL:
        raise InvalidValueError(where, rest, "one value; put a value with spaces in double quotes")
    return Line(option, values, file, number)


_KNOWN = {"proxycommand", "proxyjump"} | _SEVERAL | _LISTS | _SINGLE | {"host", "match", "include"}


def _words(text: str, where: str) -> Iterator[str]:
    """Split a line into words as OpenSSH does, with quotes, backslashes, and a comment at the end of the line."""
    position = 0
    while position < len(text):
        if text[position] in " \t":
            position += 1
            continue
        if text[position] == "#":
            return
        word, quote = [], ""
        while position < len(text):
            character, after = text[position], text[position + 1 : position + 2]
            if character == "\\" and after and (after in "'\"\\" or (not quote and after == " ")):
                word.append(after)
                position += 1
            elif not quote and character in " \t":
                break
            elif not quote and character in "'\"":
                quote = character
            elif character == quote:
                quote = ""
            else:
                word.append(character)
            position += 1
        if quote:
            raise InvalidValueError(where, text, "quotes that are closed")
        yield "".join(word)


def _port(line: Line) -> int:
    with suppress(OSError, UnicodeError):
        return socket.getservbyname(line.value, "tcp")
    return checked_port(line.value, f"port in {line.where}")


def _criteria(line: Line) -> list[tuple[str, bool, str]]:
    """Return the criteria of a Match line: the criterion, whether it is negated, and its value."""
    criteria: list[tuple[str, bool, str]] = []
    words = list(line.values)
    while words:
        word, equals, value = words.pop(0).partition("=")
        name = word.removeprefix("!").lower()
        if name not in _WITHOUT_VALUE:
            if name not in _WITH_VALUE | _OTHER:
                known = ", ".join(sorted(_WITHOUT_VALUE | _WITH_VALUE | _OTHER))
                raise line.wrong(f"criteria that ssh knows ({known}), not {word!r}")
            if not equals:
                if not words:
                    raise line.wrong(f"a value after {name!r}")
                value = words.pop(0)
        criteria.append((name, word.startswith("!"), value))
    return criteria


def _included(line: Line, *, system: bool) -> Iterator[str]:
    base = Path(SYSTEM_FILE if system else home(USER_FILE, "ssh_config")).parent
    where = f"include in {line.where}"
    for value in line.values:
        path = expand_environment(value, where)
        if path.startswith("~") and not system:
            path = home(path, where)
        yield from sorted(glob.glob(str(base / path)))  # noqa: PTH207  Path.glob takes no absolute pattern
