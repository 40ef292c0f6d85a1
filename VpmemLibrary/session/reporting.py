"""Report what a session does, for example to the log of Robot Framework or to a terminal."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from VpmemLibrary.transport.base import Transport


def _unchanged(transport: Transport, _name: str) -> Transport:
    return transport


def _ignore(_text: str) -> None:
    pass


class Reporting(Struct, frozen=True):
    """The functions by which a session reports what it does. By default, a session reports nothing.

    Args:
        wrap: Wraps the transport to a machine, e.g. to log commands. It gets the transport and the machine's name.
        note: Called with a line of text about what was done, e.g. the SSH configuration of a host.
        progress: Called with a line of text after each piece of a long read or write.

    Example: ``Reporting(note=print)``.
    """

    wrap: Callable[[Transport, str], Transport] = _unchanged
    note: Callable[[str], None] = _ignore
    progress: Callable[[str], None] | None = None
