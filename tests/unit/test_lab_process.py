"""A lab process is found again by any process, after a step of the clock as well, and no other is ever ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from fake_qemu import FAKE_QEMU
from msgspec.structs import asdict, replace

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.process import Process, find_process, kill_process, start_qemu


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process
        process.kill()


def put_record(directory: Path, process: Process) -> None:
    (directory / "process.json").write_text(json.dumps(asdict(process)))


def test_another_process_finds_what_was_started_and_ends_it(tmp_path: Path) -> None:
    starter = f"from pathlib import Path; from VpmemLibrary.lab.process import start_qemu; \
start_qemu(Path({str(tmp_path)!r}), {FAKE_QEMU!r})"
    subprocess.run([sys.executable, "-c", starter], check=True)
    found = find_process(tmp_path)
    assert found is not None
    assert found == Process.find(found.pid)
    assert 0 <= found.seconds < 120
    kill_process(tmp_path)
    assert find_process(tmp_path) is None
    with pytest.raises(ProcessLookupError):
        Process.find(found.pid)


def test_a_step_of_the_clock_changes_nothing(
    tmp_path: Path, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process.find(child.pid)
    put_record(tmp_path, process)
    began = process.seconds
    for clock in (time.time, time.time_ns):
        monkeypatch.setattr(time, clock.__name__, lambda real=clock: real() + 7200)
    # What psutil and ps compute a start time from: the kernel computes it from the wall clock.
    boot_time = psutil.boot_time()
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: boot_time + 7200)
    assert find_process(tmp_path) == process
    assert 0 <= process.seconds - began < 60
    kill_process(tmp_path)
    assert child.wait(timeout=10) == -signal.SIGKILL


def test_a_process_that_got_the_same_number_later_is_not_it(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    process = Process.find(child.pid)
    for other in (replace(process, ticks=process.ticks - 1), replace(process, boot="00000000-0000")):
        put_record(tmp_path, other)
        assert find_process(tmp_path) is None
        kill_process(tmp_path)
        assert child.poll() is None
        assert not (tmp_path / "process.json").exists()


def test_a_process_that_got_the_number_just_before_the_signal_is_not_ended(
    tmp_path: Path, child: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = replace(Process.find(child.pid), ticks=1)
    put_record(tmp_path, ended)
    monkeypatch.setattr("VpmemLibrary.lab.process.find_process", lambda _: ended)
    kill_process(tmp_path)
    assert child.poll() is None


def test_a_process_that_ended_and_that_nobody_collected_is_gone(tmp_path: Path, child: subprocess.Popen[bytes]) -> None:
    put_record(tmp_path, Process.find(child.pid))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert find_process(tmp_path) is None
    kill_process(tmp_path)
    assert child.wait(timeout=10) == -signal.SIGKILL


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"pid": "x"}', '{"pid": 1, "started": 1.5}'])
def test_an_unreadable_record_is_no_process(tmp_path: Path, text: str) -> None:
    (tmp_path / "process.json").write_text(text)
    assert find_process(tmp_path) is None


def test_a_name_with_parentheses_and_blanks_is_read_past(tmp_path: Path) -> None:
    program = tmp_path / "a) Z 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "600"]) as process:
        try:
            found = Process.find(process.pid)
            assert found.ticks == Process.find(process.pid).ticks > 0
            assert 0 <= found.seconds < 120
        finally:
            process.kill()


def test_what_ends_at_once_is_an_error_with_its_words(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="QEMU could not start: no such machine"):
        start_qemu(tmp_path, ["sh", "-c", "echo no such machine >&2; exit 1"])
    assert find_process(tmp_path) is None
