"""Whether lab hosts run with KVM, found out by trying.

That /dev/kvm exists proves nothing: there are machines whose KVM runs no ordinary guest kernel. So the lab's own
kernel is booted for a moment; it must reach its initramfs and see virtualisation of its own there, as guests run nested
in a lab host. Else it is emulation with an emulated AMD-V, with which nested guests run with KVM all the same.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path

from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.machine import Accelerator
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.progress import Progress, Silent

PROBE_SECONDS = 6.0
"""A lab kernel with KVM reaches its initramfs in about one second."""

PROBE_MARK = b"vpmem probe: nested virtualisation"
"""What the initramfs prints where it sees that the processor can virtualise (``files/host-init``)."""


def find_accelerator(image: Image, progress: Progress | None = None, *, device: Path = Path("/dev/kvm")) -> Accelerator:
    """Return how lab hosts run on this machine; asked anew after each boot of it, and for each image.

    Args:
        image: Whose kernel is tried.
        progress: Shows that it is being tried.
        device: The device of KVM.
    """
    asked = {"boot": _boot_id(), "kernel": platform.release(), "image": image.key, "access": _may_use(device)}
    memory = cache_directory() / "acceleration.json"
    try:
        known = json.loads(memory.read_text())
        if known["asked"] == asked:
            return Accelerator(known["name"], known["reason"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    with (progress or Silent()).step("trying KVM", PROBE_SECONDS):
        found = _probe(image, device)
    fresh = memory.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps({"asked": asked, "name": found.name, "reason": found.reason}))
    fresh.replace(memory)
    return found


def _probe(image: Image, device: Path) -> Accelerator:
    if not device.exists():
        return Accelerator("tcg", f"there is no {device}")
    if not _may_use(device):
        return Accelerator("tcg", f"this user may not read and write {device}")
    command = [
        *image.tool("qemu-system-x86_64"),
        *(part for directory in image.firmware for part in ("-L", str(directory))),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "256M"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", "console=ttyS0 vpmem.probe panic=-1"),
    ]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=PROBE_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""
        how_far = "booted no further than its kernel's messages" if b"Linux version" in printed else "printed nothing"
        return Accelerator("tcg", f"KVM does not work here: within {PROBE_SECONDS:g} s a kernel {how_far}")
    if PROBE_MARK in result.stdout:
        return Accelerator("kvm", "a kernel booted with it and can virtualise in turn")
    if result.returncode != 0:
        return Accelerator("tcg", f"KVM does not work here: {result.stderr.decode('utf-8', 'replace').strip()}")
    return Accelerator("tcg", "KVM works here, but without nested virtualisation")


def _may_use(device: Path) -> bool:
    return os.access(device, os.R_OK | os.W_OK)


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
