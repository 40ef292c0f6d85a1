"""Kernel modules of one machine: loaded when they are missing, and proven to be there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from VpmemLibrary.errors import CommandError, InvalidValueError
from VpmemLibrary.transport.base import Transport, query

_COMMON = ("nd_pmem", "nd_btt", "dax_pmem", "device_dax")
FINDERS = {"ACPI.NFIT": "nfit", "e820": "nd_e820", "CXL": "cxl_pmem", "virtio-pmem": "virtio_pmem", "ibm,": "papr_scm"}
"""The module that finds a region, by the beginning of the provider of its bus."""

_PROVIDERS = r"""
uname -m
for provider in /sys/bus/nd/devices/ndbus*/provider; do
    is=
    { read -r is <"$provider"; } 2>/dev/null && printf '%s\n' "$is"
done
exit 0
"""

# A module is there when /sys/module has it, built in or loaded. What modprobe says is kept apart from what is found.
_FIND = r"""
for module; do [ -d "/sys/module/$module" ] && echo "$module"; done
exit 0
"""


def loaded_modules(transport: Transport, names: Iterable[str]) -> tuple[str, ...]:
    """Return those of some modules that the kernel has, loaded or built in.

    A module that is built in and has neither parameters nor a version is not told apart from a missing one: the kernel
    has no directory for it (kernel, Documentation/ABI/stable/sysfs-module).

    Args:
        transport: The way to the machine.
        names: The modules' names, with ``-`` or ``_``.

    Raises:
        InvalidValueError: A name is none of a module.
    """
    wanted = [_checked(name) for name in names]
    return tuple(transport.run(query(_FIND, *wanted)).check().text.split())


def vpmem_modules(transport: Transport) -> tuple[str, ...]:
    """Return the modules that a host of persistent memory needs.

    They are those of every such host and those that find its memory: ``nfit`` where it comes from ACPI, others where it
    comes from the kernel parameter memmap, CXL, virtio-pmem or IBM Power's hypervisor. A host without any memory yet
    gets the usual one of its architecture. `nd_pmem` is not loaded by the NVDIMM's own alias.

    Args:
        transport: The way to the machine.
    """
    machine, *providers = transport.run(query(_PROVIDERS)).check().lines or [""]
    found = [module for begins, module in FINDERS.items() if any(provider.startswith(begins) for provider in providers)]
    usual = "papr_scm" if machine.startswith("ppc64") else "nfit"
    return ("libnvdimm", *(found if providers else [usual]), *_COMMON)


def load_modules(transport: Transport, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Load the modules that are missing, and prove that the kernel has them.

    Args:
        transport: The way to the machine.
        names: The modules' names, with ``-`` or ``_``; by default those of `vpmem_modules`.

    Returns:
        The names of those that were missing and are loaded now.

    Raises:
        InvalidValueError: A name is none of a module.
        CommandError: The kernel has no such module, may not load it, or does not have it though modprobe exited 0.
    """
    wanted = [_checked(name) for name in tuple(names) or vpmem_modules(transport)]
    there = loaded_modules(transport, wanted)
    loaded = []
    for name in wanted:
        if name in there or name in loaded:
            continue
        result = transport.run(["modprobe", "--", name]).check(
            f"The kernel of {transport.name} has no module {name}, or may not load it: install the distribution's full "
            "kernel (its modules package), and run as root"
        )
        loaded.append(name)
    if loaded:
        now = loaded_modules(transport, loaded)
        if absent := [name for name in loaded if name not in now and not _built_in(transport, name)]:
            raise CommandError(result, f"modprobe exited 0, and the kernel does not have {', '.join(absent)}")
    return tuple(loaded)


def _built_in(transport: Transport, name: str) -> bool:
    """Whether a module is part of the kernel itself: modprobe then has nothing to load and says so."""
    return "builtin" in transport.run(["modprobe", "--show-depends", "--", name]).check().text


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,55}", name, flags=re.ASCII):  # MODULE_NAME_LEN, linux/module.h
        raise InvalidValueError("module", name, "a kernel module's name, e.g. nd_pmem")
    return name.replace("-", "_")
