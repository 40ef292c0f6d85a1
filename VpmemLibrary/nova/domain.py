"""The domain XML of a server. Its memory elements are the same as those that Nova writes.

Source: nova/virt/libvirt/config.py and driver.py (read at 00a030403f67). All sizes are in KiB without a unit.
``maxMemory`` is RAM and devices, with one slot a device and no spare slot. ``memory`` is RAM only. Each device is an
nvdimm with shared access, the namespace's alignment, ``pmem``, node 0 and a label area of 2 MiB.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.guest.domain.xml import build_domain, device_element, parse_domain
from VpmemLibrary.guest.prediction import NOVA_LABEL, nova_memory
from VpmemLibrary.nova.flavor import Flavor
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import KiB, Size

if TYPE_CHECKING:
    from lxml.etree import _Element as Element


def server_devices(namespaces: Sequence[Namespace]) -> tuple[VpmemDevice, ...]:
    """Return the devices that Nova creates for namespaces, in the order of the namespaces.

    Raises:
        InvalidValueError: A namespace has no device, or two namespaces have the same device.
    """
    for namespace in namespaces:
        if not namespace.device:
            raise InvalidValueError("namespace", namespace.called, "an active devdax namespace: this one has no device")
    sizes = nova_memory(Size(0), [namespace.size for namespace in namespaces]).targets
    return tuple(
        VpmemDevice(
            namespace.device, Size(size * KiB), label_size=NOVA_LABEL, align=namespace.align or NOVA_LABEL, node=0
        )
        for namespace, size in zip(namespaces, sizes, strict=True)
    )


def server_domain(
    name: str, flavor: Flavor, namespaces: Sequence[Namespace], boot: BootSource, *, run_id: str, hypervisor: str
) -> str:
    """Return the XML of a server's domain.

    Args:
        name: The domain's name.
        flavor: The server's flavor.
        namespaces: The server's namespaces, in the order of the flavor's labels.
        boot: The boot source of the server.
        run_id: The id of the run that creates the server.
        hypervisor: ``kvm`` or ``qemu``.

    Raises:
        InvalidValueError: A namespace has no device.
    """
    from lxml import etree  # noqa: PLC0415

    spec = GuestSpec(name, boot, memory=flavor.ram, vcpus=flavor.vcpus, run_id=run_id, hypervisor=hypervisor)
    domain = parse_domain(build_domain(spec))
    devices = server_devices(namespaces)
    sizes = nova_memory(flavor.ram, [namespace.size for namespace in namespaces])
    _set(domain, "memory", str(sizes.memory))
    _remove(domain, "currentMemory")
    if devices:
        _set(domain, "maxMemory", str(sizes.max_memory), slots=str(sizes.slots))
    else:
        _remove(domain, "maxMemory")
    holder = domain.find("./devices")
    assert holder is not None  # noqa: S101  build_domain made it
    for device in devices:
        element = device_element(device)
        for each in element.iter():
            if "unit" in each.attrib:
                del each.attrib["unit"]
        holder.append(element)
    return etree.tostring(domain, pretty_print=True, encoding="unicode")


def _set(domain: Element, tag: str, text: str, **attributes: str) -> None:
    element = domain.find(tag)
    assert element is not None  # noqa: S101  build_domain made it
    element.attrib.clear()
    for name, value in attributes.items():
        element.set(name, value)
    element.text = text


def _remove(domain: Element, tag: str) -> None:
    element = domain.find(tag)
    if element is not None:
        domain.remove(element)
