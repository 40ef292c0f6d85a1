"""The one process of a directory: started, found again by later processes, ended as by a power cut.

A process is known by its number, the clock ticks from the machine's boot to its start, and the machine's boot id. A
step of the wall clock changes none of these, and no two processes have the same.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.paths import open_private
from VpmemLibrary.lab.qmp import connect_unix

MONITOR = "qmp.sock"
"""QEMU's monitor in the directory of its process."""

QEMU_LOG = "qemu.log"
"""What QEMU prints, in the same directory."""

_START_SECONDS = 60
_STOP_SECONDS = 10
_POLL = 0.01
_RECORD = "process.json"

# Lab processes outlive the process that starts them; while that one lives, it must collect those that end.
_children: list[subprocess.Popen[bytes]] = []


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine.

    Args:
        pid: Its number.
        ticks: Clock ticks from the machine's boot to its start.
        boot: The boot of the machine that it belongs to.
    """

    pid: int
    ticks: int
    boot: str

    @classmethod
    def find(cls, pid: int) -> Process:
        """Return the process that has a number now.

        Raises:
            ProcessLookupError: No process has the number, or it has ended and waits to be collected.
        """
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise ProcessLookupError(f"no process {pid}") from error
        # proc_pid_stat(5): the name is in parentheses and may hold any byte; state is field 3, starttime field 22.
        fields = stat.rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            raise ProcessLookupError(f"process {pid} has ended")
        return cls(pid, int(fields[19]), _boot_id())

    @property
    def seconds(self) -> float:
        """How long it has run."""
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
        return since_boot - self.ticks / os.sysconf("SC_CLK_TCK")


def start_qemu(directory: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Start QEMU as the process of `directory`, in that directory, and wait until its monitor answers.

    Only this user may open the files and sockets that it makes.

    Args:
        directory: The directory; it keeps the record of the process, and what QEMU prints.
        command: QEMU and its arguments; the monitor's socket is `MONITOR`.
        environment: Variables in addition to those of this process.

    Raises:
        LabError: QEMU did not start; has its message.
    """
    log, monitor = directory / QEMU_LOG, directory / MONITOR
    monitor.unlink(missing_ok=True)
    with open_private(log) as output:
        child = subprocess.Popen(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            umask=0o077,
        )
    _children.append(child)
    with contextlib.suppress(ProcessLookupError):  # it has ended already
        _write_record(directory, Process.find(child.pid))
    if not _greets(monitor, child, time.monotonic() + _START_SECONDS):
        kill_process(directory)
        said = log.read_text("utf-8", "replace").strip() or f"exit status {child.poll()}"
        raise LabError(f"QEMU could not start: {said}")


def find_process(directory: Path) -> Process | None:
    """Return the process of `directory`. None if it does not run, even if another process has its number."""
    try:
        known = Process(**json.loads((directory / _RECORD).read_text()))
        return known if Process.find(known.pid) == known else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def kill_process(directory: Path) -> None:
    """End the process of `directory` by SIGKILL, and wait until it is gone.

    Raises:
        LabError: The process does not go away.
    """
    process = find_process(directory)
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            _end(process, directory)
        for child in _children:
            if child.pid == process.pid:
                child.wait(_STOP_SECONDS)  # it has ended: this collects it
    (directory / _RECORD).unlink(missing_ok=True)


def _end(process: Process, directory: Path) -> None:
    descriptor = os.pidfd_open(process.pid)
    try:
        # What the descriptor refers to is fixed now, so this compares the process that the signal will reach.
        if Process.find(process.pid) != process:
            return
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if not ended.poll(_STOP_SECONDS * 1000):
            raise LabError(f"Process {process.pid} of the lab, which runs in {directory}, does not end.")
    finally:
        os.close(descriptor)


def _write_record(directory: Path, process: Process) -> None:
    with open_private(directory / _RECORD) as file:
        file.write(json.dumps(asdict(process)).encode())


def _greets(monitor: Path, child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Return whether QEMU sends its monitor's greeting, which it does when all its devices and networks are made."""
    connection: socket.socket | None = None
    try:
        while child.poll() is None and time.monotonic() < deadline:
            try:
                if connection is None:
                    connection = connect_unix(monitor)
                    connection.settimeout(_POLL)
                return bool(connection.recv(1))
            except TimeoutError:
                continue
            except OSError:  # it does not listen yet
                time.sleep(_POLL)
    finally:
        if connection is not None:
            connection.close()
    return False


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
