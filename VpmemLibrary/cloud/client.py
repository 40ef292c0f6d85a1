"""A cloud as its users see it, through openstacksdk: flavors, images, servers and compute services.

Everything that a run makes has the run's mark in its name. `clean_up` deletes only objects with this mark.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from VpmemLibrary.cloud.answers import asked
from VpmemLibrary.cloud.login import log_in
from VpmemLibrary.cloud.placement import Placement
from VpmemLibrary.cloud.records import (
    DELETED,
    AvailabilityZone,
    CloudFlavor,
    CloudImage,
    CloudServer,
    MarkedObject,
    ServerState,
)
from VpmemLibrary.cloud.upload import open_upload
from VpmemLibrary.errors import CloudError, CloudUnavailableError, InvalidValueError, NotFoundError
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.polling import attempts, poll
from VpmemLibrary.sizes import MiB, Size

_MARK = re.compile(r"vpmem-([0-9a-f]{8})-", re.ASCII)
_ERROR = "ERROR"
_SOFT_DELETED = "SOFT_DELETED"
_ENDED = {"accepted", "cancelled", "completed", "confirmed", "done", "error", "failed", "reverted"}
_BUILD = "BUILD"
_POLL = 1.0
_LEAST = 10.0
"""The seconds that the last request of a wait may take at least. A busy cloud needs some seconds for an answer."""


class Cloud:
    """An open cloud.

    Args:
        name: The cloud's name, for messages.
        connection: The connection of openstacksdk.
        run: The run. Everything that is made gets its mark.
    """

    def __init__(self, name: str, connection: Any, run: RunMark) -> None:
        self.name = name
        self.placement = Placement(name, connection)
        """The persistent memory of the cloud."""
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
            CloudError: clouds.yaml cannot be used, or the cloud did not answer, or refused the credentials.
        """
        return cls(name, log_in(name, timeout=timeout), run)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

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
        with self._asked(f"create flavor {marked}"):
            made = self._connection.compute.create_flavor(name=marked, ram=ram // MiB, vcpus=vcpus, disk=0)
            identity = self._id_of(made, marked)
            if extra_specs:
                self._connection.compute.create_flavor_extra_specs(identity, dict(extra_specs))
        labels = tuple(part.strip() for part in extra_specs.get("hw:pmem", "").split(",") if part.strip())
        return CloudFlavor(identity, marked, labels)

    def create_image(
        self,
        path: Path,
        *,
        name: str,
        disk_format: str,
        kernel: str,
        ramdisk: str,
        properties: Mapping[str, str],
        timeout: float,
    ) -> CloudImage:
        """Upload a file as an image, and wait until the image is active.

        Args:
            path: The file.
            name: The image's name. The run's mark is put before it.
            disk_format: The format of the file, e.g. ``raw`` or ``qcow2``.
            kernel: The name or id of the image of the kernel that servers boot. If empty, servers boot from the disk.
            ramdisk: The name or id of the image of the initramfs. May be empty.
            properties: More properties of the image, e.g. ``os_command_line``.
            timeout: Seconds until the image has to be active.

        Raises:
            InvalidValueError: The file does not exist, or cannot be read.
            NotFoundError: The cloud has no such kernel or ramdisk.
            CloudError: The cloud refused the image, or the image was not active in time.
        """
        marked = self._marked(name)
        parts = {"kernel_id": kernel, "ramdisk_id": ramdisk}
        wanted = {**properties, **{key: self.image_id(image) for key, image in parts.items() if image}}
        deadline = time.monotonic() + timeout
        with open_upload(path, deadline) as file, self._asked(f"create image {marked}"):
            made = self._connection.image.create_image(
                marked,
                data=file,
                disk_format=disk_format,
                container_format="bare",
                allow_duplicates=True,
                meta=wanted,
            )
        image = CloudImage(self._id_of(made, marked), marked)
        poll(
            lambda: self._status_of(image) == "active",
            f"image {marked} to become active",
            timeout=max(0.0, deadline - time.monotonic()),
            interval=_POLL,
            retry_on=CloudUnavailableError,
            failure=lambda error: (
                error
                or CloudError(
                    f"Image {marked} of cloud {self.name} should be active after {timeout:g} s, but it is "
                    f"{self._status_of(image)}."
                )
            ),
        )
        return image

    def _status_of(self, image: CloudImage) -> str:
        with self._asked(f"show image {image.name}"):
            return str(self._connection.image.get_image(image.id).status)

    def image_id(self, image: str) -> str:
        """Return the id of the image with a name or an id.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud did not answer.
        """
        with self._asked("list its images"):
            images = list(self._connection.image.images())
        for each in images:
            if image in {each.id, each.name}:
                return str(each.id)
        raise NotFoundError("image", image, [str(each.name) for each in images], self.name)

    def create_server(
        self, flavor: CloudFlavor, *, image: str, name: str, host: str = "", zone: str = "", networks: str = "none"
    ) -> CloudServer:
        """Request a new server. Return without waiting for the server.

        Args:
            flavor: The flavor.
            image: The name or id of the image.
            name: The server's name. The run's mark is put before it.
            host: The host name of the hypervisor. If empty, the scheduler chooses.
            zone: The availability zone, which the server never leaves. If empty, it may be in any.
            networks: ``none``, ``auto`` or the id of a network.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud refused the server.
        """
        marked = self._marked(name)
        where = {key: value for key, value in {"host": host, "availability_zone": zone}.items() if value}
        wanted = networks if networks in {"none", "auto"} else [{"uuid": networks}]
        identity = self.image_id(image)
        with self._asked(f"create server {marked}"):
            made = self._connection.compute.create_server(
                name=marked,
                image_id=identity,
                flavor_id=flavor.id,
                networks=wanted,
                metadata={"vpmem_run": self._run.run_id},
                **where,
            )
        return CloudServer(self._id_of(made, marked), marked)

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
        with self._asked(f"{action.replace('_', ' ')} {server.name}"):
            getattr(self._connection.compute, action)(server.id, *arguments, **named)

    def state(self, server: CloudServer) -> ServerState:
        """Return the current state of a server.

        Raises:
            CloudError: The cloud did not answer.
        """
        import openstack.exceptions  # noqa: PLC0415

        with self._asked(f"show server {server.name}"):
            try:
                found = self._connection.compute.get_server(server.id)
            except openstack.exceptions.NotFoundException as error:
                if server.id not in str(error.details):  # the answer of a proxy, not of Nova
                    raise
                return ServerState(DELETED)
        if not found.status:
            raise CloudUnavailableError(f"Cloud {self.name} could not show server {server.name}: no status is in it.")
        return ServerState(
            status=found.status,
            # Nova shows a server as DELETED for a moment before it is gone, and deletes it again if it is asked to.
            task_state=found.task_state or ("deleting" if found.status == DELETED else ""),
            fault=(found.fault or {}).get("message", ""),
            host=found.hypervisor_hostname or "",
            domain=found.instance_name or "",
        )

    def wait(self, server: CloudServer, status: str, *, timeout: float) -> ServerState:
        """Wait until a server has a status and no task.

        Return early if the server is in ERROR, or if its last action failed. Ask again if the cloud did not answer:
        an API that is restarted meanwhile is not the server's failure.

        Returns:
            The last state. It has a different status if the server did not reach `status` in time.

        Raises:
            CloudUnavailableError: The cloud did not answer the last request before the deadline.
            CloudError: The cloud refused a request.
        """
        state = ServerState("UNKNOWN")
        failure: CloudUnavailableError | None = None
        for attempt in attempts(f"server {server.name} to become {status}", timeout=timeout, interval=_POLL):
            try:
                with self._each_request_within(max(_LEAST, timeout - attempt.seconds)):
                    state, over = self._observe(server, status)
            except CloudUnavailableError as error:
                failure = error
                attempt.state = str(error)
                continue
            failure = None
            attempt.state = str(state)
            if over:
                return state
        if failure is not None:
            failure.add(f"So the wait for {status} ended after {timeout:g} s. The last known state is {state}.")
            raise failure
        return state

    @contextmanager
    def _each_request_within(self, seconds: float) -> Iterator[None]:
        """Limit the time of each request during the ``with``, so that an API that hangs does not outlast a wait."""
        session = self._connection.session
        usual = session.timeout
        session.timeout = min(usual, seconds)
        try:
            yield
        finally:
            session.timeout = usual

    def wait_for_deletion(self, server: CloudServer, *, timeout: float) -> ServerState:
        """Wait until Nova no longer has a server that it was asked to delete.

        Some clouds keep a deleted server for a time, with its namespaces (``reclaim_instance_interval``). It is then
        deleted at once by a second request.

        Returns:
            The last state, as `wait` returns it.

        Raises:
            CloudError: The cloud refused a request, or did not answer the last one before the deadline.
        """
        deadline = time.monotonic() + timeout
        state = self.wait(server, DELETED, timeout=timeout)
        if state.status == _SOFT_DELETED:
            self.act(server, "delete_server", force=True)
            state = self.wait(server, DELETED, timeout=max(0.0, deadline - time.monotonic()))
        return state

    def _observe(self, server: CloudServer, status: str) -> tuple[ServerState, bool]:
        """Return the state of a server, and whether a wait for `status` is over."""
        state = self.state(server)
        if state.task_state:
            return state, False
        if state.status in {status, DELETED, _SOFT_DELETED, _ERROR}:
            return state, True
        failed = self._failed_action(server) if state.status != _BUILD else ""
        return replace(state, failed=failed), bool(failed)

    def _failed_action(self, server: CloudServer) -> str:
        """Return the name of a server's last action if it failed. Nova then leaves some servers as they were."""
        with self._asked(f"list the actions on server {server.name}"):
            last = next(iter(self._connection.compute.server_actions(server.id)), None)
        return str(last.action) if last is not None and last.message == "Error" else ""

    def force_down(self, host: str, down: bool) -> None:
        """Set or clear the mark by which Nova takes the compute service of a host as down.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud refused.
        """
        service = self._compute_service(host)
        with self._asked(f"set the compute service of {host} {'down' if down else 'up'}"):
            self._connection.compute.update_service(service.id, forced_down=down)

    def zone(self, host: str) -> AvailabilityZone:
        """Return the availability zone of the compute service on a host.

        Raises:
            NotFoundError: No availability zone has a compute service on the host.
            CloudError: The cloud did not answer, or its policy hides the hosts of its availability zones.
        """
        with self._asked("list the hosts of its availability zones"):
            listed = list(self._connection.compute.availability_zones(details=True))
        zones = [AvailabilityZone(each.name, _with_nova_compute(each.hosts or {})) for each in listed]
        for zone in zones:
            if host in zone.hosts:
                return zone
        raise NotFoundError("compute service", host, [each for zone in zones for each in zone.hosts], self.name)

    def service_report(self, host: str) -> str:
        """Return the time of the last report of the compute service on a host, as Nova gives it.

        Raises:
            NotFoundError: Nova has no compute service on the host.
            CloudError: The cloud did not answer.
        """
        return str(self._compute_service(host).updated_at)

    def marked(self, run_id: str = "") -> list[MarkedObject]:
        """Return the servers, the flavors and the images that a run made, or that all runs made.

        Args:
            run_id: The id of the run. The default is all runs.

        Raises:
            CloudError: The cloud did not answer.
        """
        start = f"vpmem-{run_id}-" if run_id else "vpmem-"
        with self._asked("list what runs made"):
            compute = self._connection.compute
            servers = [("server", each, each.hypervisor_hostname or "") for each in compute.servers(name=start)]
            flavors = [("flavor", each, "") for each in compute.flavors(is_public=None)]
            images = [("image", each, "") for each in self._connection.image.images()]
        return [
            MarkedObject(kind, each.id, each.name, mark[1], host)
            for kind, each, host in [*servers, *flavors, *images]
            if (each.name or "").startswith(start) and (mark := _MARK.match(each.name))
        ]

    def clean_up(self, *, timeout: float) -> list[str]:
        """Delete the servers, the flavors and the images that this run made; see `delete`."""
        return self.delete(self.marked(self._run.run_id), timeout=timeout)

    def delete(self, objects: Sequence[MarkedObject], *, timeout: float) -> list[str]:
        """Delete servers, then flavors and images. Return a description of each deleted object.

        Raises:
            CloudError: The cloud refused to delete something, or a server was not deleted in time. All other objects
                were deleted.
        """
        failed: list[CloudError] = []
        deleted: list[MarkedObject] = []
        awaited: list[MarkedObject] = []
        for each in objects:
            if each.kind == "server":
                with _collected(failed):
                    self.act(CloudServer(each.id, each.name), "delete_server")
                    awaited.append(each)
        for each in awaited:
            with _collected(failed):
                state = self.wait_for_deletion(CloudServer(each.id, each.name), timeout=timeout)
                if state.status != DELETED:
                    raise CloudError(f"Server {each.name} of cloud {self.name} was not deleted: it is {state}.")
                deleted.append(each)
        for each in objects:
            if each.kind != "server":
                with _collected(failed):
                    self._delete(each)
                    deleted.append(each)
        if failed:
            for error in failed[1:]:
                failed[0].add(str(error))
            raise failed[0]
        return [str(each) for each in deleted]

    def _delete(self, each: MarkedObject) -> None:
        """Delete a flavor or an image. Do nothing if there is none."""
        with self._asked(f"delete {each}"):
            if each.kind == "flavor":
                self._connection.compute.delete_flavor(each.id)
            else:
                self._connection.image.delete_image(each.id)

    def servers_of_all_projects(self) -> set[str]:
        """Return the ids of the servers of all projects.

        Raises:
            CloudForbiddenError: The policy forbids this to the user.
            CloudError: The cloud did not answer.
        """
        with self._asked("list the servers of all projects"):
            return {each.id for each in self._connection.compute.servers(details=False, all_projects=True)}

    def unfinished_migrations(self) -> set[str]:
        """Return the ids of the migrations that have not ended. Such a migration holds the old allocation of a server.

        Raises:
            CloudForbiddenError: The policy forbids this to the user.
            CloudError: The cloud did not answer.
        """
        with self._asked("list the migrations"):
            return {each.uuid for each in self._connection.compute.migrations() if each.status not in _ENDED}

    def compute_hosts(self) -> set[str]:
        """Return the host names of the compute services.

        Raises:
            CloudError: The cloud did not answer, or its policy hides them.
        """
        with self._asked("list its compute services"):
            return {each.host for each in self._connection.compute.services(binary="nova-compute")}

    def _compute_service(self, host: str) -> Any:
        with self._asked("list its compute services"):
            found = {each.host: each for each in self._connection.compute.services(binary="nova-compute")}
        if host not in found:
            raise NotFoundError("compute service", host, list(found), self.name)
        return found[host]

    def _id_of(self, made: Any, name: str) -> str:
        """Return the id of what was made."""
        if not made.id:
            raise CloudUnavailableError(
                f"Cloud {self.name} gave no id for {name}, so its answer was not that of OpenStack. Clean Up Cloud "
                "finds by its name what was made."
            )
        return str(made.id)

    def _asked(self, what: str) -> AbstractContextManager[None]:
        return asked(self.name, what)

    def _marked(self, name: str) -> str:
        return f"vpmem-{self._run.run_id}-{name}"


def _with_nova_compute(hosts: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    """Return those hosts of an availability zone that have nova-compute. The zone of other services has none."""
    return tuple(sorted(host for host, services in hosts.items() if "nova-compute" in services))


@contextmanager
def _collected(failed: list[CloudError]) -> Iterator[None]:
    """Add a CloudError to a list instead of raising it."""
    try:
        yield
    except CloudError as error:
        failed.append(error)
