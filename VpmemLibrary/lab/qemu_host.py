"""The QEMU of one lab host: its command line, its process, and all its files in one directory.

The files are the host's disk (based on the disk of the saved state or the image), its NVDIMMs, the log of its console,
its sockets, and the record of its process.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.network import network_socket
from VpmemLibrary.lab.paths import append_private, open_private, private_directory
from VpmemLibrary.lab.ports import LOOPBACK, is_free
from VpmemLibrary.lab.process import MONITOR, QEMU_LOG, Process, fatal_signal, find_process, kill_process, start_qemu
from VpmemLibrary.lab.qmp import Monitor
from VpmemLibrary.lab.shapes import CXL_LABEL_SIZE, CXL_REGIONS, NVDIMMS, Shape, memory_arguments, memory_files
from VpmemLibrary.lab.tools import run_tool
from VpmemLibrary.polling import poll
from VpmemLibrary.sizes import GiB, MiB, Size

MEMORY = Size(4 * GiB)
"""The size of a lab host's main memory."""

_SECOND_NODE = Size(256 * MiB)
"""The part of the main memory that the second NUMA node has. It is just enough for a node that has an NVDIMM."""

CXL_SIZE = Size(512 * MiB)
"""The size of the memory of a lab host's CXL device: a multiple of 256 MiB, as the size of a CXL region must be."""

_CXL_DEVICE = "cxl-device"
_CXL_PORT = "cxl-port"
_CXL_FILES = {"cxl-memory": CXL_SIZE, "cxl-labels": CXL_LABEL_SIZE}

_COMMAND_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off audit=0 nokaslr nowatchdog tsc=reliable no_timer_check "
    "cryptomgr.notests init_on_alloc=0 psi=0 lsm=apparmor cgroup_disable=memory,cpu "
    "hardened_usercopy=off rcupdate.rcu_expedited=1 net.ifnames=0 systemd.show_status=no"
)
"""The kernel command line of a lab host.

It switches off features that are slow under emulation and useless here: accounting of memory, of pressure and of
processor time, security modules other than AppArmor, and checks of data copied from and to programs. RCU grace periods
are expedited, because creating or destroying a namespace waits for many of them.
"""

_EMULATED_COMMAND_LINE = " kvm.halt_poll_ns=0 highres=off"
"""More options for an emulated processor. They switch off polling for guests that halt, and timers between kernel
ticks.

Each such timer would interrupt a guest once more. With KVM both features make guests faster, so they stay on.
"""

_SLOW_UNDER_EMULATION = "la57=off,erms=off,fsrm=off,fsrs=off,fsrc=off,fzrm=off,smap=off,pku=off"
"""Processor features that make an emulated processor slower.

Five-level paging makes every page walk longer, and nested page walks most. With "fast" string instructions, kernels and
libc copy and clear memory by one instruction, which is emulated one byte at a time. Without them a guest starts in
three quarters of the time. With SMAP, each kernel access to a program's memory needs separate translations. With PKU,
each program start discards all translations (QEMU ``target/i386/tcg``, ``helper_wrpkru``).
"""

_MACHINE = "q35,nvdimm=on,usb=off,vmport=off,sata=off,hpet=off"

KVM_PROCESSOR = "host,arch-capabilities=off"
"""The processor with KVM: the machine's own, without a register (MSR 0x10a) that some clouds refuse to set.

With the register, QEMU ends at its start on such a cloud, for instance on some GitHub-hosted runners. The register only
describes mitigations, which a lab host does not use.
"""

_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""Environment variables for QEMU in addition to this process's: use huge pages for the heap.

An emulated processor looks up translated code at random places of an 8 MiB hash table in the heap. This takes a seventh
of its time with small pages, and a tenth with huge pages.
"""

# A CXL host bridge with one port, and the window of memory addresses for it. The port is empty until a device is added.
_CXL_MACHINE = ",cxl=on,cxl-fmw.0.targets.0=cxl,cxl-fmw.0.size=4G"
# On a virtual machine the kernel sets up no CXL region, because it cannot flush processor caches reliably there
# (drivers/cxl/core/region.c, cxl_region_invalidate_memregion). Emulated memory has no caches.
_CXL_COMMAND_LINE = " clearcpuid=hypervisor"
_CXL_REGIONS = f" vpmem.cxl-regions={CXL_REGIONS}"
"""The kernel argument that starts the lab host's service, which assembles regions from this number of CXL devices."""
_CXL_BRIDGE = ("-device", "pxb-cxl,id=cxl,bus=pcie.0,bus_nr=12")
_EMPTY_CXL_PORT = ("-device", f"cxl-rp,id={_CXL_PORT},bus=cxl,chassis=0,slot=2")

