"""Remove the objects that a run made on a host. Never change an object without a mark."""

from __future__ import annotations

from contextlib import suppress

from VpmemLibrary.errors import InvalidValueError, NotFoundError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.ownership.marks import RunMark, run_of, run_of_uuid
from VpmemLibrary.pmem.dax.test_bus import TEST_BUS
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.pmem.regions.cxl import CxlRegion
from VpmemLibrary.transport.base import CommandResult


def clean_up(host: Host, run: RunMark) -> tuple[Namespace, ...]:
    """Destroy every namespace that this run made on a host, and return these namespaces; see also `unmount_owned`.

    Find each namespace by its UUID just before destroying it. A namespace that is gone by then is not a failure:
    another worker of the run destroyed it. Try all namespaces, then raise the first failure.

    Raises:
        BusyError: A namespace is in use.
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
        except VpmemError as error:
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
    """Destroy every CXL region that this run assembled on a host, and return these regions.

    Raises:
        BusyError: A region has namespaces.
        CommandError: cxl failed.
    """
    removed = []
    for region in marked_cxl_regions(host):
        if run.owns_uuid(region.uuid):
            # Another worker of the run may have destroyed the region.
            with suppress(NotFoundError):
                host.cxl.destroy_region(region)
                removed.append(region)
    return tuple(removed)


def marked_cxl_regions(host: Host) -> tuple[CxlRegion, ...]:
    """Return the CXL regions that any run assembled. If no region has a mark, the host needs no cxl."""
    if not any(run_of_uuid(uuid) for uuid in host.cxl.region_uuids().values()):
        return ()
    return tuple(region for region in host.cxl.regions() if run_of_uuid(region.uuid))


def writable(host: Host, namespace: Namespace) -> Namespace:
    """Return a namespace of a run in a mode in which it can be wiped.

    Device DAX on a test bus cannot be mapped, so the mode of such a namespace is changed to raw. Its new UUID has the
    mark of the same run.

    Args:
        host: The namespace's host.
        namespace: The namespace's record. It has the mark of a run.

    Raises:
        NotFoundError: The namespace is gone.
        BusyError: The namespace is in use. Nothing was changed.
        CommandError: ndctl failed.
    """
    if namespace.mode is not NamespaceMode.devdax:
        return namespace
    if not host.ndctl.region(namespace.region).provider.startswith(TEST_BUS):
        return namespace
    uuid = RunMark(run_of(namespace)).new_uuid()
    return host.namespaces.reconfigure(namespace, mode=NamespaceMode.raw, uuid=uuid)


def wipe_namespace(host: Host, namespace: Namespace) -> None:
    """Overwrite every byte of a namespace with zeros, then read all bytes again to check them.

    Args:
        host: The namespace's host.
        namespace: The namespace's record. Each write finds the namespace again by its UUID.

    Raises:
        InvalidValueError: The namespace is disabled, so it has no device.
        NotFoundError: The namespace is gone.
        BusyError: The namespace is in use. Nothing was written, or only the part that the message names.
        LeaseLostError: The caller lost a lease. Nothing was written, or only the part that the message names.
        CommandError: A tool failed. Part of the namespace may still have its old content.
        ContentDiffersError: The tools reported success, but some bytes are not zero.
    """
    if not namespace.device:
        raise InvalidValueError("namespace", namespace.called, "an active namespace: this one has no device to wipe")
    host.content.wipe(namespace, must_be_unused=True)
