"""A guest on a host: its domain, its life, and the ways into it."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from VpmemLibrary.agreement import Agreement
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import (
    AmbiguousError,
    ForeignError,
    GuestError,
    LibvirtError,
    LibvirtTimeoutError,
    NotFoundError,
    VpmemError,
)
from VpmemLibrary.guest.channel.bounded import within
from VpmemLibrary.guest.channel.channels import GuestAccess, GuestChannel, open_channel
from VpmemLibrary.guest.channel.console import Console, Panic
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.checks import check_backings, refuse_present
from VpmemLibrary.guest.domain.domains import libvirt_version, refuse_shared
from VpmemLibrary.guest.domain.qemu_features import pmem_explained
from VpmemLibrary.guest.domain.records import VpmemDevice, VpmemModel, in_slots
from VpmemLibrary.guest.domain.xml import read_console_log, read_devices, read_mark
from VpmemLibrary.guest.views.argv import argv_devices
from VpmemLibrary.guest.views.inside import device_key, inside_devices, inside_regions
from VpmemLibrary.guest.views.mappings import mapping_flags
from VpmemLibrary.guest.views.qemu_options import config_files
from VpmemLibrary.guest.views.qemu_process import QemuProcess
from VpmemLibrary.guest.views.qmp import pci_aliases, qmp_addresses, qmp_devices
from VpmemLibrary.guest.views.views import compare
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, Transport, query
from VpmemLibrary.visible import block

if TYPE_CHECKING:
    import libvirt

_POLL = 1.0
"""Seconds between two looks when no event of libvirt's says that there is something to see."""

# Robot cuts what is longer than 40 lines of 78 characters out of the middle of a message, and QEMU's log is in it too.
_CONSOLE_LINES = 20
_PANIC_LINES = 10
_PANIC_WRITTEN = 3.0
"""Seconds in which a kernel that panics has written why."""

_CONSOLE_EVERY = 5.0
"""Seconds between two looks for a panic on the console: each costs a command on the host."""

NO_DOMAIN = 42  # VIR_ERRNO_DOMAIN
_TARGET = 'readlink -f -- "$1" || printf "%s\\n" "$1"'

# libvirt's virDomainState and virDomainShutoffReason, in virsh's words.
_STATES = ("no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended")
_OFF = "shut off"
_OFF_REASONS = ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon")
_GONE = "gone"
_ALIVE = ("running", "idle", "paused", "in shutdown")

_SHORT_NAME = 20
# The directories are called by the domain's number and its name; another guest's name may end with this one.
_CLEAR = r"""
cd /var/lib/libvirt/qemu || exit
for left in domain-*-"$1" ram/*-"$1"; do
    number=${left#domain-}
    number=${number#ram/}
    number=${number%-"$1"}
    case $number in '' | *[!0-9]*) ;; *) rm -rf -- "$left" || exit ;; esac
done
"""
_AGENT_MARGIN = 35.0
_SHOWN_ANSWER = 200
"""Seconds beyond the agent's own timeout, which libvirt reports: before it asks, it waits 30 s for its other calls."""

_LAST_LOOK = 5.0
"""Seconds to look at a guest's state after a call that did not end."""

START_TIMEOUT = 180.0
"""Seconds for what takes longer with the guest's memory: to start, save, restore, or go back to a snapshot."""

Result = TypeVar("Result")
WrapTransport = Callable[[Transport], Transport]


