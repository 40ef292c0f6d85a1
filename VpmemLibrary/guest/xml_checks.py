"""A whole domain XML of a user's, checked before it is defined.

libvirt finds some of these mistakes itself, with texts that differ by version, and takes others in silence (libvirt,
formatdomain, *Memory devices*; libvirt 9.0 and 11.3 were tried).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.checks import check_devices
from VpmemLibrary.guest.domain import VpmemModel
from VpmemLibrary.guest.prediction import configured_size
from VpmemLibrary.guest.xml import parse_domain, read_devices, read_size
from VpmemLibrary.sizes import Size

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

_ARCHITECTURES_WITH_UUID = ("ppc64", "ppc64le")


def check_domain(xml: str, *, unshared: bool = False) -> None:
    """Raise if a domain XML asks for persistent memory that no guest can have, or that would not persist.

    Args:
        xml: The domain's XML.
        unshared: Devices without shared access are wanted, though nothing on them persists.

    Raises:
        InvalidValueError: Names the element or the device, its value, and what would be valid.

    Example: ``check_domain(Path("guest.xml").read_text())``.
    """
    domain = parse_domain(xml)
    elements = [element for element in domain.findall("./devices/memory") if element.get("model") in tuple(VpmemModel)]
    if not elements:
        return
    attached = domain.findall("./devices/memory")
    _check_room(domain, len(attached))
    cells = _cells(domain)
    for element in elements:
        _check_element(element, domain.find("./os/type"))
    devices = [replace(device, size=configured_size(device.size)) for device in read_devices(xml)]
    check_devices(devices, unshared=unshared)
    for device in devices:
        if device.node is not None and device.node not in cells:
            there = " or ".join(map(str, cells))
            raise InvalidValueError(f"node of {device.path}", device.node, f"a NUMA node of the guest: {there}")


def _check_room(domain: Element, devices: int) -> None:
    room = domain.find("./maxMemory")
    needed = f"room for {devices} devices, e.g. <maxMemory slots='{devices}' unit='KiB'>"
    if room is None:
        raise InvalidValueError("<maxMemory> of the domain XML", "none", needed)
    slots = room.get("slots", "none")
    if not slots.isdecimal() or int(slots) < devices:
        raise InvalidValueError("slots of <maxMemory>", slots, f"{devices} or more, one for each memory device")
    memory = read_size(domain.find("./memory")) or Size(0)
    if (read_size(room) or Size(0)) < memory:
        raise InvalidValueError("<maxMemory> of the domain XML", str(read_size(room)), f"{memory} or more")


def _cells(domain: Element) -> tuple[int, ...]:
    cells = domain.findall("./cpu/numa/cell")
    if not cells:
        raise InvalidValueError(
            "<numa> of the domain XML", "none", "one <cell> at least: a memory device lies on a NUMA node of the guest"
        )
    return tuple(int(cell.get("id", str(number))) for number, cell in enumerate(cells))


def _check_element(element: Element, machine: Element | None) -> None:
    path = element.findtext("./source/path") or ""
    if not path:
        raise InvalidValueError(
            "path of a memory device", "none", "the absolute path of its backing in <source>, e.g. /dev/dax0.0"
        )
    if discard := element.get("discard"):
        raise InvalidValueError(f"discard of {path}", discard, "none: only ordinary memory (dimm) has it")
    architecture = "" if machine is None else machine.get("arch", "")
    uuid = element.findtext("./uuid")
    if uuid is not None and architecture not in _ARCHITECTURES_WITH_UUID:
        raise InvalidValueError(f"uuid of {path}", uuid, f"none on {architecture or 'x86_64'}: only pSeries has it")
