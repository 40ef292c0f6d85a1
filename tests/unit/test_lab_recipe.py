"""The archives come from the machine's apt; the key is of all that shapes the image."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.lab import recipe

DATA = Path(__file__).parents[1] / "data/lab"


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose apt uses two archives of Debian's, and whose apt-helper finds the suites that are listed."""
    suites = tmp_path / "suites"
    helper = tmp_path / "apt-helper"
    helper.write_text(f'#!/bin/sh\ngrep -q -x -F "$2" {suites} && cp {tmp_path}/Release "$3"\n')
    (tmp_path / "Release").write_text("Suite: stable\n")
    helper.chmod(0o755)
    monkeypatch.setattr(recipe, "_APT_HELPER", str(helper))
    lines = (DATA / "apt-2.6.1-indextargets-debian.txt").read_text().splitlines()
    monkeypatch.setattr(recipe, "_index_targets", lambda: lines)
    monkeypatch.setattr(recipe, "_access_settings", lambda: ())
    monkeypatch.delenv("VPMEM_LAB_MIRROR", raising=False)
    suites.write_text(
        "http://archive.example/debian/dists/trixie-updates/InRelease\n"
        "http://archive.example/debian-security/dists/trixie-security/InRelease\n"
    )
    return suites


SIGNED = "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://archive.example"


def test_the_image_takes_updates_from_the_archives_of_apt_and_trusts_debian_s_keys_alone(archives: Path) -> None:
    sources = recipe.find_sources()
    assert sources.lines == (
        f"{SIGNED}/debian/ trixie main",
        f"{SIGNED}/debian/ trixie-updates main",
        f"{SIGNED}/debian-security/ trixie-security main",
    )
    assert sources.without == ()
    assert recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), sources)[-3:] == [*sources.lines]


def test_updates_that_no_archive_has_are_left_out_and_named(archives: Path) -> None:
    archives.write_text("http://archive.example/debian/dists/trixie-updates/InRelease\n")
    sources = recipe.find_sources()
    assert sources.lines == (f"{SIGNED}/debian/ trixie main", f"{SIGNED}/debian/ trixie-updates main")
    assert sources.without == ("trixie-security",)


TESTING = "http://archive.example/debian/dists/forky"
RELEASE_FILE = """\
-----BEGIN PGP SIGNED MESSAGE-----
Hash: SHA256

Origin: Debian
Label: Debian
Suite: testing
Codename: forky
Date: Fri, 30 Oct 2026 08:08:01 UTC
Valid-Until: {}
"""


@pytest.mark.parametrize(
    ("until", "expired"),
    [
        ("Fri, 06 Nov 2020 08:08:01 UTC", True),
        ("Fri, 06 Nov 2099 08:08:01 UTC", False),
        ("Fri, 06 Nov 2020 08:08:01", False),
        ("soon", False),
    ],
)
def test_a_release_file_past_its_date_is_accepted_and_named(
    archives: Path, tmp_path: Path, until: str, expired: bool
) -> None:
    archives.write_text(f"{TESTING}/InRelease\n{TESTING}-updates/InRelease\n")
    (tmp_path / "Release").write_text(RELEASE_FILE.format(until))
    sources = recipe.find_sources("forky")
    assert sources.expired == (("forky", "forky-updates") if expired else ())
    command = recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), sources, "forky")
    assert ('--aptopt=Acquire::Check-Valid-Until "false"' in command) == expired


def test_the_default_release_must_be_up_to_date(archives: Path, tmp_path: Path) -> None:
    (tmp_path / "Release").write_text(RELEASE_FILE.format("Fri, 06 Nov 2020 08:08:01 UTC"))
    sources = recipe.find_sources()
    assert sources.expired == ()
    assert "Check-Valid-Until" not in " ".join(recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), sources))


def test_a_mirror_of_the_user_s_own_is_signed_by_any_key_that_apt_trusts(
    archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VPMEM_LAB_MIRROR", "https://mirror.example/debian")
    sources = recipe.find_sources()
    assert sources.lines == (
        "deb https://mirror.example/debian trixie main",
        f"{SIGNED}/debian-security/ trixie-security main",
    )
    assert sources.without == ("trixie-updates",)


def test_a_mirror_that_is_no_uri_is_refused(archives: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VPMEM_LAB_MIRROR", "archive.example")
    with pytest.raises(InvalidValueError, match=r"VPMEM_LAB_MIRROR 'archive\.example' cannot be used"):
        recipe.find_sources()


@pytest.mark.parametrize("lines", [[], ["Ubuntu\tUbuntu\thttp://archive.example/ubuntu/"], ["\t\t"]])
def test_without_a_debian_archive_the_choice_is_mmdebstraps(
    archives: Path, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "_index_targets", lambda: lines)
    sources = recipe.find_sources()
    assert sources == recipe.Sources(())
    command = recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/t/keys"), sources)
    assert command[-2:] == ["trixie", "/t/root.tar"]


def test_a_directory_with_a_space_reaches_the_hook_whole() -> None:
    command = recipe.mmdebstrap_command(Path("/t/root.tar"), Path("/my cache/keys"), recipe.Sources(()))
    (hook,) = [part for part in command if "copy-in" in part]
    assert hook.endswith("'/my cache/keys' /tmp")


def test_each_release_has_the_packages_that_its_archive_has() -> None:
    assert "libarchive13t64" in recipe.packages("trixie")
    assert {"libarchive13", "lz4"} <= set(recipe.packages("bookworm"))
    assert not {"libarchive13t64", "cxl"} & set(recipe.packages("bookworm"))
    assert "passwd" in recipe.packages("forky")
    assert len({recipe.recipe_key(release) for release in recipe.RELEASES}) == len(recipe.RELEASES)


def test_the_key_changes_with_a_file_and_with_a_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "files"
    shutil.copytree(recipe.FILES, files)
    monkeypatch.setattr(recipe, "FILES", files)
    before = recipe.recipe_key()
    assert recipe.recipe_key() == before
    (files / "guest-init").write_text("#!/bin/sh\n")
    after = recipe.recipe_key()
    assert after != before
    monkeypatch.setattr(recipe, "packages", lambda release: (release, "fio"))
    assert recipe.recipe_key() != after


SCRIPTS = [path for path in recipe.FILES.rglob("*") if path.is_file() and path.read_bytes().startswith(b"#!")]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_shell_scripts_parse(script: Path) -> None:
    subprocess.run(["sh", "-n", str(script)], check=True)
