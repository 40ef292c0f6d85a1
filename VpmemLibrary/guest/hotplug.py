"""Attach devices to a guest and detach them: while the guest runs, for its next start, or both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from queue import Empty, SimpleQueue

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import (
    GuestError,
    InvalidValueError,
    LibvirtError,
    NotFoundError,
    OutOfSpaceError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline, limit_to_deadline
from VpmemLibrary.guest.domain.access import effective_access
from VpmemLibrary.guest.domain.checks import backing_identities, check_backings, check_devices
from VpmemLibrary.guest.domain.domains import libvirt_version, refuse_shared
from VpmemLibrary.guest.domain.qemu_features import pmem_explained
from VpmemLibrary.guest.domain.records import VpmemDevice, VpmemModel
from VpmemLibrary.guest.domain.xml import SLOTS_OF_DIMMS_ALONE, device_element, parse_domain, read_devices, read_room
from VpmemLibrary.guest.guest import Guest, device_with_backing
from VpmemLibrary.guest.inspection import regions_by_path
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.polling import poll
from VpmemLibrary.sizes import Size

_POLL = 0.5
"""Seconds between two polls of the guest's kernel, which finds a new device some time after QEMU added it."""

_EVENT_SECONDS = 60.0
"""Seconds to wait for the event of a new device. QEMU sends it at once, but a busy host with emulation is slow."""

_NO_UNPLUG = "QEMU cannot remove an NVDIMM or a virtio-pmem device from a running guest. Detach it for the next start."


class Attached(Struct, frozen=True):
    """The result of attaching a device.

    Args:
        device: The device as libvirt lists it, with its slot or alias.
        event: The alias in libvirt's event; empty if the guest is not running. libvirt 11.3 names the memory backend
            (``memnvdimm1``) for some devices and the device (``nvdimm1``) for others.
        region: The region of the device in the guest's kernel; None if the guest is not running.
    """

    device: VpmemDevice
    event: str = ""
    region: Region | None = None


def attach(guest: Guest, device: VpmemDevice, *, live: bool, persistent: bool, timeout: float) -> Attached:
    """Attach a device. In a running guest, wait for libvirt's event and for the region in the guest's kernel.

    Args:
        guest: The guest.
        device: The device.
        live: Attach the device to the running guest.
        persistent: Attach the device to the configuration of the next start.
        timeout: Seconds for the whole action, until the guest's kernel must have the region.

    Returns:
        The device with its slot or alias, the alias in the event, and the region in the guest's kernel.

    Raises:
        InvalidValueError: The device is invalid, another device uses the backing, or neither `live` nor `persistent` is
            true.
        OutOfSpaceError: The guest has no free memory slot or not enough room.
        LibvirtError: libvirt or QEMU refused.
        GuestError: No event came, or the guest's kernel had no region for the device within `timeout`.
    """
    if not live and not persistent:
        raise InvalidValueError("live and persistent", "False and False", "at least one of them True")
    with libvirt_deadline(timeout):
        return _attach(guest, device, live=live, persistent=persistent, timeout=timeout)


def _attach(guest: Guest, asked: VpmemDevice, *, live: bool, persistent: bool, timeout: float) -> Attached:
    import libvirt  # noqa: PLC0415

    there, device = set(), asked
    version = libvirt_version(guest.link)
    xml = _element_text(asked)  # only what was asked for; the domain decides the rest
    for inactive in [each for each, wanted in ((True, persistent), (False, live)) if wanted]:
        domain = guest.xml(inactive=inactive)
        device = in_domain(domain, asked)
        check_room(guest.name, domain, device, libvirt=version)
        there |= {each.path for each in read_devices(domain)}
    check_backings(guest.host, [device])
    _refuse_own_backing(guest, device, sorted(there))
    refuse_shared(guest.host, guest.link, guest.name, [device])
    flags = (libvirt.VIR_DOMAIN_AFFECT_LIVE if live else 0) | (libvirt.VIR_DOMAIN_AFFECT_CONFIG if persistent else 0)
    if not live:
        guest.act("attach a device to", lambda domain: domain.attachDeviceFlags(xml, flags))
        guest.add_expected_device(device)
        return Attached(_as_listed(guest, device.path, inactive=True))
    added: SimpleQueue[str] = SimpleQueue()
    event_id = libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_ADDED
    with (
        guest.link.listening(guest.name, event_id, lambda _connection, _domain, alias, _opaque: added.put(alias)),
        pmem_explained(),
    ):
        guest.act("attach a device to", lambda domain: domain.attachDeviceFlags(xml, flags))
        guest.add_expected_device(device)
        seconds = limit_to_deadline(_EVENT_SECONDS)
        try:
            event = added.get(timeout=seconds)
        except Empty:
            failure = f"libvirt reported no new device in guest {guest.name} within {seconds:g} s."
            raise GuestError(failure) from None
    return Attached(_as_listed(guest, device.path, inactive=False), event, _wait_for_region(guest, device, timeout))


