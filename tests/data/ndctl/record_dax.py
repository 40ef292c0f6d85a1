"""Record what daxctl, ndctl and sysfs say of device DAX, system RAM, health and bad blocks, as data of the unit tests.

It ends what region0 of the host holds, takes 128 MiB of it as RAM for a moment, and makes one bad block by a machine
check of the kernel's mce-inject module, which stays until the NFIT device is bound again at the end. Run it against a
fresh lab host::

    VPMEM_TEST_HOST=root@127.0.0.1:42222 VPMEM_TEST_KEY=~/.ssh/id python tests/data/ndctl/record_dax.py

With the argument ``dynamic`` it records a dynamic region instead, none of which may be in use: that of a host booted
with 512 MiB of special-purpose memory (kernel parameter ``memmap=512M%0x140000000-1+0xefffffff``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from record_ndctl import Recorder

from VpmemLibrary.pmem.dax.memory import READ_SCRIPT
from VpmemLibrary.pmem.decode import DAX_LIST_COMMAND, DAX_REGIONS_COMMAND, LIST_COMMAND
from VpmemLibrary.pmem.media.health import HEALTH_COMMAND, KERNEL_SCRIPT, PLACE_SCRIPT
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport

DAXCTL = "daxctl"
BAD_PAGE = 0x192000000  # 32 MiB into the second namespace of region0, which begins at 0x180000000
NFIT = "/sys/bus/acpi/drivers/nfit"


def main() -> None:
    user, _, target = os.environ["VPMEM_TEST_HOST"].rpartition("@")
    address, _, port = target.partition(":")
    settings = SshSettings(
        address,
        port=int(port or 22),
        user=user or "root",
        key_file=Path(os.environ["VPMEM_TEST_KEY"]),
        host_key=HostKeyPolicy.accept_new,
    )
    with SshTransport(settings) as transport:
        recorder = Recorder(transport, "")
        if sys.argv[1:] == ["dynamic"]:
            record_dynamic(recorder)
            return
        recorder.prepare(
            "ndctl disable-region region0", "ndctl init-labels -f -V 1.2 nmem0", "ndctl enable-region region0"
        )
        try:
            record_dax(recorder)
            record_bad_blocks(recorder)
        finally:
            recorder.prepare(
                "ndctl disable-region region0", "ndctl init-labels -f -V 1.2 nmem0", "ndctl enable-region region0"
            )


def record_dax(recorder: Recorder) -> None:
    create = "ndctl create-namespace -r region0 -m devdax -M mem"
    recorder.prepare(f"{create} -s 256M -n ram", f"{create} -s 64M -n small")
    recorder.record("dax-listing", *LIST_COMMAND, "-r", "region0")
    recorder.record("dax-devices", *DAX_LIST_COMMAND)
    recorder.record("dax-regions", *DAX_REGIONS_COMMAND)
    for state, command in {
        "create-static": ("create-device", "-r", "0"),
        "resize-static": ("reconfigure-device", "-s", "32M", "dax0.1"),
        "reconfigure-absent": ("reconfigure-device", "-m", "system-ram", "dax9.9"),
        "online-devdax": ("online-memory", "dax0.1"),
    }.items():
        recorder.record(f"dax-{state}", DAXCTL, *command)
    recorder.record("dax-destroy-static", DAXCTL, "destroy-device", "-f", "dax0.1")
    memory(recorder, "disabled", "dax0.1")
    recorder.prepare("daxctl enable-device dax0.1")
    memory(recorder, "devdax", "dax0.0")
    memory(recorder, "absent", "dax9.9")
    recorder.record("dax-auto-online", DAXCTL, "reconfigure-device", "-m", "system-ram", "dax0.0")
    recorder.record("dax-system-ram", DAXCTL, "reconfigure-device", "-m", "system-ram", "-f", "dax0.0")
    memory(recorder, "normal", "dax0.0")
    recorder.record("dax-devices-system-ram", *DAX_LIST_COMMAND)
    recorder.record("dax-listing-system-ram", *LIST_COMMAND, "-r", "region0")
    recorder.record("dax-back-online", DAXCTL, "reconfigure-device", "-m", "devdax", "dax0.0")
    recorder.record("dax-offline", DAXCTL, "offline-memory", "dax0.0")
    memory(recorder, "offline", "dax0.0")
    recorder.record("dax-offline-again", DAXCTL, "offline-memory", "dax0.0")
    recorder.record("dax-online", DAXCTL, "online-memory", "dax0.0")
    memory(recorder, "movable", "dax0.0")
    recorder.record("dax-online-again", DAXCTL, "online-memory", "dax0.0")
    recorder.record("dax-back", DAXCTL, "reconfigure-device", "-m", "devdax", "-f", "dax0.0")
    recorder.record("dax-too-small", DAXCTL, "reconfigure-device", "-m", "system-ram", "-f", "dax0.1")
    recorder.prepare("daxctl reconfigure-device -m devdax dax0.1")


def memory(recorder: Recorder, state: str, chardev: str) -> None:
    recorder.record(f"dax-memory-{state}", "sh", "-c", READ_SCRIPT, "sh", chardev)


def record_dynamic(recorder: Recorder) -> None:
    """Record region 4, whose one instance dax4.0 has no bytes: one of 64 MiB is cut from it, and another beside it."""
    recorder.record("dynamic-regions", *DAX_REGIONS_COMMAND)
    recorder.record("dynamic-devices", *DAX_LIST_COMMAND)
    memory(recorder, "without-bytes", "dax4.0")
    recorder.record("dynamic-create", DAXCTL, "create-device", "--region=4", "--size=67108864")
    recorder.record("dynamic-devices-created", *DAX_LIST_COMMAND)
    recorder.prepare("daxctl create-device --region=4 --size=33554432")
    recorder.record("dynamic-regions-created", *DAX_REGIONS_COMMAND)
    recorder.record("dynamic-devices-two", *DAX_LIST_COMMAND)
    memory(recorder, "dynamic", "dax4.1")
    recorder.record("dynamic-disable", DAXCTL, "disable-device", "dax4.1")
    recorder.record("dynamic-destroy", DAXCTL, "destroy-device", "dax4.1")
    recorder.record("dynamic-destroy-active", DAXCTL, "destroy-device", "dax4.0")
    recorder.prepare("daxctl disable-device dax4.0", "daxctl destroy-device dax4.0")


def record_bad_blocks(recorder: Recorder) -> None:
    recorder.record("health", *HEALTH_COMMAND, "-b", "ACPI.NFIT")
    recorder.record("health-sysfs", "sh", "-c", KERNEL_SCRIPT, "sh", *(f"nmem{n}" for n in range(4)), "--", "region0")
    recorder.record("inject-error", "ndctl", "inject-error", "--block=0", "--count=8", "namespace0.1")
    recorder.record("inject-smart", "ndctl", "inject-smart", "--spares=4", "nmem0")
    recorder.prepare("modprobe mce-inject")
    values = {
        "cpu": 0,
        "flags": "sw",
        "status": hex(0xBC << 56 | 8 << 16),
        "misc": 12,
        "addr": hex(BAD_PAGE),
        "bank": 4,
    }
    recorder.prepare(*(f"echo {value} >/sys/kernel/debug/mce-inject/{name}" for name, value in values.items()))
    recorder.prepare("until grep -q . /sys/bus/nd/devices/region0/badblocks; do :; done", "modprobe -r mce-inject")
    recorder.record("bad-devdax", *HEALTH_COMMAND, "-b", "ACPI.NFIT")
    recorder.record("bad-devdax-place", "sh", "-c", PLACE_SCRIPT, "sh", "namespace0.1", "region0")
    recorder.record("bad-sysfs", "sh", "-c", KERNEL_SCRIPT, "sh", "nmem0", "--", "region0")
    recorder.prepare(
        "ndctl destroy-namespace -f namespace0.1", "ndctl create-namespace -r region0 -m raw -s 64M -n bad"
    )
    recorder.record("bad-raw", *HEALTH_COMMAND, "-b", "ACPI.NFIT")
    recorder.record("bad-raw-place", "sh", "-c", PLACE_SCRIPT, "sh", "namespace0.2", "region0")
    recorder.record("bad-clear", "ndctl", "clear-errors", "namespace0.2")
    recorder.prepare(f"echo ACPI0012:00 >{NFIT}/unbind", f"echo ACPI0012:00 >{NFIT}/bind", "udevadm settle")


if __name__ == "__main__":
    main()
