"""Where the lab keeps what it made: the cache (images, saved states) and the state (the lab hosts that exist)."""

from __future__ import annotations

import os
from pathlib import Path


def cache_directory() -> Path:
    """Return the directory of images and saved states: ``$VPMEM_CACHE``, or ``vpmem`` in the user's cache."""
    return _directory("VPMEM_CACHE", "user_cache_path")


def state_directory() -> Path:
    """Return the directory of the lab hosts that exist: ``$VPMEM_STATE``, or ``vpmem`` in the user's state."""
    return _directory("VPMEM_STATE", "user_state_path")


def _directory(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    if given:
        return Path(given).expanduser().resolve()
    import platformdirs  # noqa: PLC0415

    path: Path = getattr(platformdirs, default)("vpmem", appauthor=False)
    return path


def disk_usage(path: Path) -> int:
    """Return the bytes that a file or a directory really occupies; holes in sparse files occupy nothing."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * 512
    return sum(entry.lstat().st_blocks * 512 for entry in path.rglob("*"))
