"""The library as another project has it: from its wheel, in an environment of its own, without the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path
from zipfile import ZipFile

import pytest
from host_under_test import labeled
from packaging.requirements import Requirement
from robot.api import ExecutionResult

from VpmemLibrary.host.host import Host
from VpmemLibrary.lab.recipe import FILES, recipe_key
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ROOT / "VpmemLibrary"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-build-isolation"]
    subprocess.run([*pip, "--no-deps", "--wheel-dir", directory, ROOT], check=True)
    return next(directory.glob("*.whl"))


def with_dependencies(names: list[str]) -> set[Distribution]:
    """Return the installed packages of these names, with all that they need. Optional dependencies are left out."""
    found: dict[str, Distribution] = {}
    while names:
        name = names.pop()
        if name not in found:
            found[name] = distribution(name)
            needed = [Requirement(line) for line in found[name].requires or ()]
            names += [each.name for each in needed if not each.marker or each.marker.evaluate({"extra": ""})]
    return set(found.values())


def environment(wheel: Path, directory: Path, *extras: str) -> Path:
    """Create an environment with the wheel, what it depends on, and some of its extras. Return its interpreter.

    The packages are those of this environment, as symbolic links. No other package of this environment is there.
    """
    venv.create(directory, with_pip=False, symlinks=True)
    found = directory / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(directory), "platbase": str(directory)}))
    pip = [sys.executable, "-m", "pip", "--python", str(found), "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--ignore-installed", wheel], check=True)
    (metadata,) = site.glob("robotframework_vpmem-*.dist-info")
    needed = [Requirement(line) for line in Distribution.at(metadata).requires or ()]
    markers = [{"extra": extra} for extra in ("", *extras)]
    names = [one.name for one in needed if not one.marker or any(map(one.marker.evaluate, markers))]
    for package in with_dependencies([name for name in names if name != "robotframework-vpmem"]):
        for top in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (site / top).exists():
                (site / top).symlink_to(str(package.locate_file(top)))
    return found


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment without extras, as a project has it that needs only keywords."""
    return environment(wheel, tmp_path_factory.mktemp("environment"))


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


def test_libdoc_works_with_the_extra_for_it(wheel: Path, tmp_path: Path) -> None:
    python = environment(wheel, tmp_path / "environment", "docs")
    done = run(python, "-m", "robot.libdoc", "VpmemLibrary", "library.html", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert '"name": "All Views Should Agree"' in (tmp_path / "library.html").read_text()


@pytest.mark.parametrize("module", ["click", "rich", "platformdirs", "qemu.qmp", "markdown", "psutil", "pytest"])
def test_without_extras_no_other_package_is_there(python: Path, tmp_path: Path, module: str) -> None:
    done = run(python, "-c", f"import {module}", cwd=tmp_path)
    assert f"No module named '{module.partition('.')[0]}'" in done.stderr


def test_the_command_says_which_extra_it_needs(python: Path, tmp_path: Path) -> None:
    for command in ([python.parent / "vpmem"], [python, "-m", "VpmemLibrary"]):
        done = subprocess.run([*command, "lab", "up"], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert done.stderr.splitlines() == [
            "The command vpmem needs Python packages that are not installed: click, rich. "
            "Install them: pip install 'robotframework-vpmem[cli]'"
        ]


def test_the_lab_says_which_extra_it_needs(wheel: Path, tmp_path: Path) -> None:
    python = environment(wheel, tmp_path / "environment", "cli")
    done = run(python, "-m", "VpmemLibrary", "lab", "status", cwd=tmp_path)
    assert done.returncode == 1
    assert "not installed: platformdirs, qemu.qmp. Install them: pip install 'robotframework-vpmem[lab]'" in done.stderr


def test_the_lab_runs_with_its_extra(wheel: Path, tmp_path: Path) -> None:
    python = environment(wheel, tmp_path / "environment", "lab")
    done = run(python, "-m", "VpmemLibrary", "lab", "status", "--json", cwd=tmp_path)
    assert '"state_directory"' in done.stdout, done.stderr


def test_the_script_of_the_documents_runs_on_a_host(
    python: Path, lab_hosts: Path, lab_transport: SshTransport, tmp_path: Path
) -> None:
    host = labeled(Host("lab", lab_transport))
    before = host.ndctl.inventory()
    done = run(python, ROOT / "examples" / "script.py", lab_hosts, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.strip().endswith(", devdax, 62MiB, intact")
    assert host.ndctl.inventory() == before


def test_a_library_of_another_project_works_on_the_open_hosts(python: Path, tmp_path: Path) -> None:
    example = ROOT / "examples" / "extending"
    options = ("--pythonpath", example, "--outputdir", tmp_path)
    done = run(python, "-m", "robot", *options, example / "storage.robot", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert ExecutionResult(tmp_path / "output.xml").statistics.total.passed == 1


def test_an_own_channel_reaches_a_guest(python: Path, tmp_path: Path) -> None:
    shutil.copy(ROOT / "examples" / "extending" / "command_channel.py", tmp_path)
    (tmp_path / "script.py").write_text("""
from command_channel import CommandChannel

from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.transport.local import LocalTransport

host = LocalTransport()
guest = Guest(host, LibvirtLink(host), "a")
guest.use_own_channel("command", CommandChannel("a", host, ["sh", "-c"]))
print(guest.answers(), guest.transport.run(["echo", "from the guest"]).text, guest.channel)
""")
    done = run(python, "script.py", cwd=tmp_path)
    assert done.stdout.split() == ["True", "from", "the", "guest", "command"], done.stderr


def test_another_project_passes_on_a_host(python: Path, lab_hosts: Path, tmp_path: Path) -> None:
    project = ROOT / "examples" / "downstream"
    options = ("--variable", f"HOSTS:{lab_hosts}", "--outputdir", tmp_path)
    done = run(python, "-m", "robot", *options, project, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    result = ExecutionResult(tmp_path / "output.xml")
    assert result.statistics.total.passed == 3
    assert result.statistics.total.skipped == 0
