"""Servers on real hosts: made, resized, stopped, rebuilt and deleted with their namespaces claimed and wiped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Protocol

from VpmemLibrary.claims.claims import Claim, Wish
from VpmemLibrary.claims.host_claims import HostClaims
from VpmemLibrary.errors import GuestError, InvalidValueError, NotFoundError, OutOfSpaceError, VpmemError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.guest.domain.definition import best_hypervisor
from VpmemLibrary.guest.domain.records import BootSource, VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.nova.domain import server_devices, server_domain
from VpmemLibrary.nova.flavor import Flavor
from VpmemLibrary.nova.server import Allocation, Server, ServerStatus
from VpmemLibrary.transport.base import checked_name

_OFF = "shut off"


class Compute(Protocol):
    """A host on which servers can be."""

    @property
    def boot(self) -> BootSource | None:
        """What servers boot from."""

    @property
    def link(self) -> LibvirtLink:
        """Its libvirt connection."""

    @property
    def claims(self) -> HostClaims:
        """Its namespaces."""

    def define_guest_from(self, xml: str, devices: tuple[VpmemDevice, ...], *, name: str = "") -> Guest:
        """Define a guest, with the run's mark."""

    def guest(self, which: Guest | str) -> Guest:
        """Return a guest of the host."""

    def undefine_guest(self, guest: Guest) -> None:
        """Undefine a guest and forget it."""


