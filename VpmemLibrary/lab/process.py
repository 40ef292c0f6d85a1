"""Start the one process of a directory, find it again from later processes, and kill it as a power cut does.

A process is identified by its number, the clock ticks from the machine's boot to its start, and the machine's boot id.
A step of the wall clock changes none of these. No two processes have the same values.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.paths import open_private
from VpmemLibrary.lab.qmp import connect_unix
from VpmemLibrary.polling import attempts

MONITOR = "qmp.sock"
"""The socket of QEMU's monitor, in the directory of the process."""

QEMU_LOG = "qemu.log"
"""The file of QEMU's output, in the same directory."""

_START_SECONDS = 60
_STOP_SECONDS = 10
_POLL = 0.01
_RECORD = "process.json"

# Lab processes outlive the process that starts them. But while that process lives, it must collect its ended children.
_children: list[subprocess.Popen[bytes]] = []


class Process(Struct, frozen=True):
    """A process of this machine: its number, the clock ticks from the boot to its start, and the boot's identifier."""

    pid: int
    ticks: int
    boot: str

    @classmethod
    def find(cls, pid: int) -> Process:
        """Return the process that has a number now.

        Raises:
            ProcessLookupError: No process has the number, or the process has ended and waits to be collected.
        """
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise ProcessLookupError(f"no process {pid}") from error
        # proc_pid_stat(5): the name is in parentheses and may contain any byte. The state is field 3, starttime is
        # field 22.
        fields = stat.rpartition(b")")[2].split()
        if fields[0] in {b"Z", b"X"}:
            raise ProcessLookupError(f"process {pid} has ended")
        return cls(pid, int(fields[19]), boot_id())

    @property
    def seconds(self) -> float:
        """The seconds since the start of the process."""
        since_boot = float(Path("/proc/uptime").read_text().split()[0])
        return since_boot - self.ticks / os.sysconf("SC_CLK_TCK")


def start_qemu(directory: Path, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Start QEMU as the process of `directory`, in that directory. Wait until its monitor at `MONITOR` answers.

    Only this user may open the files and sockets that QEMU creates.

    Raises:
        LabError: QEMU did not start. The message has QEMU's output.
    """
    log, monitor = directory / QEMU_LOG, directory / MONITOR
    monitor.unlink(missing_ok=True)
    child = start_process(directory, command, log, {**os.environ, **(environment or {})})
    if not _greets(monitor, child, _START_SECONDS):
        kill_process(directory)
        said = log.read_text("utf-8", "replace").strip() or f"exit status {child.poll()}"
        raise LabError(f"QEMU could not start: {said}")


def start_process(
    directory: Path, command: Sequence[str], log: Path, environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a program as the process of `directory`, in that directory. Its output goes to the new file `log`.

    Only this user may open the files and sockets that the program creates.
    """
    with open_private(log) as output:
        child = subprocess.Popen(
            command,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
            umask=0o077,
        )
    _children.append(child)
    with contextlib.suppress(ProcessLookupError):  # the process has ended already
        _write_record(directory, Process.find(child.pid))
    return child


def record_child(directory: Path, parent: subprocess.Popen[bytes]) -> None:
    """Record the first child of `parent` as the process of `directory`, instead of `parent` itself.

    Raises:
        LabError: `parent` ended, or started no child in time.
    """
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    for _ in attempts(f"a child of process {parent.pid}", timeout=_STOP_SECONDS, interval=_POLL):
        with contextlib.suppress(OSError, ProcessLookupError, IndexError):
            _write_record(directory, Process.find(int(children.read_text().split()[0])))
            return
        if parent.poll() is not None:
            break
    raise LabError(f"Process {parent.pid} in {directory} started no child process.")


def find_process(directory: Path) -> Process | None:
    """Return the process of `directory`. Return None if it does not run, even if another process now has its number."""
    known = _read_record(directory)
    with contextlib.suppress(OSError, ValueError):
        if known is not None and Process.find(known.pid) == known:
            return known
    return None


def fatal_signal(directory: Path) -> int:
    """Return the signal that ended the process of `directory`, unless `kill_process` sent it. Return 0 if unknown.

    Only the process that started it can find out the signal.
    """
    known = _read_record(directory)
    ended = next((child.poll() for child in _children if known and child.pid == known.pid), None)
    return max(-(ended or 0), 0)


def kill_process(directory: Path) -> None:
    """Kill the process of `directory` by SIGKILL, and wait until it has ended.

    Raises:
        LabError: The process does not end.
    """
    process = find_process(directory)
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            _end(process, directory)
        for child in _children:
            if child.pid == process.pid:
                child.wait(_STOP_SECONDS)  # the child has ended: this call collects it
    (directory / _RECORD).unlink(missing_ok=True)


def _end(process: Process, directory: Path) -> None:
    descriptor = os.pidfd_open(process.pid)
    try:
        # The descriptor stays with one process, even if the number is used again. So the process that is compared here
        # is the process that gets the signal.
        if Process.find(process.pid) != process:
            return
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        ended = select.poll()
        ended.register(descriptor, select.POLLIN)
        if not ended.poll(_STOP_SECONDS * 1000):
            raise LabError(f"Process {process.pid} of the lab, which runs in {directory}, does not end.")
    finally:
        os.close(descriptor)


def _read_record(directory: Path) -> Process | None:
    try:
        return Process(**json.loads((directory / _RECORD).read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def _write_record(directory: Path, process: Process) -> None:
    with open_private(directory / _RECORD) as file:
        file.write(json.dumps(asdict(process)).encode())


def _greets(monitor: Path, child: subprocess.Popen[bytes], timeout: float) -> bool:
    """Return whether QEMU sends the greeting of its monitor. QEMU does so once all its devices and networks exist."""
    connection: socket.socket | None = None
    try:
        for _ in attempts("QEMU's monitor", timeout=timeout, interval=_POLL):
            if child.poll() is not None:
                return False
            with contextlib.suppress(OSError):  # QEMU does not listen yet, or has sent nothing yet
                if connection is None:
                    connection = connect_unix(monitor)
                    connection.settimeout(_POLL)
                return bool(connection.recv(1))
    finally:
        if connection is not None:
            connection.close()
    return False


def boot_id() -> str:
    """Return the identifier of this machine's current boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