class Guest:
    """One guest: a libvirt domain and what can be asked of it.

    Args:
        host: The way to its host.
        link: The host's libvirt connection.
        name: Its name.
        devices: Its devices as asked for; read from its XML when it was not defined here.
        wrap: What is put around the transport into the guest, e.g. to log its commands.
    """

    def __init__(
        self,
        host: Transport,
        link: LibvirtLink,
        name: str,
        *,
        devices: tuple[VpmemDevice, ...] | None = None,
        wrap: WrapTransport | None = None,
    ) -> None:
        self.name = name
        self.host = host
        self._link = link
        self._devices = devices
        self._console_from: int | None = None
        self._wrap = wrap
        self._use(GuestChannel.agent, GuestAccess())

    def __str__(self) -> str:
        return self.name

    # The way into it

    def use_channel(self, kind: GuestChannel, access: GuestAccess) -> None:
        """Look into it another way from now on; nothing is connected yet.

        Args:
            kind: Its agent, SSH or its serial console.
            access: Who logs in, and where.

        Raises:
            InvalidValueError: SSH has no address, or a value cannot be.
        """
        before = self.transport
        self._use(kind, access)
        before.close()

    def close(self) -> None:
        """End what was connected to look into it."""
        self.transport.close()

    def _use(self, kind: GuestChannel, access: GuestAccess) -> None:
        self._channel = open_channel(
            kind,
            access,
            name=self.name,
            host=self.host,
            link=self._link,
            agent=self._agent_call,
            xml=self.xml,
        )
        self.channel = kind
        self.transport: Transport = self._wrap(self._channel) if self._wrap else self._channel
        for name in ("ndctl", "content"):  # they go through the transport that was
            self.__dict__.pop(name, None)

    # What it is

    @cached_property
    def ndctl(self) -> Ndctl:
        """The guest's own ndctl: a guest is a host too."""
        return Ndctl(self.transport)

    @cached_property
    def content(self) -> ContentStore:
        """Patterns inside the guest."""
        return ContentStore(self.transport)

    @property
    def devices(self) -> tuple[VpmemDevice, ...]:
        """Its devices as asked for, each nvdimm with its slot."""
        if self._devices is None:
            return in_slots(read_devices(self.xml()))
        return in_slots(self._devices)

    @property
    def live_devices(self) -> tuple[VpmemDevice, ...]:
        """Its devices as libvirt has them now, with slots and aliases."""
        return read_devices(self.xml())

    def device(self, path: str | None = None) -> VpmemDevice:
        """Return the device on a backing, or the only one.

        Raises:
            NotFoundError: There is none on that backing.
            AmbiguousError: No backing is given and there are several.
        """
        devices = self.devices
        if path is None:
            if len(devices) > 1:
                raise AmbiguousError(
                    f"Guest {self.name} has {len(devices)} devices: say which, by its backing: "
                    f"{', '.join(device.path for device in devices)}."
                )
            if devices:
                return devices[0]
        for device in devices:
            if device.path == path:
                return device
        raise NotFoundError("device on", path or "(any)", [each.path for each in devices], where=f"guest {self.name}")

    def asked_also_for(self, device: VpmemDevice) -> None:
        """Have one more device among those that were asked for."""
        self._devices = None if self._devices is None else (*self._devices, device)

    def no_longer_asked_for(self, path: str) -> None:
        """Have the device on a backing no longer among those that were asked for."""
        if self._devices is not None:
            self._devices = tuple(each for each in self._devices if each.path != path)

    def refuse_backings_in_use(self, devices: Iterable[VpmemDevice]) -> None:
        """Raise if another running guest has a backing of these devices.

        Raises:
            InvalidValueError: Names the guest that has it.
        """
        refuse_shared(self.host, self._link, self.name, devices)

    def xml(self, *, inactive: bool = False) -> str:
        """Return its XML: the live one while it runs, or the one of its next start."""
        import libvirt  # noqa: PLC0415

        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        xml: str = self.act("read the XML of", lambda domain: domain.XMLDesc(flags))
        return xml

    def libvirt_version(self) -> int:
        """Return the version of its host's libvirt, as its getLibVersion has it: 9006000 for 9.6.0."""
        return libvirt_version(self._link)

    def state(self) -> str:
        """Return its state in virsh's words: ``running``, ``shut off`` ..."""
        return _STATES[self.act("ask the state of", lambda domain: domain.state())[0]]

    def made_by(self) -> str:
        """Return the id of the run that defined it; empty when none did."""
        return read_mark(self.xml())

    def require_made_by(self, run_id: str) -> None:
        """Raise unless a run defined it.

        Raises:
            ForeignError: Another run did, or none.
        """
        maker = self.made_by()
        if maker != run_id:
            made = f"run {maker} made it" if maker else "no run made it: it has no mark"
            raise ForeignError(
                f"Guest {self.name} on {self._link.host} is not this run's own: {made}, and this is run {run_id}. "
                "It was left as it is. Say foreign=True to end or undefine it all the same."
            )

    # Its life

    def start(self, *, share_backing: bool = False, timeout: float = START_TIMEOUT) -> None:
        """Start it; it is not ready yet.

        Args:
            share_backing: Another running guest may have a backing of its devices.
            timeout: Seconds until libvirt must have started it.

        Raises:
            InvalidValueError: A backing is absent or too small, or another running guest has it; QEMU would create the
                one and share the other.
            LibvirtError: libvirt or QEMU refused.
            LibvirtTimeoutError: It was not started in time; the message says in which state it is.
        """
        with self._state_at_timeout(), within(timeout):
            check_backings(self.host, self.devices)
            if not share_backing:
                self.refuse_backings_in_use(self.devices)
            console = self._console
            self._console_from = console.size() if console.appended else 0
            with pmem_explained():
                self.act("start", lambda domain: domain.create(), timeout=timeout)

    def wait_until_ready(self, timeout: float) -> None:
        """Wait until it answers through its channel.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: It ended, panicked, or did not answer in time; with its last console lines.
            AgentRefusedError: Its agent refuses to run commands; the message says what to change.
            AccessDeniedError: It does not let the user in.
        """
        self._wait(timeout, "ready", self._channel.ping)
        self._console_from = None

    def shutdown(self, timeout: float) -> None:
        """Shut it down as its operating system does it and wait until it is off.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: It is not off in time; it is left running.
        """
        with within(timeout) as deadline:
            self.act("shut down", lambda domain: domain.shutdown())
            for _ in self._looks(deadline):
                if self.condition()[0] not in _ALIVE:
                    return
            raise GuestError(self._told(f"did not shut down within {timeout:g} s"))

    def reboot(self, timeout: float) -> None:
        """Reboot it from inside and wait until another boot answers through its channel.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: It ended, panicked, or no other boot answered in time; with its last console lines.
        """
        import libvirt  # noqa: PLC0415

        def rebooted() -> bool:
            with contextlib.suppress(VpmemError):  # the channel comes and goes while it reboots
                return self._channel.ping(2) and self.boot_id() != before
            return False

        with within(timeout):
            before = self.boot_id()
            self._console_from = self._console.size()
            by = libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT if self.channel is GuestChannel.agent else 0  # 0: any there is
            self.act("reboot", lambda domain: domain.reboot(by))
            self._wait(timeout, "rebooted", rebooted)
        self._console_from = None

    def destroy(self) -> None:
        """End its QEMU without asking it; its domain stays defined.

        Raises:
            LibvirtError: libvirt could not.
        """
        self.act("destroy", lambda domain: domain.destroy())

    def kill(self, timeout: float, *, after: float = 0.0) -> None:
        """End its QEMU by SIGKILL, which it cannot notice, and wait until libvirt has its domain off.

        Args:
            timeout: Seconds until it must be off.
            after: Seconds until the signal is sent, counted on the host.

        Raises:
            GuestError: It is not running, or not off in time.
            CommandError: The signal could not be sent.
        """
        with within(timeout):
            qemu = self.qemu()
        qemu.kill(self.host, timeout=timeout, after=after)
        with within(timeout) as deadline:
            for _ in self._looks(deadline):
                if self.condition()[0] not in _ALIVE:
                    return
            raise GuestError(self._told(f"is not off {timeout:g} s after its QEMU was killed"))

    def clear_after_power_loss(self) -> None:
        """Remove what libvirt keeps for a QEMU while it runs, once its host has lost its power with it.

        libvirt removes it when QEMU ends, and knows nothing of one that ended with the host. Its directories have the
        first 20 letters of the name (libvirt, virDomainDefGetShortName), so that of a longer name nothing is removed.

        Raises:
            CommandError: It could not be removed.
        """
        if self.state() == _OFF and len(self.name) <= _SHORT_NAME:
            self.host.run(["sh", "-c", _CLEAR, "sh", self.name]).check()

    def save_to(self, path: str, *, timeout: float = START_TIMEOUT) -> None:
        """Write its memory and its domain to a file on its host, and end its QEMU (libvirt's virDomainSave).

        Args:
            path: The file, which must not be there.
            timeout: Seconds until it must be saved.

        Raises:
            InvalidValueError: The path is relative or something is there.
            LibvirtError: libvirt could not; the guest runs on.
            LibvirtTimeoutError: It was not saved in time; the message says in which state it is.
        """
        refuse_present(self.host, path)
        self.run_job("save", lambda domain: domain.save(path), timeout)

    def restore_from(self, path: str, *, timeout: float = START_TIMEOUT) -> None:
        """Let it go on where `save_to` saved it; the file stays, so that it can be restored again.

        Args:
            path: The file on its host.
            timeout: Seconds until it must run.

        Raises:
            InvalidValueError: Another running guest has a backing of its devices.
            LibvirtError: libvirt could not: it runs, or the file is no saved guest.
            LibvirtTimeoutError: It was not restored in time; the message says in which state it is.
        """
        with self._state_at_timeout(), within(timeout):
            self.refuse_backings_in_use(self.devices)
            action = f"restore guest {self.name} from {path}"
            self._link.call(action, lambda connection: connection.restore(path), timeout=timeout)

    def save(self, timeout: float) -> None:
        """Write its memory to disk and end it; its next start goes on where it was (libvirt's managed save).

        Args:
            timeout: Seconds.

        Raises:
            LibvirtError: libvirt could not; it runs on.
            LibvirtTimeoutError: It was not saved in time; the message says in which state it is.
            GuestError: libvirt saved it and does not have it off in time.
        """
        with within(timeout) as deadline:
            self.run_job("save", lambda domain: domain.managedSave(0), timeout)
            for _ in self._looks(deadline):
                if self.condition()[0] == _OFF and self.saved:
                    return
            raise GuestError(self._told(f"was not saved within {timeout:g} s"))

    @property
    def saved(self) -> bool:
        """Whether its next start goes on where it was saved."""
        return bool(self.act("ask for the saved memory of", lambda domain: domain.hasManagedSaveImage(0)))

    def undefine(self) -> None:
        """Remove its domain, and what libvirt keeps for its QEMU if that ended with the host; it must be off.

        Raises:
            LibvirtError: libvirt could not.
            CommandError: What libvirt keeps could not be removed.
        """
        import libvirt  # noqa: PLC0415

        self.clear_after_power_loss()
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM  # without it a domain with UEFI variables is not undefined at all
        )
        self.act("undefine", lambda domain: domain.undefineFlags(flags))

    # Looking into it

    def boot_id(self) -> str:
        """Return the id that its kernel gave this boot."""
        return boot_id(self.transport, timeout=DEFAULT_TIMEOUT)

    def process(self) -> int:
        """Return the process id of its QEMU on the host.

        Raises:
            GuestError: It is not running.
        """
        return self.qemu().read(self.host)[0]

    def qemu(self) -> QemuProcess:
        """Return what tells its QEMU from the other processes of its host.

        Raises:
            GuestError: It is not running.
        """
        return QemuProcess.of(self.name, self.xml(), self.host.name)

    def mapping_flags(self, device: VpmemDevice) -> tuple[str, ...]:
        """Return the kernel's flags of its QEMU's mapping of a device's backing.

        Raises:
            GuestError: It is not running.
            NotFoundError: Its QEMU has no such mapping.
        """
        try:
            return mapping_flags(self.host, self.qemu(), device.path)
        except NotFoundError:  # the kernel lists the file itself, and not a symbolic link to it (/dev/disk/by-id/...)
            target = self.host.run(query(_TARGET, device.path)).check().text.rstrip("\n")
            if target == device.path:
                raise
            return mapping_flags(self.host, self.qemu(), target)

    def region_of(self, device: VpmemDevice) -> Region:
        """Return the region that its kernel has for a device.

        Raises:
            NotFoundError: It has none.
        """
        found = self.regions_by_path().get(device.path)
        if found is None:
            there = [f"{region.dev} ({region.provider})" for region in self.ndctl.inventory().regions]
            raise NotFoundError(f"region of the {device.model} device on", device.path, there, where=str(self))
        return found

    def regions_by_path(self) -> dict[str, Region]:
        """Return, for the backing of each device, the region that its kernel has for the device, in one reading.

        A device without a region is left out.
        """
        regions = inside_regions(self.transport)
        aliases, addresses = self._aliases() if any(isinstance(region.key, str) for region in regions) else ({}, {})
        names = {device_key(region, aliases, addresses): region.name for region in regions}
        by_name = {region.dev: region for region in self.ndctl.inventory().regions}
        paths = {
            device.slot if device.slot is not None else device.alias or device.path: device.path
            for device in in_slots(self.live_devices)
        }
        return {paths[key]: by_name[name] for key, name in names.items() if key in paths and name in by_name}

    def node_of(self, device: VpmemDevice) -> str:
        """Return the node, inside the guest, of the one namespace in a device's region.

        Raises:
            NotFoundError: The region has no namespace with a node.
            AmbiguousError: It has several.
        """
        region = self.region_of(device)
        nodes = [namespace.device for namespace in region.namespaces if namespace.device]
        if len(nodes) > 1:
            raise AmbiguousError(f"{region.dev} in guest {self.name} has {len(nodes)} nodes: {', '.join(nodes)}.")
        if not nodes:
            raise NotFoundError("node of", region.dev, [], where=f"guest {self.name}")
        return nodes[0]

    def views(self) -> tuple[Agreement, ...]:
        """Return each device in its independent views, and a device that only some of them have as well.

        Raises:
            GuestError: It is not running, or its agent does not answer.
        """
        _, argv = self.qemu().read(self.host)
        return compare(
            self.name,
            asked=self.devices,
            xml=self.live_devices,
            argv=argv_devices(argv),
            qmp=qmp_devices(self.ask_monitor),
            inside=inside_devices(inside_regions(self.transport), *self._aliases()),
            inactive=read_devices(self.xml(inactive=True)),
            config_files=config_files(argv),
        )

    def ask_monitor(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Return what QEMU's own monitor answers to a command that only asks; libvirt marks the domain as tainted.

        Args:
            command: A QMP command, e.g. ``query-memory-devices``.
            arguments: Its arguments.

        Raises:
            LibvirtError: It is not running.
            GuestError: QEMU refused, or its answer cannot be read.
        """
        import libvirt_qemu  # noqa: PLC0415

        request = json.dumps({"execute": command, "arguments": dict(arguments)})
        answer = self.act("ask QEMU's monitor of", lambda domain: libvirt_qemu.qemuMonitorCommand(domain, request, 0))
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict) or "return" not in decoded:
            raise GuestError(f"QEMU's monitor of guest {self.name} refused {command}: {answer[:_SHOWN_ANSWER]}")
        return decoded["return"]

    def console_tail(self, lines: int = _CONSOLE_LINES) -> str:
        """Return the last lines of its serial console; empty when there is no log of it."""
        return self._console.tail(lines)

    @property
    def has_console_log(self) -> bool:
        """Whether its host keeps what it writes on its serial console."""
        return bool(read_console_log(self.xml())[0])

    def console_size(self) -> int:
        """Return how many bytes it wrote on its serial console, as far as the log has them."""
        return self._console.size()

    def console_since(self, start: int) -> bytes:
        """Return what it wrote on its serial console from a byte on."""
        return self._console.since(start)

    # How it is done

    @property
    def _console(self) -> Console:
        return Console(self.host, *read_console_log(self.xml()))

    def _aliases(self) -> tuple[dict[str, str], dict[int, str]]:
        """Return the alias of each of its PCI devices by the PCI address, and the backing of each device without one.

        There is nothing where it has no virtio-pmem device.
        """
        virtio = [device for device in self.live_devices if device.model is VpmemModel.virtio_pmem]
        nameless = any(not device.alias for device in virtio)
        return (
            pci_aliases(self.ask_monitor) if virtio else {},
            qmp_addresses(self.ask_monitor) if nameless else {},
        )

    def _agent_call(self, request: str, timeout: int) -> str:
        import libvirt_qemu  # noqa: PLC0415

        answer: str = self.act(
            "ask the agent of",
            lambda domain: libvirt_qemu.qemuAgentCommand(domain, request, timeout, 0),
            timeout=timeout + _AGENT_MARGIN,
        )
        return answer

    def act(self, action: str, work: Callable[[libvirt.virDomain], Result], *, timeout: float | None = None) -> Result:
        """Return what `work` returns of its domain; libvirt's errors become this library's.

        Args:
            action: What is being done, for the message; the guest's name follows it.
            work: What to do with the domain, in another thread.
            timeout: Seconds that libvirt may take.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: libvirt did not answer in time.
        """
        return self._link.act(self.name, f"{action} guest {self.name}", work, timeout=timeout)

    def run_job(self, action: str, work: Callable[[libvirt.virDomain], Result], timeout: float) -> Result:
        """Return what a job of libvirt's returns (a save, a snapshot, a migration); it is aborted at its deadline.

        Args:
            action: What is being done, for the message; the guest's name follows it.
            work: What to do with the domain, in another thread.
            timeout: Seconds that it may take.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: It did not end in time; the message says in which state the guest is.
        """
        with self._state_at_timeout():
            return self._link.act(self.name, f"{action} guest {self.name}", work, timeout=timeout, abort=True)

    @contextlib.contextmanager
    def _state_at_timeout(self) -> Iterator[None]:
        try:
            yield
        except LibvirtTimeoutError as error:
            error.add(f"Now {self.state_for_message()}.")
            raise

    def state_for_message(self) -> str:
        """Return, for a message, in which state it is on its host, or that it cannot be known."""
        with within(_LAST_LOOK):
            try:
                state, reason = self.condition()
            except VpmemError:
                return f"libvirt on {self._link.host} does not answer, so its state there is not known"
        return f"it is {'not defined' if state == _GONE else state + reason} on {self._link.host}"

    def _wait(self, timeout: float, wanted: str, done: Callable[[], bool]) -> None:
        """Wait until `done`, or raise as soon as it cannot be any more: the guest ended, or its kernel panicked."""
        with within(timeout) as deadline:
            next_console = time.monotonic() + _CONSOLE_EVERY
            console = self._console
            start = console.size() if self._console_from is None else self._console_from
            for _ in self._looks(deadline):
                if done():
                    return
                state, reason = self.condition()
                if state not in _ALIVE:
                    raise GuestError(self._told(f"is {state}{reason} instead of {wanted}"))
                if time.monotonic() >= next_console:
                    if panic := self._panic(console, start):
                        raise GuestError(self._told(f"panicked instead of being {wanted}: {panic.line}", panic))
                    next_console = time.monotonic() + _CONSOLE_EVERY
            panic = self._panic(console, start)
            ended = f"panicked: {panic.line}" if panic else f"is {self.condition()[0]}"
            raise GuestError(self._told(f"was not {wanted} within {timeout:g} s: it {ended}", panic))

    def _panic(self, console: Console, start: int) -> Panic | None:
        """Return the panic on its console, if there is one, once what its kernel writes after it is there as well."""
        deadline = time.monotonic() + _PANIC_WRITTEN
        while True:
            panic = console.panic(start, _PANIC_LINES)
            if panic is None or panic.whole or time.monotonic() > deadline:
                return panic
            time.sleep(_POLL / 2)

    @contextlib.contextmanager
    def listening(self, event: int, tell: Callable[..., None]) -> Iterator[None]:
        """Have libvirt's events of one kind about it told, while in the ``with``.

        Args:
            event: A ``VIR_DOMAIN_EVENT_ID_*``.
            tell: What is called, by libvirt's event thread, as libvirt calls back for that kind of event.

        Raises:
            LibvirtError: libvirt does not answer.
        """
        with self._link.listening(self.name, event, tell):
            yield

    def _looks(self, deadline: float) -> Iterator[None]:
        """Give a turn at once, whenever libvirt tells of a change, and from time to time, until the deadline."""
        with self._link.changes(self.name) as changed:
            while True:
                changed.clear()
                yield
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                changed.wait(min(left, _POLL))

    def condition(self) -> tuple[str, str]:
        """Return its state and, where it is off, why; a transient domain is gone when it ends."""
        try:
            state, reason = self.act("ask the state of", lambda domain: domain.state())
        except LibvirtError as error:
            if error.code != NO_DOMAIN:
                raise
            return _GONE, ""
        name = _STATES[state]
        known = name == _OFF and reason < len(_OFF_REASONS)
        return name, f" ({_OFF_REASONS[reason]})" if known else ""

    def _told(self, what: str, panic: Panic | None = None) -> str:
        with contextlib.suppress(LibvirtError):  # a domain that is gone has no XML that tells where its console is
            console = (
                f"at the panic:\n{panic.around}"
                if panic
                else f"ends with:\n{self.console_tail() or '(it wrote nothing, or has no console log)'}"
            )
            log = self.host.run(["tail", "-n", "5", f"/var/log/libvirt/qemu/{self.name}.log"])
            qemu = f"ends with:\n{log.text.strip() or '(nothing)'}"
            return (
                f"Guest {self.name} on {self._link.host} {what}.\n"
                f"Its console {block(console)}\n"
                f"QEMU's log {block(qemu)}"
            )
        return f"Guest {self.name} on {self._link.host} {what}."
