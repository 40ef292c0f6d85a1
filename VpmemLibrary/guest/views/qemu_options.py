"""Parse QEMU's command line: options, sizes, truth values.

QEMU accepts an option as JSON or as ``key=value,...`` (util/keyval.c, util/qemu-option.c). QEMU parses a size with
qemu_strtosz (util/cutils.c).
"""

from __future__ import annotations

import json
import re
from itertools import pairwise

from VpmemLibrary.sizes import KiB, MiB, Size

Option = dict[str, object]
"""One option: its keys and values."""

_SUFFIXES = {"": 1, "B": 1} | {letter: KiB**power for power, letter in enumerate("KMGTPE", start=1)}
_SIZE = r"\+?(?:0[xX](?P<hex>[0-9a-fA-F]{1,16})|(?P<number>[0-9]{1,20}(?:\.[0-9]{0,20})?|\.[0-9]{1,20}))"
_MOST = 1 << 64
_TRUE = ("on", "yes", "true", "y")
_FALSE = ("off", "no", "false", "n")
_SET = r"(?s)([^.]+)\.([^.]+)\.([^=]+)=(.*)"


def parse_size(text: object, default: str = "B") -> Size:
    """Return the number of bytes in a QEMU size: ``4g``, ``1.5G``, ``0x200000``, ``512``.

    Args:
        text: The size. A JSON number is in bytes.
        default: The suffix of a number without a suffix: ``M`` for the size of ``-m``.

    Raises:
        ValueError: The text is not a size that QEMU accepts.

    Example: ``parse_size("1.5G") == 1610612736``, ``parse_size("512", "M") == 536870912``.
    """
    from fractions import Fraction  # noqa: PLC0415  only views of QEMU need it

    if isinstance(text, int) and not isinstance(text, bool):
        size = Fraction(text)
    else:
        match = re.match(_SIZE, stripped := str(text).strip())
        suffix = stripped[match.end() :].upper() if match else ""
        if match is None or suffix not in _SUFFIXES:
            raise ValueError(f"not a size: {str(text)[:80]!r}")
        number = Fraction(int(match["hex"], 16)) if match["hex"] else Fraction(match["number"])
        size = number * _SUFFIXES[suffix or default]
        if size.denominator != 1 and (suffix or default) == "B":
            raise ValueError(f"not a whole number of bytes: {str(text)[:80]!r}")
    if not 0 <= size < _MOST:
        raise ValueError(f"not a size below 16 EiB: {str(text)[:80]!r}")
    return Size(int(size))


def is_true(value: object, default: bool = False) -> bool:
    """Return a truth value of QEMU as a bool; `default` if the value is None.

    Raises:
        ValueError: The value is not a truth value.
    """
    if value is None or isinstance(value, bool):
        return default if value is None else value
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise ValueError(f"not a truth value: {str(value)[:80]!r}")


def parse_option(text: str, first: str) -> Option:
    """Parse an option into a dictionary. In ``key=value,...`` a comma in a value is written twice.

    Args:
        text: The option's text.
        first: The key of a first value without a key.

    Raises:
        ValueError: The text is JSON but not an object.

    Example: ``parse_option("nvdimm,memdev=mem1", "driver") == {"driver": "nvdimm", "memdev": "mem1"}``.
    """
    if text.lstrip().startswith("{"):
        decoded = json.loads(text)
        if not isinstance(decoded, dict):
            raise ValueError("not a JSON object")
        return decoded
    parts = [part.replace("\0", ",") for part in text.replace(",,", "\0").split(",")]
    option: Option = {}
    for number, part in enumerate(parts):
        key, equals, value = part.partition("=")
        if equals:
            option[key] = value
        elif number == 0:
            option[first] = part
        elif key.startswith("no") and key[2:] in _SWITCHES:
            option[key[2:]] = "off"
        elif key:
            option[key] = "on"
    return option


_SWITCHES = ("share", "pmem", "readonly", "unarmed", "nvdimm")
"""The switches of memory devices. QEMU before 6.0 accepts ``noshare`` for ``share=off``."""


def options_of(argv: tuple[str, ...], flag: str, first: str) -> list[Option]:
    """Return all options of one kind in QEMU's order, with the changes that ``-set`` makes.

    QEMU creates the devices of ``key=value`` options before the devices of JSON options (system/vl.c,
    qemu_create_cli_devices).

    Args:
        argv: The command line, one item for each argument.
        flag: The option, e.g. ``-device``.
        first: The key of a first value without a key.

    Raises:
        ValueError: An option does not have the form that QEMU accepts.
    """
    texts = [text for found, text in pairwise(argv) if _name(found) == flag]
    texts.sort(key=lambda text: text.lstrip().startswith("{"))
    options = [parse_option(text, first) for text in texts]
    for found, text in pairwise(argv):
        if _name(found) == "-set" and (match := re.fullmatch(_SET, text)) and f"-{match[1]}" == flag:
            for option in options:
                if option.get("id") == match[2]:
                    option[match[3]] = match[4]
    return options


def merged_option(argv: tuple[str, ...], flags: tuple[str, ...], first: str) -> Option:
    """Return an option that may be given several times. A later value of a key replaces the earlier value.

    Raises:
        ValueError: The option does not have the form that QEMU accepts.
    """
    merged: Option = {}
    for found, text in pairwise(argv):
        if _name(found) in flags:
            merged |= parse_option(text, first)
    return merged


def config_files(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return the configuration files of a command line (``-readconfig``). Do not read the files."""
    return tuple(text for found, text in pairwise(argv) if _name(found) == "-readconfig")


def ram_size(argv: tuple[str, ...]) -> Size | None:
    """Return the RAM that a command line gives the machine, without memory devices; None if it is not stated.

    Raises:
        ValueError: The option does not have the form that QEMU accepts.
    """
    size = merged_option(argv, ("-m",), "size").get("size")
    return None if size is None else parse_size(size, "M").up_to(MiB)


def memory_slots(argv: tuple[str, ...]) -> int:
    """Return the number of memory slots that a command line gives the machine; 0 if it is not stated.

    Raises:
        ValueError: The option does not have the form that QEMU accepts.
    """
    return whole(merged_option(argv, ("-m",), "size").get("slots", 0))


def has_nvdimm(argv: tuple[str, ...]) -> bool:
    """Return whether a command line allows the machine to have NVDIMMs (``-machine nvdimm=on``).

    Raises:
        ValueError: The option does not have the form that QEMU accepts.
    """
    return is_true(merged_option(argv, ("-machine", "-M"), "type").get("nvdimm"))


def whole(value: object) -> int:
    """Return a whole number from an option: a slot, a node.

    Raises:
        ValueError: The value is not a whole number, or has more than 20 digits.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = str(value).strip()
    if not re.fullmatch(r"-?(0[xX][0-9a-fA-F]{1,16}|[0-9]{1,20})", text):
        raise ValueError(f"not a number: {text[:80]!r}")
    return int(text, 16 if "x" in text.lower() else 10)


def _name(argument: str) -> str:
    """Return the option's name with one dash. QEMU accepts ``--device`` as well."""
    return argument[1:] if argument.startswith("--") else argument
