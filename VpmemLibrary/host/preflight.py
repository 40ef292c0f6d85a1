"""Check which items a host lacks for virtual persistent memory. Each missing item comes with its fix."""

from __future__ import annotations

import re
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.host.facts import HostFacts, kvm_modules
from VpmemLibrary.host.modules import FINDERS, usual_finder
from VpmemLibrary.host.packages import install
from VpmemLibrary.visible import one_line

KERNEL_FLOOR = "4.18"
QEMU_FLOOR = "3.1"
LIBVIRT_FLOOR = "5.0"
NDCTL_FLOOR = "62"


class PreflightStatus(StrEnum):
    """The status of an item of the preflight."""

    ok = "ok"
    missing = "missing"
    too_old = "too old"


class PreflightItem(Struct, frozen=True):
    """One thing that virtual persistent memory needs on a host.

    Args:
        name: The name of the item.
        status: The status of the item.
        found: The value that was found on the host, e.g. a version or a path. Empty if nothing was found.
        needed: The requirement, and the reason for it.
        fix: What to do about an item that is missing or too old. Empty if the host has the item.
    """

    name: str
    status: PreflightStatus
    found: str
    needed: str
    fix: str = ""

    @property
    def passed(self) -> bool:
        """Whether the host has the item."""
        return self.status is PreflightStatus.ok


class Preflight(Struct, frozen=True):
    """The status of all items of one host."""

    host: str
    items: tuple[PreflightItem, ...]

    @property
    def passed(self) -> bool:
        """Whether the host has all items."""
        return all(item.passed for item in self.items)

    def describe(self) -> str:
        """Return a summary, and one line with the fix for each item that the host lacks."""
        failed = [item for item in self.items if not item.passed]
        if not failed:
            return f"Host {self.host} passes all checks for virtual persistent memory."
        lines = [f"Host {self.host} fails {len(failed)} of {len(self.items)} checks for virtual persistent memory:"]
        lines += [
            one_line(
                f"- {item.name} is {item.status} (found: {item.found or 'nothing'}; needed: {item.needed}). {item.fix}"
            )
            for item in failed
        ]
        return "\n".join(lines)


def check_facts(facts: HostFacts, host: str = "") -> Preflight:
    """Check the facts of a host, and return the status of every item.

    Args:
        facts: The facts of the host.
        host: The host's name in messages. The default is the host name in the facts.
    """
    items = (
        _version("kernel", facts.kernel, KERNEL_FLOOR, "MAP_SYNC, which QEMU's pmem=on uses", "Install a newer one."),
        *(_module(facts, name, why) for name, why in (_MODULES[0], *_provider_modules(facts), *_MODULES[1:])),
        _region(facts),
        _version("ndctl", facts.ndctl, NDCTL_FLOOR, "namespaces with a chosen alignment", _install(facts, "ndctl")),
        _present("daxctl", facts.daxctl, "to read device-DAX instances", _install(facts, "daxctl")),
        _version("libvirt", facts.libvirt, LIBVIRT_FLOOR, "an nvdimm's alignsize and pmem", _install(facts, "libvirt")),
        _present(
            "libvirt's socket",
            "running" if facts.libvirt_running else "",
            "a running libvirt daemon",
            "Run: systemctl enable --now libvirtd.socket (or virtqemud.socket)",
        ),
        _version("QEMU", facts.qemu, QEMU_FLOOR, "pmem and align of memory backends", _install(facts, "qemu")),
        _present(
            "KVM",
            "usable" if facts.kvm_usable else "",
            "to run guests at the processor's speed",
            f"Enable virtualisation in the firmware. Then run: modprobe {_kvm_module(facts)}",
        ),
        _tool(facts, "flock", "to make one change of a region at a time", _install(facts, "flock")),
        _tool(facts, "bash", "to hold leases, together with flock", _install(facts, "bash")),
        *(
            _tool(facts, name, "to check which program uses a device", _install(facts, name))
            for name in ("awk", "grep", "sed", "xargs", "stat")
            if name in facts.tools
        ),
        *(_tool(facts, name, "to compare content", _install(facts, name)) for name in ("cmp",) if name in facts.tools),
        _tool(facts, "openssl", "to generate patterns on the host", _install(facts, "openssl")),
        _tool(facts, "daxio", "to read, write and flush device-DAX nodes", _install(facts, "daxio")),
    )
    return Preflight(host or facts.hostname, items)