_RECONNECT_MS = 500
"""Milliseconds between two attempts to connect to a missing private network."""

_POWER_ON = "--- power on ---"
"""The line in the console's log that begins the output of a boot."""

_PANIC = re.compile(r"Kernel panic - not syncing: .*")
"""The first line of a kernel's panic (kernel/panic.c)."""

_PANIC_LINES = 5

_POLL = 0.01
_CXL_SECONDS = 60


class Accelerator(Struct, frozen=True):
    """How QEMU runs a lab host: by ``kvm`` or ``tcg``, and the reason for this choice."""

    name: str
    reason: str = ""

    @property
    def cpus(self) -> int:
        """The number of processors: those that this process may use, at most four.

        Under emulation it is one, because with two processors nested guests die at boot.
        """
        return 1 if self.name == "tcg" else min(4, len(os.sched_getaffinity(0)))

    @property
    def arguments(self) -> list[str]:
        """QEMU's arguments for the accelerator.

        The emulation does not use thread=single. With it a lab host lost its timer and stopped for minutes while a
        nested guest booted.
        """
        cpu = f"max,{_SLOW_UNDER_EMULATION}" if self.name == "tcg" else KVM_PROCESSOR
        accelerator = "tcg,thread=multi,tb-size=1024" if self.name == "tcg" else "kvm"
        return ["-accel", accelerator, "-cpu", cpu, "-smp", str(self.cpus)]


class MemoryFile(Struct, frozen=True):
    """The file of a lab host's main memory. If it is not `shared`, the host's changes are not written to the file."""

    path: Path
    shared: bool


