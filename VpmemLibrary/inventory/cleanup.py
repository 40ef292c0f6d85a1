"""Removing what runs made on a host; nothing without a mark is ever touched."""

from __future__ import annotations

from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import InvalidValueError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.in_use import refuse_in_use
from VpmemLibrary.inventory.ownership import RunMark
from VpmemLibrary.model import Namespace


def clean_up(host: Host, run: RunMark) -> tuple[Namespace, ...]:
    """Destroy every namespace that this run made on a host, and return what they were; see also `unmount_owned`.

    All of them are tried; the first failure is raised afterwards.

    Raises:
        BusyError: One is in use.
        CommandError: ndctl failed.
    """
    destroyed = []
    failures = []
    for namespace in host.ndctl.inventory().namespaces:
        if not run.owns(namespace):
            continue
        try:
            host.dax.release(namespace)
            host.namespaces.destroy_listed(namespace)
            destroyed.append(namespace)
        except VpmemError as error:  # the others go all the same; this one is told afterwards
            failures.append(error)
    if failures:
        raise failures[0]
    return tuple(destroyed)


def wipe_namespace(host: Host, namespace: Namespace) -> None:
    """Overwrite every byte of a namespace with zeros, and prove it by reading all of it again.

    Args:
        host: The host that has it.
        namespace: Its record, with its device as it is called now.

    Raises:
        InvalidValueError: It is disabled, so it has no device.
        BusyError: It is in use; nothing was written.
        CommandError: A tool failed: some of it may hold what it held.
        ContentDiffersError: Something is left though the tools reported success.
    """
    if not namespace.device:
        raise InvalidValueError("namespace", namespace.called, "an active one: this one has no device to be wiped")
    refuse_in_use(host.transport, namespace)
    ContentStore(host.transport).wipe(namespace.device)
