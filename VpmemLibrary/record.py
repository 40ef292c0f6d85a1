"""Records with fields that are not shown or not compared.

The records of this library are subclasses of `msgspec.Struct`. Python defines a struct in a fortieth of the time of a
dataclass, and the library has more than a hundred records. A struct has no options for a single field, so there are
decorators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, TypeVar

from msgspec import Struct

R = TypeVar("R", bound=Struct)


def hide_fields(*names: str) -> Callable[[type[R]], type[R]]:
    """Return a decorator for a record with fields that `repr` does not show: passwords, or long bytes.

    Args:
        names: The hidden fields.

    Raises:
        TypeError: The record has no such field.

    Example: ``@hide_fields("password")``.
    """

    def decorate(record: type[R]) -> type[R]:
        _check(record, names)

        def shown(self: R) -> list[tuple[str, Any]]:
            return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in names]

        def text(self: R) -> str:
            return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown(self))})"

        record.__repr__ = text  # type: ignore[assignment,method-assign]
        record.__rich_repr__ = shown  # type: ignore[assignment,method-assign]  # rich shows every field by default
        return record

    return decorate


def compare_without(*names: str) -> Callable[[type[R]], type[R]]:
    """Return a decorator for a frozen record with fields that ``==`` and `hash` ignore.

    Args:
        names: The ignored fields.

    Raises:
        TypeError: The record has no such field.

    Example: ``@compare_without("file", "number")``.
    """

    def decorate(record: type[R]) -> type[R]:
        _check(record, names)
        compared = attrgetter(*(name for name in record.__struct_fields__ if name not in names))

        def equal(self: R, other: object) -> bool:
            return bool(compared(self) == compared(other)) if type(other) is type(self) else NotImplemented

        def unequal(self: R, other: object) -> bool:
            return not equal(self, other) if type(other) is type(self) else NotImplemented

        def digest(self: R) -> int:
            return hash(compared(self))

        record.__eq__ = equal  # type: ignore[assignment,method-assign]
        record.__ne__ = unequal  # type: ignore[assignment,method-assign]
        record.__hash__ = digest  # type: ignore[assignment,method-assign]
        return record

    return decorate


def _check(record: type[Struct], names: Iterable[str]) -> None:
    if unknown := set(names) - set(record.__struct_fields__):
        raise TypeError(f"{record.__name__} has no field {', '.join(sorted(unknown))}")
