"""Keywords that look for media errors and clear them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_namespaces, logger
from VpmemLibrary.pmem.media.scrub import Scrub
from VpmemLibrary.pmem.records import Bus, Namespace


class ScrubKeywords:
    """Scrubs, media errors."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _scrub(self) -> Scrub:
        return self._context.host.scrub

    @keyword(tags=("health", "getter"))
    def get_scrub_state(
        self,
        bus: Bus | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return whether a bus scrubs, and assert it when an operator is given.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.
            assertion_operator: See *Assertions* in the introduction.
            expected: The state that is expected: `idle`, `active`, or `unsupported` for a bus that cannot scrub.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such bus; the message names those that are there.
            AssertionError: It is not as expected.

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
        """Start a scrub of all modules on a bus; one that runs already goes on.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.

        Raises:
            NotFoundError: There is no such bus.
            UnsupportedError: The bus cannot scrub: QEMU's cannot.

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
        """Wait until a bus scrubs no more.

        Args:
            bus: The bus's name or provider, e.g. `ndbus0` or `ACPI.NFIT`.
            timeout: How long it may take; real modules may need hours.

        Raises:
            NotFoundError: There is no such bus.
            UnsupportedError: The bus cannot scrub: QEMU's cannot.
            CommandTimeoutError: It still scrubs.

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
        """Clear the bad blocks of a namespace: what they held is lost, and undefined afterwards.

        Writing over a bad block clears it as well, and leaves known bytes: prefer that. ndctl disables the namespace
        for the time of it, so one that is in use is refused.

        Args:
            namespace: Its record, UUID, name or device name. It must be active, and no `sector` namespace.
            scrub: Look for bad blocks that the kernel does not know yet, with a scrub of the whole bus.
            timeout: How long it may take.
            foreign: Allow it on a namespace that this run did not make.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            UnsupportedError: It is disabled or a sector namespace, or its bus cannot do it: QEMU's cannot.
            BusyError: It is in use; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Mended
            Clear Errors    ns_0
        ```
        """
        before = self._context.own_namespace(namespace, foreign=foreign)
        self._scrub.clear_errors(before, scrub=scrub, timeout=timeout.total_seconds())
        log_namespaces("Cleared of errors", (self._context.host.ndctl.namespace(before),))