def detach(guest: Guest, path: str, *, live: bool) -> None:
    """Detach a device from the configuration of the next start, or from the running guest. QEMU refuses the latter.

    Args:
        guest: The guest.
        path: The backing of one of the guest's devices.
        live: Detach the device from the running guest.

    Raises:
        NotFoundError: The guest has no device with that backing.
        UnsupportedError: The device comes from ``<qemu:commandline>``.
        LibvirtError: libvirt refused, as it always does with `live`. The message says what to do.
    """
    import libvirt  # noqa: PLC0415

    xml = _listed_text(guest.name, guest.xml(inactive=not live), path)
    flags = libvirt.VIR_DOMAIN_AFFECT_LIVE if live else libvirt.VIR_DOMAIN_AFFECT_CONFIG
    try:
        guest.act("detach a device from", lambda domain: domain.detachDeviceFlags(xml, flags))
    except LibvirtError as error:
        if live:
            error.add(_NO_UNPLUG)
        raise
    if guest.state() == "shut off":
        guest.remove_expected_device(path)


def in_domain(xml: str, device: VpmemDevice) -> VpmemDevice:
    """Return a device with its effective access, which the device, its NUMA cell or the domain sets.

    Raises:
        InvalidValueError: `xml` is no domain XML.
    """
    return replace(device, access=effective_access(parse_domain(xml), device.access, device.node))


def check_room(name: str, xml: str, device: VpmemDevice, *, libvirt: int | None = None) -> None:
    """Raise unless a domain has room for one more device.

    Args:
        name: The guest's name.
        xml: The domain XML.
        device: The device.
        libvirt: The version of the host's libvirt in the format of getLibVersion; None for a new version.

    Raises:
        InvalidValueError: The device is invalid, or another device of the guest uses its backing.
        OutOfSpaceError: The guest has no free memory slot, or no room below ``maxMemory``.
    """
    there = read_devices(xml)
    room = read_room(xml, libvirt=libvirt)
    check_devices([*there, device], given=len(there), cells=room.cells or None)
    by_all = libvirt is not None and libvirt < SLOTS_OF_DIMMS_ALONE
    needs_slot = by_all or device.model is VpmemModel.nvdimm
    if needs_slot and room.used_slots >= room.slots:
        raise OutOfSpaceError(
            f"Guest {name} has no free memory slot for {device.path}: of its {room.slots} slots, {room.used_slots} are "
            f"in use ({'memory devices of every model' if by_all else 'DIMMs and NVDIMMs'} use one each). Define the "
            "guest with more spare slots."
        )
    if room.memory + device.size > room.maximum:
        raise OutOfSpaceError(
            f"Guest {name} has no room for the {device.size} of {device.path}: {room.memory} of {room.maximum} are in "
            f"use, and {Size(max(0, room.maximum - room.memory))} are free. "
            "Define the guest with a larger maxMemory."
        )


def _refuse_own_backing(guest: Guest, device: VpmemDevice, paths: Sequence[str]) -> None:
    """Raise if a device of the guest already uses the backing, even by another path."""
    identities = backing_identities(guest.host, [device.path, *paths])
    for path in paths:
        if identities[path] == identities[device.path]:
            raise InvalidValueError("path", device.path, f"another backing: it is the same as {path}")


def _element_text(device: VpmemDevice) -> str:
    from lxml import etree  # noqa: PLC0415

    return etree.tostring(device_element(device), encoding="unicode")


def _listed_text(name: str, xml: str, path: str) -> str:
    """Return the XML element of the device with a given backing from a domain XML, with its address."""
    from lxml import etree  # noqa: PLC0415

    for element in parse_domain(xml).findall("./devices/memory"):
        if element.findtext("./source/path") == path:
            return etree.tostring(element, encoding="unicode")
    if path in [each.path for each in read_devices(xml)]:
        raise UnsupportedError(
            f"The XML of guest {name} adds {path} by <qemu:commandline>, so libvirt does not know the device. Remove "
            "its -object and -device from the XML."
        )
    raise NotFoundError("device on", path, [each.path for each in read_devices(xml)], where=f"guest {name}")


def _as_listed(guest: Guest, path: str, *, inactive: bool) -> VpmemDevice:
    return device_with_backing(read_devices(guest.xml(inactive=inactive)), path, guest.name)


def _wait_for_region(guest: Guest, device: VpmemDevice, timeout: float) -> Region:
    def failure(error: Exception | None) -> GuestError:
        last = f" The last attempt to read its regions failed: {error}" if error else ""
        return GuestError(
            f"The kernel of guest {guest.name} had no region for {device.path} within {timeout:g} s of the call to "
            f"attach it.{last}\nIts console ends with:\n{guest.console.tail() or '(nothing)'}"
        )

    with libvirt_deadline(timeout) as deadline:
        return poll(
            lambda: regions_by_path(guest).get(device.path),
            f"the kernel of guest {guest.name} to find {device.path}",
            timeout=deadline - time.monotonic(),
            interval=_POLL,
            failure=failure,
            retry_on=VpmemError,  # the agent may be slow while the kernel adds the device
        )
