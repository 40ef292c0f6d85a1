"""Text from outside, made safe to show: it cannot steer a terminal, forge a line, or run as HTML in log.html.

Names, comments, paths and output come from hosts, guests and local users. Every error, log message, table, drawing and
report shows them through these functions. The errors of this library do so by themselves (`VpmemLibrary.errors`).
"""

from __future__ import annotations

import re

_HTML = "*HTML*"
_INDENT = "    "
_LONGEST = 64 * 1024
_PERHAPS_UNUSUAL = re.compile(r"[^\n\t -~]")
_PLAIN = re.compile(r"[A-Za-z0-9_.+:/@-]+")


def visible(text: str) -> str:
    r"""Return a text of several lines with its control characters written as ``\xNN`` or ``\uNNNN``.

    Line feeds and tabs stay. Written out is what Python's ``repr`` writes out: control characters, characters that
    change the direction of text, other line separators, lone surrogates, and characters that cannot be seen.

    Args:
        text: The text.

    Returns:
        The text; it is the same text again when it is given to this function once more.

    Example: ``visible("a\x1b[2J\nb") == "a\\x1b[2J\nb"``.
    """
    return _PERHAPS_UNUSUAL.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""Return a text as one line: line feeds and tabs are written as ``\x0a`` and ``\x09`` as well.

    Args:
        text: The text.

    Returns:
        The line.

    Example: ``one_line("a\nb") == "a\\x0ab"``.
    """
    if text.isprintable():  # ten thousand names are looked at at once
        return text
    return visible(text).replace("\n", r"\x0a").replace("\t", r"\x09")


def block(text: str) -> str:
    r"""Return a text of several lines whose second and later lines are indented.

    So none of its lines can be taken for a line of the message that it stands in.

    Args:
        text: The text.

    Returns:
        The text, to be put behind the first words of a line.

    Example: ``"stderr: " + block("a\nexit status: 0") == "stderr: a\n    exit status: 0"``.
    """
    return visible(text).replace("\n", "\n" + _INDENT)


def quoted(name: str) -> str:
    """Return a name as messages show it: as it is, or in quotes when it has anything but ``A-Z a-z 0-9 _.+:/@-``.

    Args:
        name: The name of a thing that was made by others.

    Returns:
        The name on one line.

    Example: ``quoted("ns_0") == "ns_0"``, ``quoted("*HTML*<b>") == "'*HTML*<b>'"``.
    """
    return name if _PLAIN.fullmatch(name) else repr(name)


def message(text: str) -> str:
    """Return a text as the message of an error or of the log: visible, bounded, and never taken for HTML.

    Robot Framework shows a failure that begins with ``*HTML*`` as HTML in log.html. Of a text of more than 64 Ki
    characters the beginning is returned, and how long the text is.

    Args:
        text: The text.

    Returns:
        The message.

    Example: ``message("*HTML* <b>") == "Message: *HTML* <b>"``.
    """
    shown = visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text)} characters)")
    return f"Message: {shown}" if shown.lstrip().upper().startswith(_HTML) else shown


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else repr(character)[1:-1].replace(r"\r", r"\x0d")
