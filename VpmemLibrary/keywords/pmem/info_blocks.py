"""Keywords for the info block of a namespace and for the metadata of a sector namespace."""

from __future__ import annotations

from msgspec.structs import asdict
from robot.api.deco import keyword

from VpmemLibrary.keywords.support.log import log_namespaces, log_table
from VpmemLibrary.pmem.media.btt import SectorCheck, SectorPart
from VpmemLibrary.pmem.media.info_block import InfoBlock
from VpmemLibrary.pmem.prediction import DEFAULT_ALIGN
from VpmemLibrary.pmem.records import MapLocation, Namespace, NamespaceMode
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size


class InfoBlockKeywords:
    """Keywords for info blocks and sector metadata."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @keyword(tags=("namespace", "getter"))
    def read_info_block(self, namespace: Namespace | str, *, foreign: bool = False) -> InfoBlock:
        """Return the decoded info block of a namespace, and show it in the log.

        The info block gives a namespace its mode. An active namespace hides its info block. The keyword therefore
        disables the namespace, reads the info block, and enables the namespace again.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            A record with `mode`, `uuid`, `parent_uuid` (the label's UUID), `version`, `data_offset` (the offset of the
            usable bytes) and `intact` (whether the checksum is right). `fsdax` and `devdax` also have `map`, `align`,
            `pages` and more. `sector` also has `sector_size`, `sectors`, `free_blocks`, `map_offset`, `log_offset`,
            `backup_offset` and more.

        Raises:
            NotFoundError: There is no such namespace, or the namespace is raw and has no info block.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Where The Usable Bytes Begin
            ${block} =    Read Info Block    ns_0
            Should Be Equal As Integers    ${block.data_offset}    ${2 * 1024 * 1024}
        ```
        """
        found = self._session.own_namespace(namespace, foreign=foreign)
        block = self._session.host.info_blocks.read(found)
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
        """Write a new `fsdax` or `devdax` info block to a namespace, read it back and return it.

        This keyword is for tests of info blocks. Use [Reconfigure Namespace] for a permanent change of the mode. The
        namespace gets the new mode when it is enabled the next time. The keyword disables an active namespace for the
        write, and enables it afterwards. The label does not change. If the label requires another mode, the keyword
        refuses the namespace. The label of a `raw` namespace allows every mode.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            mode: `fsdax` or `devdax`.
            map: The location of the page map: `dev` (in the namespace itself) or `mem`.
            align: The mapping alignment: `4KiB`, `2MiB` or `1GiB`.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The info block's record: see [Read Info Block].

        Raises:
            InvalidValueError: The mode or the alignment is invalid, or leaves no usable bytes. Nothing was changed.
            UnsupportedError: The namespace's label requires another mode. Nothing was changed.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        From Raw To Fsdax
            ${block} =    Write Info Block    ns_raw    mode=fsdax    map=mem
            Get Namespace Property    ns_raw    mode    ==    fsdax
        ```
        """
        before = self._session.own_namespace(namespace, foreign=foreign)
        block = self._session.host.info_blocks.write(before, mode=mode, map_location=map, align=align)
        log_namespaces("Before", (before,))
        _log_block(f"Written to {before.called}", block)
        log_namespaces("After", (self._session.host.ndctl.namespace(before),))
        return block

    @keyword(tags=("namespace", "assertion"))
    def check_namespace(self, namespace: Namespace | str, *, foreign: bool = False) -> None:
        """Fail if the metadata of a `sector` namespace is damaged: the info blocks, the map or the log.

        The keyword disables an active namespace for the check, and enables it afterwards. It changes no byte. The
        keyword also fails if only the second copy of the info block is damaged. ndctl exits 0 in this case.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Raises:
            DamagedError: The metadata is damaged. The message has the complaints of ndctl.
            UnsupportedError: The namespace has another mode.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Whole
            Check Namespace    ns_0
        ```
        """
        found = self._session.own_namespace(namespace, foreign=foreign)
        check = self._session.host.btt.check(found)
        _log_check(f"Check of {found.called}", check)
        check.require()

    @keyword(tags=("namespace", "destructive"))
    def repair_namespace(
        self, namespace: Namespace | str, *, rewrite_log: bool = False, foreign: bool = False
    ) -> tuple[str, ...]:
        """Repair the metadata of a `sector` namespace as far as ndctl can, and check it again.

        The keyword disables an active namespace for the repair, and enables it afterwards. ndctl restores a damaged
        copy of the info block from the other copy, and completes a write that is in the log. ndctl cannot repair an
        overwritten map or log.

        Args:
            namespace: The namespace's record, UUID, name or device name.
            rewrite_log: Also rewrite the log in the layout of kernel 4.15 and newer.
            foreign: Allow this keyword to change a namespace that this run did not make.

        Returns:
            The damage before the repair, one sentence for each fault. The result is empty if nothing was damaged.

        Raises:
            DamagedError: The metadata is still damaged. The message has the complaints of ndctl.
            UnsupportedError: The namespace has another mode.
            NotFoundError: There is no such namespace.
            ForeignError: This run did not make the namespace, and `foreign` is not set.
            BusyError: The namespace is in use.

        Example:

        ```robotframework
        *** Test Cases ***
        Repaired
            Tear Sector Metadata    ns_0    info
            Repair Namespace    ns_0
            Check Namespace    ns_0
            Enable Namespace    ns_0
        ```
        """
        found = self._session.own_namespace(namespace, foreign=foreign)
        check = self._session.host.btt.repair(found, rewrite_log=rewrite_log)
        _log_check(f"Repaired in {found.called}", check)
        return check.complaints

    @keyword(tags=("namespace", "destructive"))
    def tear_sector_metadata(self, namespace: Namespace | str, part: SectorPart) -> Namespace:
        """Damage a part of a `sector` namespace's metadata, as a torn write does.

        The namespace stays disabled, because the kernel repairs some of the damage when it enables the namespace.

        Args:
            namespace: The namespace's record, UUID, name or device name. This run must have made the namespace.
            part: The part to damage: `info` is the info block, `backup` is its second copy, `map` maps sectors to
                blocks, and `log` lists the writes in progress. `write` makes the last write incomplete, as a power
                failure does: the write is in the log but not in the map.

        Returns:
            The namespace's record after the change.

        Raises:
            InvalidValueError: There is no such part, or `part` is `write` and no sector was ever written.
            ForeignError: This run did not make the namespace.
            UnsupportedError: The namespace has another mode.
            BusyError: The namespace is in use. Nothing was changed.

        Example:

        ```robotframework
        *** Test Cases ***
        Torn Metadata Is Seen
            Tear Sector Metadata    ns_0    log
            Run Keyword And Expect Error    *is damaged*    Check Namespace    ns_0
        ```
        """
        before = self._session.own_namespace(namespace)
        after = self._session.host.btt.tear(before, part)
        log_namespaces("Before", (before,))
        log_namespaces(f"After its {part} was torn", (after,))
        return after


def _log_block(caption: str, block: InfoBlock) -> None:
    log_table(caption, ("field", "value"), asdict(block).items())


def _log_check(caption: str, check: SectorCheck) -> None:
    log_table(caption, ("what ndctl found",), ((line,) for line in check.complaints or ("nothing wrong",)))
