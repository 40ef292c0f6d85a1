"""What the library adds to the boot of a guest: its own start and wait, against libvirt's own client on the host, and
against the same QEMU command line without libvirt.
"""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from bare_qemu import RUN, bare
from ratios import require

from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size

pytestmark = [pytest.mark.lab, pytest.mark.benchmark]
ROUNDS = 3

# Nothing of this library: libvirt's own client on the host, which waits for libvirt's word that the agent is connected
# (asking again and again would take the processor from the guest; the first word is that it is not), and the host's own
# clock. The agent must answer, or there is no figure.
CLIENT = r"""
set -e
told=$(mktemp -u)
mkfifo "$told"
stdbuf -oL virsh -q event --domain "$1" --event agent-lifecycle --loop --timeout 300 >"$told" &
exec 3<"$told"
rm "$told"
start=$(cut -d' ' -f1 /proc/uptime)
virsh -q start "$1" >/dev/null
while read -r line <&3; do case $line in *"'connected'"*) break ;; esac; done
virsh -q qemu-agent-command "$1" '{"execute":"guest-ping"}' >/dev/null
end=$(cut -d' ' -f1 /proc/uptime)
kill $!
echo "$start $end"
"""


def test_the_share_that_the_library_adds_to_a_boot(lab_hosts: Path) -> None:
    with Session(RunMark.of_this_run()) as session:
        opened = session.open(read_hosts(lab_hosts)[0])
        try:
            ours, client, qemu = boots(opened)
        finally:
            session.clean_up()
    require("a boot by the library against libvirt's own client", ours, client, 1.10)
    require("a boot by the library against QEMU without libvirt", ours, qemu, 3)


def boots(opened: OpenHost) -> tuple[list[float], list[float], list[float]]:
    """Return the seconds of each boot: by the library, by libvirt's own client, and by QEMU without libvirt."""
    host = opened.host
    ours: list[float] = []
    client: list[float] = []
    qemu: list[float] = []
    if any(region.dev == "region2" for region in host.regions.unlabeled()):
        host.regions.initialize_labels("region2")
    namespace = host.namespaces.create(
        "region2", mode=NamespaceMode.devdax, size=Size(64 * MiB), uuid=opened.tenancy.new_uuid()
    )
    device = VpmemDevice(path=namespace.device, size=namespace.size)
    guest = opened.guests.define(opened.guests.spec(name="boot", devices=(device,)))
    lifecycle.start(guest)
    _, argv = inspection.qemu_process(guest).read(host.transport)
    lifecycle.destroy(guest)

    def on_host(*command: str) -> float:
        start, end = host.run(command, timeout=300).check().text.split()
        return float(end) - float(start)

    for _ in range(ROUNDS):
        client.append(on_host("sh", "-c", CLIENT, "sh", guest.name))
        lifecycle.destroy(guest)
        qemu.append(on_host("bash", "-c", RUN, "bash", *bare(argv)))
        began = time.monotonic()
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, 300)
        ours.append(time.monotonic() - began)
        lifecycle.destroy(guest)
    return ours, client, qemu
