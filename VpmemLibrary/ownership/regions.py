"""Check that a region is a run's own: the run made all its namespaces."""

from __future__ import annotations

from VpmemLibrary.errors import UnsupportedError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.pmem.labels.dimm import read_areas
from VpmemLibrary.pmem.records import Namespace, NamespaceMode, Region


def namespaces_on(host: Host, region: Region | str) -> tuple[Namespace, ...]:
    """Return every namespace on a region and on the regions that share a DIMM with the region.

    Read ndctl's listing and the labels: for a disabled region, only the labels describe the namespaces. Leave out the
    bare namespace that fills a region without labels, because it does not show whether the region is in use.

    Args:
        host: The region's host.
        region: The region's record or name.

    Raises:
        NotFoundError: There is no such region.
    """
    found, *beside = host.ndctl.regions_beside(region)
    listed = [ns for each in (found, *beside) for ns in each.namespaces if not ns.bare]
    try:
        areas = read_areas(host.ndctl, found)
    except UnsupportedError:
        areas = ()
    known = {namespace.label_uuid for namespace in listed}
    described = {
        label.uuid: Namespace(f"slot {label.at} of {area.dimm}", NamespaceMode.raw, name=label.name, uuid=label.uuid)
        for area in areas
        for label in area.labels
        if label.uuid not in known
    }
    return (*listed, *described.values())


def require_own_region(host: Host, run: RunMark, region: Region | str) -> None:
    """Raise unless a run made all namespaces on a region.

    Args:
        host: The region's host.
        run: The run.
        region: The region's record or name.

    Raises:
        NotFoundError: There is no such region.
        ForeignError: The run did not make one of the namespaces. The message names this namespace.
    """
    for namespace in namespaces_on(host, region):
        run.require_own(namespace)
