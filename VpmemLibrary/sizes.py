"""Sizes: whole bytes inside, ``256MiB`` at the edge."""

from __future__ import annotations

import re
from typing import Self

from VpmemLibrary.errors import InvalidValueError

KiB = 1 << 10
MiB = 1 << 20
GiB = 1 << 30
TiB = 1 << 40

_UNITS = {"": 1, "B": 1, "KiB": KiB, "MiB": MiB, "GiB": GiB, "TiB": TiB}
_FORM = re.compile(r"\s*(?P<number>[0-9]+)\s*(?P<unit>B|KiB|MiB|GiB|TiB)?\s*", re.ASCII)
_VALID = "whole bytes or a binary unit: 268435456, 256MiB, 16GiB (KiB, MiB, GiB, TiB; 1GiB = 1024MiB)"


class Size(int):
    """A number of bytes that prints as ``256MiB`` and reads from it.

    Decimal units (``16GB``) and bare ndctl letters (``16G``) are refused: they are where mistakes of seven per cent
    come from.

    Example: ``Size.parse("256MiB") == 268435456``; ``str(Size(268435456)) == "256MiB"``.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, value: str | int) -> Self:
        """Return the size that `value` stands for.

        Raises:
            InvalidValueError: It is not a whole number of bytes or of a binary unit, or is negative.
        """
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            raise InvalidValueError("size", value, _VALID)
        if isinstance(value, int):
            if value < 0:
                raise InvalidValueError("size", value, _VALID)
            return cls(value)
        match = _FORM.fullmatch(value)
        if match is None:
            raise InvalidValueError("size", value, _VALID)
        return cls(int(match["number"]) * _UNITS[match["unit"] or ""])

    def __str__(self) -> str:
        """Return the largest unit that is exact: ``254MiB``, ``270532608B`` never as ``258MiB`` rounded."""
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
    """The smallest size that a region allows and that is not smaller than this number of bytes.

    Only the region says which size that is: see `VpmemLibrary.pmem.namespaces.plan.smallest_size`.

    Example: ``str(AtLeast(64 * MiB)) == "at least 64MiB"``.
    """

    __slots__ = ()

    def __str__(self) -> str:
        return f"at least {super().__str__()}"


class _All(Size):
    """Stands for all that there is, where a size is expected."""

    __slots__ = ()

    def __str__(self) -> str:
        return "all"


ALL: Size = _All(0)
"""All that there is. A value of its own rather than None, so that a wrong size is refused with the reason."""
