"""The lab: disposable compute hosts with emulated NVDIMMs, on a machine that has none.

Example::

    lab = Lab()
    for host in lab.up(hosts=2):
        print(host.name, host.port)
    lab.down()
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from VpmemLibrary.errors import CommandError, InvalidValueError, LabError, NotFoundError, UnreachableError
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.host.ssh import SshTransport
from VpmemLibrary.lab.acceleration import find_accelerator
from VpmemLibrary.lab.cache import locked
from VpmemLibrary.lab.image import GUEST_KEY_NAME, Image, find_or_build_image, image_name
from VpmemLibrary.lab.machine import Accelerator, Machine
from VpmemLibrary.lab.network import MOST_HOSTS, Network
from VpmemLibrary.lab.paths import cache_directory, private_directory, state_directory
from VpmemLibrary.lab.ports import LOOPBACK, free_port, known_hosts_line
from VpmemLibrary.lab.process import kill_process
from VpmemLibrary.lab.progress import Progress, Silent
from VpmemLibrary.lab.state import BOOT_SECONDS, SavedState, connect, find_or_save_state, wait_for_ssh

CXL_SECONDS = 60.0
"""Until a lab host's kernel has a new device: a hot-plug slot waits 5 s before it gives power (PCI Express)."""

_CXL_SCRIPT = ("/usr/lib/vpmem/cxl-device",)
_POLL = 0.1


@dataclass(frozen=True, slots=True)
class _Record:
    """What is written down of a lab host, so that another process finds it again."""

    port: int
    uuid: str
    image: str
    accelerator: str
    accelerator_reason: str
    cxl: bool = False


