"""The rules for the suites: scenario ids, no Python and no shell in tests, and no keyword that two suites define."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from robot.api import get_model, get_resource_model
from robot.api.parsing import (
    Documentation,
    IfHeader,
    Keyword,
    KeywordSection,
    Tags,
    TestCase,
    TestCaseName,
    TestTags,
    Token,
)
from robot.parsing.model.statements import Statement  # type: ignore[import-untyped]

ROOT = Path(__file__).parents[2]
SUITES = sorted((ROOT / "suites").rglob("*.robot"))
RESOURCES = sorted((ROOT / "resources").glob("*.resource"))
WORKERS = sorted((ROOT / "resources/workers").glob("*.robot"))
JOINTS = re.compile(r"&&|\|\||;|\s\|\s|\$\(")
HEREIN = re.compile(r"[$@&]\{\{")
OPERATORS = re.compile(r"[$@&]\{[^{}]* [-+*/%]+ [^{}]*\}")
CALLS = re.compile(r"[$@&]\{[^{}]*\([^{}]*\}")
SHELL = re.compile(r"&&|\|\||\$\(|\d?>&\d|>\"|<\"| \| (?!ns_2$)|;\s")
SHELL_PROGRAMS = {"sh", "bash", "dash"}
HOSTILE = {"hostile_names.robot"}
"""The suites whose texts look like shell, because they are the names that a host is given."""


def bodies(suite: Path) -> dict[str, list[Statement]]:
    """Return the statements of each test, without its name, documentation and tags."""
    left_out = (Documentation, Tags, TestCaseName)
    return {
        test.name: [node for node in ast.walk(test) if isinstance(node, Statement) and not isinstance(node, left_out)]
        for test in ast.walk(get_model(suite))
        if isinstance(test, TestCase)
    }


def keywords(path: Path) -> Iterator[Keyword]:
    model = get_resource_model(path) if path.suffix == ".resource" else get_model(path)
    for section in model.sections:
        if isinstance(section, KeywordSection):
            yield from (node for node in section.body if isinstance(node, Keyword))


def catalogue() -> dict[str, object]:
    """Return the ids of the catalogue with their texts."""
    topics = tomllib.loads((ROOT / "docs" / "scenarios.toml").read_text())
    return {
        name: text for topic in topics.values() for name, text in topic.items() if re.fullmatch(r"[a-z]{2}-\d\d", name)
    }


def ids_of_tests(suite: Path) -> dict[str, set[str]]:
    """Return the tags of each test of a suite, with those of its settings."""
    of_suite: set[str] = set()
    own: dict[str, set[str]] = {}
    for node in ast.walk(get_model(suite)):
        if isinstance(node, TestTags):
            of_suite.update(node.values)
        if isinstance(node, TestCase):
            own[node.name] = {tag for each in node.body if isinstance(each, Tags) for tag in each.values}
    return {name: tags | of_suite for name, tags in own.items()}


def problems_of(statement: Statement) -> Iterator[str]:
    """Return what a reader of a test would need Python or a shell for."""
    condition = isinstance(statement, IfHeader)
    for token in statement.tokens:
        if token.type == Token.KEYWORD and token.value.lower().replace(" ", "") in ("evaluate", "builtin.evaluate"):
            yield "Evaluate"
        if token.type not in (Token.ARGUMENT, Token.NAME, Token.VARIABLE):
            continue
        if HEREIN.search(token.value):
            yield f"Python expression {token.value!r}"
        if OPERATORS.search(token.value) or CALLS.search(token.value):
            yield f"Python in a variable {token.value!r}"
        if not condition and SHELL.search(token.value):
            yield f"shell {token.value!r}"
    values = [token.value for token in statement.tokens if token.type == Token.ARGUMENT]
    for program, option in pairwise(values):
        if program in SHELL_PROGRAMS and option == "-c":
            yield f"shell {program} -c"


def test_suites_and_catalogue_are_found() -> None:
    assert len(SUITES) > 40
    assert len(RESOURCES) > 3
    assert len(catalogue()) > 100
    assert sum(len(bodies(suite)) for suite in SUITES) > 250


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_the_body_of_a_test_has_neither_python_nor_shell(suite: Path) -> None:
    found = [
        f"{suite.name}:{statement.lineno}: {name}: {problem}"
        for name, statements in bodies(suite).items()
        for statement in statements
        for problem in problems_of(statement)
        if not (suite.name in HOSTILE and problem.startswith("shell"))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "Should Be Equal    ${{len($x)}}    1",
        "VAR    @{list} =    @{{[1, 2]}}",
        "${x} =    Evaluate    1 + 1",
        "Log    ${x + 1}",
        "Log    ${x.text.strip()}",
        "Run On Host    sh    -c    true",
        "Log    a && b",
        "Log    a | b",
        "Log    $(date)",
    ],
)
def test_python_and_shell_are_recognised(line: str, tmp_path: Path) -> None:
    suite = tmp_path / "suite.robot"
    suite.write_text(f"*** Test Cases ***\nName\n    {line}\n")
    assert [problem for statement in bodies(suite)["Name"] for problem in problems_of(statement)]


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_each_test_has_the_id_of_a_scenario(suite: Path) -> None:
    known = set(catalogue())
    without = [name for name, tags in ids_of_tests(suite).items() if not tags & known]
    assert without == []


@pytest.mark.parametrize("suite", SUITES, ids=lambda path: path.name)
def test_each_id_of_a_test_is_in_the_catalogue(suite: Path) -> None:
    tags = set().union(*ids_of_tests(suite).values())
    assert {tag for tag in tags if re.fullmatch(r"[a-z]{2}-\d\d", tag)} <= set(catalogue())


def test_each_scenario_has_a_test() -> None:
    """The scenarios of `hx` are whole runs of suites on hosts of another kind, which `make acceptance` tags."""
    tags = {tag for suite in SUITES for tags in ids_of_tests(suite).values() for tag in tags}
    assert {name for name in catalogue() if not name.startswith("hx-")} - tags == set()


def test_no_keyword_is_defined_twice() -> None:
    places = defaultdict(list)
    for path in [*SUITES, *RESOURCES]:
        for keyword in keywords(path):
            places[keyword.name.lower().replace(" ", "").replace("_", "")].append(f"{keyword.name} ({path.name})")
    assert [where for where in places.values() if len(where) > 1] == []


@pytest.mark.parametrize("path", [*SUITES, *RESOURCES, *WORKERS], ids=lambda path: path.name)
def test_shell_of_more_than_one_command_is_in_a_file(path: Path) -> None:
    """A keyword may have a line of shell with one joint of commands, such as `echo out; exit 7`."""
    found = [
        f"{path.name}:{token.lineno}: {keyword.name}: {token.value!r}"
        for keyword in keywords(path)
        for statement in ast.walk(keyword)
        if isinstance(statement, Statement) and not isinstance(statement, Documentation)
        for token in statement.tokens
        if token.type == Token.ARGUMENT and len(JOINTS.findall(token.value)) > 2
    ]
    assert found == []


def test_every_script_is_used() -> None:
    texts = "".join(path.read_text() for path in [*SUITES, *RESOURCES, *(ROOT / "resources/workers").glob("*.robot")])
    scripts = [*(ROOT / "resources/scripts").glob("*.sh")]
    stand_ins = [*(ROOT / "resources/stand_ins").glob("*.sh")]
    assert [path.name for path in scripts if path.name not in texts] == []
    assert [path.name for path in stand_ins if not re.search(rf"\b{path.stem}\b", texts)] == []
    assert scripts
    assert stand_ins
