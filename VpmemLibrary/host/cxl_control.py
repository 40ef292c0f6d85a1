"""Add a CXL device to a running host and remove the device, by commands that run on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from VpmemLibrary.host.control import run_control


@dataclass(frozen=True, slots=True)
class CxlControl:
    """The commands that hot-add a CXL device to a host and hot-remove it.

    Such a command is, for example, the command line of a switch's fabric manager.

    Args:
        add: A command that returns when the host has the device.
        remove: A command that returns when the host has released the device.
        variables: The environment variables of the commands. Each name maps to the variable that has the value.
    """

    add: tuple[str, ...] = field(repr=False)  # the arguments may contain a password
    remove: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, add: bool, timeout: float) -> None:
        """Add the device, or remove it.

        Args:
            add: True adds the device, False removes it.
            timeout: Maximum seconds that the command may take.

        Raises:
            InvalidValueError: An environment variable of the command is not set. Nothing was done.
            CommandError: The command failed.
        """
        command, done = (self.add, "added") if add else (self.remove, "removed")
        run_control(command, self.variables, timeout=timeout, failure=f"The CXL device could not be {done}")
