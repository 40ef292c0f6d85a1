"""One lab machine: a QEMU process in a directory of its own.

The directory holds all that the machine is: its disk (over the saved state's or the image's), its NVDIMMs, its
console's log, its sockets and what is known of its process.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.network import network_socket
from VpmemLibrary.lab.paths import open_private, private_directory
from VpmemLibrary.lab.ports import LOOPBACK, is_free
from VpmemLibrary.lab.process import MONITOR, QEMU_LOG, Process, find_process, kill_process, start_qemu
from VpmemLibrary.lab.qmp import Monitor
from VpmemLibrary.sizes import GiB, KiB, MiB, Size

MEMORY = Size(4 * GiB)
"""A lab host's main memory."""

_SECOND_NODE = Size(256 * MiB)
"""How much of it the second NUMA node has: too little for anything but to be there, with an NVDIMM."""

_NODE_OF_NVDIMM = (0, 0, 1, 0)

NVDIMMS = 4
"""How many NVDIMMs a lab host has."""

LABEL_SIZE = Size(128 * KiB)
"""The label area at the end of each NVDIMM's file."""

CXL_SIZE = Size(512 * MiB)
"""The persistent memory of the CXL device that a lab host can be given: a multiple of 256 MiB, what its regions are."""

_CXL_LABEL_SIZE = Size(1 * MiB)
_CXL_DEVICE = "cxl-device"
_CXL_PORT = "cxl-port"
_CXL_FILES = {"cxl-memory": CXL_SIZE, "cxl-labels": _CXL_LABEL_SIZE}

REGION_SIZE = Size(1 * GiB)
"""The region each NVDIMM makes: a multiple of 16 MiB, or ndctl refuses namespaces in it as misaligned."""

_COMMAND_LINE = (
    "root=/dev/vda rw console=ttyS0 quiet mitigations=off audit=0 nokaslr nowatchdog tsc=reliable no_timer_check "
    "cryptomgr.notests init_on_alloc=0 psi=0 lsm=apparmor cgroup_disable=memory,cpu "
    "hardened_usercopy=off rcupdate.rcu_expedited=1 net.ifnames=0 systemd.show_status=no"
)
"""What is left out is what costs an emulated processor much and proves nothing: accounting of memory, of pressure and
of processor time, security modules beside AppArmor, checks of what is copied from and to programs. Grace periods are
expedited: a namespace that comes or goes waits for many."""

_EMULATED_COMMAND_LINE = " kvm.halt_poll_ns=0 highres=off"
"""What an emulated processor is without as well: polling for guests that halt, and timers between the kernel's ticks,
each of which would take a guest off the processor once more. With KVM both make guests faster."""

_SLOW_UNDER_EMULATION = "la57=off,erms=off,fsrm=off,fsrs=off,fsrc=off,fzrm=off,smap=off,pku=off"
"""Features of a processor that make it slower when it is emulated.

Five-level paging makes every page walk, and the nested ones most, longer. "Fast" string instructions have kernels and
libc copy and clear byte by byte with one instruction, which is emulated one byte at a time: without them a guest starts
in three quarters of the time. With SMAP each access of the kernel to a program's memory has translations of its own;
with PKU each start of a program makes all translations anew (QEMU ``target/i386/tcg``, ``helper_wrpkru``).
"""

_MACHINE = "q35,nvdimm=on,usb=off,vmport=off,sata=off,hpet=off"

_ENVIRONMENT = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1"}
"""What QEMU finds in its environment beside ours: huge pages for its heap.

An emulated processor looks up what it has translated in a hash table of 8 MiB there, all over the place: a seventh of
its time with small pages, a tenth with huge ones.
"""

# A host bridge for CXL with one port, empty until a device is added, and the window that its memory is seen in.
_CXL_MACHINE = f",cxl=on,cxl-fmw.0.targets.0=cxl,cxl-fmw.0.size={GiB // MiB}M"
# The kernel sets up no CXL region where it knows that it is virtual, as it cannot flush processor caches for certain
# there (drivers/cxl/core/region.c, cxl_region_invalidate_memregion). Emulated memory has none.
_CXL_COMMAND_LINE = " clearcpuid=hypervisor"
_CXL_BRIDGE = (
    "-device",
    "pxb-cxl,id=cxl,bus=pcie.0,bus_nr=12",
    "-device",
    f"cxl-rp,id={_CXL_PORT},bus=cxl,chassis=0,slot=2",
)

