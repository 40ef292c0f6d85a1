"""KVM counts only where a kernel has really run with it, and nested. A failure that may pass is not remembered."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from VpmemLibrary.lab import acceleration
from VpmemLibrary.lab.acceleration import find_accelerator
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.progress import Progress

STARTED = "vpmem probe: the initramfs runs"
WORKS = f"echo '{STARTED}'; echo 'vpmem probe: nested virtualisation'"
IMAGE = Image(Path("/cache/image-1"))


class Notes(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path))
    monkeypatch.setattr(acceleration, "nesting", lambda: {"kvm_amd": "1"})
    path = tmp_path / "kvm"
    path.touch()
    return path


def qemu_that(does: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "tool", lambda *_: ["sh", "-c", does, "qemu"])


def counting(device: Path, does: str) -> tuple[str, Path]:
    count = device.with_name("count")
    return f"echo x >> {count}; {does}", count


@pytest.mark.parametrize(
    ("does", "name", "reason"),
    [
        (WORKS, "kvm", "can virtualise in turn"),
        (f"echo '{STARTED}'", "tcg", r"without nested virtualisation \(load kvm_intel or kvm_amd with nested=1\)"),
        ("echo 'Kernel panic'", "tcg", "stopped before its end; its last line: Kernel panic"),
        ("exit 0", "tcg", "stopped before its end; its last line: none"),
        ("echo 'failed to initialize kvm' >&2; exit 1", "tcg", "KVM does not work here: failed to initialize kvm"),
        ("kill -ABRT $$", "tcg", "QEMU ended with status -6"),
    ],
)
def test_the_probe_decides(does: str, name: str, reason: str, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_that(does, monkeypatch)
    found = find_accelerator(IMAGE, device=device)
    assert found.name == name
    assert re.search(reason, found.reason)


def test_a_probe_that_prints_nothing_is_given_up_and_remembered(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "FIRST_SECONDS", 0.5)
    does, count = counting(device, "exec sleep 600")
    qemu_that(does, monkeypatch)
    for _ in range(3):
        assert "printed nothing in 0.5 s" in find_accelerator(IMAGE, device=device).reason
    assert count.read_text() == "x\nx\n"


def test_a_probe_that_stops_after_its_first_line_is_tried_again_each_time(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acceleration, "MARK_SECONDS", 0.5)
    does, count = counting(device, f"echo '{STARTED}'; exec sleep 600")
    qemu_that(does, monkeypatch)
    for tries in (2, 4):
        assert f"its last line: {STARTED}" in find_accelerator(IMAGE, device=device).reason
        assert count.read_text() == tries * "x\n"


def test_one_probe_that_prints_nothing_is_not_remembered(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "FIRST_SECONDS", 2)
    first = device.with_name("first")
    qemu_that(f"if [ ! -e {first} ]; then touch {first}; exit 1; fi; exec sleep 600", monkeypatch)
    assert "printed nothing" in find_accelerator(IMAGE, device=device).reason
    qemu_that(WORKS, monkeypatch)
    assert find_accelerator(IMAGE, device=device).name == "kvm"


@pytest.mark.parametrize("fails", ["exec sleep 600", f"echo '{STARTED}'; exec sleep 600", "exit 1"])
def test_one_probe_that_fails_does_not_decide(fails: str, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = device.with_name("first")
    monkeypatch.setattr(acceleration, "FIRST_SECONDS", 2)
    monkeypatch.setattr(acceleration, "MARK_SECONDS", 2)
    qemu_that(f"if [ ! -e {first} ]; then touch {first}; {fails}; fi; {WORKS}", monkeypatch)
    assert find_accelerator(IMAGE, device=device).name == "kvm"


def test_a_probe_ends_with_its_mark_and_takes_no_longer(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    does, count = counting(device, f"{WORKS}; exec sleep 600")
    qemu_that(does, monkeypatch)
    assert find_accelerator(IMAGE, device=device).name == "kvm"
    assert count.read_text() == "x\n"


def test_that_kvm_works_is_remembered_until_the_image_or_the_nesting_changes(
    device: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    does, count = counting(device, WORKS)
    qemu_that(does, monkeypatch)
    for _ in range(3):
        assert find_accelerator(IMAGE, device=device).name == "kvm"
    assert count.read_text() == "x\n"
    find_accelerator(Image(Path("/cache/image-2")), device=device)
    assert count.read_text() == 2 * "x\n"
    find_accelerator(IMAGE, device=device)
    assert count.read_text() == 2 * "x\n", "each image has its result"
    monkeypatch.setattr(acceleration, "nesting", lambda: {"kvm_amd": "0"})
    find_accelerator(Image(Path("/cache/image-2")), device=device)
    assert count.read_text() == 3 * "x\n"


@pytest.mark.parametrize("failure", ["echo 'failed to initialize kvm' >&2; exit 1", f"echo '{STARTED}'"])
def test_a_failure_that_may_pass_is_not_remembered(failure: str, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_that(failure, monkeypatch)
    assert find_accelerator(IMAGE, device=device).name == "tcg"
    qemu_that(WORKS, monkeypatch)
    assert find_accelerator(IMAGE, device=device).name == "kvm"


def test_it_is_always_said_that_lab_hosts_are_emulated_and_why(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acceleration, "FIRST_SECONDS", 0.5)
    qemu_that("exec sleep 600", monkeypatch)
    notes = Notes()
    find_accelerator(IMAGE, notes, device=device)
    find_accelerator(IMAGE, notes, device=device)  # remembered
    find_accelerator(IMAGE, notes, device=device.with_name("none"))
    assert len(notes.said) == 3
    assert all(said.startswith("lab hosts are emulated, which is many times slower") for said in notes.said)
    assert "printed nothing" in notes.said[1]
    assert "there is no " in notes.said[2]
    qemu_that(WORKS, monkeypatch)
    find_accelerator(Image(Path("/cache/image-2")), notes, device=device)
    assert len(notes.said) == 3


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"asked": 1}', "[1]", '[{"asked": 1}]', "\x00"])
def test_a_memory_that_cannot_be_read_is_as_none(text: str, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_that(WORKS, monkeypatch)
    (device.parent / "acceleration.json").write_text(text)
    assert find_accelerator(IMAGE, device=device).name == "kvm"


def test_the_probe_s_kernel_is_quiet(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu_that(f'echo "$@" >{device.with_name("arguments")}; {WORKS}', monkeypatch)
    find_accelerator(IMAGE, device=device)
    assert " console=ttyS0 quiet vpmem.probe " in device.with_name("arguments").read_text()


def test_no_device_no_kvm(device: Path) -> None:
    missing = device.with_name("none")
    assert find_accelerator(IMAGE, device=missing).reason.startswith(
        f"there is no {missing} (load kvm_intel or kvm_amd"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use any device")
def test_a_device_that_may_not_be_used_is_no_kvm(device: Path) -> None:
    device.chmod(0)
    assert "usermod -aG kvm" in find_accelerator(IMAGE, device=device).reason
