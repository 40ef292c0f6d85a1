"""Keywords for the health of DIMMs, for bad blocks, and for injected errors."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_count, assert_value
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.pmem.media.health import BadBlock, DimmHealth, Health
from VpmemLibrary.pmem.media.injection import Injection
from VpmemLibrary.pmem.records import Dimm, Namespace, Region
from VpmemLibrary.session.dimms import require_own_dimm
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size

UNSAID = -1.0
"""The default that means "do not inject this value". Each value of a DIMM is larger."""


class HealthKeywords:
    """Keywords for health, bad blocks and injections."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _health(self) -> Health:
        return self._session.host.health

    @property
    def _injection(self) -> Injection:
        return self._session.host.injection

    @keyword(tags=("health", "getter"))
    def get_dimm_health(self, dimm: Dimm | str | None = None) -> DimmHealth | tuple[DimmHealth, ...]:
        """Return the health of one DIMM, or of every DIMM of the current host. Show it in the log as one table.

        The values come from ndctl and the kernel. A value that neither reports is None in the record and `absent` in
        the log. Absent does not mean 0 or good. QEMU's NVDIMMs report only their flags.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`. The default is every DIMM of the host.

        Returns:
            A record with `dev`, `state`, `flags` (empty if nothing is wrong), `kernel_flags`, `health_state`,
            `temperature`, `spares`, `life_used`, `alarms`, `shutdown_state`, `dirty_shutdown_count` and more. Without
            `dimm`, a list of such records, which is empty if the host has no DIMM.

        Raises:
            NotFoundError: There is no such DIMM. The message lists the existing DIMMs.

        Example:

        ```robotframework
        *** Test Cases ***
        It Is Armed
            ${health} =    Get Dimm Health    nmem0
            Should Not Contain    ${health.flags}    failed_arm

        Every Dimm Is Healthy
            ${dimms} =    Get Dimm Health
            FOR    ${health}    IN    @{dimms}
                Should Be Empty    ${health.flags}
            END
        ```
        """
        if dimm is not None:
            return self._logged(self._health.dimm(dimm))
        healths = self._health.dimms()
        self._log(healths)
        return healths

    @keyword(tags=("health", "getter"))
    def get_dirty_shutdown_count(
        self,
        dimm: Dimm | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the number of dirty shutdowns of a DIMM, and assert it if an operator is given.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            NotFoundError: There is no such DIMM.
            UnsupportedError: Neither the DIMM nor the kernel has a count, as on QEMU. A missing count is not 0.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        No Shutdown Was Dirty
            Get Dirty Shutdown Count    nmem0    ==    0
        ```
        """
        count = self._health.dirty_shutdown_count(dimm)
        name = dimm if isinstance(dimm, str) else dimm.dev
        return assert_value(count, assertion_operator, expected, f"Dirty-shutdown count of {name}", message)

    @keyword(tags=("health", "getter"))
    def get_bad_blocks(
        self,
        where: Namespace | Region | Dimm | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the bad blocks of a namespace, a region or a DIMM, and show them in the log.

        With an operator, also assert the number of bad ranges.

        Args:
            where: The record or the name of a region, a DIMM or a namespace, e.g. `region0` or `nmem0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            Records with `offset` and `length` in bytes, and `dimms`. For a namespace, offsets count from its first
            usable byte (for a sector namespace: from its first byte). Otherwise offsets count from the start of the
            region.

        Raises:
            NotFoundError: The region, DIMM or namespace does not exist.
            UnsupportedError: The kernel keeps no list of bad blocks for the region.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Bad
            Get Bad Blocks    ns_0    ==    0
        ```
        """
        bad_blocks = self._health.bad_blocks(where)
        name = where if isinstance(where, str) else where.dev
        rows = ((bad.offset, bad.length, " ".join(bad.dimms) or "-") for bad in bad_blocks)
        log_table(f"Bad blocks of {name}: {len(bad_blocks)}", ("offset", "length", "DIMMs"), rows)
        return assert_count(bad_blocks, assertion_operator, expected, f"Number of bad blocks of {name}", message)

    @keyword(tags=("health", "assertion"))
    def dimm_health_views_should_agree(self, dimm: Dimm | str) -> None:
        """Fail unless ndctl and sysfs agree about a DIMM.

        The keyword compares state, flags, handle, ids, the dirty-shutdown count and the bad blocks of the DIMM's
        regions. A value that is absent in both views counts as equal. The log has the table.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.

        Raises:
            NotFoundError: There is no such DIMM.
            ViewsDisagreeError: The views differ. The message is a table in which the differing cells are marked.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same In Both
            Dimm Health Views Should Agree    nmem0
        ```
        """
        agreement = self._health.views(dimm)
        log_table(f"Views of {agreement.subject}", agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()

    @keyword(tags=("health", "destructive"))
    def inject_error(
        self, namespace: Namespace | str, *, offset: Size, length: Size, foreign: bool = False
    ) -> tuple[BadBlock, ...]:
        """Inject an error that makes a range of a namespace unreadable.

        The bus must support error injection: a bus with such firmware, or `nfit_test`.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            offset: The start of the range, in bytes from the first usable byte; a multiple of 512.
            length: The length of the range in bytes; a multiple of 512.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The bad blocks of the namespace afterwards.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            InvalidValueError: The range is not aligned to sectors, or goes beyond the end of the namespace. Nothing was
                changed.
            UnsupportedError: The bus has no error injection, like QEMU's bus. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        A Bad Page
            Inject Error    ns_0    offset=1MiB    length=4KiB
            Get Bad Blocks    ns_0    ==    1
        ```
        """
        return self._injection.inject_error(self._owned(namespace, foreign), offset, length)

    @keyword(tags=("health", "destructive"))
    def uninject_error(
        self, namespace: Namespace | str, *, offset: Size, length: Size, foreign: bool = False
    ) -> tuple[BadBlock, ...]:
        """Remove an injected error. The kernel removes a bad block from its list only after a write to it.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            offset: The start of the range, in bytes from the first usable byte; a multiple of 512.
            length: The length of the range in bytes; a multiple of 512.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The bad blocks that the namespace still has.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The bus has no error injection. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Taken Back
            Uninject Error    ns_0    offset=1MiB    length=4KiB
        ```
        """
        return self._injection.uninject_error(self._owned(namespace, foreign), offset, length)

    @keyword(tags=("health", "destructive"))
    def inject_smart(
        self,
        dimm: Dimm | str,
        *,
        temperature: float = UNSAID,
        controller_temperature: float = UNSAID,
        spares: int = int(UNSAID),
        fatal: bool = False,
        unsafe_shutdown: bool = False,
        foreign: bool = False,
    ) -> DimmHealth:
        """Inject SMART values into a DIMM.

        The bus must support injection: a bus with such firmware, or `nfit_test`.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            temperature: The media temperature in whole degrees Celsius. ndctl drops a fraction of a degree.
            controller_temperature: The controller temperature in whole degrees Celsius. `nfit_test` does not accept it.
            spares: The remaining spare capacity in per cent.
            fatal: Set the health state to fatal.
            unsafe_shutdown: Mark the last shutdown as dirty.
            foreign: Allow a DIMM on a real bus, and a DIMM with namespaces that this run did not make.

        Returns:
            The record of the DIMM after the injection, as in [Get Dimm Health].

        Raises:
            ForeignError: The DIMM is on a real bus or has foreign namespaces, and `foreign` is not set.
            ForeignError: Other workers have leases on the host. This is an error even if `foreign` is set.
            InvalidValueError: No value to inject is given, or a value is invalid.
            UnsupportedError: The DIMM does not support injection, like QEMU's DIMMs. Nothing was changed.
            CommandError: ndctl failed, or a value that was read back differs.

        Example:

        ```robotframework
        *** Test Cases ***
        Hot
            ${health} =    Inject Smart    nmem0    temperature=90    foreign=True
            Should Contain    ${health.alarms}    temperature
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        after = self._injection.inject_smart(
            found,
            temperature=None if temperature == UNSAID else temperature,
            controller_temperature=None if controller_temperature == UNSAID else controller_temperature,
            spares=None if spares == UNSAID else spares,
            fatal=fatal,
            unsafe_shutdown=unsafe_shutdown,
        )
        return self._logged(after)

    @keyword(tags=("health", "destructive"))
    def uninject_smart(self, dimm: Dimm | str, *, foreign: bool = False) -> DimmHealth:
        """Remove the injected SMART values from a DIMM.

        Args:
            dimm: The DIMM's record or name, e.g. `nmem0`.
            foreign: As in [Inject Smart].

        Returns:
            The record of the DIMM after the change, as in [Get Dimm Health].

        Raises:
            ForeignError: As in [Inject Smart].
            UnsupportedError: The DIMM does not support injection.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Own Again
            Uninject Smart    nmem0    foreign=True
        ```
        """
        found, _ = require_own_dimm(self._session, dimm, foreign=foreign)
        self._injection.uninject_smart(found)
        return self._logged(self._health.dimm(found))

    def _owned(self, namespace: Namespace | str, foreign: bool) -> Namespace:
        found = self._session.host.ndctl.namespace(namespace)
        if not foreign:
            self._session.run.require_own(found)
        return found

    def _logged(self, health: DimmHealth) -> DimmHealth:
        self._log((health,))
        return health

    def _log(self, healths: tuple[DimmHealth, ...]) -> None:
        columns = [health.as_rows() for health in healths]
        log_table(
            f"Health of {self._session.host.alias}",
            ("", *(health.dev for health in healths)),
            ((row[0][0], *(value for _, value in row)) for row in zip(*columns, strict=True)),
        )
