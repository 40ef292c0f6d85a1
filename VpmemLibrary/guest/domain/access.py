"""Whether a memory device's writes reach its backing: what the device, its NUMA node or the whole domain says of it.

libvirt takes the first that says something (qemu_command.c, qemuBuildMemoryBackendProps): the device's ``access``, the
``memAccess`` of its NUMA cell, ``<access>`` of ``<memoryBacking>``. A device without a node, as virtio-pmem is, has no
cell. Where nothing says anything, QEMU maps a file privately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import Access

if TYPE_CHECKING:
    from lxml.etree import _Element as Element


def effective_access(domain: Element, own: Access | None, node: int | None) -> Access | None:
    """Return the access that a memory device of a domain has; None where nothing says anything.

    Args:
        domain: The domain.
        own: What the device itself says.
        node: The guest's NUMA node that has the device; None where it has none.

    Raises:
        InvalidValueError: An element has another value than ``shared`` or ``private``.
    """
    if own is not None:
        return own
    if node is not None:
        for number, cell in enumerate(domain.findall("./cpu/numa/cell")):
            if cell.get("id", str(number)) == str(node) and (access := read_access(cell, "memAccess")):
                return access
    backing = domain.find("./memoryBacking/access")
    return None if backing is None else read_access(backing, "mode")


def read_access(element: Element, attribute: str) -> Access | None:
    """Return the access in an attribute; None where there is none.

    Raises:
        InvalidValueError: It has another value than ``shared`` or ``private``.
    """
    value = element.get(attribute)
    if not value:
        return None
    if value not in tuple(Access):
        raise InvalidValueError(f"{attribute} of <{element.tag}>", value, " or ".join(Access))
    return Access(value)
