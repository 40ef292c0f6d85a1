"""What is installed is fixed: each package by one version and the hashes of its files, from any index."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = ("build", "dev")


def requirements(name: str) -> dict[str, str]:
    """Return the entries of a file by the packages' names."""
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    entries = re.split(r"\n(?=[a-z])", re.sub(r"^ *#.*\n", "", text, flags=re.MULTILINE))
    return {re.split(r"==", entry)[0].strip(): entry for entry in entries}


def named(requirement: str) -> str:
    """Return the package's name in a requirement, as indexes write it."""
    return re.sub(r"[-_.]+", "-", re.split(r"[<>=!~;\[ ]", requirement)[0]).lower()


@pytest.mark.parametrize("name", FILES)
def test_each_package_has_one_version_and_hashes(name: str) -> None:
    for entry in requirements(name).values():
        first, *hashes = entry.replace("\\\n", "\n").splitlines()
        assert re.match(r"[a-z0-9-]+==[0-9][^ ]* ", first), first
        assert hashes, first
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64} ?", line) for line in hashes), first


@pytest.mark.parametrize("name", FILES)
def test_no_index_is_named(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "//" not in text
    assert "--index-url" not in text


def test_all_that_the_project_depends_on_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"].values()
    wanted = [*project["project"]["dependencies"], *(one for extra in extras for one in extra)]
    assert {named(one) for one in wanted} - {project["project"]["name"]} - requirements("dev").keys() == set()
    wanted = [*project["dependency-groups"]["build"], *project["build-system"]["requires"]]
    assert {named(one) for one in wanted} - requirements("build").keys() == set()


def test_a_package_of_both_has_one_version() -> None:
    build, dev = requirements("build"), requirements("dev")
    for name in build.keys() & dev.keys():
        assert build[name].splitlines()[0] == dev[name].splitlines()[0]
