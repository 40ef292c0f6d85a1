"""Add persistent-memory devices to a user's own domain XML. Change only what the devices need."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.access import effective_access
from VpmemLibrary.guest.domain.checks import check_devices
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.domain.xml import (
    MARK_NAMESPACE,
    cell_memory,
    device_element,
    mark_element,
    numa_element,
    parse_domain,
    read_devices,
    read_size,
    used_slots,
    whole_number,
)
from VpmemLibrary.sizes import KiB, Size
from VpmemLibrary.transport.base import checked_name

if TYPE_CHECKING:
    from lxml.etree import _Element as Element


def add_devices(xml: str, devices: Iterable[VpmemDevice], *, unshared: bool = False, libvirt: int | None = None) -> str:
    """Return a domain's XML with more devices, and with the room that libvirt requires for them.

    Only these elements are changed:

    - ``maxMemory`` and its slots, if there are too few;
    - the NUMA cells: a cell with all RAM is added if there is none;
    - ``memory`` (libvirt: RAM and devices together);
    - the end of ``devices``.

    Args:
        xml: The domain's XML.
        devices: The devices to add.
        unshared: Allow devices without shared access, on which nothing persists.
        libvirt: The version of the host's libvirt in the format of getLibVersion; None for a new version.

    Raises:
        InvalidValueError: `xml` is no domain XML or states no memory, or a device is invalid in it.

    Example: ``add_devices(Path("guest.xml").read_text(), [VpmemDevice("/dev/dax0.0", Size(266338304))])``.
    """
    from lxml import etree  # noqa: PLC0415

    new = tuple(devices)
    domain = parse_domain(xml, comments=True)
    ram = _give_numa(domain)
    cells = len(domain.findall("./cpu/numa/cell"))
    given = read_devices(xml)
    effective = [replace(each, access=effective_access(domain, each.access, each.node)) for each in new]
    check_devices([*given, *effective], unshared=unshared, cells=cells, given=len(given))
    holder = _child(domain, "devices")
    for device in new:
        _append(holder, device_element(device))
    total = Size(ram + sum(read_size(size) or Size(0) for size in holder.findall("./memory/target/size")))
    memory = _child(domain, "memory")
    memory.text = str(total // KiB)
    memory.set("unit", "KiB")
    _give_room(domain, total, used_slots(domain, libvirt))
    return etree.tostring(domain, encoding="unicode")


def as_own(xml: str, run_id: str, *, name: str = "") -> str:
    """Return a domain's XML with a run's mark, and with another name if one is given.

    A domain with another name is another domain. So its UUID is removed, and libvirt assigns a new UUID.

    Args:
        xml: The domain's XML.
        run_id: The run.
        name: The new name.

    Raises:
        InvalidValueError: `xml` is no domain XML, or the name is invalid.
    """
    from lxml import etree  # noqa: PLC0415

    domain = parse_domain(xml, comments=True)
    if name:
        _child(domain, "name").text = checked_name("guest name", name)
        for element in domain.findall("./uuid"):
            _remove(element)
    metadata = _child(domain, "metadata")
    for element in metadata.findall(f"./{{{MARK_NAMESPACE}}}made-by"):
        _remove(element)
    _append(metadata, mark_element(run_id))
    return etree.tostring(domain, encoding="unicode")


def _give_numa(domain: Element) -> Size:
    """Return the RAM of a domain. Add a NUMA cell with all RAM if the domain has no cell."""
    cells = domain.findall("./cpu/numa/cell")
    if cells:
        return Size(sum(cell_memory(cell) for cell in cells))
    memory = read_size(domain.find("./memory"))
    if memory is None:
        raise InvalidValueError("domain XML", "without <memory>", "<memory> with the size of RAM and all devices")
    attached = sum(read_size(size) or Size(0) for size in domain.findall("./devices/memory/target/size"))
    if memory <= attached:
        raise InvalidValueError(
            "<memory> of the domain XML",
            str(memory),
            f"more than its memory devices ({Size(attached)}): it is the size of RAM and all devices together",
        )
    ram = Size(memory - attached)
    vcpus = (domain.findtext("./vcpu") or "1").strip()
    _append(_child(domain, "cpu"), numa_element(ram, whole_number(vcpus, "<vcpu> of the domain XML")))
    return ram


def _give_room(domain: Element, total: Size, needed: int) -> None:
    room = _child(domain, "maxMemory")
    if needed and whole_number(room.get("slots") or "0", "slots of <maxMemory>") < needed:
        room.set("slots", str(needed))
    if (read_size(room) or Size(0)) < total:
        room.text = str(total.up_to(1024**3) // KiB)
        room.set("unit", "KiB")


def _child(parent: Element, name: str) -> Element:
    """Return a child element. Add it at the end of its parent if it does not exist."""
    from lxml import etree  # noqa: PLC0415

    found = parent.find(f"./{name}")
    return _append(parent, etree.Element(name)) if found is None else found


def _append(parent: Element, element: Element) -> Element:
    """Append an element with the same indentation as its siblings."""
    last = parent[-1] if len(parent) else None
    if last is not None:
        element.tail = last.tail
        last.tail = parent.text
    parent.append(element)
    return element


def _remove(element: Element) -> None:
    parent = element.getparent()
    if parent is not None:
        parent.remove(element)
