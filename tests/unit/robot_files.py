"""The parsed suites, resources and examples, and the calls of keywords in them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from robot.api import Token, get_model
from robot.api.parsing import File, Keyword, ModelVisitor
from robot.parsing.model.statements import Statement  # type: ignore[import-untyped]

ROOT = Path(__file__).parent.parent.parent

_PROSE = {Token.DOCUMENTATION, Token.TAGS, Token.TEST_TAGS, Token.KEYWORD_TAGS, Token.ARGUMENTS}


def normal(name: str) -> str:
    """Return a keyword's name as Robot Framework compares it, without the name of its library."""
    return re.sub(r"^(VpmemLibrary|BuiltIn)\.", "", name).lower().replace(" ", "").replace("_", "")


def files() -> list[Path]:
    """Return the suites, resources and examples."""
    found = (path for folder in ("suites", "resources", "examples") for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in (".robot", ".resource"))


class _Calls(ModelVisitor):  # type: ignore[misc]  # Robot Framework is not typed there
    """Collects the cells of a file that may be names of keywords, for each user keyword and for the rest."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        self.called: dict[str, set[str]] = defaultdict(set)
        self._within = ""

    def visit_Keyword(self, node: Keyword) -> None:  # noqa: N802  Robot Framework calls it by this name
        self._within = normal(node.name)
        self.names[self._within] = node.name
        self.called[self._within] |= set()
        self.generic_visit(node)
        self._within = ""

    def visit_Statement(self, node: Statement) -> None:  # noqa: N802
        if node.type not in _PROSE:
            cells = node.get_tokens(Token.KEYWORD, Token.NAME, Token.ARGUMENT)
            self.called[self._within] |= {normal(token.value) for token in cells if token.value}


@cache
def calls() -> tuple[dict[str, str], dict[str, frozenset[str]]]:
    """Return the names of all user keywords, and the normal names of what each calls.

    The tests and settings are under the empty name. An argument counts as well, as in ``Run Keyword    Get Regions``.
    """
    names: dict[str, str] = {}
    called: dict[str, set[str]] = defaultdict(set)
    for path in files():
        found = _Calls()
        model: File = get_model(path)
        found.visit(model)
        names |= found.names
        for caller, each in found.called.items():
            called[caller] |= each
    return names, {caller: frozenset(each) for caller, each in called.items()}


def reached(start: str) -> Iterator[str]:
    """Yield the normal names of all that a user keyword calls, directly or through other user keywords."""
    _, called = calls()
    seen: set[str] = set()
    waiting = [start]
    while waiting:
        for name in called.get(waiting.pop(), ()):
            if name not in seen:
                seen.add(name)
                waiting.append(name)
                yield name
