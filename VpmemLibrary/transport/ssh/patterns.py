"""The patterns of OpenSSH, with ``*``, ``?`` and negation, in configurations, known-hosts files and certificates."""

from __future__ import annotations

from collections.abc import Iterable


def matches(pattern: str, name: str) -> bool:
    """Return whether a name matches a pattern with ``*`` and ``?``.

    The run time grows at most with the product of both lengths. A regular expression with many ``*`` could take long.

    Example: ``matches("rack?.example.com", "rack1.example.com")``.
    """
    position = start = resume = 0
    star = -1
    while position < len(name):
        if start < len(pattern) and pattern[start] == "*":
            star, resume = start, position
            start += 1
        elif start < len(pattern) and pattern[start] in ("?", name[position]):
            position, start = position + 1, start + 1
        elif star < 0:
            return False
        else:  # let the last * match one more character
            resume += 1
            position, start = resume, star + 1
    return not pattern[start:].strip("*")


def matches_any(patterns: Iterable[str], name: str) -> bool:
    """Return whether a name matches at least one pattern, and no pattern that begins with ``!``."""
    matched = False
    for pattern in patterns:
        if matches(pattern.removeprefix("!"), name):
            if pattern.startswith("!"):
                return False
            matched = True
    return matched
