"""The documents speak of keywords that there are."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from VpmemLibrary import VpmemLibrary

ROOT = Path(__file__).parent.parent.parent
KEYWORD = re.compile(r"`((?:[A-Z][A-Za-z]*)(?: [A-Z][A-Za-z]*)+)`(?! of)")


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_every_keyword_that_a_document_names_is_there(document: Path) -> None:
    there = {name.replace("_", " ").title() for name in VpmemLibrary().get_keyword_names()}
    assert [name for name in KEYWORD.findall(document.read_text()) if name not in there] == []


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
