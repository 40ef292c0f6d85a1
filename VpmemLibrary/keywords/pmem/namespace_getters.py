"""Keywords that read namespaces from the host and assert their properties."""

from __future__ import annotations

from collections import defaultdict
from enum import Enum
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import AmbiguousError, NotFoundError, UnsupportedError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_count, assert_property
from VpmemLibrary.keywords.support.log import log_namespaces, log_table
from VpmemLibrary.pmem.namespaces.views import namespace_views
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size
from VpmemLibrary.visible import quoted


class NamespaceProperty(Enum):
    """A property of a namespace.

    - `size`: The usable size.
    - `mode`: `fsdax`, `devdax`, `sector` or `raw`. ndctl lists a disabled namespace as `raw`. [Read Info Block] returns
      the mode that the namespace has when it is enabled.
    - `state`: `active` or `disabled`.
    - `name`: The name, which may be empty.
    - `uuid`: The UUID in the label. It does not change while the namespace exists. It is empty if the region has no
      labels. `ndctl list` shows a different `uuid` for an active namespace: the UUID of the info block.
    - `align`: The mapping alignment, or 0 for a mode without an alignment.
    """

    size = "usable size"
    mode = "mode"
    state = "state"
    name = "name"
    uuid = "UUID"
    align = "alignment"


class NamespaceGetterKeywords:
    """Keywords for the properties of namespaces."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _ndctl(self) -> Ndctl:
        return self._session.host.ndctl

    @keyword(tags=("namespace", "getter"))
    def get_namespaces(
        self, assertion_operator: AssertionOperator | None = None, expected: object = None, message: str | None = None
    ) -> Any:
        """Return all namespaces of the current host, including disabled ones, and show them in the log.

        With an operator, also assert the number of namespaces.

        Args:
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            The records of the namespaces. The result is empty if the host has no namespace.

        Raises:
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Three Namespaces
            ${namespaces} =    Get Namespaces    ==    3
            Log    ${namespaces}[0].name
        ```
        """
        namespaces = self._ndctl.inventory().namespaces
        subject = f"Namespaces of {self._session.host.alias}"
        log_namespaces(subject, namespaces)
        return assert_count(namespaces, assertion_operator, expected, subject, message)

    @keyword(tags=("namespace", "getter"))
    def get_namespace(self, namespace: Namespace | str) -> Namespace:
        """Return one namespace from a new listing.

        Args:
            namespace: The namespace's record, UUID, name or device name.

        Returns:
            The namespace's record.

        Raises:
            NotFoundError: There is no such namespace. The message lists the existing namespaces.
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
    def get_namespace_property(
        self,
        namespace: Namespace | str,
        property: NamespaceProperty,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the current value of one property of a namespace, and assert it if an operator is given.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            property: The name of the property.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected value, e.g. `devdax` or `254MiB`.
            message: Your own failure text.

        Returns:
            A size in bytes, a number, or a text. A text is empty if the namespace has no such value.

        Raises:
            NotFoundError: There is no such namespace.
            UnsupportedError: This version of ndctl lists no alignment of namespaces.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        What It Is
            Get Namespace Property    ns_0    size    ==    254MiB
            Get Namespace Property    ns_0    mode    ==    devdax
            ${uuid} =    Get Namespace Property    ns_0    uuid
        ```
        """
        found = self._ndctl.namespace(namespace)
        subject = f"{property.value[0].upper()}{property.value[1:]} of {_called(found)}"
        return assert_property(self._value(found, property), assertion_operator, expected, subject, message)

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
            raise AmbiguousError(f"Several namespaces of {self._session.host.alias} have the same name: {each}.")

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

    def _value(self, namespace: Namespace, property: NamespaceProperty) -> Size | str:
        if property is NamespaceProperty.align:
            return self._align(namespace)
        values: dict[NamespaceProperty, Size | str] = {
            NamespaceProperty.size: namespace.size,
            NamespaceProperty.mode: str(namespace.mode),
            NamespaceProperty.state: namespace.state or "active",
            NamespaceProperty.name: namespace.name,
            NamespaceProperty.uuid: namespace.label_uuid,
        }
        return values[property]

    def _align(self, namespace: Namespace) -> Size:
        if namespace.align is None and namespace.mode in (NamespaceMode.fsdax, NamespaceMode.devdax):
            raise UnsupportedError(
                f"The ndctl of {self._session.host.alias} lists no alignment of {_called(namespace)} "
                f"({namespace.mode}): newer versions do. Namespace Views Should Agree shows the kernel's alignment."
            )
        return namespace.align or Size(0)


def _called(namespace: Namespace) -> str:
    return quoted(namespace.name or namespace.dev)
