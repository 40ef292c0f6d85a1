"""How an argument in a .robot file becomes a typed value."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from robot.api.types import Secret

from VpmemLibrary.model import NamespaceMode
from VpmemLibrary.sizes import ALL, Size

Option = TypeVar("Option")


def to_size(value: str | int) -> Size:
    """A number of bytes: `268435456`, or with a binary unit `256MiB`, `16GiB`.

    Units are `KiB`, `MiB`, `GiB` and `TiB`. Decimal units such as `16GB` and single letters such as `16G` are refused,
    as they are where mistakes of seven per cent come from. `all` stands for all that there is, where a keyword says so.
    """
    return ALL if value == str(ALL) else Size.parse(value)


CONVERTERS: dict[type, Callable[..., Any]] = {Size: to_size}


def to_bytes(text: str | Secret) -> bytes:
    """Return what a command reads, also when it is a secret."""
    return (text.value if isinstance(text, Secret) else text).encode()


def unless_default(mode: NamespaceMode, value: Option, default: Option) -> Option | None:
    """Return an option of the modes that have a page map; for the others only one that was said, to be refused."""
    return value if mode in (NamespaceMode.devdax, NamespaceMode.fsdax) or value != default else None
