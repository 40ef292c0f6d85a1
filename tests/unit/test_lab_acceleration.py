"""KVM counts only where a kernel has really run with it, and nested."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from VpmemLibrary.lab import acceleration
from VpmemLibrary.lab.acceleration import find_accelerator
from VpmemLibrary.lab.image import Image


@pytest.fixture
def device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path))
    monkeypatch.setattr(acceleration, "PROBE_SECONDS", 0.5)
    path = tmp_path / "kvm"
    path.touch()
    return path


def image_whose_qemu(does: str, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setattr(Image, "tool", lambda *_: ["sh", "-c", does, "qemu"])
    return Image(Path("/cache/image-1"))


@pytest.mark.parametrize(
    ("does", "name", "reason"),
    [
        ("echo 'vpmem probe: nested virtualisation'", "kvm", "can virtualise in turn"),
        ("echo 'Linux version 6.12'", "tcg", "without nested"),
        ("exec sleep 60", "tcg", "printed nothing"),
        ("echo 'Linux version 6.12'; exec sleep 60", "tcg", "no further than its kernel's messages"),
        ("echo 'failed to initialize kvm' >&2; exit 1", "tcg", "failed to initialize kvm"),
    ],
)
def test_the_probe_decides(does: str, name: str, reason: str, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = find_accelerator(image_whose_qemu(does, monkeypatch), device=device)
    assert found.name == name
    assert reason in found.reason


def test_the_answer_is_remembered_until_the_image_changes(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    count = device.with_name("count")
    image = image_whose_qemu(f"echo x >> {count}; echo 'vpmem probe: nested virtualisation'", monkeypatch)
    for _ in range(3):
        assert find_accelerator(image, device=device).name == "kvm"
    assert count.read_text() == "x\n"
    find_accelerator(Image(Path("/cache/image-2")), device=device)
    assert count.read_text() == "x\nx\n"


def test_a_broken_memory_is_asked_anew(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_whose_qemu("exit 0", monkeypatch)
    (device.parent / "acceleration.json").write_text("{")
    assert find_accelerator(image, device=device).name == "tcg"


def test_no_device_no_kvm(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = image_whose_qemu("exit 0", monkeypatch)
    missing = device.with_name("none")
    assert find_accelerator(image, device=missing).reason == f"there is no {missing}"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may use any device")
def test_a_device_that_may_not_be_used_is_no_kvm(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device.chmod(0)
    found = find_accelerator(image_whose_qemu("exit 0", monkeypatch), device=device)
    assert "may not read and write" in found.reason