class QemuHost:
    """The QEMU of a lab host, running or not.

    Args:
        directory: The host's own directory. Its name is the host's name.
        image: The image that the host boots.
        accelerator: How QEMU runs the host.
        cxl: Whether the host can get a CXL device while it runs. No saved state fits such a host.
        shape: The host's persistent memory.
        memory: The size of the main memory.
        disks: Additional raw disks. They are /dev/vdb and the following devices.
    """

    def __init__(
        self,
        directory: Path,
        image: Image,
        accelerator: Accelerator,
        *,
        cxl: bool = False,
        shape: Shape = Shape.NVDIMM,
        memory: Size = MEMORY,
        disks: Sequence[Path] = (),
    ) -> None:
        self.directory = directory
        self.image = image
        self.accelerator = accelerator
        self.cxl = cxl
        self.shape = shape
        self.memory = memory
        self.disks = disks

    @property
    def name(self) -> str:
        """The host's name."""
        return self.directory.name

    @property
    def console_log(self) -> Path:
        """The log of all output on the serial console since the host was made."""
        return self.directory / "console.log"

    @property
    def console_socket(self) -> Path:
        """The socket of the serial console."""
        return self.directory / "console.sock"

    @property
    def disk(self) -> Path:
        """The host's disk: an overlay with the differences from its base."""
        return self.directory / "disk.qcow2"

    @property
    def memory_files(self) -> dict[Path, Size]:
        """The files of the persistent memory, with their sizes."""
        return {self.directory / name: size for name, size in memory_files(self.shape).items()}

    @property
    def state_key(self) -> str:
        """The properties that must be equal for a saved state to fit this host."""
        key = " ".join(self._command(0, None, ""))
        for varying in (str(self.image.directory), str(self.image.tools.parent), self._network_socket):
            key = key.replace(varying, "")
        return key

    def create(self, base: Path, base_format: str) -> None:
        """Create the disk as an overlay of `base`, and the persistent memory with all zeros.

        Raises:
            LabError: qemu-img failed.
        """
        private_directory(self.directory)
        command = [*self.image.tool("qemu-img"), "create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base)]
        run_tool([*command, str(self.disk)], "make the lab host's disk", umask=0o077)
        for path, size in self.memory_files.items():
            with open_private(path) as file:
                file.truncate(size)

    def start(
        self, port: int, *, memory: MemoryFile | None = None, incoming: bool = False, disk_cache: str = "writeback"
    ) -> None:
        """Start QEMU. The host boots, or waits for a saved state to be loaded.

        Args:
            port: The loopback port that is forwarded to the host's SSH server.
            memory: The file of the main memory. Without a file, the memory is QEMU's own.
            incoming: Whether the host waits for a saved state.
            disk_cache: QEMU's cache mode of the disk.

        Raises:
            LabError: The port is in use, or QEMU did not start. The message has QEMU's output.
        """
        if not is_free(port):
            raise LabError(
                f"Another process uses port {port} of {LOOPBACK}, which belongs to {self.name}. End that process "
                f"(ss -ltnp), or replace {self.name} by a host with another port: vpmem lab reset {self.name}"
            )
        self.console_socket.unlink(missing_ok=True)
        append_private(self.console_log, f"{_POWER_ON}\n")
        command = self._command(port, memory, disk_cache)
        if incoming:
            command += ["-incoming", "defer"]
        start_qemu(self.directory, command, _ENVIRONMENT)

    def monitor(self) -> Monitor:
        """Return a connection to QEMU's monitor, for use in a ``with`` statement."""
        return Monitor(self.directory / MONITOR)

    @property
    def log(self) -> str:
        """The last lines of QEMU's own output, for messages."""
        try:
            said = (self.directory / QEMU_LOG).read_bytes()[-4000:].decode("utf-8", "replace").strip() or "(empty)"
        except FileNotFoundError:
            return "(no log)"
        reasons: dict[int, str] = {
            signal.SIGKILL: (
                f"as the kernel does when memory runs out: a lab host needs up to {self.memory // MiB} MiB. Look at "
                "`free -m`, `dmesg`, and the memory limit of the container or session (memory.max or "
                "memory.limit_in_bytes of its cgroup)"
            ),
            signal.SIGBUS: f"as the kernel does when a file system is full: look at `df -h {self.directory}`",
        }
        number = fatal_signal(self.directory)
        if number not in reasons:
            return said
        return f"{said}\nQEMU was ended by {signal.Signals(number).name}, {reasons[number]}."

    @property
    def process(self) -> Process | None:
        """The process if it runs. A later process with the same number is never returned."""
        return find_process(self.directory)

    def add_cxl_device(self) -> None:
        """Add a CXL type-3 device to the running host. Its persistent memory is all zeros.

        Raises:
            LabError: The host takes no CXL device, has one already, or QEMU refused the device.
        """
        with self.monitor() as monitor:
            # QEMU's device never releases its memory. So each device has its own file, which is removed once QEMU has
            # opened it.
            number = len(_named(monitor, "/objects"))
            backends = []
            for name, size in _CXL_FILES.items():
                path, backend = self.directory / name, f"{name}-{number}"
                try:
                    with open_private(path) as file:
                        file.truncate(size)
                    given = {"mem-path": name, "size": int(size), "share": True}
                    monitor.execute("object-add", {"qom-type": "memory-backend-file", "id": backend, **given})
                finally:
                    path.unlink(missing_ok=True)
                backends.append(backend)
            memory, labels = backends
            device = {"driver": "cxl-type3", "id": _CXL_DEVICE, "bus": _CXL_PORT, "sn": 1}
            monitor.execute("device_add", {**device, "persistent-memdev": memory, "lsa": labels})

    def remove_cxl_device(self, timeout: float = _CXL_SECONDS) -> None:
        """Remove the CXL device and all its data, after the host has released the device.

        Raises:
            LabError: There is no CXL device, or the host does not release it in time.
        """
        with self.monitor() as monitor:
            monitor.execute("device_del", {"id": _CXL_DEVICE})
            poll(
                lambda: not self._has_cxl_device(monitor),
                f"{self.name} to release its CXL device",
                timeout=timeout,
                interval=_POLL,
                failure=lambda _: LabError(f"{self.name} did not release its CXL device within {timeout:g} s."),
            )

    @property
    def has_cxl_device(self) -> bool:
        """Whether the running host has a CXL device."""
        with self.monitor() as monitor:
            return self._has_cxl_device(monitor)

    @staticmethod
    def _has_cxl_device(monitor: Monitor) -> bool:
        return _CXL_DEVICE in _named(monitor, "/machine/peripheral")

    def kill(self) -> None:
        """Kill QEMU at once, as a power cut does. The host flushes nothing.

        Raises:
            LabError: The process does not end.
        """
        kill_process(self.directory)

    @property
    def panic(self) -> str:
        """The last lines on the console up to the kernel's panic. The text is empty if the kernel did not panic.

        A kernel that panicked stops the host until its power is cut.
        """
        boot = self._console_end.rpartition(_POWER_ON)[2]
        found = _PANIC.search(boot)
        return "\n".join(boot[: found.end()].strip().splitlines()[-_PANIC_LINES:]) if found else ""

    def console_tail(self, lines: int = 15) -> str:
        """Return the last lines of the console, for messages."""
        return "\n".join(self._console_end.strip().splitlines()[-lines:]) or "(no console output)"

    @property
    def _console_end(self) -> str:
        try:
            return self.console_log.read_bytes()[-8000:].decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    @property
    def _network_socket(self) -> str:
        """The socket of the private network. The path is relative, because unix sockets allow no long paths."""
        return f"../../{network_socket(self.name)}"

    @property
    def _kernel_command_line(self) -> str:
        emulated = _EMULATED_COMMAND_LINE if self.accelerator.name == "tcg" else ""
        cxl = _CXL_COMMAND_LINE if self._has_cxl_bridge else ""
        regions = _CXL_REGIONS if self.shape is Shape.CXL else ""
        return _COMMAND_LINE + emulated + cxl + regions

    @property
    def _has_cxl_bridge(self) -> bool:
        return self.cxl or self.shape is Shape.CXL

    def _command(self, port: int, memory: MemoryFile | None, disk_cache: str) -> list[str]:
        """Return QEMU's command line. The host's own paths are relative, because unix sockets allow no long paths."""
        return [
            *self.image.tool("qemu-system-x86_64"),
            *(part for directory in self.image.firmware for part in ("-L", str(directory))),
            *("-name", f"vpmem-{self.name}", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
            *("-machine", _MACHINE + (_CXL_MACHINE if self._has_cxl_bridge else ""), *self.accelerator.arguments),
            *("-m", f"size={self.memory // MiB}M,slots={NVDIMMS + 4},maxmem={(self.memory + 16 * GiB) // MiB}M"),
            *_nodes(self.memory, memory, self.accelerator.cpus),
            *("-rtc", "base=utc,clock=host"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *("-append", self._kernel_command_line),
            *("-drive", f"if=none,id=root,file={self.disk.name},format=qcow2,discard=unmap,cache={disk_cache}"),
            *("-device", "virtio-blk-pci,drive=root"),
            *(part for number, path in enumerate(self.disks, 1) for part in _disk(number, path)),
            # Restricted: the host reaches neither this machine's loopback nor the network behind it. SSH to it still
            # works.
            *("-netdev", f"user,id=user,restrict=on,ipv6=off,hostfwd=tcp:{LOOPBACK}:{port}-:22"),
            *("-device", "virtio-net-pci,netdev=user,romfile=,mac=52:54:00:12:34:56"),
            *(
                "-netdev",
                f"stream,id=private,addr.type=unix,addr.path={self._network_socket},reconnect-ms={_RECONNECT_MS}",
            ),
            *("-device", "virtio-net-pci,netdev=private,romfile=,mac=52:54:00:12:35:00"),
            *("-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"),
            *(_CXL_BRIDGE if self._has_cxl_bridge else ()),
            *(_EMPTY_CXL_PORT if self.cxl else ()),
            *("-chardev", "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on"),
            *("-serial", "chardev:console"),
            *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
            *memory_arguments(self.shape),
        ]


def _nodes(size: Size, memory: MemoryFile | None, cpus: int) -> list[str]:
    """Return the arguments for the NUMA nodes. Each has a part of the main memory. The first has all processors."""
    first = Size(size - _SECOND_NODE)
    return [*_node(0, first, 0, memory, f",cpus=0-{cpus - 1}"), *_node(1, _SECOND_NODE, first, memory, "")]


def _node(node: int, size: Size, offset: int, memory: MemoryFile | None, processors: str) -> list[str]:
    if memory is None:
        backend = f"memory-backend-ram,id=ram{node},size={size:d}"
    else:
        # A private, writable mapping of a read-only file: see QEMU's "VM templating" document.
        access = "share=on" if memory.shared else "share=off,readonly=on,rom=off"
        backend = (
            f"memory-backend-file,id=ram{node},size={size:d},mem-path={_value(memory.path)},offset={offset:d},{access}"
        )
    return ["-object", backend, "-numa", f"node,nodeid={node},memdev=ram{node}{processors}"]


def _value(path: Path) -> str:
    """Return a path as the value of one of QEMU's options, where a comma is doubled."""
    return str(path).replace(",", ",,")


def _disk(number: int, path: Path) -> list[str]:
    # QEMU ignores the host's flushes (cache=unsafe), because the disk is discarded together with the host.
    drive = f"if=none,id=disk{number},file={_value(path)},format=raw,discard=unmap,cache=unsafe"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]


def _named(monitor: Monitor, path: str) -> set[str]:
    """Return the names of QEMU's objects at a place of its object tree."""
    return {str(found["name"]) for found in monitor.execute("qom-list", {"path": path})}
