"""Keywords for labels, which describe namespaces on the DIMMs of a region."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_count
from VpmemLibrary.keywords.support.log import log_regions, log_table, logger
from VpmemLibrary.ownership.regions import namespaces_on, require_own_region
from VpmemLibrary.pmem.labels.area import LabelArea, slot_count
from VpmemLibrary.pmem.labels.file import SavedLabels
from VpmemLibrary.pmem.labels.labels import Labels
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.pmem.regions.regions import LabelState, confirmed
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import Size


class LabelKeywords:
    """Keywords for labels."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def _labels(self) -> Labels:
        return self._session.host.labels

    @keyword(tags=("region", "destructive"))
    def initialize_labels(
        self, region: Region | str, *, version: str = "1.2", overwrite: bool = False, foreign: bool = False
    ) -> Region:
        """Initialize the label areas of one region's DIMMs, so that namespaces can be created in the region.

        The keyword disables the region while it works, and then verifies that the region is enabled again. It reads the
        label areas back: they must have the requested version, be consistent and be empty.

        Args:
            region: The region's record or its name. There is no default and no "all".
            version: The label version, `1.1` or `1.2` (UEFI 2.7).
            overwrite: Delete existing labels, and with them the namespaces.
            foreign: With `overwrite`, also delete namespaces that this run did not make.

        Returns:
            The region's record after the change.

        Raises:
            InvalidValueError: The version is unknown, or labels exist and `overwrite` is not set.
            ForeignError: The region has namespaces that this run did not make, and `foreign` is not set.
            UnsupportedError: The region has no label area.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed (its exit status may still be 0). The region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        A New Host
            Initialize Labels    region0
            Get Region Property    region0    available size    ==    1GiB
        ```
        """
        before = self._session.host.ndctl.region(region)
        confirm = self._confirm(before, foreign or not overwrite)
        confirm()
        after = self._session.host.regions.initialize_labels(
            before, version=version, overwrite=overwrite, confirm=confirm
        )
        log_regions(f"{before.dev} before", (before,))
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "destructive"))
    def initialize_unlabeled_regions(self, leave: int = 0) -> tuple[str, ...]:
        """Initialize labels in all regions of the current host that have none, if the hosts file allows it.

        The keyword does not change a region that has labels, or a read-only region, in which no namespace could be
        created afterwards. A region without labels is one raw namespace, and new labels destroy the content of that
        namespace. The keyword therefore works only on a host whose section of the
        hosts file has `host_may_initialize_labels = yes`, as in the lab.

        Args:
            leave: How many regions to leave without labels, for tests that need such a region. The keyword leaves out
                the last regions. At least one region of the host has labels afterwards.

        Returns:
            The names of the regions that got labels.

        Raises:
            CommandError: ndctl failed (its exit status may still be 0). The region was enabled again.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Initialize Unlabeled Regions
        ```
        """
        opened = self._session.current
        unlabeled = opened.host.regions.initializable()
        if not unlabeled:
            return ()
        if not opened.policy.may_initialize_labels:
            logger.info(
                f"Left without labels, because the hosts file does not have host_may_initialize_labels = yes: "
                f"{', '.join(region.dev for region in unlabeled)}."
            )
            return ()
        with opened.tenancy.host_lock("initialize-labels"):
            unlabeled = opened.host.regions.initializable()  # another worker may just have done it
            labeled = len(opened.host.ndctl.inventory().regions) - len(unlabeled)
            wanted = unlabeled[: max(len(unlabeled) - leave, 0 if labeled else 1)]
            for region in wanted:
                self.initialize_labels(region)
            return tuple(region.dev for region in wanted)

    @keyword(tags=("region", "destructive"))
    def zero_labels(self, region: Region | str, *, foreign: bool = False) -> Region:
        """Fill the label areas of one region's DIMMs with zeros. Its namespaces disappear, and their bytes stay.

        The keyword disables the region while it works, and then verifies that the region is enabled again. It reads the
        label areas back. Until the next boot of the host, the kernel treats the region as a region with labels: the
        whole region is free, and the next create writes labels of version 1.2. See the `label_state` of
        [Get Region Property].

        Args:
            region: The region's record or its name. There is no default and no "all".
            foreign: Also delete namespaces that this run did not make.

        Returns:
            The region's record after the change.

        Raises:
            UnsupportedError: The region has no label area, or its label area has no labels.
            ForeignError: The region has namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed (its exit status may still be 0). The region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        Labels Come Back
            Save Labels    region0    ${TEMPDIR}/region0.labels
            Zero Labels    region0
            Restore Labels    region0    ${TEMPDIR}/region0.labels
        ```
        """
        confirm = self._confirm(region, foreign)
        confirm()
        after = self._labels.zero(region, confirm=confirm)
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "getter"))
    def read_labels(self, region: Region | str) -> tuple[LabelArea, ...]:
        """Return the decoded label areas of one region's DIMMs, and show them in the log.

        Args:
            region: The region's record or its name.

        Returns:
            One record for each DIMM with `dimm`, `version`, `size`, `nslot`, `free` (the number of free slots),
            `current` (the number of the current index block), `index_blocks` (with `seq`, `version`, `nslot`, `free`,
            `problems`), `labels` (with `uuid`, `name`, `slot`, `dpa`, `rawsize`, `flags`, `nlabel`, `position`,
            `isetcookie`, `lbasize`, `type_guid`, `abstraction_guid`, `problems`), `former` (labels in slots that are
            free again) and `data`.

        Raises:
            UnsupportedError: The region has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        The First Label
            ${areas} =    Read Labels    region0
            Log    ${areas}[0].labels[0].uuid
        ```
        """
        areas = self._labels.read(region)
        _log_areas(areas)
        return areas

    @keyword(tags=("region", "assertion"))
    def labels_should_be_consistent(self, region: Region | str) -> None:
        """Fail unless one region has labels and they are consistent.

        The keyword checks:

        - the bytes of each label area: both index blocks, every label in use, and the checksums,
        - that the DIMMs agree about each namespace,
        - that the kernel has exactly the namespaces that the labels describe,
        - the output of `ndctl check-labels`.

        Args:
            region: The region's record or its name.

        Raises:
            AssertionError: The labels are not consistent. The message has one line for each inconsistency, which begins
                with its location.
            UnsupportedError: The region has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        Sound
            Labels Should Be Consistent    region0
        ```
        """
        if problems := self._labels.problems(region):
            raise AssertionError("The labels are not consistent:\n" + "\n".join(problems))

    @keyword(tags=("region",))
    def save_labels(self, region: Region | str, path: Path) -> Path:
        """Save the label areas of one region's DIMMs in a file, byte for byte, with the ids of the DIMMs.

        Args:
            region: The region's record or its name.
            path: The file on the machine that runs the tests. An existing file is replaced.

        Returns:
            The file's path.

        Raises:
            InvalidValueError: The file cannot be written.
            UnsupportedError: The region has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        Before A Change
            Save Labels    region0    ${OUTPUT_DIR}/region0.labels
        ```
        """
        saved = self._labels.saved(region)
        saved.write(path)
        logger.info("\n".join(f"{area.dimm} (id {area.id}): {area.size}" for area in saved.areas))
        return path

    @keyword(tags=("region", "destructive"))
    def restore_labels(
        self, region: Region | str, path: Path, *, elsewhere: bool = False, foreign: bool = False
    ) -> Region:
        """Restore the label areas from a file of [Save Labels] to the DIMMs from which they were saved.

        The namespaces of the saved labels exist again, with their UUIDs and names. Their content is complete unless
        their bytes were overwritten meanwhile. The keyword disables the region while it works, and then verifies that
        the region is enabled again. It reads the bytes back.

        Args:
            region: The region's record or its name.
            path: The file.
            elsewhere: Write the labels even if they came from DIMMs with other ids. The sizes must still be the same.
            foreign: Also delete namespaces that this run did not make.

        Returns:
            The region's record after the change.

        Raises:
            InvalidValueError: The file is not a file of saved labels, is incomplete, or came from other DIMMs.
            ForeignError: The region has namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed (its exit status may still be 0). The region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        As It Was
            Restore Labels    region0    ${OUTPUT_DIR}/region0.labels
        ```
        """
        saved = SavedLabels.read(path)
        confirm = self._confirm(region, foreign)
        confirm()
        after = self._labels.restore(region, saved, elsewhere=elsewhere, confirm=confirm)
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "destructive"))
    def write_labels(self, region: Region | str, *labels: LabelArea | bytes, foreign: bool = False) -> Region:
        """Write the given label areas to one region's DIMMs, even if the label areas are wrong.

        The keyword disables the region while it works, and then verifies that the region is enabled again. It reads the
        bytes back, because `ndctl write-labels` may fail and exit 0.

        Args:
            region: The region's record or its name.
            labels: One label area for each DIMM of the region, in the order of the DIMMs: a record from [Read Labels],
                or bytes.
            foreign: Also delete namespaces that this run did not make.

        Returns:
            The region's record after the change.

        Raises:
            InvalidValueError: The number of label areas differs from the number of DIMMs, or a label area has the wrong
                size.
            ForeignError: The region has namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed (its exit status may still be 0). The region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            ${labels} =    Read Labels    region0
            Zero Labels    region0
            Write Labels    region0    @{labels}
        ```
        """
        found = self._session.host.ndctl.region(region)
        if len(labels) != len(found.dimms) or not all(isinstance(each, (LabelArea, bytes)) for each in labels):
            raise InvalidValueError(
                "labels",
                [type(each).__name__ for each in labels],
                f"one label area, or its bytes, for each of {', '.join(found.dimms)}",
            )
        confirm = self._confirm(found, foreign)
        confirm()
        data = [each.data if isinstance(each, LabelArea) else each for each in labels]
        after = self._labels.write(found, dict(zip(found.dimms, data, strict=True)), confirm=confirm)
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "prediction"))
    def get_predicted_label_slot_count(self, area_size: Size, *, version: str = "1.2") -> int:
        """Predict the number of label slots in a label area. No host is accessed.

        Args:
            area_size: The size of the label area, e.g. `128KiB`.
            version: The label version, `1.1` or `1.2`.

        Returns:
            The predicted number of slots.

        Raises:
            InvalidValueError: The version is unknown, or the area is too small for two labels.

        Example:

        ```robotframework
        *** Test Cases ***
        The Larger Labels Are Half As Many
            ${slots} =    Get Predicted Label Slot Count    128KiB    version=1.2
            Should Be Equal As Integers    ${slots}    510
        ```
        """
        return slot_count(area_size, version)

    @keyword(tags=("region", "getter"))
    def get_unlabeled_regions(
        self, assertion_operator: AssertionOperator | None = None, expected: object = None, message: str | None = None
    ) -> Any:
        """Return the regions of the current host that are on DIMMs and on which the kernel found no labels.

        One raw namespace fills each of these regions. A region whose labels were deleted after the host booted is not
        included. With an operator, also assert the number of regions.

        Args:
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected number.
            message: Your own failure text.

        Returns:
            The records of the regions. The result is empty if there is no such region.

        Raises:
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Every Region Has Labels
            Get Unlabeled Regions    ==    0
        ```
        """
        regions = self._session.host.regions.unlabeled()
        log_regions("Regions without labels", regions)
        return assert_count(regions, assertion_operator, expected, "Regions without labels", message)

    @keyword(tags=("region", "getter"))
    def get_region_for_labels(self) -> Region:
        """Return a region of the current host that has labels but no namespaces, for tests that change labels.

        The host's section of the hosts file must have `host_may_initialize_labels = yes`.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: There is no such region. The message says why, and how to fix it.

        Example:

        ```robotframework
        *** Test Cases ***
        Other Labels
            ${region} =    Get Region For Labels
            Initialize Labels    ${region}    version=1.1    overwrite=True
        ```
        """
        opened = self._session.current
        alias = opened.host.alias
        if not opened.policy.may_initialize_labels:
            raise UnsupportedError(
                f"Labels of {alias} may not be changed: its section of the hosts file does not have "
                "host_may_initialize_labels = yes."
            )
        reasons = []
        regions = opened.host.ndctl.inventory().regions
        for region in regions:
            if not region.dimms:  # for instance of the kernel parameter memmap=
                reasons.append(f"{region.dev} has no DIMM, so no label area")
                continue
            state = opened.host.regions.label_state(region)
            there = namespaces_on(opened.host, region)
            if state is LabelState.labeled and not there and region.state != "disabled":
                return region
            reasons.append(f"{region.dev} has {', '.join(ns.called for ns in there) or f'labels {state}'}")
        fix = "Destroy the namespaces of a region, or initialize its labels (Initialize Labels)."
        if not any(region.dimms for region in regions):
            fix = "Use a host whose DIMMs have label areas."
        raise UnsupportedError(
            f"No region of {alias} has labels but no namespaces: {'; '.join(reasons) or 'there is no region'}. {fix}"
        )

    def _confirm(self, region: Region | str, foreign: bool) -> Callable[[], None]:
        """Return a check that raises if a region has a foreign namespace.

        The caller runs the check first, and again after the region is disabled.
        """
        host, run = self._session.host, self._session.run
        return confirmed if foreign else lambda: require_own_region(host, run, region)


def _log_areas(areas: Sequence[LabelArea]) -> None:
    for area in areas:
        log_table(
            f"Index blocks of {area.dimm}, {area.size}",
            ("index block", "version", "sequence", "slots", "free", "what is wrong"),
            (
                (
                    f"{index.number} (current)" if index.number == area.current else index.number,
                    index.version,
                    index.seq,
                    index.nslot,
                    len(index.free),
                    "; ".join(index.problems) or "-",
                )
                for index in area.index_blocks
            ),
        )
        log_table(
            f"Labels of {area.dimm}",
            ("slot", "name", "UUID", "DPA", "size", "flags", "position", "sector size", "claimed by", "what is wrong"),
            (
                (
                    label.at,
                    label.name or "-",
                    label.uuid,
                    hex(label.dpa),
                    label.rawsize,
                    hex(label.flags),
                    f"{label.position} of {label.nlabel}",
                    label.lbasize,
                    label.abstraction or "-",
                    "; ".join(label.problems) or "-",
                )
                for label in area.labels
            ),
        )
