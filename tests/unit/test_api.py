"""The promised Python interface: its names exist and are documented, and the documents' examples use it."""

from __future__ import annotations

import ast
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest

from VpmemLibrary import api

ROOT = Path(__file__).parents[2]
REUSE = (ROOT / "docs" / "reuse.md").read_text()
SCRIPT = (ROOT / "examples" / "script.py").read_text()


def imports(code: str) -> list[tuple[str, str]]:
    """Return the modules and names that a script imports from this library."""
    return [
        (node.module or "", alias.name)
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("VpmemLibrary")
        for alias in node.names
    ]


@pytest.mark.parametrize("name", api.__all__)
def test_a_promised_name_exists_and_is_documented(name: str) -> None:
    found = getattr(api, name)
    assert inspect.getdoc(found)
    table = REUSE.partition("| name | what it is |")[2]
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", table, re.MULTILINE)


def test_no_other_name_is_promised() -> None:
    assert set(api.__all__) == set(api._MODULES)
    table = re.findall(r"^\| (`.*?) \|", REUSE.partition("| name | what it is |")[2], re.MULTILINE)
    assert {name for cell in table for name in re.findall(r"`(\w+)`", cell)} == set(api.__all__)
    other = "Labels"
    with pytest.raises(AttributeError, match="has no attribute 'Labels'"):
        getattr(api, other)


@pytest.mark.parametrize("document", ["README.md", "docs/reuse.md"])
def test_a_script_in_a_document_uses_promised_names_only(document: str) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL)
    used = [each for block in blocks for each in imports(block)]
    assert used
    assert [each for each in used if each[0] != "VpmemLibrary.api" or each[1] not in api.__all__] == []


def test_the_document_shows_the_example_as_it_is() -> None:
    assert f"```python\n{SCRIPT}```" in REUSE


def test_a_guest_takes_a_channel_of_another_project() -> None:
    assert get_type_hints(api.Guest.use_own_channel)["channel"] is api.Channel


def test_a_script_loads_no_robot_and_nothing_heavy_that_it_does_not_use() -> None:
    code = "import sys\nfrom VpmemLibrary.api import Channel, Guest, Session, RunMark, entries_of\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded & {"robot", "libvirt", "lxml", "paramiko", "rich", "psutil"} == set()
