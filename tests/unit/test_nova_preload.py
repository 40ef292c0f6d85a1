"""The program that starts nova-compute on a compute host without its imports, with a small program in Nova's place."""

from __future__ import annotations

import os
import runpy
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.lab.recipe import FILES

PROGRAM = """\
import os, sys
def main():
    print({word!r}, os.environ["WANTED"], sys.argv, os.getpid(), flush=True)
    raise SystemExit("ended as nova-compute")
"""
HELPER = """\
import os, sys
def un_monkey_patch():
    pass
def helper_main():
    print(*sys.argv, os.environ["WANTED"], flush=True)
    if "wrong" in sys.argv:
        raise RuntimeError("no such socket")
    if os.fork() == 0:
        os._exit(0)
"""
MODULES = {
    "nova/cmd/__init__.py": "",
    "nova/compute/api.py": "",
    "nova/compute/resource_tracker.py": "",
    "nova/objects/__init__.py": "def register_all(): pass",
    "nova/virt/libvirt/driver.py": "",
    "oslo_messaging/_drivers/impl_rabbit.py": "",
    "oslo_privsep/daemon.py": HELPER,
    "stevedore/extension.py": "ExtensionManager = str",
}
PRELOAD = FILES / "host/usr/lib/vpmem/nova-preload"
DEADLINE = 60.0


@pytest.fixture
def nova(tmp_path: Path) -> Path:
    """The file of the module nova.cmd.compute of the small program."""
    for module, text in MODULES.items():
        path = tmp_path / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    main = tmp_path / "nova/cmd/compute.py"
    main.write_text(PROGRAM.format(word="first"))
    return main


@pytest.fixture
def server(tmp_path: Path, nova: Path) -> Iterator[Path]:
    """The socket of a server that is ready."""
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(DEADLINE)
        environment = os.environ | {"PYTHONPATH": str(tmp_path), "NOTIFY_SOCKET": str(tmp_path / "notify")}
        child = subprocess.Popen([sys.executable, PRELOAD, "serve", str(path)], env=environment)
        try:
            assert notified.recv(100) == b"READY=1"
            yield path
        finally:
            child.kill()
            child.wait()


def start(server: Path, output: Path, wanted: str) -> tuple[list[str], int]:
    """Start the program. Return the lines that it wrote, and the process id of its PID file."""
    pid_file = output.with_suffix(".pid")
    with output.open("w") as file:
        subprocess.run(
            [sys.executable, "-IS", PRELOAD, "start", str(server), str(pid_file)],
            env={"WANTED": wanted},
            stdout=file,
            stderr=file,
            check=True,
            timeout=DEADLINE,
        )
    deadline = time.monotonic() + DEADLINE
    while "ended" not in output.read_text() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "ended" in output.read_text(), output.read_text()
    return output.read_text().splitlines(), int(pid_file.read_text())


def test_a_start_is_a_process_of_its_own_with_the_environment_and_the_output_of_the_caller(
    server: Path, tmp_path: Path
) -> None:
    lines, pid = start(server, tmp_path / "one", "of one")
    assert lines == [f"first of one ['nova-compute'] {pid}", "ended as nova-compute"]
    lines, other = start(server, tmp_path / "two", "of two")
    assert lines[0] == f"first of two ['nova-compute'] {other}"
    assert other != pid


def test_a_file_of_nova_that_has_changed_is_imported_again(server: Path, nova: Path, tmp_path: Path) -> None:
    start(server, tmp_path / "one", "x")
    nova.write_text(PROGRAM.format(word="second"))
    lines, _ = start(server, tmp_path / "two", "x")
    assert lines[0].startswith("second x")


def test_a_privsep_helper_gets_its_arguments_and_ends_when_its_daemon_is_forked(server: Path, tmp_path: Path) -> None:
    helper = [sys.executable, "-IS", str(PRELOAD), "privsep-helper", str(server)]
    ran = subprocess.run(
        [*helper, "--sock", "x"], check=False, env={"WANTED": "y"}, capture_output=True, timeout=DEADLINE
    )
    assert (ran.returncode, ran.stdout) == (0, b"privsep-helper --sock x y\n")
    ran = subprocess.run([*helper, "wrong"], check=False, env={"WANTED": "y"}, capture_output=True, timeout=DEADLINE)
    assert ran.returncode == 1
    assert b"RuntimeError: no such socket" in ran.stderr
    assert b"nova-preload did not start privsep-helper" in ran.stderr


def test_a_start_without_a_server_or_without_its_answer_is_an_error(tmp_path: Path) -> None:
    preload = runpy.run_path(str(PRELOAD))
    preload["start"].__globals__["_SECONDS"] = 0.3
    with pytest.raises(SystemExit, match=r"nova-preload does not take requests at .*/nobody: .*No such file"):
        preload["start"](str(tmp_path / "nobody"), ["nova-compute"], str(tmp_path / "pid"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as silent:
        silent.bind(str(tmp_path / "silent"))
        with pytest.raises(SystemExit, match=r"nova-preload did not start nova-compute \(waited for 0\.3 s at most\)"):
            preload["start"](str(tmp_path / "silent"), ["nova-compute"], str(tmp_path / "pid"))
