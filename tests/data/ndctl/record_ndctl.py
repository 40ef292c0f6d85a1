"""Record what ndctl and daxctl print in known states, as the data of the unit tests.

It ends what region0 of the host holds, and region3 must have no labels. Run it against a fresh lab host::

    VPMEM_TEST_HOST=root@127.0.0.1:42222 VPMEM_TEST_KEY=~/.ssh/id python tests/data/ndctl/record_ndctl.py [DIRECTORY]

DIRECTORY holds another ndctl on the host (``usr/bin``, ``usr/lib/x86_64-linux-gnu``), so that several versions can be
recorded. Each file has the version, the command, its exit status, stdout and stderr.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from VpmemLibrary.pmem.decode import DAX_LIST_COMMAND, LIST_COMMAND
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.ssh.transport import HostKeyPolicy, SshSettings, SshTransport

HERE = Path(__file__).parent
REGION = ("-r", "region0")


class Recorder:
    """Runs one version of the tools on a host and keeps what they print."""

    def __init__(self, transport: Transport, directory: str) -> None:
        self._transport = transport
        self._directory = directory
        self._kernel = transport.run(["uname", "-r"]).check().text.strip()
        self._version = transport.run(self._tool(["ndctl", "--version"])).check().text.strip()

    def record(self, state: str, *command: str) -> None:
        """Run a command and write what it left."""
        result = self._transport.run(self._tool(command))
        path = HERE / f"ndctl-{self._version}_{state}.json"
        recorded = {
            "tool": f"{command[0]} {self._version}",
            "kernel": self._kernel,
            "argv": list(command),
            "exit_status": result.exit_status,
            "stdout": result.text.splitlines(),
            "stderr": result.error_text.splitlines(),
        }
        path.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")

    def prepare(self, *commands: str) -> None:
        """Run shell lines that must work."""
        for command in commands:
            self.ask(command)

    def ask(self, command: str) -> str:
        """Run a shell line that must work, and return what it printed."""
        return self._transport.run(["sh", "-c", command]).check().text.strip()

    def _tool(self, command: tuple[str, ...] | list[str]) -> list[str]:
        if not self._directory:
            return list(command)
        library = f"LD_LIBRARY_PATH={self._directory}/usr/lib/x86_64-linux-gnu"
        return ["env", library, f"{self._directory}/usr/bin/{command[0]}", *command[1:]]


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
        recorder = Recorder(transport, sys.argv[1] if len(sys.argv) > 1 else "")
        record_all(recorder)


def record_all(recorder: Recorder) -> None:
    create = "ndctl create-namespace -r region0 -s 64M"
    recorder.record("unlabeled", *LIST_COMMAND, "-r", "region3")
    recorder.prepare("ndctl disable-region region0", "ndctl init-labels -f -V 1.2 nmem0", "ndctl enable-region region0")
    recorder.record("labeled-empty", *LIST_COMMAND, *REGION)
    recorder.record("init-labels-again", "ndctl", "init-labels", "nmem0")
    recorder.prepare(
        f"{create} -m fsdax -n of-fsdax",
        f"{create} -m devdax -n of-devdax",
        f"{create} -m devdax -M mem -n twice",
        f"{create} -m sector -n twice",
        f"{create} -m raw -n of-raw",
        f"{create} -m fsdax -M mem -n off",
        "ndctl disable-namespace namespace0.5",
    )
    recorder.record("modes", *LIST_COMMAND, *REGION)
    recorder.record("everything", *LIST_COMMAND)
    recorder.record("daxctl", *DAX_LIST_COMMAND)
    recorder.record("no-such-region", *LIST_COMMAND, "-r", "region9")
    recorder.record("without-buses", "ndctl", "list", "-RN", *REGION)
    recorder.record("create-misaligned", "ndctl", "create-namespace", *REGION, "-m", "devdax", "-s", "100000000")
    recorder.record("create-too-large", "ndctl", "create-namespace", *REGION, "-m", "devdax", "-s", "2G")
    recorder.record("create-no-region", "ndctl", "create-namespace", "-r", "region9", "-m", "devdax", "-s", "64M")
    recorder.record("create-bad-option", "ndctl", "create-namespace", *REGION, "--no-such-option")
    recorder.record("destroy-active", "ndctl", "destroy-namespace", "namespace0.0")
    recorder.record("destroy-absent", "ndctl", "destroy-namespace", "namespace0.77")
    recorder.prepare("mkfs.ext4 -q /dev/pmem0", "mount /dev/pmem0 /mnt")
    try:
        recorder.record("disable-mounted", "ndctl", "disable-namespace", "namespace0.0")
    finally:
        recorder.prepare("umount /mnt")
    recorder.prepare("ndctl disable-region region0")
    recorder.record("region-disabled", *LIST_COMMAND, *REGION)
    recorder.record("enable-region", "ndctl", "enable-region", "region0")
    recorder.record("enable-region-again", "ndctl", "enable-region", "region0")
    recorder.record("enable-region-absent", "ndctl", "enable-region", "region9")
    recorder.prepare("ndctl disable-region region0", "ndctl init-labels -f -V 1.2 nmem0", "ndctl enable-region region0")


if __name__ == "__main__":
    main()
