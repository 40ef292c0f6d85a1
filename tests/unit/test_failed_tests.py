"""What a run prints last: the tests that failed, and what for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / "scripts" / "failed_tests"
SETUP_FAILS = """\
*** Settings ***
Suite Setup    Fail    No host was free.

*** Test Cases ***
First
    No Operation

Second
    No Operation
"""
ONE_FAILS = """\
*** Test Cases ***
Passes
    No Operation

Fails
    Fail    one\\ntwo\\nthree\\nfour\\nfive\\nsix\\nseven\\neight

Is Skipped
    Skip    No such device.
"""


@pytest.fixture
def printed(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    suite = tmp_path / "suite.robot"
    suite.write_text(request.param)
    output = tmp_path / "output.xml"
    quiet = ("--log", "NONE", "--report", "NONE", "--console", "none", "--nostatusrc")
    subprocess.run([sys.executable, "-m", "robot", *quiet, "--output", output, suite], check=True)
    return subprocess.run([sys.executable, SCRIPT, output], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize("printed", [ONE_FAILS], indirect=True)
def test_a_failed_test_is_named_with_the_beginning_of_its_message(printed: str) -> None:
    assert printed.splitlines() == [
        "",
        "What failed",
        "failed: Fails (suite.robot)",
        *(f"    {word}" for word in ("one", "two", "three", "four", "five", "six")),
        "    ... 2 lines more in the log",
    ]


@pytest.mark.parametrize("printed", [SETUP_FAILS], indirect=True)
def test_tests_that_failed_for_one_reason_are_told_together(printed: str) -> None:
    assert printed.splitlines() == [
        "",
        "What failed",
        "failed: First (suite.robot)",
        "failed: Second (suite.robot)",
        "    Parent suite setup failed:",
        "    No host was free.",
    ]


@pytest.mark.parametrize("printed", ["*** Test Cases ***\nPasses\n    No Operation\n"], indirect=True)
def test_nothing_is_printed_where_nothing_failed(printed: str) -> None:
    assert printed == ""
