"""Packages that only the command line and the lab need: the extras of this project."""

from __future__ import annotations

from importlib.util import find_spec

from VpmemLibrary.errors import UnsupportedError

EXTRAS = {
    "cli": ("click", "rich"),
    "lab": ("click", "rich", "platformdirs", "qemu.qmp"),
    "openstack": ("openstack",),
}
"""The modules of each extra. ``pyproject.toml`` has the packages that install them."""


def require_extra(extra: str, user: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        extra: The extra, e.g. ``lab``.
        user: What needs the extra, for the message.

    Raises:
        UnsupportedError: A package is missing.

    Example: ``require_extra("lab", "The lab")``.
    """
    missing = [module for module in EXTRAS[extra] if not _installed(module)]
    if missing:
        raise UnsupportedError(
            f"{user} needs Python packages that are not installed: {', '.join(missing)}. "
            f"Install them: pip install 'robotframework-vpmem[{extra}]'"
        )


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:  # the parent package of the module is missing
        return False
