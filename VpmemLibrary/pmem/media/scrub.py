"""Run address range scrubs of one machine's buses, and clear the bad blocks that the scrubs find.

Only the kernel's nfit_test module and firmware with ACPI "ARS" support both. QEMU's NVDIMMs do not: ``ndctl
start-scrub`` and ``wait-scrub`` fail with ENOENT, and ``clear-errors`` fails with EOPNOTSUPP (ndctl 81).
"""

from __future__ import annotations

import errno
from enum import StrEnum

from VpmemLibrary.errors import AmbiguousError, CommandError, NotFoundError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.guard import NAMESPACE, namespace_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Bus, Namespace, NamespaceMode
from VpmemLibrary.transport.base import CommandResult

_NOT_SUPPORTED = tuple(status_of(number) for number in (errno.ENOENT, errno.EOPNOTSUPP, errno.ENOTTY))
_FIX = "Use a bus of the kernel's nfit_test module, or a bus whose firmware supports this."


class ScrubState(StrEnum):
    """The scrub state of a bus in ``ndctl list --buses``."""

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
        """Return one bus from a fresh listing.

        Args:
            which: The bus's record, name (``ndbus0``) or provider (``ACPI.NFIT``).

        Raises:
            NotFoundError: The bus does not exist. The message lists the existing buses.
            AmbiguousError: Several buses have this provider, e.g. each virtio-pmem device has its own bus.
        """
        asked = which if isinstance(which, str) else which.dev
        buses = self._ndctl.inventory().buses
        found = [bus for bus in buses if asked in (bus.dev, bus.provider)]
        if len(found) > 1:
            raise AmbiguousError(
                f"{len(found)} buses on {self._ndctl.transport.name} have the provider {asked!r}: "
                f"{', '.join(bus.dev for bus in found)}. Give the name of the bus."
            )
        if found:
            return found[0]
        raise NotFoundError(
            "bus", asked, [f"{bus.dev} ({bus.provider})" for bus in buses], where=self._ndctl.transport.name
        )

    def state(self, bus: Bus | str) -> ScrubState:
        """Return the scrub state of a bus: active, idle or unsupported.

        Raises:
            NotFoundError: The bus does not exist.
            AmbiguousError: Several buses have this provider.
            UnreadableOutputError: ndctl reports an unknown state.
        """
        found = self.bus(bus)
        state = found.extra.get("scrub_state")
        if state is None:
            return ScrubState.unsupported
        try:
            return ScrubState(str(state))
        except ValueError:
            result = self._ndctl.run(["ndctl", "list", "-B", "-b", found.dev])
            raise UnreadableOutputError(result, f"ndctl reports for {found.dev} the scrub state {state!r}") from None

    def start(self, bus: Bus | str) -> None:
        """Start a scrub of a whole bus. Do nothing if a scrub is already active.

        Raises:
            NotFoundError: The bus does not exist.
            AmbiguousError: Several buses have this provider.
            UnsupportedError: The bus does not support scrubs.
            CommandError: ndctl failed.
        """
        found = self.bus(bus)
        if self.state(found) is ScrubState.active:
            return
        result = self._ndctl.change(["ndctl", "start-scrub", found.dev])
        self._supported(result, f"start a scrub of {found.dev}", found.provider)

    def wait(self, bus: Bus | str, *, timeout: float) -> None:
        """Wait until the scrub of a bus ends.

        Args:
            bus: The bus's record, name or provider.
            timeout: Seconds to wait. A scrub of real DIMMs may take hours.

        Raises:
            NotFoundError: The bus does not exist.
            AmbiguousError: Several buses have this provider.
            UnsupportedError: The bus does not support scrubs.
            CommandTimeoutError: The scrub did not end within `timeout`.
            CommandError: ndctl failed, or the scrub is still active although ndctl exited 0.
        """
        found = self.bus(bus)
        result = self._ndctl.transport.run(["ndctl", "wait-scrub", found.dev], timeout=timeout)
        self._supported(result, f"wait for the scrub of {found.dev}", found.provider)
        if self.state(found) is ScrubState.active:
            raise CommandError(result, f"The scrub of {found.dev} is still active though ndctl exited 0")

    def clear_errors(self, namespace: Namespace | str, *, scrub: bool = False, timeout: float) -> None:
        """Clear the bad blocks in the usable bytes of a namespace. Their content is lost and undefined afterwards.

        Args:
            namespace: The namespace's record, UUID, device name or name. The namespace must be active, because ndctl
                would also clear the metadata of a disabled namespace.
            scrub: First find unknown bad blocks, with a scrub of the whole bus.
            timeout: Seconds for the whole call.

        Raises:
            NotFoundError: The namespace does not exist.
            UnsupportedError: The namespace is disabled, or is a sector namespace (ndctl skips it), or the bus does not
                support the command.
            BusyError: The namespace is in use. Nothing was changed.
            CommandError: ndctl failed.
        """
        found = self._ndctl.namespace(namespace)
        if found.mode is NamespaceMode.sector:
            raise UnsupportedError(f"{found.called} is a sector namespace: ndctl does not clear its errors.")
        if not found.active:
            raise UnsupportedError(
                f"{found.called} is disabled: ndctl would clear its metadata as well. Enable it first."
            )
        command = ["ndctl", "clear-errors", *(["--scrub"] if scrub else []), NAMESPACE]
        result = self._ndctl.change(command, namespace_target(found), must_be_unused=True, timeout=timeout)
        provider = next((bus.provider for bus in self._ndctl.inventory().buses if bus.dev == found.bus), found.bus)
        self._supported(result, f"clear the errors of {found.called}", provider)

    def _supported(self, result: CommandResult, action: str, provider: str) -> CommandResult:
        if result.exit_status in _NOT_SUPPORTED:
            reason = f"Could not {action}: its bus ({provider}) does not support this. Nothing was changed. {_FIX}"
            raise UnsupportedError(result.describe(reason))
        return checked(result, action)
