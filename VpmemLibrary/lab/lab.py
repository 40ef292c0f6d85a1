"""The lab: disposable hosts with emulated NVDIMMs, on a machine that has no NVDIMMs.

Example::

    lab = Lab()
    for host in lab.up(hosts=2):
        print(host.name, host.port)
    lab.down()
"""

from __future__ import annotations

import json
import platform
import shutil
import time
import uuid
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, fields, replace

from VpmemLibrary.errors import CommandError, InvalidValueError, LabError, NotFoundError, UnreachableError
from VpmemLibrary.extras import require_extra
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.lab.acceleration import find_accelerator
from VpmemLibrary.lab.cache import CLOUD, faults, locked, remove_unfinished
from VpmemLibrary.lab.image import GUEST_KEY_NAME, Image, find_or_build_image, image_name
from VpmemLibrary.lab.network import MOST_HOSTS, Network
from VpmemLibrary.lab.paths import cache_directory, no_raw_errors, private_directory, state_directory, this_machine
from VpmemLibrary.lab.ports import LOOPBACK, free_port, known_hosts_line
from VpmemLibrary.lab.process import kill_process
from VpmemLibrary.lab.progress import SILENT, Progress
from VpmemLibrary.lab.qemu_host import Accelerator, QemuHost
from VpmemLibrary.lab.recipe import DEFAULT_RELEASE, RELEASES
from VpmemLibrary.lab.shapes import Shape
from VpmemLibrary.lab.state import (
    BOOT_SECONDS,
    SavedState,
    StateRefusedError,
    connect,
    discard_state,
    find_or_save_state,
    refused,
    runs,
    state_name,
    wait_for_ssh,
)
from VpmemLibrary.polling import attempts, poll
from VpmemLibrary.transport.ssh.transport import SshTransport

CXL_SECONDS = 60.0
"""Seconds until a lab host's kernel has a new device. A hot-plug slot waits 5 s before it gives power (PCI Express)."""

PRIVATE_ADDRESSES = "192.168.77.*"
"""The addresses of the lab hosts on the network between them, as a pattern of known_hosts."""

ROUGH_PORT = 2222
"""The port on a lab host's own loopback through which the rough entry's user logs in."""

_RESTORED_SECONDS = 60.0
_CXL_SCRIPT = ("/usr/lib/vpmem/cxl-device",)
_TEST_BUS_SCRIPT = ("/usr/lib/vpmem/test-bus",)
_CXL_SERVICE = "cxl-regions.service"
_POLL = 0.1

_NETWORK_SECONDS = 60.0
"""Seconds within which a host that answers SSH must have its address on the private network."""


class HostKind(Struct, frozen=True):
    """The properties of a new lab host.

    Args:
        shape: Its persistent memory.
        release: Its release of Debian.
        cxl: Whether it can get a CXL device while it runs.
    """

    shape: Shape = Shape.NVDIMM
    release: str = DEFAULT_RELEASE
    cxl: bool = False


class _Record(Struct, frozen=True):
    """The data about a lab host in a file, so that another process finds the lab host again."""

    port: int
    uuid: str
    image: str
    accelerator: str
    accelerator_reason: str
    cxl: bool = False
    shape: str = Shape.NVDIMM.value
    release: str = DEFAULT_RELEASE
    tools: str = ""
    state: str = ""
    machine: str = ""
    machine_name: str = ""


def _read_record(path: Path) -> _Record:
    """Return the record of a lab host. Raise a LabError if the file is absent or has no valid record."""
    try:
        found = _Record(**json.loads(path.read_text("utf-8")))
        wrong = [each.name for each in fields(_Record) if type(getattr(found, each.name)) is not each.type]
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise LabError(f"{path} cannot be read ({error}). Remove the lab host: vpmem lab down") from error
    if wrong:
        raise LabError(f"{path} has a wrong {', '.join(wrong)}. Remove the lab host: vpmem lab down")
    return found


