"""The private network between lab hosts: a switch to which they connect by unix sockets.

QEMU's stream sockets connect only two ends, so more than two lab hosts need a switch. The switch is one more QEMU
process without a machine. It has only a port for each lab host, and a hub that joins the ports. The switch needs
nothing but the image, and the network stays up when a lab host loses its power. A lab host connects when it starts, and
reconnects after a restart of the switch. Only the user can enter the directory of the sockets, so no other user can
listen or send.
"""

from __future__ import annotations

from pathlib import Path

from VpmemLibrary.lab.cache import locked
from VpmemLibrary.lab.image import Image
from VpmemLibrary.lab.paths import private_directory
from VpmemLibrary.lab.process import MONITOR, Process, find_process, kill_process, start_qemu
from VpmemLibrary.lab.progress import SILENT

MOST_HOSTS = 16
"""The highest number of lab hosts. A higher number is probably a mistake."""

_NAME = "network"


class Network:
    """The private network of the lab in the directory `root`."""

    def __init__(self, root: Path) -> None:
        self.directory = root / _NAME

    @property
    def process(self) -> Process | None:
        """The switch's process if it runs."""
        return find_process(self.directory)

    def start(self, image: Image) -> None:
        """Start the switch by the image's QEMU, if it does not run.

        Raises:
            LabError: QEMU did not start. The message has QEMU's output.
        """
        private_directory(self.directory)
        with locked(self.directory / "lock", SILENT, "starting the private network"):
            if self.process is None:
                start_qemu(self.directory, _command(image))

    def kill(self) -> None:
        """Kill the switch if it runs.

        Raises:
            LabError: The process does not end.
        """
        kill_process(self.directory)


def network_socket(name: str) -> str:
    """Return the path of the socket for the lab host `name`, relative to the lab's directory."""
    return f"{_NAME}/{name}.sock"


def _command(image: Image) -> list[str]:
    return [
        *image.tool("qemu-system-x86_64"),
        *("-name", "vpmem-network", "-machine", "none", "-nodefaults", "-no-user-config", "-display", "none"),
        *("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny"),
        *("-qmp", f"unix:{MONITOR},server=on,wait=off"),
        *(part for number in range(1, MOST_HOSTS + 1) for part in _port(f"lab-{number}")),
    ]


def _port(name: str) -> list[str]:
    path = Path(network_socket(name)).name
    return [
        *("-netdev", f"stream,id={name},server=on,addr.type=unix,addr.path={path}"),
        *("-netdev", f"hubport,id=port-{name},hubid=0,netdev={name}"),
    ]
