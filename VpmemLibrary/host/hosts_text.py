"""The form of a hosts file. Refuse texts that this library and pabot would read differently.

pabot reads the file with Python's ``configparser``, in UTF-8, with interpolation. This module refuses text that pabot
cannot read, and text that pabot would misread: a comment after a value, or quotes around a value.
"""

from __future__ import annotations

import codecs
import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.host.control import HIDDEN

if TYPE_CHECKING:
    import configparser

LARGEST = 1 << 20
"""The largest size of a hosts file in bytes."""

_QUOTED = re.compile(r"""\\.|'[^']*'|"(?:\\.|[^"\\])*\"""", re.DOTALL)
_COMMENT = r"(?:^|\s)[#;]"
_HEADER = r"\[[^\[\]]+\]\s*(?:[#;][^\]]*)?"
_FIELD = r"\s*(\w+)\s*[=:]"
_QUOTES = ("''", '""', "``", "“”", "\u2018\u2019")
_OTHER_ENCODINGS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def decode(data: bytes, where: str) -> str:
    """Return the text of a hosts file.

    Raises:
        InvalidValueError: The file is too large, is not UTF-8, or starts with a byte order mark.
    """
    if len(data) > LARGEST:
        raise InvalidValueError("hosts file", where, f"a file of at most {LARGEST >> 10} KiB")
    if data.startswith(codecs.BOM_UTF8):
        raise InvalidValueError(
            "hosts file",
            where,
            "UTF-8 without a byte order mark, because pabot cannot read it: sed -i '1s/^\\xEF\\xBB\\xBF//' FILE",
        )
    if data.startswith(_OTHER_ENCODINGS) or b"\0" in data:
        valid = "UTF-8, but the file looks like UTF-16: iconv -f UTF-16 -t UTF-8 FILE > NEW"
        raise InvalidValueError("hosts file", where, valid)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        valid = f"UTF-8, but line {line} has another encoding: iconv -f LATIN1 -t UTF-8 FILE > NEW"
        raise InvalidValueError("hosts file", where, valid) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def sections(text: str, where: str) -> dict[str, dict[str, str]]:
    """Return the fields of each section.

    Raises:
        InvalidValueError: The text does not have the form of a hosts file.
    """
    import configparser  # noqa: PLC0415  only a hosts file needs it

    if text.startswith("\ufeff"):
        raise InvalidValueError("hosts file", where, "a text without a byte order mark")
    for number, line in enumerate(text.split("\n"), 1):
        if line.startswith("[") and not re.fullmatch(_HEADER, line.rstrip()):
            valid = f"a [section] alone on line {number}, without brackets in its name"
            raise InvalidValueError("hosts file", where, valid)
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(text, source=where)
    except configparser.Error as error:
        valid = f"sections of `field = value` lines ({_without_values(error)})"
        raise InvalidValueError("hosts file", where, valid) from None
    if not parser.sections():
        raise InvalidValueError("hosts file", where, "at least one [section], with the name of a host")
    for name in parser.sections():
        if name != name.strip() or not name.isprintable():
            valid = f"the name of a host without spaces at its ends, e.g. [{name.strip() or 'rack1'}]"
            raise InvalidValueError(f"section of {where}", name, valid)
    return {name: dict(parser[name]) for name in parser.sections()}


def refuse_unknown(where: str, fields: Iterable[str], known: Iterable[str]) -> None:
    """Raise if a section has an unknown field. The message shows the most similar known field."""
    names = sorted(known)
    unknown = sorted(set(fields) - set(names))
    if not unknown:
        return
    alike = difflib.get_close_matches(unknown[0], names, n=1)
    suggestion = f"{alike[0]} (the most similar name), or " if alike else ""
    raise InvalidValueError(f"field of {where}", ", ".join(unknown), f"{suggestion}one of {', '.join(names)}")


def checked_value(where: str, field: str, value: str, known: Iterable[str], *, words: bool, secret: bool) -> str:
    """Check the value of a field and return the value without line breaks and escapes.

    Args:
        where: The file and its section, for messages.
        field: The field.
        value: The value as the file has it.
        known: The fields that a section may have.
        words: Whether the value is a list of words. Such a value may have several lines and quotes.
        secret: Whether the value may contain a password. Then no message shows the value.

    Raises:
        InvalidValueError: The value is quoted, has a comment after it, or has a single percent sign or a control
            character. Or the line after it is indented and looks like a field.
    """

    def refuse(valid: str) -> InvalidValueError:
        return InvalidValueError(f"{field} of {where}", HIDDEN if secret else value, valid)

    first, *more = value.split("\n")
    for line in more:
        found = re.match(_FIELD, line)
        if found and found[1].lower() in known:
            raise refuse(f"a value of one line, but the next line ({found[1]}) is indented: remove its indent")
    if more and not words:
        raise refuse("a value of one line, but the next line is indented: remove its indent")
    if re.search(_COMMENT, _QUOTED.sub("x", value)):
        raise refuse("a value without a comment after it: put the comment on a separate line")
    if not words and len(first) > 1 and first[0] + first[-1] in _QUOTES:
        raise refuse(f"a value without quotes: {field} = {HIDDEN if secret else first[1:-1]}")
    if "%" in value.replace("%%", ""):
        raise InvalidValueError(f"value in {where}", "%", "%% for each percent sign, because pabot reads no single %")
    joined = " ".join(value.split()) if words and "\n" in value else value
    if not (joined.replace("\t", " ") if words else joined).isprintable():
        raise refuse("a value without tabs, control characters and invisible characters")
    return joined.replace("%%", "%")


def _without_values(error: configparser.Error) -> str:
    """Describe what is wrong with a file without showing its wrong lines. A wrong line may contain a secret."""
    import configparser  # noqa: PLC0415

    if isinstance(error, configparser.MissingSectionHeaderError):
        return f"line {error.lineno} comes before the first [section]"
    if isinstance(error, configparser.ParsingError):
        return f"wrong: line {', '.join(str(number) for number, _ in error.errors)}"
    return str(error)  # names a section or a field that occurs twice
