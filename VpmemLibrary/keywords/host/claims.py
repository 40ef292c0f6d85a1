"""Keywords that say which namespaces may be claimed, claim them, and give them back."""

from __future__ import annotations

from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.claims.claims import Claim, Fleet, Wish
from VpmemLibrary.claims.setting import resource_class
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_value
from VpmemLibrary.keywords.support.context import Context, OpenHost
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.sizes import ALL, Size


class ClaimKeywords:
    """The setting, claims, and who holds what."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("claim",))
    def set_pmem_namespaces(self, setting: str, *, foreign: bool = False) -> dict[str, list[Namespace]]:
        """Say which namespaces of the current host may be claimed under which label, as Nova's `pmem_namespaces` does.

        What Nova refuses is refused, each mistake with its own message; so is what Nova takes and fails over later: a
        namespace that is not devdax or is disabled, a name that two namespaces have, two labels that are one resource
        class, and leaving out a namespace that this run holds under a label now.

        Args:
            setting: `label:namespace[|namespace...]`, separated by commas: `4GB:ns_0,SMALL:ns_1|ns_2`. A label may
                come again. Blanks inside are part of a name. An empty setting takes all labels away.
            foreign: Allow namespaces that this run did not make. Claimed ones are written to and wiped.

        Returns:
            For each label its namespaces' records, in order.

        Raises:
            InvalidValueError: The setting breaks a rule; the message says which, and what would be valid.
            NotFoundError: A namespace is not on the host; the message names those that are.
            AmbiguousError: Two namespaces of the host have the name.
            ForeignError: This run did not make one of them, and `foreign` is not set.

        Example:

        ```robotframework
        *** Test Cases ***
        As In Nova's Own Test
            Set Pmem Namespaces    4GB:ns_0,SMALL:ns_1|ns_2
            Get Pmem Total    SMALL    ==    2
        ```
        """
        opened = self._context.current
        found = opened.claims.set_setting(setting, foreign=foreign)
        if found:
            self._show(opened)
        return {label: list(namespaces) for label, namespaces in found.items()}

    @keyword(tags=("claim", "destructive"))
    def create_pmem_namespaces(self, setting: str, **sizes: Size) -> dict[str, list[Namespace]]:
        """Make what a setting names and the current host does not have, and use the setting: for a bare host.

        The namespaces are devdax with the page map in memory, as Nova's operators make them, carry this run's mark, and
        hold zeros.

        Args:
            setting: As in [Set Pmem Namespaces].
            sizes: For each label, by its name, what each of its namespaces takes from its region, as [Create Namespace]
                has it: `SMALL=at least 64MiB`.

        Returns:
            For each label its namespaces' records, in order.

        Raises:
            InvalidValueError: The setting breaks a rule, or a label has no size.
            ForeignError: The host has one of the names, and this run did not make it.
            OutOfSpaceError: No region has the room.

        Example:

        ```robotframework
        *** Test Cases ***
        On A Bare Host
            Create Pmem Namespaces    4GB:ns_0,SMALL:ns_1|ns_2    4GB=at least 128MiB    SMALL=at least 64MiB
        ```
        """
        opened = self._context.current
        found = opened.claims.make(setting, sizes)
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
        """Return how many namespaces of the current host have a label, and assert it when an operator is given.

        Args:
            label: The label, as the setting has it.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            InvalidValueError: The setting has no such label.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Totals
            Get Pmem Total    SMALL    ==    2
        ```
        """
        claims = self._context.current.claims
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
        """Return how many namespaces of a label are held, by whichever worker, and assert it when an operator is given.

        It is read from the host itself. One that was left by a dead worker, or is unfit as it could not be wiped,
        counts as held: nobody has it for the asking.

        Args:
            label: The label, as the setting has it.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number.

        Raises:
            InvalidValueError: The setting has no such label.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        One Of Two
            ${claim} =    Claim Namespace    label=SMALL
            Get Pmem Used    SMALL    ==    1
        ```
        """
        claims = self._context.current.claims
        claims.setting.require_label(label)
        return assert_value(claims.used()[label], assertion_operator, expected, f"Held namespaces of {label}", message)

    @keyword(tags=("claim",))
    def claim_namespace(
        self,
        *,
        label: str = "",
        name: str = "",
        size: Size = ALL,
        mode: NamespaceMode | None = None,
        node: int | None = None,
        anywhere: bool = False,
        foreign: bool = False,
    ) -> Claim:
        """Claim one namespace that is what is asked for, for this worker alone, until it is given back.

        A claim is a lease that the host's own kernel holds for this worker's connection, by the namespace's UUID. No
        other worker gets the namespace, on whatever machine it runs; and when this worker dies, the lease is free at
        once. What a dead worker left in a namespace is wiped before it is handed out again.

        Args:
            label: Its label in the setting.
            name: Its name.
            size: Its usable size; `all` for any.
            mode: Its mode.
            node: Its NUMA node.
            anywhere: Claim on whichever of the open hosts has one, instead of the current host.
            foreign: Claim what this run did not make and no setting names; not together with `label`.

        Returns:
            The claim: `host`, `namespace`, `label`.

        Raises:
            InvalidValueError: Nothing there could ever be what is asked for.
            ExhaustedError: All that is of that kind is held: the message says by whom and since when.

        Example:

        ```robotframework
        *** Test Cases ***
        By Size
            ${claim} =    Claim Namespace    size=62MiB    mode=devdax
            Write Pattern    ${claim.namespace}    seed=mine
            Release Claims    ${claim}
        ```
        """
        wish = Wish(label, name, None if size is ALL else size, mode, node)
        (claim,) = self._claim((wish,), anywhere, foreign)
        return claim

    @keyword(tags=("claim",))
    def claim_namespaces(self, *labels: str, anywhere: bool = False) -> list[Claim]:
        """Claim one namespace for each label, in their order, all on one host: all of them or none.

        Args:
            labels: Labels of the setting; one that comes twice is two namespaces.
            anywhere: Claim on whichever of the open hosts has them, instead of the current host.

        Returns:
            The claims, in the order of the labels.

        Raises:
            InvalidValueError: The setting has no such label, or not so many namespaces of it.
            ExhaustedError: All of a label are held: the message says by whom and since when. None was claimed.

        Example:

        ```robotframework
        *** Test Cases ***
        In Order
            ${claims} =    Claim Namespaces    SMALL    4GB    SMALL
            Should Be Equal    ${claims[1].label}    4GB
        ```
        """
        return list(self._claim(tuple(map(Wish, labels)), anywhere, False))

    @keyword(tags=("claim", "destructive"))
    def release_claims(self, *claims: Claim, wipe: bool = True) -> None:
        """Give namespaces back that this worker claimed; each is wiped before, and the wiping is proven by reading.

        One that cannot be wiped is not handed out to anybody until it could be ([Reclaim What Dead Runs Left] tries).

        Args:
            claims: The claims.
            wipe: Whether to wipe; without it the next one finds what they hold.

        Raises:
            BusyError: A namespace is in use: it is unfit now.
            LeaseLostError: A claim was lost with the connection that held it; nothing was wiped.
            CommandError: Wiping failed: the namespace is unfit now.

        Example:

        ```robotframework
        *** Test Cases ***
        Back
            ${claim} =    Claim Namespace    label=SMALL
            Release Claims    ${claim}
        ```
        """
        for alias in dict.fromkeys(claim.host for claim in claims):
            opened = self._context.find(alias)
            opened.claims.release([claim for claim in claims if claim.host == alias], wipe=wipe)
        logger.info(f"Gave back: {', '.join(map(str, claims)) or 'nothing'}.")

    @keyword(tags=("claim", "getter"))
    def get_claims(self) -> list[Claim]:
        """Return what this worker has claimed on the current host, and show in the log who holds what there.

        Returns:
            This worker's claims, in the order of claiming, each with its namespace as it is now.

        Example:

        ```robotframework
        *** Test Cases ***
        Mine
            ${claims} =    Get Claims
            Should Be Empty    ${claims}
        ```
        """
        opened = self._context.current
        self._show(opened)
        return [opened.claims.now(claim) for claim in opened.claims.claims]

    def _claim(self, wishes: tuple[Wish, ...], anywhere: bool, foreign: bool) -> tuple[Claim, ...]:
        opened = self._context.current
        if not anywhere:
            claims = opened.claims.claim(wishes, foreign=foreign)
        else:
            hosts = [self._context.find(alias) for alias in self._context.aliases]
            able = [host.claims.prepare(wishes, foreign=foreign) for host in hosts if _has(host, wishes)]
            claims = Fleet(able, self._context.run.run_id).claim(wishes)
            self._context.find(claims[0].host).claims.keep(claims)
        logger.info(f"Claimed: {', '.join(map(str, claims))}.")
        return claims

    def _show(self, opened: OpenHost) -> None:
        totals, used = opened.claims.totals(), opened.claims.used()
        log_table(
            f"Namespaces that may be claimed on {opened.host.alias}",
            ("label", "resource class", "total", "held"),
            ((label, resource_class(label), totals[label], used[label]) for label in totals),
        )
        log_table(
            f"Claims on {opened.host.alias}",
            ("namespace", "UUID", "state"),
            ((name, entry.key, entry.told) for entry, name in opened.claims.holders()),
        )


def _has(opened: OpenHost, wishes: tuple[Wish, ...]) -> bool:
    return all(not wish.label or wish.label in opened.claims.setting.labels for wish in wishes)