_MODULES = (
    ("libnvdimm", "the kernel's core module for NVDIMMs"),
    ("nd_pmem", "to make block devices of namespaces"),
    ("device_dax", "to make character devices of devdax namespaces"),
)

_X86 = ("x86_64", "i686", "i386")  # memmap= makes persistent memory only on x86 (arch/x86/kernel/e820.c)

_FINDS = {
    "nfit": "to find NVDIMMs through ACPI",
    "nd_e820": "to make regions of RAM that the kernel parameter memmap reserves",
    "cxl_pmem": "to make regions of CXL memory",
    "virtio_pmem": "to make regions of virtio-pmem devices",
    "papr_scm": "to find the persistent memory that an IBM Power hypervisor assigns",
}


def _install(facts: HostFacts, thing: str) -> str:
    command = install(facts, thing)
    return command if command.startswith("Install") else f"Run: {command}"


def _version(name: str, found: str, floor: str, why: str, fix: str) -> PreflightItem:
    needed = f"{floor} or newer, for {why}"
    if not found:
        return PreflightItem(name, PreflightStatus.missing, "", needed, fix)
    if _numbers(found) < _numbers(floor):
        return PreflightItem(name, PreflightStatus.too_old, found, needed, fix)
    return PreflightItem(name, PreflightStatus.ok, found, needed)


def _present(name: str, found: str, needed: str, fix: str) -> PreflightItem:
    if found:
        return PreflightItem(name, PreflightStatus.ok, found, needed)
    return PreflightItem(name, PreflightStatus.missing, "", needed, fix)


def _tool(facts: HostFacts, name: str, needed: str, fix: str) -> PreflightItem:
    return _present(name, facts.tools.get(name, ""), needed, fix)


def _module(facts: HostFacts, name: str, why: str) -> PreflightItem:
    """Return the item of a kernel module.

    The module does not have to be loaded already. The kernel loads an installed module when a device needs it.
    """
    state = facts.module_states.get(name, "")
    if not state and name in _FINDS and any(region.holds_namespaces for region in facts.regions):
        state = "built in"  # sysfs may not list a built-in module, but a region proves that it exists
    return _present(
        f"module {name}",
        state,
        why,
        f"Kernel {facts.kernel} has no such module. Install the distribution's full kernel (its modules package).",
    )


def _region(facts: HostFacts) -> PreflightItem:
    found = ", ".join(str(region) for region in facts.regions if region.holds_namespaces)
    needed = "at least one writable region of persistent memory"
    if facts.regions and not found:
        needed += f"; the host has {', '.join(map(str, facts.regions))}"
    finder = usual_finder(facts.architecture)
    load = f"Run: modprobe {finder}. If that finds none, " if facts.module_states.get(finder) == "available" else ""
    if finder == "papr_scm":
        fix = "assign a persistent memory volume to the partition at its hardware management console"
    elif finder == "virtio_pmem":
        fix = "add a virtio-pmem device to a virtual host"
    else:
        fix = "install NVDIMMs and set them to App Direct in the firmware, or add an NVDIMM to a virtual host"
        if facts.architecture in _X86:
            fix += ". For a trial, reserve RAM with the kernel parameter memmap=4G!12G"
    return _present("region", found, needed, load + (fix if load else fix[0].upper() + fix[1:]) + ".")


def _provider_modules(facts: HostFacts) -> tuple[tuple[str, str], ...]:
    """Return the modules that find persistent memory on this host, each with its purpose.

    If the host has regions, these are the modules for the providers of its regions. Else it is the module that is usual
    for its architecture.
    """
    if not any(region.holds_namespaces for region in facts.regions):
        finder = usual_finder(facts.architecture)
        return ((finder, _FINDS[finder]),)
    providers = {region.provider or "ACPI.NFIT" for region in facts.regions}
    return tuple(
        (module, _FINDS[module])
        for beginning, module in FINDERS.items()
        if any(provider.startswith(beginning) for provider in providers)
    )


def _kvm_module(facts: HostFacts) -> str:
    names = kvm_modules(facts.architecture)
    return next((name for name in names if facts.module_states.get(name)), " or ".join(names))


def _numbers(version: str) -> tuple[int, ...]:
    match = re.search(r"[0-9]{1,9}(\.[0-9]{1,9})*", version)
    return tuple(int(part) for part in match[0].split(".")) if match else ()