_RECONNECT_MS = 500
"""How often a machine looks for a private network that is not there."""

_POLL = 0.01
_TOOL_SECONDS = 60
_CXL_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Accelerator:
    """How QEMU runs a lab host.

    Args:
        name: ``kvm`` or ``tcg``.
        reason: How that was decided.
    """

    name: str
    reason: str = ""

    @property
    def cpus(self) -> int:
        """One under emulation: with two, nested guests die at boot. With KVM what this process may use, up to four."""
        return 1 if self.name == "tcg" else min(4, len(os.sched_getaffinity(0)))

    @property
    def arguments(self) -> list[str]:
        """QEMU's arguments for it.

        The emulation's thread=single stopped a lab host for minutes, its timer lost, while a nested guest booted.
        """
        cpu = f"max,{_SLOW_UNDER_EMULATION}" if self.name == "tcg" else "host"
        accelerator = "tcg,thread=multi,tb-size=1024" if self.name == "tcg" else "kvm"
        return ["-accel", accelerator, "-cpu", cpu, "-smp", str(self.cpus)]


@dataclass(frozen=True, slots=True)
class MemoryFile:
    """The file that a machine's main memory lies in.

    Args:
        path: The file.
        shared: Whether the machine writes to it; if not, it reads from it and keeps its changes to itself.
    """

    path: Path
    shared: bool


