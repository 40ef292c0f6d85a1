"""Keywords for the labels of regions: what describes namespaces on their DIMMs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.errors import InvalidValueError, UnsupportedError
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_size, assert_text, assert_value
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_regions, log_table, logger
from VpmemLibrary.ownership.regions import namespaces_on, require_own_region
from VpmemLibrary.pmem.labels.area import LabelArea, slot_count
from VpmemLibrary.pmem.labels.file import SavedLabels
from VpmemLibrary.pmem.labels.labels import Labels
from VpmemLibrary.pmem.records import Region
from VpmemLibrary.pmem.regions.regions import LabelState, confirmed
from VpmemLibrary.sizes import Size


class LabelKeywords:
    """Labels."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def _labels(self) -> Labels:
        return self._context.host.labels

    @keyword(tags=("region", "destructive"))
    def initialize_labels(
        self, region: Region | str, *, version: str = "1.2", overwrite: bool = False, foreign: bool = False
    ) -> Region:
        """Give the DIMMs of one region fresh label areas, so that namespaces can be cut from it.

        The region is disabled for the time of it, and is verified to be enabled again. The label areas are read back:
        they must be of the version, consistent and empty.

        Args:
            region: The region's record or its name. There is no default and no "all".
            version: The label version, `1.1` or `1.2` (UEFI 2.7).
            overwrite: End the labels, and so the namespaces, that are there.
            foreign: With `overwrite`, end namespaces as well that this run did not make.

        Returns:
            The region's record afterwards.

        Raises:
            InvalidValueError: The version is unknown, or there are labels and `overwrite` is not set.
            ForeignError: There are namespaces that this run did not make, and `foreign` is not set.
            UnsupportedError: The region has no label area.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed, whatever its exit status; the region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        A New Host
            Initialize Labels    region0
            Get Region Available Size    region0    ==    1GiB
        ```
        """
        before = self._context.host.ndctl.region(region)
        confirm = self._confirm(before, foreign or not overwrite)
        confirm()
        after = self._context.host.regions.initialize_labels(
            before, version=version, overwrite=overwrite, confirm=confirm
        )
        log_regions(f"{before.dev} before", (before,))
        log_regions(f"{after.dev} after", (after,))
        return after

    @keyword(tags=("region", "destructive"))
    def initialize_unlabeled_regions(self, leave: int = 0) -> tuple[str, ...]:
        """Give labels to the regions of the current host that have none, if the hosts file allows it.

        A region that has labels is left as it is. A region without labels is one raw namespace: giving it labels ends
        what that held, so it is done only on a host whose section of the hosts file says
        `host_may_initialize_labels = yes`, as the lab's does.

        Args:
            leave: How many regions to leave without labels, the last ones, for tests that need such a region. One
                region of the host has labels all the same.

        Returns:
            The names of the regions that were given labels.

        Raises:
            CommandError: ndctl failed, whatever its exit status; the region was enabled again.

        Example:

        ```robotframework
        *** Settings ***
        Suite Setup    Initialize Unlabeled Regions
        ```
        """
        opened = self._context.current
        unlabeled = opened.host.regions.unlabeled()
        if not unlabeled:
            return ()
        if not opened.may_initialize_labels:
            logger.info(
                f"Left without labels, as the hosts file does not say host_may_initialize_labels: "
                f"{', '.join(region.dev for region in unlabeled)}."
            )
            return ()
        with opened.turn("initialize-labels"):
            unlabeled = opened.host.regions.unlabeled()  # another worker may just have done it
            labeled = len(opened.host.ndctl.inventory().regions) - len(unlabeled)
            wanted = unlabeled[: max(len(unlabeled) - leave, 0 if labeled else 1)]
            for region in wanted:
                self.initialize_labels(region)
            return tuple(region.dev for region in wanted)

    @keyword(tags=("region", "destructive"))
    def zero_labels(self, region: Region | str, *, foreign: bool = False) -> Region:
        """Fill the label areas of one region's DIMMs with zeros: its namespaces are gone, their bytes stay.

        The region is disabled for the time of it, and is verified to be enabled again. The label areas are read back.
        Until the host boots again the kernel treats the region as one with labels: all of it is free, and the next
        create writes labels 1.2. See [Get Region Label State].

        Args:
            region: The region's record or its name. There is no default and no "all".
            foreign: End namespaces as well that this run did not make.

        Returns:
            The region's record afterwards.

        Raises:
            UnsupportedError: The region has no label area, or there are no labels in it.
            ForeignError: There are namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed, whatever its exit status; the region was enabled again.

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
        """Return the label areas of one region's DIMMs, decoded from their bytes, and show them in the log.

        Args:
            region: The region's record or its name.

        Returns:
            One record for each DIMM with `dimm`, `version`, `size`, `nslot`, `free` (how many slots), `current` (the
            index block that counts), `index_blocks` (with `seq`, `version`, `nslot`, `free`, `problems`), `labels`
            (with `uuid`, `name`, `slot`, `dpa`, `rawsize`, `flags`, `nlabel`, `position`, `isetcookie`, `lbasize`,
            `type_guid`, `abstraction_guid`, `problems`), `former` (labels in slots that are free again) and `data`.

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

    @keyword(tags=("region", "getter"))
    def get_label_problems(self, region: Region | str) -> tuple[str, ...]:
        """Return every inconsistency of one region's labels.

        Looked at are the bytes of each label area (both index blocks, every label in use, checksums), what the DIMMs
        say of each namespace, whether the kernel has the namespaces that the labels describe and no others, and what
        `ndctl check-labels` says.

        Args:
            region: The region's record or its name.

        Returns:
            A line for each, which begins with where it is; empty when the labels are consistent.

        Raises:
            UnsupportedError: The region has no label area.

        Example:

        ```robotframework
        *** Test Cases ***
        What Is Wrong
            ${problems} =    Get Label Problems    region0
            Should Be Empty    ${problems}
        ```
        """
        problems = self._labels.problems(region)
        logger.info("\n".join(problems) or "The labels are consistent.")
        return problems

    @keyword(tags=("region", "assertion"))
    def labels_should_be_consistent(self, region: Region | str) -> None:
        """Fail unless one region has labels, and all that [Get Label Problems] looks at is consistent.

        Args:
            region: The region's record or its name.

        Raises:
            AssertionError: They are not; the message names every inconsistency.
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
        """Save the label areas of one region's DIMMs in a file, byte for byte, with the DIMMs that they came from.

        Args:
            region: The region's record or its name.
            path: The file, on the machine that the tests run on. One that is there is replaced.

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
        """Write the label areas of a file that [Save Labels] wrote back to the DIMMs that they came from.

        What the labels described is there again, as far as its bytes are: a namespace keeps its UUID, name and content.
        The region is disabled for the time of it, and is verified to be enabled again. The bytes are read back.

        Args:
            region: The region's record or its name.
            path: The file.
            elsewhere: Write them even if they came from DIMMs with other ids. The sizes must be the same all the same.
            foreign: End namespaces as well that this run did not make.

        Returns:
            The region's record afterwards.

        Raises:
            InvalidValueError: The file is none of that kind or is not whole, or it came from other DIMMs.
            ForeignError: There are namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed, whatever its exit status; the region was enabled again.

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
        """Write the label areas of one region's DIMMs as they are given, right or wrong.

        The region is disabled for the time of it, and is verified to be enabled again. The bytes are read back:
        `ndctl write-labels` may fail and exit 0.

        Args:
            region: The region's record or its name.
            labels: One for each DIMM of the region, in their order: what [Read Labels] returned, or bytes.
            foreign: End namespaces as well that this run did not make.

        Returns:
            The region's record afterwards.

        Raises:
            InvalidValueError: They are not one for each DIMM, or not as large as its label area.
            ForeignError: There are namespaces that this run did not make, and `foreign` is not set.
            BusyError: A namespace of the region is in use.
            CommandError: ndctl failed, whatever its exit status; the region was enabled again.

        Example:

        ```robotframework
        *** Test Cases ***
        There And Back
            ${labels} =    Read Labels    region0
            Zero Labels    region0
            Write Labels    region0    @{labels}
        ```
        """
        found = self._context.host.ndctl.region(region)
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

    @keyword(tags=("region", "getter"))
    def get_label_version(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the version of one region's labels, and assert it when an operator is given.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The version that is expected, `1.1` or `1.2`.
            message: Your own failure text.

        Returns:
            The version as text.

        Raises:
            UnsupportedError: The region has no labels, or its DIMMs have labels of several kinds.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        The Newer Labels
            Get Label Version    region0    ==    1.2
        ```
        """
        found = self._labels.labeled(region)[0]
        return assert_text(found.version, assertion_operator, expected, f"Label version of {found.dimm}", message)

    @keyword(tags=("region", "getter"))
    def get_label_slot_count(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many labels each DIMM of one region has room for, and assert it when an operator is given.

        It is read from the index block that counts. The kernel keeps one slot free, as no label is changed in place.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number of slots.

        Raises:
            UnsupportedError: The region has no labels, or its DIMMs have labels of several kinds.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        As Many As Predicted
            ${predicted} =    Get Predicted Label Slot Count    128KiB    version=1.2
            Get Label Slot Count    region0    ==    ${predicted}
        ```
        """
        found = self._labels.labeled(region)[0]
        return assert_value(found.nslot, assertion_operator, expected, f"Label slots of {found.dimm}", message)

    @keyword(tags=("region", "getter"))
    def get_available_label_slots(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how many labels more the kernel would write, and assert it when an operator is given.

        This is the kernel's own count (`available_slots` in sysfs), one less than the slots that are free: it keeps one
        for itself. Each DIMM of the region has as many at least.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The number that is expected.
            message: Your own failure text.

        Returns:
            The number of slots.

        Raises:
            UnsupportedError: The region lies on no DIMM.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Room For Many
            Get Available Label Slots    region0    >    500
        ```
        """
        slots = self._labels.available_slots(region)
        return assert_value(slots, assertion_operator, expected, "Available label slots", message)

    @keyword(tags=("region", "getter"))
    def get_label_area_size(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return how large the label area of one region's smallest DIMM is, and assert it when an operator is given.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The size that is expected, e.g. `128KiB`.
            message: Your own failure text.

        Returns:
            The size in bytes.

        Raises:
            UnsupportedError: The region has no label area.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        The Usual Size
            Get Label Area Size    region0    ==    128KiB
        ```
        """
        found = min(self._labels.read(region), key=lambda area: area.size)
        return assert_size(found.size, assertion_operator, expected, f"Label area of {found.dimm}", message)

    @keyword(tags=("region", "prediction"))
    def get_predicted_label_slot_count(self, area_size: Size, *, version: str = "1.2") -> int:
        """Return how many labels a label area will have room for, computed without touching a host.

        Args:
            area_size: The size of the label area, e.g. `128KiB`.
            version: The label version, `1.1` or `1.2`.

        Returns:
            The number of slots.

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
    def get_region_label_state(
        self,
        region: Region | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return what the kernel makes of one region's labels, and assert it when an operator is given.

        - `labeled`: namespaces come from labels.
        - `lost`: namespaces come from labels, and there are none any more, as after [Zero Labels]. All of the region is
          free and the next create writes labels 1.2. The kernel stays with it until the host boots again.
        - `unlabeled`: the label areas hold no labels. One raw namespace fills the region, and none can be cut from it.
        - `ignored`: there are labels, and the kernel does not go by them. One raw namespace fills the region.
        - `none`: there is no label area, as with `virtio-pmem`.

        Args:
            region: The region's record or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The state that is expected.
            message: Your own failure text.

        Returns:
            The state as text.

        Raises:
            NotFoundError: There is no such region.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Namespaces Can Be Cut From It
            Get Region Label State    region0    ==    labeled
        ```
        """
        found = self._context.host.ndctl.region(region)
        state: LabelState = self._context.host.regions.label_state(found)
        return assert_text(str(state), assertion_operator, expected, f"Label state of {found.dev}", message)

    @keyword(tags=("region", "getter"))
    def get_unlabeled_regions(self) -> tuple[Region, ...]:
        """Return the regions of the current host that lie on DIMMs and that the kernel found no labels on.

        One raw namespace fills each of them. A region whose labels were ended since the host booted is not among them.

        Returns:
            The regions' records; empty when there is none.

        Example:

        ```robotframework
        *** Test Cases ***
        Every Region Has Labels
            ${regions} =    Get Unlabeled Regions
            Should Be Empty    ${regions}
        ```
        """
        regions = self._context.host.regions.unlabeled()
        log_regions("Regions without labels", regions)
        return regions

    @keyword(tags=("region", "getter"))
    def get_region_for_labels(self) -> Region:
        """Return a region of the current host whose labels this run may end: it has labels and nothing else.

        The host's section of the hosts file must say `host_may_initialize_labels = yes`.

        Returns:
            The region's record.

        Raises:
            UnsupportedError: There is none; the message says why, and how to mend it.

        Example:

        ```robotframework
        *** Test Cases ***
        Other Labels
            ${region} =    Get Region For Labels
            Initialize Labels    ${region}    version=1.1    overwrite=True
        ```
        """
        opened = self._context.current
        alias = opened.host.alias
        if not opened.may_initialize_labels:
            raise UnsupportedError(
                f"Labels of {alias} may not be changed: its section of the hosts file does not say "
                "host_may_initialize_labels = yes."
            )
        reasons = []
        for region in opened.host.ndctl.inventory().regions:
            state = opened.host.regions.label_state(region)
            there = namespaces_on(opened.host, region)
            if state is LabelState.labeled and not there and region.state != "disabled":
                return region
            reasons.append(f"{region.dev} has {', '.join(ns.called for ns in there) or f'labels {state}'}")
        raise UnsupportedError(
            f"No region of {alias} has labels and nothing else: {'; '.join(reasons) or 'there is no region'}. "
            "Destroy the namespaces of one, or give it labels (Initialize Labels)."
        )

    def _confirm(self, region: Region | str, foreign: bool) -> Callable[[], None]:
        """Return what raises if a region has a foreign namespace, asked at first and once the region is disabled."""
        host, run = self._context.host, self._context.run
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
