"""The drawing of docs/architecture.md shows the imports that there are."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "VpmemLibrary"
BASE = {"errors", "sizes", "agreement", "extras", "polling", "record", "visible", "version"}


def imports() -> dict[str, set[str]]:
    """Return which parts of the library each part imports; the modules at the bottom are left out."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in PACKAGE.rglob("*.py"):
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("VpmemLibrary."):
                other = (node.module or "").split(".")[1]
                if other not in {part, *BASE} and part not in {*BASE, "__init__", "__main__"}:
                    found[part].add(other)
    return found


def reduced(edges: dict[str, set[str]]) -> set[tuple[str, str]]:
    """Return the edges without those that follow from others."""

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        todo = [start]
        while todo:
            for each in edges.get(todo.pop(), set()) - seen:
                seen.add(each)
                todo.append(each)
        return seen

    return {
        (part, other)
        for part, others in edges.items()
        for other in others
        if not any(other in reach(between) for between in others - {other})
    }


def test_the_drawing_shows_the_imports_that_there_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {
        tuple(line.split(" --> "))
        for line in (line.strip() for line in text.split("```mermaid")[1].split("```")[0].splitlines())
        if " --> " in line
    }
    assert drawn == reduced(imports())


def test_each_part_is_described() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    parts = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert {part for part in parts if f"| `{part}` |" not in text} == set()
