"""Check the whole domain XML of a user before the domain is defined.

libvirt reports some of these mistakes itself, with messages that differ by version. libvirt accepts other mistakes
without an error (libvirt, formatdomain, *Memory devices*; tried with libvirt 9.0 and 11.3). This module does not check
for mistakes that libvirt corrects.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.access import read_access
from VpmemLibrary.guest.domain.checks import check_devices
from VpmemLibrary.guest.domain.records import Access, VpmemDevice, VpmemModel
from VpmemLibrary.guest.domain.xml import (
    command_line,
    parse_domain,
    read_devices,
    read_room,
    used_slots,
    whole_number,
)
from VpmemLibrary.guest.prediction import POWER, configured_size
from VpmemLibrary.guest.views.argv import argv_options

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MAKES_A_CELL = 9_006_000
"""libvirt 9.6, in the format of getLibVersion. It is the first version that adds a NUMA cell for memory devices itself.

The source is libvirt's NEWS.
"""

_X86 = ("x86_64", "i686")
_WITH_NVDIMM = {**dict.fromkeys(_X86, "pc or q35"), "aarch64": "virt", **dict.fromkeys(POWER, "pseries")}
"""The machine types that can have an NVDIMM, by architecture (QEMU, hw/i386/pc.c, hw/arm/virt.c, hw/ppc/spapr.c)."""

_TWO_IN_ONE = r"\s*--?(?:object|device|machine|m|M)\s+\S"
"""An option and its value in the same argument. QEMU reports such an argument as an unknown option."""

_WITHOUT = ("isapc", "microvm", "xenpv", "xenfv", "none")


def check_domain(xml: str, *, unshared: bool = False, libvirt: int | None = None) -> None:
    """Raise if a domain XML has a persistent-memory device that is invalid, or that would lose what the guest writes.

    Args:
        xml: The domain's XML.
        unshared: Allow devices without shared access. Such a device loses what the guest writes.
        libvirt: The version of the host's libvirt in the format of getLibVersion. The default is the newest version.

    Raises:
        InvalidValueError: A value is invalid. The message names the element or device, the value, and the valid values.

    Example: ``check_domain(Path("guest.xml").read_text())``.
    """
    domain = parse_domain(xml)
    elements = [element for element in domain.findall("./devices/memory") if element.get("model") in tuple(VpmemModel)]
    for argument in command_line(domain):
        if re.match(_TWO_IN_ONE, argument):
            raise InvalidValueError(
                "<qemu:arg> of the domain XML", argument[:80], "an option or its value: write two <qemu:arg> elements"
            )
    devices = read_devices(xml)
    if not devices:
        return
    given = devices[len(elements) :]
    machine = domain.find("./os/type")
    architecture = "x86_64" if machine is None else machine.get("arch") or "x86_64"
    if any(device.model is VpmemModel.nvdimm for device in devices):
        _check_machine(domain, architecture, "" if machine is None else machine.get("machine", ""))
    if elements:
        _check_room(domain, xml, libvirt)
    if given:
        _check_command_line(domain, given, with_nvdimm=any(each.get("model") == "nvdimm" for each in elements))
    cells = _cells(domain, architecture, libvirt)
    for element in elements:
        _check_element(element, architecture)
    configured = [
        replace(device, size=configured_size(device.size, architecture, device.label_size or 0)) for device in devices
    ]
    check_devices(configured, unshared=unshared, architecture=architecture)
    for device in devices:
        if device.node is not None and device.node not in cells:
            there = " or ".join(map(str, cells))
            raise InvalidValueError(f"node of {device.path}", device.node, f"a NUMA node of the guest: {there}")


def _check_machine(domain: Element, architecture: str, machine: str) -> None:
    """Raise if a guest with this architecture and machine type cannot have an NVDIMM."""
    can = _WITH_NVDIMM.get(architecture)
    if can is None:
        raise InvalidValueError(
            "arch of the domain XML",
            architecture,
            f"an architecture with NVDIMMs: {', '.join(_WITH_NVDIMM)} (QEMU has no NVDIMM on {architecture})",
        )
    if machine.startswith(_WITHOUT):
        raise InvalidValueError("machine of the domain XML", machine, f"a machine type with NVDIMMs: {can}")
    if architecture == "aarch64" and domain.find("./features/acpi") is None:
        raise InvalidValueError(
            "domain XML",
            "without <acpi/>",
            "<acpi/> in <features>, and UEFI firmware (<os firmware='efi'>): aarch64 guests find NVDIMMs by ACPI only",
        )


def _check_room(domain: Element, xml: str, libvirt: int | None) -> None:
    maximum = domain.find("./maxMemory")
    needed = used_slots(domain, libvirt)
    if maximum is None:
        wanted = f"<maxMemory slots='{needed}' unit='KiB'> with the size of RAM and all memory devices together"
        raise InvalidValueError("domain XML", "without <maxMemory>", wanted)
    slots = maximum.get("slots") or "none"
    if needed and (slots == "none" or whole_number(slots, "slots of <maxMemory>") < needed):
        raise InvalidValueError("slots of <maxMemory>", slots, f"{needed} or more, one for each DIMM and NVDIMM")
    room = read_room(xml, libvirt=libvirt)
    if room.maximum < room.memory:
        raise InvalidValueError(
            "<maxMemory> of the domain XML", str(room.maximum), f"{room.memory} or more: RAM and all memory devices"
        )


def _check_command_line(domain: Element, devices: tuple[VpmemDevice, ...], *, with_nvdimm: bool) -> None:
    """Raise if the domain's ``<qemu:commandline>`` adds devices that the machine cannot have."""
    nvdimms = [device for device in devices if device.model is VpmemModel.nvdimm]
    for device in devices:
        if not device.path:
            raise InvalidValueError(
                "<qemu:commandline> of the domain XML",
                f"{device.model} device without a path",
                "an -object memory-backend-file with a mem-path for each device",
            )
    if not nvdimms:
        return
    options = argv_options(command_line(domain))
    if not (with_nvdimm or options.nvdimm):  # libvirt sets nvdimm=on itself for an nvdimm element
        raise InvalidValueError(
            "<qemu:commandline> of the domain XML", "without nvdimm=on", "-machine nvdimm=on before -device nvdimm"
        )
    maximum = domain.find("./maxMemory")
    slots = options.slots or (
        0 if maximum is None else whole_number(maximum.get("slots") or "0", "slots of <maxMemory>")
    )
    needed = used_slots(domain) + len(nvdimms)
    if slots < needed:
        raise InvalidValueError(
            "slots of the domain XML", slots, f"{needed} or more: -m slots={needed},maxmem=16G in <qemu:commandline>"
        )


