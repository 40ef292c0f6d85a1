"""Errors and health values put into DIMMs on purpose, where the bus can do it, and the reason where it cannot.

Only firmware that offers it, and the kernel's nfit_test module, take an injection. QEMU's NVDIMMs do not.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from VpmemLibrary.errors import CommandError, InvalidValueError, UnsupportedError
from VpmemLibrary.pmem.guard import DIMM, NAMESPACE, dimm_target, namespace_target
from VpmemLibrary.pmem.media.health import BadBlock, DimmHealth, Health, sectors_of
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Bus, Dimm, Namespace
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult

TEST_BUS = "nfit_test"
"""What the provider of a bus of the kernel's nfit_test module begins with."""

# What ndctl exits with when firmware, kernel or ndctl itself knows no injection (ndctl/inject-smart.c,
# dimm_inject_smart; ndctl/inject-error.c, do_inject).
_NOT_SUPPORTED = tuple(status_of(number) for number in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EIO))
_MEND = "Only firmware that offers it and the kernel's nfit_test module take an injection: run this on such a bus."


class Injection:
    """Injections into one machine's persistent memory.

    Args:
        ndctl: The machine's ndctl.
        timeout: Seconds that one injection may take: ndctl waits for a scrub of the bus afterwards.

    Example::

        injection = Injection(Ndctl(transport))
        injection.inject_error("ns_0", Size.parse("1MiB"), Size(4096))
    """

    def __init__(self, ndctl: Ndctl, *, timeout: float = 120.0) -> None:
        self._ndctl = ndctl
        self._timeout = timeout

    def inject_error(self, namespace: Namespace | str, offset: Size, length: Size) -> tuple[BadBlock, ...]:
        """Make a piece of a namespace unreadable, and return the bad blocks that it then has.

        Args:
            namespace: Its record, UUID, device name or name.
            offset: Where, in bytes from its first usable one; a multiple of 512.
            length: How many bytes; a multiple of 512.

        Raises:
            InvalidValueError: The range is not so, or reaches past the end; nothing was changed.
            UnsupportedError: The bus has no error injection; nothing was changed.
            CommandError: ndctl failed, or the kernel lists no bad block there afterwards.
        """
        return self._inject(namespace, offset, length, "inject", [])

    def uninject_error(self, namespace: Namespace | str, offset: Size, length: Size) -> tuple[BadBlock, ...]:
        """Take an injected error back, and return the bad blocks that the kernel still has.

        The kernel forgets a bad block only when it is written to.

        Raises:
            InvalidValueError: The range is not in sectors, or reaches past the end; nothing was changed.
            UnsupportedError: The bus has no error injection; nothing was changed.
            CommandError: ndctl failed.
        """
        return self._inject(namespace, offset, length, "uninject", ["--uninject"])

    def inject_smart(
        self,
        dimm: Dimm | str,
        *,
        temperature: float | None = None,
        controller_temperature: float | None = None,
        spares: int | None = None,
        fatal: bool = False,
        unsafe_shutdown: bool = False,
    ) -> DimmHealth:
        """Give a DIMM SMART values that it has not, and return its health afterwards.

        Args:
            dimm: Its record or name.
            temperature: Of the media, in degrees Celsius.
            controller_temperature: Of the controller, in degrees Celsius.
            spares: The spare capacity that is left, in per cent.
            fatal: Make its health fatal.
            unsafe_shutdown: Make its last shutdown dirty.

        Raises:
            NotFoundError: There is no such DIMM.
            InvalidValueError: Nothing is to be injected.
            UnsupportedError: The DIMM takes no injection; nothing was changed.
            CommandError: ndctl failed, or a value is not read back afterwards.
        """
        numbers = {"media-temperature": temperature, "ctrl-temperature": controller_temperature, "spares": spares}
        options = [f"--{name}={value}" for name, value in numbers.items() if value is not None]
        options += ["--fatal"] if fatal else []
        options += ["--unsafe-shutdown"] if unsafe_shutdown else []
        if not options:
            raise InvalidValueError("SMART values", "none", "one at least, e.g. spares=4")
        result = self._smart(dimm, options, "inject SMART values into")
        after = Health(self._ndctl).dimm(dimm)
        wanted: dict[str, tuple[object, object]] = {
            "temperature": (temperature, after.temperature),
            "controller temperature": (controller_temperature, after.controller_temperature),
            "spares": (spares, after.spares),
            "health": ("fatal" if fatal else None, after.health_state),
            "last shutdown": ("dirty" if unsafe_shutdown else None, after.shutdown_state),
        }
        for name, (value, found) in wanted.items():
            if value is not None and found != value and not _same_temperature(found, value):
                reason = f"ndctl exited 0, but the {name} of {after.dev} reads {found}, not {value}"
                raise CommandError(result, f"Could not inject SMART values into {after.dev}: {reason}")
        return after

    def uninject_smart(self, dimm: Dimm | str) -> None:
        """Give a DIMM its own SMART values back.

        Raises:
            NotFoundError: There is no such DIMM.
            UnsupportedError: The DIMM takes no injection.
            CommandError: ndctl failed.
        """
        self._smart(dimm, ["--uninject-all"], "take back the SMART values of")

    def _inject(
        self, namespace: Namespace | str, offset: Size, length: Size, verb: str, options: list[str]
    ) -> tuple[BadBlock, ...]:
        found = self._ndctl.namespace(namespace)
        block, count = sectors_of("offset", offset), sectors_of("length", length)
        if not count or offset + length > found.size:
            raise InvalidValueError(
                "range", f"{length} from {offset}", f"one sector at least, within the {found.size} of {found.called}"
            )
        command = ["ndctl", "inject-error", f"--block={block}", f"--count={count}", *options, NAMESPACE]
        action = f"{verb} an error of {length} at {offset} of {found.called}"
        result = self._ndctl.change(command, namespace_target(found), timeout=self._timeout)
        self._supported(result, action, lambda bus: bus.dev == found.bus)
        after = Health(self._ndctl).bad_blocks(found)
        if verb == "inject" and not any(bad.offset < offset + length and offset < bad.end for bad in after):
            raise CommandError(result, f"Could not {action}: ndctl exited 0, but no bad block is listed there")
        return after

    def _smart(self, dimm: Dimm | str, options: list[str], verb: str) -> CommandResult:
        found = self._ndctl.dimm(dimm)
        command = ["ndctl", "inject-smart", *options, DIMM]
        result = self._ndctl.change(command, dimm_target(found), timeout=self._timeout)
        return self._supported(result, f"{verb} {found.dev}", lambda bus: found in bus.dimms)

    def _supported(self, result: CommandResult, action: str, on_bus: Callable[[Bus], bool]) -> CommandResult:
        if result.exit_status in _NOT_SUPPORTED:
            provider = next(bus.provider for bus in self._ndctl.inventory().buses if on_bus(bus))
            reason = f"Could not {action}: its bus ({provider}) has no such injection. Nothing was changed. {_MEND}"
            raise UnsupportedError(result.describe(reason))
        return checked(result, action)


def _same_temperature(found: object, value: object) -> bool:
    """Return whether a temperature is the given one in sixteenths of a degree, which is what DIMMs keep."""
    return isinstance(found, float) and isinstance(value, int | float) and abs(found - value) < 1 / 16
