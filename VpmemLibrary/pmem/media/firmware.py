"""Update the firmware of DIMMs, and activate it on a bus.

ndctl may fail but exit 0: ``update-firmware`` prints "arm aborted, tripped overflow" and exits 0 (ndctl 81). So each
method lists the firmware again after the change, and checks its state.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from VpmemLibrary.errors import CommandError, InvalidValueError, UnsupportedError
from VpmemLibrary.pmem.decode import decode_inventory
from VpmemLibrary.pmem.guard import DIMM, dimm_target, lock_target
from VpmemLibrary.pmem.media.scrub import Scrub
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Bus, Dimm, Inventory
from VpmemLibrary.polling import poll
from VpmemLibrary.visible import one_line

FIRMWARE_COMMAND = ("ndctl", "list", "-B", "-D", "-F", "-i")
"""The command that lists the buses and DIMMs with the state of their firmware."""

_POLL = 0.5


class FirmwareState(Struct, frozen=True):
    """The firmware of a DIMM, from ndctl's listing.

    Args:
        dev: The DIMM's name.
        version: The version of the running firmware. None if the DIMM does not report its firmware.
        next_version: The version of the update that waits for an activation or a power cycle. None without an update.
        can_update: Whether the DIMM accepts an update.
        activation: ``idle``, ``armed`` (the next activation starts the update) or ``busy``. Empty if ndctl lists none.
        needs_power_cycle: Whether only a power cycle starts the update.
    """

    dev: str
    version: int | None
    next_version: int | None = None
    can_update: bool = False
    activation: str = ""
    needs_power_cycle: bool = False


class ActivationState(Struct, frozen=True):
    """The firmware activation of a bus, from ndctl's listing.

    Args:
        dev: The bus's name.
        method: ``suspend`` (the host's tasks and devices stop during the activation), ``live`` (no stop), or
            ``reset`` (the host reboots). Empty if the bus cannot activate firmware.
        state: ``idle`` (no DIMM is armed), ``armed``, ``overflow`` (the activation takes longer than the bus allows),
            or ``busy``. Empty if the bus cannot activate firmware.
    """

    dev: str
    method: str = ""
    state: str = ""


class Firmware:
    """The firmware of one host's DIMMs.

    Args:
        ndctl: The host's ndctl.
        timeout: Seconds for one update or activation.

    Example::

        firmware = Firmware(Ndctl(transport))
        firmware.update("nmem0", "/root/firmware.bin")
        firmware.activate("ndbus0")
    """

    def __init__(self, ndctl: Ndctl, *, timeout: float = 300.0) -> None:
        self._ndctl = ndctl
        self._timeout = timeout

    def state(self, which: Dimm | str) -> FirmwareState:
        """Return the firmware of a DIMM.

        Raises:
            NotFoundError: The DIMM does not exist.
        """
        return _firmware(self._ndctl.dimm(which, self._inventory()))

    def activation(self, which: Bus | str) -> ActivationState:
        """Return the firmware activation of a bus.

        Args:
            which: The bus's record, name or provider.

        Raises:
            NotFoundError: The bus does not exist.
            AmbiguousError: Several buses have this provider.
        """
        bus = Scrub(self._ndctl).bus(which)
        listed = next((each for each in self._inventory().buses if each.dev == bus.dev), bus)
        firmware = _mapping(listed.extra.get("firmware"))
        return ActivationState(bus.dev, _text(firmware, "activate_method"), _text(firmware, "activate_state"))

    def update(self, which: Dimm | str, image: str) -> FirmwareState:
        """Send a firmware image to a DIMM, and arm the DIMM for the next activation.

        Args:
            which: The DIMM's record or name.
            image: The absolute path of the image on the host.

        Raises:
            NotFoundError: The DIMM does not exist.
            InvalidValueError: The path is not absolute. Nothing was changed.
            UnsupportedError: The DIMM accepts no update. Nothing was changed.
            CommandError: ndctl or the DIMM refused the image. Or no update waits in the DIMM afterwards, or the update
                is not armed.
        """
        if not image.startswith("/"):
            raise InvalidValueError("image", image, "the absolute path of a firmware image on the host")
        before = self.state(which)
        if not before.can_update:
            raise UnsupportedError(
                f"DIMM {before.dev} on {self._ndctl.transport.name} does not accept firmware updates: `ndctl list -D "
                "-F` does not show can_update. QEMU's NVDIMMs accept none. Nothing was changed."
            )
        action = f"update the firmware of {before.dev} with {image}"
        dimm = self._ndctl.dimm(which)
        command = ["ndctl", "update-firmware", "--firmware", image, DIMM]
        result = checked(self._ndctl.change(command, dimm_target(dimm), timeout=self._timeout), action)
        after = self.state(dimm)
        if after.next_version is None or after.activation == "idle":
            reason = (
                "the DIMM has no waiting update" if after.next_version is None else "the DIMM did not arm the update"
            )
            raise CommandError(result, f"Could not {action}: ndctl exited 0, but {reason}")
        return after

    def activate(self, which: Bus | str, *, force: bool = False, idle: bool = True) -> ActivationState:
        """Activate the firmware of all armed DIMMs of a bus.

        Args:
            which: The bus's record, name or provider.
            force: Activate even if the activation takes longer than the bus allows. Devices may then lose data that
                they transfer.
            idle: Stop the host's tasks and devices during the activation. If false, the platform must support live
                activation.

        Raises:
            NotFoundError: The bus does not exist.
            AmbiguousError: Several buses have this provider.
            UnsupportedError: The bus cannot activate firmware, or no DIMM is armed. Nothing was changed.
            CommandError: ndctl failed, or a DIMM still waits for its activation afterwards.
        """
        before = self.activation(which)
        host = self._ndctl.transport.name
        if not before.method:
            raise UnsupportedError(
                f"Bus {before.dev} on {host} does not support firmware activation. Power-cycle the host to start an "
                "update. Nothing was changed."
            )
        if before.state == "idle":
            raise UnsupportedError(
                f"No DIMM of bus {before.dev} on {host} has an armed update. Update the firmware of a DIMM first."
            )
        if before.state == "overflow" and not force:
            raise UnsupportedError(
                f"The activation on bus {before.dev} of {host} would take longer than the bus allows (overflow). "
                "Memory accesses of devices may then fail. Nothing was changed. Use force=True to activate anyway, or "
                "power-cycle the host to start the update."
            )
        options = [*(["--force"] if force else []), *([] if idle else ["--no-idle"])]
        action = f"activate the firmware of bus {before.dev}"
        command = ["ndctl", "activate-firmware", *options, before.dev]
        change = self._ndctl.change(command, lock_target("firmware", f"Bus {before.dev}"), timeout=self._timeout)
        result = checked(change, action)

        def finished() -> ActivationState | None:
            """Return the state of the bus if the bus is idle and no DIMM is armed or busy. Else return None."""
            after = self.activation(before.dev)
            working = [dimm for dimm in self._dimms(before.dev) if _firmware(dimm).activation in ("armed", "busy")]
            return after if after.state == "idle" and not working else None

        return poll(
            finished,
            f"the firmware of bus {before.dev}",
            timeout=self._timeout,
            interval=_POLL,
            failure=lambda _: CommandError(
                result, f"Could not {action}: ndctl exited 0, but the activation did not end in {self._timeout:g} s"
            ),
        )

    def _dimms(self, bus: str) -> tuple[Dimm, ...]:
        return next((each.dimms for each in self._inventory().buses if each.dev == bus), ())

    def _inventory(self) -> Inventory:
        return decode_inventory(checked(self._ndctl.run(FIRMWARE_COMMAND), "list the firmware of the DIMMs"))


def _firmware(dimm: Dimm) -> FirmwareState:
    listed = _mapping(dimm.extra.get("firmware"))
    return FirmwareState(
        dimm.dev,
        version=_number(listed, "current_version"),
        next_version=_number(listed, "next_version"),
        can_update=listed.get("can_update") is True,
        activation=_text(listed, "activate_state"),
        needs_power_cycle=listed.get("need_powercycle") is True,
    )


def _mapping(value: object) -> Mapping[str, object]:
    return value if isinstance(value, Mapping) else {}


def _text(listed: Mapping[str, object], key: str) -> str:
    return one_line(str(listed[key])) if key in listed else ""


def _number(listed: Mapping[str, object], key: str) -> int | None:
    value = listed.get(key)
    return value if type(value) is int else None
