"""Regions of one machine: enabled, disabled and given labels by its own ndctl.

ndctl may fail at a region and exit 0, so each change is proven by a fresh listing.
"""

from __future__ import annotations

import re

from VpmemLibrary.errors import CommandError, InvalidValueError, UnsupportedError
from VpmemLibrary.host.in_use import refuse_in_use
from VpmemLibrary.host.ndctl import Ndctl
from VpmemLibrary.host.ndctl_errors import checked
from VpmemLibrary.host.prediction import checked_label_version
from VpmemLibrary.model import NamespaceMode, Region


class Regions:
    """The regions of one machine.

    Args:
        ndctl: The machine's ndctl.

    Example::

        regions = Regions(Ndctl(transport))
        regions.initialize_labels("region0")
    """

    def __init__(self, ndctl: Ndctl) -> None:
        self._ndctl = ndctl

    def unlabeled(self) -> tuple[Region, ...]:
        """Return the regions that lie on DIMMs and have no labels: one raw namespace fills each of them."""
        regions = [region for region in self._ndctl.inventory().regions if region.dimms]
        labeled = self._ndctl.labeled(regions)
        return tuple(region for region in regions if region.dev not in labeled)

    def enable(self, region: Region | str) -> Region:
        """Enable a region, and prove it: ``ndctl enable-region`` can fail and exit 0.

        Raises:
            NotFoundError: There is no such region.
            CommandError: It is not enabled afterwards.
        """
        before = self._ndctl.region(region)
        if before.state != "disabled":
            return before
        return self._switch_region(before, "enable", wanted="")

    def disable(self, region: Region | str) -> Region:
        """Disable a region and so its namespaces, and prove it.

        Raises:
            NotFoundError: There is no such region.
            BusyError: One of its namespaces is in use.
            CommandError: It is not disabled afterwards.
        """
        before = self._ndctl.region(region)
        if before.state == "disabled":
            return before
        for namespace in before.namespaces:
            refuse_in_use(self._ndctl.transport, namespace)
        return self._switch_region(before, "disable", wanted="disabled")

    def initialize_labels(self, region: Region | str, *, version: str = "1.2", overwrite: bool = False) -> Region:
        """Give every DIMM of a region a fresh label area, so that namespaces can be cut from the region.

        Args:
            region: The region's record or name; always exactly one.
            version: The label version: 1.1, or 1.2 (UEFI 2.7), under which small sector namespaces work.
            overwrite: End the labels, and so the namespaces, that there are.

        Raises:
            InvalidValueError: The version is unknown; or there are namespaces, and `overwrite` is not set.
            UnsupportedError: The region lies on no DIMM, so there is no label area.
            BusyError: One of its namespaces is in use.
            CommandError: ndctl failed; the region was enabled again.
        """
        checked_label_version(version)
        before = self._ndctl.region(region)
        if not before.dimms:
            raise UnsupportedError(
                f"{before.dev} on {self._ndctl.transport.name} lies on no DIMM (provider {before.provider}), "
                "so it has no label area."
            )
        if not overwrite and (losses := self._losses(before)):
            raise InvalidValueError(
                "overwrite", overwrite, f"True, to end what {before.dev} of {self._ndctl.transport.name} has: {losses}"
            )
        self.disable(before)
        try:
            for dimm in before.dimms:
                self._init_dimm(before, dimm, version, overwrite)
        except BaseException:
            self._switch_region(before, "enable", wanted="")
            raise
        return self._switch_region(before, "enable", wanted="")

    def _switch_region(self, region: Region, verb: str, *, wanted: str) -> Region:
        result = checked(self._ndctl.change(region.dev, f"{verb}-region", region.dev), f"{verb} {region.dev}")
        after = self._ndctl.region(region)
        if after.state != wanted:
            raise CommandError(
                result, f"{region.dev} is {after.state or 'enabled'} though ndctl exited 0: its count is on stderr"
            )
        return after

    def _init_dimm(self, region: Region, dimm: str, version: str, overwrite: bool) -> None:
        force = ["--force"] if overwrite else []
        result = self._ndctl.change(region.dev, "init-labels", "--label-version", version, *force, dimm)
        checked(result, f"initialise the labels of {dimm}")
        count = re.search(r"initialized ([0-9]+) nmem", result.error_text)
        if count is None or count[1] == "0":
            raise CommandError(result, f"The labels of {dimm} were not initialised though ndctl exited 0")

    def _losses(self, region: Region) -> str:
        """Tell what initialising labels would end; the raw namespace that fills a region without labels is nothing."""
        labeled = region.dev in self._ndctl.labeled([region])
        ended = [ns.called for ns in region.namespaces if labeled or ns.mode is not NamespaceMode.raw]
        return ", ".join(ended) or ("labels, without a namespace" if labeled else "")
