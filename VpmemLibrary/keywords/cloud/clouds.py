"""Keywords for a cloud: its flavors and servers, and their persistent memory in placement."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.cloud.client import Cloud
from VpmemLibrary.cloud.compute_hosts import (
    adopt,
    compute_logs,
    hypervisor_host_name,
    left_by_dead_runs,
    show_that_the_run_lives,
)
from VpmemLibrary.cloud.login import LAB
from VpmemLibrary.cloud.placement import classes_of
from VpmemLibrary.cloud.records import DELETED, CloudFlavor, CloudImage, CloudServer
from VpmemLibrary.errors import CloudError, NotFoundError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text, assert_value
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.bounded_file import expanded

SERVER_TIMEOUT = timedelta(minutes=10)
"""How long a server may take for a change by default. An emulated compute host needs half a minute for a server."""


class CloudKeywords:
    """Keywords for the open cloud.

    Args:
        session: Returns the session with the open hosts.
    """

    def __init__(self, session: Callable[[], Session]) -> None:
        self._session = session
        self._open: Cloud | None = None

    @property
    def cloud(self) -> Cloud:
        """The open cloud.

        Raises:
            NotFoundError: No cloud is open.
        """
        if self._open is None:
            raise NotFoundError("open cloud", "(current)", [])
        return self._open

    @keyword(tags=("cloud",))
    def open_cloud(self, name: str = LAB, *, timeout: timedelta = timedelta(minutes=2)) -> None:
        """Log in to a cloud. The next keywords use it. A cloud that was open is closed.

        Nothing of the cloud is started or configured.

        Args:
            name: A cloud of `clouds.yaml`, or `lab` for the cloud of `vpmem cloud up`.
            timeout: How long one request may take. While a keyword waits for a server, a request that is not answered
                ends 10 s after the keyword's own timeout at the latest.

        Raises:
            UnsupportedError: The packages of the extra `openstack` are not installed.
            InvalidValueError: `clouds.yaml` has no such cloud, or the lab has no cloud.
            CloudError: `clouds.yaml` cannot be used, or the cloud did not answer, or refused the credentials.

        Example:

        ```robotframework
        *** Settings ***
        Library    VpmemLibrary
        Library    VpmemLibrary.OpenStack

        *** Test Cases ***
        A Server With Persistent Memory
            Open Cloud    production
            ${flavor} =    Create Flavor    small    hw:pmem=SMALL
            ${server} =    Create Server    ${flavor}    image=cirros
            Server Should Become    ${server}    ACTIVE
            Placement Should Hold    ${server}    SMALL
            [Teardown]    Run Keywords    Clean Up Cloud    AND    Close Cloud
        ```
        """
        self.close_cloud()
        self._open = Cloud.open(name, self._session().run, timeout=timeout.total_seconds())

    @keyword(tags=("cloud",))
    def close_cloud(self) -> None:
        """Close the connection to the cloud. Nothing is deleted. Do nothing if no cloud is open.

        Example:

        ```robotframework
        *** Test Cases ***
        Closed
            Close Cloud
        ```
        """
        opened, self._open = self._open, None
        if opened is not None:
            opened.close()

    @keyword(tags=("cloud", "destructive"))
    def clean_up_cloud(self, *, timeout: timedelta = SERVER_TIMEOUT) -> list[str]:
        """Delete the servers, the flavors and the images that this run created. Nothing else is changed.

        Args:
            timeout: How long the deletion of one server may take.

        Returns:
            A description of each thing that was deleted.

        Raises:
            CloudError: The cloud refused to delete something, or a server was not deleted in time. Everything else was
                deleted.

        Example:

        ```robotframework
        *** Test Cases ***
        Clean
            ${deleted} =    Clean Up Cloud
        ```
        """
        deleted = self.cloud.clean_up(timeout=timeout.total_seconds())
        logger.info("\n".join(deleted) or "Nothing to delete.")
        return deleted

    @keyword(tags=("cloud", "destructive"))
    def clean_up_cloud_after_dead_runs(self, *, timeout: timedelta = SERVER_TIMEOUT) -> list[str]:
        """Delete the servers, flavors and images that dead runs left in the cloud. Open all compute hosts first.

        A living run holds its own lease on the hosts that it has open, from the first thing that it creates in the
        cloud. A run that has no lease on any compute host counts as dead. So do not use this keyword on a cloud where
        runs create servers without an open compute host. Each deletion is a warning in the log.

        Args:
            timeout: How long the deletion of one server may take.

        Returns:
            A description of each thing that was deleted.

        Raises:
            InvalidValueError: A compute host of the cloud is not open. Nothing was deleted.
            CloudError: The cloud refused to delete something, or a server was not deleted in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Clean Start
            Open Cloud    lab
            Clean Up Cloud After Dead Runs
        ```
        """
        left = left_by_dead_runs(self._session(), self.cloud)
        deleted = self.cloud.delete(left, timeout=timeout.total_seconds())
        for what in deleted:
            logger.warn(f"Deleted the leftover of a dead run in cloud {self.cloud.name}: {what}.")
        return deleted

    @keyword(tags=("cloud", "server"))
    def create_flavor(
        self, name: str, *, ram: Size = Size(256 * MiB), vcpus: int = 1, **extra_specs: str
    ) -> CloudFlavor:
        """Create a flavor without a disk. Its name in the cloud begins with the run's mark.

        Args:
            name: The flavor's name.
            ram: The server's RAM, without persistent memory.
            vcpus: The number of virtual CPUs.
            extra_specs: `hw:pmem=4GB,SMALL` gives a server one namespace for each label.

        Returns:
            A record with `id`, `name` and `pmem` (the labels).

        Raises:
            InvalidValueError: The RAM is not in whole MiB.
            CloudError: The cloud refused the flavor.

        Example:

        ```robotframework
        *** Test Cases ***
        With Persistent Memory
            ${flavor} =    Create Flavor    with-vpmem    hw:pmem=4GB,SMALL
        ```
        """
        show_that_the_run_lives(self._session())
        return self.cloud.create_flavor(name, ram=ram, vcpus=vcpus, extra_specs=extra_specs)

    @keyword(tags=("cloud", "server"))
    def create_image(
        self,
        path: Path,
        *,
        name: str = "image",
        disk_format: str = "raw",
        kernel: str = "",
        ramdisk: str = "",
        timeout: timedelta = SERVER_TIMEOUT,
        **properties: str,
    ) -> CloudImage:
        """Upload a file of the controller as an image, and wait until the image is active.

        Args:
            path: The file with the disk of the image.
            name: The image's name. Its name in the cloud begins with the run's mark.
            disk_format: The format of the file, e.g. `raw` or `qcow2`.
            kernel: The name or id of an image with a kernel, which servers boot instead of the disk.
            ramdisk: The name or id of an image with an initramfs for this kernel.
            timeout: How long the upload may take, until the image is active.
            properties: More properties of the image, e.g. `os_command_line`.

        Returns:
            A record with `id` and `name`.

        Raises:
            InvalidValueError: The file does not exist, or cannot be read.
            NotFoundError: The cloud has no such kernel or ramdisk.
            CloudError: The cloud refused the image, or the image was not active in time.

        Example:

        ```robotframework
        *** Test Cases ***
        A Server From An Image Of This Run
            ${image} =    Create Image    ~/debian.qcow2    disk_format=qcow2    hw_qemu_guest_agent=yes
            ${server} =    Create Server    ${flavor}    image=${image.id}
            Server Should Become    ${server}    ACTIVE
        ```
        """
        show_that_the_run_lives(self._session())
        return self.cloud.create_image(
            expanded(path),
            name=name,
            disk_format=disk_format,
            kernel=kernel,
            ramdisk=ramdisk,
            properties=properties,
            timeout=timeout.total_seconds(),
        )

    @keyword(tags=("cloud", "server"))
    def create_server(
        self,
        flavor: CloudFlavor,
        *,
        image: str,
        name: str = "server",
        host: str = "",
        zone: str = "",
        networks: str = "none",
    ) -> CloudServer:
        """Ask the cloud for a server, and return at once. [Server Should Become] waits for it.

        Args:
            flavor: The server's flavor.
            image: The name or id of the image.
            name: The server's name. Its name in the cloud begins with the run's mark.
            host: The host name of the compute host. Without it the scheduler chooses. A resize may move the server.
            zone: The availability zone. No resize or other move takes the server out of it. Without it the server may
                be in any zone.
            networks: `none`, `auto` or the id of a network.

        Returns:
            A record with `id` and `name`.

        Raises:
            NotFoundError: The cloud has no such image.
            CloudError: The cloud refused the server.

        Example:

        ```robotframework
        *** Test Cases ***
        A Server
            ${server} =    Create Server    ${flavor}    image=vpmem-guest
            Server Should Become    ${server}    ACTIVE
        ```
        """
        show_that_the_run_lives(self._session())
        return self.cloud.create_server(flavor, image=image, name=name, host=host, zone=zone, networks=networks)

    @keyword(tags=("cloud", "server", "assertion"))
    def server_should_become(self, server: CloudServer, status: str, *, timeout: timedelta = SERVER_TIMEOUT) -> None:
        """Wait until a server has a status and no task. Fail at once if it is in ERROR or deleted instead.

        A request that is not answered, or is answered with a status of 500 or higher, is sent again until the timeout.

        Args:
            server: The server.
            status: The status in Nova's words, e.g. `ACTIVE`, `SHUTOFF`, `VERIFY_RESIZE`, `ERROR` or `DELETED`.
            timeout: How long to wait.

        Raises:
            AssertionError: The server has another status, or a task that did not end. The message has the fault, and
                the last lines of nova-compute's log on the open hosts.
            CloudError: The cloud refused, or did not answer the last request before the timeout.

        Example:

        ```robotframework
        *** Test Cases ***
        Started
            Server Should Become    ${server}    ACTIVE    timeout=2 minutes
        ```
        """
        state = self.cloud.wait(server, status, timeout=timeout.total_seconds())
        if state.status != status or state.task_state:
            raise AssertionError(self._with_logs(f"Server {server.name} should become {status}, but it is {state}."))
        logger.info(f"Server {server.name} is {state}.")

    @keyword(tags=("cloud", "server", "getter"))
    def get_server_fault(
        self,
        server: CloudServer,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return the message of a server's fault, and assert it if an operator is given.

        Args:
            server: The server.
            assertion_operator: See *Assertions* in the introduction of VpmemLibrary.
            expected: The expected text.
            message: Your own failure text.

        Returns:
            The message; empty if the server has no fault.

        Raises:
            CloudError: The cloud did not answer.
            AssertionError: The value is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        No Namespace Is Free
            Get Server Fault    ${server}    contains    No valid host
        ```
        """
        fault = self.cloud.state(server).fault
        return assert_text(fault, assertion_operator, expected, f"Fault of server {server.name}", message)

    @keyword(tags=("cloud", "server", "destructive"))
    def delete_server(self, server: CloudServer, *, timeout: timedelta = SERVER_TIMEOUT) -> None:
        """Delete a server, and wait until the cloud no longer has it.

        A cloud that keeps deleted servers for a time is asked to delete the server at once.

        Args:
            server: The server.
            timeout: How long to wait.

        Raises:
            CloudError: The cloud refused, or the server was not deleted in time. The message has the fault, and the
                last lines of nova-compute's log on the open hosts.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Delete Server    ${server}
        ```
        """
        self.cloud.act(server, "delete_server")
        state = self.cloud.wait_for_deletion(server, timeout=timeout.total_seconds())
        if state.status != DELETED:
            raise CloudError(self._with_logs(f"Server {server.name} was not deleted: it is {state}."))

    @keyword(tags=("cloud", "server", "getter"))
    def get_server_guest(self, server: CloudServer) -> Guest:
        """Return a server's domain as a guest, for the keywords of guests. Its compute host becomes the current host.

        The compute host is the open host whose libvirt has the host name that Nova reports. The guest is foreign: this
        run did not define it. Ask again after each start of the server.

        Args:
            server: The server.

        Returns:
            The guest.

        Raises:
            CloudError: Nova reports no compute host or no domain. The policy may hide them.
            NotFoundError: The compute host is not open, or has no such domain.

        Example:

        ```robotframework
        *** Test Cases ***
        In The Guest
            ${guest} =    Get Server Guest    ${server}
            Wait Until Guest Is Ready    ${guest}
            All Views Should Agree    ${guest}
        ```
        """
        session = self._session()
        opened, guest = adopt(session, self.cloud, server)
        session.switch(opened.alias)
        return guest

    @keyword(tags=("cloud", "getter"))
    def get_hypervisor_host_name(self) -> str:
        """Return the name by which Nova and placement know the current host: its host name in libvirt.

        Returns:
            The host name, e.g. for the argument `host` of [Create Server].

        Raises:
            LibvirtError: libvirt on the host did not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        On This Host
            ${host} =    Get Hypervisor Host Name
            ${server} =    Create Server    ${flavor}    image=vpmem-guest    host=${host}
        ```
        """
        return hypervisor_host_name(self._session().current)

    @keyword(tags=("cloud", "getter"))
    def get_placement_total(
        self,
        label: str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
        *,
        host: str = "",
    ) -> Any:
        """Return how many namespaces of a label placement has for a host. Assert it when an operator is given.

        Args:
            label: A label of the setting `pmem_namespaces`. Placement has it in upper case.
            assertion_operator: See *Assertions* in the introduction of VpmemLibrary.
            expected: The expected number.
            message: Your own failure text.
            host: The resource provider's name. The default is the current host's name in libvirt.

        Returns:
            The number; 0 if placement has no such resource class for the host.

        Raises:
            NotFoundError: Placement has no such resource provider.
            CloudError: Placement refused, or did not answer.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        Totals
            Get Placement Total    SMALL    ==    2
        ```
        """
        found = self.cloud.placement.total(label, host or hypervisor_host_name(self._session().current))
        return assert_value(found, assertion_operator, expected, f"Namespaces of {label} in placement", message)

    @keyword(tags=("cloud", "getter"))
    def get_placement_labels(self, *, host: str = "") -> list[str]:
        """Return the labels of the namespaces that placement has for a host, in upper case.

        Args:
            host: The resource provider's name. The default is the current host's name in libvirt.

        Returns:
            The labels; empty if the host gives no namespace to servers.

        Raises:
            NotFoundError: Placement has no such resource provider.
            CloudError: Placement refused, or did not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        Only On Hosts With Persistent Memory
            ${labels} =    Get Placement Labels
            Skip If    not $labels    The setting pmem_namespaces of this host is empty.
        ```
        """
        return self.cloud.placement.labels(host or hypervisor_host_name(self._session().current))

    @keyword(tags=("cloud", "getter"))
    def get_placement_used(
        self,
        label: str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
        *,
        host: str = "",
    ) -> Any:
        """Return how many namespaces of a label are allocated on a host. Assert it when an operator is given.

        Args:
            label: A label of the setting `pmem_namespaces`. Placement has it in upper case.
            assertion_operator: See *Assertions* in the introduction of VpmemLibrary.
            expected: The expected number.
            message: Your own failure text.
            host: The resource provider's name. The default is the current host's name in libvirt.

        Returns:
            The number.

        Raises:
            NotFoundError: Placement has no such resource provider.
            CloudError: Placement refused, or did not answer.
            AssertionError: The number is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        One Of Two
            Get Placement Used    SMALL    ==    1
        ```
        """
        found = self.cloud.placement.used(label, host or hypervisor_host_name(self._session().current))
        return assert_value(found, assertion_operator, expected, f"Allocated namespaces of {label}", message)

    @keyword(tags=("cloud", "server", "assertion"))
    def placement_should_hold(self, server: CloudServer, *labels: str) -> None:
        """Fail unless placement has allocated exactly the namespaces of these labels for a server.

        Args:
            server: The server.
            labels: The labels, in any order. A label that is given twice means two namespaces. Without labels, the
                server must have no allocation of persistent memory.

        Raises:
            AssertionError: The allocation is different.
            CloudError: Placement refused, or did not answer.

        Example:

        ```robotframework
        *** Test Cases ***
        Allocated
            Placement Should Hold    ${server}    SMALL    4GB
        ```
        """
        found, expected = self.cloud.placement.allocations(server), classes_of(labels)
        names = sorted({*found, *expected})
        log_table(
            f"Allocations of server {server.name}",
            ("resource class", "expected", "found"),
            [(name, expected.get(name, 0), found.get(name, 0)) for name in names],
        )
        if found != expected:
            raise AssertionError(f"Placement should hold {expected} for server {server.name}, but it holds {found}.")

    def _with_logs(self, text: str) -> str:
        return f"{text}\n{compute_logs(self._session())}".rstrip()