class Machine:
    """A lab machine, running or not.

    Args:
        directory: Its own directory.
        image: What it boots.
        accelerator: How it runs.
        cxl: Whether it takes a CXL device while it runs. No saved state fits it.
        memory: Its main memory.
        disks: Raw disks that it has beside its own, as /dev/vdb and on.
    """

    def __init__(
        self,
        directory: Path,
        image: Image,
        accelerator: Accelerator,
        *,
        cxl: bool = False,
        memory: Size = MEMORY,
        disks: Sequence[Path] = (),
    ) -> None:
        self.directory = directory
        self.image = image
        self.accelerator = accelerator
        self.cxl = cxl
        self.memory = memory
        self.disks = disks

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.directory.name

    @property
    def console_log(self) -> Path:
        """All that the machine has printed to its serial console since its directory was made."""
        return self.directory / "console.log"

    @property
    def console_socket(self) -> Path:
        """Where the serial console can be used."""
        return self.directory / "console.sock"

    @property
    def disk(self) -> Path:
        """The machine's disk: what differs from its base."""
        return self.directory / "disk.qcow2"

    @property
    def nvdimms(self) -> tuple[Path, ...]:
        """The files of its NVDIMMs."""
        return tuple(self.directory / f"nvdimm{number}" for number in range(NVDIMMS))

    @property
    def shape(self) -> str:
        """What a saved state depends on: it fits only the machine that it was saved from."""
        command = " ".join(self._command(0, None, ""))
        return command.replace(str(self.image.directory), "").replace(self._network_socket, "")

    def create(self, base: Path, base_format: str) -> None:
        """Make its disk over `base`, and its NVDIMMs all zeros.

        Raises:
            LabError: qemu-img failed.
        """
        private_directory(self.directory)
        command = [*self.image.tool("qemu-img"), "create", "-q", "-f", "qcow2", "-F", base_format, "-b", str(base)]
        _checked([*command, str(self.disk)], "make the lab machine's disk")
        for path in self.nvdimms:
            with open_private(path) as file:
                file.truncate(REGION_SIZE + LABEL_SIZE)

    def start(
        self, port: int, *, memory: MemoryFile | None = None, incoming: bool = False, disk_cache: str = "writeback"
    ) -> None:
        """Start its process; the machine boots, or waits for a saved state to be loaded.

        Args:
            port: The loopback port that leads to its SSH server.
            memory: The file its main memory lies in; without one it has memory of its own.
            incoming: Whether it waits for a saved state.
            disk_cache: QEMU's cache mode of its disk.

        Raises:
            LabError: The port is in use, or QEMU did not start; has its message.
        """
        if not is_free(port):
            raise LabError(
                f"Port {port} of {LOOPBACK}, which leads to {self.name}, is in use by another process. End that "
                f"process (ss -ltnp), or make {self.name} again with another port: vpmem lab reset {self.name}"
            )
        self.console_socket.unlink(missing_ok=True)
        command = self._command(port, memory, disk_cache)
        if incoming:
            command += ["-incoming", "defer"]
        start_qemu(self.directory, command, _ENVIRONMENT)

    def monitor(self) -> Monitor:
        """Return a connection to QEMU, to be used in a ``with``."""
        return Monitor(self.directory / MONITOR)

    @property
    def log(self) -> str:
        """The last of what QEMU itself has printed, for messages."""
        try:
            return (self.directory / QEMU_LOG).read_bytes()[-4000:].decode("utf-8", "replace").strip() or "(empty)"
        except FileNotFoundError:
            return "(no log)"

    @property
    def process(self) -> Process | None:
        """Its process if it runs: the one that was started, never another that got its number since."""
        return find_process(self.directory)

    def add_cxl_device(self) -> None:
        """Give the running machine a CXL type-3 device with persistent memory, all zeros.

        Raises:
            LabError: It takes none, has one already, or QEMU refused.
        """
        with self.monitor() as monitor:
            # QEMU's device never lets go of its memory, so each one has its own, whose file goes when QEMU has it.
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
        """Take the CXL device away, once the machine has let go of it, and all that it held.

        Raises:
            LabError: There is none, or the machine does not let go of it in time.
        """
        with self.monitor() as monitor:
            monitor.execute("device_del", {"id": _CXL_DEVICE})
            deadline = time.monotonic() + timeout
            while self._has_cxl_device(monitor):
                if time.monotonic() > deadline:
                    raise LabError(f"{self.name} did not let go of its CXL device within {timeout:g} s.")
                time.sleep(_POLL)

    @property
    def has_cxl_device(self) -> bool:
        """Whether the running machine has a CXL device."""
        with self.monitor() as monitor:
            return self._has_cxl_device(monitor)

    @staticmethod
    def _has_cxl_device(monitor: Monitor) -> bool:
        return _CXL_DEVICE in _named(monitor, "/machine/peripheral")

    def kill(self) -> None:
        """End its process as a power cut does: at once, with nothing flushed by the machine.

        Raises:
            LabError: The process does not go away.
        """
        kill_process(self.directory)

    def console_tail(self, lines: int = 15) -> str:
        """Return the last lines of its console, for messages."""
        try:
            text = self.console_log.read_bytes()[-8000:].decode("utf-8", "replace")
        except FileNotFoundError:
            return "(no console output)"
        return "\n".join(text.strip().splitlines()[-lines:]) or "(no console output)"

    @property
    def _network_socket(self) -> str:
        """The machine's socket of the private network: relative, as QEMU's unix sockets allow no long paths."""
        return f"../../{network_socket(self.name)}"

    @property
    def _kernel_command_line(self) -> str:
        emulated = _EMULATED_COMMAND_LINE if self.accelerator.name == "tcg" else ""
        return _COMMAND_LINE + emulated + (_CXL_COMMAND_LINE if self.cxl else "")

    def _command(self, port: int, memory: MemoryFile | None, disk_cache: str) -> list[str]:
        """Return QEMU's command line. Paths of its own are relative, as unix sockets allow no long ones."""
        return [
            *self.image.tool("qemu-system-x86_64"),
            *(part for directory in self.image.firmware for part in ("-L", str(directory))),
            *("-name", f"vpmem-{self.name}", "-nodefaults", "-no-user-config", "-display", "none"),
            *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
            *("-machine", _MACHINE + (_CXL_MACHINE if self.cxl else ""), *self.accelerator.arguments),
            *("-m", f"size={self.memory // MiB}M,slots={NVDIMMS + 4},maxmem={(self.memory + 16 * GiB) // MiB}M"),
            *_nodes(self.memory, memory, self.accelerator.cpus),
            *("-rtc", "base=utc,clock=host"),
            *("-kernel", str(self.image.kernel), "-initrd", str(self.image.initrd)),
            *("-append", self._kernel_command_line),
            *("-drive", f"if=none,id=root,file={self.disk.name},format=qcow2,discard=unmap,cache={disk_cache}"),
            *("-device", "virtio-blk-pci,drive=root"),
            *(part for number, path in enumerate(self.disks, 1) for part in _disk(number, path)),
            # Restricted: it reaches neither this machine's loopback nor the network behind it. SSH still comes in.
            *("-netdev", f"user,id=user,restrict=on,ipv6=off,hostfwd=tcp:{LOOPBACK}:{port}-:22"),
            *("-device", "virtio-net-pci,netdev=user,romfile=,mac=52:54:00:12:34:56"),
            *(
                "-netdev",
                f"stream,id=private,addr.type=unix,addr.path={self._network_socket},reconnect-ms={_RECONNECT_MS}",
            ),
            *("-device", "virtio-net-pci,netdev=private,romfile=,mac=52:54:00:12:35:00"),
            *("-device", "virtio-rng-pci", "-device", "vmgenid,guid=auto"),
            *(_CXL_BRIDGE if self.cxl else ()),
            *("-chardev", "socket,id=console,path=console.sock,server=on,wait=off,logfile=console.log,logappend=on"),
            *("-serial", "chardev:console"),
            *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
            *(part for slot, path in enumerate(self.nvdimms) for part in _nvdimm(slot, path)),
        ]


