"""The records of what is in a cloud."""

from __future__ import annotations

from dataclasses import dataclass

DELETED = "DELETED"
"""The status of a server that Nova no longer has."""


@dataclass(frozen=True, slots=True)
class AvailabilityZone:
    """An availability zone of a cloud: its name, and the host names of its compute services."""

    name: str
    hosts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloudFlavor:
    """A flavor of a cloud. `pmem` has the labels of its extra spec ``hw:pmem``."""

    id: str
    name: str
    pmem: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloudImage:
    """An image of a cloud: its id and its name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class CloudServer:
    """A server of a cloud: its id and its name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class MarkedObject:
    """A server, a flavor or an image that a run made.

    Args:
        kind: ``server``, ``flavor`` or ``image``.
        id: The id in the cloud.
        name: The name in the cloud.
        run_id: The id of the run.
        host: The hypervisor's host name of a server. Empty if there is none, or if the user may not see it.
    """

    kind: str
    id: str
    name: str
    run_id: str
    host: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer of persistent memory in placement.

    Args:
        id: Its id: that of a server, or of the migration of a server.
        provider: The resource provider's name.
        resources: The resources that it has allocated there, e.g. ``1 CUSTOM_PMEM_NAMESPACE_SMALL``.
    """

    id: str
    provider: str
    resources: str


@dataclass(frozen=True, slots=True)
class ServerState:
    """The state of a server, as Nova reports it.

    Args:
        status: The status, e.g. ``ACTIVE``.
        task_state: The current task. Empty if there is none.
        fault: The message of the fault. Empty if there is none.
        host: The hypervisor's host name. Empty if the server has no host, or the user may not see it.
        domain: The name of the domain on the host. Empty if the user may not see it.
        failed: The last action, if it failed and left no fault, e.g. ``shelve``. `Cloud.wait` sets it.
    """

    status: str
    task_state: str = ""
    fault: str = ""
    host: str = ""
    domain: str = ""
    failed: str = ""

    def __str__(self) -> str:
        task = f", task {self.task_state}" if self.task_state else ""
        failed = f", and its last action failed: {self.failed}" if self.failed else ""
        return f"{self.status}{task}{f': {self.fault}' if self.fault else ''}{failed}"
