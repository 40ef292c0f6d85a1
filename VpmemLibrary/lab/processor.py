"""The processor that lab hosts run on: a saved state fits no other one."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_SYSTEM_MODULES = Path("/sys/module")

_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")


def processor_identity(accelerator: str, *, cpuinfo: Path = _CPUINFO, kernel: str = "") -> list[str]:
    """Return what a saved state depends on beside the shape of its machine.

    With KVM a lab host has this machine's processor, as its kernel offers it to guests. Under emulation the lab host
    counts time by this machine's time-stamp counter, whose rate is the model's.

    Args:
        accelerator: ``kvm`` or ``tcg``.
        cpuinfo: What the kernel says of the processors.
        kernel: The release of the kernel; without one, that of the running kernel.
    """
    fields = (*_FIELDS, "model name") if accelerator == "tcg" else _FIELDS
    found: dict[str, set[str]] = {field: set() for field in fields}
    for line in cpuinfo.read_text("utf-8", "replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in found:
            found[name.strip()].add(" ".join(sorted(value.split())) if name.strip() == "flags" else value.strip())
    identity = [f"{field}: {', '.join(sorted(found[field]))}" for field in fields]
    return identity if accelerator == "tcg" else [*identity, f"kernel: {kernel or platform.release()}"]


def nesting(modules: Path = _SYSTEM_MODULES) -> dict[str, str]:
    """Return whether each loaded module of KVM lets guests virtualise, as the kernel says it: ``Y``, ``1``, ``N``.

    Args:
        modules: The kernel's directory of loaded modules.
    """
    found = {}
    for module in ("kvm_intel", "kvm_amd"):
        try:
            found[module] = (modules / module / "parameters/nested").read_text("utf-8", "replace").strip()
        except OSError:
            continue  # not loaded, or not readable: it is said as absent
    return found
