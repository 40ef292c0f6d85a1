"""The mirror comes from the machine's apt; the key is of all that shapes the image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.lab import recipe

DATA = Path(__file__).parents[1] / "data/lab"


def test_the_mirror_is_the_debian_archive_of_apt() -> None:
    lines = (DATA / "apt-2.6.1-indextargets-debian.txt").read_text().splitlines()
    assert recipe.debian_archive(lines) == "http://archive.example/debian/"


@pytest.mark.parametrize("lines", [[], ["Ubuntu\tUbuntu\thttp://archive.example/ubuntu/"], ["\t\t"]])
def test_without_a_debian_archive_the_choice_is_mmdebstraps(lines: list[str]) -> None:
    assert recipe.debian_archive(lines) is None
    assert recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), None)[-2:] == ["trixie", "/t/root.tar"]


def test_the_environment_overrides_the_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_LAB_MIRROR", "https://archive.example/debian")
    assert recipe.find_mirror() == "https://archive.example/debian"
    monkeypatch.setenv("VPMEM_LAB_MIRROR", "archive.example")
    with pytest.raises(InvalidValueError, match=r"VPMEM_LAB_MIRROR 'archive\.example' cannot be used"):
        recipe.find_mirror()


def test_a_directory_with_a_space_reaches_the_hook_whole() -> None:
    command = recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/my cache/keys"), "https://archive.example/debian")
    (hook,) = [part for part in command if "copy-in" in part]
    assert hook.endswith("'/my cache/keys' /tmp")
    assert command[-1] == "https://archive.example/debian"


def test_the_key_changes_with_a_file_and_with_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "files"
    shutil.copytree(recipe.FILES, files)
    monkeypatch.setattr(recipe, "FILES", files)
    before = recipe.recipe_key()
    assert recipe.recipe_key() == before
    (files / "guest-init").write_text("#!/bin/sh\n")
    after = recipe.recipe_key()
    assert after != before
    monkeypatch.setattr(recipe, "PACKAGES", (*recipe.PACKAGES, "fio"))
    assert recipe.recipe_key() != after


SCRIPTS = [path for path in recipe.FILES.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shell_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
