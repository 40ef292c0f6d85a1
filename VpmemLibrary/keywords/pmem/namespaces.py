"""Keywords that create, change and destroy namespaces."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.converters import unless_default, wanted_align
from VpmemLibrary.keywords.support.log import log_namespaces
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.sizes import ALL, Size


class NamespaceKeywords:
    """Namespaces."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _namespaces(self) -> Namespaces:
        return self._context.host.namespaces

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

        Of ndctl's own options there are none for what would undo this: no UUID (it has the mark), no bus (the region
        is exact), no `--continue` (each namespace is created by its own call), no `--force`, and labels are never
        initialised on the way (`--no-autolabel`; see [Initialize Labels]).

        Args:
            region: The region's record or its name. Always named: a create without one races with other workers.
            mode: `devdax`, `fsdax`, `sector` or `raw`.
            size: What to take from the region. `at least 64MiB` is the smallest size that the region allows and that is
                not smaller. `64MiB` is that size, or is refused: it must be a multiple of [Get Region Size Step], and
                16 MiB at least. `all` takes the largest free extent. The usable size is smaller: see
                [Get Predicted Usable Size].
            name: Its name, up to 63 characters; none by default.
            map: Where its page map lives, for `devdax` and `fsdax`: `dev` (in itself) or `mem`.
            align: Its mapping alignment, for `devdax` and `fsdax`: `4KiB`, `2MiB` or `1GiB`, on machines with larger
                pages others; by default 2 MiB, or the machine's own. With `1GiB` up to a
                GiB at either end cannot be used, so one of 1 GiB is refused.
            sector_size: The sector size in bytes: for `sector` 512, 520, 528, 4096, 4104, 4160 or 4224, by default
                4096; for `fsdax` and `raw` 512, the default, or 4096.

        Returns:
            The namespace's record: `dev`, `uuid`, `size` (usable bytes), `device` (its node's path) and more.

        Raises:
            InvalidValueError: A wrong size (the nearest valid ones are named), name or option.
            OutOfSpaceError: The region has no room; the message says how much it has, and in which pieces.
            UnsupportedError: The region is disabled, read-only, volatile or has no labels.
            CommandError: ndctl failed; nothing is left of the attempt.

        Example:

        ```robotframework
        *** Test Cases ***
        A Namespace
            ${namespace} =    Create Namespace    region0    mode=devdax    size=at least 256MiB    name=ns_0
            Get Namespace Size    ${namespace}    >=    250MiB
        ```
        """
        namespace = self._namespaces.create(
            region=region,
            mode=mode,
            size=None if size is ALL else size,
            name=name,
            map_location=unless_default(mode, map, MapLocation.dev),
            align=wanted_align(align),
            sector_size=sector_size,
            uuid=self._context.current.new_uuid(),
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
        """Give a namespace another mode in place; its place, name and this run's mark stay, its content does not count.

        ndctl promises nothing of the content. What happens to the bytes, seen with ndctl 81 on Linux 6.12: the first
        8 KiB are overwritten in every case, and for `sector` the map and the log at the end as well (4 bytes a sector
        and 20 KiB); with `map=dev` the page map may overwrite what lies before the usable bytes. All other bytes stay
        where they are, but the usable ones begin elsewhere in each mode: at 0 for `raw`, behind 4 KiB for `sector`,
        behind the page map for `fsdax` and `devdax`. So between those two, with the same map and alignment, every
        usable byte is found again, and in no other case can an offset be relied on.

        Args:
            namespace: Its record, UUID, name or device name.
            mode: The new mode.
            map: Where its page map lives, for `devdax` and `fsdax`.
            align: Its mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for all modes but `devdax`.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            InvalidValueError: A wrong option, or one that would leave nothing usable; nothing was changed.
            BusyError: It is in use; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        From Devdax To Fsdax
            ${namespace} =    Reconfigure Namespace    ns_0    mode=fsdax
            Get Namespace Mode    ${namespace}    ==    fsdax
        ```
        """
        before = self._context.own_namespace(namespace, foreign=foreign)
        after = self._namespaces.reconfigure(
            before,
            mode=mode,
            map_location=unless_default(mode, map, MapLocation.dev),
            align=wanted_align(align),
            sector_size=sector_size,
            uuid=None if foreign else self._context.current.new_uuid(),
        )
        return _changed(before, after)

    @keyword(tags=("namespace",))
    def rename_namespace(self, namespace: Namespace | str, name: str, *, foreign: bool = False) -> Namespace:
        """Give a namespace another name; its UUID, mode and every byte stay.

        ndctl cannot do it: the kernel writes the name to the label while the namespace is disabled. An active one is
        disabled for the time of it, so one that is in use is refused. Names need not be unique, but a keyword that is
        given a name that two namespaces have refuses to guess.

        Args:
            namespace: Its record, UUID, name or device name.
            name: The new name, up to 63 characters.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            InvalidValueError: It cannot be a name; nothing was changed.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            UnsupportedError: It has no label.
            BusyError: It is in use; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Another Name
            Rename Namespace    ns_0    ns_1
            Namespace Should Not Exist    ns_0
        ```
        """
        before = self._context.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.rename(before, name))

    @keyword(tags=("namespace",))
    def disable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Disable a namespace: its device node goes, its label and bytes stay. Doing it twice is harmless.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards: as ndctl has it, a disabled one is `raw` and has its whole size.

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
        before = self._context.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.disable(before))

    @keyword(tags=("namespace",))
    def enable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Enable a disabled namespace. Doing it twice is harmless.

        The kernel gives it the mode that its info block says: one whose info block is broken becomes `raw`.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The namespace's record afterwards.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            CommandError: It could not be enabled, whatever ndctl's exit status.

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Enable Namespace    ns_0
        ```
        """
        before = self._context.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.enable(before))

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
        before = self._context.own_namespace(namespace, foreign=foreign)
        self._namespaces.destroy_listed(before)
        log_namespaces("Destroyed", (before,))


def _changed(before: Namespace, after: Namespace) -> Namespace:
    log_namespaces("Before", (before,))
    log_namespaces("After", (after,))
    return after
