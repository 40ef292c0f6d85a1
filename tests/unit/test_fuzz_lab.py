"""Files that the lab reads: with any text in them, it goes on or fails with an error of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from fuzz import fuzz, fuzzed
from hypothesis import example, given
from hypothesis import strategies as st

from VpmemLibrary.errors import LabError, VpmemError
from VpmemLibrary.lab import acceleration
from VpmemLibrary.lab.cache import MANIFEST, faults
from VpmemLibrary.lab.in_lab import locked_requirements
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.process import find_process
from VpmemLibrary.lab.processor import processor_identity
from VpmemLibrary.lab.recipe import debian_archive
from VpmemLibrary.lab.report import hosts_file, lab_status, rough_ssh_config, status_text

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
RECORD = {
    "port": 40001,
    "uuid": "u",
    "image": "/cache/image-1",
    "accelerator": "tcg",
    "accelerator_reason": "probed",
    "cxl": False,
    "state": "/cache/state-1",
    "machine": "",
    "machine_name": "here",
}
PROCESS = {"pid": 1, "ticks": 1, "boot": "b"}
KNOWN = {"asked": {"boot": "b"}, "name": "kvm", "reason": "r"}
FILES = {"files": {"disk": {"size": 1, "sha256": "s"}}}


def near(valid: Mapping[str, object]) -> st.SearchStrategy[bytes]:
    """Return texts that are a valid JSON object, with other values, with fields away or beside, or cut, or not JSON."""
    changed = st.dictionaries(st.sampled_from([*valid, "other"]), VALUES, max_size=3)
    away = st.sets(st.sampled_from([*valid]), max_size=2)
    objects = st.builds(
        lambda new, gone: {name: value for name, value in {**valid, **new}.items() if name not in gone}, changed, away
    )
    texts = (objects | VALUES).map(lambda value: json.dumps(value).encode("utf-8", "surrogatepass"))
    cut = st.builds(lambda text, length: text[:length], texts, st.integers(0, 60))
    return texts | cut | st.binary(max_size=60) | st.just(b"[" * 100_000)


@pytest.fixture
def directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))
    return tmp_path


@fuzz
@fuzzed
@given(near(RECORD))
def test_a_record_of_a_lab_host_is_one_or_is_refused(directories: Path, text: bytes) -> None:
    directory = directories / "state/hosts/lab-1"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "host.json").write_bytes(text)
    try:
        host = LabHost(directory)
    except LabError as error:
        assert str(directory) in str(error)
        assert Lab().hosts() == []
        assert lab_status(Lab())["unfinished"] == [str(directory)]
    else:
        assert [each.port for each in Lab().hosts()] == [host.port]
    status_text(lab_status(Lab()))
    try:
        hosts_file(Lab().hosts())
        rough_ssh_config(Lab().hosts())
    except VpmemError:
        pass


@fuzz
@fuzzed
@given(near(PROCESS))
def test_a_record_of_a_process_names_one_or_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "process.json").write_bytes(text)
    assert find_process(tmp_path) is None


@fuzz
@fuzzed
@given(near(KNOWN))
def test_what_is_remembered_of_kvm_is_an_answer_or_nothing(tmp_path: Path, text: bytes) -> None:
    memory = tmp_path / "acceleration.json"
    memory.write_bytes(text)
    found = acceleration._read(memory, {"boot": "b"})
    assert found is None or found.name in {"kvm", "tcg"}


@fuzz
@fuzzed
@given(near(FILES) | near({"files": {"disk": {}}}))
@example(b'{"files": {"a\\u0000b": {"size": 1, "sha256": "s"}}}')
def test_a_manifest_has_faults_or_none(tmp_path: Path, text: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(text)
    assert all(isinstance(fault, str) for fault in faults(tmp_path, thorough=True))


@fuzz
@fuzzed
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: f"flags : {text}\nmodel\t: {text}".encode()))
def test_any_processor_has_an_identity(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "cpuinfo").write_bytes(text)
    for accelerator in ("kvm", "tcg"):
        assert json.dumps(processor_identity(accelerator, cpuinfo=tmp_path / "cpuinfo"))


@fuzz
@fuzzed
@given(
    st.lists(st.text(max_size=40) | st.sampled_from(["Debian\tDebian\thttp://a/", "Debian\tDebian", "\t"]), max_size=5)
)
def test_any_index_targets_name_an_archive_or_none(lines: list[str]) -> None:
    assert debian_archive(lines, "Debian") in {None, *(line.split("\t", 2)[-1] for line in lines)}


@fuzz
@fuzzed
@given(st.text(max_size=200) | st.lists(st.sampled_from(["a==1 \\", "b==2", "    --hash=x", "#", ""])).map("\n".join))
def test_a_lock_file_has_a_package_or_it_is_named(text: str) -> None:
    try:
        assert "a==" in locked_requirements(text, ["a"]).lower()
    except LabError as error:
        assert "no a" in str(error)
