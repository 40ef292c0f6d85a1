"""A guest on a host: its domain, its power state, and the channels into the guest."""

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
"""Seconds between two polls when no libvirt event reports a change."""

# Robot Framework shortens a message that is longer than 40 lines of 78 characters. The message also contains QEMU's
# log.
_CONSOLE_LINES = 20
_PANIC_LINES = 10
_PANIC_WRITTEN = 3.0
"""Seconds in which a kernel that panics writes the reason to the console."""

_CONSOLE_EVERY = 5.0
"""Seconds between two checks for a panic on the console. Each check costs a command on the host."""

NO_DOMAIN = 42  # VIR_ERRNO_DOMAIN
_TARGET = 'readlink -f -- "$1" || printf "%s\\n" "$1"'

# libvirt's virDomainState, virDomainShutoffReason and virDomainPausedReason, named as virsh names them.
_STATES = ("no state", "running", "idle", "paused", "in shutdown", "shut off", "crashed", "pmsuspended")
_OFF = "shut off"
_OFF_REASONS = ("unknown", "shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from snapshot", "daemon")
_PAUSED_REASONS = (
    *("unknown", "user", "migrating", "saving", "dumping", "I/O error", "watchdog", "from snapshot", "shutting down"),
    *("creating snapshot", "crashed", "starting up", "post-copy", "post-copy failed", "api error"),
)
_REASONS = {_OFF: _OFF_REASONS, "paused": _PAUSED_REASONS}
_GONE = "gone"
_ALIVE = ("running", "idle", "paused", "in shutdown")

_SHORT_NAME = 20
# The name of a directory is the number and the name of the domain. The name of another guest may end with this name.
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
"""Seconds beyond the agent's own timeout, which libvirt reports. libvirt waits up to 30 s for its other calls first."""

_SHOWN_ANSWER = 200

_LAST_LOOK = 5.0
"""Seconds to read the state of a guest after a call that did not end."""

START_TIMEOUT = 180.0
"""Seconds for actions that take longer with more guest memory: start, save, restore, revert to a snapshot."""

Result = TypeVar("Result")
WrapTransport = Callable[[Transport], Transport]


