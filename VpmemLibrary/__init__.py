"""Robot Framework keywords that test virtual persistent memory, from the host's NVDIMM to the guest's last byte."""

from __future__ import annotations

from typing import TYPE_CHECKING

from VpmemLibrary.version import __version__

if TYPE_CHECKING:
    from VpmemLibrary.library import VpmemLibrary

__all__ = ["VpmemLibrary", "__version__"]


def __getattr__(name: str) -> object:
    """Import the library class on its first use. So scripts and the command line do not load Robot Framework."""
    if name == "VpmemLibrary":
        from VpmemLibrary.library import VpmemLibrary as library  # noqa: N813, PLC0415

        return library
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
