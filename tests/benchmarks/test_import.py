"""What importing the library costs: `robot` with the library beside `robot` without it, in processor time."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from ratios import require

pytestmark = pytest.mark.benchmark
ROUNDS = 11
TEST = "*** Test Cases ***\nNothing\n    No Operation\n"


@pytest.fixture
def bytecode(tmp_path: Path) -> dict[str, str]:
    """An environment in which Python keeps its bytecode, as it does for an installed library."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}


def processor_time(suite: Path, environment: dict[str, str]) -> float:
    """Return the seconds of processor time of one run. Unlike wall time, it hardly depends on what else runs."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    robot = [sys.executable, "-m", "robot", "--output", "NONE", "--log", "NONE", "--report", "NONE"]
    subprocess.run([*robot, suite], env=environment, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_robot_with_the_library_beside_robot_alone(tmp_path: Path, bytecode: dict[str, str]) -> None:
    alone, library = tmp_path / "alone.robot", tmp_path / "library.robot"
    alone.write_text(TEST)
    library.write_text(f"*** Settings ***\nLibrary    VpmemLibrary\n\n{TEST}")
    for suite in (alone, library):
        processor_time(suite, bytecode)  # the first run writes the bytecode
    pairs = [(processor_time(library, bytecode), processor_time(alone, bytecode)) for _ in range(ROUNDS)]
    require("robot with the library against robot", [one for one, _ in pairs], [other for _, other in pairs], 1.7)