def _nodes(size: Size, memory: MemoryFile | None, cpus: int) -> list[str]:
    """Return the arguments for the NUMA nodes: their pieces of the main memory, and for the first all processors."""
    first = Size(size - _SECOND_NODE)
    return [*_node(0, first, 0, memory, f",cpus=0-{cpus - 1}"), *_node(1, _SECOND_NODE, first, memory, "")]


def _node(node: int, size: Size, offset: int, memory: MemoryFile | None, processors: str) -> list[str]:
    if memory is None:
        backend = f"memory-backend-ram,id=ram{node},size={size:d}"
    else:
        # A private mapping of a read-only file that is writable memory all the same: QEMU's "VM templating" document.
        access = "share=on" if memory.shared else "share=off,readonly=on,rom=off"
        backend = f"memory-backend-file,id=ram{node},size={size:d},mem-path={memory.path},offset={offset:d},{access}"
    return ["-object", backend, "-numa", f"node,nodeid={node},memdev=ram{node}{processors}"]


def _disk(number: int, path: Path) -> list[str]:
    # Its own cache is written back when the machine asks for it; it is thrown away with the machine.
    drive = f"if=none,id=disk{number},file={path},format=raw,discard=unmap,cache=unsafe"
    return ["-drive", drive, "-device", f"virtio-blk-pci,drive=disk{number}"]


def _nvdimm(slot: int, path: Path) -> list[str]:
    backend = f"memory-backend-file,id=nvdimm{slot}-file,mem-path={path.name},share=on"
    return [
        *("-object", f"{backend},size={REGION_SIZE + LABEL_SIZE:d}"),
        *(
            "-device",
            f"nvdimm,id=nvdimm{slot},memdev=nvdimm{slot}-file,slot={slot},node={_NODE_OF_NVDIMM[slot]},"
            f"label-size={LABEL_SIZE:d}",
        ),
    ]


def _named(monitor: Monitor, path: str) -> set[str]:
    """Return the names of what QEMU has at a place of its object tree."""
    return {str(found["name"]) for found in monitor.execute("qom-list", {"path": path})}


def _checked(command: Sequence[str], purpose: str) -> None:
    result = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_TOOL_SECONDS,
        umask=0o077,
    )
    if result.returncode != 0:
        raise LabError(f"Could not {purpose}: {result.stderr.strip() or f'exit status {result.returncode}'}")
