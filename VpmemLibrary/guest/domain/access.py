"""Determine whether the writes of a memory device reach its backing.

The device, its NUMA node or the whole domain can set the access. libvirt uses the first setting in this order
(qemu_command.c, qemuBuildMemoryBackendProps): the device's ``access``, the ``memAccess`` of its NUMA cell, ``<access>``
of ``<memoryBacking>``. A device without a node, such as virtio-pmem, has no NUMA cell. Without any setting QEMU maps a
file privately.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import Access

if TYPE_CHECKING:
    from lxml.etree import _Element as Element


def effective_access(domain: Element, own: Access | None, node: int | None) -> Access | None:
    """Return the effective access of a memory device in a domain; None if nothing sets the access.

    Args:
        domain: The domain.
        own: The access that the device itself sets.
        node: The guest's NUMA node of the device; None if the device has no node.

    Raises:
        InvalidValueError: An element has a value other than ``shared`` or ``private``.
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
    """Return the access in an attribute; None if the attribute is absent.

    Raises:
        InvalidValueError: The attribute has a value other than ``shared`` or ``private``.
    """
    value = element.get(attribute)
    if not value:
        return None
    if value not in tuple(Access):
        raise InvalidValueError(f"{attribute} of <{element.tag}>", value, " or ".join(Access))
    return Access(value)
