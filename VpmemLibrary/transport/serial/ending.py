"""End a command inside a guest and all its processes, where the command has no process group of its own."""

from __future__ import annotations

END_FUNCTION = r"""
end() {
    kill -STOP "$1" 2>/dev/null || return
    children=$(cat "/proc/$1/task"/*/children 2>/dev/null || ps -o pid= --ppid "$1" 2>/dev/null)
    for child in $children; do (end "$child"); done
    kill -KILL "$1"
}
"""
"""A shell function that ends process $1 and its descendants. It stops each process before it lists the children, so
that the process cannot start a new child meanwhile."""

_KILLED = -9


def overdue(timeout: float, exit_status: int | None, unseen: str = "") -> str:
    """Return a message about a command that did not end in time.

    If the guest did not report the end of the command, `exit_status` is None and `unseen` is the reason.
    """
    late = f"It did not end within {timeout:g} s"
    if exit_status is None:
        return f"{late}, and was not seen to end: {unseen}"
    if exit_status == _KILLED:
        return f"{late} and was ended"
    return f"{late}, but then ended by itself"
