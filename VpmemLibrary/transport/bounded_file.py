"""Read a local file of any kind, without waiting and with limited memory. A user may name any file."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


def expanded(path: Path) -> Path:
    """Replace ``~`` in a path by the home directory. If the user or directory does not exist, return the path as is."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def read_bounded(path: Path, limit: int) -> bytes:
    """Return the content of a file. Return no bytes for a pipe without a writer.

    Args:
        path: The file.
        limit: The largest size in bytes.

    Raises:
        OSError: The file cannot be read, is a directory, or is larger than `limit` (EFBIG).

    Example: ``read_bounded(Path("/etc/hostname"), 1 << 20)``.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (NotADirectoryError, ValueError) as error:  # an impossible file name, e.g. with a null byte
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path)) from error
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise IsADirectoryError(errno.EISDIR, "Is a directory", str(path))
        try:
            content = file.read(limit + 1) or b""
        except BlockingIOError:
            return b""
    if len(content) > limit:
        raise OSError(errno.EFBIG, f"It has more than {limit >> 20} MiB", str(path))
    return content
