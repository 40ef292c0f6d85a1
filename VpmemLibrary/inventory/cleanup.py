"""Removing what runs made on a host; nothing without a mark is ever touched."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.errors import InvalidValueError, VpmemError
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.in_use import refuse_in_use
from VpmemLibrary.inventory.mount_ownership import unmount_of
from VpmemLibrary.inventory.ownership import RunMark, is_marked, run_of
from VpmemLibrary.model import Namespace


def clean_up(host: Host, run: RunMark) -> tuple[Namespace, ...]:
    """Destroy every namespace that this run made on a host, and return what they were; see also `unmount_owned`.

    All of them are tried; the first failure is raised afterwards.

    Raises:
        BusyError: One is in use.
        CommandError: ndctl failed.
    """
    return _destroy_all(host, (ns for ns in host.ndctl.inventory().namespaces if run.owns(ns)))


def leftovers(host: Host, alive: Collection[str]) -> tuple[Namespace, ...]:
    """Return the namespaces of runs that are dead.

    Args:
        host: The host.
        alive: The ids of the runs that still live, this one among them.
    """
    return tuple(ns for ns in host.ndctl.inventory().namespaces if is_marked(ns) and run_of(ns) not in alive)


def clean_up_leftovers(host: Host, alive: Collection[str]) -> tuple[Namespace, ...]:
    """Unmount and destroy what dead runs left on a host, and return its namespaces. Never done unless asked for.

    Args:
        host: The host.
        alive: The ids of the runs that still live, this one among them: what they made is left.

    Raises:
        BusyError: One is in use.
        CommandError: ndctl failed.
    """
    unmount_of(host, lambda maker: maker not in alive)
    return _destroy_all(host, leftovers(host, alive))


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


def _destroy_all(host: Host, namespaces: Iterable[Namespace]) -> tuple[Namespace, ...]:
    destroyed = []
    failures = []
    for namespace in namespaces:
        try:
            host.dax.release(namespace)
            host.namespaces.destroy(namespace)
            destroyed.append(namespace)
        except VpmemError as error:  # the others go all the same; this one is told afterwards
            failures.append(error)
    if failures:
        raise failures[0]
    return tuple(destroyed)
