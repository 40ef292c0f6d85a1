"""The library as another project has it: from its wheel, in an environment of its own, without the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from zipfile import ZipFile

import pytest
from robot.api import ExecutionResult

from VpmemLibrary.lab.recipe import FILES, recipe_key

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "VpmemLibrary"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "--wheel-dir", directory, ROOT], check=True)
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; the dependencies are those of this environment.

    A directory that a .pth file adds has its own .pth files left unread, so the editable checkout stays out.
    """
    directory = tmp_path_factory.mktemp("environment")
    venv.create(directory, with_pip=False, symlinks=True)
    found = directory / "bin" / "python"
    paths = {"base": str(directory), "platbase": str(directory)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", wheel], check=True)
    return found


def run(python: Path, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([python, *arguments], cwd=cwd, env=clean, capture_output=True, text=True, check=False)


def test_the_wheel_carries_all_of_the_library(wheel: Path) -> None:
    there = {
        str(path.relative_to(ROOT)) for path in PACKAGE.rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    with ZipFile(wheel) as archive:
        carried = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert carried == there
    assert str(FILES.relative_to(ROOT) / "guest-init") in carried
    assert "VpmemLibrary/py.typed" in carried


def test_the_library_is_the_wheels_and_makes_the_same_image(python: Path, tmp_path: Path) -> None:
    code = "import VpmemLibrary as it; from VpmemLibrary.lab.recipe import recipe_key; print(it.__file__, recipe_key())"
    done = run(python, "-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    source, key = done.stdout.split()
    assert Path(source).is_relative_to(python.parent.parent)
    assert key == recipe_key()


def test_libdoc_works_from_the_wheel(python: Path, tmp_path: Path) -> None:
    done = run(python, "-m", "robot.libdoc", "VpmemLibrary", "library.html", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"name": "All Views Should Agree"' in (tmp_path / "library.html").read_text()


def test_another_project_passes_on_a_host(python: Path, lab_hosts: Path, tmp_path: Path) -> None:
    project = ROOT / "examples" / "downstream"
    options = ("--variable", f"HOSTS:{lab_hosts}", "--outputdir", tmp_path)
    done = run(python, "-m", "robot", *options, project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = ExecutionResult(tmp_path / "output.xml")
    assert result.statistics.total.passed == 3
    assert result.statistics.total.skipped == 0
