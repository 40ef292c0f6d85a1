"""Compare how much of a guest's memory is RAM and how much is persistent, in each view."""

from __future__ import annotations

import re
from collections.abc import Iterable

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.guest.domain.xml import has_balloon, read_devices, read_plugged_ram, read_ram, read_room
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.inspection import qemu_process
from VpmemLibrary.guest.prediction import guest_region_size
from VpmemLibrary.guest.views.argv import argv_ram
from VpmemLibrary.guest.views.inside import inside_regions
from VpmemLibrary.guest.views.qmp import qmp_attached_ram, qmp_memory, qmp_plugged_ram
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import CommandResult

_INFO_MOST = 1
"""The index of all memory, with devices and ballooned memory, in KiB, in virDomainGetInfo (virDomainInfo.maxMem)."""

# Persistent memory that the guest uses as system RAM (dax_kmem) has the same name and then the driver's name.
_RAM = r"(?a)([0-9a-f]{1,16})-([0-9a-f]{1,16}) : System RAM(?! \(kmem\))"


def memory_views(guest: Guest) -> Agreement:
    """Return how much RAM and persistent memory a running guest has, in its independent views.

    Persistent memory is the usable part of the nvdimm and virtio-pmem devices, without their label areas. DIMMs and
    virtio-mem count as RAM. A balloon takes RAM that the guest still counts as its own. So libvirt's statistics are
    compared only in a guest without a balloon.

    Raises:
        GuestError: The guest is not running, or a command in the guest failed.
    """
    xml = guest.xml()
    base, persistent = qmp_memory(guest.ask_monitor)
    command_line = argv_ram(qemu_process(guest).read(guest.host)[1])
    attached_later = qmp_attached_ram(guest.ask_monitor)
    info = guest.act("read the memory of", lambda domain: domain.info())
    stats = guest.act("read the statistics of", lambda domain: domain.memoryStats())
    return Agreement(
        f"memory of guest {guest.name}",
        {
            "asked for": {"persistent": Size(sum(guest_region_size(device) for device in guest.devices))},
            "live XML": {
                "RAM": read_ram(xml) + read_plugged_ram(xml),
                "persistent": Size(sum(guest_region_size(device) for device in read_devices(xml))),
                "RAM and devices": read_room(xml).memory,
            },
            "libvirt's info": {"RAM and devices": Size(info[_INFO_MOST] * KiB)},
            "libvirt's statistics": (
                {"RAM and devices": Size(stats["actual"] * KiB)} if "actual" in stats and not has_balloon(xml) else {}
            ),
            "QEMU command line": {} if command_line is None else {"RAM": command_line + attached_later},
            "QMP": {"RAM": base + qmp_plugged_ram(guest.ask_monitor), "persistent": persistent},
            "guest's kernel": {
                "RAM": system_ram(guest.transport.run(["cat", "/proc/iomem"]).check()),
                "persistent": Size(sum(region.size for region in inside_regions(guest.transport))),
            },
        },
    )


def system_ram(iomem: CommandResult) -> Size:
    """Return the RAM in a kernel's ``/proc/iomem``, rounded up to whole MiB: the firmware reserves less than 1 MiB.

    Raises:
        UnreadableOutputError: The file shows no RAM. Users other than root see only zeros.
    """
    ranges: Iterable[tuple[str, str]] = re.findall(_RAM, iomem.text)
    total = sum(int(last, 16) - int(first, 16) + 1 for first, last in ranges if int(last, 16))
    if not total:
        raise UnreadableOutputError(iomem, "The kernel shows no System RAM. Only root can read the addresses")
    return Size(total).up_to(MiB)
