"""Domain XML, built and read with lxml.

The elements are those of libvirt's formatdomain document: *Memory devices*, *NUMA topology*, *General metadata*.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain import Access, GuestSpec, VpmemDevice, VpmemModel
from VpmemLibrary.guest.network import mac_address
from VpmemLibrary.sizes import KiB, Size

if TYPE_CHECKING:
    from lxml.etree import _Element as Element

MARK_NAMESPACE = "https://robotframework-vpmem/domain/1"
"""The XML namespace of this project's mark in a domain's metadata; a name, not an address."""

AGENT_CHANNEL = "org.qemu.guest_agent.0"
CONSOLE_LOG = "/var/log/libvirt/qemu/{name}-console.log"

# libvirt's scaled integers: formatdomain, *Memory Allocation*; the letters mean powers of 1024 and may be of any case.
_UNITS = {"b": 1, "byte": 1, "bytes": 1}
for _power, _letter in enumerate("kmgtpe", start=1):
    _UNITS |= {_letter: KiB**_power, f"{_letter}ib": KiB**_power, f"{_letter}b": 1000**_power}


def build_domain(spec: GuestSpec, *, security_driver: str = "") -> str:
    """Return the XML of a whole domain.

    The domain has no more than a guest needs to boot fast and to be looked into: no display, no USB, and a network only
    where it is asked for.

    Args:
        spec: What it should be.
        security_driver: What confines guests on the host; empty where nothing does.
    """
    from lxml import etree  # noqa: PLC0415
    from lxml.builder import E  # noqa: PLC0415

    os_element = E.os(E.type("hvm", arch="x86_64", machine=spec.machine))
    for name in ("kernel", "initrd", "cmdline"):
        if value := getattr(spec.boot, name):
            os_element.append(_text(name, value))
    devices = E.devices(
        E.controller(type="usb", model="none"),
        E.memballoon(model="none"),
        E.panic(model="isa"),
        E.rng(E.backend("/dev/urandom", model="random"), model="virtio"),
        E.serial(E.log(file=CONSOLE_LOG.format(name=spec.name), append="off"), type="pty"),
        # Of QEMU's 31 ports each has two queues to be made, whether it is used or not.
        E.controller(type="virtio-serial", index="0", ports="4"),
        E.channel(E.target(type="virtio", name=AGENT_CHANNEL), type="unix"),
    )
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
        # Linux leaves the HPET that it booted with counting, and QEMU wakes for each of its ticks.
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
    """Return the persistent-memory devices of a domain, whoever defined it, in the order of its XML.

    Raises:
        InvalidValueError: It is no XML.
    """
    return tuple(
        _read_device(element)
        for element in parse_domain(xml).findall("./devices/memory")
        if element.get("model") in tuple(VpmemModel)
    )


@dataclass(frozen=True, slots=True)
class Room:
    """How much memory a domain may have.

    Args:
        maximum: ``<maxMemory>``; 0 where there is none, and no device can be attached.
        slots: Its memory slots.
        used_slots: How many memory devices there are, of whatever model.
        memory: RAM and the devices.
        cells: How many NUMA nodes it has.
    """

    maximum: Size
    slots: int
    used_slots: int
    memory: Size
    cells: int


def read_room(xml: str) -> Room:
    """Return how much memory a domain may have, and has.

    Raises:
        InvalidValueError: It is no domain XML.
    """
    domain = parse_domain(xml)
    maximum = domain.find("./maxMemory")
    return Room(
        maximum=read_size(maximum) or Size(0),
        slots=0 if maximum is None else int(maximum.get("slots", "0")),
        used_slots=len(domain.findall("./devices/memory")),
        memory=read_size(domain.find("./memory")) or Size(0),
        cells=len(domain.findall("./cpu/numa/cell")),
    )


def read_ram(xml: str) -> Size:
    """Return the RAM of a domain, without its memory devices: its NUMA cells', or where it has none its memory.

    Raises:
        InvalidValueError: It is no domain XML.
    """
    domain = parse_domain(xml)
    cells = domain.findall("./cpu/numa/cell")
    if cells:
        return Size(sum(cell_memory(cell) for cell in cells))
    devices = sum(read_size(size) or Size(0) for size in domain.findall("./devices/memory/target/size"))
    return (read_size(domain.find("./memory")) or Size(0)) - devices


def cell_memory(cell: Element) -> Size:
    """Return the RAM of a NUMA cell, which is an attribute there and not a text."""
    from lxml import etree  # noqa: PLC0415

    element = etree.Element("memory", unit=cell.get("unit", "KiB"))
    element.text = cell.get("memory", "")
    return read_size(element) or Size(0)


def read_name(xml: str) -> str:
    """Return the name of a domain.

    Raises:
        InvalidValueError: It is no domain XML, or has no name.
    """
    name = parse_domain(xml).findtext("./name") or ""
    if not name:
        raise InvalidValueError("domain XML", "no <name>", "one with a name")
    return name


def read_mark(xml: str) -> str:
    """Return the id of the run that made a domain; empty when none did."""
    mark = parse_domain(xml).find(f"./metadata/{{{MARK_NAMESPACE}}}made-by")
    return "" if mark is None else mark.get("run", "")


def read_console_log(xml: str) -> tuple[str, bool]:
    """Return the path of the file that keeps a domain's serial console, and whether a new start appends to it.

    The path is empty when the domain has no such file.
    """
    log = parse_domain(xml).find("./devices/serial/log")
    return ("", False) if log is None else (log.get("file", ""), log.get("append") == "on")


def read_interface(xml: str) -> tuple[str, str]:
    """Return the MAC address and the bridge of a domain's first interface on a bridge; empty when it has none."""
    interface = parse_domain(xml).find("./devices/interface[@type='bridge']")
    if interface is None:
        return "", ""
    mac, source = interface.find("./mac"), interface.find("./source")
    return ("" if mac is None else mac.get("address", ""), "" if source is None else source.get("bridge", ""))


