"""Add a CXL device or a test bus to a running host and remove it, by commands that run on the controller."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from VpmemLibrary.host.control import run_control
from VpmemLibrary.record import hide_fields


@hide_fields("add", "remove")  # the arguments may contain a password
class BusControl(Struct, frozen=True):
    """The commands that add persistent memory of another kind to a host, and remove it.

    An example is the command line of a CXL switch's fabric manager, or a script that exchanges kernel modules.

    Args:
        what: The added thing, for messages: ``CXL device`` or ``test bus``.
        add: A command that returns when the host has the thing.
        remove: A command that returns when the host has released the thing.
        variables: The environment variables of the commands; see `control.passed_on`.
    """

    what: str
    add: tuple[str, ...]
    remove: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, add: bool, timeout: float) -> None:
        """Add the thing, or remove it.

        Args:
            add: True adds it, False removes it.
            timeout: Maximum seconds that the command may take.

        Raises:
            InvalidValueError: An environment variable of the command is not set. Nothing was done.
            CommandError: The command failed.
        """
        command, done = (self.add, "added") if add else (self.remove, "removed")
        run_control(command, self.variables, timeout=timeout, failure=f"The {self.what} could not be {done}")
