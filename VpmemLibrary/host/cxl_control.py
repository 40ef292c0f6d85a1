"""Adding a CXL device to a host that runs, and removing it, by commands of the machine that the tests run on."""

from __future__ import annotations

from dataclasses import dataclass

from VpmemLibrary.host.local import LocalTransport


@dataclass(frozen=True, slots=True)
class CxlControl:
    """What hot-adds a CXL device to a host and hot-removes it, e.g. the command line of a switch's fabric manager.

    Args:
        add: A command that returns when the host has the device.
        remove: A command that returns when the host has let go of it.
    """

    add: tuple[str, ...]
    remove: tuple[str, ...]

    def run(self, *, add: bool, timeout: float) -> None:
        """Add the device, or remove it.

        Args:
            add: Whether it is added.
            timeout: Seconds that it may take.

        Raises:
            CommandError: The command failed.
        """
        command, done = (self.add, "added") if add else (self.remove, "removed")
        LocalTransport().run(command, timeout=timeout).check(f"The CXL device could not be {done}")
