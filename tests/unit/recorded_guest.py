"""What libvirt 11.3.0, QEMU 10.0.13 and ndctl 81 said of a guest with three devices; see tests/data/guest/record.py."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from VpmemLibrary.guest.domain.records import VpmemDevice, VpmemModel
from VpmemLibrary.pmem.decode import decode_inventory
from VpmemLibrary.pmem.records import Inventory
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult

DATA = Path(__file__).parent.parent / "data" / "guest"
TOOLS = "libvirt-11.3.0_qemu-10.0.13"

CAPABILITIES_XML = (DATA / "libvirt-11.3.0_capabilities.xml").read_text()
INACTIVE_XML = (DATA / f"{TOOLS}_inactive.xml").read_text()
LIVE_XML = (DATA / f"{TOOLS}_live.xml").read_text()
COMMAND_LINE: tuple[str, ...] = tuple(json.loads((DATA / f"{TOOLS}_cmdline.json").read_text()))

LARGE = VpmemDevice(path="/dev/dax0.1", size=Size.parse("254MiB"), slot=0)
SMALL = VpmemDevice(path="/dev/dax0.0", size=Size.parse("62MiB"), slot=1)
VIRTIO = VpmemDevice(
    path="/dev/pmem1",
    size=Size.parse("62MiB"),
    model=VpmemModel.virtio_pmem,
    label_size=None,
    align=None,
    pmem=False,
    node=None,
)


def monitor(command: str, arguments: Mapping[str, object]) -> Any:
    """Answer as QEMU's monitor did."""
    for entry in json.loads((DATA / f"{TOOLS}_qmp.json").read_text()):
        if (entry["execute"], entry["arguments"]) == (command, dict(arguments)):
            return entry["return"]
    raise AssertionError(f"{command} {dict(arguments)} was not recorded")


def inventory() -> Inventory:
    """Return what the guest's own ndctl listed."""
    recorded = json.loads((DATA / "ndctl-81_guest.json").read_text())
    return decode_inventory(CommandResult(tuple(recorded["argv"]), 0, recorded["stdout"].encode(), b"", 0.1))


class Inside:
    """In the place of the way into the guest: answers the one command that was recorded."""

    name = "recorded"

    def run(self, argv: Sequence[str], **_: object) -> CommandResult:
        """Return what the guest's kernel said."""
        recorded = json.loads((DATA / "linux-6.12.117+deb13-cloud-amd64_inside.json").read_text())
        return CommandResult(tuple(argv), 0, recorded["stdout"].encode(), b"", 0.1)


inside: Any = Inside()


def iomem() -> CommandResult:
    """Return what the guest's kernel shows of its address space."""
    recorded = json.loads((DATA / "linux-6.12.117+deb13-cloud-amd64_iomem.json").read_text())
    return CommandResult(tuple(recorded["argv"]), 0, recorded["stdout"].encode(), b"", 0.1)
