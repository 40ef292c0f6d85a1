"""Records what libvirt, QEMU and a guest say of two NVDIMMs and a virtio-pmem device, for the unit tests.

Run on a lab host: ``python tests/data/guest/record.py HOSTS_FILE``. The files' names carry the tools' versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from VpmemLibrary.guest import inspection, lifecycle, readiness
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import define_guest
from VpmemLibrary.guest.domain.records import BootSource, GuestSpec, VpmemDevice, VpmemModel
from VpmemLibrary.guest.views.inside import INSIDE_COMMAND
from VpmemLibrary.guest.views.mappings import read_mappings
from VpmemLibrary.guest.views.qmp import pci_aliases, qmp_devices, qmp_memory
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.decode import LIST_COMMAND
from VpmemLibrary.pmem.records import MapLocation, NamespaceMode
from VpmemLibrary.sizes import MiB, Size

HERE = Path(__file__).parent


def main(hosts: str) -> None:
    """Boot one guest on two namespaces and write down what each tool says of it."""
    entry = read_hosts(Path(hosts))[0]
    host = Host(entry.name, transport_to(entry))
    link = LibvirtLink(host.transport)
    run = RunMark.of_this_run()
    guest = None
    for region in ("region0", "region1"):
        host.regions.initialize_labels(region)
    try:
        namespaces = [
            host.namespaces.create(
                "region0", mode=NamespaceMode.devdax, map_location=MapLocation.mem, size=Size(size * MiB), name=name,
                uuid=run.new_uuid(),
            )
            for name, size in (("small", 64), ("large", 256))
        ]  # fmt: skip
        block = host.namespaces.create(
            "region1", mode=NamespaceMode.fsdax, size=Size(64 * MiB), name="block", uuid=run.new_uuid()
        )
        virtio = VpmemDevice(
            path=block.device,
            size=block.size,
            model=VpmemModel.virtio_pmem,
            label_size=None,
            align=None,
            pmem=False,
            node=None,
        )
        spec = GuestSpec(
            name="recorded",
            boot=BootSource(kernel=entry.guest_kernel, initrd=entry.guest_initrd, cmdline=entry.guest_cmdline),
            devices=(*(VpmemDevice(path=ns.device, size=ns.size) for ns in reversed(namespaces)), virtio),
            run_id=run.run_id,
        )
        guest = define_guest(host.transport, link, spec)
        facts = host.facts()
        tools = f"libvirt-{facts.libvirt}_qemu-{facts.qemu}"
        capabilities = link.call("read the capabilities", lambda connection: connection.getCapabilities())
        write(f"libvirt-{facts.libvirt}_capabilities.xml", str(capabilities))
        write(f"{tools}_inactive.xml", guest.xml())
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, 300)
        write(f"{tools}_live.xml", guest.xml())
        write(f"{tools}_cmdline.json", json.dumps(inspection.qemu_process(guest).read(host.transport)[1], indent=1))
        answers: list[dict[str, Any]] = []

        def monitor(command: str, arguments: Mapping[str, object]) -> Any:
            answer = guest.ask_monitor(command, arguments)
            answers.append({"execute": command, "arguments": dict(arguments), "return": answer})
            return answer

        qmp_devices(monitor)
        pci_aliases(monitor)
        qmp_memory(monitor)
        write(f"{tools}_qmp.json", json.dumps(answers, indent=1))
        listed = guest.transport.run(LIST_COMMAND).check()
        write(f"ndctl-{facts.ndctl}_guest.json", json.dumps({"argv": listed.argv, "stdout": listed.text}, indent=1))
        inside = guest.transport.run(INSIDE_COMMAND).check()
        iomem = guest.transport.run(["cat", "/proc/iomem"]).check()
        kernel = guest.transport.run(["uname", "-r"]).check().text.strip()
        write(f"linux-{kernel}_inside.json", json.dumps({"argv": inside.argv, "stdout": inside.text}, indent=1))
        write(f"linux-{kernel}_iomem.json", json.dumps({"argv": iomem.argv, "stdout": iomem.text}, indent=1))
        mapped = read_mappings(host.transport, inspection.qemu_process(guest))
        told = "".join(f"{' '.join(each.flags)}\t{each.path}\n" for each in mapped)
        write(f"linux-{kernel}_mappings.json", json.dumps({"stdout": told}, indent=1))
    finally:
        if guest is not None:
            if guest.state() == "running":
                lifecycle.destroy(guest)
            lifecycle.undefine(guest)
        link.close()
        clean_up(host, run)
        host.close()


def write(name: str, text: str) -> None:
    """Write one recording."""
    (HERE / name).write_text(text.rstrip() + "\n")
    print(name)


if __name__ == "__main__":
    main(sys.argv[1])
