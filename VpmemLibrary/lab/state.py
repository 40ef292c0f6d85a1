"""The saved state: a booted and warm lab host that is saved once and restored in seconds.

Its main memory is in a file that every restored lab host maps privately (QEMU's "VM templating" document). So memory is
read or copied only when it is needed, and lab hosts share all memory that none of them changes.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from msgspec import Struct

from VpmemLibrary.errors import CommandTimeoutError, LabError, UnreachableError
from VpmemLibrary.lab.cache import cached, discard, identity
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.nested import boot_guest, domain_xml, end_guest
from VpmemLibrary.lab.paths import cache_directory, open_private
from VpmemLibrary.lab.ports import LOOPBACK, free_port, known_hosts_line
from VpmemLibrary.lab.processor import processor_identity
from VpmemLibrary.lab.progress import SILENT, Progress
from VpmemLibrary.lab.qemu_host import MEMORY, Accelerator, MemoryFile, QemuHost
from VpmemLibrary.lab.qmp import Monitor
from VpmemLibrary.polling import poll
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.ssh.transport import SshSettings, SshTransport

BOOT_SECONDS = 300.0
"""Seconds within which a boot must end. A boot takes some 30 s under emulation on an idle machine."""

LOAD_KVM = "for module in kvm_amd kvm_intel; do modprobe -q $module && exit 0; done; dmesg | grep -i kvm >&2; exit 1"
"""Load the KVM module that the kernel accepts for the processor. Not only AMD's processors need kvm_amd."""

_SAVE_SECONDS = 120.0
_POLL = 0.02
_DISK = "disk"


class SavedState(Struct, frozen=True):
    """A finished saved state in the cache. `made` is the identity of its directory; see `cache.identity`."""

    directory: Path
    made: int = 0

    @property
    def memory(self) -> Path:
        """The main memory of the saved host."""
        return self.directory / "memory"

    @property
    def devices(self) -> Path:
        """The state of its processors and devices."""
        return self.directory / "devices"

    @property
    def disk(self) -> Path:
        """The disk of the saved host, on which the disk of every restored host is based.

        Each saved state's disk has its own name. So a lab host's disk never gets a later saved state as its base.
        """
        return next(self.directory.glob(f"{_DISK}*"), self.directory / _DISK)

    def restore(self, qemu: QemuHost, port: int) -> None:
        """Start a host at the point where the saved host stopped. Its disk must be based on the disk of this state.

        Raises:
            StateRefusedError: QEMU did not load the state, or died while loading it. The message has QEMU's output.
            LabError: QEMU did not start.
        """
        qemu.start(port, memory=MemoryFile(self.memory, shared=False), incoming=True)
        try:
            with qemu.monitor() as monitor:
                monitor.execute("migrate-set-capabilities", _IGNORE_SHARED)
                monitor.execute("migrate-incoming", {"uri": f"file:{self.devices}"})
                _wait(lambda: _migrated(monitor.execute("query-migrate")), _SAVE_SECONDS, "load the saved state")
                _wait(lambda: _status(monitor) != "inmigrate", _SAVE_SECONDS, "load the state")
                monitor.execute("cont")
        except LabError as error:
            raise refused(qemu, error) from error


class StateRefusedError(LabError):
    """QEMU cannot restore a saved state on this machine."""


def refused(qemu: QemuHost, error: LabError) -> StateRefusedError:
    """Return the error for a host in which a saved state does not run."""
    return StateRefusedError(f"{qemu.name} cannot be restored from the saved state: {error} QEMU's log:\n{qemu.log}")


def runs(qemu: QemuHost) -> bool:
    """Return whether a restored host runs. KVM stops a host whose processor cannot continue, but QEMU does not end."""
    if qemu.process is None:
        return False
    try:
        with qemu.monitor() as monitor:
            return _status(monitor) == "running"
    except LabError:
        return qemu.process is not None


def find_or_save_state(image: Image, accelerator: Accelerator, progress: Progress = SILENT) -> SavedState:
    """Return the saved state for this image and accelerator. Create the saved state if it is missing or broken.

    Raises:
        LabError: The lab host does not boot, or fails its check after the boot.
    """
    entry = cached(
        cache_directory() / state_name(image, accelerator),
        lambda directory: _save(SavedState(directory), image, accelerator, progress),
        progress,
    )
    return SavedState(entry, identity(entry))


def state_name(image: Image, accelerator: Accelerator) -> str:
    """Return the name of the cache directory with the saved state for this image, accelerator and processor."""
    qemu = QemuHost(cache_directory() / "state", image, accelerator)
    processor = processor_identity(accelerator.name)
    shape = [image.key, image.host_public_key, qemu.state_key, int(MEMORY), processor]
    return f"state-{hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:16]}"


def discard_state(state: SavedState, progress: Progress) -> None:
    """Remove a saved state that QEMU refused, unless another process has created it again since."""
    discard(state.directory, state.made, progress)


def connect(image: Image, port: int, known_hosts: Path) -> SshTransport:
    """Return a connection to the lab host behind a loopback port. Send nothing yet."""
    settings = SshSettings(
        LOOPBACK,
        port=port,
        user="root",
        key_file=image.key_file,
        known_hosts=known_hosts,
        use_agent=False,
        connect_timeout=30,
    )
    return SshTransport(settings)


