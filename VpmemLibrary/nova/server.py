"""What a server is at a moment: its status, and what it has where."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from VpmemLibrary.claims.claims import Claim
from VpmemLibrary.errors import InvalidValueError
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.nova.flavor import Flavor


class ServerStatus(StrEnum):
    """The statuses of a server that have to do with persistent memory, in Nova's words."""

    build = "BUILD"
    active = "ACTIVE"
    shutoff = "SHUTOFF"
    verify_resize = "VERIFY_RESIZE"
    error = "ERROR"
    deleted = "DELETED"


@dataclass(slots=True)
class Allocation:
    """What a server has on a host.

    Args:
        host: The host's alias.
        flavor: The flavor that it is of.
        claims: Its namespaces, in the order of the flavor's labels.
    """

    host: str
    flavor: Flavor
    claims: tuple[Claim, ...] = ()


@dataclass(slots=True)
class Server:
    """One server.

    Args:
        name: Its name.
        domain: The name of its domain on the host.
        here: What it has where it runs.
        status: Its status.
        fault: Why it is in ERROR, in words.
        guest: Its guest; None when there is none.
        before: What it had before a resize that is neither confirmed nor reverted.
    """

    name: str
    domain: str
    here: Allocation
    status: ServerStatus = ServerStatus.build
    fault: str = ""
    guest: Guest | None = field(default=None, repr=False)
    before: Allocation | None = None

    def __str__(self) -> str:
        return self.name

    @property
    def host(self) -> str:
        """The alias of the host that it is on."""
        return self.here.host

    @property
    def flavor(self) -> Flavor:
        """Its flavor."""
        return self.here.flavor

    @property
    def claims(self) -> tuple[Claim, ...]:
        """Its namespaces where it is, in the order of its devices."""
        return self.here.claims

    def require(self, action: str, *statuses: ServerStatus) -> None:
        """Raise unless it has one of some statuses.

        Raises:
            InvalidValueError: It has another one.
        """
        if self.status not in statuses:
            raise InvalidValueError(
                f"status of server {self.name}", str(self.status), f"{' or '.join(statuses)} to {action} it"
            )

    def failed(self, error: Exception) -> None:
        """Have it in ERROR, for a reason."""
        self.status = ServerStatus.error
        self.fault = str(error)
