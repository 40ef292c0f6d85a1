"""Keywords that read namespaces from the host and assert their properties."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import AmbiguousError, NotFoundError, UnsupportedError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.support.log import log_namespaces, log_table
from VpmemLibrary.pmem.namespaces.views import namespace_views
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted


class NamespaceGetterKeywords:
    """Keywords for the properties of namespaces."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _ndctl(self) -> Ndctl:
        return self._session.host.ndctl

    @keyword(tags=("namespace", "getter"))
    def get_namespaces(self) -> tuple[Namespace, ...]:
        """Return all namespaces of the current host, including disabled ones, and show them in the log.

        Returns:
            The records of the namespaces. The result is empty if the host has no namespace.

        Example:

        ```robotframework
        *** Test Cases ***
        How Many
            ${namespaces} =    Get Namespaces
            Length Should Be    ${namespaces}    3
        ```
        """
        namespaces = self._ndctl.inventory().namespaces
        log_namespaces(f"Namespaces of {self._session.host.alias}", namespaces)
        return namespaces

    @keyword(tags=("namespace", "getter"))
    def get_namespace(self, namespace: Namespace | str) -> Namespace:
        """Return one namespace from a new listing.

        Args:
            namespace: The namespace's record, UUID, name or device name.

        Returns:
            The namespace's record.

        Raises:
            NotFoundError: There is no such namespace. The message lists the ones that exist.
            AmbiguousError: Several namespaces have that name.

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
        """Return a namespace's current usable size, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected size, e.g. `254MiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: The value is not as expected.

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
        """Return a namespace's current mode, and assert it if an operator is given.

        ndctl lists a disabled namespace as `raw`. The info block contains the mode that the namespace has when it is
        enabled: see [Read Info Block].

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected mode: `fsdax`, `devdax`, `sector` or `raw`.
            message: Your own failure text.

        Returns:
            The mode as text.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: The value is not as expected.

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
        """Return a namespace's current state, `active` or `disabled`, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected state.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: The value is not as expected.

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
        """Return a namespace's current name, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected name. Use the empty text for no name.
            message: Your own failure text.

        Returns:
            The name as text. The text is empty if the namespace has no name.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: The value is not as expected.

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
        """Return the UUID in a namespace's label, and assert it if an operator is given.

        The UUID does not change while the namespace exists: disabling, renaming and reboots keep it. For an active
        namespace, the `uuid` in the output of `ndctl list` is a different UUID: the UUID of the info block.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected UUID, in lower case.
            message: Your own failure text.

        Returns:
            The UUID as text. The text is empty if the region has no labels.

        Raises:
            NotFoundError: There is no such namespace.
            AssertionError: The value is not as expected.

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
        """Return a namespace's current mapping alignment, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected alignment, e.g. `2MiB`.
            message: Your own failure text.

        Returns:
            The alignment in bytes, or 0 for a mode without an alignment.

        Raises:
            NotFoundError: There is no such namespace.
            UnsupportedError: This version of ndctl lists no alignment of namespaces.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Its Alignment
            Get Namespace Align    ns_0    ==    2MiB
        ```
        """
        found = self._ndctl.namespace(namespace)
        if found.align is None and found.mode in (NamespaceMode.fsdax, NamespaceMode.devdax):
            raise UnsupportedError(
                f"The ndctl of {self._session.host.alias} lists no alignment of {_called(found)} ({found.mode}): newer "
                "versions do. Namespace Views Should Agree shows the kernel's alignment."
            )
        align = found.align or Size(0)
        return assert_size(align, assertion_operator, expected, f"Alignment of {_called(found)}", message)

    @keyword(tags=("namespace", "assertion"))
    def namespace_names_should_be_unique(self) -> None:
        """Fail if two namespaces of the current host have the same name.

        ndctl and the kernel allow this. A keyword fails if it gets a name that several namespaces have.

        Raises:
            AmbiguousError: Several namespaces have the same name. The message lists each such name, with the devices
                and UUIDs of the namespaces.

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
        log_namespaces(f"Namespaces of {self._session.host.alias} that share a name", shown)
        if twice:
            each = "; ".join(
                f"{name!r}: {', '.join(f'{ns.dev} (UUID {ns.label_uuid})' for ns in namespaces)}"
                for name, namespaces in twice.items()
            )
            raise AmbiguousError(f"Names on {self._session.host.alias} that several namespaces have: {each}.")

    @keyword(tags=("namespace", "assertion"))
    def namespace_should_exist(self, namespace: Namespace | str) -> None:
        """Fail unless a new listing of the current host contains the namespace.

        Args:
            namespace: The namespace's record, UUID, name or device name.

        Raises:
            AssertionError: The namespace does not exist. The message lists the existing namespaces.

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
        """Fail if a new listing of the current host contains the namespace.

        Args:
            namespace: The namespace's record, UUID, name or device name.

        Raises:
            AssertionError: The namespace exists.

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
        """Fail unless ndctl, sysfs and the device node agree about a namespace.

        The keyword compares mode, usable size, name, UUID, map, alignment, sector size and the kind of device node. The
        log has the table.

        Args:
            namespace: The namespace's record, UUID, name or device name.

        Raises:
            ViewsDisagreeError: The views differ. The message is a table in which the differing cells are marked.

        Example:

        ```robotframework
        *** Test Cases ***
        The Same Everywhere
            Namespace Views Should Agree    ns_0
        ```
        """
        found = self._ndctl.namespace(namespace)
        agreement = namespace_views(self._session.host.transport, found)
        log_table(f"Views of {_called(found)}", agreement.header, agreement.rows, marked=agreement.marked)
        agreement.require()


def _called(namespace: Namespace) -> str:
    return quoted(namespace.name or namespace.dev)