def wait_for_ssh(qemu: QemuHost, transport: Transport, timeout: float = BOOT_SECONDS) -> None:
    """Wait until a command has run on a lab host.

    Raises:
        LabError: QEMU ended, the host's kernel panicked, or no command ran within `timeout` seconds.
    """

    def answers() -> bool:
        try:
            transport.run(["true"], timeout=10).check()
        except (UnreachableError, CommandTimeoutError) as error:
            if qemu.process is None:
                raise LabError(
                    f"QEMU ended while the lab host started:\n{qemu.console_tail()}\nQEMU's log:\n{qemu.log}"
                ) from error
            if panic := qemu.panic:
                raise LabError(f"The kernel of {qemu.name} panicked. Its console:\n{panic}") from error
            raise
        return True

    poll(
        answers,
        "the lab host to answer over SSH",
        timeout=timeout,
        interval=_POLL,
        retry_on=(UnreachableError, CommandTimeoutError),
        failure=lambda error: LabError(
            f"The lab host did not answer over SSH within {timeout:g} s ({error}).{_stopped(qemu)} "
            f"Its console:\n{qemu.console_tail()}"
        ),
    )


_IGNORE_SHARED = {"capabilities": [{"capability": "x-ignore-shared", "state": True}]}


def _save(state: SavedState, image: Image, accelerator: Accelerator, progress: Progress) -> None:
    qemu = QemuHost(state.directory, image, accelerator)
    port = free_port()
    known_hosts = state.directory / "known_hosts"
    known_hosts.write_text(known_hosts_line(port, image.host_public_key))
    with open_private(state.memory) as file:
        file.truncate(MEMORY)
    qemu.create(image.root_disk, "raw")
    emulated = accelerator.name == "tcg"
    try:
        qemu.start(port, memory=MemoryFile(state.memory, shared=True), disk_cache="unsafe")
        with connect(image, port, known_hosts) as host:
            with progress.step("booting the lab host for the first time", 40 if emulated else 8):
                wait_for_ssh(qemu, host)
            with progress.step("warming it up", 50 if emulated else 8):
                _warm(host)
        with progress.step("saving its state", 5), qemu.monitor() as monitor:
            monitor.execute("stop")
            monitor.execute("migrate-set-capabilities", _IGNORE_SHARED)
            monitor.execute("migrate", {"uri": f"file:{state.devices}"})
            _wait(lambda: _migrated(monitor.execute("query-migrate")), _SAVE_SECONDS, "save the state")
            with suppress(LabError):  # QEMU may end before it answers
                monitor.execute("quit")
        _wait(lambda: qemu.process is None, _SAVE_SECONDS, "end the saved host")
    finally:
        qemu.kill()
    for path in state.directory.iterdir():
        if path not in {state.memory, state.devices, qemu.disk}:
            path.unlink()
    qemu.disk.rename(state.directory / f"{_DISK}-{uuid.uuid4().hex}.qcow2")


def _warm(host: Transport) -> None:
    """Prepare a lab host so that its first guest needs no further set-up, and check the lab host.

    Raises:
        LabError: A step failed on the lab host, or it offers no KVM to its guests.
    """
    overall = host.run(["systemctl", "is-system-running", "--wait"], timeout=BOOT_SECONDS).text.strip()
    if overall != "running":
        failed = host.run(["systemctl", "--failed", "--no-pager", "--plain"]).text
        raise LabError(f"The lab host is {overall}, not running:\n{failed}")
    host.run(["sh", "-c", LOAD_KVM]).check("Neither kvm_amd nor kvm_intel loads on the lab host")
    capabilities = host.run(["virsh", "capabilities"], timeout=BOOT_SECONDS).check().text
    if "<domain type='kvm'" not in capabilities:
        raise LabError("libvirt on the lab host does not offer KVM.")
    for kind in ("kvm", "qemu"):
        host.run(["virsh", "domcapabilities", "--virttype", kind], timeout=BOOT_SECONDS).check()
    try:
        boot_guest(host, domain_xml("warm-up"), "warm-up")
    finally:
        end_guest(host, "warm-up")
    host.run(["find", "/var/log/libvirt/qemu", "-type", "f", "-delete"]).check()
    host.run(["sync"]).check()


def _stopped(qemu: QemuHost) -> str:
    """Return a sentence for a host that QEMU stopped because it could not write to a disk; empty for other hosts."""
    with suppress(LabError), qemu.monitor() as monitor:
        if _status(monitor) == "io-error":
            return f" QEMU stopped it because a file could not be written: see `df -h {qemu.directory}`."
    return ""


def _status(monitor: Monitor) -> str:
    return str(monitor.execute("query-status")["status"])


def _migrated(answer: dict[str, object]) -> bool:
    status = answer.get("status")
    if status == "failed":
        raise LabError(f"QEMU could not transfer the host's state: {answer.get('error-desc', 'no reason given')}.")
    return status == "completed"


def _wait(condition: Callable[[], bool], timeout: float, purpose: str) -> None:
    failure = LabError(f"Could not {purpose} within {timeout:g} s.")
    poll(condition, f"QEMU to {purpose}", timeout=timeout, interval=_POLL, failure=lambda _: failure)
