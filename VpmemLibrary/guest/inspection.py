"""Inspect a running guest: its QEMU process, its regions, and the independent views of its devices."""

from __future__ import annotations

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import AmbiguousError, NotFoundError
from VpmemLibrary.guest.domain.records import VpmemDevice, VpmemModel, in_slots
from VpmemLibrary.guest.domain.xml import read_devices
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.views import mappings
from VpmemLibrary.guest.views.argv import argv_devices
from VpmemLibrary.guest.views.inside import device_key, inside_devices, inside_regions
from VpmemLibrary.guest.views.qemu_options import config_files
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.guest.views.qmp import pci_aliases, qmp_addresses, qmp_devices
from VpmemLibrary.guest.views.views import compare
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.transport.base import query

_TARGET = 'readlink -f -- "$1" || printf "%s\\n" "$1"'


def qemu_process(guest: Guest) -> QemuProcess:
    """Return the attributes that identify a guest's QEMU among the processes of the host.

    Raises:
        GuestError: The guest is not running.
    """
    return QemuProcess.of(guest.name, guest.xml(), guest.host.name)


def process_id(guest: Guest) -> int:
    """Return the process id of a guest's QEMU on the host.

    Raises:
        GuestError: The guest is not running.
    """
    return qemu_process(guest).read(guest.host)[0]


def mapping_flags(guest: Guest, device: VpmemDevice) -> tuple[str, ...]:
    """Return the kernel's flags of the mapping by which QEMU uses the backing of a device.

    Raises:
        GuestError: The guest is not running.
        NotFoundError: QEMU has not mapped the backing.
    """
    qemu = qemu_process(guest)
    try:
        return mappings.mapping_flags(guest.host, qemu, device.path)
    except NotFoundError:  # the kernel lists the link's target, not the link (/dev/disk/by-id/...)
        target = guest.host.run(query(_TARGET, device.path)).check().text.rstrip("\n")
        if target == device.path:
            raise
        return mappings.mapping_flags(guest.host, qemu, target)


def regions_by_path(guest: Guest) -> dict[str, Region]:
    """Return the region of each device in a guest's kernel, by the path of the device's backing.

    Read all regions at once. Leave out devices without a region.
    """
    regions = inside_regions(guest.transport)
    aliases, addresses = _aliases(guest) if any(isinstance(region.key, str) for region in regions) else ({}, {})
    names = {device_key(region, aliases, addresses): region.name for region in regions}
    by_name = {region.dev: region for region in guest.ndctl.inventory().regions}
    paths = {
        device.slot if device.slot is not None else device.alias or device.path: device.path
        for device in in_slots(guest.live_devices)
    }
    return {paths[key]: by_name[name] for key, name in names.items() if key in paths and name in by_name}


def region_of(guest: Guest, device: VpmemDevice) -> Region:
    """Return the region of a device in a guest's kernel.

    Raises:
        NotFoundError: The guest's kernel has no region for the device.
    """
    found = regions_by_path(guest).get(device.path)
    if found is None:
        there = [f"{region.dev} ({region.provider})" for region in guest.ndctl.inventory().regions]
        raise NotFoundError(f"region for the {device.model} with backing", device.path, there, where=str(guest))
    return found


def node_of(guest: Guest, device: VpmemDevice) -> str:
    """Return the device node of the one namespace in a device's region, as a path in the guest.

    Raises:
        NotFoundError: The region has no namespace with a node.
        AmbiguousError: The region has several namespaces with a node.
    """
    region = region_of(guest, device)
    nodes = [namespace.device for namespace in region.namespaces if namespace.device]
    if len(nodes) > 1:
        raise AmbiguousError(f"{region.dev} in guest {guest.name} has {len(nodes)} nodes: {', '.join(nodes)}.")
    if not nodes:
        raise NotFoundError("device node in", region.dev, [], where=f"guest {guest.name}")
    return nodes[0]


def compare_views(guest: Guest) -> tuple[Agreement, ...]:
    """Compare the independent views of each device. Include devices that only some views have.

    Raises:
        GuestError: The guest is not running, or its agent does not answer.
    """
    _, argv = qemu_process(guest).read(guest.host)
    return compare(
        guest.name,
        asked=guest.devices,
        xml=guest.live_devices,
        argv=argv_devices(argv),
        qmp=qmp_devices(guest.ask_monitor),
        inside=inside_devices(inside_regions(guest.transport), *_aliases(guest)),
        inactive=read_devices(guest.xml(inactive=True)),
        config_files=config_files(argv),
    )


def _aliases(guest: Guest) -> tuple[dict[str, str], dict[int, str]]:
    """Return the aliases of PCI devices by their PCI address, and the backings of devices without an alias.

    Both are empty for a guest without a virtio-pmem device.
    """
    virtio = [device for device in guest.live_devices if device.model is VpmemModel.virtio_pmem]
    nameless = any(not device.alias for device in virtio)
    return (
        pci_aliases(guest.ask_monitor) if virtio else {},
        qmp_addresses(guest.ask_monitor) if nameless else {},
    )