class Servers:
    """The servers of one worker.

    Args:
        find: Returns an open host by its alias.
        run_id: The run.
    """

    def __init__(self, find: Callable[[str], Compute], run_id: str) -> None:
        self._find = find
        self._run_id = run_id
        self._servers: dict[str, Server] = {}
        self._made = 0

    def server(self, which: Server | str) -> Server:
        """Return a server.

        Raises:
            NotFoundError: This worker made none of that name.
        """
        if isinstance(which, Server):
            return which
        if which not in self._servers:
            raise NotFoundError("server", which, list(self._servers))
        return self._servers[which]

    @property
    def all(self) -> tuple[Server, ...]:
        """Every server, deleted ones too, in the order of making; of those with one name the last."""
        return tuple(self._servers.values())

    def status(self, server: Server) -> ServerStatus:
        """Return a server's status; one whose guest no longer runs is in SHUTOFF, whoever ended it."""
        if server.status is ServerStatus.active and self._guest(server).state() == _OFF:
            server.status = ServerStatus.shutoff
        return server.status

    def create(self, flavor: Flavor, host: str, *, name: str = "", timeout: float) -> Server:
        """Make a server: ACTIVE once its guest is ready, or ERROR with the reason; then nothing is held or left.

        Args:
            flavor: Its flavor.
            host: The alias of the host.
            name: Its name; one of its own by default.
            timeout: Seconds that its guest may take to be ready.

        Raises:
            InvalidValueError: The name is taken or cannot be, the host has no image to boot from, or the flavor has a
                label that the host's setting has not, or not in that case.
        """
        self._made += 1
        name = checked_name("server name", name) if name else f"server-{self._made}"
        if name in self._servers and self._servers[name].status is not ServerStatus.deleted:
            raise InvalidValueError("server name", name, f"one that no server has ({', '.join(self._servers)})")
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
        """End a server and give its namespaces back wiped, those of a resize under way as well.

        Raises:
            VpmemError: A namespace could not be wiped: it is unfit, the server is in ERROR and its domain stays.
        """
        if server.status is ServerStatus.deleted:
            raise InvalidValueError("server", server.name, "one that was not deleted")
        self._power_off(server)
        with self._errors_of(server):
            for allocation in filter(None, (server.here, server.before)):
                claims, allocation.claims = allocation.claims, ()
                self._find(allocation.host).claims.release(claims)
        self._undefine(server)
        server.before = None
        server.status = ServerStatus.deleted

    def stop(self, server: Server, timeout: float) -> None:
        """Shut a server down; its namespaces stay its own, with all that they hold.

        Raises:
            GuestError: It did not shut down in time.
        """
        server.require("stop", ServerStatus.active)
        self._guest(server).shutdown(timeout)
        server.status = ServerStatus.shutoff

    def start(self, server: Server, timeout: float) -> None:
        """Start a server that is off; its devices are found by their UUIDs, whatever they are called now.

        Raises:
            LeaseLostError: It lost a namespace while it was off.
            GuestError: It was not ready in time; it is in ERROR.
        """
        server.require("start", ServerStatus.shutoff)
        with self._errors_of(server):
            self._boot(server, timeout)
        server.status = ServerStatus.active

    def reboot(self, server: Server, timeout: float, *, hard: bool) -> None:
        """Reboot a server: from inside, or hard, as pulling its plug and starting it again.

        Raises:
            GuestError: It was not ready in time; it is in ERROR.
        """
        server.require("reboot", ServerStatus.active)
        with self._errors_of(server):
            if hard:
                self._guest(server).destroy()
                self._boot(server, timeout)
            else:
                self._guest(server).reboot(timeout)

    def rebuild(self, server: Server, timeout: float) -> None:
        """Make a server anew on the same namespaces, which are wiped before.

        Raises:
            VpmemError: A namespace could not be wiped, or the server was not ready in time; it is in ERROR.
        """
        server.require("rebuild", ServerStatus.active, ServerStatus.shutoff)
        self._power_off(server)
        with self._errors_of(server):
            self._undefine(server)
            self._find(server.host).claims.wipe(server.claims)
            self._spawn(server, timeout)

    def resize(self, server: Server, flavor: Flavor, host: str, timeout: float) -> None:
        """Give a server another flavor, there or on another host; what it had is held until confirmed or reverted.

        Content is not copied, as Nova does not: the new namespaces hold zeros. A resize that fails puts the server back
        as it was.

        Args:
            server: The server, ACTIVE.
            flavor: Its new flavor.
            host: The alias of the host that it goes to; it may be the same.
            timeout: Seconds that its guest may take to be off, and again to be ready.

        Raises:
            ExhaustedError: The host has not what the flavor needs; the server runs on as it was.
            InvalidValueError: The host could never have it.
            VpmemError: The server did not start there; it was put back.
        """
        server.require("resize", ServerStatus.active)
        target = self._find(host)
        self._check(target, flavor)
        old, new = server.here, Allocation(host, flavor, self._claim(target, flavor))
        try:
            self._guest(server).shutdown(timeout)
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
        """Keep what a resize gave; what the server had before is wiped and given back.

        Raises:
            VpmemError: It could not be wiped: it is unfit, and the server in ERROR.
        """
        server.require("confirm a resize of", ServerStatus.verify_resize)
        before, server.before = server.before, None
        with self._errors_of(server):
            if before is not None:
                self._find(before.host).claims.release(before.claims)
        server.status = ServerStatus.active

    def revert_resize(self, server: Server, timeout: float) -> None:
        """Go back to what a server had before a resize, with all that it held; what the resize gave is wiped.

        Raises:
            VpmemError: What the resize gave could not be wiped, or the server was not ready in time: it is in ERROR.
        """
        server.require("revert a resize of", ServerStatus.verify_resize)
        new, old = server.here, server.before
        if old is None:
            raise InvalidValueError("server", server.name, "one with a resize to revert")
        self._power_off(server)
        self._undefine(server)
        server.here, server.before = old, None
        with self._errors_of(server):
            self._find(new.host).claims.release(new.claims)
            self._spawn(server, timeout)

    # How it is done

    def _check(self, compute: Compute, flavor: Flavor) -> None:
        for label in flavor.pmem:
            compute.claims.setting.require_label(label)
        if compute.boot is None:
            raise InvalidValueError(
                "server image", "none", "guest_kernel or guest_disk in the hosts file, or Set Guest Image"
            )

    def _claim(self, compute: Compute, flavor: Flavor) -> tuple[Claim, ...]:
        return compute.claims.claim([Wish(label) for label in flavor.pmem]) if flavor.pmem else ()

    def _spawn(self, server: Server, timeout: float) -> None:
        """Define a server's guest where it has its namespaces, start it and wait until it is ready."""
        self._define(server)
        guest = self._guest(server)
        guest.start()
        guest.wait_until_ready(timeout)
        server.status = ServerStatus.active
        server.fault = ""

    def _define(self, server: Server) -> None:
        compute = self._find(server.host)
        boot = compute.boot
        if boot is None:
            raise InvalidValueError("server image", "none", "one, as when the server was made")
        server.here.claims = tuple(compute.claims.now(claim) for claim in server.claims)
        xml = server_domain(
            server.domain,
            server.flavor,
            [claim.namespace for claim in server.claims],
            boot,
            run_id=self._run_id,
            hypervisor=best_hypervisor(compute.link),
        )
        server.guest = compute.define_guest_from(xml, ())

    def _boot(self, server: Server, timeout: float) -> None:
        """Start a server's guest that is off, defined anew if a device has another name now."""
        compute = self._find(server.host)
        compute.claims.require(server.claims)
        now = [compute.claims.now(claim).namespace for claim in server.claims]
        paths = [device.path for device in self._guest(server).devices]
        if paths != [device.path for device in server_devices(now)]:
            self._undefine(server)
            self._define(server)
        self._guest(server).start()
        self._guest(server).wait_until_ready(timeout)

    def _guest(self, server: Server) -> Guest:
        if server.guest is None:
            raise GuestError(f"Server {server.name} has no guest: it is {server.status}. {server.fault}".rstrip())
        return server.guest

    def _power_off(self, server: Server) -> None:
        if server.guest is not None and server.guest.state() != _OFF:
            server.guest.destroy()

    def _undefine(self, server: Server) -> None:
        if server.guest is not None:
            self._find(server.host).undefine_guest(server.guest)
            server.guest = None

    def _withdraw(self, server: Server, error: VpmemError) -> None:
        """Leave nothing of a server that did not start; what cannot be wiped is told with the reason."""
        claims, server.here.claims = server.claims, ()
        try:
            self._power_off(server)
            self._undefine(server)
            self._find(server.host).claims.release(claims)
        except VpmemError as worse:
            error.add(f"What it had could not be given back as it should: {worse}")
            server.failed(error)

    def _give_back(self, allocation: Allocation, error: VpmemError) -> None:
        """Wipe and give back what a resize that failed was to give; what cannot be wiped is told with the reason."""
        try:
            self._find(allocation.host).claims.release(allocation.claims)
        except VpmemError as worse:
            error.add(f"What the resize gave could not be given back as it should: {worse}")

    @contextlib.contextmanager
    def _errors_of(self, server: Server) -> Iterator[None]:
        try:
            yield
        except VpmemError as error:
            server.failed(error)
            raise
