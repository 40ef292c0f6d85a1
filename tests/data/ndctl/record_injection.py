"""Record what ndctl and sysfs say of a bus of the kernel's nfit_test module, as data of the unit tests.

It adds that bus to the first host of a hosts file by its `host_test_bus_add`, and removes the bus afterwards. Run it
against a fresh lab host::

    vpmem lab hosts-file hosts.dat && python tests/data/ndctl/record_injection.py hosts.dat
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

from record_ndctl import Recorder

from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.pmem.decode import LIST_COMMAND
from VpmemLibrary.pmem.media.health import HEALTH_COMMAND, KERNEL_SCRIPT, PLACE_SCRIPT

BUS = "nfit_test.0"
REGION = "region1"
DIMMS = tuple(f"nmem{number}" for number in range(4))


def main(hosts: str) -> None:
    """Add the bus, record, and remove the bus."""
    entry = read_hosts(Path(hosts))[0]
    if entry.test_bus is None:
        sys.exit(f"{hosts}: the first host has no host_test_bus_add")
    with closing(transport_to(entry)) as transport:
        entry.test_bus.run(add=True, timeout=180)
        try:
            record_bus(Recorder(transport, ""))
        finally:
            entry.test_bus.run(add=False, timeout=180)


def record_bus(recorder: Recorder) -> None:
    """Record the bus as it is, with a bad block, while it scrubs, and with values injected into a DIMM."""
    recorder.record("test-bus-health", *HEALTH_COMMAND, "-b", BUS)
    recorder.record("test-bus-sysfs", "sh", "-c", KERNEL_SCRIPT, "sh", *DIMMS, "--", REGION)
    recorder.prepare(
        f"ndctl disable-region {REGION}",
        f"ndctl init-labels -f -V 1.2 {' '.join(DIMMS)}",
        f"ndctl enable-region {REGION}",
        f"ndctl create-namespace -r {REGION} -m raw -s 16M -n hurt",
    )
    name = recorder.ask(f"ndctl list -N -r {REGION} | grep -o 'namespace[0-9.]*'")
    recorder.record("test-bus-inject-error", "ndctl", "inject-error", "--block=2048", "--count=8", name)
    recorder.record("test-bus-bad", *HEALTH_COMMAND, "-b", BUS)
    recorder.record("test-bus-bad-place", "sh", "-c", PLACE_SCRIPT, "sh", name, REGION)
    recorder.record("test-bus-bad-sysfs", "sh", "-c", KERNEL_SCRIPT, "sh", DIMMS[0], "--", REGION)
    recorder.record("test-bus-clear-errors", "ndctl", "clear-errors", name)
    recorder.record("test-bus-start-scrub", "ndctl", "start-scrub", BUS)
    recorder.record("test-bus-scrubbing", *LIST_COMMAND, "-b", BUS)
    recorder.record("test-bus-wait-scrub", "ndctl", "wait-scrub", BUS)
    recorder.record("test-bus-scrubbed", *LIST_COMMAND, "-b", BUS)
    values = ("--media-temperature=90", "--spares=1", "--fatal", "--unsafe-shutdown")
    recorder.record("test-bus-inject-smart", "ndctl", "inject-smart", *values, DIMMS[0])
    recorder.record("test-bus-health-injected", *HEALTH_COMMAND, "-b", BUS)
    recorder.record("test-bus-uninject-smart", "ndctl", "inject-smart", "--uninject-all", DIMMS[0])
    recorder.record("test-bus-inject-controller", "ndctl", "inject-smart", "--ctrl-temperature=50", DIMMS[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
