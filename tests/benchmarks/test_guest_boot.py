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
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.records import NamespaceMode
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
    entry = read_hosts(lab_hosts)[0]
    host = Host(entry.name, transport_to(entry))
    link = LibvirtLink(host.transport)
    run = RunMark.of_this_run()
    guest = None
    ours: list[float] = []
    client: list[float] = []
    qemu: list[float] = []
    try:
        if any(region.dev == "region2" for region in host.regions.unlabeled()):
            host.regions.initialize_labels("region2")
        namespace = host.namespaces.create(
            "region2", mode=NamespaceMode.devdax, size=Size(64 * MiB), uuid=run.new_uuid()
        )
        boot = BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline)
        device = VpmemDevice(path=namespace.device, size=namespace.size)
        guest = define_guest(
            host.transport, link, GuestSpec(name="boot", boot=boot, devices=(device,), run_id=run.run_id)
        )
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
    finally:
        if guest is not None:
            if guest.state() != "shut off":
                lifecycle.destroy(guest)
            lifecycle.undefine(guest)
        link.close()
        clean_up(host, run)
        host.close()
    require("a boot by the library against libvirt's own client", ours, client, 1.10)
    require("a boot by the library against QEMU without libvirt", ours, qemu, 3)
