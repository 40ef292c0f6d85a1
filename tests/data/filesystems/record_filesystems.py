"""Records what mount, blkid, xfs_io and the kernel say of file systems, for the unit tests.

Run on a lab host: ``python tests/data/filesystems/record_filesystems.py HOSTS_FILE``. The files' names carry the tools'
versions.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from VpmemLibrary.errors import VpmemError
from VpmemLibrary.host.file_dax import map_sync, read_file_dax
from VpmemLibrary.host.filesystems import FileSystemType, make_file_system, read_file_system
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.host.mounts import DaxOption, Mounts
from VpmemLibrary.ownership.cleanup import clean_up
from VpmemLibrary.ownership.marks import RunMark
from VpmemLibrary.ownership.mounts import unmount_owned
from VpmemLibrary.pmem.guard import Guard
from VpmemLibrary.pmem.records import NamespaceMode
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult
from VpmemLibrary.transport.prefixed import PrefixedTransport

HERE = Path(__file__).parent
POINT = "/run/a mount point"


def main(hosts: str) -> None:
    """Make, mount and look into file systems on three namespaces, and write down what each tool says."""
    entry = read_hosts(Path(hosts))[0]
    host = Host(entry.name, transport_to(entry))
    run = RunMark.of_this_run()
    for region in host.regions.unlabeled():
        host.regions.initialize_labels(region)
    fsdax, sector = (
        host.namespaces.create("region0", mode=mode, size=Size(320 * MiB), uuid=run.new_uuid()).device
        for mode in (NamespaceMode.fsdax, NamespaceMode.sector)
    )
    linux = host.run(["uname", "-r"]).check().text.strip()
    xfsprogs = host.run(["xfs_io", "-V"]).check().text.split()[-1]
    util = host.run(["blkid", "-V"]).check().text.split()[3]
    look = Recorder(host, f"util-linux-{util}")
    kernel = Recorder(host, f"linux-{linux}_xfsprogs-{xfsprogs}")
    try:
        host.run(["wipefs", "-a", fsdax, sector]).check()
        look.record("blkid_empty", lambda: read_file_system(look, fsdax))
        make_file_system(host.ndctl.guard, fsdax, FileSystemType.ext4)
        look.record("blkid_ext4", lambda: read_file_system(look, fsdax))
        make_file_system(host.ndctl.guard, sector, FileSystemType.xfs, overwrite=True)
        for option in DaxOption:
            host.mounts.mount(fsdax, "ext4", POINT, options=[f"dax={option}"], make=True)
            try:
                kernel.record(f"state_dax-{option}", lambda: read_file_dax(kernel, POINT))
                kernel.record(f"map-sync_dax-{option}", lambda: map_sync(kernel, POINT))
                kernel.record(f"mounts_dax-{option}", lambda: Mounts(Guard(kernel)).at(POINT))
            finally:
                host.mounts.unmount(host.mounts.at(POINT), remove=True)
        kernel.record("state_existing-file", lambda: read_file_dax(kernel, "/usr/bin/true"))
        kernel.record("map-sync_tmpfs", lambda: map_sync(kernel, "/dev/shm"))
        host.run(["mkdir", POINT]).check()
        host.run(["mount", "-t", "xfs", "-o", "dax=always", sector, POINT]).check()
        kernel.record("mounts_xfs-sector-dax-always", lambda: Mounts(Guard(kernel)).at(POINT))
        host.mounts.unmount(host.mounts.at(POINT), remove=True)
    finally:
        unmount_owned(host, run)
        clean_up(host, run)
        host.close()


class Recorder(PrefixedTransport):
    """A host's transport that keeps what a command left.

    Args:
        host: The host.
        versions: The versions of the tools, for the files' names.
    """

    def __init__(self, host: Host, versions: str) -> None:
        super().__init__(host.transport, ["env"])
        self._versions = versions
        self._last: CommandResult | None = None

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command and keep what it left."""
        self._last = super().run(argv, timeout=timeout, stdin=stdin)
        return self._last

    def record(self, name: str, work: Callable[[], object]) -> None:
        """Do something that runs one command, and write down what that left."""
        try:
            print(name, work())
        except VpmemError as error:
            print(name, error)
        left = self._last
        assert left is not None
        data = {"exit_status": left.exit_status, "stdout": left.text, "stderr": left.error_text}
        (HERE / f"{self._versions}_{name}.json").write_text(json.dumps(data, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
