"""Kernel modules of one machine: loaded when they are missing, and proven to be there."""

from __future__ import annotations

import re
from collections.abc import Iterable

from VpmemLibrary.errors import CommandError, InvalidValueError
from VpmemLibrary.host.transport import Transport, query

VPMEM_MODULES = ("libnvdimm", "nfit", "nd_pmem", "nd_btt", "dax_pmem", "device_dax")
"""What a host of persistent memory needs. `nd_pmem` is not pulled in by the NVDIMM's own alias."""

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


def load_modules(transport: Transport, names: Iterable[str] = VPMEM_MODULES) -> tuple[str, ...]:
    """Load the modules that are missing, and prove that the kernel has them.

    Args:
        transport: The way to the machine.
        names: The modules' names, with ``-`` or ``_``.

    Returns:
        The names of those that were missing and are loaded now.

    Raises:
        InvalidValueError: A name is none of a module.
        CommandError: The kernel has no such module, may not load it, or does not have it though modprobe exited 0.
    """
    wanted = [_checked(name) for name in names]
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
