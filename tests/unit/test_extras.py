"""What only the command line and the lab need is not needed by keywords, and is named where it is missing."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from VpmemLibrary import __main__ as command
from VpmemLibrary import extras
from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.extras import EXTRAS, require_extra
from VpmemLibrary.lab.lab import Lab

ROOT = Path(__file__).parents[2]


MODULES = {"openstacksdk": "openstack"}
"""The modules of packages that have another name."""


def declared(extra: str) -> set[str]:
    """Return the packages of an extra in pyproject.toml, with those of the extras that the extra includes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: set[str] = set()
    for requirement in project["optional-dependencies"][extra]:
        name = re.split(r"[<>=\[ ]", requirement)[0]
        if name == project["name"]:
            for other in requirement.partition("[")[2].partition("]")[0].split(","):
                found |= declared(other)
        else:
            found.add(name)
    return found


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_has_the_packages_that_are_checked(extra: str) -> None:
    assert set(EXTRAS[extra]) == {MODULES.get(package, package) for package in declared(extra)}


def test_the_developers_have_all_extras() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extra in project["optional-dependencies"]:
        assert declared(extra) <= declared("dev")


def test_an_installed_extra_passes() -> None:
    require_extra("lab", "The lab")


@pytest.mark.parametrize("module", ["no_such_module", "no_such_package.module", "VpmemLibrary.no_such_module"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(EXTRAS, "lab", ("rich", module))
    with pytest.raises(UnsupportedError) as failure:
        require_extra("lab", "The lab")
    assert str(failure.value) == (
        f"The lab needs Python packages that are not installed: {module}. "
        "Install them: pip install 'robotframework-vpmem[lab]'"
    )


def test_the_lab_checks_its_extra_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(UnsupportedError, match=r"platformdirs, qemu\.qmp.*robotframework-vpmem\[lab\]"):
        Lab()


def test_the_command_without_its_extra_exits_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == (
        "The command vpmem needs Python packages that are not installed: click, rich. "
        "Install them: pip install 'robotframework-vpmem[cli]'"
    )
    assert capsys.readouterr().out == ""
