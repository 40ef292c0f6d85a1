"""A cloud as its users see it, through openstacksdk: flavors, images, servers, and the persistent memory in placement.

Everything that a run makes has the run's mark in its name. `clean_up` deletes only objects with this mark.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from VpmemLibrary.errors import CloudError, InvalidValueError, NotFoundError
from VpmemLibrary.extras import require_extra
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.polling import attempts
from VpmemLibrary.sizes import MiB, Size

LAB = "lab"
"""The name of the lab's cloud. Every other name is a cloud of clouds.yaml."""

RESOURCE_CLASS = "CUSTOM_PMEM_NAMESPACE_"
"""The beginning of the name of each resource class of vPMEM in placement. The label follows, in upper case."""

DELETED = "DELETED"
"""The status of a server that Nova no longer has."""

_MARK = re.compile(r"vpmem-([0-9a-f]{8})-", re.ASCII)
_ERROR = "ERROR"
_BUILD = "BUILD"
_POLL = 0.5
_PLACEMENT = "1.36"


@dataclass(frozen=True, slots=True)
class CloudFlavor:
    """A flavor of a cloud. `pmem` has the labels of its extra spec ``hw:pmem``."""

    id: str
    name: str
    pmem: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class CloudServer:
    """A server of a cloud: its id and its name."""

    id: str
    name: str


