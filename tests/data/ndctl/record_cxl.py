"""Record what cxl, ndctl and sysfs say of CXL memory, as data of the unit tests.

It wants a lab host that takes a CXL device, is given one, and loses it again::

    vpmem lab up --hosts 1 --cxl && vpmem lab hosts-file hosts.dat && python tests/data/ndctl/record_cxl.py hosts.dat
"""

from __future__ import annotations

import sys
from pathlib import Path

from record_ndctl import Recorder

from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.pmem.decode import LIST_COMMAND
from VpmemLibrary.pmem.media.health import HEALTH_COMMAND, KERNEL_SCRIPT
from VpmemLibrary.pmem.regions.cxl import UUIDS_SCRIPT

LIST = ("cxl", "list", "--idle")
UUID = "76706d65-6d01-8234-8567-0123456789ab"
CREATE = ("cxl", "create-region", "--decoder=decoder0.0", "--type=pmem", f"--uuid={UUID}")
DEBUG = "/sys/kernel/debug/cxl/mem0"


def main(hosts: str) -> None:
    """Add the device, record, and remove it."""
    entry = read_hosts(Path(hosts))[0]
    if entry.cxl is None:
        raise SystemExit(f"{entry.name} accepts no CXL device: vpmem lab up --cxl")
    transport = transport_to(entry)
    try:
        recorder = Recorder(transport, "")
        recorder.record("cxl-no-memdevs", *LIST, "--memdevs")
        entry.cxl.run(add=True, timeout=120)
        try:
            record_device(recorder)
        finally:
            entry.cxl.run(add=False, timeout=120)
    finally:
        transport.close()


def record_device(recorder: Recorder) -> None:
    """Record the device, a region of it with a namespace, its poison, and the end of the region."""
    recorder.record("cxl-memdevs", *LIST, "--memdevs")
    recorder.record("cxl-no-regions", *LIST, "--regions", "--targets")
    recorder.record("cxl-root-decoders", *LIST, "--decoders", "--decoder=root", "--memdev=mem0")
    recorder.record("cxl-create-no-decoder", *CREATE[:2], "--decoder=decoder9.9", "--type=pmem", "--memdevs", "mem0")
    recorder.record("cxl-create", *CREATE, "--memdevs", "mem0")
    region = recorder.ask("ls -d /sys/bus/cxl/devices/region* | grep -o 'region[0-9]*$'")
    recorder.record("cxl-regions", *LIST, "--regions", "--targets")
    recorder.record("cxl-uuids", "sh", "-c", UUIDS_SCRIPT)
    recorder.record("cxl-listing", *LIST_COMMAND)
    recorder.prepare(f"ndctl create-namespace -r {region} -m raw -s 16M -n poisoned")
    recorder.record("cxl-listing-used", *LIST_COMMAND)
    recorder.record("cxl-health", *HEALTH_COMMAND, "-b", "CXL")
    recorder.record("cxl-sysfs", "sh", "-c", KERNEL_SCRIPT, "sh", "nmem4", "--", region)
    errors = (*LIST, "--memdevs", "--memdev=mem0", "--media-errors")
    recorder.record("cxl-media-errors-none", *errors)
    recorder.record("cxl-inject", "sh", "-c", 'printf "%s" "$1" >"$2"', "sh", "0x1000", f"{DEBUG}/inject_poison")
    recorder.record("cxl-media-errors", *errors)
    recorder.record(
        "cxl-inject-beyond", "sh", "-c", 'printf "%s" "$1" >"$2"', "sh", "0x40000000", f"{DEBUG}/inject_poison"
    )
    recorder.record("cxl-clear", "sh", "-c", 'printf "%s" "$1" >"$2"', "sh", "0x1000", f"{DEBUG}/clear_poison")
    recorder.prepare("ndctl destroy-namespace -f all -b CXL")
    recorder.record("cxl-destroy-active", "cxl", "destroy-region", region)
    recorder.record("cxl-disable", "cxl", "disable-region", region)
    recorder.record("cxl-destroy", "cxl", "destroy-region", region)


if __name__ == "__main__":
    main(*sys.argv[1:])
