"""Servers on real hosts. Create, resize, stop, rebuild and delete them. Claim and wipe their namespaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from VpmemLibrary.claims.claims import Claim, ClaimRequest
from VpmemLibrary.errors import GuestError, InvalidValueError, NotFoundError, OutOfSpaceError, VpmemError
from VpmemLibrary.guest import lifecycle, readiness
from VpmemLibrary.guest.domain.definition import best_hypervisor
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.nova.domain import server_devices, server_domain
from VpmemLibrary.nova.flavor import Flavor
from VpmemLibrary.nova.server import Allocation, Server, ServerStatus
from VpmemLibrary.session.open_host import OpenHost
from VpmemLibrary.transport.base import checked_name

_OFF = "shut off"


class Servers:
    """The servers of one worker.

    Args:
        find: A function that returns an open host by its alias.
        run_id: The run's id.
    """

    def __init__(self, find: Callable[[str], OpenHost], run_id: str) -> None:
        self._find = find
        self._run_id = run_id
        self._servers: dict[str, Server] = {}
        self._made = 0

    def server(self, which: Server | str) -> Server:
        """Return a server.

        Raises:
            NotFoundError: This worker created no server of that name.
        """
        if isinstance(which, Server):
            return which
        if which not in self._servers:
            raise NotFoundError("server", which, list(self._servers))
        return self._servers[which]

    @property
    def all(self) -> tuple[Server, ...]:
        """Every server in the order of creation, deleted servers too. If a name was used again, its last server."""
        return tuple(self._servers.values())

    def status(self, server: Server) -> ServerStatus:
        """Return a server's status. If the guest no longer runs, for any reason, the status becomes SHUTOFF."""
        if server.status is ServerStatus.active and self._guest(server).state() == _OFF:
            server.status = ServerStatus.shutoff
        return server.status

    def create(self, flavor: Flavor, host: str, *, name: str = "", timeout: float) -> Server:
        """Create a server. It becomes ACTIVE when its guest is ready, or ERROR with the reason.

        A server in ERROR holds no namespace and leaves nothing on the host.

        Args:
            flavor: The flavor of the server.
            host: The alias of the host.
            name: The name of the server. The default is a new name.
            timeout: Maximum seconds until the guest is ready.

        Raises:
            InvalidValueError: The name is in use or invalid, or the host has no image to boot from. Or the host's
                setting does not have a label of the flavor. Labels are case-sensitive.
        """
        self._made += 1
        name = checked_name("server name", name) if name else f"server-{self._made}"
        if name in self._servers and self._servers[name].status is not ServerStatus.deleted:
            raise InvalidValueError("server name", name, f"a name that no server has ({', '.join(self._servers)})")
        compute = self._find(host)
        self._check(compute, flavor)
        server = Server(name, f"instance-{self._run_id}-{self._made}", Allocation(host, flavor))
        self._servers[name] = server
        try:
            server.here.claims = self._claim(compute, flavor)
        except (InvalidValueError, OutOfSpaceError) as error:
            server.fault = f"No valid host was found: {error}"
            server.status = ServerStatus.error
            return server
        try:
            self._spawn(server, timeout)
        except VpmemError as error:
            server.failed(error)
            self._withdraw(server, error)
        return server

    def delete(self, server: Server) -> None:
        """Delete a server. Wipe its namespaces and give them back. Do the same with the namespaces of an open resize.

        Raises:
            VpmemError: A namespace could not be wiped. The namespace is unfit, the server is in ERROR and its domain
                stays.
        """
        if server.status is ServerStatus.deleted:
            raise InvalidValueError("server", server.name, "a server that was not deleted")
        self._power_off(server)
        with self._errors_of(server):
            for allocation in filter(None, (server.here, server.before)):
                claims, allocation.claims = allocation.claims, ()
                self._find(allocation.host).tenancy.claims.release(claims)
        self._undefine(server)
        server.before = None
        server.status = ServerStatus.deleted

    def stop(self, server: Server, timeout: float) -> None:
        """Shut a server down. The server keeps its namespaces and their content.

        Raises:
            GuestError: The server did not shut down within `timeout`.
        """
        server.require("stop", ServerStatus.active)
        lifecycle.shut_down(self._guest(server), timeout)
        server.status = ServerStatus.shutoff

    def start(self, server: Server, timeout: float) -> None:
        """Start a server that is off. Its devices are found by their UUIDs, even if they have new names.

        Raises:
            LeaseLostError: The server lost a namespace while it was off.
            GuestError: The server was not ready within `timeout`. It is in ERROR.
        """
        server.require("start", ServerStatus.shutoff)
        with self._errors_of(server):
            self._boot(server, timeout)
        server.status = ServerStatus.active

    def reboot(self, server: Server, timeout: float, *, hard: bool) -> None:
        """Reboot a server.

        A soft reboot is done inside the guest. A hard reboot cuts the guest's power and starts the guest again.

        Raises:
            GuestError: The server was not ready within `timeout`. It is in ERROR.
        """
        server.require("reboot", ServerStatus.active)
        with self._errors_of(server):
            if hard:
                lifecycle.destroy(self._guest(server))
                self._boot(server, timeout)
            else:
                lifecycle.reboot(self._guest(server), timeout)

    def rebuild(self, server: Server, timeout: float) -> None:
        """Create a server again on the same namespaces. The namespaces are wiped first.

        Raises:
            VpmemError: A namespace could not be wiped, or the server was not ready within `timeout`. It is in ERROR.
        """
        server.require("rebuild", ServerStatus.active, ServerStatus.shutoff)
        self._power_off(server)
        with self._errors_of(server):
            self._undefine(server)
            self._find(server.host).tenancy.claims.wipe(server.claims)
            self._spawn(server, timeout)

    def resize(self, server: Server, flavor: Flavor, host: str, timeout: float) -> None:
        """Give a server another flavor, on the same host or on another host.

        The server keeps its old namespaces until the resize is confirmed or reverted. As in Nova, content is not
        copied: the new namespaces contain zeros. If the resize fails, the server is restored to its old state.

        Args:
            server: The server. It must be ACTIVE.
            flavor: The new flavor.
            host: The alias of the new host. It may be the same host.
            timeout: Maximum seconds until the guest is off, and again until it is ready.

        Raises:
            ExhaustedError: The host does not have the namespaces of the flavor now. The server still runs as before.
            InvalidValueError: The host can never have the namespaces of the flavor.
            VpmemError: The server did not start with the new flavor. It was restored.
        """
        server.require("resize", ServerStatus.active)
        target = self._find(host)
        self._check(target, flavor)
        old, new = server.here, Allocation(host, flavor, self._claim(target, flavor))
        try:
            lifecycle.shut_down(self._guest(server), timeout)
        except VpmemError as error:
            self._give_back(new, error)
            raise
        try:
            self._undefine(server)
            server.here = new
            self._spawn(server, timeout)
        except VpmemError as error:
            self._power_off(server)
            self._undefine(server)
            server.here = old
            self._give_back(new, error)
            self._spawn(server, timeout)
            raise
        server.before = old
        server.status = ServerStatus.verify_resize

    def confirm_resize(self, server: Server) -> None:
        """Keep the new namespaces of a resize. Wipe the old namespaces and give them back.

        Raises:
            VpmemError: An old namespace could not be wiped. The namespace is unfit, and the server is in ERROR.
        """
        server.require("confirm a resize of", ServerStatus.verify_resize)
        before, server.before = server.before, None
        with self._errors_of(server):
            if before is not None:
                self._find(before.host).tenancy.claims.release(before.claims)
        server.status = ServerStatus.active

    def revert_resize(self, server: Server, timeout: float) -> None:
        """Return a server to its namespaces from before a resize, with their content. Wipe the new namespaces.

        Raises:
            VpmemError: A new namespace could not be wiped, or the server was not ready within `timeout`. It is in
                ERROR.
        """
        server.require("revert a resize of", ServerStatus.verify_resize)
        new, old = server.here, server.before
        if old is None:
            raise InvalidValueError("server", server.name, "a server with a resize to revert")
        self._power_off(server)
        self._undefine(server)
        server.here, server.before = old, None
        with self._errors_of(server):
            self._find(new.host).tenancy.claims.release(new.claims)
            self._spawn(server, timeout)

    # Implementation

    def _check(self, compute: OpenHost, flavor: Flavor) -> None:
        for label in flavor.pmem:
            compute.tenancy.claims.setting.require_label(label)
        if compute.guests.defaults.boot is None:
            raise InvalidValueError(
                "server image", "none", "guest_kernel or guest_disk in the hosts file, or Set Guest Image"
            )

    def _claim(self, compute: OpenHost, flavor: Flavor) -> tuple[Claim, ...]:
        return compute.tenancy.claims.claim([ClaimRequest(label) for label in flavor.pmem]) if flavor.pmem else ()

    def _spawn(self, server: Server, timeout: float) -> None:
        """Define a server's guest on the host of its namespaces, start the guest and wait until it is ready."""
        self._define(server)
        guest = self._guest(server)
        lifecycle.start(guest)
        readiness.wait_until_ready(guest, timeout)
        server.status = ServerStatus.active
        server.fault = ""

    def _define(self, server: Server) -> None:
        compute = self._find(server.host)
        boot = compute.guests.defaults.boot
        if boot is None:
            raise InvalidValueError("server image", "none", "the image with which the server was created")
        server.here.claims = tuple(compute.tenancy.claims.now(claim) for claim in server.claims)
        xml = server_domain(
            server.domain,
            server.flavor,
            [claim.namespace for claim in server.claims],
            boot,
            run_id=self._run_id,
            hypervisor=best_hypervisor(compute.guests.link),
        )
        server.guest = compute.guests.define_from(xml)

    def _boot(self, server: Server, timeout: float) -> None:
        """Start a server's guest that is off. Define the guest again if a device has a new name."""
        compute = self._find(server.host)
        compute.tenancy.claims.require(server.claims)
        now = [compute.tenancy.claims.now(claim).namespace for claim in server.claims]
        paths = [device.path for device in self._guest(server).devices]
        if paths != [device.path for device in server_devices(now)]:
            self._undefine(server)
            self._define(server)
        lifecycle.start(self._guest(server))
        readiness.wait_until_ready(self._guest(server), timeout)

    def _guest(self, server: Server) -> Guest:
        if server.guest is None:
            raise GuestError(f"Server {server.name} has no guest: it is {server.status}. {server.fault}".rstrip())
        return server.guest

    def _power_off(self, server: Server) -> None:
        if server.guest is not None and server.guest.state() != _OFF:
            lifecycle.destroy(server.guest)

    def _undefine(self, server: Server) -> None:
        if server.guest is not None:
            self._find(server.host).guests.undefine(server.guest)
            server.guest = None

    def _withdraw(self, server: Server, error: VpmemError) -> None:
        """Clean up after a server that did not start. If a namespace cannot be wiped, add this to the error."""
        claims, server.here.claims = server.claims, ()
        try:
            self._power_off(server)
            self._undefine(server)
            self._find(server.host).tenancy.claims.release(claims)
        except VpmemError as worse:
            error.add(f"What it had could not be given back as it should: {worse}")
            server.failed(error)

    def _give_back(self, allocation: Allocation, error: VpmemError) -> None:
        """Wipe and give back the new namespaces of a failed resize. If this fails, add the reason to the error."""
        try:
            self._find(allocation.host).tenancy.claims.release(allocation.claims)
        except VpmemError as worse:
            error.add(f"What the resize gave could not be given back as it should: {worse}")

    @contextlib.contextmanager
    def _errors_of(self, server: Server) -> Iterator[None]:
        try:
            yield
        except VpmemError as error:
            server.failed(error)
            raise
