"""Adding a CXL device to a host that runs, and removing it, by commands of the machine that the tests run on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from VpmemLibrary.host.control import run_control


@dataclass(frozen=True, slots=True)
class CxlControl:
    """What hot-adds a CXL device to a host and hot-removes it, e.g. the command line of a switch's fabric manager.

    Args:
        add: A command that returns when the host has the device.
        remove: A command that returns when the host has let go of it.
        variables: For each environment variable that the commands get the variable that has the value.
    """

    add: tuple[str, ...] = field(repr=False)  # a password may be among the arguments
    remove: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)

    def run(self, *, add: bool, timeout: float) -> None:
        """Add the device, or remove it.

        Args:
            add: Whether it is added.
            timeout: Seconds that it may take.

        Raises:
            InvalidValueError: An environment variable that the command gets is not set; nothing was done.
            CommandError: The command failed.
        """
        command, done = (self.add, "added") if add else (self.remove, "removed")
        run_control(command, self.variables, timeout=timeout, failure=f"The CXL device could not be {done}")
