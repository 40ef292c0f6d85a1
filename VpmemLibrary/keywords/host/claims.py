"""Keywords that set which namespaces may be claimed, claim namespaces, and release claims."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.claims.claims import Claim, ClaimRequest, Fleet
from VpmemLibrary.claims.setting import resource_class
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_value
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size


class ClaimKeywords:
    """The setting, the claims, and their holders."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("claim",))
    def set_pmem_namespaces(self, setting: str, *, foreign: bool = False) -> dict[str, list[Namespace]]:
        """Set which namespaces of the current host may be claimed under which label, as Nova's `pmem_namespaces` does.

        A setting that Nova refuses is refused here, with its own message for each mistake. This keyword also refuses
        settings that Nova accepts but that fail later:

        - a namespace that is not devdax, or is disabled
        - a name that two namespaces have
        - two labels with the same resource class
        - a setting that leaves out a namespace that this run has claimed under a label now

        Args:
            setting: `label:namespace[|namespace...]`, separated by commas: `4GB:ns_0,SMALL:ns_1|ns_2`. A label may
                occur more than once. Spaces inside a name are part of the name. An empty setting removes all labels.
            foreign: Allow namespaces that this run did not make. Claimed namespaces are written to and wiped.

        Returns:
            For each label, the records of its namespaces, in order.

        Raises:
            InvalidValueError: The setting breaks a rule. The message says which rule, and what is valid.
            NotFoundError: A namespace is not on the host. The message lists the namespaces of the host.
            AmbiguousError: Two namespaces of the host have the same name.
            ForeignError: This run did not make one of the namespaces, and `foreign` is not set.

        Example:

        ```robotframework
        *** Test Cases ***
        As In Nova's Own Test
            Set Pmem Namespaces    4GB:ns_0,SMALL:ns_1|ns_2
            Get Pmem Total    SMALL    ==    2
        ```
        """
        opened = self._session.current
        found = opened.tenancy.claims.set_setting(setting, foreign=foreign)
        if found:
            self._show(opened)
        return {label: list(namespaces) for label, namespaces in found.items()}

    @keyword(tags=("claim", "destructive"))
    def create_pmem_namespaces(self, setting: str, **sizes: Size) -> dict[str, list[Namespace]]:
        """Create the namespaces of a setting that the current host does not have, and use the setting.

        Use this keyword on a host without namespaces. The new namespaces are devdax with the page map in memory, as
        Nova's operators make them. They carry this run's mark and hold zeros.

        Args:
            setting: As in [Set Pmem Namespaces].
            sizes: For each label, the size that each of its namespaces takes from a region, as in [Create Namespace]:
                `SMALL=at least 64MiB`.

        Returns:
            For each label, the records of its namespaces, in order.

        Raises:
            InvalidValueError: The setting breaks a rule, or a label has no size.
            ForeignError: A namespace on the host has one of the names, and this run did not make it.
            OutOfSpaceError: No region has enough free space.

        Example:

        ```robotframework
        *** Test Cases ***
        On A Bare Host
            Create Pmem Namespaces    4GB:ns_0,SMALL:ns_1|ns_2    4GB=at least 128MiB    SMALL=at least 64MiB
        ```
        """
        opened = self._session.current
        found = opened.tenancy.claims.make(setting, sizes)
        self._show(opened)
        return {label: list(namespaces) for label, namespaces in found.items()}

    @keyword(tags=("claim", "getter"))
    def get_pmem_total(
        self,
        label: str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many namespaces of the current host have a label. Assert it when an operator is given.

        Args:
            label: A label of the setting.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            InvalidValueError: The setting has no such label.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Totals
            Get Pmem Total    SMALL    ==    2
        ```
        """
        claims = self._session.current.tenancy.claims
        claims.setting.require_label(label)
        return assert_value(claims.totals()[label], assertion_operator, expected, f"Namespaces of {label}", message)

    @keyword(tags=("claim", "getter"))
    def get_pmem_used(
        self,
        label: str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many namespaces of a label are claimed, by any worker. Assert it when an operator is given.

        The number is read from the host itself. It includes namespaces that nobody can claim immediately: namespaces
        that a dead worker left, and unfit namespaces, which could not be wiped.

        Args:
            label: A label of the setting.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            InvalidValueError: The setting has no such label.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        One Of Two
            Claim Namespaces    SMALL
            Get Pmem Used    SMALL    ==    1
        ```
        """
        claims = self._session.current.tenancy.claims
        claims.setting.require_label(label)
        return assert_value(claims.used()[label], assertion_operator, expected, f"Namespaces claimed: {label}", message)

    @keyword(tags=("claim",))
    def claim_namespaces(
        self,
        *labels: str,
        name: str = "",
        size: Size = ALL,
        mode: NamespaceMode | None = None,
        node: int | None = None,
        anywhere: bool = False,
        foreign: bool = False,
    ) -> list[Claim]:
        """Claim namespaces for this worker alone, until the claims are released.

        The keyword claims one namespace for each label, in this order, all on one host. It claims all of them or none.
        Without labels, it claims one namespace that has the other requested properties.

        A claim is a lease on the namespace's UUID. The host's own kernel holds the lease for this worker's connection.
        No other worker gets the namespace, on any machine. If this worker dies, the lease is free immediately. Content
        that a dead worker left in a namespace is wiped before the namespace can be claimed again.

        Args:
            labels: Labels of the setting. A label that is given twice claims two namespaces.
            name: The name of each namespace.
            size: The usable size of each namespace. `all` accepts any size.
            mode: The mode of each namespace.
            node: The NUMA node of each namespace.
            anywhere: Claim the namespaces on any of the open hosts, instead of the current host.
            foreign: Allow a namespace that this run did not make and that is not in a setting. Not valid together with
                labels.

        Returns:
            The claims, in the order of the labels. Each has `host`, `namespace` and `label`.

        Raises:
            InvalidValueError: No label and no property is given, the setting has no such label, or there are not enough
                namespaces with the requested properties. Nothing was claimed, and waiting does not help.
            ExhaustedError: All namespaces with these properties are claimed. The message names the holders, and says
                since when. Nothing was claimed.

        Example:

        ```robotframework
        *** Test Cases ***
        In Order
            ${claims} =    Claim Namespaces    SMALL    4GB    SMALL
            Should Be Equal    ${claims[1].label}    4GB

        By Size
            ${claims} =    Claim Namespaces    size=62MiB    mode=devdax
            Write Pattern    ${claims[0].namespace}    seed=mine
            Release Claims    @{claims}
        ```
        """
        if not labels and not name and size is ALL and mode is None and node is None:
            raise InvalidValueError("labels", "", "at least one label, or a name, size, mode or node")
        wanted = None if size is ALL else size
        requests = tuple(ClaimRequest(label, name, wanted, mode, node) for label in labels or ("",))
        opened = self._session.current
        if not anywhere:
            claims = opened.tenancy.claims.claim(requests, foreign=foreign)
        else:
            hosts = [self._session.find(alias) for alias in self._session.aliases]
            having = [host for host in hosts if _has(host, requests)]
            suitable = [host.tenancy.claims.prepare(requests, foreign=foreign) for host in having]
            claims = Fleet(suitable, self._session.run.run_id).claim(requests)
            self._session.find(claims[0].host).tenancy.claims.keep(claims)
        logger.info(f"Claimed: {', '.join(map(str, claims))}.")
        return list(claims)

    @keyword(tags=("claim", "destructive"))
    def release_claims(self, *claims: Claim, wipe: bool = True) -> None:
        """Release claims of this worker. Wipe each namespace first, and check the wipe by reading.

        A namespace that cannot be wiped becomes unfit: nobody can claim it until it is wiped.
        [Clean Up After Dead Runs] tries to wipe it again.

        Args:
            claims: The claims.
            wipe: Whether to wipe the namespaces. Without the wipe, the next worker finds their content.

        Raises:
            BusyError: A namespace is in use. It is unfit now.
            LeaseLostError: A claim was lost because its connection broke. Nothing was wiped.
            CommandError: The wipe failed. The namespace is unfit now.

        Example:

        ```robotframework
        *** Test Cases ***
        Back
            ${claims} =    Claim Namespaces    SMALL
            Release Claims    @{claims}
        ```
        """
        for alias in dict.fromkeys(claim.host for claim in claims):
            opened = self._session.find(alias)
            opened.tenancy.claims.release([claim for claim in claims if claim.host == alias], wipe=wipe)
        logger.info(f"Released: {', '.join(map(str, claims)) or 'nothing'}.")

    @keyword(tags=("claim", "getter"))
    def get_claims(self) -> list[Claim]:
        """Return this worker's claims on the current host, and show the holders of all claims there in the log.

        Returns:
            This worker's claims, in the order of claiming. Each claim has its namespace as it is now.

        Example:

        ```robotframework
        *** Test Cases ***
        Mine
            ${claims} =    Get Claims
            Should Be Empty    ${claims}
        ```
        """
        opened = self._session.current
        self._show(opened)
        return [opened.tenancy.claims.now(claim) for claim in opened.tenancy.claims.claims]

    def _show(self, opened: OpenHost) -> None:
        totals, used = opened.tenancy.claims.totals(), opened.tenancy.claims.used()
        log_table(
            f"Namespaces that may be claimed on {opened.host.alias}",
            ("label", "resource class", "total", "held"),
            ((label, resource_class(label), totals[label], used[label]) for label in totals),
        )
        log_table(
            f"Claims on {opened.host.alias}",
            ("namespace", "UUID", "state"),
            ((name, entry.key, entry.description) for entry, name in opened.tenancy.claims.holders()),
        )


def _has(opened: OpenHost, requests: tuple[ClaimRequest, ...]) -> bool:
    return all(not request.label or request.label in opened.tenancy.claims.setting.labels for request in requests)
