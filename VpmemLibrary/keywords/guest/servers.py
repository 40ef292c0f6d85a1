"""Keywords for servers and flavors in OpenStack's words."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text, literal
from VpmemLibrary.keywords.support.context import Context
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.nova.flavor import Flavor, flavor_of
from VpmemLibrary.nova.server import Server
from VpmemLibrary.nova.servers import Servers
from VpmemLibrary.sizes import MiB, Size


class ServerKeywords:
    """Servers: made of flavors, on claimed namespaces."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @cached_property
    def _servers(self) -> Servers:
        return Servers(self._context.find, self._context.run.run_id)

    @keyword(tags=("server",))
    def create_flavor(self, name: str, *, ram: Size = Size(256 * MiB), vcpus: int = 1, **extra_specs: str) -> Flavor:
        """Return a flavor: what a server is made of.

        Args:
            name: Its name.
            ram: Its RAM, without persistent memory.
            vcpus: Its virtual CPUs.
            extra_specs: `hw:pmem=4GB,SMALL` gives a server one namespace for each label, in that order; a label that
                comes twice is two namespaces. Labels are compared letter by letter, case included.

        Returns:
            The flavor: `name`, `ram`, `vcpus`, `pmem` (the labels).

        Raises:
            InvalidValueError: A value that no server can have, or another extra spec.

        Example:

        ```robotframework
        *** Test Cases ***
        With Persistent Memory
            ${flavor} =    Create Flavor    with-vpmem    hw:pmem=4GB,SMALL
        ```
        """
        return flavor_of(name, ram=ram, vcpus=vcpus, extra_specs=extra_specs)

    @keyword(tags=("server",))
    def create_server(
        self, flavor: Flavor, *, name: str = "", host: str = "", timeout: timedelta = READY_TIMEOUT
    ) -> Server:
        """Make a server: ACTIVE once its guest is ready, or ERROR with the reason in its `fault`.

        Its namespaces are claimed by the flavor's labels ([Set Pmem Namespaces]). In memory its domain is what Nova
        would define. A server in ERROR holds nothing, and nothing of it is left on the host.

        Args:
            flavor: Its flavor.
            name: Its name; one of its own by default.
            host: The alias of the open host that it is on; the current host by default.
            timeout: How long its guest may take to be ready.

        Returns:
            The server: `status`, `fault`, `guest`, `host`, `flavor`, `claims`.

        Raises:
            InvalidValueError: The flavor has a label that the host's setting has not (Nova boots a server without the
                device when only the case differs), the name is taken, or there is no image to boot from.

        Example:

        ```robotframework
        *** Test Cases ***
        A Server
            Set Pmem Namespaces    SMALL:ns_1|ns_2
            ${flavor} =    Create Flavor    small    hw:pmem=SMALL
            ${server} =    Create Server    ${flavor}
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        server = self._servers.create(
            flavor, host or self._context.current_alias, name=name, timeout=timeout.total_seconds()
        )
        self._show(server)
        return server

    @keyword(tags=("server", "destructive"))
    def delete_server(self, server: Server | str) -> None:
        """End a server and give its namespaces back, each wiped to the last byte and read again.

        Args:
            server: The server or its name.

        Raises:
            CommandError: A namespace could not be wiped: nobody gets it, the server is in ERROR and its domain stays.
            NotFoundError: This worker made no such server.

        Example:

        ```robotframework
        *** Test Cases ***
        Gone
            Delete Server    ${server}
            Get Server Status    ${server}    ==    DELETED
        ```
        """
        found = self._servers.server(server)
        self._servers.delete(found)
        self._show(found)

    @keyword(tags=("server",))
    def resize_server(
        self, server: Server | str, flavor: Flavor, *, host: str = "", timeout: timedelta = READY_TIMEOUT
    ) -> None:
        """Give a server another flavor, on its host or on another; it is in VERIFY_RESIZE until confirmed or reverted.

        Until then the old and the new namespaces are both held. Content is not copied, as Nova does not.

        Args:
            server: The server or its name; it must be ACTIVE.
            flavor: Its new flavor.
            host: The alias of the open host that it goes to; the one that it is on by default.
            timeout: How long its guest may take to be off, and again to be ready.

        Raises:
            ExhaustedError: The host has not what the flavor needs; the server runs on as it was.
            InvalidValueError: The host could never have it.
            GuestError: The server did not start there; it was put back as it was.

        Example:

        ```robotframework
        *** Test Cases ***
        To Another Host
            Resize Server    ${server}    ${larger}    host=right
            Get Server Status    ${server}    ==    VERIFY_RESIZE
            Confirm Resize    ${server}
        ```
        """
        found = self._servers.server(server)
        self._servers.resize(found, flavor, host or found.host, timeout.total_seconds())
        self._show(found)

    @keyword(tags=("server", "destructive"))
    def confirm_resize(self, server: Server | str) -> None:
        """Keep what a resize gave; what the server had before is wiped and given back.

        Args:
            server: The server or its name; it must be in VERIFY_RESIZE.

        Raises:
            CommandError: A namespace could not be wiped: nobody gets it, and the server is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        Keep
            Confirm Resize    ${server}
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        found = self._servers.server(server)
        self._servers.confirm_resize(found)
        self._show(found)

    @keyword(tags=("server", "destructive"))
    def revert_resize(self, server: Server | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Go back to what a server had before a resize, with every byte that it held; what the resize gave is wiped.

        Args:
            server: The server or its name; it must be in VERIFY_RESIZE.
            timeout: How long its guest may take to be ready.

        Raises:
            CommandError: A namespace could not be wiped: nobody gets it, and the server is in ERROR.
            GuestError: It was not ready in time; it is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        Back
            Revert Resize    ${server}
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        found = self._servers.server(server)
        self._servers.revert_resize(found, timeout.total_seconds())
        self._show(found)

    @keyword(tags=("server",))
    def stop_server(self, server: Server | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Shut a server down; its namespaces stay its own, with all that they hold.

        Args:
            server: The server or its name; it must be ACTIVE.
            timeout: How long it may take.

        Raises:
            GuestError: It did not shut down in time.

        Example:

        ```robotframework
        *** Test Cases ***
        Off
            Stop Server    ${server}
            Get Server Status    ${server}    ==    SHUTOFF
        ```
        """
        found = self._servers.server(server)
        self._servers.stop(found, timeout.total_seconds())
        self._show(found)

    @keyword(tags=("server",))
    def start_server(self, server: Server | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Start a server that is off, on the same namespaces, whatever their devices are called by now.

        Args:
            server: The server or its name; it must be in SHUTOFF.
            timeout: How long its guest may take to be ready.

        Raises:
            LeaseLostError: It lost a namespace while it was off.
            GuestError: It was not ready in time; it is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Start Server    ${server}
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        found = self._servers.server(server)
        self._servers.start(found, timeout.total_seconds())
        self._show(found)

    @keyword(tags=("server",))
    def reboot_server(self, server: Server | str, *, hard: bool = False, timeout: timedelta = READY_TIMEOUT) -> None:
        """Reboot a server from inside, or hard: its QEMU is ended without asking and a new one started.

        Args:
            server: The server or its name; it must be ACTIVE.
            hard: Whether to pull its plug.
            timeout: How long its guest may take to be ready.

        Raises:
            GuestError: It was not ready in time; it is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        Again
            Reboot Server    ${server}    hard=True
        ```
        """
        found = self._servers.server(server)
        self._servers.reboot(found, timeout.total_seconds(), hard=hard)
        self._show(found)

    @keyword(tags=("server", "destructive"))
    def rebuild_server(self, server: Server | str, *, timeout: timedelta = READY_TIMEOUT) -> None:
        """Make a server anew on the same namespaces, which are wiped before.

        Args:
            server: The server or its name; it must be ACTIVE or in SHUTOFF.
            timeout: How long its guest may take to be ready.

        Raises:
            CommandError: A namespace could not be wiped; the server is in ERROR.
            GuestError: It was not ready in time; it is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        Anew
            Rebuild Server    ${server}
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        found = self._servers.server(server)
        self._servers.rebuild(found, timeout.total_seconds())
        self._show(found)

    @keyword(tags=("server", "getter"))
    def get_server_status(
        self,
        server: Server | str,
        assertion_operator: AssertionOperator | None = None,
        expected: object = None,
        message: str | None = None,
    ) -> Any:
        """Return a server's status, and assert it when an operator is given.

        A server is not ACTIVE by being called so: when libvirt has its guest no longer running, it is in SHUTOFF.

        Args:
            server: The server or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The status that is expected: `ACTIVE`, `SHUTOFF`, `VERIFY_RESIZE`, `ERROR`, `DELETED`.
            message: Your own failure text.

        Returns:
            The status, in Nova's words.

        Raises:
            NotFoundError: This worker made no such server.
            AssertionError: It is not as expected.

        Example:

        ```robotframework
        *** Test Cases ***
        On
            Get Server Status    ${server}    ==    ACTIVE
        ```
        """
        found = self._servers.server(server)
        status = self._servers.status(found)
        fault = literal(f"Server {found.name} is in {status}: {found.fault}") if found.fault else None
        return assert_text(status, assertion_operator, expected, f"Status of server {found.name}", message or fault)

    @keyword(tags=("server", "getter"))
    def get_servers(self) -> list[Server]:
        """Return the servers that this worker made, deleted ones too, in the order of making.

        Returns:
            Their records.

        Example:

        ```robotframework
        *** Test Cases ***
        All Of Them
            ${servers} =    Get Servers
            Length Should Be    ${servers}    2
        ```
        """
        return list(self._servers.all)

    def _show(self, server: Server) -> None:
        logger.info(f"Server {server.name} is {server.status} on {server.host}. {server.fault}".rstrip())
        held = [(server.here, "now")] + ([(server.before, "before the resize")] if server.before else [])
        log_table(
            f"Server {server.name}",
            ("when", "host", "flavor", "label", "namespace", "device", "UUID"),
            (
                (when, each.host, each.flavor, claim.label, claim.namespace.name, claim.namespace.device, claim.key)
                for each, when in held
                for claim in each.claims
            ),
        )
