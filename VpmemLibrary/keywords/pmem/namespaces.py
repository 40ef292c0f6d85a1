"""Keywords that create, change and destroy namespaces."""

from __future__ import annotations

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.keywords.support.converters import unless_default, wanted_align
from VpmemLibrary.keywords.support.log import log_namespaces
from VpmemLibrary.pmem.namespaces.namespaces import Namespaces
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode, Region
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import ALL, Size


class NamespaceKeywords:
    """Keywords for namespaces."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _namespaces(self) -> Namespaces:
        return self._session.host.namespaces

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
        """Create a namespace in one region, and return its record from a new listing.

        The library refuses an invalid request before it changes anything. A failed create leaves nothing behind. The
        namespace's UUID has this run's mark, so the namespace can have any name.

        The keyword leaves out the options of ndctl that would break these guarantees:

        - no UUID, because the UUID has the mark,
        - no bus, because the region is exact,
        - no `--continue`, because each namespace is created by its own call,
        - no `--force`.

        Labels are never initialised implicitly (`--no-autolabel`). See [Initialize Labels].

        Args:
            region: The region's record or its name. A region is required, because a create without a region races with
                other workers.
            mode: `devdax`, `fsdax`, `sector` or `raw`.
            size: The size to take from the region. `at least 64MiB` takes the smallest allowed size that is not smaller
                than 64 MiB. `64MiB` takes exactly this size, or is refused: the size must be a multiple of
                [Get Region Size Step] and at least 16 MiB. `all` takes the largest free extent. The usable size is
                smaller: see [Get Predicted Usable Size].
            name: The namespace's name, up to 63 characters. The default is no name.
            map: The location of the page map, for `devdax` and `fsdax`: `dev` (in the namespace itself) or `mem`.
            align: The mapping alignment, for `devdax` and `fsdax`: `4KiB`, `2MiB` or `1GiB`. Machines with larger pages
                have other values. The default is 2 MiB, or the machine's own default. With `1GiB` up to 1 GiB at each
                end cannot be used, so a namespace of 1 GiB is refused.
            sector_size: The sector size in bytes. For `sector` it is 512, 520, 528, 4096, 4104, 4160 or 4224, by
                default 4096. For `fsdax` and `raw` it is 512 (the default) or 4096.

        Returns:
            The namespace's record: `dev`, `uuid`, `size` (usable bytes), `device` (the path of its device node) and
            more.

        Raises:
            InvalidValueError: The size is invalid (the message lists the nearest valid sizes), or the name or an option
                is invalid.
            OutOfSpaceError: The region does not have enough free space. The message lists the region's free extents.
            UnsupportedError: The region is disabled, read-only, volatile or has no labels.
            CommandError: ndctl failed. Nothing is left of the attempt.

        Example:

        ```robotframework
        *** Test Cases ***
        A Namespace
            ${namespace} =    Create Namespace    region0    mode=devdax    size=at least 256MiB    name=ns_0
            Get Namespace Property    ${namespace}    size    >=    250MiB
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
            uuid=self._session.current.tenancy.new_uuid(),
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
        own: bool = False,
    ) -> Namespace:
        """Change the mode of a namespace in place. Its content is not preserved.

        The namespace keeps its location, its name and this run's mark. A namespace without a label fills its region and
        cannot be created, so it belongs to no run at first. With `foreign` and `own` it gets a mode and this run's
        mark, and [Clean Up Host] removes both.

        ndctl does not promise anything about the content. With ndctl 81 on Linux 6.12, the bytes change as follows:

        - The first 8 KiB are overwritten in every case.
        - For `sector`, the map and the log at the end are also overwritten (4 bytes for each sector, and 20 KiB).
        - With `map=dev`, the page map may overwrite the bytes before the usable bytes.
        - All other bytes stay where they are.

        The usable bytes begin at a different place in each mode: at 0 for `raw`, after 4 KiB for `sector`, and after
        the page map for `fsdax` and `devdax`. Between `fsdax` and `devdax`, with the same map and alignment, every
        usable byte keeps its offset. In every other case, do not rely on any offset.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            mode: The new mode.
            map: The location of the page map, for `devdax` and `fsdax`.
            align: The mapping alignment, for `devdax` and `fsdax`.
            sector_size: The sector size in bytes, for all modes except `devdax`.
            foreign: Allow this keyword to change a namespace that this run did not make.
            own: Give a foreign namespace this run's mark, so that [Clean Up Host] destroys it. A namespace without a
                label can have a mark only in the modes `devdax` and `fsdax`.

        Returns:
            The namespace's record after the change.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            InvalidValueError: An option is invalid, or would leave no usable bytes. Nothing was changed.
            BusyError: The namespace is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        From Devdax To Fsdax
            ${namespace} =    Reconfigure Namespace    ns_0    mode=fsdax
            Get Namespace Property    ${namespace}    mode    ==    fsdax
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        mark = self._session.current.tenancy.new_uuid() if own or not foreign else None
        location, chosen = unless_default(mode, map, MapLocation.dev), wanted_align(align)
        in_block = bool(mark) and not before.label_uuid
        if in_block and mode not in (NamespaceMode.devdax, NamespaceMode.fsdax):
            raise InvalidValueError("mode", str(mode), f"devdax or fsdax, in which {before.called} can have a mark")
        after = self._namespaces.reconfigure(
            before, mode=mode, map_location=location, align=chosen, sector_size=sector_size, uuid=mark
        )
        if in_block:
            host = self._session.host
            host.info_blocks.write(after, mode=mode, map_location=location, align=chosen, uuid=mark or "")
            after = host.ndctl.namespace(after)
        return _changed(before, after)

    @keyword(tags=("namespace",))
    def rename_namespace(self, namespace: Namespace | str, name: str, *, foreign: bool = False) -> Namespace:
        """Rename a namespace. Its UUID, its mode and every byte stay.

        ndctl cannot rename namespaces. The kernel writes the name to the label while the namespace is disabled. The
        library therefore disables an active namespace briefly, and refuses a namespace that is in use. Names need not
        be unique. A keyword fails if it gets a name that two namespaces have.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            name: The new name, up to 63 characters.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The namespace's record after the change.

        Raises:
            InvalidValueError: The name is invalid. Nothing was changed.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            UnsupportedError: The namespace has no label.
            BusyError: The namespace is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Another Name
            Rename Namespace    ns_0    ns_1
            Namespace Should Not Exist    ns_0
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.rename(before, name))

    @keyword(tags=("namespace",))
    def disable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Disable a namespace. Its device node disappears, and its label and bytes stay.

        The keyword does nothing if the namespace is already disabled.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The namespace's record after the change. ndctl lists a disabled namespace as `raw` and with its whole size.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Off And On
            Disable Namespace    ns_0
            Enable Namespace    ns_0
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.disable(before))

    @keyword(tags=("namespace",))
    def enable_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> Namespace:
        """Enable a disabled namespace.

        The keyword does nothing if the namespace is already enabled. The kernel reads the mode from the namespace's
        info block. A namespace with a broken info block becomes `raw`.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The namespace's record after the change.

        Raises:
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            CommandError: The namespace could not be enabled (ndctl's exit status may still be 0).

        Example:

        ```robotframework
        *** Test Cases ***
        On Again
            Enable Namespace    ns_0
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        return _changed(before, self._namespaces.enable(before))

    @keyword(tags=("namespace", "destructive"))
    def destroy_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> None:
        """Destroy one namespace, and verify with a new listing that it is gone.

        The keyword refuses a namespace that is in use (mounted, or mapped by a guest). It first disables the namespace,
        which the kernel allows only if nothing uses the namespace.

        Args:
            namespace: The namespace's record, UUID, name or device name. There is no default and no "all".
            foreign: Allow this keyword to change a namespace that this run did not make.

        Raises:
            NotFoundError: There is no such namespace. The message lists the existing namespaces.
            AmbiguousError: Several namespaces have that name.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Destroy Namespace    ns_0
            Namespace Should Not Exist    ns_0
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        self._namespaces.destroy_listed(before)
        log_namespaces("Destroyed", (before,))


def _changed(before: Namespace, after: Namespace) -> Namespace:
    log_namespaces("Before", (before,))
    log_namespaces("After", (after,))
    return after
