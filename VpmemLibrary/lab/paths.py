"""The directories of the lab: the cache (images, saved states) and the state (the lab hosts that exist)."""

from __future__ import annotations

import errno
import os
import platform
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from VpmemLibrary.errors import InvalidValueError, LabError, VpmemError

_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
        "The image and a saved state need some 4 GiB, and each lab host more as it writes: free space there, or",
    ),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        "An earlier run as root or with sudo may own it (`ls -ld`), or it is on a file system that is mounted noexec. "
        "Change its owner, or",
    ),
    **dict.fromkeys((errno.ENOLCK, errno.EOPNOTSUPP), "Its file system has no locks or no sockets:"),
}
"""The advice for an error of the operating system. In the message, the advice that is always given follows."""


def cache_directory() -> Path:
    """Return the directory of images and saved states: ``$VPMEM_CACHE``, or ``vpmem`` in the user's cache."""
    return _directory("VPMEM_CACHE", "user_cache_path")


def state_directory() -> Path:
    """Return the directory of the lab hosts that exist: ``$VPMEM_STATE``, or ``vpmem`` in the user's state."""
    return _directory("VPMEM_STATE", "user_state_path")


def _directory(variable: str, default: str) -> Path:
    given = os.environ.get(variable)
    if given:
        try:
            return Path(given).expanduser().resolve()
        except RuntimeError as error:  # there is no such user, or a symbolic link leads to itself
            raise InvalidValueError(variable, given, f"a directory ({error})") from error
    import platformdirs  # noqa: PLC0415

    path: Path = getattr(platformdirs, default)("vpmem", appauthor=False)
    if not path.is_absolute():  # XDG_CACHE_HOME or XDG_STATE_HOME is relative, or this user has no home
        valid = f"an absolute path: correct HOME and the XDG_*_HOME variables, or set {variable} to a directory"
        raise InvalidValueError("the lab's directory", str(path), valid)
    return path


@contextmanager
def no_raw_errors() -> Iterator[None]:
    """Raise an error of the operating system as a LabError that says what to do.

    Raises:
        LabError: The operating system refused something. The message has the path.
    """
    try:
        yield
    except OSError as error:
        if isinstance(error, VpmemError):
            raise
        advice = _ADVICE.get(error.errno or 0, "If the path belongs to the lab,")
        raise LabError(
            f"The lab cannot continue: {error}. {advice} set VPMEM_CACHE and VPMEM_STATE to other directories "
            f"(now {cache_directory()} and {state_directory()})."
        ) from error


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
    path.unlink(missing_ok=True)  # an old file would keep its mode, and another process may have opened it
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb")


def append_private(path: Path, text: str) -> None:
    """Append text to a file. A new file can be read only by this user."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a") as file:
        file.write(text)


def disk_usage(path: Path) -> int:
    """Return the bytes that a file or a directory occupies on disk. Holes in sparse files occupy nothing."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_blocks * 512
    used = 0
    for parent, directories, files in os.walk(path):
        for name in (*directories, *files):
            with suppress(FileNotFoundError):  # another process is changing the directory
                used += Path(parent, name).lstat().st_blocks * 512
    return used
