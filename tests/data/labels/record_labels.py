"""Record the bytes of label areas, and what ndctl says of them, as the data of the unit tests.

It ends what region0 of the host holds; its DIMM must be nmem0 and no namespace of it be in use. Run it against a fresh
lab host::

    VPMEM_TEST_HOSTS=hosts.dat python tests/data/labels/record_labels.py

Each state has the bytes of the area (``.bin.gz``) and what ``ndctl read-labels --json`` made of them; each answer of
ndctl has the version, the command, its exit status, stdout and stderr.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path

from VpmemLibrary.host.hosts_file import read_hosts, transport_to
from VpmemLibrary.transport.base import Transport

HERE = Path(__file__).parent
READ = ("ndctl", "read-labels", "nmem0")


class Recorder:
    """Runs ndctl on a host and keeps what it leaves."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._kernel = transport.run(["uname", "-r"]).check().text.strip()
        self._version = transport.run(["ndctl", "--version"]).check().text.strip()

    def answer(self, state: str, *command: str, stdin: bytes = b"") -> None:
        """Run a command and write what it left."""
        result = self._transport.run(command, stdin=stdin)
        recorded = {
            "tool": f"ndctl {self._version}",
            "kernel": self._kernel,
            "argv": list(command),
            "exit_status": result.exit_status,
            "stdout": result.text.splitlines(),
            "stderr": result.error_text.splitlines(),
        }
        path = HERE / f"ndctl-{self._version}_{state}.json"
        path.write_text(json.dumps(recorded, indent=1) + "\n", encoding="utf-8")

    def area(self, state: str) -> None:
        """Write the bytes of the label area, and ndctl's own reading of them."""
        data = self._transport.run(READ).check().stdout
        (HERE / f"{state}.bin.gz").write_bytes(gzip.compress(data, mtime=0))
        self.answer(f"read-{state}", *READ, "--json")

    def prepare(self, *commands: str) -> None:
        """Run shell lines that must work."""
        for command in commands:
            self._transport.run(["sh", "-c", command]).check()


def record_all(recorder: Recorder) -> None:
    off, on = "ndctl disable-region region0", "ndctl enable-region region0"
    recorder.answer("read-absent", "ndctl", "read-labels", "nmem77")
    recorder.answer("zero-absent", "ndctl", "zero-labels", "nmem77")
    recorder.answer("disable-dimm-active", "ndctl", "disable-dimm", "nmem0")
    recorder.answer("write-active", "ndctl", "write-labels", "nmem0", stdin=bytes(131072))
    recorder.answer("zero-active", "ndctl", "zero-labels", "nmem0")
    for version in ("1.1", "1.2"):
        recorder.prepare(off, f"ndctl init-labels --force --label-version {version} nmem0", on)
        recorder.area(f"empty-{version}")
        for mode, name in (("devdax", "one"), ("fsdax", "two"), ("sector", "three"), ("raw", "four")):
            recorder.prepare(f"ndctl create-namespace -r region0 -s 64M -m {mode} -n {name}")
        recorder.prepare("ndctl destroy-namespace --force namespace0.1")
        recorder.area(f"used-{version}")
        recorder.answer(f"listing-{version}", "ndctl", "list", "-BDRNi", "-X", "-vvv", "-r", "region0")
        recorder.answer(f"check-{version}", "ndctl", "check-labels", "nmem0")
    recorder.prepare(off)
    recorder.answer("init-without-force", "ndctl", "init-labels", "nmem0")
    recorder.prepare("ndctl disable-dimm nmem0")
    recorder.answer("enable-region-without-dimm", "ndctl", "enable-region", "region0")
    recorder.answer("listing-without-dimm", "ndctl", "list", "-BDRNi", "-X", "-vvv", "-r", "region0")
    recorder.prepare("ndctl enable-dimm nmem0")
    recorder.answer("zero", "ndctl", "zero-labels", "nmem0")
    recorder.area("zeroed")
    recorder.answer("check-zeroed", "ndctl", "check-labels", "nmem0")
    recorder.prepare(on)
    recorder.answer("listing-zeroed", "ndctl", "list", "-BDRNi", "-X", "-vvv", "-r", "region0")
    recorder.prepare("ndctl create-namespace -r region0 -s 64M -m devdax -n auto")
    recorder.area("by-the-kernel")
    recorder.prepare(off, "ndctl init-labels --force --label-version 1.2 nmem0", on)


def main() -> None:
    transport = transport_to(read_hosts(Path(os.environ["VPMEM_TEST_HOSTS"]))[0])
    try:
        record_all(Recorder(transport))
    finally:
        transport.close()


if __name__ == "__main__":
    main()