class LabHost:
    """One host of the lab, found by its directory.

    Args:
        directory: Its own directory; its name is the host's name.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._record = _Record(**json.loads((directory / "host.json").read_text()))
        accelerator = Accelerator(self._record.accelerator, self._record.accelerator_reason)
        self.machine = Machine(directory, Image(Path(self._record.image)), accelerator, cxl=self.cxl)

    def __repr__(self) -> str:
        return f"LabHost({self.name!r}, port={self.port})"

    @property
    def name(self) -> str:
        """``lab-1``, ``lab-2``, ..."""
        return self.directory.name

    @property
    def address(self) -> str:
        """Always the loopback address."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The loopback port of its SSH server; it stays the same for as long as the lab host exists."""
        return self._record.port

    @property
    def private_address(self) -> str:
        """Its address on the network between the lab hosts; see ``personalise``."""
        return f"192.168.77.{self.name.rpartition('-')[2]}"

    @property
    def user(self) -> str:
        """Always root."""
        return "root"

    @property
    def key_file(self) -> Path:
        """The private key that lets `user` in."""
        return self.machine.image.key_file

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with this host's key, and that of its guests."""
        return self.directory / "known_hosts"

    @property
    def cxl(self) -> bool:
        """Whether it takes a CXL device while it runs."""
        return self._record.cxl

    @property
    def alive(self) -> bool:
        """Whether its machine runs."""
        return self.machine.process is not None

    def transport(self) -> SshTransport:
        """Return a connection of its own to this host."""
        return connect(self.machine.image, self.port, self.known_hosts)

    def power_cut(self) -> None:
        """Cut its power: what had not reached its disk or its NVDIMMs is lost, the NVDIMMs keep their contents."""
        with self._power():
            self.machine.kill()

    def power_on(self, timeout: float = BOOT_SECONDS) -> None:
        """Boot it from its disk and wait until SSH answers; its NVDIMMs are as they were left.

        One that has power is only waited for, as with a server's management controller.

        Args:
            timeout: Seconds that the boot may take.

        Raises:
            LabError: It does not come up.
        """
        with self._power():
            if not self.alive:
                Network(self.directory.parent.parent).start(self.machine.image)
                self.machine.start(self.port)
        with self.transport() as transport:
            wait_for_ssh(self.machine, transport, timeout)

    @contextmanager
    def _power(self) -> Iterator[None]:
        """Let one process at a time switch this host's power: two that start it at once would lose one machine."""
        with locked(self.directory / "power.lock", Silent(), f"switching {self.name}"):
            yield

    def add_cxl_device(self, timeout: float = CXL_SECONDS) -> None:
        """Give it a CXL device with persistent memory, all zeros, in place of the one that it may have.

        One that it still has when it reboots is of no use then: QEMU leaves it enabled, and the kernel refuses it.

        Args:
            timeout: Seconds until its kernel must have the device.

        Raises:
            LabError: It takes none or does not run, or its kernel does not take the device.
        """
        if not self.cxl:
            raise LabError(f"Lab host {self.name} takes no CXL device. One that does: vpmem lab up --cxl")
        if self.machine.has_cxl_device:
            self.remove_cxl_device()
        self.machine.add_cxl_device()
        with self.transport() as transport:
            transport.run([*_CXL_SCRIPT, "add"], timeout=timeout).check()
            deadline = time.monotonic() + timeout
            while transport.run(["sh", "-c", "ls -d /sys/bus/cxl/devices/endpoint*"]).exit_status != 0:
                if time.monotonic() > deadline:
                    said = transport.run(["sh", "-c", "dmesg | grep -i cxl | tail -n 5"]).text
                    raise LabError(f"The kernel of {self.name} did not take its CXL device in {timeout:g} s:\n{said}")
                time.sleep(_POLL)

    def remove_cxl_device(self) -> None:
        """Take its CXL device away, and all that the device held.

        Raises:
            LabError: It has none, or does not let go of it: something uses it.
        """
        if not self.machine.has_cxl_device:
            raise LabError(f"Lab host {self.name} has no CXL device: vpmem lab cxl-add {self.name}")
        with self.transport() as transport:
            removed = transport.run([*_CXL_SCRIPT, "remove"], timeout=CXL_SECONDS)
            removed.check("Something has it in use: take its regions apart first (cxl disable-region, destroy-region)")
        self.machine.remove_cxl_device()

    def reboot(self, timeout: float = BOOT_SECONDS) -> None:
        """Reboot it in good order and wait until SSH answers on the new boot.

        Args:
            timeout: Seconds that the reboot may take.

        Raises:
            LabError: It does not run, or is not back in time.
        """
        if not self.alive:
            raise LabError(f"Lab host {self.name} does not run.")
        deadline = time.monotonic() + timeout
        with self.transport() as transport:
            before = boot_id(transport)
            transport.run(["systemctl", "reboot", "--no-block"]).check()
            while True:
                wait_for_ssh(self.machine, transport, max(deadline - time.monotonic(), 0))
                try:
                    if boot_id(transport) != before:
                        return
                except (UnreachableError, CommandError):
                    continue  # it went down between the two commands
                if time.monotonic() > deadline:
                    raise LabError(f"Lab host {self.name} did not go down within {timeout:g} s.")
                time.sleep(_POLL)

    @classmethod
    def _create(
        cls, directory: Path, image: Image, accelerator: Accelerator, state: SavedState, port: int, *, cxl: bool
    ) -> LabHost:
        machine = Machine(directory, image, accelerator)
        machine.create(state.disk, "qcow2")
        (directory / "known_hosts").write_text(
            known_hosts_line(port, image.host_public_key) + f"{GUEST_KEY_NAME} {image.guest_public_key}\n"
        )
        record = _Record(port, str(uuid.uuid4()), str(image.directory), accelerator.name, accelerator.reason, cxl)
        (directory / "host.json").write_text(json.dumps(asdict(record), indent=1))
        host = cls(directory)
        if cxl:  # a machine of its own, which boots
            host.machine.start(port)
        else:
            state.restore(host.machine, port)
        return host

    def _personalise(self) -> None:
        """Give it what must differ between hosts that were restored from one state, once SSH answers."""
        with self.transport() as transport:
            wait_for_ssh(self.machine, transport, BOOT_SECONDS if self.cxl else 60)
            now = f"{time.time():.3f}"
            number = self.name.rpartition("-")[2]
            transport.run(["/usr/lib/vpmem/personalise", self.name, number, self._record.uuid, now]).check()


