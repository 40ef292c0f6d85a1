"""Make text from outside safe to show, so that it cannot control a terminal, forge a line, or run as HTML in log.html.

Names, comments, paths and output come from hosts, guests and local users. Every error, log message, table, drawing and
report shows them through these functions. The errors of this library (`VpmemLibrary.errors`) call `message` themselves.
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

    Line feeds and tabs stay. The function escapes the same characters as Python's ``repr``: control characters,
    characters that change the direction of text, other line separators, lone surrogates, and invisible characters.

    Escaping a second time changes nothing.

    Example: ``visible("a\x1b[2J\nb") == "a\\x1b[2J\nb"``.
    """
    return _PERHAPS_UNUSUAL.sub(_written_out, text)


def one_line(text: str) -> str:
    r"""Return a text as one line: line feeds and tabs are also escaped, as ``\x0a`` and ``\x09``.

    Example: ``one_line("a\nb") == "a\\x0ab"``.
    """
    if text.isprintable():  # a fast path: one call may check ten thousand names
        return text
    return visible(text).replace("\n", r"\x0a").replace("\t", r"\x09")


def as_html(text: str) -> str:
    r"""Return a text as one line of HTML: no character is markup.

    Example: ``as_html("<b>\n") == "&lt;b&gt;\\x0a"``.
    """
    from html import escape  # noqa: PLC0415  loads the names of all HTML entities, which many runs do not need

    return escape(one_line(text))


def block(text: str) -> str:
    r"""Return a text of several lines with every line after the first indented.

    The indent shows that these lines are not lines of the surrounding message.

    Example: ``"stderr: " + block("a\nexit status: 0") == "stderr: a\n    exit status: 0"``.
    """
    return visible(text).replace("\n", "\n" + _INDENT)


def quoted(name: str) -> str:
    """Return a name for a message. Quote the name if it has any character other than ``A-Z a-z 0-9 _.+:/@-``.

    Example: ``quoted("ns_0") == "ns_0"``, ``quoted("*HTML*<b>") == "'*HTML*<b>'"``.
    """
    return name if _PLAIN.fullmatch(name) else repr(name)


def message(text: str) -> str:
    """Return a text as the message of an error or of the log. Escape its control characters, as `visible` does.

    Robot Framework shows a failure that begins with ``*HTML*`` as HTML, so such a text gets a prefix. If the text has
    more than 64 Ki characters, return its beginning and the length of the whole text.

    Example: ``message("*HTML* <b>") == "Message: *HTML* <b>"``.
    """
    shown = visible(text if len(text) <= _LONGEST else f"{text[:_LONGEST]} ... ({len(text)} characters)")
    return f"Message: {shown}" if shown.lstrip().upper().startswith(_HTML) else shown


def _written_out(match: re.Match[str]) -> str:
    character = match[0]
    return character if character.isprintable() else repr(character)[1:-1].replace(r"\r", r"\x0d")