@dataclass(frozen=True, slots=True)
class MarkedObject:
    """A server or a flavor that a run made.

    Args:
        kind: ``server`` or ``flavor``.
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


class Cloud:
    """An open cloud.

    Args:
        name: The cloud's name, for messages.
        connection: The connection of openstacksdk.
        run: The run. Everything that is made gets its mark.
    """

    def __init__(self, name: str, connection: Any, run: RunMark) -> None:
        self.name = name
        self._connection = connection
        self._run = run

    @classmethod
    def open(cls, name: str, run: RunMark, *, timeout: float) -> Cloud:
        """Connect to a cloud and log in.

        Args:
            name: A cloud of clouds.yaml, or ``lab`` for the lab's cloud.
            run: The run.
            timeout: Seconds that one request may take.

        Raises:
            UnsupportedError: The packages of the extra `openstack` are not installed.
            InvalidValueError: clouds.yaml has no such cloud.
            CloudError: The cloud did not answer, or refused the credentials.
        """
        require_extra("openstack", "A cloud")
        import openstack.config  # noqa: PLC0415
        import openstack.connection  # noqa: PLC0415
        import openstack.exceptions  # noqa: PLC0415

        files: dict[str, Any] = {}
        cloud = name
        if name == LAB:
            from VpmemLibrary.cloud.lab_cloud import LabCloud  # noqa: PLC0415
            from VpmemLibrary.cloud.settings import CLOUD_NAME  # noqa: PLC0415

            lab = LabCloud()
            if not lab.exists:
                raise InvalidValueError("cloud", name, "a cloud that runs: start the lab's cloud by vpmem cloud up")
            files, cloud = {"config_files": [str(lab.clouds_yaml)]}, CLOUD_NAME
        try:
            config = openstack.config.OpenStackConfig(**files)
            if cloud not in config.get_cloud_names():
                known = ", ".join(sorted(config.get_cloud_names())) or "there is none"
                raise InvalidValueError("cloud", name, f"{LAB}, or a cloud of clouds.yaml ({known})")
            region = config.get_one(cloud=cloud, api_timeout=timeout, app_name="vpmem")
        except openstack.exceptions.ConfigException as error:
            raise CloudError(f"clouds.yaml cannot be used for cloud {name!r}: {error}") from error
        opened = cls(name, openstack.connection.Connection(config=region), run)
        with opened.asked("log in"):
            opened._connection.authorize()
        return opened

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    @contextmanager
    def asked(self, what: str) -> Iterator[None]:
        """Raise the errors of openstacksdk as errors of this library.

        Args:
            what: The action for the message, e.g. ``list its images``.

        Raises:
            CloudError: The cloud refused the request, or did not answer in time.
        """
        import keystoneauth1.exceptions  # noqa: PLC0415
        import openstack.exceptions  # noqa: PLC0415

        try:
            yield
        except openstack.exceptions.ForbiddenException as error:
            raise CloudError(
                f"Cloud {self.name} could not {what}, because its policy forbids this to the user: {_said(error)}. Use "
                "an account with the role that the policy names, or leave out the test."
            ) from error
        except (openstack.exceptions.SDKException, keystoneauth1.exceptions.ClientException) as error:
            raise CloudError(f"Cloud {self.name} could not {what}: {_said(error)}") from error

    def create_flavor(self, name: str, *, ram: Size, vcpus: int, extra_specs: Mapping[str, str]) -> CloudFlavor:
        """Create a flavor without a disk.

        Args:
            name: The flavor's name. The run's mark is put before it.
            ram: The RAM, in whole MiB.
            vcpus: The number of virtual CPUs.
            extra_specs: The extra specs, e.g. ``hw:pmem``.

        Raises:
            InvalidValueError: The RAM is not in whole MiB.
            CloudError: The cloud refused the flavor.
        """
        if ram < MiB or ram % MiB:
            raise InvalidValueError("ram", str(ram), "whole MiB, e.g. 256MiB")
        marked = self._marked(name)
        with self.asked(f"create flavor {marked}"):
            made = self._connection.compute.create_flavor(name=marked, ram=ram // MiB, vcpus=vcpus, disk=0)
            if extra_specs:
                self._connection.compute.create_flavor_extra_specs(made, dict(extra_specs))
        labels = tuple(part.strip() for part in extra_specs.get("hw:pmem", "").split(",") if part.strip())
        return CloudFlavor(made.id, marked, labels)

    def image_id(self, image: str) -> str:
        """Return the id of the image with a name or an id.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud did not answer.
        """
        with self.asked("list its images"):
            images = list(self._connection.image.images())
        for each in images:
            if image in {each.id, each.name}:
                return str(each.id)
        raise NotFoundError("image", image, [str(each.name) for each in images], self.name)

    def create_server(
        self, flavor: CloudFlavor, *, image: str, name: str, host: str = "", networks: str = "none"
    ) -> CloudServer:
        """Request a new server. Return without waiting for the server.

        Args:
            flavor: The flavor.
            image: The name or id of the image.
            name: The server's name. The run's mark is put before it.
            host: The host name of the hypervisor. If empty, the scheduler chooses.
            networks: ``none``, ``auto`` or the id of a network.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud refused the server.
        """
        marked = self._marked(name)
        where = {"host": host} if host else {}
        wanted = networks if networks in {"none", "auto"} else [{"uuid": networks}]
        identity = self.image_id(image)
        with self.asked(f"create server {marked}"):
            made = self._connection.compute.create_server(
                name=marked,
                image_id=identity,
                flavor_id=flavor.id,
                networks=wanted,
                metadata={"vpmem_run": self._run.run_id},
                **where,
            )
        return CloudServer(made.id, marked)

    def act(self, server: CloudServer, action: str, *arguments: object, **named: object) -> None:
        """Request an action on a server. Return without waiting for its end.

        Args:
            server: The server.
            action: The method of openstacksdk's compute service, e.g. ``stop_server``.
            arguments: The other arguments of this method, after the server.
            named: The named arguments of this method.

        Raises:
            CloudError: The cloud refused the action.
        """
        with self.asked(f"{action.replace('_', ' ')} {server.name}"):
            getattr(self._connection.compute, action)(server.id, *arguments, **named)

    def state(self, server: CloudServer) -> ServerState:
        """Return the current state of a server.

        Raises:
            CloudError: The cloud did not answer.
        """
        import openstack.exceptions  # noqa: PLC0415

        with self.asked(f"show server {server.name}"):
            try:
                found = self._connection.compute.get_server(server.id)
            except openstack.exceptions.NotFoundException:
                return ServerState(DELETED)
        return ServerState(
            status=found.status,
            task_state=found.task_state or "",
            fault=(found.fault or {}).get("message", ""),
            host=found.hypervisor_hostname or "",
            domain=found.instance_name or "",
        )

    def wait(self, server: CloudServer, status: str, *, timeout: float) -> ServerState:
        """Wait until a server has a status and no task.

        Return early if the server is in ERROR, or if its last action failed.

        Returns:
            The last state. It has a different status if the server did not reach `status` in time.

        Raises:
            CloudError: The cloud did not answer.
        """
        state = ServerState("UNKNOWN")
        for attempt in attempts(f"server {server.name} to become {status}", timeout=timeout, interval=_POLL):
            state = self.state(server)
            attempt.state = str(state)
            if state.task_state:
                continue
            if state.status in {status, DELETED, _ERROR}:
                break
            if state.status != _BUILD and (failed := self._failed_action(server)):
                return replace(state, failed=failed)
        return state

    def _failed_action(self, server: CloudServer) -> str:
        """Return the name of a server's last action if it failed. Nova then leaves some servers as they were."""
        with self.asked(f"list the actions on server {server.name}"):
            last = next(iter(self._connection.compute.server_actions(server.id)), None)
        return str(last.action) if last is not None and last.message == "Error" else ""

    def force_down(self, host: str, down: bool) -> None:
        """Set or clear the mark by which Nova takes the compute service of a host as down.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud refused.
        """
        service = self._compute_service(host)
        with self.asked(f"set the compute service of {host} {'down' if down else 'up'}"):
            self._connection.compute.update_service(service.id, forced_down=down)

    def service_report(self, host: str) -> str:
        """Return the time of the last report of the compute service on a host, as Nova gives it.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud did not answer.
        """
        return str(self._compute_service(host).updated_at)

    def total(self, label: str, host: str) -> int:
        """Return the total number of a host's namespaces with a label, according to placement. It may be 0.

        Raises:
            NotFoundError: Placement has no resource provider of this name.
            CloudError: Placement refused the request, or did not answer.
        """
        inventories = self._provider(host, "inventories")
        return int(inventories.get(resource_class(label), {}).get("total", 0))

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
        for allocation in self._placement(f"/allocations/{server.id}")["allocations"].values():
            found.update({k: v for k, v in allocation["resources"].items() if k.startswith(RESOURCE_CLASS)})
        return dict(found)

    def marked(self, run_id: str = "") -> list[MarkedObject]:
        """Return the servers and the flavors that a run made, or that all runs made.

        Args:
            run_id: The id of the run. The default is all runs.

        Raises:
            CloudError: The cloud did not answer.
        """
        start = f"vpmem-{run_id}-" if run_id else "vpmem-"
        compute = self._connection.compute
        with self.asked("list what runs made"):
            servers = [("server", each, each.hypervisor_hostname or "") for each in compute.servers(name=start)]
            flavors = [("flavor", each, "") for each in compute.flavors(is_public=None)]
        return [
            MarkedObject(kind, each.id, each.name, mark[1], host)
            for kind, each, host in [*servers, *flavors]
            if each.name.startswith(start) and (mark := _MARK.match(each.name))
        ]

    def clean_up(self, *, timeout: float) -> list[str]:
        """Delete the servers, then the flavors that this run made; see `delete`."""
        return self.delete(self.marked(self._run.run_id), timeout=timeout)

    def delete(self, objects: Sequence[MarkedObject], *, timeout: float) -> list[str]:
        """Delete servers, then flavors. Return a description of each deleted object.

        Raises:
            CloudError: The cloud refused to delete something, or a server was not deleted in time.
        """
        servers = [CloudServer(each.id, each.name) for each in objects if each.kind == "server"]
        for server in servers:
            self.act(server, "delete_server")
        for server in servers:
            state = self.wait(server, DELETED, timeout=timeout)
            if state.status != DELETED:
                raise CloudError(f"Server {server.name} of cloud {self.name} was not deleted: it is {state}.")
        for flavor in objects:
            if flavor.kind == "flavor":
                with self.asked(f"delete flavor {flavor.name}"):
                    self._connection.compute.delete_flavor(flavor.id)
        return [str(each) for each in objects]

    def compute_hosts(self) -> set[str]:
        """Return the host names of the compute services.

        Raises:
            CloudError: The cloud did not answer, or its policy hides them.
        """
        with self.asked("list its compute services"):
            return {each.host for each in self._connection.compute.services(binary="nova-compute")}

    def _compute_service(self, host: str) -> Any:
        with self.asked("list its compute services"):
            found = {each.host: each for each in self._connection.compute.services(binary="nova-compute")}
        if host not in found:
            raise NotFoundError("compute service", host, list(found), self.name)
        return found[host]

    def _provider(self, host: str, part: str) -> Mapping[str, Any]:
        providers = self._placement("/resource_providers")["resource_providers"]
        for provider in providers:
            if provider["name"] == host:
                found: Mapping[str, Any] = self._placement(f"/resource_providers/{provider['uuid']}/{part}")[part]
                return found
        raise NotFoundError("resource provider", host, [each["name"] for each in providers], self.name)

    def _placement(self, path: str) -> Any:
        with self.asked(f"read {path} of placement"):
            answer = self._connection.placement.get(path, microversion=_PLACEMENT)
            if answer.status_code >= 400:
                said = f"with status {answer.status_code}: {answer.text[:300]}"
                raise CloudError(f"Placement of cloud {self.name} answered {path} {said}")
            return answer.json()

    def _marked(self, name: str) -> str:
        return f"vpmem-{self._run.run_id}-{name}"


def resource_class(label: str) -> str:
    """Return the resource class that Nova makes for a label."""
    return f"{RESOURCE_CLASS}{label.upper()}"


def classes_of(labels: Sequence[str]) -> dict[str, int]:
    """Count the namespaces of each resource class in a list of labels."""
    return dict(Counter(resource_class(label) for label in labels))


def _said(error: Exception) -> str:
    """Return the cloud's answer as one line."""
    text = str(getattr(error, "details", None) or error) or type(error).__name__
    return " ".join(text.split())
