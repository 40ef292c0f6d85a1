"""Sizes: whole bytes inside the library, ``256MiB`` in arguments and messages."""

from __future__ import annotations

import re
from typing import Self

from VpmemLibrary.errors import InvalidValueError

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40

_UNITS = {"": 1, "B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}
_FORM = r"(?a)\s*(?P<number>[0-9]+)\s*(?P<unit>B|KiB|MiB|GiB|TiB)?\s*"
_VALID = "whole bytes or a binary unit: 268435456, 256MiB, 16GiB (KiB, MiB, GiB, TiB; 1GiB = 1024MiB)"


class Size(int):
    """A number of bytes that is read and printed as text such as ``256MiB``.

    Decimal units (``16GB``) and ndctl's single letters (``16G``) are refused: 16GB is 7 % less than 16GiB.

    Example: ``Size.parse("256MiB") == 268435456``; ``str(Size(268435456)) == "256MiB"``.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, value: str | int) -> Self:
        """Parse a number of bytes, or a text such as ``256MiB``.

        Raises:
            InvalidValueError: The value is negative, or is not a whole number of bytes or of a binary unit.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidValueError("size", value, _VALID)
        if isinstance(value, int):
            if value < 0:
                raise InvalidValueError("size", value, _VALID)
            return cls(value)
        match = re.fullmatch(_FORM, value)
        if match is None:
            raise InvalidValueError("size", value, _VALID)
        return cls(int(match["number"]) * _UNITS[match["unit"] or ""])

    def __str__(self) -> str:
        """Return the size in the largest unit without rounding: ``254MiB``, and ``266338305B`` with 1 byte more."""
        for unit in ("TiB", "GiB", "MiB", "KiB"):
            if self and int(self) % _UNITS[unit] == 0:
                return f"{int(self) // _UNITS[unit]}{unit}"
        return f"{int(self)}B"

    def __repr__(self) -> str:
        return f"Size({int(self)})"

    def __format__(self, spec: str) -> str:
        return format(int(self), spec) if spec else str(self)

    def __add__(self, other: int) -> Size:
        return Size(int(self) + int(other))

    def __sub__(self, other: int) -> Size:
        return Size(int(self) - int(other))

    def down_to(self, step: int) -> Size:
        """Return the nearest multiple of `step` bytes that is not larger."""
        return Size(int(self) // step * step)

    def up_to(self, step: int) -> Size:
        """Return the nearest multiple of `step` bytes that is not smaller."""
        return Size(-(-int(self) // step) * step)


class AtLeast(Size):
    """A minimum size. It stands for the smallest size that a region allows and that is not below the minimum.

    `VpmemLibrary.pmem.namespaces.plan.smallest_size` finds that size, which differs between regions.

    Example: ``str(AtLeast(64 * MiB)) == "at least 64MiB"``.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"at least {super().__str__()}"


class _All(Size):
    """A placeholder for all available capacity, where a size is expected."""

    __slots__ = ()

    def __str__(self) -> str:
        return "all"


ALL: Size = _All(0)
"""All available capacity. Not None: Robot Framework refuses a wrong value of the type `Size | None` with no reason."""
