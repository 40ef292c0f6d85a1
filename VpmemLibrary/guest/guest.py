"""A guest on a host: its domain, its devices, and the channel into it.

Other modules act on a guest: `lifecycle` (start, shut down, save ...), `readiness` (wait until the guest answers),
`inspection` (views of the guest), `hotplug`, `migration`, `snapshots`.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import (
    AmbiguousError,
    ForeignError,
    GuestError,
    InvalidValueError,
    LibvirtError,
    LibvirtTimeoutError,
    NotFoundError,
    VpmemError,
)
from VpmemLibrary.guest.channel.channels import Channel, GuestAccess, GuestChannel
from VpmemLibrary.guest.channel.console import Console
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.records import VpmemDevice, in_slots
from VpmemLibrary.guest.domain.states import GONE, NO_DOMAIN, reason_text, state_name
from VpmemLibrary.guest.domain.xml import read_console_log, read_devices, read_mark
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.polling import Attempt, attempts
from VpmemLibrary.transport.base import Transport, checked_name

if TYPE_CHECKING:
    import libvirt

_POLL = 1.0
"""Seconds between two polls when no libvirt event reports a change."""

START_TIMEOUT = 180.0
"""Seconds for actions that take longer with more guest memory: start, save, restore, revert to a snapshot."""

_AGENT_MARGIN = 35.0
"""Seconds beyond the agent's own timeout. libvirt reports that timeout, and may first wait 30 s for its other calls."""

_STATE_SECONDS = 5.0
"""Seconds to read the state of a guest for the message about a call that did not end."""

_SHOWN_ANSWER = 200

Result = TypeVar("Result")
WrapTransport = Callable[[Transport], Transport]


