"""The deadline that a keyword sets for its calls of libvirt."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from msgspec import Struct

_LEAST = 5.0
"""Seconds that a call gets after the keyword's deadline, because the error report needs further calls."""


class _Scope(Struct, frozen=True):
    deadline: float
    least: float


_scopes = threading.local()


@contextlib.contextmanager
def libvirt_deadline(seconds: float) -> Iterator[float]:
    """Set a deadline for every libvirt call in the ``with`` block. An earlier deadline of an outer block still applies.

    Args:
        seconds: Seconds from now.

    Returns:
        The deadline, by ``time.monotonic``.

    Example::

        with libvirt_deadline(timeout) as deadline:
            guest.shut_down()
    """
    outer: _Scope | None = getattr(_scopes, "current", None)
    scope = _Scope(time.monotonic() + seconds, min(seconds, _LEAST))
    if outer is not None and outer.deadline < scope.deadline:
        scope = outer
    _scopes.current = scope
    try:
        yield scope.deadline
    finally:
        _scopes.current = outer


def limit_to_deadline(seconds: float) -> float:
    """Return the seconds that a call may take: `seconds`, or less if the deadline of `libvirt_deadline` is earlier."""
    scope: _Scope | None = getattr(_scopes, "current", None)
    if scope is None:
        return seconds
    return min(seconds, max(scope.deadline - time.monotonic(), scope.least))