class Guest:
    """One guest: a libvirt domain, its lifecycle, and its views.

    Args:
        host: The transport to the guest's host.
        link: The host's libvirt connection.
        name: The guest's name.
        devices: The devices as asked for. They are read from the domain XML if the guest was not defined here.
        wrap: Wraps the transport into the guest, e.g. to log its commands.
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

    # The channel into the guest

    def use_channel(self, kind: GuestChannel, access: GuestAccess) -> None:
        """Use another channel into the guest from now on. Nothing is connected yet.

        Args:
            kind: The guest's agent, SSH or its serial console.
            access: The user and the address for the login.

        Raises:
            InvalidValueError: SSH has no address, or a value is invalid.
        """
        before = self.transport
        self._use(kind, access)
        before.close()

    def close(self) -> None:
        """Close the connection into the guest."""
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
        for name in ("ndctl", "content"):  # both use the previous transport
            self.__dict__.pop(name, None)

    # Properties of the guest

    @cached_property
    def ndctl(self) -> Ndctl:
        """The guest's own ndctl. A guest is a host too."""
        return Ndctl(self.transport)

    @cached_property
    def content(self) -> ContentStore:
        """Patterns inside the guest."""
        return ContentStore(self.transport)

    @property
    def devices(self) -> tuple[VpmemDevice, ...]:
        """The devices of the guest as asked for, each nvdimm with its slot."""
        if self._devices is None:
            return in_slots(read_devices(self.xml()))
        return in_slots(self._devices)

    @property
    def live_devices(self) -> tuple[VpmemDevice, ...]:
        """The devices of the guest as libvirt lists them now, with slots and aliases."""
        return read_devices(self.xml())

    def device(self, path: str | None = None) -> VpmemDevice:
        """Return the device with a given backing. Without `path`, return the only device.

        Raises:
            NotFoundError: The guest has no device with that backing.
            AmbiguousError: No backing is given and the guest has several devices.
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
        """Add a device to the expected devices."""
        self._devices = None if self._devices is None else (*self._devices, device)

    def no_longer_asked_for(self, path: str) -> None:
        """Remove the device with a given backing from the expected devices."""
        if self._devices is not None:
            self._devices = tuple(each for each in self._devices if each.path != path)

    def refuse_backings_in_use(self, devices: Iterable[VpmemDevice]) -> None:
        """Raise if another running guest uses a backing of these devices.

        Raises:
            InvalidValueError: Another running guest uses the backing. The message names that guest.
        """
        refuse_shared(self.host, self._link, self.name, devices)

    def xml(self, *, inactive: bool = False) -> str:
        """Return the domain XML: the live XML of a running guest, or with `inactive` the XML of its next start."""
        import libvirt  # noqa: PLC0415

        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        xml: str = self.act("read the XML of", lambda domain: domain.XMLDesc(flags))
        return xml

    def libvirt_version(self) -> int:
        """Return the version of the host's libvirt in the format of getLibVersion: 9006000 for 9.6.0."""
        return libvirt_version(self._link)

    def state(self) -> str:
        """Return the state of the guest as virsh names it: ``running``, ``shut off`` ..."""
        return _STATES[self.act("ask the state of", lambda domain: domain.state())[0]]

    def made_by(self) -> str:
        """Return the id of the run that defined the guest; empty if no run defined it."""
        return read_mark(self.xml())

    def require_made_by(self, run_id: str) -> None:
        """Raise unless a given run defined the guest.

        Raises:
            ForeignError: Another run defined the guest, or no run did.
        """
        maker = self.made_by()
        if maker != run_id:
            made = f"run {maker} made it" if maker else "no run made it: it has no mark"
            raise ForeignError(
                f"Guest {self.name} on {self._link.host} is not this run's own: {made}, and this is run {run_id}. "
                "It was left as it is. Say foreign=True to end or undefine it all the same."
            )

    # The lifecycle

    def start(self, *, share_backing: bool = False, timeout: float = START_TIMEOUT) -> None:
        """Start the guest. Do not wait until it is ready.

        Args:
            share_backing: Allow another running guest to use a backing of these devices.
            timeout: Seconds until libvirt must have started the guest.

        Raises:
            InvalidValueError: A backing is absent (QEMU would create it), is too small, or another running guest uses
                it (QEMU would share it).
            LibvirtError: libvirt or QEMU refused.
            LibvirtTimeoutError: The guest was not started within `timeout`. The message gives its state.
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
        """Wait until the guest answers through its channel.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: The guest ended, panicked, or did not answer within `timeout`. The message has the last console
                lines.
            AgentRefusedError: The guest's agent refuses to run commands. The message says what to change.
            AccessDeniedError: The guest rejects the login.
        """
        self._wait(timeout, "ready", self._channel.ping)
        self._console_from = None

    def shutdown(self, timeout: float) -> None:
        """Shut the guest down through its operating system and wait until it is off.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: The guest is not off within `timeout`. It is left running.
        """
        with within(timeout) as deadline:
            self.act("shut down", lambda domain: domain.shutdown())
            for _ in self._looks(deadline):
                if self.condition()[0] not in _ALIVE:
                    return
            raise GuestError(self._told(f"did not shut down within {timeout:g} s"))

    def reboot(self, timeout: float) -> None:
        """Reboot the guest from inside and wait until the new boot answers through the channel.

        Args:
            timeout: Seconds.

        Raises:
            GuestError: The guest ended, panicked, or no new boot answered within `timeout`. The message has the last
                console lines.
        """
        import libvirt  # noqa: PLC0415

        def rebooted() -> bool:
            with contextlib.suppress(VpmemError):  # the channel may fail during the reboot
                return self._channel.ping(2) and self.boot_id() != before
            return False

        with within(timeout):
            before = self.boot_id()
            self._console_from = self._console.size()
            by = libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT if self.channel is GuestChannel.agent else 0  # 0: any method
            self.act("reboot", lambda domain: domain.reboot(by))
            self._wait(timeout, "rebooted", rebooted)
        self._console_from = None

    def destroy(self) -> None:
        """End the guest's QEMU without a shutdown. The domain stays defined.

        Raises:
            LibvirtError: libvirt could not end QEMU.
        """
        self.act("destroy", lambda domain: domain.destroy())

    def kill(self, timeout: float, *, after: float = 0.0) -> None:
        """Kill the guest's QEMU by SIGKILL, which QEMU cannot notice. Wait until libvirt lists the domain as off.

        Args:
            timeout: Seconds until the domain must be off.
            after: Seconds until the signal is sent, counted on the host.

        Raises:
            GuestError: The guest is not running, or is not off within `timeout`.
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
        """Remove libvirt's files for this guest's QEMU after the host lost power while the guest ran.

        libvirt removes these files when QEMU ends, but it does not notice a QEMU that ended together with the host. The
        names of its directories contain only the first 20 letters of the guest's name (libvirt,
        virDomainDefGetShortName). So nothing is removed for a guest with a longer name.

        Raises:
            CommandError: The files could not be removed.
        """
        if self.state() == _OFF and len(self.name) <= _SHORT_NAME:
            self.host.run(["sh", "-c", _CLEAR, "sh", self.name]).check()

    def save_to(self, path: str, *, timeout: float = START_TIMEOUT) -> None:
        """Write the guest's memory and domain to a file on the host, and end its QEMU (libvirt's virDomainSave).

        Args:
            path: The path of the file, which must not exist yet.
            timeout: Seconds until the guest must be saved.

        Raises:
            InvalidValueError: The path is relative or exists already.
            LibvirtError: libvirt could not save the guest. The guest is still running.
            LibvirtTimeoutError: The guest was not saved within `timeout`. The message gives its state.
        """
        refuse_present(self.host, path)
        self.run_job("save", lambda domain: domain.save(path), timeout)

    def restore_from(self, path: str, *, timeout: float = START_TIMEOUT) -> None:
        """Restore the guest from a file of `save_to`. The file stays, so that it can be restored again.

        Args:
            path: The file on the host.
            timeout: Seconds until the guest must run.

        Raises:
            InvalidValueError: Another running guest uses a backing of these devices.
            LibvirtError: libvirt could not restore: the guest is running, or the file is no saved guest.
            LibvirtTimeoutError: The guest was not restored within `timeout`. The message gives its state.
        """
        with self._state_at_timeout(), within(timeout):
            self.refuse_backings_in_use(self.devices)
            action = f"restore guest {self.name} from {path}"
            self._link.call(action, lambda connection: connection.restore(path), timeout=timeout)

    def save(self, timeout: float) -> None:
        """Save the guest's memory to disk and end the guest (libvirt's managed save). The next start restores it.

        Args:
            timeout: Seconds.

        Raises:
            LibvirtError: libvirt could not save the guest. The guest is still running.
            LibvirtTimeoutError: The guest was not saved within `timeout`. The message gives its state.
            GuestError: libvirt saved the guest but did not list it as off within `timeout`.
        """
        with within(timeout) as deadline:
            self.run_job("save", lambda domain: domain.managedSave(0), timeout)
            for _ in self._looks(deadline):
                if self.condition()[0] == _OFF and self.saved:
                    return
            raise GuestError(self._told(f"was not saved within {timeout:g} s"))

    @property
    def saved(self) -> bool:
        """Whether the next start restores the saved memory."""
        return bool(self.act("ask for the saved memory of", lambda domain: domain.hasManagedSaveImage(0)))

    def undefine(self) -> None:
        """Remove the domain and libvirt's leftovers of a QEMU that ended with the host. The guest must be off.

        Raises:
            LibvirtError: libvirt could not remove the domain.
            CommandError: libvirt's files could not be removed.
        """
        import libvirt  # noqa: PLC0415

        self.clear_after_power_loss()
        flags = (
            libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
            | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
            | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM  # required for a domain with UEFI variables
        )
        self.act("undefine", lambda domain: domain.undefineFlags(flags))

    # Views of the guest

    def boot_id(self) -> str:
        """Return the id of the current boot, from the guest's kernel."""
        return boot_id(self.transport, timeout=DEFAULT_TIMEOUT)

    def process(self) -> int:
        """Return the process id of the guest's QEMU on the host.

        Raises:
            GuestError: The guest is not running.
        """
        return self.qemu().read(self.host)[0]

    def qemu(self) -> QemuProcess:
        """Return the attributes that identify the guest's QEMU among the processes of the host.

        Raises:
            GuestError: The guest is not running.
        """
        return QemuProcess.of(self.name, self.xml(), self.host.name)

    def mapping_flags(self, device: VpmemDevice) -> tuple[str, ...]:
        """Return the kernel's flags of the mapping by which QEMU uses the backing of a device.

        Raises:
            GuestError: The guest is not running.
            NotFoundError: QEMU has not mapped the backing.
        """
        try:
            return mapping_flags(self.host, self.qemu(), device.path)
        except NotFoundError:  # the kernel lists the link's target, not the link (/dev/disk/by-id/...)
            target = self.host.run(query(_TARGET, device.path)).check().text.rstrip("\n")
            if target == device.path:
                raise
            return mapping_flags(self.host, self.qemu(), target)

    def region_of(self, device: VpmemDevice) -> Region:
        """Return the region of a device in the guest's kernel.

        Raises:
            NotFoundError: The guest's kernel has no region for the device.
        """
        found = self.regions_by_path().get(device.path)
        if found is None:
            there = [f"{region.dev} ({region.provider})" for region in self.ndctl.inventory().regions]
            raise NotFoundError(f"region of the {device.model} device on", device.path, there, where=str(self))
        return found

    def regions_by_path(self) -> dict[str, Region]:
        """Return the region of each device in the guest's kernel, by the path of the device's backing.

        All regions are read at once. A device without a region is left out.
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
        """Return the device node of the one namespace in a device's region, as a path in the guest.

        Raises:
            NotFoundError: The region has no namespace with a node.
            AmbiguousError: The region has several namespaces with a node.
        """
        region = self.region_of(device)
        nodes = [namespace.device for namespace in region.namespaces if namespace.device]
        if len(nodes) > 1:
            raise AmbiguousError(f"{region.dev} in guest {self.name} has {len(nodes)} nodes: {', '.join(nodes)}.")
        if not nodes:
            raise NotFoundError("node of", region.dev, [], where=f"guest {self.name}")
        return nodes[0]

    def views(self) -> tuple[Agreement, ...]:
        """Return one comparison of the independent views for each device. Include devices that only some views have.

        Raises:
            GuestError: The guest is not running, or its agent does not answer.
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
        """Send a command that only reads to QEMU's monitor and return the answer. libvirt marks the domain as tainted.

        Args:
            command: A QMP command, e.g. ``query-memory-devices``.
            arguments: The arguments of the command.

        Raises:
            LibvirtError: The guest is not running.
            GuestError: QEMU refused, or the answer cannot be read.
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
        """Return the last lines of the serial console; empty if the console has no log."""
        return self._console.tail(lines)

    @property
    def has_console_log(self) -> bool:
        """Whether the host keeps a log of the guest's serial console."""
        return bool(read_console_log(self.xml())[0])

    def console_size(self) -> int:
        """Return the number of bytes in the log of the serial console."""
        return self._console.size()

    def console_since(self, start: int) -> bytes:
        """Return the bytes of the serial console's log from position `start` on."""
        return self._console.since(start)

    # Internals

    @property
    def _console(self) -> Console:
        return Console(self.host, *read_console_log(self.xml()))

    def _aliases(self) -> tuple[dict[str, str], dict[int, str]]:
        """Return the aliases of PCI devices by their PCI address, and the backings of devices without an alias.

        Both are empty for a guest without a virtio-pmem device.
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
        """Run `work` on the domain and return its result. Errors of libvirt become errors of this library.

        Args:
            action: The action for the message; the guest's name follows it.
            work: The call on the domain, which another thread makes.
            timeout: Seconds that libvirt may take.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: libvirt did not answer within `timeout`.
        """
        return self._link.act(self.name, f"{action} guest {self.name}", work, timeout=timeout)

    def run_job(self, action: str, work: Callable[[libvirt.virDomain], Result], timeout: float) -> Result:
        """Run a libvirt job (a save, a snapshot, a migration) and return its result. Abort the job at its deadline.

        Args:
            action: The action for the message; the guest's name follows it.
            work: The call on the domain, which another thread makes.
            timeout: Seconds that the job may take.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: The job did not end within `timeout`. The message gives the guest's state.
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
        """Return the state of the guest on its host for a message, or say that the state is unknown."""
        with within(_LAST_LOOK):
            try:
                state, reason = self.condition()
            except VpmemError:
                return f"libvirt on {self._link.host} does not answer, so its state there is not known"
        return f"it is {'not defined' if state == _GONE else state + reason} on {self._link.host}"

    def _wait(self, timeout: float, wanted: str, done: Callable[[], bool]) -> None:
        """Wait until `done` is true. Raise at once if the guest ends or its kernel panics."""
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
            ended = f"panicked: {panic.line}" if panic else f"is {''.join(self.condition())}"
            raise GuestError(self._told(f"was not {wanted} within {timeout:g} s: it {ended}", panic))

    def _panic(self, console: Console, start: int) -> Panic | None:
        """Return the panic on the console, if any. Wait until the kernel wrote the lines after the panic as well."""
        deadline = time.monotonic() + _PANIC_WRITTEN
        while True:
            panic = console.panic(start, _PANIC_LINES)
            if panic is None or panic.whole or time.monotonic() > deadline:
                return panic
            time.sleep(_POLL / 2)

    @contextlib.contextmanager
    def listening(self, event: int, tell: Callable[..., None]) -> Iterator[None]:
        """Call `tell` for each libvirt event of one kind about this guest while the ``with`` block runs.

        `event` is a ``VIR_DOMAIN_EVENT_ID_*``. libvirt's event thread calls `tell` with the arguments that libvirt
        documents for that event.

        Raises:
            LibvirtError: libvirt does not answer.
        """
        with self._link.listening(self.name, event, tell):
            yield

    def _looks(self, deadline: float) -> Iterator[None]:
        """Yield at once, after each libvirt event about this guest, and at each poll, until the deadline."""
        with self._link.changes(self.name) as changed:
            while True:
                changed.clear()
                yield
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                changed.wait(min(left, _POLL))

    def condition(self) -> tuple[str, str]:
        """Return the guest's state and, if it is off or paused, the reason. A transient domain is gone when it ends."""
        try:
            state, reason = self.act("ask the state of", lambda domain: domain.state())
        except LibvirtError as error:
            if error.code != NO_DOMAIN:
                raise
            return _GONE, ""
        name = _STATES[state]
        reasons = _REASONS.get(name, ())
        return name, f" ({reasons[reason]})" if 0 <= reason < len(reasons) else ""

    def _told(self, what: str, panic: Panic | None = None) -> str:
        with contextlib.suppress(LibvirtError):  # the console path is in the XML, which a domain that is gone lacks
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
