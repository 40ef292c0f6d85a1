"""ndctl's own tests: which of them are taken from its source, and what a run of one says."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab import ndctl_tests
from VpmemLibrary.lab.ndctl_tests import fetch, pack, run_test
from VpmemLibrary.lab.recipe import Sources
from VpmemLibrary.transport.local import LocalTransport

SCRIPTS = {
    "create.sh": "modprobe nfit_test\nreset\n",
    "nfit-security.sh": "$(dirname $0)/security.sh nfit\n",
    "inject-smart.sh": "modprobe nfit_test\n$TEST_PATH/list-smart-dimm\n",
    "cxl-labels.sh": "modprobe cxl_test\n",
    "security.sh": 'modprobe "$KMOD_TEST"\n',
}


def source(directory: Path, scripts: dict[str, str]) -> None:
    with tarfile.open(directory / "ndctl_81.orig.tar.gz", "w:gz") as archive:
        for name, text in scripts.items():
            member = tarfile.TarInfo(f"ndctl-81/test/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def test_the_tests_are_those_that_use_the_test_bus_and_no_compiled_program(tmp_path: Path) -> None:
    source(tmp_path, SCRIPTS)
    (tmp_path / "jq_1.deb").write_bytes(b"jq")
    packed, names = pack(tmp_path)
    assert names == ["create.sh", "nfit-security.sh"]
    with tarfile.open(packed) as archive:
        assert {*(f"test/{name}" for name in SCRIPTS), "jq_1.deb", "test"} == set(archive.getnames())


def test_a_source_without_such_a_test_and_no_source_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="downloaded no source of ndctl"):
        pack(tmp_path)
    source(tmp_path, {"cxl-labels.sh": SCRIPTS["cxl-labels.sh"]})
    with pytest.raises(LabError, match="has no test for nfit_test"):
        pack(tmp_path)


def test_without_an_archive_nothing_is_downloaded(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="VPMEM_LAB_MIRROR=URI"):
        fetch(Sources(()), tmp_path)


@pytest.mark.parametrize(
    ("script", "result", "output"),
    [
        ("exit 0", "passed", ""),
        ("echo kernel 6.12: missing jq, skipping...; exit 77", "skipped", "kernel 6.12: missing jq, skipping..."),
        ("seq 20; echo failed at line 5 >&2; exit 1", "FAILED", "failed at line 5"),
    ],
)
def test_the_exit_status_decides_and_the_end_of_the_output_is_kept(
    script: str, result: str, output: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ndctl_tests, "_TREE", str(tmp_path))
    (tmp_path / "test").mkdir()
    (tmp_path / "test/a.sh").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "test/a.sh").chmod(0o755)
    found, said = run_test(LocalTransport(), "a.sh")
    assert found == result
    assert (said.splitlines() or [""])[-1] == output
    assert len(said.splitlines()) <= 12


def test_a_test_that_hangs_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ndctl_tests, "_TREE", str(tmp_path))
    monkeypatch.setattr(ndctl_tests, "TEST_SECONDS", 0.3)
    (tmp_path / "test").mkdir()
    (tmp_path / "test/a.sh").write_text("#!/bin/sh\nsleep 60\n")
    (tmp_path / "test/a.sh").chmod(0o755)
    assert run_test(LocalTransport(), "a.sh")[0] == "FAILED"
    assert subprocess.run(["pgrep", "-f", str(tmp_path / "test/a.sh")], check=False).returncode == 1


def test_a_test_that_cannot_pass_is_skipped_with_the_reason() -> None:
    result, reason = run_test(LocalTransport(), "label-compat.sh")
    assert result == "skipped"
    assert "256 MiB" in reason
