"""What a host lacks for virtual persistent memory, item by item, each with its mend."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.visible import one_line

KERNEL_FLOOR = "4.18"
QEMU_FLOOR = "3.1"
LIBVIRT_FLOOR = "5.0"
NDCTL_FLOOR = "62"


class PreflightStatus(StrEnum):
    """How an item of the preflight stands."""

    ok = "ok"
    missing = "missing"
    too_old = "too old"


@dataclass(frozen=True, slots=True)
class PreflightItem:
    """One thing that virtual persistent memory needs of a host.

    Args:
        name: What it is.
        status: How it stands.
        found: What was found; empty for nothing.
        needed: What is needed, and why.
        mend: What to do; empty when nothing is to be done.
    """

    name: str
    status: PreflightStatus
    found: str
    needed: str
    mend: str = ""

    @property
    def passed(self) -> bool:
        """Whether the host has it."""
        return self.status is PreflightStatus.ok


@dataclass(frozen=True, slots=True)
class Preflight:
    """All items for one host."""

    host: str
    items: tuple[PreflightItem, ...]

    @property
    def passed(self) -> bool:
        """Whether the host has all of them."""
        return all(item.passed for item in self.items)

    def describe(self) -> str:
        """Return one line for each item that is not there, with its mend."""
        failed = [item for item in self.items if not item.passed]
        if not failed:
            return f"Host {self.host} has all that virtual persistent memory needs."
        lines = [f"Host {self.host} lacks {len(failed)} of {len(self.items)} things for virtual persistent memory:"]
        lines += [
            one_line(
                f"- {item.name} is {item.status} (found: {item.found or 'nothing'}; needed: {item.needed}). {item.mend}"
            )
            for item in failed
        ]
        return "\n".join(lines)


def check_facts(facts: HostFacts, host: str = "") -> Preflight:
    """Return what a host with these facts has and lacks.

    Args:
        facts: What the host is.
        host: Its name in the text.
    """
    install = _Install(facts)
    items = (
        _version(
            "kernel", facts.kernel, KERNEL_FLOOR, "QEMU's pmem=on relies on its MAP_SYNC", "Install a newer kernel."
        ),
        *(_module(facts, name, why) for name, why in _MODULES),
        _region(facts),
        _version("ndctl", facts.ndctl, NDCTL_FLOOR, "namespaces of a chosen alignment", install.of("ndctl")),
        _present("daxctl", facts.daxctl, "reads device-DAX instances", install.of("daxctl")),
        _version("libvirt", facts.libvirt, LIBVIRT_FLOOR, "alignsize and pmem of nvdimm", install.of("libvirt")),
        _present(
            "libvirt's socket",
            "running" if facts.libvirt_running else "",
            "a libvirt that answers",
            "Run: systemctl enable --now libvirtd.socket (or virtqemud.socket)",
        ),
        _version("QEMU", facts.qemu, QEMU_FLOOR, "pmem=on and align of its memory backends", install.of("qemu")),
        _present(
            "KVM",
            "usable" if facts.kvm_usable else "",
            "guests that run on the processor",
            f"Turn virtualisation on in the firmware, and run: modprobe {_kvm_module(facts)}",
        ),
        _tool(facts, "flock", "one change of a region at a time", install.of("flock")),
        _tool(facts, "bash", "holds leases, together with flock", install.of("bash")),
        _tool(facts, "openssl", "makes patterns on the host itself", install.of("openssl")),
        _tool(facts, "daxio", "reads and writes device-DAX nodes, flushed", install.of("daxio")),
    )
    return Preflight(host or facts.hostname, items)


_MODULES = (
    ("libnvdimm", "the kernel's NVDIMM core"),
    ("nfit", "finds NVDIMMs through ACPI"),
    ("nd_pmem", "block devices of namespaces"),
    ("device_dax", "character devices of devdax namespaces"),
)

# What each thing is called by each family of distributions: apt, dnf, zypper.
_PACKAGES = {
    "ndctl": ("ndctl", "ndctl", "ndctl"),
    "daxctl": ("daxctl", "daxctl", "daxctl"),
    "libvirt": ("libvirt-daemon-system", "libvirt-daemon-kvm", "libvirt-daemon-qemu"),
    "qemu": ("qemu-system-x86", "qemu-kvm", "qemu-x86"),
    "flock": ("util-linux", "util-linux", "util-linux"),
    "bash": ("bash", "bash", "bash"),
    "openssl": ("openssl", "openssl", "openssl"),
    "daxio": ("pmdk-tools", "daxio", "pmdk-tools"),
}


class _Install:
    """The command that installs something on a host's distribution."""

    def __init__(self, facts: HostFacts) -> None:
        family = set(facts.distribution_family)
        if family & {"debian", "ubuntu"}:
            self._command, self._column = "apt install", 0
        elif family & {"suse", "opensuse", "sles"}:
            self._command, self._column = "zypper install", 2
        elif family & {"fedora", "rhel", "centos"}:
            self._command, self._column = "dnf install", 1
        else:
            self._command, self._column = "", 0
        self._old_debian = facts.distribution_name.startswith("Debian GNU/Linux") and _numbers(
            facts.distribution_name
        ) < (13,)

    def of(self, thing: str) -> str:
        package = "daxio" if thing == "daxio" and self._old_debian else _PACKAGES[thing][self._column]
        if not self._command:
            return f"Install {package} with the package manager of the distribution."
        return f"Run: {self._command} {package}"


def _version(name: str, found: str, floor: str, why: str, mend: str) -> PreflightItem:
    needed = f"{floor} or newer: {why}"
    if not found:
        return PreflightItem(name, PreflightStatus.missing, "", needed, mend)
    if _numbers(found) < _numbers(floor):
        return PreflightItem(name, PreflightStatus.too_old, found, needed, mend)
    return PreflightItem(name, PreflightStatus.ok, found, needed)


def _present(name: str, found: str, needed: str, mend: str) -> PreflightItem:
    if found:
        return PreflightItem(name, PreflightStatus.ok, found, needed)
    return PreflightItem(name, PreflightStatus.missing, "", needed, mend)


def _tool(facts: HostFacts, name: str, needed: str, mend: str) -> PreflightItem:
    return _present(name, facts.tools.get(name, ""), needed, mend)


def _module(facts: HostFacts, name: str, why: str) -> PreflightItem:
    """One that can be loaded is as good as loaded: the kernel does so with the first device that needs it."""
    state = facts.module_states.get(name, "")
    return _present(
        f"module {name}",
        state,
        why,
        f"Install the distribution's full kernel (its modules package): {facts.kernel} has no such module.",
    )


def _region(facts: HostFacts) -> PreflightItem:
    found = ", ".join(f"{region.dev} {region.size}" for region in facts.regions)
    load = "Run: modprobe nfit. If that finds none: f" if facts.module_states.get("nfit") == "available" else "F"
    return _present(
        "region",
        found,
        "one region at least",
        f"{load}it NVDIMMs and set them to App Direct in the firmware, or give a virtual host an NVDIMM; "
        "for a trial set RAM aside with the kernel parameter memmap=4G!12G.",
    )


def _kvm_module(facts: HostFacts) -> str:
    return next((name for name in ("kvm_intel", "kvm_amd") if facts.module_states.get(name)), "kvm_intel or kvm_amd")


def _numbers(version: str) -> tuple[int, ...]:
    match = re.search(r"[0-9]+(\.[0-9]+)*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
