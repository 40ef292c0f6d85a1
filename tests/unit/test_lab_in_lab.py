"""The lab in a lab host gets the packages that the project's lock file has, by their hashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab import in_lab

LOCK = Path(__file__).parents[2] / "requirements/dev.txt"
TEXT = """\
# made by make lock
bcrypt==5.0.0 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
    # via paramiko
Qemu_QMP==0.0.6 ; python_version >= '3' \\
    --hash=sha256:cc
"""


def test_the_entries_of_some_packages_are_taken_with_their_hashes() -> None:
    assert in_lab.locked_requirements(TEXT, ["qemu-qmp"]) == (
        "Qemu_QMP==0.0.6 ; python_version >= '3' \\\n    --hash=sha256:cc\n\n"
    )
    taken = in_lab.locked_requirements(TEXT, ["bcrypt"])
    assert "--hash=sha256:aa" in taken
    assert "--hash=sha256:bb" in taken


def test_a_package_that_is_not_locked_is_named() -> None:
    with pytest.raises(LabError, match=r"requirements/dev\.txt has no nosuch"):
        in_lab.locked_requirements(TEXT, ["bcrypt", "nosuch"])


def test_the_lock_file_has_all_that_the_lab_needs() -> None:
    found = in_lab.locked_requirements(LOCK.read_text(), in_lab.PACKAGES)
    assert found.count("==") >= len(in_lab.PACKAGES)
