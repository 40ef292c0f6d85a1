"""Find out by a probe whether lab hosts run with KVM.

The file /dev/kvm proves nothing: on some machines KVM runs no ordinary guest kernel. So the probe boots the lab's own
kernel for a moment. The kernel must reach its initramfs. It must also see that the processor can virtualise, because
guests run nested in a lab host. If the probe fails, lab hosts are emulated. The emulated processor has AMD-V, so nested
guests still use KVM.
"""

from __future__ import annotations

import contextlib
import grp
import json
import os
import platform
import select
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.paths import cache_directory
from VpmemLibrary.lab.process import boot_id
from VpmemLibrary.lab.processor import nesting
from VpmemLibrary.lab.progress import SILENT, Progress
from VpmemLibrary.lab.qemu_host import KVM_PROCESSOR, Accelerator

FIRST_SECONDS = 30.0
"""Seconds until the probe must print something. A lab kernel with KVM reaches its initramfs in about one second. A
loaded machine needs longer, and the result of a silent kernel is kept until the machine reboots."""

MARK_SECONDS = 30.0
"""Seconds from the first output to `PROBE_MARK`. This part of the probe runs only two commands."""

PROBE_MARK = b"vpmem probe: nested virtualisation"
"""The text that the initramfs prints if the processor can virtualise (``files/host-init``)."""

PROBE_STARTED = b"vpmem probe: the initramfs runs"
"""The first text that the initramfs prints."""

_TRIES = 2
_CHUNK = 4096
_MOST_OUTPUT = 1 << 20
_MEMORY = "acceleration.json"
"""The file in the cache with the results of this boot of the machine, one for each image."""


class _Probe(Struct, frozen=True):
    """The result of one probe. A lasting result stays valid until the machine reboots or the conditions change."""

    accelerator: Accelerator
    lasting: bool


def find_accelerator(image: Image, progress: Progress = SILENT, *, device: Path = Path("/dev/kvm")) -> Accelerator:
    """Return how lab hosts run on this machine. Report the reason if they are emulated.

    The result of a probe with working KVM is remembered until the machine reboots, or until the image, the access to
    the device or the nesting of KVM changes. Two probes in a row that print nothing are remembered as well. Any other
    failure may be temporary: the probe is tried twice, and again at the next call.
    """
    found = _without_probe(device) or _remembered_or_probed(image, progress, device)
    if found.name == "tcg":
        progress.note(f"lab hosts are emulated, which is many times slower than KVM, because {found.reason}")
    return found


def _without_probe(device: Path) -> Accelerator | None:
    if not device.exists():
        advice = (
            "load kvm_intel or kvm_amd; a virtual machine needs nested virtualisation from its own host, and a "
            "container needs --device /dev/kvm"
        )
        return Accelerator("tcg", f"there is no {device} ({advice})")
    if not _may_use(device):
        advice = f"{_way_in(device)}; docs/lab.md has a udev rule for CI runners"
        return Accelerator("tcg", f"this user may not read and write {device} ({advice})")
    return None


def _remembered_or_probed(image: Image, progress: Progress, device: Path) -> Accelerator:
    asked: dict[str, object] = {
        "boot": boot_id(),
        "kernel": platform.release(),
        "image": image.key,
        "device": str(device),
        "nested": nesting(),
    }
    memory = cache_directory() / _MEMORY
    known = _read(memory, asked)
    if known is not None:
        return known
    lasting = True
    for _ in range(_TRIES):
        with progress.step("trying KVM", 2):
            probe = _probe(image)
        if probe.accelerator.name == "kvm":
            lasting = True
            break
        lasting &= probe.lasting
    if lasting:
        _remember(memory, asked, probe.accelerator)
    return probe.accelerator


def _read(memory: Path, asked: dict[str, object]) -> Accelerator | None:
    """Return the remembered result for the same conditions. Return None if there is no readable result."""
    for known in _entries(memory):
        with contextlib.suppress(KeyError, TypeError):
            if known["asked"] == asked and known["name"] in {"kvm", "tcg"}:
                return Accelerator(known["name"], str(known["reason"]))
    return None


def _remember(memory: Path, asked: dict[str, object], found: Accelerator) -> None:
    """Add a result to the results of the other images since the machine booted."""
    others = [known for known in _entries(memory) if _same_boot(known, asked)]
    entry = {"asked": asked, "name": found.name, "reason": found.reason}
    fresh = memory.with_suffix(f".{os.getpid()}")
    fresh.write_text(json.dumps([*others, entry]))
    fresh.replace(memory)


def _entries(memory: Path) -> list[Any]:
    try:
        found = json.loads(memory.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _same_boot(known: object, asked: dict[str, object]) -> bool:
    old = known.get("asked") if isinstance(known, dict) else None
    return isinstance(old, dict) and old.get("boot") == asked["boot"] and old != asked


def _probe(image: Image) -> _Probe:
    command = [
        *image.tool("qemu-system-x86_64"),
        *(part for directory in image.firmware for part in ("-L", str(directory))),
        *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"),
        *("-machine", "q35", "-accel", "kvm", "-cpu", KVM_PROCESSOR, "-m", "256M"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        # Each character that a kernel prints is an exit to QEMU. These exits are slow with nested KVM.
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
    """Run QEMU. Return the output of its machine, QEMU's own messages, and its exit status (None after a deadline)."""
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


def _way_in(device: Path) -> str:
    """Return the command that gives this user access. Prefer the device's group, if it has access and a name."""
    found = device.stat()
    try:
        group = grp.getgrgid(found.st_gid).gr_name if found.st_gid and found.st_mode & 0o060 == 0o060 else ""
    except KeyError:  # in a container, where the group of the machine has no name
        group = ""
    return f"sudo usermod -aG {group} $USER and log in again" if group else f"sudo chmod 666 {device}"
