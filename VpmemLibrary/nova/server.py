"""The current state of a server: its status, and its allocations on hosts."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.claims.claims import Claim
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.nova.flavor import Flavor
from VpmemLibrary.record import hide_fields


class ServerStatus(StrEnum):
    """The statuses of a server that concern persistent memory, under Nova's names."""

    build = "BUILD"
    active = "ACTIVE"
    shutoff = "SHUTOFF"
    verify_resize = "VERIFY_RESIZE"
    error = "ERROR"
    deleted = "DELETED"


class Allocation(Struct):
    """The flavor and the namespaces of a server on one host.

    Args:
        host: The host's alias.
        flavor: The flavor of the allocation.
        claims: The claimed namespaces, in the order of the flavor's labels.
    """

    host: str
    flavor: Flavor
    claims: tuple[Claim, ...] = ()


@hide_fields("guest")
class Server(Struct):
    """One server.

    Args:
        name: The server's name.
        domain: The name of the server's domain on the host.
        here: The allocation on the host where the server runs.
        status: The server's status.
        fault: The reason of the status ERROR, as a text.
        guest: The server's guest. None if there is no guest.
        before: The allocation before a resize that is neither confirmed nor reverted.
    """

    name: str
    domain: str
    here: Allocation
    status: ServerStatus = ServerStatus.build
    fault: str = ""
    guest: Guest | None = None
    before: Allocation | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def host(self) -> str:
        """The alias of the server's host."""
        return self.here.host

    @property
    def flavor(self) -> Flavor:
        """The server's flavor."""
        return self.here.flavor

    @property
    def claims(self) -> tuple[Claim, ...]:
        """The server's namespaces on its host, in the order of its devices."""
        return self.here.claims

    def require(self, action: str, *statuses: ServerStatus) -> None:
        """Raise unless the server has one of the given statuses.

        Raises:
            InvalidValueError: The server has another status.
        """
        if self.status not in statuses:
            raise InvalidValueError(
                f"status of server {self.name}", str(self.status), f"{' or '.join(statuses)} to {action} it"
            )

    def failed(self, error: Exception) -> None:
        """Set the status to ERROR and record the error as the reason."""
        self.status = ServerStatus.error
        self.fault = str(error)