class LabHost:
    """One host of the lab, found by its directory.

    Args:
        directory: The host's own directory. Its name is the host's name.

    Raises:
        LabError: The directory has no record of a lab host.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._record = _read_record(directory / "host.json")
        accelerator = Accelerator(self._record.accelerator, self._record.accelerator_reason)
        tools = Path(self._record.tools) if self._record.tools else None
        image = Image(Path(self._record.image), tools)
        self.qemu = QemuHost(directory, image, accelerator, cxl=self.cxl, shape=self.shape)

    def __repr__(self) -> str:
        return f"LabHost({self.name!r}, port={self.port})"

    @property
    def name(self) -> str:
        """``lab-1``, ``lab-2``, ..."""
        return self.directory.name

    @property
    def address(self) -> str:
        """The host's address: always the loopback address."""
        return LOOPBACK

    @property
    def port(self) -> int:
        """The loopback port of the host's SSH server. It stays the same while the lab host exists."""
        return self._record.port

    @property
    def private_address(self) -> str:
        """The host's address on the private network. The script ``personalise`` sets it."""
        return f"192.168.77.{self.name.rpartition('-')[2]}"

    @property
    def user(self) -> str:
        """The user for SSH: always root."""
        return "root"

    @property
    def key_file(self) -> Path:
        """The private key for the login as `user`."""
        return self.qemu.image.key_file

    @property
    def known_hosts(self) -> Path:
        """A known_hosts file with the key of this host and the key of its guests."""
        return self.directory / "known_hosts"

    @property
    def cxl(self) -> bool:
        """Whether the host can get a CXL device while it runs."""
        return self._record.cxl

    @property
    def shape(self) -> Shape:
        """The kind of persistent memory that the host has."""
        return Shape(self._record.shape)

    @property
    def release(self) -> str:
        """The host's release of Debian."""
        return self._record.release

    @property
    def restorable(self) -> bool:
        """Whether the host starts from the saved state. If no saved state fits it, it boots."""
        return self.shape.restorable and not self.cxl

    @property
    def ssh_command(self) -> list[str]:
        """The command that logs in to the host. Its last part is the destination."""
        return ssh_command(f"{self.user}@{self.address}", self.port, self.key_file, self.known_hosts)

    @property
    def state_directory(self) -> str:
        """The saved state on which the host's disk is based. It is empty if this is unknown."""
        return self._record.state

    @property
    def elsewhere(self) -> str:
        """The name of the machine that the host runs on. It is empty if this is the current machine.

        If machines share a home, its state directory has the lab hosts of all these machines.
        """
        return "" if self._record.machine in {"", this_machine()} else self._record.machine_name

    @property
    def alive(self) -> bool:
        """Whether the host runs, and runs on this machine."""
        return not self.elsewhere and self.qemu.process is not None

    def transport(self) -> SshTransport:
        """Return a new connection to this host.

        Raises:
            LabError: The host runs on another machine.
        """
        self._require_here()
        return connect(self.qemu.image, self.port, self.known_hosts)

    def power_cut(self) -> None:
        """Cut the host's power. The NVDIMMs keep their contents.

        Data that had not reached the host's disk or its NVDIMMs is lost.

        Raises:
            LabError: The host runs on another machine.
        """
        with self._power():
            self.qemu.kill()

    def power_on(self, timeout: float = BOOT_SECONDS) -> None:
        """Boot the host from its disk and wait until SSH answers. Its NVDIMMs keep their contents.

        If the host already has power, only wait for SSH, as with a server's management controller.

        Args:
            timeout: Seconds that the boot may take.

        Raises:
            LabError: The host does not boot.
        """
        with self._power():
            if not self.alive:
                Network(self.directory.parent.parent).start(self.qemu.image)
                self.qemu.start(self.port)
        with self.transport() as transport:
            wait_for_ssh(self.qemu, transport, timeout)
            self._require_cxl_regions(transport)
            self._require_private_network(transport)

    @contextmanager
    def _power(self) -> Iterator[None]:
        """Lock the host's power for one process. If two processes started QEMU at once, one QEMU would be lost."""
        self._require_here()
        with no_raw_errors(), locked(self.directory / "power.lock", SILENT, f"switching {self.name}"):
            yield

    def _require_here(self) -> None:
        if self.elsewhere:
            raise LabError(f"Lab host {self.name} runs on another machine, {self.elsewhere}: use it there.")

    def add_cxl_device(self, timeout: float = CXL_SECONDS) -> None:
        """Add a CXL device to the host, with persistent memory that is all zeros. Replace an earlier CXL device.

        A CXL device that the host still has when it reboots becomes useless: QEMU leaves it enabled, and the kernel
        refuses it.

        Args:
            timeout: Seconds within which the host's kernel must see the device.

        Raises:
            LabError: The host accepts no CXL device, does not run, or its kernel does not accept the device.
        """
        if not self.cxl:
            raise LabError(f"Lab host {self.name} accepts no CXL device. Start one that does: vpmem lab up --cxl")
        if self.qemu.has_cxl_device:
            self.remove_cxl_device()
        self.qemu.add_cxl_device()
        with self.transport() as transport:
            transport.run([*_CXL_SCRIPT, "add"], timeout=timeout).check()

            def is_there() -> bool:
                return transport.run(["sh", "-c", "ls -d /sys/bus/cxl/devices/endpoint*"]).exit_status == 0

            def failure(_: object) -> LabError:
                said = transport.run(["sh", "-c", "dmesg | grep -i cxl | tail -n 5"]).text
                return LabError(
                    f"The kernel of {self.name} did not accept its CXL device within {timeout:g} s:\n{said}"
                )

            poll(is_there, f"the CXL device of {self.name}", timeout=timeout, interval=_POLL, failure=failure)

    def remove_cxl_device(self) -> None:
        """Remove the host's CXL device and all its data.

        Raises:
            LabError: The host has no CXL device, or does not release it because something uses it.
        """
        if not self.qemu.has_cxl_device:
            raise LabError(f"Lab host {self.name} has no CXL device. Add one: vpmem lab cxl-add {self.name}")
        with self.transport() as transport:
            removed = transport.run([*_CXL_SCRIPT, "remove"], timeout=CXL_SECONDS)
            removed.check("The CXL device is in use. First remove its regions (cxl disable-region, destroy-region)")
        self.qemu.remove_cxl_device()

    def set_test_bus(self, on: bool) -> None:
        """Exchange the host's NVDIMMs for the kernel's test bus, or bring the NVDIMMs back.

        Raises:
            CommandError: A namespace is in use. The host has the bus that it had before.
            LabError: The host was lost meanwhile, for instance by a power cut.
        """
        try:
            with self.transport() as transport:
                transport.run([*_TEST_BUS_SCRIPT, "on" if on else "off"], timeout=BOOT_SECONDS).check(
                    f"The NVDIMMs of {self.name} could not be exchanged"
                )
        except UnreachableError as error:
            raise LabError(
                f"Lab host {self.name} was lost while its NVDIMMs were exchanged. A boot brings them back: "
                f"vpmem lab power-on {self.name}\n{error}"
            ) from error

    def reboot(self, timeout: float = BOOT_SECONDS) -> None:
        """Reboot the host cleanly and wait until SSH answers after the new boot.

        Args:
            timeout: Seconds that the reboot may take.

        Raises:
            LabError: The host does not run, or does not answer in time.
        """
        if not self.alive:
            raise LabError(f"Lab host {self.name} does not run.")
        with self.transport() as transport:
            before = boot_id(transport)
            transport.run(["systemctl", "reboot", "--no-block"]).check()
            for attempt in attempts(f"lab host {self.name} to reboot", timeout=timeout, interval=_POLL):
                wait_for_ssh(self.qemu, transport, max(timeout - attempt.seconds, 0))
                with suppress(UnreachableError, CommandError):  # the host went down between the two commands
                    if boot_id(transport) != before:
                        break
            else:
                raise LabError(f"Lab host {self.name} did not go down within {timeout:g} s.")
            self._require_cxl_regions(transport)
            self._require_private_network(transport)

    def _require_cxl_regions(self, transport: SshTransport) -> None:
        """Raise if the host has CXL devices, but did not assemble their regions while it booted."""
        if self.shape is Shape.CXL:
            # The service ends before SSH answers. Its status has its last messages, and exits 0 only if it succeeded.
            transport.run(["systemctl", "status", "--no-pager", "--full", _CXL_SERVICE]).check(
                f"The CXL regions of {self.name} were not assembled"
            )

    def _require_private_network(self, transport: SshTransport) -> None:
        """Wait until the host has its address on the private network. SSH may answer before it has the address."""

        def has_address() -> bool:
            addresses = transport.run(["ip", "-4", "-br", "address", "show", "dev", "eth1", "up"]).text
            return f"{self.private_address}/" in addresses

        def failure(_: object) -> LabError:
            said = transport.run(["networkctl", "status", "--no-pager", "--full", "eth1"]).text
            return LabError(
                f"Lab host {self.name} has no address {self.private_address} on the network between the lab hosts "
                f"within {_NETWORK_SECONDS:g} s:\n{said}"
            )

        poll(
            has_address,
            f"the address {self.private_address}",
            timeout=_NETWORK_SECONDS,
            interval=_POLL,
            failure=failure,
        )

    @classmethod
    def _create(
        cls, directory: Path, image: Image, accelerator: Accelerator, state: SavedState, port: int, *, kind: HostKind
    ) -> LabHost:
        QemuHost(directory, image, accelerator, shape=kind.shape).create(state.disk, "qcow2")
        (directory / "known_hosts").write_text(
            known_hosts_line(port, image.host_public_key)
            + known_hosts_line(ROUGH_PORT, image.host_public_key)
            + f"{GUEST_KEY_NAME} {image.guest_public_key}\n"
        )
        record = _Record(
            port=port,
            uuid=str(uuid.uuid4()),
            image=str(image.directory),
            accelerator=accelerator.name,
            accelerator_reason=accelerator.reason,
            cxl=kind.cxl,
            shape=kind.shape.value,
            release=kind.release,
            tools=str(image.tools_directory or ""),
            state=str(state.directory),
            machine=this_machine(),
            machine_name=platform.node(),
        )
        (directory / "host.json").write_text(json.dumps(asdict(record), indent=1))
        host = cls(directory)
        if host.restorable:
            state.restore(host.qemu, port)
        else:
            host.qemu.start(port)
        return host

    def _personalise(self) -> None:
        """Wait until SSH answers, then set the properties that differ between hosts restored from the same state.

        Raises:
            StateRefusedError: The restored host does not run.
            LabError: SSH does not answer.
        """
        with self.transport() as transport:
            try:
                wait_for_ssh(self.qemu, transport, _RESTORED_SECONDS if self.restorable else BOOT_SECONDS)
            except LabError as error:
                if self.restorable and not runs(self.qemu):
                    raise refused(self.qemu, error) from error
                raise
            now = f"{time.time():.3f}"
            if not self.restorable:
                # A service that still starts could make one of the steps below time out.
                transport.run(["systemctl", "is-system-running", "--wait"], timeout=BOOT_SECONDS)
            self._require_cxl_regions(transport)
            number = self.name.rpartition("-")[2]
            transport.run(["/usr/lib/vpmem/personalise", self.name, number, self._record.uuid, now]).check()
            self._require_private_network(transport)
        if self.shape is Shape.NFIT_TEST:
            self.set_test_bus(True)


