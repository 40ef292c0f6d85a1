"""Load missing kernel modules of one machine, and prove that the kernel has them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from VpmemLibrary.errors import CommandError, InvalidValueError
from VpmemLibrary.transport.base import Transport, query

_COMMON = ("nd_pmem", "nd_btt", "dax_pmem", "device_dax")
FINDERS = {"ACPI.NFIT": "nfit", "e820": "nd_e820", "CXL": "cxl_pmem", "virtio-pmem": "virtio_pmem", "ibm,": "papr_scm"}
"""The module that finds a region, by the first characters of the provider of the region's bus."""

_USUAL_FINDERS = {"ppc64": "papr_scm", "s390x": "virtio_pmem"}

_PROVIDERS = r"""
uname -m
for provider in /sys/bus/nd/devices/ndbus*/provider; do
    is=
    { read -r is <"$provider"; } 2>/dev/null && printf '%s\n' "$is"
done
exit 0
"""

# A module that is built in or loaded has a directory in /sys/module. modprobe runs separately, so that its output is
# not mistaken for a module name.
_FIND = r"""
for module; do [ -d "/sys/module/$module" ] && echo "$module"; done
exit 0
"""


def usual_finder(architecture: str) -> str:
    """Return the module that usually finds persistent memory on an architecture. Only some architectures have ACPI."""
    found = (module for begins, module in _USUAL_FINDERS.items() if architecture.startswith(begins))
    return next(found, "nfit")


def loaded_modules(transport: Transport, names: Iterable[str]) -> tuple[str, ...]:
    """Return the given modules that the kernel has, loaded or built in.

    A built-in module without parameters and without a version looks like a missing module: the kernel has no directory
    for it (kernel, Documentation/ABI/stable/sysfs-module).

    Args:
        transport: The transport to the machine.
        names: The modules' names, with ``-`` or ``_``.

    Raises:
        InvalidValueError: A name is not a module name.
    """
    wanted = [_checked(name) for name in names]
    return tuple(transport.run(query(_FIND, *wanted)).check().text.split())


def vpmem_modules(transport: Transport) -> tuple[str, ...]:
    """Return the modules that a host with persistent memory needs.

    Every such host needs some of these modules. The others find the host's persistent memory: ``nfit`` for memory from
    ACPI, and other modules for memory from the kernel parameter memmap, CXL, virtio-pmem or IBM Power's hypervisor. A
    host without persistent memory gets the usual module of its architecture. `nd_pmem` is in the list because the
    NVDIMM's own alias does not load it.

    Args:
        transport: The transport to the machine.
    """
    machine, *providers = transport.run(query(_PROVIDERS)).check().lines or [""]
    found = [module for begins, module in FINDERS.items() if any(provider.startswith(begins) for provider in providers)]
    return ("libnvdimm", *(found if providers else [usual_finder(machine)]), *_COMMON)


def load_modules(transport: Transport, names: Iterable[str] = ()) -> tuple[str, ...]:
    """Load the modules that are missing, and prove that the kernel has them.

    Args:
        transport: The transport to the machine.
        names: The modules' names, with ``-`` or ``_``. The default is `vpmem_modules`.

    Returns:
        The names of the modules that were missing and are loaded now.

    Raises:
        InvalidValueError: A name is not a module name.
        CommandError: The kernel has no such module, may not load it, or does not have it although modprobe exited 0.
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
        if absent := [name for name in loaded if name not in now and not built_in(transport, name)]:
            raise CommandError(result, f"modprobe exited 0, but the kernel does not have {', '.join(absent)}")
    return tuple(loaded)


def built_in(transport: Transport, name: str) -> bool:
    """Return whether a module is built into the kernel. For such a module, modprobe prints ``builtin``."""
    return "builtin" in transport.run(["modprobe", "--show-depends", "--", name]).text


def _checked(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,55}", name, flags=re.ASCII):  # MODULE_NAME_LEN, linux/module.h
        raise InvalidValueError("module", name, "a kernel module's name, e.g. nd_pmem")
    return name.replace("-", "_")
