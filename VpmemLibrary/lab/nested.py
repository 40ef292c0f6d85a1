"""A small guest on a lab host, started with virsh. It warms up a lab host, and the soak boots many such guests.

This module does not use the library's own guest keywords. So a fault in the keywords is never taken for a lab fault.
"""

from __future__ import annotations

import json
import time

from msgspec import Struct

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import GUEST_COMMAND_LINE, GUEST_INITRD, GUEST_KERNEL
from VpmemLibrary.sizes import KiB, MiB, Size
from VpmemLibrary.transport.base import Transport

READY_SECONDS = 900.0
"""Maximum seconds until a guest has booted. A guest that needs longer counts as lost.

A boot takes far less, even under emulation in a lab host inside a lab host.
"""

_MEMORY = Size(256 * MiB)
_LABEL = Size(2 * MiB)


class BootTimes(Struct, frozen=True):
    """The seconds until virsh had started a guest, and the seconds until the guest's agent answered."""

    started: float
    ready: float


def domain_xml(name: str, device: str = "", size: Size = Size(0)) -> str:
    """Return the XML of a domain of type kvm.

    If there is a device, the domain has one NVDIMM of `size` bytes on `device`.
    """
    nvdimm = f"""
    <memory model='nvdimm' access='shared'>
      <source><path>{device}</path><alignsize unit='KiB'>2048</alignsize><pmem/></source>
      <target>
        <size unit='KiB'>{size // KiB}</size><node>0</node>
        <label><size unit='KiB'>{_LABEL // KiB}</size></label>
      </target>
    </memory>"""
    return f"""<domain type='kvm'>
  <name>{name}</name>
  <maxMemory slots='1' unit='MiB'>2048</maxMemory>
  <memory unit='KiB'>{(_MEMORY + size) // KiB}</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='pc'>hvm</type>
    <kernel>{GUEST_KERNEL}</kernel><initrd>{GUEST_INITRD}</initrd><cmdline>{GUEST_COMMAND_LINE}</cmdline>
  </os>
  <features><acpi/><apic/></features>
  <clock offset='utc'><timer name='hpet' present='no'/></clock>
  <cpu mode='host-passthrough'>
    <numa><cell id='0' cpus='0' memory='{_MEMORY // MiB}' unit='MiB'/></numa>
  </cpu>
  <on_crash>destroy</on_crash>
  <devices>
    <controller type='usb' model='none'/>
    <controller type='virtio-serial' index='0' ports='4'/>
    <memballoon model='none'/>
    <serial type='pty'><log file='{_console(name)}' append='off'/></serial>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>{nvdimm if device else ""}
  </devices>
</domain>"""


def boot_guest(host: Transport, xml: str, name: str) -> BootTimes:
    """Start a transient guest and wait until its agent answers.

    Raises:
        LabError: The guest died, or its agent did not answer within `READY_SECONDS`. The message has the last lines of
            its console.
    """
    path = f"/run/{name}.xml"
    host.write_file(path, xml.encode())
    began = time.monotonic()
    host.run(["virsh", "-q", "create", "--validate", path], timeout=READY_SECONDS).check()
    started = time.monotonic() - began
    while True:
        ping = ["virsh", "-q", "qemu-agent-command", "--timeout", "2", name, '{"execute":"guest-ping"}']
        if host.run(ping, timeout=READY_SECONDS).exit_status == 0:
            return BootTimes(started, time.monotonic() - began)
        state = host.run(["virsh", "-q", "domstate", name], timeout=READY_SECONDS)
        waited = time.monotonic() - began
        if state.exit_status != 0 or state.text.strip() != "running" or waited > READY_SECONDS:
            console = host.run(["tail", "-n", "20", _console(name)]).text
            said = state.text.strip() or state.error_text.strip()
            raise LabError(f"Guest {name} was lost after {waited:.0f} s ({said}). Its console:\n{console}")


def end_guest(host: Transport, name: str) -> None:
    """End a guest if it runs."""
    listed = host.run(["virsh", "-q", "list", "--name"], timeout=READY_SECONDS).check()
    if name in listed.text.split():
        host.run(["virsh", "-q", "destroy", name], timeout=READY_SECONDS).check()


def make_devdax(host: Transport, name: str, size: Size) -> tuple[str, Size]:
    """Create a devdax namespace on a lab host's first region. Return its device and its usable size."""
    listed = json.loads(host.run(["ndctl", "list", "-B", "-R"]).check().text)
    region = min(region["dev"] for bus in listed for region in bus["regions"])
    for action in ("disable-region", "init-labels", "enable-region"):
        target = "all" if action == "init-labels" else region
        if action == "init-labels":
            dimms = json.loads(host.run(["ndctl", "list", "-D", "-r", region]).check().text)
            target = dimms[0]["dev"] if isinstance(dimms, list) else dimms["dev"]
        force = ["-f"] if action == "init-labels" else []
        host.run(["ndctl", action, *force, target]).check()
    command = ["ndctl", "create-namespace", "-r", region, "-m", "devdax", "-M", "mem", "-n", name, "-s", str(int(size))]
    made = json.loads(host.run(command).check().text)
    chardev = made["daxregion"]["devices"][0]["chardev"]
    return f"/dev/{chardev}", Size(made["daxregion"]["devices"][0]["size"])


def _console(name: str) -> str:
    return f"/var/log/libvirt/qemu/{name}-console.log"
