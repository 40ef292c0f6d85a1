"""The documents name keywords, files, commands and tests that exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest

from VpmemLibrary import VpmemLibrary
from VpmemLibrary.cli.main import main

ROOT = Path(__file__).parent.parent.parent
KEYWORD = re.compile(r"`((?:[A-Z][A-Za-z]*)(?: [A-Z][A-Za-z]*)+)`(?! of)")


PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))

LINK = re.compile(r"\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
CODE = re.compile(r"^```.*?^```|`[^`]+`", re.MULTILINE | re.DOTALL)
FOLDERS = "VpmemLibrary|docs|suites|resources|scripts|tests|examples|requirements"
FILE = re.compile(rf"(?<![\w./-])(?:(?:{FOLDERS})/[\w./*-]*\w|\w[\w/-]*\.(?:md|py|sh)\b)")
MADE = re.compile(r"(?<![\w-])make ((?:-k )?[a-z][a-z -]*)")


def code(page: Path) -> str:
    """Return the code in a page: blocks and spans."""
    return "\n".join(CODE.findall(page.read_text()))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@every_page
def test_every_link_leads_to_a_page_and_its_heading(page: Path) -> None:
    for target, heading in LINK.findall(page.read_text()):
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if heading:
            headings = re.findall(r"^#+ (.*)", linked.read_text(), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
            assert heading in anchors, f"{target}#{heading}"


@every_page
def test_every_file_that_a_page_names_is_there(page: Path) -> None:
    sources = [str(path) for path in (ROOT / "VpmemLibrary").rglob("*.*")]
    missing = {
        name
        for name in FILE.findall(code(page))
        if not list(ROOT.glob(name))
        and not (page.parent / name).exists()
        and not any(source.endswith(f"/{name}") for source in sources)
    }
    assert missing == set()


@every_page
def test_every_target_of_make_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for words in MADE.findall(code(page)) for target in words.removeprefix("-k ").split()}
    assert named - targets == set()


@every_page
def test_every_command_of_vpmem_that_a_page_names_is_there(page: Path) -> None:
    for words in re.findall(r"(?<![\w-])vpmem((?:[ \n]+[a-z][a-z-]*)+)", code(page)):
        command: click.Command | None = main
        for word in words.split():
            if isinstance(command, click.Group):
                command = command.get_command(click.Context(command), word)
        assert command is not None, words


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_keyword_that_a_page_names_is_there(page: Path) -> None:
    there = {name.replace("_", " ").title() for name in VpmemLibrary().get_keyword_names()}
    assert [name for name in KEYWORD.findall(page.read_text()) if name not in there] == []


def test_the_page_of_scenarios_has_all_of_the_catalogue() -> None:
    catalogue = tomllib.loads((ROOT / "docs" / "scenarios.toml").read_text())
    known = {tag.upper() for group in catalogue.values() for tag in group if tag != "title"}
    listed = re.findall(r"^\| ([A-Z]{2}-\d{2}) \|", (ROOT / "docs" / "scenarios.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(known)


def test_every_scenario_that_a_suite_is_tagged_with_is_in_the_catalogue() -> None:
    catalogue = tomllib.loads((ROOT / "docs" / "scenarios.toml").read_text())
    known = {tag for group in catalogue.values() for tag in group}
    tagged = {
        tag
        for suite in sorted((ROOT / "suites").rglob("*.robot"))
        for line in re.findall(r"(?:\[Tags\]|^Test Tags) +(.*)", suite.read_text(), re.MULTILINE)
        for tag in re.findall(r"\b[a-z]{2}-[0-9]{2}\b", line)
    }
    assert tagged
    assert tagged - known == set()


def test_every_method_of_avocados_pmem_has_a_keyword() -> None:
    rows = re.findall(r"^\| (`.*?) \| (.*?) \|", (ROOT / "docs" / "avocado-pmem.md").read_text(), re.MULTILINE)
    keywords = {method: KEYWORD.findall(ours) for methods, ours in rows for method in re.findall(r"`(\w+)", methods)}
    assert {method for method, ours in keywords.items() if not ours} == set()
    assert set(keywords) >= {
        *("check_subcmd", "run_ndctl_list", "run_ndctl_list_val", "run_daxctl_list", "set_dax_memory_online"),
        *("set_dax_memory_offline", "reconfigure_dax_device", "get_slot_count", "is_region_legacy", "check_buses"),
        *("enable_region", "disable_region", "enable_namespace", "disable_namespace", "create_namespace"),
        *("destroy_namespace", "write_infoblock", "read_infoblock"),
    }


def test_the_table_of_hosts_names_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "your-own-host.md").read_text()
    table = text.partition("## What your host may be like")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(test_\w+)`", table))
    there = {each.stem for each in (ROOT / "tests").rglob("test_*.py")}
    assert len(named) > 10
    assert named - there == set()
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    assert all(re.search(r"`test_\w+`|\blab\b", row.rpartition("|")[0].rpartition("|")[2]) for row in rows)
