"""Keywords for the health of DIMMs, for bad blocks, and for what is injected into them."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import ForeignError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_value
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table
from VpmemLibrary.pmem.media.health import BadBlock, DimmHealth, Health
from VpmemLibrary.pmem.media.injection import TEST_BUS, Injection
from VpmemLibrary.pmem.records import Dimm, Namespace, Region
from VpmemLibrary.sizes import Size

UNSAID = -1.0
"""Stands for a value that is not injected: no DIMM is so cold, and no share is so small."""


class HealthKeywords:
    """Health, bad blocks, injections."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _health(self) -> Health:
        return self._context.host.health

    @property
    def _injection(self) -> Injection:
        return self._context.host.injection

    @keyword(tags=("health", "getter"))
    def get_dimm_health(self, dimm: Dimm | str) -> DimmHealth:
        """Return how one DIMM is, as ndctl and the kernel tell it, and show it in the log.

        What neither tells is None in the record and `absent` in the log: it is not 0 and not good. QEMU's NVDIMMs tell
        their flags and nothing else.

        Args:
            dimm: Its record or name, e.g. `nmem0`.

        Returns:
            A record with `state`, `flags` (empty when nothing is wrong), `kernel_flags`, `health_state`,
            `temperature`, `spares`, `life_used`, `alarms`, `shutdown_state`, `dirty_shutdown_count` and more.

        Raises:
            NotFoundError: There is no such DIMM; the message names those that are there.

        Example:

        ```robotframework
        *** Test Cases ***
        It Is Armed
            ${health} =    Get Dimm Health    nmem0
            Should Not Contain    ${health.flags}    failed_arm
        ```
        """
        health = self._health.dimm(dimm)
        self._log((health,))
        return health

    @keyword(tags=("health", "getter"))
    def get_health(self) -> tuple[DimmHealth, ...]:
        """Return how every DIMM of the current host is, and show it in the log as one table.

        Returns:
            Records as of [Get Dimm Health]; empty when the host has no DIMM.

        Example:

        ```robotframework
        *** Test Cases ***
        No Dimm Is In A Bad Way
            ${dimms} =    Get Health
            FOR    ${dimm}    IN    @{dimms}
                Should Be Empty    ${dimm.flags}
            END
        ```
        """
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
        """Return how many shutdowns of a DIMM were dirty, and assert it when an operator is given.

        Args:
            dimm: Its record or name, e.g. `nmem0`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            NotFoundError: There is no such DIMM.
            UnsupportedError: Neither the DIMM nor the kernel has a count, as on QEMU. It is not 0.
            AssertionError: It is not as expected.

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
    def get_bad_blocks(self, where: Namespace | Region | Dimm | str) -> tuple[BadBlock, ...]:
        """Return the bad blocks of a namespace, a region or a DIMM, and show them in the log.

        Args:
            where: A record or a name: `region0`, `nmem0`, or a namespace's.

        Returns:
            Records with `offset` and `length` in bytes, and `dimms`. Offsets count from a namespace's first usable
            byte (of a sector namespace: from where it begins), and otherwise from the beginning of the region.

        Raises:
            NotFoundError: It is not there.
            UnsupportedError: The kernel keeps no list of bad blocks for the region.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Bad
            ${bad} =    Get Bad Blocks    ns_0
            Should Be Empty    ${bad}
        ```
        """
        bad_blocks = self._health.bad_blocks(where)
        name = where if isinstance(where, str) else where.dev
        rows = ((bad.offset, bad.length, " ".join(bad.dimms) or "-") for bad in bad_blocks)
        log_table(f"Bad blocks of {name}: {len(bad_blocks)}", ("offset", "length", "DIMMs"), rows)
        return bad_blocks

    @keyword(tags=("health", "getter"))
    def get_bad_block_count(
        self,
        where: Namespace | Region | Dimm | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many pieces of a namespace, a region or a DIMM are bad, and assert it when an operator is given.

        Args:
            where: A record or a name: `region0`, `nmem0`, or a namespace's.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number of records that [Get Bad Blocks] returns.

        Raises:
            NotFoundError: It is not there.
            UnsupportedError: The kernel keeps no list of bad blocks for the region.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Nothing Is Bad
            Get Bad Block Count    region0    ==    0
        ```
        """
        count = len(self.get_bad_blocks(where))
        name = where if isinstance(where, str) else where.dev
        return assert_value(count, assertion_operator, expected, f"Number of bad blocks of {name}", message)

    @keyword(tags=("health", "assertion"))
    def dimm_health_views_should_agree(self, dimm: Dimm | str) -> None:
        """Fail unless ndctl and sysfs say the same of a DIMM.

        Compared are state, flags, handle, ids, the dirty-shutdown count and the bad blocks of its regions. The log has
        the table; what is absent in both agrees.

        Args:
            dimm: Its record or name, e.g. `nmem0`.

        Raises:
            NotFoundError: There is no such DIMM.
            ViewsDisagreeError: They differ; the message is the table with the differing cells marked.

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
        """Make a piece of a namespace unreadable, on a bus that can: firmware that offers it, or `nfit_test`.

        Args:
            namespace: Its record, UUID, name or device name.
            offset: Where, in bytes from its first usable one; a multiple of 512.
            length: How many bytes; a multiple of 512.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The bad blocks that the namespace then has.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            InvalidValueError: The range is not in sectors, or reaches past the end; nothing was changed.
            UnsupportedError: The bus has no error injection, as QEMU's; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        A Bad Page
            Inject Error    ns_0    offset=1MiB    length=4KiB
            Get Bad Block Count    ns_0    ==    1
        ```
        """
        return self._injection.inject_error(self._owned(namespace, foreign), offset, length)

    @keyword(tags=("health", "destructive"))
    def uninject_error(
        self, namespace: Namespace | str, *, offset: Size, length: Size, foreign: bool = False
    ) -> tuple[BadBlock, ...]:
        """Take an injected error back. The kernel forgets a bad block only when it is written to.

        Args:
            namespace: Its record, UUID, name or device name.
            offset: Where, in bytes from its first usable one; a multiple of 512.
            length: How many bytes; a multiple of 512.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The bad blocks that the namespace still has.

        Raises:
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The bus has no error injection; nothing was changed.

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
        """Give a DIMM SMART values that it has not, on a bus that can: firmware that offers it, or `nfit_test`.

        Args:
            dimm: Its record or name, e.g. `nmem0`.
            temperature: Of the media, in degrees Celsius; DIMMs keep sixteenths.
            controller_temperature: Of the controller, in degrees Celsius; `nfit_test` takes none.
            spares: The spare capacity that is left, in per cent.
            fatal: Make its health fatal.
            unsafe_shutdown: Make its last shutdown dirty.
            foreign: Allow it on a DIMM of a real bus: no run makes a DIMM.

        Returns:
            The record of [Get Dimm Health] afterwards.

        Raises:
            ForeignError: Its bus is not `nfit_test`, and `foreign` is not set.
            InvalidValueError: Nothing is to be injected.
            UnsupportedError: The DIMM takes no injection, as QEMU's; nothing was changed.
            CommandError: ndctl failed, or a value is not read back afterwards.

        Example:

        ```robotframework
        *** Test Cases ***
        Hot
            ${health} =    Inject Smart    nmem0    temperature=90    foreign=True
            Should Contain    ${health.alarms}    temperature
        ```
        """
        after = self._injection.inject_smart(
            self._free_to_inject(dimm, foreign),
            temperature=None if temperature == UNSAID else temperature,
            controller_temperature=None if controller_temperature == UNSAID else controller_temperature,
            spares=None if spares == UNSAID else spares,
            fatal=fatal,
            unsafe_shutdown=unsafe_shutdown,
        )
        self._log((after,))
        return after

    @keyword(tags=("health", "destructive"))
    def uninject_smart(self, dimm: Dimm | str, *, foreign: bool = False) -> DimmHealth:
        """Give a DIMM its own SMART values back.

        Args:
            dimm: Its record or name, e.g. `nmem0`.
            foreign: Allow it on a DIMM of a real bus.

        Returns:
            The record of [Get Dimm Health] afterwards.

        Raises:
            ForeignError: Its bus is not `nfit_test`, and `foreign` is not set.
            UnsupportedError: The DIMM takes no injection.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Own Again
            Uninject Smart    nmem0    foreign=True
        ```
        """
        found = self._free_to_inject(dimm, foreign)
        self._injection.uninject_smart(found)
        after: DimmHealth = self.get_dimm_health(found)
        return after

    def _owned(self, namespace: Namespace | str, foreign: bool) -> Namespace:
        found = self._context.host.ndctl.namespace(namespace)
        if not foreign:
            self._context.run.require_own(found)
        return found

    def _free_to_inject(self, dimm: Dimm | str, foreign: bool) -> Dimm:
        ndctl = self._context.host.ndctl
        found = ndctl.dimm(dimm)
        provider = next(bus.provider for bus in ndctl.inventory().buses for each in bus.dimms if each.dev == found.dev)
        if not foreign and not provider.startswith(TEST_BUS):
            raise ForeignError(
                f"DIMM {found.dev} on {self._context.host.alias} is of the real bus {provider}: no run made it. It was "
                "left as it is. Say foreign=True to inject into it all the same."
            )
        return found

    def _log(self, healths: tuple[DimmHealth, ...]) -> None:
        columns = [health.as_rows() for health in healths]
        log_table(
            f"Health of {self._context.host.alias}",
            ("", *(health.dev for health in healths)),
            ((row[0][0], *(value for _, value in row)) for row in zip(*columns, strict=True)),
        )
