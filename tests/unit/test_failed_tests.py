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


TEARDOWN_FAILS = """\
*** Settings ***
Suite Teardown    Fail    Something leaked.

*** Test Cases ***
Passes
    No Operation

Is Skipped
    Skip    No such device.
"""
ALL_SKIPPED = TEARDOWN_FAILS.replace("No Operation", "Skip    No such device.")
NO_LIBRARY = """\
*** Settings ***
Library    no_such_library

*** Test Cases ***
Fails
    Fail    because
"""
HOSTILE = """\
*** Test Cases ***
Fails
    Fail    a${{chr(27)}}[2J${{chr(0x9b)}}${{chr(0x202e)}}\\nfailed: Another (suite.robot)
"""


def run_robot(directory: Path, text: str) -> Path:
    suite = directory / "suite.robot"
    suite.write_text(text)
    output = directory / "output.xml"
    quiet = ("--log", "NONE", "--report", "NONE", "--console", "none", "--nostatusrc")
    subprocess.run([sys.executable, "-m", "robot", *quiet, "--output", output, suite], check=True, capture_output=True)
    return output


def failed_tests(output: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, output], check=False, capture_output=True, text=True)


@pytest.fixture
def printed(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    done = failed_tests(run_robot(tmp_path, request.param))
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


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
def test_tests_that_failed_for_one_reason_are_reported_together(printed: str) -> None:
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


@pytest.mark.parametrize("printed", [TEARDOWN_FAILS], indirect=True)
def test_a_suite_teardown_that_failed_is_reported_with_its_tests(printed: str) -> None:
    assert printed.splitlines() == [
        "",
        "What failed",
        "failed: Passes (suite.robot)",
        "    Parent suite teardown failed:",
        "    Something leaked.",
    ]


def test_a_teardown_after_skipped_tests_is_reported_and_fails_the_run(tmp_path: Path) -> None:
    """Robot Framework itself counts no failure there, whatever leaked."""
    done = failed_tests(run_robot(tmp_path, ALL_SKIPPED))
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "",
        "What failed",
        "failed: teardown of Suite (suite.robot)",
        "    Something leaked.",
    ]


@pytest.mark.parametrize("text", [TEARDOWN_FAILS, SETUP_FAILS, ALL_SKIPPED])
def test_a_result_that_rebot_wrote_is_reported_in_the_same_way(tmp_path: Path, text: str) -> None:
    output, merged = run_robot(tmp_path, text), tmp_path / "merged.xml"
    quiet = ("--log", "NONE", "--report", "NONE", "--nostatusrc")
    rebot = [sys.executable, "-m", "robot.rebot", *quiet, "--output", str(merged), str(output)]
    subprocess.run(rebot, check=True, capture_output=True)
    first, second = failed_tests(output), failed_tests(merged)
    assert first.stdout
    assert (first.stdout, first.returncode) == (second.stdout, second.returncode)


@pytest.mark.parametrize("printed", [NO_LIBRARY], indirect=True)
def test_an_error_of_the_run_comes_last(printed: str) -> None:
    lines = printed.splitlines()
    assert lines[:6] == ["", "What failed", "failed: Fails (suite.robot)", "    because", "", "Errors of the run"]
    assert lines[6] == "error of: the run"
    assert "no_such_library" in lines[7]


@pytest.mark.parametrize("printed", [HOSTILE], indirect=True)
def test_a_message_neither_steers_the_terminal_nor_forges_a_line(printed: str) -> None:
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert [line for line in printed.splitlines() if line.startswith("failed")] == ["failed: Fails (suite.robot)"]


def test_a_run_without_a_result_is_reported(tmp_path: Path) -> None:
    done = failed_tests(tmp_path / "absent.xml")
    assert (done.returncode, done.stderr) == (1, "")
    assert "There is no result" in done.stdout
    assert "absent.xml" in done.stdout
