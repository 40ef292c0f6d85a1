"""Ask the QEMU of a host which features for persistent memory it has."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from msgspec import Struct

from VpmemLibrary.errors import LibvirtError
from VpmemLibrary.transport.base import Transport, query

# Prints the path of the first QEMU found, and the options of its memory-backend-file. RHEL keeps its QEMU outside PATH.
_ASK = r"""
for program in "$@" "qemu-system-$(uname -m)" /usr/libexec/qemu-kvm qemu-kvm kvm; do
    found=$(command -v -- "$program") || continue
    printf '%s\n' "$found"
    exec "$found" -machine none -object memory-backend-file,help </dev/null 2>&1
done
"""

_PROPERTY = r"(?m)^\s+(?:memory-backend-file\.)?([a-z][a-z0-9-]*)=<"

_NO_PMEM = r"(?s)pmem\b.*not (available|found)|[Ll]ack of libpmem"

PMEM_FIX = (
    "This QEMU was built without libpmem, like the QEMU of RHEL 10. Define the device without pmem: pmem=False of New "
    "Vpmem Device, or no <pmem/> in the domain's XML. Writes to device DAX persist anyway. QEMU then maps a file in a "
    "DAX file system without MAP_SYNC, so the last writes may be lost in a power loss."
)
"""What to do if QEMU has no ``pmem``."""


class QemuFeatures(Struct, frozen=True):
    """The options that a QEMU's memory backends accept.

    Args:
        program: The path of the QEMU program; empty if there is none.
        properties: The properties of its memory-backend-file; empty if QEMU does not list them.
    """

    program: str = ""
    properties: tuple[str, ...] = ()

    @property
    def pmem(self) -> bool | None:
        """Whether QEMU accepts ``pmem=on``; None if this is unknown."""
        return "pmem" in self.properties if self.properties else None


def read_qemu_features(transport: Transport, program: str = "") -> QemuFeatures:
    """Return the features of a host's QEMU, for the preflight.

    Args:
        transport: The transport to the host.
        program: The path of QEMU in libvirt's capabilities. By default the host's own QEMU is searched for.

    Returns:
        The features. A feature that cannot be read is empty.

    Raises:
        UnreachableError: The host is unreachable.

    Example: ``read_qemu_features(host.transport).pmem`` is False on RHEL 10.
    """
    result = transport.run(query(_ASK, *([program] if program else [])))
    found, _, printed = result.text.partition("\n")
    if result.exit_status != 0 or not found.startswith("/"):
        return QemuFeatures(found if found.startswith("/") else "")
    return QemuFeatures(found, tuple(dict.fromkeys(re.findall(_PROPERTY, printed))))


@contextlib.contextmanager
def pmem_explained() -> Iterator[None]:
    """Add the cause and the fix to the error of a QEMU, or its libvirt, that does not accept ``pmem``.

    libvirt reports "nvdimm pmem property is not available with this QEMU binary" (qemu_command.c). QEMU reports
    "Property 'memory-backend-file.pmem' not found", or "Lack of libpmem support while setting the 'pmem=on'".
    """
    try:
        yield
    except LibvirtError as error:
        if re.search(_NO_PMEM, error.text):
            error.add(PMEM_FIX)
        raise
