"""Report that this machine (the controller) has no processes, threads, descriptors or memory left."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

from VpmemLibrary.errors import ControllerError

_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.ENOBUFS})
_NO_THREAD = "start new thread"


def shortage(action: str, error: BaseException) -> ControllerError | None:
    """Return the error for an action if it failed because this machine lacks a resource. Otherwise return None."""
    if isinstance(error, OSError):
        short, text = error.errno in _SHORTAGES, error.strerror or str(error)
    else:
        short, text = isinstance(error, RuntimeError) and _NO_THREAD in str(error), str(error)
    return too_little(action, text) if short else None


def too_little(action: str, text: str) -> ControllerError:
    """Return the error for an action that failed because this machine lacks a resource. `text` is the reason."""
    return ControllerError(
        f"The controller could not {action}: {text}. See ulimit -n (open files), ulimit -u (processes and threads) and "
        "free (memory)."
    )


def require_descriptors(count: int, action: str) -> None:
    """Check that this process can open more files. Call it before C code that would end the process otherwise.

    Raises:
        ControllerError: `action` fails, because fewer than `count` descriptors are free.
    """
    opened: list[int] = []
    try:
        opened.append(os.open(os.devnull, os.O_RDONLY))
        while len(opened) < count:
            opened.append(os.dup(opened[0]))
    except OSError as error:
        raise too_little(action, error.strerror or str(error)) from error
    finally:
        for each in opened:
            os.close(each)


def start_thread(work: Callable[[], None], name: str) -> threading.Thread:
    """Start a thread that does not keep this process alive.

    Raises:
        ControllerError: No thread can be started.
    """
    thread = threading.Thread(target=work, name=name, daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        raise too_little("start a thread", str(error)) from error
    return thread
