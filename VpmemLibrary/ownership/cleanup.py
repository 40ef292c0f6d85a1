"""Removing what runs made on a host; nothing without a mark is ever touched."""

from __future__ import annotations

from contextlib import suppress

from VpmemLibrary.errors import InvalidValueError, NotFoundError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.marks import RunMark, run_of_uuid
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.pmem.regions.cxl import CxlRegion
from VpmemLibrary.transport.base import CommandResult


def clean_up(host: Host, run: RunMark) -> tuple[Namespace, ...]:
    """Destroy every namespace that this run made on a host, and return what they were; see also `unmount_owned`.

    Each is found by its UUID when its turn comes, and one that is gone by then is no failure: another worker of the run
    destroyed it. All of them are tried; the first failure is raised afterwards.

    Raises:
        BusyError: One is in use.
        CommandError: ndctl failed.
    """
    removed: list[tuple[Namespace, CommandResult]] = []
    gone: list[tuple[Namespace, VpmemError]] = []
    failures: list[VpmemError] = []
    for namespace in host.ndctl.inventory().namespaces:
        if not run.owns(namespace):
            continue
        try:
            host.dax.release(namespace)
            removed.append((namespace, host.namespaces.remove(namespace)))
        except NotFoundError as error:
            gone.append((namespace, error))
        except VpmemError as error:  # the others go all the same; this one is told afterwards
            failures.append(error)
    if removed:
        failures += host.namespaces.still_there(removed)
    if gone:
        there = {namespace.label_uuid for namespace in host.ndctl.inventory().namespaces}
        failures += [error for namespace, error in gone if namespace.label_uuid in there]
    if failures:
        raise failures[0]
    return tuple(namespace for namespace, _ in removed)


def clean_up_cxl(host: Host, run: RunMark) -> tuple[CxlRegion, ...]:
    """Take apart every CXL region that this run assembled on a host, and return what they were.

    Raises:
        BusyError: One has namespaces.
        CommandError: cxl failed.
    """
    removed = []
    for region in marked_cxl_regions(host):
        if run.owns_uuid(region.uuid):
            with suppress(NotFoundError):  # another worker of the run did it
                host.cxl.destroy_region(region)
                removed.append(region)
    return tuple(removed)


def marked_cxl_regions(host: Host) -> tuple[CxlRegion, ...]:
    """Return the CXL regions that any run assembled; cxl is not asked, nor needed, where no region has a mark."""
    if not any(run_of_uuid(uuid) for uuid in host.cxl.region_uuids().values()):
        return ()
    return tuple(region for region in host.cxl.regions() if run_of_uuid(region.uuid))


def wipe_namespace(host: Host, namespace: Namespace) -> None:
    """Overwrite every byte of a namespace with zeros, and prove it by reading all of it again.

    Args:
        host: The host that has it.
        namespace: Its record. Before each piece is written, the namespace is looked for by its UUID.

    Raises:
        InvalidValueError: It is disabled, so it has no device.
        NotFoundError: It is gone.
        BusyError: It is in use; nothing was written, or a part as the message says.
        LeaseLostError: A lease of the caller is not its own any more; likewise.
        CommandError: A tool failed: some of it may hold what it held.
        ContentDiffersError: Something is left though the tools reported success.
    """
    if not namespace.device:
        raise InvalidValueError("namespace", namespace.called, "an active one: this one has no device to be wiped")
    host.content.wipe(namespace, unused=True)
