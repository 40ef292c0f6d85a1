"""Saved states: which one fits, and what is done about one that QEMU refuses."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fake_qemu import FAKE_QEMU, REFUSING_QEMU

from VpmemLibrary.errors import LabError, UnreachableError
from VpmemLibrary.lab import lab as lab_module
from VpmemLibrary.lab import state as state_module
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.lab import Lab, LabHost
from VpmemLibrary.lab.network import Network
from VpmemLibrary.lab.ports import free_port
from VpmemLibrary.lab.progress import Progress
from VpmemLibrary.lab.qemu_host import Accelerator, QemuHost
from VpmemLibrary.lab.state import SavedState, StateRefusedError, state_name, wait_for_ssh
from VpmemLibrary.transport.base import CommandResult, CommandTransport, Connection, Stream


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Image:
    monkeypatch.setenv("VPMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VPMEM_STATE", str(tmp_path / "state"))
    program = tmp_path / "cache/image-1/tools/usr/bin/qemu-system-x86_64"
    program.parent.mkdir(parents=True)
    program.touch()
    keys = tmp_path / "cache/image-1/keys"
    keys.mkdir()
    (keys / "host_ed25519.pub").write_text("ssh-ed25519 AAAA vpmem-lab\n")
    return Image(tmp_path / "cache/image-1")


def test_a_state_is_of_one_processor_and_one_way_of_running(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_module, "processor_identity", lambda accelerator: ["stepping: 8"])
    names = {state_name(image, Accelerator(name)) for name in ("kvm", "tcg")}
    assert names == {state_name(image, Accelerator(name, "for a reason")) for name in ("kvm", "tcg")}
    monkeypatch.setattr(state_module, "processor_identity", lambda accelerator: ["stepping: 6"])
    names |= {state_name(image, Accelerator(name)) for name in ("kvm", "tcg")}
    assert len(names) == 4


def test_a_state_is_of_one_number_of_processors(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    two = state_name(image, Accelerator("kvm"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {5})
    assert state_name(image, Accelerator("kvm")) != two


def test_a_qemu_that_dies_of_a_state_is_an_error_with_its_messages(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QemuHost, "_command", lambda *_: list(REFUSING_QEMU))
    qemu = QemuHost(tmp_path / "lab-1", image, Accelerator("kvm"))
    qemu.directory.mkdir()
    with pytest.raises(StateRefusedError, match=r"lab-1 cannot be restored(?s:.*)Failed to set special registers"):
        SavedState(tmp_path / "state-1").restore(qemu, free_port())
    qemu.kill()


class Silent(CommandTransport):
    """A lab host that does not answer."""

    name = "lab-1"

    def run(self, *_: object, **__: object) -> CommandResult:
        raise UnreachableError("no answer")

    def stream(self, *_: object) -> Stream:
        raise NotImplementedError

    def connect(self, *_: object, **__: object) -> Connection:
        raise NotImplementedError


PANIC = Path(__file__).parents[1] / "data/lab/linux-6.1.192-panic.txt"
"""The console of a lab host whose initramfs ended, because its kernel did not accept a module."""


def test_a_kernel_that_panics_is_an_error_at_once(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QemuHost, "_command", lambda *_: list(FAKE_QEMU))
    qemu = QemuHost(tmp_path / "lab-1", image, Accelerator("kvm"))
    qemu.directory.mkdir()
    qemu.start(free_port())
    qemu.console_log.write_text(qemu.console_log.read_text() + PANIC.read_text())
    try:
        with pytest.raises(LabError) as failure:
            wait_for_ssh(qemu, Silent(), 30)
    finally:
        qemu.kill()
    assert str(failure.value).splitlines() == [
        "The kernel of lab-1 panicked. Its console:",
        "insmod: can't insert '/virtio_blk.ko': invalid module format",
        "[    3.694973] Kernel panic - not syncing: Attempted to kill init! exitcode=0x00000800",
    ]


def test_a_panic_before_the_power_was_cut_is_over(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(QemuHost, "_command", lambda *_: list(FAKE_QEMU))
    qemu = QemuHost(tmp_path / "lab-1", image, Accelerator("kvm"))
    qemu.directory.mkdir()
    qemu.console_log.write_text(PANIC.read_text())
    assert qemu.panic
    qemu.start(free_port())
    try:
        assert not qemu.panic
    finally:
        qemu.kill()


class Notes(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    @contextmanager
    def step(self, text: str, expected: float) -> Iterator[None]:
        yield

    def note(self, text: str) -> None:
        self.said.append(text)


class Restores:
    """A lab whose states are refused so many times."""

    def __init__(self, image: Image, refusals: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.refusals = refusals
        self.made: list[SavedState] = []
        self.notes = Notes()
        accelerator = Accelerator("kvm")
        monkeypatch.setattr(lab_module, "find_or_build_image", lambda *_: image)
        monkeypatch.setattr(lab_module, "find_accelerator", lambda *_: accelerator)
        monkeypatch.setattr(state_module, "_save", self.save)
        monkeypatch.setattr(Network, "start", lambda *_: None)
        monkeypatch.setattr(QemuHost, "create", lambda qemu, *_: qemu.directory.mkdir())
        monkeypatch.setattr(SavedState, "restore", self.restore)
        monkeypatch.setattr(LabHost, "_personalise", lambda _: None)
        (image.directory / "keys/guest_ed25519.pub").write_text("ssh-ed25519 BBBB vpmem-lab\n")

    def save(self, state: SavedState, *_: object) -> None:
        (state.directory / "disk-1.qcow2").touch()
        self.made.append(state)

    def restore(self, qemu: QemuHost, _: int) -> None:
        if self.refusals:
            self.refusals -= 1
            raise StateRefusedError(f"{qemu.name} cannot be restored")


def test_a_state_that_is_refused_is_made_again_once(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    restores = Restores(image, 1, monkeypatch)
    (host,) = Lab(restores.notes).up()
    assert len(restores.made) == 2
    assert Path(host.state_directory).is_dir()
    assert any("cannot be restored\nthe saved state is made again" in said for said in restores.notes.said)


def test_a_state_that_is_refused_again_is_an_error_and_leaves_no_host(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    restores = Restores(image, 100, monkeypatch)
    with pytest.raises(LabError, match="lab-1 cannot be restored"):
        Lab(restores.notes).up()
    assert len(restores.made) == 2
    assert Lab().hosts() == []


def test_clean_keeps_the_states_that_fit_and_those_that_hosts_use(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = image.directory.parent
    restores = Restores(image, 0, monkeypatch)
    monkeypatch.setattr(lab_module, "image_name", lambda *_: "image-1")
    (image.directory / "manifest.json").write_text('{"files": {}}')
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    Lab(restores.notes).up()
    used = state_name(image, Accelerator("kvm"))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    fitting = {state_name(image, Accelerator(name)) for name in ("kvm", "tcg")}
    for name in (*fitting, "state-of-another-processor"):
        (cache / name).mkdir()
    assert [path.name for path in Lab().clean()] == ["state-of-another-processor"]
    Lab().down()
    assert [path.name for path in Lab().clean()] == [used]
    assert {path.name for path in cache.iterdir() if path.is_dir()} == {"image-1", *fitting}


@pytest.mark.parametrize(("fits", "status"), [("kvm_amd", 0), ("kvm_intel", 0), ("none", 1)])
def test_the_module_of_kvm_is_the_one_that_loads(fits: str, status: int, tmp_path: Path) -> None:
    """Hygon's processors, whose vendor is neither Intel nor AMD, use kvm_amd."""
    for name, does in (("modprobe", f'[ "$2" = {fits} ]'), ("dmesg", "echo 'kvm: no hardware support'")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", state_module.LOAD_KVM],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == status
    assert done.stderr == ("kvm: no hardware support\n" if status else "")