class Lab:
    """The lab of the current user.

    Args:
        progress: Shows what takes a while.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or Silent()
        self._root = state_directory()

    @property
    def directory(self) -> Path:
        """Where the lab hosts' directories lie."""
        return self._root / "hosts"

    @property
    def network(self) -> Network:
        """The private network between the lab hosts."""
        return Network(self._root)

    def hosts(self) -> list[LabHost]:
        """Return every lab host that exists, running or not, in the order of their numbers."""
        if not self.directory.is_dir():
            return []
        found = [path for path in self.directory.iterdir() if (path / "host.json").is_file()]
        return [LabHost(path) for path in sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))]

    def host(self, name: str = "") -> LabHost:
        """Return one lab host; without a name the first.

        Raises:
            NotFoundError: There is none of that name, or none at all.
        """
        hosts = self.hosts()
        for host in hosts:
            if not name or host.name == name:
                return host
        raise NotFoundError("lab host", name or "lab-1", [host.name for host in hosts])

    def up(self, hosts: int = 1, *, cxl: bool = False) -> list[LabHost]:
        """Have lab hosts ``lab-1`` to ``lab-N`` running and answering SSH, and return them.

        Those that run are left as they are; those that have crashed, or were killed, are replaced.

        Args:
            hosts: How many.
            cxl: Have the last of them take a CXL device while it runs; it is booted, not restored.

        Raises:
            InvalidValueError: That is not a sensible number.
            LabError: The lab cannot be made or started.
        """
        if isinstance(hosts, bool) or not isinstance(hosts, int) or not 1 <= hosts <= MOST_HOSTS:
            raise InvalidValueError("hosts", hosts, f"a whole number from 1 to {MOST_HOSTS}")
        with self._locked("changing the lab"):
            names = [f"lab-{number}" for number in range(1, hosts + 1)]
            existing = {host.name: host for host in self.hosts()}
            for_cxl = {names[-1]} if cxl else set()
            missing = [
                name
                for name in names
                if name not in existing or not existing[name].alive or (name in for_cxl and not existing[name].cxl)
            ]
            if missing:
                self._restore(missing, for_cxl | {name for name, host in existing.items() if host.cxl})
            elif self.network.process is None:
                self.network.start(find_or_build_image(self._progress))
            return [self.host(name) for name in names]

    def down(self) -> list[str]:
        """End every lab host and remove all that they left; return their names."""
        with self._locked("changing the lab"):
            names = []
            for path in sorted(self.directory.iterdir()) if self.directory.is_dir() else []:
                self._remove(path)
                names.append(path.name)
            self._remove(self.network.directory)
            return names

    def reset(self, name: str = "") -> LabHost:
        """Replace a lab host by a fresh one of the same name: NVDIMMs all zeros, the saved state as it was made.

        Raises:
            NotFoundError: There is no such lab host.
        """
        with self._locked("changing the lab"):
            host = self.host(name)
            self._restore([host.name], {host.name} if host.cxl else set())
            return self.host(host.name)

    def clean(self) -> list[Path]:
        """Remove from the cache what neither this version nor a lab host of this lab uses; return what was removed."""
        with self._locked("changing the lab"):
            used = {host.machine.image.key for host in self.hosts()} | {image_name()}
            removed = []
            for path in _directories(cache_directory()):
                image = path.name if path.name.startswith("image-") else SavedState(path).image_key
                if image not in used:
                    shutil.rmtree(path)
                    removed.append(path)
            return removed

    def _restore(self, names: list[str], for_cxl: set[str]) -> None:
        image = find_or_build_image(self._progress)
        accelerator = find_accelerator(image, self._progress)
        state = find_or_save_state(image, accelerator, self._progress)
        self.network.start(image)
        verb, seconds = ("starting", 45) if for_cxl & set(names) else ("restoring", 4)
        with self._progress.step(f"{verb} {', '.join(names)}", seconds):
            fresh = []
            private_directory(self.directory)
            try:
                for name in names:
                    directory = self.directory / name
                    if directory.exists():
                        self._progress.note(f"{name} is replaced")
                        self._remove(directory)
                    port = free_port({host.port for host in self.hosts()})
                    fresh.append(LabHost._create(directory, image, accelerator, state, port, cxl=name in for_cxl))
                with ThreadPoolExecutor(len(fresh)) as pool:
                    list(pool.map(LabHost._personalise, fresh))
            except BaseException:
                for name in names:
                    self._remove(self.directory / name)
                raise

    def _remove(self, directory: Path) -> None:
        if not directory.exists():
            return
        # The process is known by the directory alone: a half-made host has no record of its own yet.
        kill_process(directory)
        shutil.rmtree(directory)

    @contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        with locked(self._root / "lab.lock", self._progress, purpose):
            yield


def _directories(path: Path) -> list[Path]:
    """Return the finished entries of the cache; those being made have a name that begins with a dot."""
    return sorted(entry for entry in path.glob("[!.]*") if entry.is_dir())
