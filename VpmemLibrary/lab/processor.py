"""Identify the processor that lab hosts run on, because a saved state fits no other processor."""

from __future__ import annotations

import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_SYSTEM_MODULES = Path("/sys/module")

_FIELDS = ("vendor_id", "cpu family", "model", "stepping", "microcode", "flags")


def processor_identity(accelerator: str, *, cpuinfo: Path = _CPUINFO, kernel: str = "") -> list[str]:
    """Return the properties of the processor and the kernel that a saved state depends on.

    With KVM a lab host has this machine's processor, with the features that the kernel offers to guests. Under
    emulation the lab host measures time by this machine's time-stamp counter. The rate of the counter depends on the
    processor model.
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
    """Return the kernel's value for each loaded module of KVM: ``Y`` or ``1`` if guests may virtualise, or ``N``."""
    found = {}
    for module in ("kvm_intel", "kvm_amd"):
        try:
            found[module] = (modules / module / "parameters/nested").read_text("utf-8", "replace").strip()
        except OSError:
            continue  # not loaded or not readable: the module is reported as absent
    return found