def parse_domain(xml: str, *, comments: bool = False) -> Element:
    """Return the root of a domain's XML; see `parse_xml`.

    Args:
        xml: The domain's XML.
        comments: Whether to keep comments.

    Raises:
        InvalidValueError: It is not well-formed, or is no domain.
    """
    return parse_xml(xml, "domain", comments=comments)


def parse_xml(xml: str, root: str, *, comments: bool = False) -> Element:
    """Return the root of an XML document of libvirt's; no entity is resolved and no file is read.

    Args:
        xml: The XML.
        root: The name that the root element must have.
        comments: Whether to keep comments.

    Raises:
        InvalidValueError: It is not well-formed, or has another root.
    """
    from lxml import etree  # noqa: PLC0415

    parser = etree.XMLParser(resolve_entities=False, no_network=True, remove_comments=not comments)
    try:
        element = etree.fromstring(xml.encode(), parser)
    except (etree.XMLSyntaxError, UnicodeEncodeError) as error:
        raise InvalidValueError(f"{root} XML", xml[:80], f"well-formed XML ({error})") from error
    if element.tag != root:
        raise InvalidValueError(f"{root} XML", f"<{element.tag}>", f"a <{root}> element")
    return element


def _read_device(element: Element) -> VpmemDevice:
    slot = element.find("./address")
    alias = element.find("./alias")
    access = element.get("access")
    node = element.findtext("./target/node")
    return VpmemDevice(
        path=element.findtext("./source/path", ""),
        size=read_size(element.find("./target/size")) or Size(0),
        model=VpmemModel(element.get("model", "")),
        label_size=read_size(element.find("./target/label/size")),
        align=read_size(element.find("./source/alignsize")),
        access=Access(access) if access else None,
        pmem=element.find("./source/pmem") is not None,
        readonly=element.find("./target/readonly") is not None,
        node=int(node) if node else None,
        slot=None if slot is None or slot.get("type") != "dimm" else int(slot.get("slot", "0"), 0),
        alias="" if alias is None else alias.get("name", ""),
    )


def read_size(element: Element | None) -> Size | None:
    """Return a scaled integer of libvirt's, in KiB when it has no unit; None where there is none.

    Raises:
        InvalidValueError: It is not a whole number of a unit of libvirt's.
    """
    if element is None or not (text := (element.text or "").strip()):
        return None
    unit = element.get("unit", "KiB")
    if not text.isdecimal() or unit.lower() not in _UNITS:
        raise InvalidValueError(f"<{element.tag}> of the domain XML", f"{text} {unit}", "a whole number, e.g. in KiB")
    return Size(int(text) * _UNITS[unit.lower()])


def _text(name: str, text: str) -> Element:
    """Return an element with a text, or raise if no XML can hold that text."""
    from lxml import etree  # noqa: PLC0415

    element = etree.Element(name)
    try:
        element.text = text
    except ValueError:
        raise InvalidValueError(name, text, "text without control characters") from None
    return element


def mark_element(run_id: str) -> Element:
    """Return the mark of a run, for a domain's ``<metadata>``."""
    from lxml import etree  # noqa: PLC0415

    return etree.Element(f"{{{MARK_NAMESPACE}}}made-by", {"run": run_id}, nsmap={"vpmem": MARK_NAMESPACE})


def numa_element(memory: Size, vcpus: int, cells: int = 1) -> Element:
    """Return a ``<numa>`` element whose cells share RAM evenly and CPUs in turn."""
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
