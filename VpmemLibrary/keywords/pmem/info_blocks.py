"""Keywords for what lies under a namespace's mode: its info block, and the metadata of a sector namespace."""

from __future__ import annotations

from dataclasses import fields

from robot.api.deco import keyword

from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_namespaces, log_table
from VpmemLibrary.pmem.media.btt import SectorCheck, SectorPart
from VpmemLibrary.pmem.media.info_block import InfoBlock
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.sizes import Size


class InfoBlockKeywords:
    """Info blocks, sector metadata."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @keyword(tags=("namespace", "getter"))
    def read_info_block(self, namespace: Namespace | str, *, foreign: bool = False) -> InfoBlock:
        """Return the info block that gives a namespace its mode, decoded from its bytes, and show it in the log.

        An active namespace hides it, so it is disabled for the time of reading and enabled again.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            A record with `mode`, `uuid`, `parent_uuid` (the label's), `version`, `data_offset` (where the usable bytes
            begin) and `intact` (whether its checksum is right). For `fsdax` and `devdax` also `map`, `align`, `pages`
            and more, for `sector` also `sector_size`, `sectors`, `free_blocks`, `map_offset`, `log_offset`,
            `backup_offset` and more.

        Raises:
            NotFoundError: There is no such namespace, or it has no info block: it is raw.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Where The Usable Bytes Begin
            ${block} =    Read Info Block    ns_0
            Should Be Equal As Integers    ${block.data_offset}    ${2 * 1024 * 1024}
        ```
        """
        found = self._context.own_namespace(namespace, foreign=foreign)
        block = self._context.host.info_blocks.read(found)
        _log_block(f"Info block of {found.called}", block)
        return block

    @keyword(tags=("namespace", "destructive"))
    def write_info_block(
        self,
        namespace: Namespace | str,
        *,
        mode: NamespaceMode,
        map: MapLocation = MapLocation.dev,
        align: Size = DEFAULT_ALIGN,
        foreign: bool = False,
    ) -> InfoBlock:
        """Write a fresh `fsdax` or `devdax` info block into a namespace, read it back and return it.

        The namespace has that mode when it is enabled next; one that was active is enabled again here. Its label stays
        as it is, so one whose label binds it to another mode is refused: a `raw` one is bound to none. This is for
        tests: see [Reconfigure Namespace] for a change of mode for good.

        Args:
            namespace: Its record, UUID, name or device name.
            mode: `fsdax` or `devdax`.
            map: Where its page map lives: `dev` (in itself) or `mem`.
            align: Its mapping alignment: `4KiB`, `2MiB` or `1GiB`.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            The info block's record: see [Read Info Block].

        Raises:
            InvalidValueError: Another mode or alignment, or one that leaves nothing usable; nothing was changed.
            UnsupportedError: Its label binds it to another mode; nothing was changed.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        From Raw To Fsdax
            ${block} =    Write Info Block    ns_raw    mode=fsdax    map=mem
            Get Namespace Mode    ns_raw    ==    fsdax
        ```
        """
        before = self._context.own_namespace(namespace, foreign=foreign)
        block = self._context.host.info_blocks.write(before, mode=mode, map_location=map, align=align)
        log_namespaces("Before", (before,))
        _log_block(f"Written to {before.called}", block)
        log_namespaces("After", (self._context.host.ndctl.namespace(before),))
        return block

    @keyword(tags=("namespace", "assertion"))
    def check_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> None:
        """Fail unless the metadata of a `sector` namespace is whole: info blocks, map and log.

        Nothing is changed. An active namespace is disabled for the time of it and enabled again. ndctl exits 0 when
        the second copy of the info block is broken: here this is a failure as well.

        Args:
            namespace: Its record, UUID, name or device name.
            foreign: Allow it on a namespace that this run did not make.

        Raises:
            DamagedError: It is damaged; the message has what ndctl complains of.
            UnsupportedError: It has another mode.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Whole
            Check Namespace    ns_0
        ```
        """
        found = self._context.own_namespace(namespace, foreign=foreign)
        check = self._context.host.btt.check(found)
        _log_check(f"Check of {found.called}", check)
        check.require()

    @keyword(tags=("namespace", "destructive"))
    def repair_namespace(
        self, namespace: Namespace | str, *, rewrite_log: bool = False, foreign: bool = False
    ) -> tuple[str, ...]:
        """Repair the metadata of a `sector` namespace as far as ndctl can, and prove it by another check.

        It restores either copy of the info block from the other, and finishes a write that its log knows. A map or a
        log that is overwritten cannot be repaired. An active namespace is disabled for the time of it.

        Args:
            namespace: Its record, UUID, name or device name.
            rewrite_log: Write the log afresh as well, to the layout of kernels from 4.15 on.
            foreign: Allow it on a namespace that this run did not make.

        Returns:
            What was wrong, a sentence each; empty when nothing was.

        Raises:
            DamagedError: It is still damaged; the message has what ndctl complains of.
            UnsupportedError: It has another mode.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make it, and `foreign` is not set.
            BusyError: It is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Mended
            Tear Sector Metadata    ns_0    info
            Repair Namespace    ns_0
            Check Namespace    ns_0
            Enable Namespace    ns_0
        ```
        """
        found = self._context.own_namespace(namespace, foreign=foreign)
        check = self._context.host.btt.repair(found, rewrite_log=rewrite_log)
        _log_check(f"Repaired in {found.called}", check)
        return check.complaints

    @keyword(tags=("namespace", "destructive"))
    def tear_sector_metadata(self, namespace: Namespace | str, part: SectorPart) -> Namespace:
        """Damage a part of the metadata of a `sector` namespace of this run's own, as a torn write does.

        The namespace is disabled afterwards, as the kernel mends some of the damage when it enables it.

        Args:
            namespace: Its record, UUID, name or device name. It must be this run's own.
            part: What to damage: `info` (the info block), `backup` (its second copy), `map` (from sectors to blocks),
                `log` (of the writes under way), or `write`: a write that is in the log and not yet in the map, which
                is what a power failure leaves.

        Returns:
            The namespace's record afterwards.

        Raises:
            InvalidValueError: No such part; or `write`, and no sector was ever written.
            ForeignError: This run did not make it.
            UnsupportedError: It has another mode.
            BusyError: It is in use; nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Torn Metadata Is Seen
            Tear Sector Metadata    ns_0    log
            Run Keyword And Expect Error    *is damaged*    Check Namespace    ns_0
        ```
        """
        before = self._context.own_namespace(namespace)
        after = self._context.host.btt.tear(before, part)
        log_namespaces("Before", (before,))
        log_namespaces(f"After its {part} was torn", (after,))
        return after


def _log_block(caption: str, block: InfoBlock) -> None:
    log_table(caption, ("field", "value"), ((field.name, getattr(block, field.name)) for field in fields(block)))


def _log_check(caption: str, check: SectorCheck) -> None:
    log_table(caption, ("what ndctl found",), ((line,) for line in check.complaints or ("nothing wrong",)))
