"""What of a guest's memory is RAM and what is persistent, as each view has it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.errors import UnreadableOutputError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.inside import inside_regions
from VpmemLibrary.guest.prediction import guest_region_size
from VpmemLibrary.guest.qmp import qmp_memory
from VpmemLibrary.guest.xml import read_devices, read_ram, read_room
from VpmemLibrary.host.transport import CommandResult
from VpmemLibrary.sizes import KiB, MiB, Size

_INFO_MEMORY = 2
"""Where ``virDomainGetInfo`` has the memory, in KiB, with all devices (libvirt, virDomainInfo)."""

_RAM = re.compile(r"([0-9a-f]+)-([0-9a-f]+) : System RAM", re.ASCII)


def memory_views(guest: Guest) -> Agreement:
    """Return how much RAM and persistent memory a running guest has, in its independent views.

    Persistent memory is what the guest can use of its devices, without their label areas.

    Raises:
        GuestError: It is not running, or cannot be looked into.
    """
    xml = guest.xml()
    ram, plugged = qmp_memory(guest.ask_monitor)
    info = guest.act("ask the memory of", lambda domain: domain.info())
    stats = guest.act("ask the statistics of", lambda domain: domain.memoryStats())
    return Agreement(
        f"memory of guest {guest.name}",
        {
            "asked for": {"persistent": Size(sum(guest_region_size(device) for device in guest.devices))},
            "live XML": {
                "RAM": read_ram(xml),
                "persistent": Size(sum(guest_region_size(device) for device in read_devices(xml))),
                "RAM and devices": read_room(xml).memory,
            },
            "libvirt's info": {"RAM and devices": Size(info[_INFO_MEMORY] * KiB)},
            "libvirt's statistics": {"RAM and devices": Size(stats["actual"] * KiB)} if "actual" in stats else {},
            "QMP": {"RAM": ram, "persistent": plugged},
            "guest's kernel": {
                "RAM": system_ram(guest.transport.run(["cat", "/proc/iomem"]).check()),
                "persistent": Size(sum(region.size for region in inside_regions(guest.transport))),
            },
        },
    )


def system_ram(iomem: CommandResult) -> Size:
    """Return the RAM that a kernel's ``/proc/iomem`` shows, in whole MiB: the firmware keeps less than one of it.

    Raises:
        UnreadableOutputError: There is none: whoever may not see addresses sees zeros.
    """
    ranges: Iterable[tuple[str, str]] = _RAM.findall(iomem.text)
    total = sum(int(last, 16) - int(first, 16) + 1 for first, last in ranges if int(last, 16))
    if not total:
        raise UnreadableOutputError(iomem, "The kernel shows no System RAM; only root sees addresses")
    return Size(total).up_to(MiB)