def _cells(domain: Element, architecture: str, libvirt: int | None) -> tuple[int, ...]:
    cells = domain.findall("./cpu/numa/cell")
    if not cells:
        made = libvirt is None or libvirt >= MAKES_A_CELL or architecture not in (*_X86, "aarch64")
        if not made and domain.find("./devices/memory") is not None:
            raise InvalidValueError(
                "domain XML",
                "without <numa>",
                "a <numa> with a <cell> in <cpu>: a memory device needs a NUMA node, and the host's libvirt adds none, "
                "because it is older than 9.6",
            )
        return (0,)
    return tuple(
        whole_number(cell.get("id") or str(number), "id of a NUMA <cell>") for number, cell in enumerate(cells)
    )


def _check_element(element: Element, architecture: str) -> None:
    path = element.findtext("./source/path") or ""
    if not path:
        raise InvalidValueError(
            "memory device", "without a path", "the absolute path of the backing in <source><path>, e.g. /dev/dax0.0"
        )
    if element.get("discard") == "yes":
        raise InvalidValueError(f"discard of {path}", "yes", "no discard: only ordinary memory (dimm) has it")
    own = read_access(element, "access")
    if element.get("model") == VpmemModel.virtio_pmem and own is not Access.shared:
        raise InvalidValueError(
            f"access of {path}",
            str(own or "none"),
            "shared: libvirt requires access='shared' in the <memory> element of a virtio-pmem device",
        )
    uuid = element.findtext("./uuid")
    if uuid is not None and architecture not in POWER:
        raise InvalidValueError(f"uuid of {path}", uuid, f"no <uuid> on {architecture}: only pSeries has it")
    if architecture in POWER and element.get("model") == VpmemModel.nvdimm and element.find("./target/label") is None:
        raise InvalidValueError(
            f"label_size of {path}", "none", "a label area, e.g. 128KiB: every NVDIMM of a pSeries guest has one"
        )
