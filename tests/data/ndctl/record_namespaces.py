"""Record what ndctl prints of info blocks, sector metadata, scrubs and half-made namespaces, for the unit tests.

It ends what region0 of the host holds. Run it against a fresh lab host, as `record_ndctl.py`::

    VPMEM_TEST_HOST=root@127.0.0.1:42222 VPMEM_TEST_KEY=~/.ssh/id python tests/data/ndctl/record_namespaces.py

An info block is binary: its 8 KiB are kept packed (zlib, base64) as ``stdout_packed``.
"""

from __future__ import annotations

import base64
import json
import os
import zlib
from pathlib import Path

from VpmemLibrary.host.host import Host
from VpmemLibrary.pmem.decode import LIST_COMMAND
from VpmemLibrary.pmem.media.btt import SectorPart
from VpmemLibrary.pmem.records import Namespace, NamespaceMode
from VpmemLibrary.pmem.regions.room import ROOM_COMMAND
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport

HERE = Path(__file__).parent
REGION = "region0"


class Recorder:
    """Runs the tools on a host and keeps what they print."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._kernel = host.run(["uname", "-r"]).check().text.strip()
        self._version = host.run(["ndctl", "--version"]).check().text.strip()

    def record(self, state: str, *command: str, packed: bool = False) -> None:
        """Run a command and write what it left."""
        result = self.host.run(command)
        recorded: dict[str, object] = {
            "tool": f"{command[0]} {self._version}",
            "kernel": self._kernel,
            "argv": list(command),
            "exit_status": result.exit_status,
        }
        if packed:
            recorded["stdout_packed"] = base64.b64encode(zlib.compress(result.stdout, 9)).decode()
        else:
            recorded["stdout"] = result.text.splitlines()
        recorded["stderr"] = result.error_text.splitlines()
        path = HERE / f"ndctl-{self._version}_{state}.json"
        path.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")

    def made(self, mode: NamespaceMode, name: str, size: int = 32 * MiB) -> Namespace:
        """Return a new namespace."""
        return self.host.namespaces.create(REGION, mode=mode, size=Size(size), name=name)


def main() -> None:
    user, _, target = os.environ["VPMEM_TEST_HOST"].rpartition("@")
    address, _, port = target.partition(":")
    settings = SshSettings(
        address,
        port=int(port or 22),
        user=user or "root",
        key_file=Path(os.environ["VPMEM_TEST_KEY"]),
        host_key=HostKeyPolicy.accept_new,
    )
    with SshTransport(settings) as transport:
        recorder = Recorder(Host("recorded", transport))
        record_info_blocks(recorder)
        record_sector_checks(recorder)
        record_scrubs(recorder)
        record_room(recorder)
        record_half_made(recorder)


def record_info_blocks(recorder: Recorder) -> None:
    for version in ("1.1", "1.2"):
        recorder.host.regions.initialize_labels(REGION, version=version, overwrite=True)
        for mode in NamespaceMode:
            idle = recorder.host.namespaces.disable(recorder.made(mode, f"of-{mode}"))
            state = f"infoblock-{mode}-{version}"
            recorder.record(state, "ndctl", "read-infoblock", idle.dev, packed=True)
            recorder.record(f"{state}-json", "ndctl", "read-infoblock", "--json", idle.dev)
    recorder.record("disabled-modes", *LIST_COMMAND, "-r", REGION)
    active = recorder.host.namespaces.enable("of-fsdax")
    recorder.record("infoblock-active", "ndctl", "read-infoblock", active.dev)
    for mode in NamespaceMode:
        recorder.host.namespaces.destroy(f"of-{mode}")


def record_sector_checks(recorder: Recorder) -> None:
    for part in SectorPart:
        namespace = recorder.made(NamespaceMode.sector, "sectors")
        recorder.host.run(["dd", "if=/dev/zero", f"of={namespace.device}", "bs=4096", "count=3", "conv=fsync"]).check()
        if part is SectorPart.info:
            recorder.record("check-active", "ndctl", "check-namespace", namespace.dev)
            recorder.host.namespaces.disable(namespace)
            recorder.record("check-healthy", "ndctl", "check-namespace", namespace.dev)
        recorder.host.btt.tear(namespace, part)
        recorder.record(f"check-torn-{part}", "ndctl", "check-namespace", namespace.dev)
        recorder.record(f"check-repair-{part}", "ndctl", "check-namespace", "--repair", namespace.dev)
        recorder.record(f"check-repaired-{part}", "ndctl", "check-namespace", namespace.dev)
        recorder.host.namespaces.destroy(namespace)
    other = recorder.host.namespaces.disable(recorder.made(NamespaceMode.fsdax, "other"))
    recorder.record("check-fsdax", "ndctl", "check-namespace", other.dev)
    recorder.host.namespaces.destroy(other)


def record_scrubs(recorder: Recorder) -> None:
    recorder.record("start-scrub", "ndctl", "start-scrub", "ndbus0")
    recorder.record("wait-scrub", "ndctl", "wait-scrub", "ndbus0")
    namespace = recorder.made(NamespaceMode.fsdax, "clear")
    recorder.record("clear-errors", "ndctl", "clear-errors", namespace.dev)
    recorder.host.namespaces.destroy(namespace)


def record_room(recorder: Recorder) -> None:
    """Three namespaces with a gap on either side of the one in the middle, and all that follows free."""
    names = ("first", "left", "middle", "right", "last")
    for name in names:
        recorder.made(NamespaceMode.raw, name)
    for name in ("left", "right"):
        recorder.host.namespaces.destroy(name)
    recorder.record("room", *ROOM_COMMAND, REGION)
    recorder.record("room-listed", *LIST_COMMAND, "-r", REGION)
    for name in ("first", "middle", "last"):
        recorder.host.namespaces.destroy(name)


def record_half_made(recorder: Recorder) -> None:
    """Under labels 1.1 a sector namespace of 16 MiB has no room for its tables: ndctl leaves the namespace."""
    recorder.host.regions.initialize_labels(REGION, version="1.1", overwrite=True)
    create = ("ndctl", "create-namespace", "--no-autolabel", "-r", REGION, "-m", "sector", "-s", "16M", "-n", "half")
    recorder.record("create-half", *create)
    recorder.record("half-made", *LIST_COMMAND, "-r", REGION)
    recorder.host.regions.initialize_labels(REGION, overwrite=True)


if __name__ == "__main__":
    main()
