"""Build and read domain XML with lxml.

The elements are from libvirt's formatdomain document: *Memory devices*, *NUMA topology*, *General metadata*.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from VpmemLibrary.errors import GuestError, InvalidValueError
from VpmemLibrary.guest.domain.access import effective_access, read_access
from VpmemLibrary.guest.domain.network import mac_address
from VpmemLibrary.guest.domain.records import Access, DeviceKey, GuestSpec, VpmemDevice, VpmemModel, in_slots
from VpmemLibrary.guest.views.argv import argv_devices
from VpmemLibrary.sizes import KiB, MiB, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lxml.etree import _Element as Element

MARK_NAMESPACE = "https://robotframework-vpmem/domain/1"
"""The XML namespace of this project's mark in a domain's metadata. It is a name, not an address."""

QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"
"""The XML namespace of ``<qemu:commandline>``. It is a name, not an address."""

MODELS_IN_SLOTS = ("dimm", "nvdimm")
"""The models of memory device that use a memory slot. Other models are PCI devices or have no address."""

_RAM_MODELS = ("dimm", "virtio-mem")

SLOTS_OF_DIMMS_ALONE = 9_005_000
"""The first libvirt version in which only DIMMs use slots, in the format of getLibVersion (libvirt's NEWS)."""

AGENT_CHANNEL = "org.qemu.guest_agent.0"
CONSOLE_LOG = "/var/log/libvirt/qemu/{name}-console.log"

# libvirt's scaled integers: formatdomain, *Memory Allocation*. The letters mean powers of 1024, in upper or lower case.
_LONGEST = 8 * MiB
_SHOWN = 80
_NUMBER = r"(?a)0[xX][0-9a-fA-F]{1,15}|[0-9]{1,18}"
_DECIMAL = r"(?a)\+?[0-9]{1,20}"

_UNITS = {"b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _UNITS |= {_letter: KiB**_power, f"{_letter}ib": KiB**_power, f"{_letter}b": 1000**_power}


def build_domain(spec: GuestSpec, *, security_driver: str = "") -> str:
    """Return the XML of a whole domain.

    The domain has only what a guest needs to boot fast and to be inspected: no display, no USB, and a network only on
    request.

    Args:
        spec: The specification of the guest.
        security_driver: The security driver that confines guests on the host; empty if there is none.
    """
    from lxml import etree  # noqa: PLC0415
    from lxml.builder import E  # noqa: PLC0415

    machine = {"machine": spec.machine} if spec.machine else {}  # otherwise libvirt chooses one
    os_element = E.os(E.type("hvm", arch="x86_64", **machine))
    for name in ("kernel", "initrd", "cmdline"):
        if value := getattr(spec.boot, name):
            os_element.append(_text(name, value))
    devices = E.devices(
        E.controller(type="usb", model="none"),
        E.memballoon(model="none"),
        E.panic(model="isa"),
        E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
        E.serial(E.log(file=CONSOLE_LOG.format(name=spec.name), append="off"), type="pty"),
        # By default QEMU has 31 ports and creates two queues for each port, even if it is unused. So the guest gets
        # only 4 ports.
        E.controller(type="virtio-serial", index="0", ports="4"),
        E.channel(E.target(type="virtio", name=AGENT_CHANNEL), type="unix"),
    )
    if "q35" in spec.machine:  # on q35 a PCI device can be attached later only to a free port
        devices.append(E.controller(type="pci", index="0", model="pcie-root"))
        for _ in range(spec.spare_slots):
            devices.append(E.controller(type="pci", model="pcie-root-port"))
    if spec.boot.disk:
        devices.append(_disk(spec.boot.disk))
    if spec.bridge:
        devices.append(_interface(spec))
    for device in spec.devices:
        devices.append(device_element(device))
    domain = E.domain(
        E.name(spec.name),
        E.metadata(mark_element(spec.run_id)),
        E.maxMemory(str(spec.max_memory // KiB), slots=str(spec.slots), unit="KiB"),
        E.memory(str((spec.memory + sum(device.size for device in spec.devices)) // KiB), unit="KiB"),
        E.currentMemory(str(spec.memory // KiB), unit="KiB"),
        E.vcpu(str(spec.vcpus)),
        os_element,
        E.features(E.acpi(), E.apic()),
        _cpu(spec),
        # Linux leaves the HPET running after the boot, and QEMU wakes up for each tick of the HPET.
        E.clock(E.timer(name="hpet", present="no"), offset="utc"),
        E.on_poweroff("destroy"),
        E.on_reboot("restart"),
        E.on_crash("destroy"),
        devices,
        type=spec.hypervisor,
    )
    if security_driver and not spec.confined:
        domain.append(E.seclabel(type="none", model=security_driver))
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def device_element(device: VpmemDevice) -> Element:
    """Return the ``<memory>`` element of a device."""
    from lxml.builder import E  # noqa: PLC0415

    source: Element = E.source(_text("path", device.path))
    if device.align is not None:
        source.append(E.alignsize(str(device.align // KiB), unit="KiB"))
    if device.pmem and device.model is VpmemModel.nvdimm:
        source.append(E.pmem())
    target = E.target(E.size(str(device.size // KiB), unit="KiB"))
    if device.node is not None:
        target.append(E.node(str(device.node)))
    if device.label_size is not None:
        target.append(E.label(E.size(str(device.label_size // KiB), unit="KiB")))
    if device.readonly:
        target.append(E.readonly())
    element: Element = E.memory(source, target, model=str(device.model))
    if device.access is not None:
        element.set("access", str(device.access))
    return element


def read_devices(xml: str) -> tuple[VpmemDevice, ...]:
    """Return the persistent-memory devices of a domain in the order of its XML. Any user may have defined the domain.

    Devices from ``<qemu:commandline>`` come last. Other memory devices are not returned, but the slot of a DIMM
    counts when libvirt assigns the slots of the NVDIMMs.

    Raises:
        InvalidValueError: `xml` is no domain XML, or a value in it does not have libvirt's form.
    """
    domain = parse_domain(xml)
    elements = domain.findall("./devices/memory")
    in_order = [
        _read_device(domain, element)
        for element in elements
        if element.get("model") in MODELS_IN_SLOTS or element.get("model") in tuple(VpmemModel)
    ]
    models = [element.get("model") for element in elements if element.get("model") in (*MODELS_IN_SLOTS, *VpmemModel)]
    if "dimm" in models or command_line(domain):
        in_order = list(in_slots(in_order))
    found = [device for device, model in zip(in_order, models, strict=True) if model in tuple(VpmemModel)]
    return (*found, *_command_line_devices(domain, [each.slot for each in in_order if each.slot is not None]))


def command_line(domain: Element) -> tuple[str, ...]:
    """Return the arguments that a domain passes directly to QEMU, in ``<qemu:commandline>``."""
    return tuple(
        argument.get("value", "") for argument in domain.findall(f"./{{{QEMU_NAMESPACE}}}commandline/{{*}}arg")
    )


def _command_line_devices(domain: Element, taken: list[int]) -> list[VpmemDevice]:
    arguments = command_line(domain)
    try:
        views = argv_devices(arguments, taken)
    except GuestError as error:
        raise InvalidValueError("<qemu:commandline> of the domain XML", "", f"options of QEMU ({error})") from None
    return [_command_line_device(key, view) for key, view in views.items()]


def _command_line_device(key: DeviceKey, view: Mapping[str, Any]) -> VpmemDevice:
    nvdimm = isinstance(key, int)
    path = view.get("path", "")
    return VpmemDevice(
        path=path,
        size=view.get("size", Size(0)),
        model=VpmemModel.nvdimm if nvdimm else VpmemModel.virtio_pmem,
        label_size=view.get("label size") or None,
        align=view.get("align"),
        access=Access.shared if view.get("shared") else Access.private,
        pmem=view.get("pmem", False),
        readonly=view.get("readonly", False),
        node=view.get("node", 0) if nvdimm else None,
        slot=key if isinstance(key, int) else None,
        alias="" if isinstance(key, int) or key == path else key,
    )


class Room(Struct, frozen=True):
    """The memory limits of a domain, and how much is used.

    Args:
        maximum: ``<maxMemory>``; 0 if it is absent, and then no device can be attached.
        slots: The number of memory slots.
        used_slots: The number of slots that memory devices use.
        memory: RAM and the devices.
        cells: The number of NUMA nodes.
    """

    maximum: Size
    slots: int
    used_slots: int
    memory: Size
    cells: int


def read_room(xml: str, *, libvirt: int | None = None) -> Room:
    """Return the memory limits of a domain, and how much is used.

    Args:
        xml: The domain's XML.
        libvirt: The version of the host's libvirt in the format of getLibVersion; None for a new version.

    Raises:
        InvalidValueError: `xml` is no domain XML, or a value in it does not have libvirt's form.
    """
    domain = parse_domain(xml)
    maximum = domain.find("./maxMemory")
    cells = len(domain.findall("./cpu/numa/cell"))
    return Room(
        maximum=read_size(maximum) or Size(0),
        slots=0 if maximum is None else whole_number(maximum.get("slots") or "0", "slots of <maxMemory>"),
        used_slots=used_slots(domain, libvirt),
        # With NUMA cells libvirt computes the sum itself (domain_postparse.c, virDomainDefPostParseMemory).
        memory=_ram(domain) + _attached(domain) if cells else read_size(domain.find("./memory")) or Size(0),
        cells=cells,
    )


def used_slots(domain: Element, libvirt: int | None = None) -> int:
    """Return the number of memory slots that a domain's devices use, as a given libvirt counts them.

    Only DIMMs and NVDIMMs use a slot (qemu_domain.c, qemuDomainDefValidateMemoryHotplug). A libvirt before 9.5 counts
    every memory device.

    Args:
        domain: The domain.
        libvirt: The version of the host's libvirt in the format of getLibVersion; None for a new version.
    """
    elements = domain.findall("./devices/memory")
    if libvirt is not None and libvirt < SLOTS_OF_DIMMS_ALONE:
        return len(elements)
    return sum(element.get("model") in MODELS_IN_SLOTS for element in elements)


def read_ram(xml: str) -> Size:
    """Return the RAM of a domain without memory devices: the sum of its NUMA cells, or its memory if it has no cells.

    Raises:
        InvalidValueError: `xml` is no domain XML.
    """
    return _ram(parse_domain(xml))


def read_plugged_ram(xml: str) -> Size:
    """Return the RAM of a domain's memory devices: the DIMMs, and the plugged part of virtio-mem devices.

    Raises:
        InvalidValueError: `xml` is no domain XML.
    """
    targets = (
        element.find("./target")
        for element in parse_domain(xml).findall("./devices/memory")
        if element.get("model") in _RAM_MODELS
    )
    return Size(sum(_plugged(target) for target in targets if target is not None))


def has_balloon(xml: str) -> bool:
    """Return whether a domain has a memory balloon. libvirt adds a balloon unless the XML says ``none``.

    Raises:
        InvalidValueError: `xml` is no domain XML.
    """
    balloon = parse_domain(xml).find("./devices/memballoon")
    return balloon is None or balloon.get("model") != "none"


def _plugged(target: Element) -> Size:
    """Return the size of a DIMM, or the plugged size of a virtio-mem device: before the start, its requested size."""
    for name in ("current", "requested", "size"):
        if (size := read_size(target.find(f"./{name}"))) is not None:
            return size
    return Size(0)


def _ram(domain: Element) -> Size:
    cells = domain.findall("./cpu/numa/cell")
    if cells:
        return Size(sum(cell_memory(cell) for cell in cells))
    memory = read_size(domain.find("./memory")) or Size(0)
    return Size(max(0, memory - _attached(domain)))


def _attached(domain: Element) -> Size:
    """Return the total size of all memory devices of any model. libvirt counts all of them as memory."""
    return Size(sum(read_size(size) or Size(0) for size in domain.findall("./devices/memory/target/size")))


def cell_memory(cell: Element) -> Size:
    """Return the RAM of a NUMA cell, which is in an attribute and not in an element's text."""
    from lxml import etree  # noqa: PLC0415

    element = etree.Element("memory", unit=cell.get("unit", "KiB"))
    element.text = cell.get("memory", "")
    return read_size(element) or Size(0)


def read_name(xml: str) -> str:
    """Return the name of a domain.

    Raises:
        InvalidValueError: `xml` is no domain XML, or has no name.
    """
    name = parse_domain(xml).findtext("./name") or ""
    if not name:
        raise InvalidValueError("domain XML", "without <name>", "a <name>")
    return name


def read_mark(xml: str) -> str:
    """Return the id of the run that defined a domain; empty if no run defined it."""
    mark = parse_domain(xml).find(f"./metadata/{{{MARK_NAMESPACE}}}made-by")
    return "" if mark is None else mark.get("run", "")


def read_console_log(xml: str) -> tuple[str, bool]:
    """Return the path of the log of a domain's serial console, and whether a new start appends to the log.

    The path is empty if the domain has no such log.
    """
    log = parse_domain(xml).find("./devices/serial/log")
    return ("", False) if log is None else (log.get("file", ""), log.get("append") == "on")


def read_interface(xml: str) -> tuple[str, str]:
    """Return the MAC address and the bridge of a domain's first interface on a bridge; both are empty without one."""
    interface = parse_domain(xml).find("./devices/interface[@type='bridge']")
    if interface is None:
        return "", ""
    mac, source = interface.find("./mac"), interface.find("./source")
    return ("" if mac is None else mac.get("address", ""), "" if source is None else source.get("bridge", ""))


def parse_domain(xml: str, *, comments: bool = False) -> Element:
    """Return the root of a domain's XML. See `parse_xml`.

    Args:
        xml: The domain's XML.
        comments: Whether to keep comments.

    Raises:
        InvalidValueError: `xml` is not well-formed, is no domain XML, or defines entities.
    """
    domain = parse_xml(xml, "domain", comments=comments)
    document_type: Any = domain.getroottree().docinfo.internalDTD
    # libvirt replaces an entity by its text, and an entity from a file by nothing.
    if document_type is not None and any(entity.system_url is None for entity in document_type.iterentities()):
        raise InvalidValueError("domain XML", xml[:80], "XML without entities (<!ENTITY>): write their text instead")
    return domain


def parse_xml(xml: str, root: str, *, comments: bool = False) -> Element:
    """Return the root of an XML document from libvirt. The parser resolves no entity and reads no file.

    Args:
        xml: The XML.
        root: The required name of the root element.
        comments: Whether to keep comments.

    Raises:
        InvalidValueError: `xml` is too long, is not well-formed, or has another root.
    """
    from lxml import etree  # noqa: PLC0415

    if len(xml) > _LONGEST:
        raise InvalidValueError(f"{root} XML", f"{len(xml)} characters", f"at most {_LONGEST} characters")
    # The text is already decoded, so the encoding in its XML declaration does not apply.
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        remove_comments=not comments,
        remove_pis=not comments,
        encoding="utf-8",
    )
    try:
        element = etree.fromstring(xml.encode(), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as error:
        raise InvalidValueError(f"{root} XML", xml[:80], f"well-formed XML ({error})") from error
    if element.tag != root:
        raise InvalidValueError(f"{root} XML", f"<{element.tag}>", f"a <{root}> element")
    for inside in list(element.iter(etree.Comment, etree.ProcessingInstruction)):
        _out_of_text(inside)
    return element


def _out_of_text(comment: Element) -> None:
    """Remove a comment that splits the text of an element: ``<name><!-- -->a</name>``."""
    parent = comment.getparent()
    if parent is not None and (comment.tail or "").strip():
        before = comment.getprevious()
        if before is None:
            parent.text = (parent.text or "") + (comment.tail or "")
        else:
            before.tail = (before.tail or "") + (comment.tail or "")
        comment.tail = None
        parent.remove(comment)


def _read_device(domain: Element, element: Element) -> VpmemDevice:
    """Return a memory device of a domain. A DIMM is returned as an nvdimm, because only its slot matters."""
    alias = element.find("./alias")
    node = _node(domain, element)
    model = VpmemModel.virtio_pmem if element.get("model") == VpmemModel.virtio_pmem else VpmemModel.nvdimm
    return VpmemDevice(
        path=element.findtext("./source/path", ""),
        size=read_size(element.find("./target/size")) or Size(0),
        model=model,
        label_size=read_size(element.find("./target/label/size")),
        align=read_size(element.find("./source/alignsize")),
        access=effective_access(domain, read_access(element, "access"), node),
        pmem=element.find("./source/pmem") is not None,
        readonly=element.find("./target/readonly") is not None,
        node=node,
        slot=_slot(element),
        alias="" if alias is None else alias.get("name", ""),
    )


def _node(domain: Element, element: Element) -> int | None:
    """Return the NUMA node of a device. In a domain without NUMA cells libvirt puts DIMMs and NVDIMMs on node 0."""
    text = (element.findtext("./target/node") or "").strip()
    if text:
        return whole_number(text, "<node> of a memory device")
    made = element.get("model") in MODELS_IN_SLOTS and domain.find("./cpu/numa/cell") is None
    return 0 if made else None


def _slot(element: Element) -> int | None:
    address = element.find("./address")
    text = None if address is None or address.get("type") != "dimm" else address.get("slot")
    return whole_number(text, "slot of a memory device") if text else None


def whole_number(text: str, what: str) -> int:
    """Return a number from a domain's XML, decimal or hexadecimal with 0x.

    Raises:
        InvalidValueError: The text is not a whole number.
    """
    if not re.fullmatch(_NUMBER, text.strip()):
        raise InvalidValueError(what, text[:_SHOWN], "a whole number, e.g. 0")
    return int(text, 16 if "x" in text.lower() else 10)


def read_size(element: Element | None) -> Size | None:
    """Return a scaled integer of libvirt as a size, in KiB if it has no unit; None if the element is absent or empty.

    Raises:
        InvalidValueError: The text is not a whole number, or the unit is unknown to libvirt.
    """
    if element is None or not (text := (element.text or "").strip()):
        return None
    unit = element.get("unit", "KiB")
    if not re.fullmatch(_DECIMAL, text) or unit.lower() not in _UNITS:
        shown = f"{text[:_SHOWN]} {unit[:_SHOWN]}"
        raise InvalidValueError(f"<{element.tag}> of the domain XML", shown, "a whole number and a unit: 1024 KiB")
    return Size(int(text) * _UNITS[unit.lower()]).up_to(KiB)  # libvirt rounds up to KiB as well


def _text(name: str, text: str) -> Element:
    """Return an element with a text. Raise if XML cannot contain that text."""
    from lxml import etree  # noqa: PLC0415

    element = etree.Element(name)
    try:
        element.text = text
    except ValueError:
        raise InvalidValueError(name, text, "text without control characters") from None
    return element


def mark_element(run_id: str) -> Element:
    """Return the mark of a run for a domain's ``<metadata>``."""
    from lxml import etree  # noqa: PLC0415

    return etree.Element(f"{{{MARK_NAMESPACE}}}made-by", {"run": run_id}, nsmap={"vpmem": MARK_NAMESPACE})


def numa_element(memory: Size, vcpus: int, cells: int = 1) -> Element:
    """Return a ``<numa>`` element. RAM is divided equally among its cells, and CPUs are assigned in turn."""
    from lxml.builder import E  # noqa: PLC0415

    numa: Element = E.numa()
    for cell in range(cells):
        element: Element = E.cell(id=str(cell), memory=str(memory // cells // KiB), unit="KiB")
        if cpus := [str(cpu) for cpu in range(vcpus) if cpu % cells == cell]:
            element.set("cpus", ",".join(cpus) if cells > 1 or vcpus == 1 else f"0-{vcpus - 1}")
        numa.append(element)
    return numa


def _cpu(spec: GuestSpec) -> Element:
    from lxml.builder import E  # noqa: PLC0415

    numa = numa_element(spec.memory, spec.vcpus, spec.numa_cells)
    cpu: Element = E.cpu(numa, mode="host-passthrough") if spec.hypervisor == "kvm" else E.cpu(numa)
    return cpu


def _interface(spec: GuestSpec) -> Element:
    from lxml.builder import E  # noqa: PLC0415

    interface: Element = E.interface(
        E.mac(address=mac_address(spec.run_id, spec.name)),
        E.source(bridge=spec.bridge),
        E.model(type="virtio"),
        type="bridge",
    )
    return interface


def _disk(path: str) -> Element:
    from lxml.builder import E  # noqa: PLC0415

    form = "qcow2" if path.endswith(".qcow2") else "raw"
    disk: Element = E.disk(
        E.driver(name="qemu", type=form),
        E.source(file=path),
        E.target(dev="vda", bus="virtio"),
        type="file",
        device="disk",
    )
    return disk
