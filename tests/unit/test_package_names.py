"""Every package that the library tells users to install exists.

The names for Debian and Ubuntu are looked up in the archive of this machine. The names for Fedora and SUSE are compared
with those that were looked up once, with their sources (tests/data/rpm_packages.json).
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.packages import PACKAGES, QEMU_PACKAGES
from VpmemLibrary.host.preflight import check_facts

ROOT = Path(__file__).parents[2]
KNOWN = json.loads((ROOT / "tests" / "data" / "rpm_packages.json").read_text())
FAMILIES = {"debian": ("debian", "Debian GNU/Linux 12"), "fedora": ("fedora", "Fedora"), "suse": ("suse", "openSUSE")}

# A command as a message or a document has it; options and what comes in braces are no package.
COMMANDS = {
    "debian": re.compile(r"\bapt(?:-get)? install((?: +(?:-[\w-]+|[a-z0-9][a-z0-9.+-]+))+)"),
    "fedora": re.compile(r"\bdnf install((?: +(?:-[\w-]+|[a-z0-9][a-z0-9.+-]+))+)"),
    "suse": re.compile(r"\bzypper install((?: +(?:-[\w-]+|[a-z0-9][a-z0-9.+-]+))+)"),
}
HINT = re.compile(r"\b(?:install|package) ([a-z0-9.+-]+) on the host")


def texts() -> list[str]:
    """Everything that users read, and the scripts that install what the project needs."""
    files = [ROOT / "README.md", ROOT / ".ci" / "run", *(ROOT / "docs").glob("*.md")]
    for folder in ("VpmemLibrary", "suites", "resources", "scripts", "examples"):
        files += [
            each
            for each in (ROOT / folder).rglob("*")
            if each.is_file() and each.suffix in (".py", ".sh", ".robot", ".resource", ".md", "")
        ]
    return [each.read_text("utf-8", "replace") for each in files if each.is_file()]


def packages_of_scripts() -> set[str]:
    setup = (ROOT / "scripts" / "setup").read_text()
    return set(re.search(r"^packages=\((.*?)\)", setup, re.MULTILINE | re.DOTALL)[1].split())  # type: ignore[index]


def told(family: str) -> set[str]:
    """Return every package that users of a family of distributions are told to install."""
    column = list(FAMILIES).index(family)
    names = {columns[column] for table in (PACKAGES, QEMU_PACKAGES) for columns in table.values()}
    for release in FAMILIES[family][1:]:
        for item in check_facts(HostFacts(distribution_family=(FAMILIES[family][0],), distribution_name=release)).items:
            names |= named(family, item.fix)
    for text in texts():
        names |= named(family, text)
        names |= set(HINT.findall(text)) if family == "debian" else set()
    return names | (packages_of_scripts() if family == "debian" else set())


def named(family: str, text: str) -> set[str]:
    found = (match[1].split() for match in COMMANDS[family].finditer(text))
    return {name.rstrip(".") for names in found for name in names if not name.startswith("-")}


def test_the_search_finds_names() -> None:
    assert told("debian") >= {"ndctl", "netcat-openbsd", "mmdebstrap", "openssh-client", "xfsprogs", "gcc"}
    assert told("fedora") >= {"ndctl", "daxio", "nmap-ncat"}
    assert told("suse") >= {"ndctl", "netcat-openbsd"}


def test_every_package_for_debian_is_in_the_archive() -> None:
    if shutil.which("apt-cache") is None:
        pytest.skip("apt-cache is not installed: this is neither Debian nor Ubuntu")
    names = sorted(told("debian"))
    shown = subprocess.run(["apt-cache", "show", *names], capture_output=True, check=False, text=True)
    there = set(re.findall(r"^Package: (\S+)$", shown.stdout, re.MULTILINE))
    if "ndctl" not in there:
        pytest.skip("apt has no package lists, or lists without ndctl: run apt-get update")
    assert [name for name in names if name not in there] == []


@pytest.mark.parametrize("family", ["fedora", "suse"])
def test_every_package_for_other_distributions_was_looked_up(family: str) -> None:
    assert [name for name in sorted(told(family)) if name not in KNOWN[family]] == []
