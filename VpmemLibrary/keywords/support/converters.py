"""How an argument in a .robot file becomes a typed value."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

from robot.api.types import Secret

from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.sizes import ALL, AtLeast, Size

Option = TypeVar("Option")

_AT_LEAST = re.compile(r"\s*at[ _]least\s+(.*)", re.IGNORECASE | re.DOTALL)


def to_size(value: str | int) -> Size:
    """A number of bytes: `268435456`, or with a binary unit `256MiB`, `16GiB`.

    Units are `KiB`, `MiB`, `GiB` and `TiB`. Decimal units such as `16GB` and single letters such as `16G` are refused,
    as they are where mistakes of seven per cent come from. Where a keyword says so, `all` stands for all that there is,
    and `at least 64MiB` for the smallest size that the region allows and that is not smaller.
    """
    if value == str(ALL):
        return ALL
    if isinstance(value, str) and (match := _AT_LEAST.fullmatch(value)):
        return AtLeast.parse(match[1])
    return value if isinstance(value, AtLeast) else Size.parse(value)


CONVERTERS: dict[type, Callable[..., Any]] = {Size: to_size}


def to_bytes(text: str | Secret) -> bytes:
    """Return what a command reads, also when it is a secret."""
    return (text.value if isinstance(text, Secret) else text).encode()


def wanted_align(align: Size) -> Size | None:
    """Return a mapping alignment that was asked for; None for the default, which is that of the machine's kernel.

    Machines with pages of 64 KiB may have no 2 MiB.
    """
    return None if align == DEFAULT_ALIGN else align


def unless_default(mode: NamespaceMode, value: Option, default: Option) -> Option | None:
    """Return an option of the modes that have a page map; for the others only one that was said, to be refused."""
    return value if mode in (NamespaceMode.devdax, NamespaceMode.fsdax) or value != default else None
