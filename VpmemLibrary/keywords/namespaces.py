"""Keywords that create, change, read and destroy namespaces."""

from __future__ import annotations

from typing import Any, TypeVar

from robot.api.deco import keyword

from VpmemLibrary.errors import NotFoundError
from VpmemLibrary.host.namespace_views import namespace_views
from VpmemLibrary.host.ndctl import Ndctl
from VpmemLibrary.host.prediction import DEFAULT_ALIGN, predict_usable_size
from VpmemLibrary.keywords.assertions import AssertionOperator, assert_size, assert_text
from VpmemLibrary.keywords.context import Context
from VpmemLibrary.keywords.log import log_namespaces, log_table
from VpmemLibrary.model import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import ALL, Size

Option = TypeVar("Option")


class NamespaceKeywords:
    """Namespaces."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _ndctl(self) -> Ndctl:
        return self._context.host.ndctl

    @keyword(tags=("namespace", "destructive"))
    def create_namespace(
        self,
        region: Region | str,
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        size: Size = ALL,
        name: str = "",
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        sector_size: int | None = None,
    ) -> Namespace:
        """Create a namespace in one region and return it as a fresh listing shows it.

        A wrong request is refused before anything is touched. A create that fails leaves nothing behind. The namespace
        carries this run's mark in its UUID, so it may have any name.

        Args:
            region: The region's record or its name. Always named: a create without one races with other workers.
            mode: `devdax`, `fsdax`, `sector` or `raw`.
            size: What to take from the region: a multiple of the region's alignment, 16 MiB at least. `all`
                takes the largest free extent. The usable size is smaller: see [Get Predicted Usable Size].
            name: Its name, up to 63 characters; none by default.
            map: Where its page map lives, for `devdax` and `fsdax`: `dev` (in itself) or `mem`.
            align: Its mapping alignment, for `devdax` and `fsdax`: `4KiB`, `2MiB` or `1GiB`.
            sector_size: The sector size in bytes, for `sector`: 512 or 4096; 4096 by default.

        Returns:
            The namespace's record: `dev`, `uuid`, `size` (usable bytes), `device` (its node's path) and more.

        Raises:
            InvalidValueError: A wrong size (the nearest valid ones are named), name or option.
            OutOfSpaceError: The region has no room; the message says how much it has.
            CommandError: ndctl failed; nothing is left of the attempt.

        Example:

        ```robotframework
        *** Test Cases ***
        A Namespace
            ${namespace} =    Create Namespace    region0    mode=devdax    size=256MiB    name=ns_0
            Get Namespace Size    ${namespace}    ==    250MiB
        ```
        """
        namespace = self._context.host.namespaces.create(
            region=region,
            mode=mode,
            size=None if size is ALL else size,
            name=name,
            map_location=_unless_default(mode, map, MapLocation.dev),
            align=_unless_default(mode, align, DEFAULT_ALIGN),
            sector_size=sector_size,
            uuid=self._context.run.new_uuid(),
        )
        log_namespaces("Created", (namespace,))
        return namespace

    @keyword(tags=("namespace", "destructive"))
    def reconfigure_namespace(
        self,
        namespace: Namespace | str,
        *,
        mode: NamespaceMode,
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        sector_size: int | None = None,
        foreign: bool = False,
    ) -> Namespace:
        """Give a namespace another mode in place; its name and this run's mark stay, its content does not.

        Args:
            namespace: Its record, UUID, name or device name.
            mode: The new mode.
            map: Where its page map lives, for `devdax` and `fsdax`.
            align: Its mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for `sector`.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        From Devdax To Fsdax
            ${namespace} =    Reconfigure Namespace    ns_0    mode=fsdax
            Get Namespace Mode    ${namespace}    ==    fsdax
        ```
        """
        before = self._owned(namespace, foreign)
        after = self._context.host.namespaces.reconfigure(
            before,
            mode=mode,
            map_location=_unless_default(mode, map, MapLocation.dev),
            align=_unless_default(mode, align, DEFAULT_ALIGN),
            sector_size=sector_size,
            uuid=None if foreign else self._context.run.new_uuid(),
        )
        log_namespaces("Before", (before,))
        log_namespaces("After", (after,))
        return after

    @keyword(tags=("namespace",))
    def disable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Disable a namespace: its device node goes, its label and bytes stay.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Off And On
            Disable Namespace    ns_0
            Enable Namespace    ns_0
        ```
        """
        return self._context.host.namespaces.disable(self._owned(namespace, foreign))

    @keyword(tags=("namespace",))
    def enable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Enable a disabled namespace.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Enable Namespace    ns_0
        ```
        """
        return self._context.host.namespaces.enable(self._owned(namespace, foreign))

    @keyword(tags=("namespace", "destructive"))
    def destroy_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> None:
        """Destroy one namespace, and prove by a fresh listing that it is gone.

        A namespace that is in use (mounted, mapped by a guest) is refused: it is disabled first, which the kernel only
        allows when nothing uses it.

        Args:
            namespace: Its record, UUID, name or device name. There is no default and no "all".
            foreign: Allow it on a namespace that this run did not make.

        Raises:
            NotFoundError: There is no such namespace; the message names those that are there.
            AmbiguousError: Several have that name.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Destroy Namespace    ns_0
            Namespace Should Not Exist    ns_0
        ```
        """
        self._context.host.namespaces.destroy(self._owned(namespace, foreign))

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

        Args:
            namespace: Its record, UUID, name or device name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The mode that is expected: `fsdax`, `devdax`, `sector` or `raw`.
            message: Your own failure text.

        Returns:
            The mode as text.

        Raises:
            NotFoundError: There is no such namespace.

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

        Compared are mode, usable size, name, UUID and the kind of node. The log has the table.

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

    @keyword(tags=("namespace", "prediction"))
    def get_predicted_usable_size(
        self,
        size: Size,
        *,
        mode: NamespaceMode = NamespaceMode.devdax,
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        sector_size: int = 4096,
    ) -> Size:
        """Return how much a namespace will have usable, computed without touching a host.

        Args:
            size: What is taken from the region.
            mode: The namespace's mode.
            map: Where its page map lives, for `devdax` and `fsdax`.
            align: Its mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for `sector`.

        Returns:
            The usable bytes.

        Raises:
            InvalidValueError: A namespace of that size cannot be.

        Example:

        ```robotframework
        *** Test Cases ***
        What Is Left
            ${usable} =    Get Predicted Usable Size    64MiB    mode=fsdax    map=dev
            Should Be Equal As Integers    ${usable}    ${62 * 1024 * 1024}
        ```
        """
        return predict_usable_size(size, mode=mode, map_location=map, align=align, sector_size=sector_size)

    def _owned(self, namespace: Namespace | str, foreign: bool) -> Namespace:
        found = self._ndctl.namespace(namespace)
        if not foreign:
            self._context.run.require_own(found)
        return found


def _unless_default(mode: NamespaceMode, value: Option, default: Option) -> Option | None:
    """Return an option of the modes that have a page map; for the others only one that was said, to be refused."""
    return value if mode in (NamespaceMode.devdax, NamespaceMode.fsdax) or value != default else None


def _called(namespace: Namespace) -> str:
    return namespace.name or namespace.dev
