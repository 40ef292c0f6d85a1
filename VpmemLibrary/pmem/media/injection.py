"""Inject errors and SMART values into DIMMs.

Only the kernel's nfit_test module and some firmware support injections. QEMU's NVDIMMs do not.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from VpmemLibrary.errors import CommandError, InvalidValueError, UnsupportedError
from VpmemLibrary.pmem.guard import DIMM, NAMESPACE, dimm_target, namespace_target
from VpmemLibrary.pmem.media.health import BadBlock, DimmHealth, Health, sectors_of
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked, status_of
from VpmemLibrary.pmem.records import Bus, Dimm, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import CommandResult

# ndctl's exit statuses if the firmware, the kernel or ndctl itself does not support an injection (ndctl/inject-smart.c,
# dimm_inject_smart; ndctl/inject-error.c, do_inject).
_NOT_SUPPORTED = tuple(status_of(number) for number in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EIO))
_FIX = "Use a bus of the kernel's nfit_test module, or a bus whose firmware supports injections."

# ndctl 81 converts degrees to an integer, and the DIMM keeps 1/16 degrees in 15 bits (ndctl/lib/private.h).
_HOTTEST = 2047


class Injection:
    """Injections into one machine's persistent memory.

    Args:
        ndctl: The machine's ndctl.
        timeout: Seconds for one injection. ndctl waits for a scrub of the bus after the injection.

    Example::

        injection = Injection(Ndctl(transport))
        injection.inject_error("ns_0", Size.parse("1MiB"), Size(4096))
    """

    def __init__(self, ndctl: Ndctl, *, timeout: float = 120.0) -> None:
        self._ndctl = ndctl
        self._timeout = timeout

    def inject_error(self, namespace: Namespace | str, offset: Size, length: Size) -> tuple[BadBlock, ...]:
        """Make a range of a namespace unreadable. Return the namespace's bad blocks afterwards.

        Args:
            namespace: The namespace's record, UUID, device name or name.
            offset: The start of the range, counted from the first usable byte; a multiple of 512.
            length: The number of bytes; a multiple of 512.

        Raises:
            InvalidValueError: The offset or length is not a multiple of 512, or the range ends after the namespace.
                Nothing was changed.
            UnsupportedError: The bus does not support error injection, or the namespace's mode is sector. Nothing was
                changed.
            CommandError: ndctl failed, or the kernel lists no bad block in the range afterwards.
        """
        return self._inject(namespace, offset, length, "inject", [])

    def uninject_error(self, namespace: Namespace | str, offset: Size, length: Size) -> tuple[BadBlock, ...]:
        """Remove an injected error. Return the namespace's bad blocks afterwards.

        The kernel removes a bad block from its list only after a write to this block.

        Raises:
            InvalidValueError: The offset or length is not a multiple of 512, or the range ends after the namespace.
                Nothing was changed.
            UnsupportedError: The bus does not support error injection, or the namespace's mode is sector. Nothing was
                changed.
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
        """Inject SMART values into a DIMM. Return the DIMM's health afterwards.

        Args:
            dimm: The DIMM's record or name.
            temperature: The temperature of the media, in whole degrees Celsius.
            controller_temperature: The temperature of the controller, in whole degrees Celsius.
            spares: The remaining spare capacity, in per cent.
            fatal: Make the health state fatal.
            unsafe_shutdown: Make the last shutdown dirty.

        Raises:
            NotFoundError: The DIMM does not exist.
            InvalidValueError: No value was given, or a value is invalid. Nothing was changed.
            UnsupportedError: The DIMM does not support injections. Nothing was changed.
            CommandError: ndctl failed, or a value is different when it is read back. The message has the values that
                were injected before the failure.
        """
        for name, degrees in (("temperature", temperature), ("controller_temperature", controller_temperature)):
            if degrees is not None and not (degrees == int(degrees) and abs(degrees) <= _HOTTEST):
                raise InvalidValueError(
                    name, degrees, f"whole degrees from -{_HOTTEST} to {_HOTTEST}, because ndctl drops a fraction"
                )
        if spares is not None and not 0 <= spares <= 100:
            raise InvalidValueError("spares", spares, "0 to 100 per cent")
        numbers = {"media-temperature": temperature, "ctrl-temperature": controller_temperature, "spares": spares}
        options = [f"--{name}={int(value)}" for name, value in numbers.items() if value is not None]
        options += ["--fatal"] if fatal else []
        options += ["--unsafe-shutdown"] if unsafe_shutdown else []
        if not options:
            raise InvalidValueError("SMART values", "none", "at least one value, e.g. spares=4")
        before = Health(self._ndctl).dimm(dimm)
        wanted: dict[str, object] = {
            "temperature": temperature,
            "controller temperature": controller_temperature,
            "spares": spares,
            "health": "fatal" if fatal else None,
            "last shutdown": "dirty" if unsafe_shutdown else None,
        }
        wanted = {name: value for name, value in wanted.items() if value is not None}
        try:
            result = self._smart(dimm, options, "inject SMART values into")
        except (CommandError, UnsupportedError) as error:
            # ndctl injects the values one after another, and stops at the first failure.
            after = Health(self._ndctl).dimm(dimm).injectable
            old = before.injectable
            done = [f"{name} {value}" for name, value in wanted.items() if after[name] == value != old[name]]
            error.add(
                f"Injected before the failure: {', '.join(done)}. Uninject Smart restores the DIMM's own values."
                if done
                else f"Nothing was changed in {before.dev}."
            )
            raise
        health = Health(self._ndctl).dimm(dimm)
        after = health.injectable
        for name, value in wanted.items():
            if after[name] != value:
                reason = f"ndctl exited 0, but the {name} of {health.dev} reads {after[name]}, not {value}"
                raise CommandError(result, f"Could not inject SMART values into {health.dev}: {reason}")
        return health

    def uninject_smart(self, dimm: Dimm | str) -> None:
        """Remove the injected SMART values of a DIMM, so that it reports its own values again.

        Raises:
            NotFoundError: The DIMM does not exist.
            UnsupportedError: The DIMM does not support injections.
            CommandError: ndctl failed.
        """
        self._smart(dimm, ["--uninject-all"], "remove the injected SMART values of")

    def _inject(
        self, namespace: Namespace | str, offset: Size, length: Size, verb: str, options: list[str]
    ) -> tuple[BadBlock, ...]:
        found = self._ndctl.namespace(namespace)
        block, count = sectors_of("offset", offset), sectors_of("length", length)
        if not count or offset + length > found.size:
            raise InvalidValueError(
                "range", f"{length} from {offset}", f"at least one sector, within the {found.size} of {found.called}"
            )
        if found.mode is NamespaceMode.sector:
            raise UnsupportedError(
                f"Could not {verb} an error of {found.called} on {self._ndctl.transport.name}: its mode is sector, and "
                "ndctl injects no errors below a block translation table. Nothing was changed. Use a namespace of mode "
                "raw, fsdax or devdax."
            )
        command = ["ndctl", "inject-error", f"--block={block}", f"--count={count}", *options, NAMESPACE]
        action = f"{verb} an error of {length} at {offset} of {found.called}"
        result = self._ndctl.change(command, namespace_target(found), timeout=self._timeout)
        self._supported(result, action, lambda bus: bus.dev == found.bus)
        after = Health(self._ndctl).bad_blocks(found)
        if verb == "inject" and not any(bad.offset < offset + length and offset < bad.end for bad in after):
            raise CommandError(result, f"Could not {action}: ndctl exited 0, but the kernel lists no bad block there")
        return after

    def _smart(self, dimm: Dimm | str, options: list[str], verb: str) -> CommandResult:
        found = self._ndctl.dimm(dimm)
        command = ["ndctl", "inject-smart", *options, DIMM]
        result = self._ndctl.change(command, dimm_target(found), timeout=self._timeout)
        return self._supported(result, f"{verb} {found.dev}", lambda bus: found in bus.dimms)

    def _supported(self, result: CommandResult, action: str, on_bus: Callable[[Bus], bool]) -> CommandResult:
        if result.exit_status in _NOT_SUPPORTED:
            provider = next((bus.provider for bus in self._ndctl.inventory().buses if on_bus(bus)), "unknown")
            reason = f"Could not {action}: its bus ({provider}) does not support this injection. {_FIX}"
            raise UnsupportedError(result.describe(reason))
        return checked(result, action)
