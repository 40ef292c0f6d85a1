"""The table of scenarios: what a run proved, and the runs on hosts of another kind beside it."""

from __future__ import annotations

import io
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from robot import run
from robot.rebot import rebot  # type: ignore[import-untyped]

SCRIPT = Path(__file__).parents[2] / "scripts/scenario_table"
QUIET = {"log": None, "report": None}
CATALOGUE = {
    "ns": {"title": "Namespaces", "ns-01": "each mode"},
    "hx": {"title": "Any host", "hx-02": "cxl", "hx-06": "rough"},
}


NOT_RUN = " not run |" * 5


def row(tmp_path: Path, scenario: str, **runs: str) -> str:
    """Return a scenario's row for runs of a suite with one test a line of each run: its tag is `ns-01`."""
    outputs = []
    for name, steps in runs.items():
        (tmp_path / name).mkdir()
        suite = tmp_path / name / "modes.robot"
        tests = "".join(f"T{number}\n    {step}\n" for number, step in enumerate(steps.split(";")))
        suite.write_text(f"*** Settings ***\nTest Tags    ns-01\n\n*** Test Cases ***\n{tests}")
        outputs.append(tmp_path / name / "output.xml")
        tags = ["hx-06"] if name == "rough" else []
        run(suite, output=outputs[-1], settag=tags, console="none", **QUIET)
    merged = tmp_path / "output.xml"
    rebot(*outputs, output=merged, stdout=io.StringIO(), **QUIET)
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    tests = script["Tests"]()
    script["ExecutionResult"](merged).visit(tests)
    table: str = script["table"](tests, CATALOGUE, {})
    return next(line for line in table.splitlines() if line.startswith(f"| {scenario} "))


@pytest.mark.parametrize(
    ("rough", "said"),
    [
        ("No Operation;No Operation", "proven (2 of 2 tests passed, none failed)"),
        ("No Operation;Skip    no such device", "proven (1 of 2 tests passed, none failed)"),
        ("No Operation;Fail    broken", "**failed**"),
        ("Skip    no such device", "skipped: no such device"),
    ],
)
def test_a_run_on_a_host_of_another_kind_counts_by_all_its_tests(rough: str, said: str, tmp_path: Path) -> None:
    assert row(tmp_path, "HX-06", lab="No Operation", rough=rough) == f"| HX-06 | rough | many | {said} |{'  |' * 5}"


def test_a_scenario_is_proven_by_the_run_on_the_lab_alone(tmp_path: Path) -> None:
    found = row(tmp_path, "NS-01", lab="No Operation", rough="Skip    no such device;Fail    broken")
    assert found == f"| NS-01 | each mode | `modes` | proven |{NOT_RUN}"


def test_a_run_that_was_not_made_is_said(tmp_path: Path) -> None:
    assert row(tmp_path, "HX-06", lab="No Operation") == f"| HX-06 | rough | many | not run |{'  |' * 5}"


def test_a_run_on_lab_hosts_of_another_kind_fills_its_column_and_the_other_columns_stay(tmp_path: Path) -> None:
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    outputs = {}
    for name, step, tags in (("lab", "No Operation", []), ("cxl", "Skip    no labels", ["hx-02"])):
        suite = tmp_path / f"{name}.robot"
        suite.write_text(f"*** Test Cases ***\nModes\n    [Tags]    ns-01\n    {step}\nMore\n    No Operation\n")
        outputs[name] = tmp_path / f"{name}.xml"
        run(suite, output=outputs[name], settag=tags, console="none", **QUIET)
    lab, cxl = script["read_tests"](outputs["lab"]), script["read_tests"](outputs["cxl"], own=True)
    first: str = script["table"](lab, CATALOGUE, {"cxl": cxl})
    assert "| NS-01 | each mode | `lab` | proven | not run | skipped | not run | not run | not run |" in first
    assert "| HX-02 | cxl | many | proven (1 of 2 tests passed, none failed) |  |  |  |  |  |" in first
    assert script["table"](lab, CATALOGUE, {}, first) == first
    nothing = script["Tests"]()
    assert script["table"](nothing, CATALOGUE, {"cxl": nothing}, first, {"lab", "cxl"}) == first
    assert "| NS-01 | each mode |  | not run | not run |" in script["table"](
        nothing, CATALOGUE, {"cxl": nothing}, first
    )


@pytest.mark.parametrize(
    ("cell", "step", "said"),
    [
        ("proven", "No Operation", "proven"),
        ("proven", "Fail", "**failed**"),
        ("**failed**", "No Operation", "**failed**"),
    ],
)
def test_a_run_on_a_cloud_alone_keeps_what_the_lab_has_shown(cell: str, step: str, said: str, tmp_path: Path) -> None:
    suite = tmp_path / "two_hosts.robot"
    suite.write_text(f"*** Test Cases ***\nKilled\n    [Tags]    ns-01\n    {step}\n")
    run(suite, output=tmp_path / "cloud.xml", console="none", **QUIET)
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    cloud = script["read_tests"](tmp_path / "cloud.xml")
    page = f"| NS-01 | each mode | `cxl`, `killed_runs` | {cell} |{NOT_RUN}"
    found: str = script["table"](cloud, CATALOGUE, {}, page, {"lab"})
    assert f"| NS-01 | each mode | `cxl`, `killed_runs`, `two_hosts` | {said} |{NOT_RUN}" in found


@pytest.mark.parametrize(
    ("cell", "step", "said"),
    [
        ("no test failed; 3 of 3 suites were run", "No Operation", "no test failed; 3 of 3 suites were run"),
        ("not run", "No Operation", "no test failed; 1 of 3 suites were run; not run: `claims`, `crash`"),
        ("not run", "Fail    no", "**failed** in `modes`; 1 of 3 suites were run; not run: `claims`, `crash`"),
        (
            "**failed** in `crash`, `modes`; 3 of 3 suites were run",
            "No Operation",
            "**failed** in `crash`; 3 of 3 suites were run",
        ),
        (
            "no test failed; 1 of 3 suites were run; not run: `claims`, `modes`",
            "Skip    no",
            "no test failed; 2 of 3 suites were run; not run: `claims`",
        ),
        (
            "**failed** in `modes`, `gone`; 3 of 4 suites were run; not run: `lost`",
            "No Operation",
            "no test failed; 3 of 3 suites were run",
        ),
    ],
)
def test_runs_of_some_suites_on_hosts_of_another_kind_add_up(cell: str, step: str, said: str, tmp_path: Path) -> None:
    suite = tmp_path / "modes.robot"
    suite.write_text(f"*** Test Cases ***\nModes\n    {step}\nMore\n    No Operation\n")
    run(suite, output=tmp_path / "cxl.xml", settag=["hx-02"], console="none", **QUIET)
    script: dict[str, Any] = runpy.run_path(str(SCRIPT))
    cxl = script["read_tests"](tmp_path / "cxl.xml", own=True)
    assert script["part"](cxl.by_tag["hx-02"], cell, {"claims", "crash", "modes"}) == said
    page = f"| HX-02 | cxl | many | {cell} |  |  |  |  |  |"
    found: str = script["table"](script["Tests"](), CATALOGUE, {"cxl": cxl}, page, {"lab", "cxl"})
    (row,) = (line for line in found.splitlines() if line.startswith("| HX-02 "))
    assert re.fullmatch(
        r"\| HX-02 \| cxl \| many \| (no test failed|\*\*failed\*\* in .*); .* suites were run.*( \| ){6}", row + " "
    )
