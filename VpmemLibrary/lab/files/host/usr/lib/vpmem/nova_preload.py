"""Start nova-compute without its imports. This program runs on a compute host, with the host's Python.

Half of the time that nova-compute needs to start on an emulated host goes into its imports. ``serve SOCKET`` imports it
once, and forks itself for each start. ``start SOCKET PID_FILE`` asks for a start, and ends. The new process has the
environment, the control group and the output of ``start``. Its parent is systemd, which finds it by the PID file. If a
file of Nova has changed, everything is imported again first.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_SECONDS = 280.0
_AGAIN, _STARTED = b"again", b"started"
# What nova-compute imports after its start: the driver of its setting and the driver of its message queue.
_LATER = ("nova.virt.libvirt.driver", "oslo_messaging._drivers.impl_rabbit")
# eventlet replaces these when Nova is imported, and its own must not be used before the fork.
_Socket, _fork, _waitpid, _write = socket.socket, os.fork, os.waitpid, os.write


def serve(path: str, inherited: str = "") -> None:
    """Import nova-compute, and fork for each request. Return only in a forked process, which is to run nova-compute.

    Args:
        path: The socket for requests.
        inherited: The socket's file descriptor, if this process had it before.
    """
    requests = _Socket(fileno=int(inherited)) if inherited else _bound(path)
    importlib.import_module("nova.cmd.compute")
    for module in _LATER:
        importlib.import_module(module)
    imported = _files_of_nova()
    _notify_systemd()
    while True:
        data, sent, _, _ = socket.recv_fds(requests, 1 << 20, 3)
        *outputs, answer = sent
        if _files_of_nova() != imported:
            _write(answer, _AGAIN)
            for each in sent:
                os.close(each)
            requests.set_inheritable(True)
            itself = [sys.executable, sys.argv[0], "serve", path, str(requests.fileno())]
            os.execv(itself[0], itself)  # noqa: S606
        child = _fork()
        if not child:
            if _fork():
                os._exit(0)
            requests.close()
            _become(json.loads(data), outputs)
            _write(answer, _STARTED)
            os.close(answer)
            return
        for each in sent:
            os.close(each)
        _waitpid(child, 0)


def start(path: str, pid_file: str) -> None:
    """Let the server start nova-compute. Return when it is forked and the PID file is written."""
    wanted = {"environment": dict(os.environ), "control_group": _control_group(), "pid_file": pid_file}
    data = json.dumps(wanted).encode()
    deadline = time.monotonic() + _SECONDS
    answer = _AGAIN
    while answer == _AGAIN:  # the server imports again what has changed, and then takes the next request
        answer = _ask(path, data, deadline)
    if answer != _STARTED:
        raise SystemExit(f"nova-preload did not start nova-compute (waited for {_SECONDS:g} s at most).")


def _bound(path: str) -> socket.socket:
    Path(path).unlink(missing_ok=True)
    requests = _Socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    requests.bind(path)
    return requests


def _ask(path: str, data: bytes, deadline: float) -> bytes:
    """Send a request with the outputs of this process. Return the answer. It is empty if there is none in time."""
    reading, writing = os.pipe()
    try:
        with _Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as request:
            request.connect(path)
            socket.send_fds(request, [data], [1, 2, writing])
        os.close(writing)
        ready, _, _ = select.select([reading], [], [], max(0.0, deadline - time.monotonic()))
        return os.read(reading, 100) if ready else b""
    except OSError as error:
        raise SystemExit(f"nova-preload does not take requests at {path}: {error}") from error
    finally:
        os.close(reading)


def _become(wanted: Mapping[str, Any], outputs: list[int]) -> None:
    """Give this process what the process that asked for it has."""
    for number, each in enumerate(outputs, 1):
        os.dup2(each, number)
        os.close(each)
    os.environ.clear()
    os.environ.update(wanted["environment"])
    if wanted["control_group"] != _control_group():
        Path(f"/sys/fs/cgroup{wanted['control_group']}/cgroup.procs").write_text(str(os.getpid()))
    Path(wanted["pid_file"]).write_text(f"{os.getpid()}\n")


def _control_group() -> str:
    return Path("/proc/self/cgroup").read_text().rpartition("0::")[2].strip()


def _files_of_nova() -> dict[str, int]:
    """Return the files of the imported modules of Nova, each with the time of its last change."""
    modules = [module for name, module in list(sys.modules.items()) if name.split(".")[0] == "nova"]
    paths = [module.__file__ for module in modules if module.__file__]
    return {path: Path(path).stat().st_mtime_ns if Path(path).exists() else 0 for path in paths}


def _notify_systemd() -> None:
    """Report to systemd that this service is ready (sd_notify(3))."""
    if address := os.environ.pop("NOTIFY_SOCKET", ""):
        with _Socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect(address.replace("@", "\0", 1))
            notify.sendall(b"READY=1")


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "start":
        start(*arguments)
    else:
        serve(*arguments)
        sys.argv[:] = ["nova-compute"]
        importlib.import_module("nova.cmd.compute").main()
