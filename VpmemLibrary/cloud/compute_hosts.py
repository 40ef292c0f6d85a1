"""Find the compute host of a server among the open hosts, and the server's domain on it."""

from __future__ import annotations

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.records import CloudServer, MarkedObject, ServerState
from VpmemLibrary.errors import CloudError, InvalidValueError, NotFoundError, VpmemError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.leases.leases import living_runs
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.session.session import Session

COMPUTE_LOG = "/var/log/nova/nova-compute.log"
"""The log of nova-compute on a compute host."""


def hypervisor_host_name(opened: OpenHost) -> str:
    """Return the host name that libvirt reports for an open host. Nova calls a hypervisor by this name."""
    return str(opened.guests.link.call("read its host name", lambda connection: connection.getHostname()))


def compute_host(session: Session, state: ServerState, server: CloudServer) -> OpenHost:
    """Return the open host on which a server is.

    Raises:
        CloudError: Nova reports no host for the server.
        NotFoundError: The host is not open.
    """
    if not state.host:
        raise CloudError(
            f"Nova reports no compute host for server {server.name}, which is {state}. If the server is ACTIVE, the "
            "policy hides it: use an administrator's account."
        )
    names = {hypervisor_host_name(opened): opened for opened in open_hosts(session)}
    if state.host not in names:
        raise NotFoundError("open host with the hypervisor host name", state.host, list(names))
    return names[state.host]


def adopt(session: Session, cloud: Cloud, server: CloudServer) -> tuple[OpenHost, Guest]:
    """Return the open host of a server, and the server's domain as a guest. This run did not make the guest.

    Raises:
        CloudError: Nova reports no host or no domain for the server.
        NotFoundError: The host is not open, or has no such domain.
    """
    state = cloud.state(server)
    opened = compute_host(session, state, server)
    if not state.domain:
        raise CloudError(
            f"The policy of cloud {cloud.name} hides the domain of a server: use an administrator's account."
        )
    opened.guests.forget(state.domain)  # a server that was stopped and started has another process and another agent
    return opened, opened.guests.find(state.domain)


def show_that_the_run_lives(session: Session) -> None:
    """Acquire this run's lease on each open host, so that other runs do not take its objects in a cloud as leftovers.

    Raises:
        LeaseLostError: This worker lost a lease on a host.
    """
    for opened in open_hosts(session):
        opened.tenancy.hold_run_lease()


def left_by_dead_runs(session: Session, cloud: Cloud) -> list[MarkedObject]:
    """Return the servers, flavors and images that dead runs left in a cloud.

    A run that creates anything in a cloud holds its own lease on each host that it has open. So the objects of a run
    are leftovers if all compute hosts of the cloud are open here, and the run has no lease on any of them.

    Raises:
        CloudError: The cloud did not answer, or its policy hides the compute services.
        InvalidValueError: A compute host is not open, so a run may live there.
        UnknownHolderError: A lease is held but its record is unreadable, so any run may be alive.
    """
    found = [each for each in cloud.marked() if each.run_id != session.run.run_id]
    if not found:
        return []
    living = {hypervisor_host_name(opened): _living_runs(opened) for opened in open_hosts(session)}
    if closed := sorted(cloud.compute_hosts() - set(living)):
        raise InvalidValueError("open hosts", ", ".join(living), f"all compute hosts: open {', '.join(closed)} as well")
    return [each for each in found if each.run_id not in set().union(*living.values())]


def compute_logs(session: Session, lines: int = 10) -> str:
    """Return the last lines of the logs of nova-compute on all open hosts, for a failure. Empty if there is none."""
    found = []
    for alias in session.aliases:
        opened = session.find(alias)
        try:
            result = opened.host.transport.run(["tail", "-n", str(lines), COMPUTE_LOG])
        except VpmemError:
            continue
        if result.exit_status == 0 and result.text.strip():
            found.append(f"The end of {COMPUTE_LOG} on {alias}:\n{result.text.rstrip()}")
    return "\n".join(found)


def open_hosts(session: Session) -> list[OpenHost]:
    """Return the open hosts that are no guests."""
    return [opened for opened in map(session.find, session.aliases) if opened.guest is None]


def _living_runs(opened: OpenHost) -> set[str]:
    return living_runs(opened.tenancy.leases.entries())
