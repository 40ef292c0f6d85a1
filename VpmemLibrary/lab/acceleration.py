"""Whether lab hosts run with KVM, found out by trying.

That /dev/kvm exists proves nothing: there are machines whose KVM runs no ordinary guest kernel. So the lab's own
kernel is booted for a moment; it must reach its initramfs and see virtualisation of its own there, as guests run nested
in a lab host. Else it is emulation with an emulated AMD-V, with which nested guests run with KVM all the same.
"""

from __future__ import annotations

import json
import os
import platform
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.machine import Accelerator
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.processor import nesting
from VpmemLibrary.lab.progress import Progress, Silent

FIRST_SECONDS = 20.0
"""Deadline of the probe's first output. A lab kernel with KVM reaches its initramfs in about one second."""

MARK_SECONDS = 10.0
"""Deadline of the mark after the first output: the rest of the probe is two commands."""

PROBE_MARK = b"vpmem probe: nested virtualisation"
"""What the initramfs prints where it sees that the processor can virtualise (``files/host-init``)."""

PROBE_STARTED = b"vpmem probe: the initramfs runs"
"""What the initramfs prints first."""

_TRIES = 2
_CHUNK = 4096
_MOST_OUTPUT = 1 << 20
_MEMORY = "acceleration.json"


@dataclass(frozen=True, slots=True)
class _Probe:
    """What one probe found.

    Args:
        accelerator: How lab hosts run if this was the last probe.
        lasting: Whether the same is found until the machine boots again or something that was asked changes.
    """

    accelerator: Accelerator
    lasting: bool


def find_accelerator(image: Image, progress: Progress | None = None, *, device: Path = Path("/dev/kvm")) -> Accelerator:
    """Return how lab hosts run on this machine, and say so where they are emulated.

    That KVM works is remembered until the machine boots again, the image, the access to the device or the nesting of
    KVM changes. That two probes in a row printed nothing is remembered as well. Any other failure of a probe may pass:
    it is tried twice, and again the next time.

    Args:
        image: Whose kernel is tried.
        progress: Shows that it is being tried, and why lab hosts are emulated.
        device: The device of KVM.
    """
    shown = progress or Silent()
    found = _without_probe(device) or _remembered_or_probed(image, shown, device)
    if found.name == "tcg":
        shown.note(f"lab hosts are emulated, which is many times slower than KVM, because {found.reason}")
    return found


def _without_probe(device: Path) -> Accelerator | None:
    if not device.exists():
        advice = "load kvm_intel or kvm_amd; a virtual machine needs nested virtualisation from its own host"
        return Accelerator("tcg", f"there is no {device} ({advice})")
    if not _may_use(device):
        advice = "sudo usermod -aG kvm $USER and log in again; docs/lab.md has a udev rule for CI runners"
        return Accelerator("tcg", f"this user may not read and write {device} ({advice})")
    return None


def _remembered_or_probed(image: Image, progress: Progress, device: Path) -> Accelerator:
    asked: dict[str, object] = {
        "boot": _boot_id(),
        "kernel": platform.release(),
        "image": image.key,
        "device": str(device),
        "nested": nesting(),
    }
    memory = cache_directory() / _MEMORY
    known = _read(memory, asked)
    if known is not None:
        return known
    probes: list[_Probe] = []
    while len(probes) < _TRIES:
        with progress.step("trying KVM", 2):
            probe = _probe(image)
        if probe.accelerator.name == "kvm":
            probes = [probe]
            break
        probes.append(probe)
    if all(each.lasting for each in probes):
        _remember(memory, asked, probe.accelerator)
    return probe.accelerator


def _read(memory: Path, asked: dict[str, object]) -> Accelerator | None:
    """Return what is remembered for what is asked; None where nothing is, or nothing that can be read."""
    try:
        known = json.loads(memory.read_text("utf-8"))
        if known["asked"] == asked and known["name"] in {"kvm", "tcg"}:
            return Accelerator(known["name"], str(known["reason"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def _remember(memory: Path, asked: dict[str, object], found: Accelerator) -> None:
    fresh = memory.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps({"asked": asked, "name": found.name, "reason": found.reason}))
    fresh.replace(memory)


def _probe(image: Image) -> _Probe:
    command = [
        *image.tool("qemu-system-x86_64"),
        *(part for directory in image.firmware for part in ("-L", str(directory))),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        # Each character that a kernel prints is an exit to QEMU, which a nested KVM is slow at.
        *("-append", "console=ttyS0 quiet vpmem.probe panic=-1"),
    ]
    printed, said, status = _run(command)
    if PROBE_MARK in printed:
        return _Probe(Accelerator("kvm", "a kernel booted with it and can virtualise in turn"), lasting=True)
    if status is None and not printed:
        reason = f"KVM does not work here: a kernel that was tried with it printed nothing in {FIRST_SECONDS:g} s"
        return _Probe(Accelerator("tcg", reason), lasting=True)
    if status:
        reason = f"KVM does not work here: {said or f'QEMU ended with status {status}'}"
    elif status == 0 and PROBE_STARTED in printed:
        reason = "KVM works here, but without nested virtualisation (load kvm_intel or kvm_amd with nested=1)"
    else:
        last = "".join(printed.decode("utf-8", "replace").strip().splitlines()[-1:]) or "none"
        reason = f"a kernel that was tried with KVM stopped before its end; its last line: {last}"
    return _Probe(Accelerator("tcg", reason), lasting=False)


def _run(command: Sequence[str]) -> tuple[bytes, str, int | None]:
    """Return what QEMU's machine printed, QEMU's own messages, and its exit status; None where a deadline passed."""
    printed = b""
    with (
        tempfile.TemporaryFile() as messages,
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=messages) as process,
    ):
        assert process.stdout is not None  # noqa: S101  a pipe was asked for
        status: int | None = None
        deadline = time.monotonic() + FIRST_SECONDS
        try:
            while PROBE_MARK not in printed and len(printed) < _MOST_OUTPUT:
                ready, _, _ = select.select([process.stdout], [], [], max(deadline - time.monotonic(), 0))
                if not ready:
                    break
                chunk = os.read(process.stdout.fileno(), _CHUNK)
                if not chunk:  # QEMU has ended
                    status = process.wait(MARK_SECONDS)
                    break
                if not printed:
                    deadline = time.monotonic() + MARK_SECONDS
                printed += chunk
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.kill()
        messages.seek(0)
        return printed, " ".join(messages.read(_CHUNK).decode("utf-8", "replace").split()), status


def _may_use(device: Path) -> bool:
    return os.access(device, os.R_OK | os.W_OK)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
