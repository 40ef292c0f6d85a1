"""Keywords for servers and flavors, as in OpenStack Nova."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import Any

from robot.api.deco import keyword

from VpmemLibrary.keywords.guest.guests import READY_TIMEOUT
from VpmemLibrary.keywords.support.assertions import AssertionOperator, assert_text, literal
from VpmemLibrary.keywords.support.log import log_table, logger
from VpmemLibrary.nova.flavor import Flavor, flavor_of
from VpmemLibrary.nova.server import Server
from VpmemLibrary.nova.servers import Servers
from VpmemLibrary.session.session import Session
from VpmemLibrary.sizes import MiB, Size


class ServerKeywords:
    """Keywords for servers, which are made from flavors and use claimed namespaces."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @cached_property
    def _servers(self) -> Servers:
        return Servers(self._session.find, self._session.run.run_id)

    @keyword(tags=("server",))
    def create_flavor(self, name: str, *, ram: Size = Size(256 * MiB), vcpus: int = 1, **extra_specs: str) -> Flavor:
        """Return a flavor: the description of a server's resources.

        Args:
            name: The flavor's name.
            ram: The server's RAM, without persistent memory.
            vcpus: The number of virtual CPUs.
            extra_specs: `hw:pmem=4GB,SMALL` gives a server one namespace for each label, in this order. A label that is
                listed twice means two namespaces. Labels are case-sensitive.

        Returns:
            A record with `name`, `ram`, `vcpus` and `pmem` (the labels).

        Raises:
            InvalidValueError: A value is invalid for every server, or the extra spec is unknown.

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
        """Create a server. Its status is ACTIVE when its guest is ready, or ERROR with the reason in `fault`.

        The server claims namespaces by the flavor's labels ([Set Pmem Namespaces]). The memory part of its domain is
        the same as Nova would define. A server in ERROR has no claims, and leaves nothing on the host.

        Args:
            flavor: The server's flavor.
            name: The server's name. The default is a generated name.
            host: The alias of the open host for the server. The default is the current host.
            timeout: How long to wait until the server's guest is ready.

        Returns:
            A record with `status`, `fault`, `guest`, `host`, `flavor` and `claims`.

        Raises:
            InvalidValueError: The flavor has a label that the host's setting does not have, the name is in use, or
                there is no image to boot from. (If only the case of a label differs, Nova boots a server without the
                device.)

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
            flavor, host or self._session.current_alias, name=name, timeout=timeout.total_seconds()
        )
        self._show(server)
        return server

    @keyword(tags=("server", "destructive"))
    def delete_server(self, server: Server | str) -> None:
        """Delete a server, wipe its namespaces and release them.

        Each namespace is overwritten to the last byte and read again.

        Args:
            server: The server or its name.

        Raises:
            CommandError: A namespace could not be wiped. Nobody can claim the namespace, the server is in ERROR, and
                its domain stays.
            NotFoundError: This worker created no such server.

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
        """Give a server another flavor, on the same host or on another host.

        The server is in VERIFY_RESIZE until the resize is confirmed or reverted. Until then the server claims both the
        old and the new namespaces. The content is not copied, as in Nova.

        Args:
            server: The server or its name. The server must be ACTIVE.
            flavor: The new flavor.
            host: The alias of the open target host. The default is the server's current host.
            timeout: How long to wait until the server's guest is off, and again until the guest is ready.

        Raises:
            ExhaustedError: The host does not have enough free namespaces for the flavor. The server continues to run
                unchanged.
            InvalidValueError: The host can never satisfy the flavor.
            GuestError: The server did not start with the new flavor. The server was restored to its previous state.

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
        """Confirm a resize: wipe and release the namespaces that the server had before.

        Args:
            server: The server or its name. The server must be in VERIFY_RESIZE.

        Raises:
            CommandError: A namespace could not be wiped. Nobody can claim the namespace, and the server is in ERROR.

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
        """Revert a resize: return to the previous namespaces, which still have all their bytes.

        The namespaces that the resize added are wiped.

        Args:
            server: The server or its name. The server must be in VERIFY_RESIZE.
            timeout: How long to wait until the server's guest is ready.

        Raises:
            CommandError: A namespace could not be wiped. Nobody can claim the namespace, and the server is in ERROR.
            GuestError: The server's guest was not ready in time. The server is in ERROR.

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
        """Shut down a server. The server keeps its namespaces and their content.

        Args:
            server: The server or its name. The server must be ACTIVE.
            timeout: How long to wait until the server is off.

        Raises:
            GuestError: The server did not shut down in time.

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
        """Start a stopped server on the same namespaces, even if their device names have changed.

        Args:
            server: The server or its name. The server must be in SHUTOFF.
            timeout: How long to wait until the server's guest is ready.

        Raises:
            LeaseLostError: The server lost a namespace while the server was off.
            GuestError: The server's guest was not ready in time. The server is in ERROR.

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
        """Reboot a server from inside. A hard reboot ends its QEMU without a shutdown and starts a new QEMU.

        Args:
            server: The server or its name. The server must be ACTIVE.
            hard: Whether to do a hard reboot.
            timeout: How long to wait until the server's guest is ready.

        Raises:
            GuestError: The server's guest was not ready in time. The server is in ERROR.

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
        """Rebuild a server on the same namespaces. The namespaces are wiped first.

        Args:
            server: The server or its name. The server must be ACTIVE or in SHUTOFF.
            timeout: How long to wait until the server's guest is ready.

        Raises:
            CommandError: A namespace could not be wiped. The server is in ERROR.
            GuestError: The server's guest was not ready in time. The server is in ERROR.

        Example:

        ```robotframework
        *** Test Cases ***
        Same Namespaces New Server
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
        """Return a server's status, and assert it if an operator is given.

        The status comes from libvirt as well: if libvirt reports that the guest of an ACTIVE server no longer runs, the
        status is SHUTOFF.

        Args:
            server: The server or its name.
            assertion_operator: See *Assertions* in the introduction.
            expected: The expected status: `ACTIVE`, `SHUTOFF`, `VERIFY_RESIZE`, `ERROR` or `DELETED`.
            message: Your own failure text.

        Returns:
            The status, in the words of Nova.

        Raises:
            NotFoundError: This worker created no such server.
            AssertionError: The value is not as expected.

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
        """Return the servers that this worker created, in the order of creation. Deleted servers are included.

        Returns:
            The records of the servers.

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
