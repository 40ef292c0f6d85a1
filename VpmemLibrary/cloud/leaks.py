"""Record the leftovers in a cloud and on its compute hosts before and after a run, and describe the difference."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from msgspec import Struct

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.compute_hosts import hypervisor_host_name, open_hosts
from VpmemLibrary.errors import CloudForbiddenError
from VpmemLibrary.session.session import Session
from VpmemLibrary.transport.base import query
from VpmemLibrary.visible import one_line

INSTANCES = "/var/lib/nova/instances"
"""The directory in which nova-compute keeps a directory for each server of its host."""

_ID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DIRECTORY = re.compile(rf"({_ID})(?:_resize|_del)?", re.ASCII)
_DOMAIN = re.compile(r"instance-[0-9a-f]{8}", re.ASCII)
_SCRIPT = '[ ! -d "$1" ] || find "$1" -mindepth 1 -maxdepth 1 -type d -print0'
_OBJECTS, _ALLOCATIONS = "objects of this run", "allocations in placement"


class CloudState(Struct, frozen=True):
    """The leftovers in a cloud at one moment.

    Args:
        left: For each part that was read: a description of each leftover.
        unread: For each part that the user may not read: the reason.
    """

    left: Mapping[str, frozenset[str]]
    unread: Mapping[str, str]

    @classmethod
    def read(cls, session: Session, cloud: Cloud) -> CloudState:
        """Return the current state of a cloud and of its open compute hosts.

        The leftovers are the servers, flavors and images of this run, and what belongs to servers that Nova does not
        have: allocations in placement on resource providers with vPMEM, and the domains and instance directories of the
        open hosts.

        Raises:
            CloudError: The cloud did not answer.
            VpmemError: An open host did not answer.
        """
        # Nova's servers are read last, so that a server that is created meanwhile is known.
        found = {f"compute host {name}": each for name, each in _on_hosts(session)}
        left = {_OBJECTS: frozenset(f"{each}, {each.id}" for each in cloud.marked(session.run.run_id))}
        unread: dict[str, str] = {}
        try:
            found[_ALLOCATIONS] = _allocations(cloud)
        except CloudForbiddenError as error:
            unread[_ALLOCATIONS] = str(error)
        try:
            known = cloud.servers_of_all_projects() | cloud.unfinished_migrations()
        except CloudForbiddenError as error:
            return cls(left, unread | dict.fromkeys(found, str(error)))
        for part, things in found.items():
            left[part] = frozenset(what for what, server in things.items() if server not in known)
        return cls(left, unread)

    def difference(self, after: CloudState) -> tuple[str, ...]:
        """Describe in one line each the leftovers that only a later state has. No lines mean no leak."""
        return tuple(
            f"leaked: {one_line(what)}"
            for part, things in self.left.items()
            for what in sorted(after.left.get(part, frozenset()) - things)
        )

    def not_compared(self, after: CloudState) -> tuple[str, ...]:
        """Describe in one line each the parts that cannot be compared with a later state, with the reason."""
        parts = dict.fromkeys(self.left.keys() ^ after.left.keys(), "the host is open in only one of both states")
        return tuple(f"{part}: {reason}" for part, reason in sorted({**parts, **self.unread, **after.unread}.items()))


def _allocations(cloud: Cloud) -> dict[str, str]:
    """Return a description of each allocation on resource providers with vPMEM, with the id of its consumer."""
    return {
        f"allocation of {each.resources} on {each.provider}, by {each.id}, which is no server": each.id
        for each in cloud.placement.consumers()
    }


def _on_hosts(session: Session) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the name of each open host, and what is on it for servers: a description, with the id of the server."""
    for opened in open_hosts(session):
        link = opened.guests.link
        domains = link.call("list domains", lambda connection: [_domain(each) for each in connection.listAllDomains()])
        output = opened.host.transport.run(query(_SCRIPT, INSTANCES)).check().stdout
        directories = [os.fsdecode(name) for name in output.split(b"\0") if name]
        name = hypervisor_host_name(opened)
        yield (
            name,
            {
                **{f"domain {domain} on {name}": server for domain, server in domains if _DOMAIN.fullmatch(domain)},
                **{
                    f"directory {directory} on {name}": match[1]
                    for directory in directories
                    if (match := _DIRECTORY.fullmatch(directory.rpartition("/")[2]))
                },
            },
        )


def _domain(domain: Any) -> tuple[str, str]:
    """Return the name of a domain, and its UUID, which is the id of its server in Nova."""
    return domain.name(), domain.UUIDString()