class Guest:
    """One guest: a libvirt domain, the devices that it should have, and a channel into it.

    Args:
        host: The transport to the guest's host.
        link: The host's libvirt connection.
        name: The guest's name.
        devices: The requested devices. The default is the devices in the domain XML.
        wrap: Wraps the transport into the guest, e.g. to log its commands.

    Example::

        guest = Guest(host, link, "a")
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, 180)
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
        from VpmemLibrary.guest.channel.agent import AgentTransport  # noqa: PLC0415  needed only with a guest

        self.name = name
        self.host = host
        self.link = link
        self.boot_console_start: int | None = None
        """Where the boot that a caller waits for begins in the console's log; None if no caller waits for a boot."""
        self._devices = devices
        self._wrap = wrap
        self._use(GuestChannel.agent, AgentTransport(name, self._agent_call))

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
        from VpmemLibrary.guest.channel.opening import open_channel  # noqa: PLC0415

        self._replace(
            kind,
            open_channel(
                kind, access, name=self.name, host=self.host, link=self.link, agent=self._agent_call, xml=self.xml
            ),
        )

    def use_own_channel(self, name: str, channel: Channel) -> None:
        """From now on, use a channel into the guest that another project implements.

        Args:
            name: The name of the channel, for [Get Guest Channel].
            channel: Any object with the methods of `Channel`.

        Raises:
            InvalidValueError: The name is invalid or is a channel of this library, or `channel` lacks a method.
        """
        if name in list(GuestChannel):
            raise InvalidValueError("channel", name, f"a name other than {', '.join(GuestChannel)}")
        if not isinstance(channel, Channel):
            raise InvalidValueError("channel", type(channel).__name__, "an object with all methods of Channel")
        self._replace(checked_name("channel", name), channel)

    def close(self) -> None:
        """Close the connection into the guest."""
        self.transport.close()

    def answers(self, timeout: float = 5) -> bool:
        """Return whether the guest answers through its channel within `timeout` seconds.

        Raises:
            AgentRefusedError: The guest's agent refuses to run commands. The message says what to change.
            AccessDeniedError: The guest rejects the login.
        """
        return self._channel.ping(timeout)

    def _replace(self, kind: str, channel: Channel) -> None:
        before = self.transport
        self._use(kind, channel)
        before.close()

    def _use(self, kind: str, channel: Channel) -> None:
        self._channel = channel
        self.channel = kind
        self.transport: Transport = self._wrap(self._channel) if self._wrap else self._channel
        for name in ("ndctl", "content"):  # both use the previous transport
            self.__dict__.pop(name, None)

    @cached_property
    def ndctl(self) -> Ndctl:
        """The ndctl of the guest."""
        return Ndctl(self.transport)

    @cached_property
    def content(self) -> ContentStore:
        """The content store of the guest."""
        return ContentStore(self.transport)

    @property
    def console(self) -> Console:
        """The log of the serial console, on the host."""
        return Console(self.host, *read_console_log(self.xml()))

    # Devices

    @property
    def devices(self) -> tuple[VpmemDevice, ...]:
        """The requested devices of the guest, each nvdimm with its slot."""
        return in_slots(read_devices(self.xml()) if self._devices is None else self._devices)

    @property
    def live_devices(self) -> tuple[VpmemDevice, ...]:
        """The devices of the guest that libvirt lists now, with slots and aliases."""
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
                    f"Guest {self.name} has {len(devices)} devices. Pass the backing of one device: "
                    f"{', '.join(device.path for device in devices)}."
                )
            if devices:
                return devices[0]
        return device_with_backing(devices, path, self.name)

    def add_expected_device(self, device: VpmemDevice) -> None:
        """Add a device to the requested devices."""
        self._devices = None if self._devices is None else (*self._devices, device)

    def remove_expected_device(self, path: str) -> None:
        """Remove the device with a given backing from the requested devices."""
        if self._devices is not None:
            self._devices = tuple(each for each in self._devices if each.path != path)

    # The domain

    def xml(self, *, inactive: bool = False) -> str:
        """Return the domain XML: the current XML, or with `inactive` the XML for the next start."""
        import libvirt  # noqa: PLC0415

        flags = libvirt.VIR_DOMAIN_XML_INACTIVE if inactive else 0
        xml: str = self.act("read the XML of", lambda domain: domain.XMLDesc(flags))
        return xml

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
                f"Guest {self.name} on {self.link.host} is not this run's own: {made}, and this is run {run_id}. "
                "It was not changed. Pass foreign=True to change it anyway."
            )

    def state(self) -> str:
        """Return the state of the guest as virsh names it: ``running``, ``shut off`` ..."""
        return state_name(self.act("read the state of", lambda domain: domain.state())[0])

    def state_and_reason(self) -> tuple[str, str]:
        """Return the guest's state, and the reason if it is off or paused. A transient domain that ended is gone."""
        try:
            state, reason = self.act("read the state of", lambda domain: domain.state())
        except LibvirtError as error:
            if error.code != NO_DOMAIN:
                raise
            return GONE, ""
        return state_name(state), reason_text(state_name(state), reason)

    def state_for_message(self) -> str:
        """Return the state of the guest on its host for a message, or say that the state is unknown."""
        with libvirt_deadline(_STATE_SECONDS):
            try:
                state, reason = self.state_and_reason()
            except VpmemError:
                return f"its state is unknown, because libvirt on {self.link.host} does not answer"
        return f"it is {'not defined' if state == GONE else state + reason} on {self.link.host}"

    @contextlib.contextmanager
    def state_at_timeout(self) -> Iterator[None]:
        """Add the guest's state to the error of a libvirt call that did not end in time."""
        try:
            yield
        except LibvirtTimeoutError as error:
            error.add(f"Now {self.state_for_message()}.")
            raise

    # Calls to libvirt

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
        return self.link.act(self.name, f"{action} guest {self.name}", work, timeout=timeout)

    def run_job(self, action: str, work: Callable[[libvirt.virDomain], Result], timeout: float) -> Result:
        """Run a libvirt job (a save, a snapshot, a migration) and return its result. Abort the job at its deadline.

        The arguments and errors are those of `act`. The error of a timeout also gives the guest's state.
        """
        with self.state_at_timeout():
            return self.link.act(self.name, f"{action} guest {self.name}", work, timeout=timeout, abort=True)

    def attempts(self, wanted: str, deadline: float) -> Iterator[Attempt]:
        """Yield at once, after each libvirt event about this guest, and after each second, until the deadline.

        Args:
            wanted: The state that the caller waits for, for the log.
            deadline: The deadline, by ``time.monotonic``.
        """
        with self.link.changes(self.name) as changed:
            timeout = deadline - time.monotonic()
            for attempt in attempts(
                f"guest {self.name} to be {wanted}", timeout=timeout, interval=_POLL, pause=changed.wait
            ):
                changed.clear()
                yield attempt

    def ask_monitor(self, command: str, arguments: Mapping[str, object]) -> Any:
        """Send a query to QEMU's monitor and return the answer. libvirt marks the domain as tainted.

        Args:
            command: A QMP command, e.g. ``query-memory-devices``.
            arguments: The arguments of the command.

        Raises:
            LibvirtError: The guest is not running.
            GuestError: QEMU refused, or the answer cannot be read.
        """
        import libvirt_qemu  # noqa: PLC0415

        request = json.dumps({"execute": command, "arguments": dict(arguments)})
        answer = self.act("query QEMU's monitor of", lambda domain: libvirt_qemu.qemuMonitorCommand(domain, request, 0))
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError):
            decoded = None
        if not isinstance(decoded, dict) or "return" not in decoded:
            raise GuestError(f"QEMU's monitor of guest {self.name} refused {command}: {answer[:_SHOWN_ANSWER]}")
        return decoded["return"]

    def _agent_call(self, request: str, timeout: int) -> str:
        import libvirt_qemu  # noqa: PLC0415

        answer: str = self.act(
            "call the agent of",
            lambda domain: libvirt_qemu.qemuAgentCommand(domain, request, timeout, 0),
            timeout=timeout + _AGENT_MARGIN,
        )
        return answer


def device_with_backing(devices: tuple[VpmemDevice, ...], path: str | None, guest: str) -> VpmemDevice:
    """Return the device with a given backing.

    Args:
        devices: The devices of a guest.
        path: The backing; None matches no device.
        guest: The guest's name, for the message.

    Raises:
        NotFoundError: No device has that backing.
    """
    for device in devices:
        if device.path == path:
            return device
    raise NotFoundError("device on", path or "(any)", [each.path for each in devices], where=f"guest {guest}")
