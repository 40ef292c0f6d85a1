"""Keywords that read namespaces afresh and assert what they are."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import AmbiguousError, NotFoundError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_namespaces, log_table
from VpmemLibrary.pmem.namespaces.views import namespace_views
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted


class NamespaceGetterKeywords:
    """What namespaces are."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _ndctl(self) -> Ndctl:
        return self._context.host.ndctl

    @keyword(tags=("namespace", "getter"))
    def get_namespaces(self) -> tuple[Namespace, ...]:
        """Return every namespace of the current host, disabled ones too, and show them in the log.

        Returns:
            The namespaces' records; empty when there is none.

        Example:

        ```robotframework
        *** Test Cases ***
        How Many
            ${namespaces} =    Get Namespaces
            Length Should Be    ${namespaces}    3
        ```
        """
        namespaces = self._ndctl.inventory().namespaces
        log_namespaces(f"Namespaces of {self._context.host.alias}", namespaces)
        return namespaces

    @keyword(tags=("namespace", "getter"))
    def get_namespace(self, namespace: Namespace | str) -> Namespace:
        """Return one namespace as a fresh listing shows it.

        Args:
            namespace: Its record, UUID, name or device name.

        Returns:
            The namespace's record.

        Raises:
            NotFoundError: There is no such namespace; the message names those that are there.
            AmbiguousError: Several have that name.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Node
            ${namespace} =    Get Namespace    ns_0
            Log    ${namespace.device}
        ```
        """
        found = self._ndctl.namespace(namespace)
        log_namespaces("Found", (found,))
        return found

    @keyword(tags=("namespace", "getter"))
    def get_namespace_size(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a namespace's usable size, read afresh, and assert it when an operator is given.

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `254MiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Size
            Get Namespace Size    ns_0    ==    254MiB
        ```
        """
        found = self._ndctl.namespace(namespace)
        return assert_size(found.size, assertion_operator, expected, f"Usable size of {_called(found)}", message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace_mode(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a namespace's mode, read afresh, and assert it when an operator is given.

        A disabled one is `raw`, as ndctl has it: what it will be once enabled is in its info block, see
        [Read Info Block].

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The mode that is expected: `fsdax`, `devdax`, `sector` or `raw`.
            message: Your own failure text.

        Returns:
            The mode as text.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Mode
            Get Namespace Mode    ns_0    ==    devdax
        ```
        """
        found = self._ndctl.namespace(namespace)
        return assert_text(str(found.mode), assertion_operator, expected, f"Mode of {_called(found)}", message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace_state(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return `active` or `disabled`, read afresh, and assert it when an operator is given.

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The state that is expected.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Disable Namespace    ns_0
            Get Namespace State    ns_0    ==    disabled
        ```
        """
        found = self._ndctl.namespace(namespace)
        return assert_text(found.state or "active", assertion_operator, expected, f"State of {_called(found)}", message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace_name(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a namespace's name, read afresh, and assert it when an operator is given.

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The name that is expected; the empty text for none.
            message: Your own failure text.

        Returns:
            The name as text; empty when it has none.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Name
            Get Namespace Name    namespace0.0    ==    ns_0
        ```
        """
        found = self._ndctl.namespace(namespace)
        return assert_text(found.name, assertion_operator, expected, f"Name of {found.dev}", message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace_uuid(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the UUID in a namespace's label, read afresh, and assert it when an operator is given.

        It stays while the namespace lives: through disabling, renaming and reboots. What `ndctl list` prints as `uuid`
        is another one, that of the info block, while the namespace is active.

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The UUID that is expected, in lower case.
            message: Your own failure text.

        Returns:
            The UUID as text; empty where there are no labels.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same One
            ${uuid} =    Get Namespace Uuid    ns_0
            Disable Namespace    ns_0
            Get Namespace Uuid    ns_0    ==    ${uuid}
        ```
        """
        found = self._ndctl.namespace(namespace)
        return assert_text(found.label_uuid, assertion_operator, expected, f"UUID of {_called(found)}", message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace_align(
        self,
        namespace: Namespace | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a namespace's mapping alignment, read afresh, and assert it when an operator is given.

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The alignment that is expected, e.g. `2MiB`.
            message: Your own failure text.

        Returns:
            The alignment in bytes; 0 for a mode that has none.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Alignment
            Get Namespace Align    ns_0    ==    2MiB
        ```
        """
        found = self._ndctl.namespace(namespace)
        align = found.align or Size(0)
        return assert_size(align, assertion_operator, expected, f"Alignment of {_called(found)}", message)

    @keyword(tags=("namespace", "assertion"))
    def namespace_names_should_be_unique(self) -> None:
        """Fail if two namespaces of the current host have the same name: ndctl and the kernel allow it.

        A keyword that is given such a name refuses to guess which one is meant.

        Raises:
            AmbiguousError: The message has each such name, with the devices and UUIDs that have it.

        Example:

        ```robotframework
        *** Test Cases ***
        No Name Twice
            Namespace Names Should Be Unique
        ```
        """
        named: dict[str, list[Namespace]] = defaultdict(list)
        for namespace in self._ndctl.inventory().namespaces:
            if namespace.name:
                named[namespace.name].append(namespace)
        twice = {name: namespaces for name, namespaces in named.items() if len(namespaces) > 1}
        shown = [namespace for namespaces in twice.values() for namespace in namespaces]
        log_namespaces(f"Namespaces of {self._context.host.alias} that share a name", shown)
        if twice:
            each = "; ".join(
                f"{name!r}: {', '.join(f'{ns.dev} (UUID {ns.label_uuid})' for ns in namespaces)}"
                for name, namespaces in twice.items()
            )
            raise AmbiguousError(f"Names on {self._context.host.alias} that several namespaces have: {each}.")

    @keyword(tags=("namespace", "assertion"))
    def namespace_should_exist(self, namespace: Namespace | str) -> None:
        """Fail unless a fresh listing of the current host has the namespace.

        Args:
            namespace: Its record, UUID, name or device name.

        Raises:
            AssertionError: It is not there; the message names those that are.

        Example:

        ```robotframework
        *** Test Cases ***
        There
            Namespace Should Exist    ns_0
        ```
        """
        try:
            self._ndctl.namespace(namespace)
        except NotFoundError as error:
            raise AssertionError(str(error)) from None

    @keyword(tags=("namespace", "assertion"))
    def namespace_should_not_exist(self, namespace: Namespace | str) -> None:
        """Fail if a fresh listing of the current host has the namespace.

        Args:
            namespace: Its record, UUID, name or device name.

        Raises:
            AssertionError: It is there.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Namespace Should Not Exist    ns_0
        ```
        """
        try:
            found = self._ndctl.namespace(namespace)
        except NotFoundError:
            return
        raise AssertionError(f"Namespace {_called(found)} ({found.dev}, {found.uuid}) should not exist.")

    @keyword(tags=("namespace", "assertion"))
    def namespace_views_should_agree(self, namespace: Namespace | str) -> None:
        """Fail unless ndctl, sysfs and the device node say the same of a namespace.

        Compared are mode, usable size, name, UUID, map, alignment, sector size and the kind of node. The log has the
        table.

        Args:
            namespace: Its record, UUID, name or device name.

        Raises:
            ViewsDisagreeError: They differ; the message is the table with the differing cells marked.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same Everywhere
            Namespace Views Should Agree    ns_0
        ```
        """
        found = self._ndctl.namespace(namespace)
        agreement = namespace_views(self._context.host.transport, found)
        log_table(f"Views of {_called(found)}", agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()


def _called(namespace: Namespace) -> str:
    return quoted(namespace.name or namespace.dev)
