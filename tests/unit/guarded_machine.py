"""A machine whose kernel is made of files: sysfs and procfs as the guard reads them, in a temporary directory."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / "VpmemLibrary" / "pmem" / "guard.sh"
_TOOLS = ("stat", "awk", "grep", "sed", "xargs", "sort", "tr", "cat", "mkdir", "printf", "sh", "ls", "true")

# The guard shows by its own mappings that it can see those of others; its process id is known to itself alone.
_SEE = 'mkdir -p "$VPMEM_PROC/$$/map_files" && : >"$VPMEM_PROC/$$/map_files/1-2" && exec "$@"'


def shells() -> list[str]:
    """Return the shells of this machine that the program must run in."""
    return [name for name in ("dash", "bash", "busybox") if shutil.which(name)]


class GuardedMachine:
    """A sysfs, a procfs and a directory for locks, and the guard program on them.

    Args:
        root: An empty directory.
        shell: ``dash``, ``bash`` or ``busybox``, which comes with its own tools.
        real_processes: Whether the machine's real processes are looked at.
    """

    def __init__(self, root: Path, shell: str = "dash", *, real_processes: bool = False) -> None:
        self.sys, self.proc, self.run_directory = root / "sys", root / "proc", root / "run"
        self.bus = self.sys / "bus/nd/devices"
        self.bus.mkdir(parents=True)
        self.environment = {"VPMEM_SYS": str(self.sys), "VPMEM_RUN": str(self.run_directory)}
        self.shell = [shell]
        if shell == "busybox":
            self.shell = ["busybox", "sh"]
            tools = root / "bin"
            tools.mkdir()
            for tool in _TOOLS:
                (tools / tool).symlink_to(str(shutil.which("busybox")))
            self.environment["PATH"] = f"{tools}:{os.environ['PATH']}"
        if not real_processes:
            self.environment["VPMEM_PROC"] = str(self.proc)
            self.write(self.proc / "self/mountinfo")
            self.write(self.proc / "swaps", "Filename Type Size Used Priority")
        self._real = real_processes

    def write(self, path: Path, *lines: str) -> Path:
        """Write a file of the kernel's."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path

    def region(self, name: str, cookie: str, *dimms: str) -> None:
        """Add a region on some DIMMs."""
        self.write(self.bus / name / "set_cookie", cookie)
        for number, dimm in enumerate(dimms):
            self.write(self.bus / name / f"mapping{number}", f"{dimm},0,1073741824,{number}")

    def dimm(self, name: str, group: str, unique_id: str) -> None:
        """Add a DIMM whose driver shows its id in a group of attributes."""
        self.write(self.bus / name / group / "id", unique_id)

    def namespace(
        self, name: str, uuid: str, *, block: str = "", dax: str = "", number: str = "", holder: str = ""
    ) -> Path:
        """Add a namespace with a device, and return the device's directory."""
        self.write(self.bus / name / "uuid", *([uuid] if uuid else []))
        self.write(self.bus / name / "holder", holder)
        inside = self.bus / (holder or name)
        device = inside / "block" / block if block else inside / (dax or "none")
        if number:
            self.write(device / "dev", number)
        return device

    def command(self, *options: str, command: Sequence[str]) -> list[str]:
        """Return the command line that runs a command under the guard."""
        guarded = [*self.shell, str(PROGRAM), *options, "--", *command]
        return guarded if self._real else ["sh", "-c", _SEE, "sh", *guarded]

    def start(self, *options: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start a command under the guard."""
        return subprocess.Popen(
            self.command(*options, command=command),
            env={**os.environ, **self.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, *options: str, command: Sequence[str] = ("echo", "acted"), stdin: bytes = b"") -> Outcome:
        """Run a command under the guard to its end."""
        process = self.start(*options, command=command)
        stdout, stderr = process.communicate(stdin, timeout=60)
        return Outcome(process.returncode, stdout, stderr)


class Outcome:
    """What a command under the guard left.

    Args:
        status: The exit status.
        stdout: What it printed.
        stderr: What it and the guard reported.
    """

    def __init__(self, status: int, stdout: bytes, stderr: bytes) -> None:
        self.status = status
        self.stdout = stdout
        self.stderr = stderr

    @property
    def words(self) -> list[str]:
        """What the command printed, a word an item."""
        return self.stdout.decode().split()

    @property
    def reports(self) -> list[str]:
        """What the guard reported."""
        lines = self.stderr.decode("utf-8", "replace").splitlines()
        return [line.removeprefix("vpmem-guard: ") for line in lines if line.startswith("vpmem-guard: ")]

    @property
    def refusal(self) -> str:
        """Why the command was refused; fails if anything of it was done."""
        assert (self.status, self.stdout) == (113, b""), (self.status, self.stdout, self.stderr)
        assert not [report for report in self.reports if report.startswith("acts on")]
        return self.reports[-1]

    def __repr__(self) -> str:
        return f"{self.status} {self.stdout!r} {self.stderr!r}"
