"""Keywords for the firmware of DIMMs."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.log import logger
from VpmemLibrary.pmem.media.firmware import ActivationState, Firmware, FirmwareState
from VpmemLibrary.pmem.records import Bus, Dimm
from VpmemLibrary.session.dimms import require_own_bus, require_own_dimm
from VpmemLibrary.session.session import Session


class FirmwareKeywords:
    """Keywords for the firmware of DIMMs."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _firmware(self) -> Firmware:
        return Firmware(self._session.host.ndctl)

    @keyword(tags=("dimm", "getter"))
    def get_dimm_firmware(self, dimm: Dimm | str) -> FirmwareState:
        """Return the firmware of a DIMM.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.

        Returns:
            A record with `version` (of the running firmware), `next_version` (of the waiting firmware), `can_update`,
            `activation` (`idle`, `armed` or `busy`) and `needs_power_cycle`. A value that the DIMM does not report is
            None or empty.

        Raises:
            NotFoundError: There is no such DIMM. The message lists the existing DIMMs.

        Example:

        ```robotframework
        *** Test Cases ***
        The DIMM Takes Updates
            ${firmware} =    Get Dimm Firmware    nmem0
            Should Be True    ${firmware.can_update}
        ```
        """
        return self._logged(self._firmware.state(dimm))

    @keyword(tags=("dimm", "getter"))
    def get_firmware_activation(
        self,
        bus: Bus | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return whether a bus can activate firmware and what it needs. Assert it if an operator is given.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected text: the method and the state, e.g. `suspend armed`, or an empty text if the bus
                cannot activate firmware. Methods: `suspend` (the host's tasks and devices stop meanwhile), `live`, and
                `reset` (a reboot). States: `idle` (no DIMM is armed), `armed`, `overflow` (the activation takes longer
                than the bus allows) and `busy`.
            message: Your own failure text.

        Returns:
            The method and the state as one text.

        Raises:
            NotFoundError: There is no such bus. The message lists the existing buses.
            AmbiguousError: Several buses have this provider.
            AssertionError: The text is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Armed
            Get Firmware Activation    ndbus0    ==    suspend idle
        ```
        """
        found = self._firmware.activation(bus)
        return assert_text(_text(found), assertion_operator, expected, f"Activation of {found.dev}", message)

    @keyword(tags=("dimm", "destructive"))
    def update_dimm_firmware(self, dimm: Dimm | str, image: str, *, foreign: bool = False) -> FirmwareState:
        """Send a firmware image to a DIMM, and arm the DIMM for [Activate Firmware].

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            image: The absolute path of the image on the host.
            foreign: Allow a DIMM on a real bus, and a DIMM with namespaces that this run did not make.

        Returns:
            The record of the DIMM's firmware afterwards, as in [Get Dimm Firmware].

        Raises:
            ForeignError: The DIMM is on a real bus or has foreign namespaces, and `foreign` is not set. Or other
                workers have leases on the host.
            InvalidValueError: The path is not absolute.
            UnsupportedError: The DIMM does not support updates.
            CommandError: ndctl or the DIMM refused the image, or no update waits in the DIMM afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        An Update Waits
            ${firmware} =    Update Dimm Firmware    nmem0    /root/firmware.bin
            Should Be Equal    ${firmware.activation}    armed
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        return self._logged(self._firmware.update(found, image))

    @keyword(tags=("dimm", "destructive"))
    def activate_firmware(
        self, bus: Bus | str, *, force: bool = False, idle: bool = True, foreign: bool = False
    ) -> str:
        """Activate the waiting firmware of all armed DIMMs of a bus. The host's tasks and devices may stop meanwhile.

        [Get Firmware Activation] returns what the activation needs.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0`.
            force: Activate even if this takes longer than the bus allows (`overflow`). Transfers of devices may fail.
            idle: Stop the host's devices meanwhile. With `False` the platform must be able to activate live.
            foreign: Allow a real bus, and a bus with namespaces that this run did not make.

        Returns:
            The activation afterwards, as in [Get Firmware Activation].

        Raises:
            ForeignError: The bus is real or has foreign namespaces, and `foreign` is not set. Or other workers
                have leases on the host.
            UnsupportedError: The bus cannot activate firmware, no DIMM is armed, or the activation takes too long and
                `force` is not set. Nothing was changed.
            CommandError: ndctl failed, or a DIMM still waits for its activation.

        Example:

        ```robotframework
        *** Test Cases ***
        The Update Starts
            Activate Firmware    ndbus0
            Get Firmware Activation    ndbus0    ==    suspend idle
        ```
        """
        found = require_own_bus(self._session, bus, foreign=foreign)
        return _text(self._firmware.activate(found, force=force, idle=idle))

    def _logged(self, state: FirmwareState) -> FirmwareState:
        logger.info(f"Firmware of {state.dev}: {state}")
        return state


def _text(found: ActivationState) -> str:
    return f"{found.method} {found.state}".strip()
