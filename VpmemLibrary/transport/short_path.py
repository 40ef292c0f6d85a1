"""Private directories with paths that are short enough for unix sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from VpmemLibrary.errors import ControllerError

LONGEST = 107
"""The longest path of a unix socket, in bytes (sun_path of unix(7), without its final NUL)."""


def socket_directory(longest_name: str) -> Path:
    """Make a directory for unix sockets that only this user can enter, and return its path.

    The directory is below ``TMPDIR`` if the path of a socket is short enough there. Otherwise it is below
    ``XDG_RUNTIME_DIR``, ``/tmp`` or ``/var/tmp``. The caller removes the directory.

    Args:
        longest_name: The longest name of a socket in the directory.

    Raises:
        ControllerError: No directory can be made, or every path would be too long.

    Example: ``socket_directory("socket") / "socket"`` can be bound.
    """
    tried = []
    for parent in dict.fromkeys((tempfile.gettempdir(), os.environ.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp")):  # noqa: S108  mkdtemp makes it private
        if not Path(parent).is_absolute():
            continue
        try:
            made = Path(tempfile.mkdtemp(prefix="vpmem-", dir=parent))
        except OSError as error:
            tried.append(f"{parent}: {error.strerror}")
            continue
        if len(os.fsencode(made / longest_name)) <= LONGEST:
            return made
        shutil.rmtree(made, ignore_errors=True)
        tried.append(f"{parent}: the path would have more than {LONGEST} bytes")
    raise ControllerError(
        f"The controller could not make a directory for a unix socket ({'; '.join(tried)}). Set TMPDIR to a short path "
        "that you can write to, e.g. TMPDIR=/tmp."
    )
