"""Keywords that scan for media errors and clear them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.log import log_namespaces, logger
from VpmemLibrary.pmem.media.scrub import Scrub
from VpmemLibrary.pmem.records import Bus, Namespace
from VpmemLibrary.session.session import Session


class ScrubKeywords:
    """Keywords for scrubs and media errors."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _scrub(self) -> Scrub:
        return self._session.host.scrub

    @keyword(tags=("health", "getter"))
    def get_scrub_state(
        self,
        bus: Bus | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the scrub state of a bus, and assert it if an operator is given.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected state: `idle`, `active`, or `unsupported` for a bus that cannot scrub.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such bus. The message lists the existing buses.
            AmbiguousError: Several buses have this provider.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        No Scrub Is Under Way
            Get Scrub State    ACPI.NFIT    !=    active
        ```
        """
        state = str(self._scrub.state(bus))
        name = bus if isinstance(bus, str) else bus.dev
        return assert_text(state, assertion_operator, expected, f"Scrub state of {name}", message)

    @keyword(tags=("health",))
    def start_scrub(self, bus: Bus | str) -> None:
        """Start a scrub of all DIMMs on a bus. Do nothing if a scrub is already active.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.

        Raises:
            NotFoundError: There is no such bus.
            AmbiguousError: Several buses have this provider.
            UnsupportedError: The bus cannot scrub, like QEMU's bus.

        Example:

        ```robotframework
        *** Test Cases ***
        Scrubbed
            Start Scrub    ndbus0
            Wait For Scrub    ndbus0    timeout=1 hour
        ```
        """
        self._scrub.start(bus)
        logger.info(f"Scrub state: {self._scrub.state(bus)}.")

    @keyword(tags=("health",))
    def wait_for_scrub(self, bus: Bus | str, *, timeout: timedelta = timedelta(minutes=10)) -> None:
        """Wait until the scrub of a bus has finished.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.
            timeout: How long to wait. Real DIMMs may need hours.

        Raises:
            NotFoundError: There is no such bus.
            AmbiguousError: Several buses have this provider.
            UnsupportedError: The bus cannot scrub, like QEMU's bus.
            CommandTimeoutError: The scrub did not finish within `timeout`.

        Example:

        ```robotframework
        *** Test Cases ***
        Scrubbed
            Wait For Scrub    ndbus0    timeout=1 hour
        ```
        """
        self._scrub.wait(bus, timeout=timeout.total_seconds())
        logger.info(f"Scrub state: {self._scrub.state(bus)}.")

    @keyword(tags=("health", "destructive"))
    def clear_errors(
        self,
        namespace: Namespace | str,
        *,
        scrub: bool = False,
        timeout: timedelta = timedelta(minutes=10),
        foreign: bool = False,
    ) -> None:
        """Clear the bad blocks of a namespace. Their content is lost and undefined afterwards.

        ndctl disables the namespace while it clears the bad blocks. The keyword therefore refuses a namespace that is
        in use. A write to a bad block also clears the block, and leaves known content. Prefer a write where possible.

        Args:
            namespace: The namespace's record, UUID, name or device name. The namespace must be active, and must not be
                a `sector` namespace.
            scrub: First scrub the whole bus, to find bad blocks that the kernel does not know yet.
            timeout: How long the keyword may take.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The namespace is disabled, or is a `sector` namespace, or is on a bus that cannot clear
                errors, like QEMU's bus.
            BusyError: The namespace is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Cleared
            Clear Errors    ns_0
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        self._scrub.clear_errors(before, scrub=scrub, timeout=timeout.total_seconds())
        log_namespaces("Cleared of errors", (self._session.host.ndctl.namespace(before),))
