"""The directories of the lab: the cache (images, saved states) and the state (the lab hosts that exist)."""

from __future__ import annotations

import os
import platform
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from VpmemLibrary.errors import LabError


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


def this_machine() -> str:
    """Return an identifier that differs between machines that share a home. It is the machine id, or else the name."""
    try:
        found = Path("/etc/machine-id").read_text("utf-8", "replace").strip()
    except OSError:
        found = ""
    return found if found not in {"", "uninitialized"} else platform.node()


def private_directory(path: Path) -> Path:
    """Return `path` as a directory that only this user can enter. Create the directory if it is missing.

    Raises:
        LabError: The path is not a directory, or is another user's directory.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
        raise LabError(f"{path} is not a directory of this user: remove it, or set VPMEM_STATE to another directory.")
    path.chmod(0o700)
    return path


def open_private(path: Path) -> BinaryIO:
    """Create an empty file that only this user can read, and open it for writing."""
    path.unlink(missing_ok=True)  # an old file would keep its mode, and its readers
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def disk_usage(path: Path) -> int:
    """Return the bytes that a file or a directory occupies on disk. Holes in sparse files occupy nothing."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * 512
    return sum(entry.lstat().st_blocks * 512 for entry in path.rglob("*"))
