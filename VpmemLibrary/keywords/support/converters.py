"""Convert arguments of .robot files to typed values."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from robot.api.types import Secret

from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.sizes import ALL, AtLeast, Size

Option = TypeVar("Option")

_AT_LEAST = r"(?is)\s*at[ _]least\s+(.*)"


def to_size(value: str | int) -> Size:
    """A number of bytes: `268435456`, or with a binary unit `256MiB`, `16GiB`.

    Valid units are `KiB`, `MiB`, `GiB` and `TiB`. Decimal units such as `16GB` and single letters such as `16G` are
    invalid, because they cause mistakes of seven per cent. Some keywords also accept `all`, which means the whole size.
    Some keywords also accept `at least 64MiB`, which means the smallest size that the region allows and that is not
    smaller than 64 MiB.
    """
    if value == str(ALL):
        return ALL
    if isinstance(value, str) and (match := re.fullmatch(_AT_LEAST, value)):
        return AtLeast.parse(match[1])
    return value if isinstance(value, AtLeast) else Size.parse(value)


CONVERTERS: dict[type, Callable[..., Any]] = {Size: to_size}


def to_bytes(text: str | Secret) -> bytes:
    """Return the bytes for a command's standard input, from a text or a secret."""
    return (text.value if isinstance(text, Secret) else text).encode()


def wanted_align(align: Size) -> Size | None:
    """Return the requested mapping alignment, or None for the default: then the machine's kernel chooses.

    Machines with pages of 64 KiB may not support an alignment of 2 MiB.
    """
    return None if align == DEFAULT_ALIGN else align


def unless_default(mode: NamespaceMode, value: Option, default: Option) -> Option | None:
    """Return an option of devdax and fsdax, the modes that have a page map.

    For another mode, return None if the value is the default. Return any other value, so that it is refused later.
    """
    return value if mode in (NamespaceMode.devdax, NamespaceMode.fsdax) or value != default else None
