"""Ending a command inside a guest with all that it started, where nothing puts it into a process group of its own."""

from __future__ import annotations

END_FUNCTION = r"""
end() {
    kill -STOP "$1" 2>/dev/null || return
    children=$(cat "/proc/$1/task"/*/children 2>/dev/null || ps -o pid= --ppid "$1" 2>/dev/null)
    for child in $children; do (end "$child"); done
    kill -KILL "$1"
}
"""
"""A shell function: ends process $1 and its descendants. Each is stopped before its children are listed, so that none
is born meanwhile."""