class Lab:
    """The lab of the current user.

    Args:
        progress: Shows steps that take a while.

    Raises:
        UnsupportedError: The packages of the extra `lab` are not installed.
    """

    def __init__(self, progress: Progress = SILENT) -> None:
        require_extra("lab", "The lab")
        self._progress = progress
        self._root = state_directory()

    @property
    def directory(self) -> Path:
        """The parent of the lab hosts' directories."""
        return self._root / "hosts"

    @property
    def network(self) -> Network:
        """The private network between the lab hosts."""
        return Network(self._root)

    def hosts(self) -> list[LabHost]:
        """Return every lab host that exists, running or not, in the order of their numbers.

        A directory without a readable record is no lab host: `up` replaces the directory, and `down` removes it.
        """
        found = []
        for path in self.directory.glob("lab-*"):
            with suppress(LabError):
                found.append(LabHost(path))
        return sorted(found, key=lambda host: (len(host.name), host.name))

    def host(self, name: str = "") -> LabHost:
        """Return the lab host with a name. Without a name, return the first lab host.

        Raises:
            NotFoundError: There is no lab host with this name, or no lab host at all.
        """
        hosts = self.hosts()
        for host in hosts:
            if not name or host.name == name:
                return host
        raise NotFoundError("lab host", name or "lab-1", [host.name for host in hosts])

    def up(
        self, hosts: int = 1, *, cxl: bool = False, shape: str = Shape.NVDIMM, release: str = DEFAULT_RELEASE
    ) -> list[LabHost]:
        """Start the lab hosts ``lab-1`` to ``lab-N``, wait until they answer SSH, and return them.

        Running lab hosts are not touched, and keep their shape and release. So several calls make a lab with hosts of
        several shapes. Lab hosts that have crashed or were killed are replaced.

        Args:
            hosts: The number of lab hosts.
            cxl: Let the last lab host take a CXL device while it runs. This lab host is booted, not restored.
            shape: The persistent memory of the new lab hosts; see `Shape`.
            release: The release of Debian of the new lab hosts: ``bookworm``, ``trixie`` or ``forky``, or
                ``trixie-nova`` or ``sid-nova`` for a compute host of a cloud.

        Raises:
            InvalidValueError: The number of lab hosts, the shape or the release is invalid.
            LabError: The lab cannot be made or started, or its directory has lab hosts of another machine.
        """
        if isinstance(hosts, bool) or not isinstance(hosts, int) or not 1 <= hosts <= MOST_HOSTS:
            raise InvalidValueError("hosts", hosts, f"a whole number from 1 to {MOST_HOSTS}")
        kind = HostKind(_valid_shape(shape), _valid_release(release))
        with self._locked("changing the lab"):
            self._require_here()
            names = [f"lab-{number}" for number in range(1, hosts + 1)]
            existing = {host.name: host for host in self.hosts()}
            for_cxl = {names[-1]} if cxl else set()
            missing = [
                name
                for name in names
                if name not in existing or not existing[name].alive or (name in for_cxl and not existing[name].cxl)
            ]
            for_cxl |= {name for name, host in existing.items() if host.cxl}
            if missing:
                self._restore({name: replace(kind, cxl=name in for_cxl) for name in missing})
            elif self.network.process is None:
                self.network.start(find_or_build_image(self._progress))
            return [self.host(name) for name in names]

    def build(self, release: str = DEFAULT_RELEASE) -> list[Path]:
        """Build what lab hosts of a release need in the cache, if it is missing. No lab host is started or changed.

        Args:
            release: The release of Debian; see `up`.

        Returns:
            The directories of the image and of the saved state.

        Raises:
            InvalidValueError: The release is invalid.
            LabError: The image cannot be built, or its lab host does not boot.
        """
        image, _, state = self._parts(_valid_release(release))
        return [image.directory, state.directory]

    def down(self, only: Collection[str] | None = None) -> list[str]:
        """End every lab host of this machine, remove all its files, and return the names of the lab hosts.

        Args:
            only: The names of the lab hosts to remove. By default all of them and their private network are removed.
        """
        with self._locked("changing the lab"):
            names = []
            elsewhere = self._elsewhere()
            for path in sorted(self.directory.iterdir()) if self.directory.is_dir() else []:
                if only is not None and path.name not in only:
                    continue
                if path.name in elsewhere:
                    self._progress.note(
                        f"{path.name} runs on {elsewhere[path.name]} and is left alone: run `vpmem lab down` there. "
                        f"If that machine no longer exists: rm -r {path}"
                    )
                    continue
                self._remove(path)
                names.append(path.name)
            if not elsewhere and not self.hosts():
                self._remove(self.network.directory)
            return names

    def reset(self, name: str = "") -> LabHost:
        """Replace a lab host by a new one with the same name, shape and release. Its persistent memory is all zeros.

        Raises:
            NotFoundError: There is no lab host with this name.
        """
        with self._locked("changing the lab"):
            self._require_here()
            host = self.host(name)
            self._restore({host.name: HostKind(host.shape, host.release, host.cxl)})
            return self.host(host.name)

    def clean(self) -> list[Path]:
        """Remove the directories of the cache that neither this version nor a lab host uses. Return these directories.

        A saved state is in use if the disk of a lab host is based on it. A saved state also stays if it fits this
        machine: its processor and kernel, and the number of processors that this process may use. Directories that a
        killed process left unfinished are removed.
        """
        with self._locked("changing the lab"):
            hosts = self.hosts()
            used = {host.qemu.image.directory.name for host in hosts} | {image_name(release) for release in RELEASES}
            used |= {Path(host.state_directory).name for host in hosts} | self._fitting_states()
            removed = remove_unfinished(cache_directory())
            for path in sorted(cache_directory().glob("[!.]*")):  # the names of unfinished directories begin with a dot
                if path.is_dir() and path.name not in used and not path.name.startswith(CLOUD):
                    shutil.rmtree(path)
                    removed.append(path)
            return removed

    @staticmethod
    def _fitting_states() -> set[str]:
        tools = cache_directory() / image_name()
        images = [Image(cache_directory() / image_name(release), tools) for release in RELEASES]
        return {
            state_name(image, Accelerator(name))
            for image in images
            if not (faults(tools) or faults(image.directory))
            for name in ("kvm", "tcg")
        }

    def _elsewhere(self) -> dict[str, str]:
        return {host.name: host.elsewhere for host in self.hosts() if host.elsewhere}

    def _require_here(self) -> None:
        if elsewhere := self._elsewhere():
            listed = ", ".join(f"{name} of {machine}" for name, machine in elsewhere.items())
            raise LabError(
                f"{self.directory} has lab hosts of another machine: {listed}. Run `vpmem lab down` there, or keep the "
                "lab of this machine in a directory of its own: set VPMEM_STATE"
            )

    def _restore(self, kinds: dict[str, HostKind]) -> None:
        """Make lab hosts. All kinds must have the same release."""
        (release,) = {kind.release for kind in kinds.values()}
        image, accelerator, state = self._parts(release)
        self.network.start(image)
        try:
            self._make(kinds, image, accelerator, state)
        except StateRefusedError as error:
            self._progress.note(f"{error}\nthe saved state is made again")
            discard_state(state, self._progress)
            state = find_or_save_state(image, accelerator, self._progress)
            self._make(kinds, image, accelerator, state)

    def _parts(self, release: str) -> tuple[Image, Accelerator, SavedState]:
        image = find_or_build_image(self._progress, release)
        accelerator = find_accelerator(image, self._progress)
        return image, accelerator, find_or_save_state(image, accelerator, self._progress)

    def _make(self, kinds: dict[str, HostKind], image: Image, accelerator: Accelerator, state: SavedState) -> None:
        restored = all(kind.shape.restorable and not kind.cxl for kind in kinds.values())
        verb, seconds = ("restoring", 4) if restored else ("starting", 45)
        with self._progress.step(f"{verb} {', '.join(kinds)}", seconds):
            fresh = []
            private_directory(self.directory)
            try:
                for name, kind in kinds.items():
                    directory = self.directory / name
                    if directory.exists():
                        self._progress.note(f"{name} is replaced")
                        self._remove(directory)
                    port = free_port({host.port for host in self.hosts()})
                    fresh.append(LabHost._create(directory, image, accelerator, state, port, kind=kind))
                with ThreadPoolExecutor(len(fresh)) as pool:
                    list(pool.map(LabHost._personalise, fresh))
            except BaseException:
                for name in kinds:
                    self._remove(self.directory / name)
                raise

    def _remove(self, directory: Path) -> None:
        if not directory.exists():
            return
        # Find the process by the directory alone, because an incomplete host has no record yet.
        kill_process(directory)
        shutil.rmtree(directory)

    @contextmanager
    def _locked(self, purpose: str) -> Iterator[None]:
        with no_raw_errors(), locked(self._root / "lab.lock", self._progress, purpose):
            yield


def _valid_shape(shape: str) -> Shape:
    try:
        return Shape(shape)
    except ValueError:
        raise InvalidValueError("shape", shape, f"one of {', '.join(Shape)}") from None


def _valid_release(release: str) -> str:
    if release not in RELEASES:
        raise InvalidValueError("release", release, f"one of {', '.join(RELEASES)}")
    return release


def ssh_command(destination: str, port: int, key_file: Path, known_hosts: Path) -> list[str]:
    """Return the command that logs in by a key and trusts only one known_hosts file."""
    # ssh splits an option's value at spaces, and expands percent signs.
    quoted_key, quoted_hosts = (f'"{path}"'.replace("%", "%%") for path in (key_file, known_hosts))
    return [
        *("ssh", "-F", "none", "-p", str(port), "-o", f"IdentityFile={quoted_key}"),
        *("-o", f"UserKnownHostsFile={quoted_hosts}", "-o", "IdentitiesOnly=yes", destination),
    ]
