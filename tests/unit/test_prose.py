"""The prose of the project keeps to plain words; see *How we write* in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

INSTEAD = {
    r"\b(tell|tells|told|telling)\b": "report, describe, notify, return",
    r"\bmend(s|ed|ing)?\b": "fix",
    r"\b(anew|afresh)\b": "again, freshly, new",
    r"\b(whoever|whatever|whichever)\b": "any X; the X that",
    r"\banother one\b": "another worker, another host ...",
    r"\b(lie|lies|lay) on\b": "is backed by, is on",
    r"\bin words\b": "explicitly",
    r"\bat hand\b": "available",
    r"\ball the same\b": "anyway",
    r"\blooked into\b": "inspected",
    r"\b(has|have|had|same) (the |a |one )?face\b|\bface of\b": "interface",
    r"\bsettle[sd]?\b": "configure, decide",
    r"\bwhat is left\b": "leftovers, the rest",
    r"\bcannot be(?=[.;,:)]|$)": "is invalid",
}
"""Words that make a reader stop, each with plainer ones."""


def python_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Return the docstrings and comments of a module, with their lines."""
    text = path.read_text()
    for node in ast.walk(ast.parse(text)):
        for each in getattr(node, "body", []) if isinstance(getattr(node, "body", None), list) else []:
            if (
                isinstance(each, ast.Expr)
                and isinstance(each.value, ast.Constant)
                and isinstance(each.value.value, str)
            ):
                yield each.lineno, each.value.value
    with path.open("rb") as file:
        for token in tokenize.tokenize(file.readline):
            if token.type == tokenize.COMMENT:
                yield token.start[0], token.string


def robot_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Return the documentation, the comments and the names of test cases of a suite or resource."""
    from robot.api import Token, get_tokens  # noqa: PLC0415

    documentation = False
    for token in get_tokens(path):
        if token.type in (Token.COMMENT, Token.TESTCASE_NAME):
            yield token.lineno, token.value
        elif token.type == Token.DOCUMENTATION:
            documentation = True
        elif token.type == Token.ARGUMENT and documentation:
            yield token.lineno, token.value
        elif token.type not in (Token.SEPARATOR, Token.EOL, Token.CONTINUATION):
            documentation = False


def other_prose(path: Path) -> Iterator[tuple[int, str]]:
    """Return the lines of a page, or the comments of a shell script."""
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if path.suffix == ".md" or line.lstrip().startswith("#"):
            yield number, line


def places() -> list[Path]:
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "VpmemLibrary").rglob("*.sh")]
    found += [*(ROOT / "VpmemLibrary").rglob("*.py"), *(ROOT / "suites").glob("*.robot")]
    found += [*(ROOT / "resources").rglob("*.r*"), *(ROOT / "examples").rglob("*.r*")]
    return sorted(path for path in found if path.is_file())


@pytest.mark.parametrize("path", places(), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_words_are_plain(path: Path) -> None:
    read = {".py": python_prose, ".robot": robot_prose, ".resource": robot_prose}.get(path.suffix, other_prose)
    found = [
        f"{path.relative_to(ROOT)}:{number}: {match[0]!r} (better: {better})"
        for number, text in read(path)
        for words, better in INSTEAD.items()
        for match in re.finditer(words, re.sub(r"`[^`]*`", "", text), re.IGNORECASE)
    ]
    assert found == []
