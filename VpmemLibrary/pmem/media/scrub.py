"""Address range scrubs of one machine's buses, and clearing the bad blocks that they find.

Only firmware that offers scrubbing (ACPI "ARS"), and the kernel's nfit_test module, can do either. QEMU's NVDIMMs
cannot: ``ndctl start-scrub`` and ``wait-scrub`` end with ENOENT there, ``clear-errors`` with EOPNOTSUPP (ndctl 81).
"""

from __future__ import annotations

import errno
from enum import StrEnum

from VpmemLibrary.errors import CommandError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.guard import NAMESPACE, namespace_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Bus, Namespace, NamespaceMode
from VpmemLibrary.transport.base import CommandResult

_NOT_SUPPORTED = tuple(status_of(number) for number in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENOTTY))
_MEND = "Only firmware that offers it and the kernel's nfit_test module can: run this on such a bus."


class ScrubState(StrEnum):
    """What a bus says of its scrubbing, as ``ndctl list --buses`` has it."""

    idle = "idle"
    active = "active"
    unsupported = "unsupported"


class Scrub:
    """Scrubs of one machine's buses.

    Args:
        ndctl: The machine's ndctl.

    Example::

        scrub = Scrub(Ndctl(transport))
        scrub.start("ndbus0")
        scrub.wait("ndbus0", timeout=3600)
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def bus(self, which: Bus | str) -> Bus:
        """Return one bus as a fresh listing has it.

        Args:
            which: Its record, its name (``ndbus0``) or its provider (``ACPI.NFIT``).

        Raises:
            NotFoundError: It is not there; the message names those that are.
        """
        asked = which if isinstance(which, str) else which.dev
        buses = self._ndctl.inventory().buses
        for bus in buses:
            if asked in (bus.dev, bus.provider):
                return bus
        raise NotFoundError(
            "bus", asked, [f"{bus.dev} ({bus.provider})" for bus in buses], where=self._ndctl.transport.name
        )

    def state(self, bus: Bus | str) -> ScrubState:
        """Return whether a bus scrubs, is idle, or cannot scrub.

        Raises:
            NotFoundError: There is no such bus.
            UnreadableOutputError: ndctl says something else.
        """
        found = self.bus(bus)
        told = found.extra.get("scrub_state")
        if told is None:
            return ScrubState.unsupported
        try:
            return ScrubState(str(told))
        except ValueError:
            result = self._ndctl.run(["ndctl", "list", "-B", "-b", found.dev])
            raise UnreadableOutputError(result, f"ndctl gives {found.dev} the scrub state {told!r}") from None

    def start(self, bus: Bus | str) -> None:
        """Start a scrub of all that is on a bus; one that runs already goes on.

        Raises:
            NotFoundError: There is no such bus.
            UnsupportedError: The bus cannot scrub.
            CommandError: ndctl failed.
        """
        found = self.bus(bus)
        if self.state(found) is ScrubState.active:
            return
        result = self._ndctl.change(["ndctl", "start-scrub", found.dev])
        self._supported(result, f"start a scrub of {found.dev}", found.provider)

    def wait(self, bus: Bus | str, *, timeout: float) -> None:
        """Return when a bus scrubs no more.

        Args:
            bus: Its record, name or provider.
            timeout: Seconds that it may take: a scrub of real modules takes up to hours.

        Raises:
            NotFoundError: There is no such bus.
            UnsupportedError: The bus cannot scrub.
            CommandTimeoutError: It still scrubs.
            CommandError: ndctl failed, or it still scrubs whatever ndctl's exit status.
        """
        found = self.bus(bus)
        result = self._ndctl.transport.run(["ndctl", "wait-scrub", found.dev], timeout=timeout)
        self._supported(result, f"wait for the scrub of {found.dev}", found.provider)
        if self.state(found) is ScrubState.active:
            raise CommandError(result, f"{found.dev} still scrubs though ndctl reports that it is done")

    def clear_errors(self, namespace: Namespace | str, *, scrub: bool = False, timeout: float) -> None:
        """Clear the bad blocks in the usable bytes of a namespace: what they held is lost, and undefined afterwards.

        Args:
            namespace: Its record, UUID, device name or name. It must be active: ndctl would clear the metadata of a
                disabled one as well.
            scrub: Look for bad blocks that the kernel does not know yet, with a scrub of the whole bus.
            timeout: Seconds that it may take.

        Raises:
            NotFoundError: There is no such namespace.
            UnsupportedError: It is a sector namespace, which ndctl skips; it is disabled; or the bus cannot do it.
            BusyError: It is in use; nothing was changed.
            CommandError: ndctl failed.
        """
        found = self._ndctl.namespace(namespace)
        if found.mode is NamespaceMode.sector:
            raise UnsupportedError(f"{found.called} is a sector namespace: ndctl clears no errors there.")
        if not found.active:
            raise UnsupportedError(
                f"{found.called} is disabled: ndctl would clear its metadata as well. Enable it first."
            )
        command = ["ndctl", "clear-errors", *(["--scrub"] if scrub else []), NAMESPACE]
        result = self._ndctl.change(command, namespace_target(found), unused=True, timeout=timeout)
        provider = next((bus.provider for bus in self._ndctl.inventory().buses if bus.dev == found.bus), found.bus)
        self._supported(result, f"clear the errors of {found.called}", provider)

    def _supported(self, result: CommandResult, action: str, provider: str) -> CommandResult:
        if result.exit_status in _NOT_SUPPORTED:
            reason = f"Could not {action}: its bus ({provider}) cannot do it. Nothing was changed. {_MEND}"
            raise UnsupportedError(result.describe(reason))
        return checked(result, action)
