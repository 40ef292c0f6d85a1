"""The persistent memory of a cloud in placement: how much each compute host has, and who has allocated it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from VpmemLibrary.cloud.answers import asked
from VpmemLibrary.cloud.records import CloudServer, Consumer
from VpmemLibrary.errors import NotFoundError

RESOURCE_CLASS = "CUSTOM_PMEM_NAMESPACE_"
"""The beginning of the name of each resource class of vPMEM in placement. The label follows, in upper case."""

_MICROVERSION = "1.36"


class Placement:
    """The placement service of an open cloud.

    Args:
        name: The cloud's name, for messages.
        connection: The connection of openstacksdk.
    """

    def __init__(self, name: str, connection: Any) -> None:
        self._name = name
        self._connection = connection

    def total(self, label: str, host: str) -> int:
        """Return the total number of a host's namespaces with a label, according to placement. It may be 0.

        Raises:
            NotFoundError: Placement has no resource provider of this name.
            CloudError: Placement refused the request, or did not answer.
        """
        inventories = self._provider(host, "inventories")
        return int(inventories.get(resource_class(label), {}).get("total", 0))

    def labels(self, host: str) -> list[str]:
        """Return the labels of a host's namespaces according to placement, in upper case.

        Raises:
            NotFoundError: Placement has no resource provider of this name.
            CloudError: Placement refused the request, or did not answer.
        """
        return _labels_in(self._provider(host, "inventories"))

    def used(self, label: str, host: str) -> int:
        """Return the number of a host's namespaces with a label that are allocated, according to placement.

        Raises:
            NotFoundError: Placement has no resource provider of this name.
            CloudError: Placement refused the request, or did not answer.
        """
        return int(self._provider(host, "usages").get(resource_class(label), 0))

    def allocations(self, server: CloudServer) -> dict[str, int]:
        """Return the namespaces that placement has allocated for a server: the number for each resource class.

        Raises:
            CloudError: Placement refused the request, or did not answer.
        """
        found: Counter[str] = Counter()
        for allocation in self._part(f"/allocations/{server.id}", "allocations").values():
            found.update({k: v for k, v in allocation["resources"].items() if k.startswith(RESOURCE_CLASS)})
        return dict(found)

    def consumers(self) -> list[Consumer]:
        """Return the consumers in placement on each resource provider that has vPMEM, with all their resources there.

        Raises:
            CloudForbiddenError: The policy of placement forbids this to the user.
            CloudError: Placement did not answer.
        """
        return [
            Consumer(
                consumer, provider["name"], ", ".join(f"{n} {name}" for name, n in sorted(held["resources"].items()))
            )
            for provider in self._part("/resource_providers", "resource_providers")
            if _labels_in(self._part(f"/resource_providers/{provider['uuid']}/inventories", "inventories"))
            for consumer, held in self._part(
                f"/resource_providers/{provider['uuid']}/allocations", "allocations"
            ).items()
        ]

    def _provider(self, host: str, part: str) -> Mapping[str, Any]:
        providers = self._part("/resource_providers", "resource_providers")
        for provider in providers:
            if provider["name"] == host:
                found: Mapping[str, Any] = self._part(f"/resource_providers/{provider['uuid']}/{part}", part)
                return found
        raise NotFoundError("resource provider", host, [each["name"] for each in providers], self._name)

    def _part(self, path: str, part: str) -> Any:
        """Return a part of placement's answer to a GET request."""
        import openstack.exceptions  # noqa: PLC0415

        with asked(self._name, f"read {path} of placement"):
            answer = self._connection.placement.get(path, microversion=_MICROVERSION)
            openstack.exceptions.raise_from_response(answer)
            return answer.json()[part]


def resource_class(label: str) -> str:
    """Return the resource class that Nova makes for a label."""
    return f"{RESOURCE_CLASS}{label.upper()}"


def classes_of(labels: Sequence[str]) -> dict[str, int]:
    """Count the namespaces of each resource class in a list of labels."""
    return dict(Counter(resource_class(label) for label in labels))


def _labels_in(inventories: Mapping[str, Any]) -> list[str]:
    return sorted(name.removeprefix(RESOURCE_CLASS) for name in inventories if name.startswith(RESOURCE_CLASS))
