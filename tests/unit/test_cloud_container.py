"""The container of the cloud's control plane: what it isolates, what it ends, and what it says when it is refused."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from VpmemLibrary.cloud.container import Container, last_lines, require_root
from VpmemLibrary.errors import LabError, UnsupportedError
from VpmemLibrary.lab.process import find_process
from VpmemLibrary.lab.tools import ToolError


def may_enter() -> bool:
    """Return whether this process may make mount and PID namespaces."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "mount", "-t", "tmpfs", "x", "/mnt"]
    return subprocess.run(tried, check=False, capture_output=True).returncode == 0


needs_namespaces = pytest.mark.skipif(not may_enter(), reason="needs root with CAP_SYS_ADMIN")


@pytest.fixture
def container(tmp_path: Path) -> Iterator[Container]:
    """A container of a tree with a shell and a few programs."""
    tree = tmp_path / "tree"
    for name in ("dev", "proc", "sys", "tmp", "run", "srv", "bin"):
        (tree / name).mkdir(parents=True)
    for name in ("sh", "sleep", "setsid", "env", "touch"):
        program = shutil.which(name) or ""
        shutil.copy(program, tree / "bin" / name)
        needed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
        for library in re.findall(r"/\S+", needed):
            target = tree / library.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(library, target)
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    made = Container(state, tree)
    yield made
    made.kill()


def pids(marker: str) -> list[int]:
    """Return the processes with a marker in their command line."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker in path.read_bytes().decode("utf-8", "replace").split("\0"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def wait_until(condition: object) -> None:
    for _ in range(200):
        if condition():  # type: ignore[operator]
            return
        time.sleep(0.05)
    raise AssertionError("the condition was not met in 10 s")


@needs_namespaces
def test_its_end_ends_every_process_also_one_that_left_its_service(container: Container) -> None:
    container.start()
    container.start_service("daemon", ["/bin/sh", "-c", "setsid sleep 987.25 & exec sleep 987.5"])
    wait_until(lambda: pids("987.25") and pids("987.5"))
    assert container.service("daemon") is not None
    container.kill()
    assert pids("987.25") == []
    assert container.process is None
    wait_until(lambda: container.service("daemon") is None)


@needs_namespaces
def test_it_outlives_its_starter_and_is_found_by_its_directory(container: Container) -> None:
    container.start()
    again = Container(container.directory, container.directory.parent / "tree")
    assert again.process == container.process == find_process(container.directory)
    again.kill()
    assert container.process is None


@needs_namespaces
def test_a_program_sees_the_state_directory_and_no_variable_of_this_process(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "/secret")
    container.start()
    container.run(["/bin/sh", "-c", "env >/srv/variables"], "list the variables", timeout=30, environment={"A": "b c"})
    lines = (container.directory / "variables").read_text().splitlines()
    assert {line.partition("=")[0] for line in lines} - {"PWD", "_", "OLDPWD", "SHLVL"} == {
        "PATH",
        "LC_ALL",
        "HOME",
        "A",
    }
    assert (container.directory / "variables").stat().st_mode & 0o077 == 0


@needs_namespaces
def test_the_tree_cannot_be_changed_and_no_mount_is_left(container: Container) -> None:
    container.start()
    with pytest.raises(ToolError, match="Read-only file system"):
        container.run(["/bin/touch", "/bin/new"], "write", timeout=30)
    assert str(container.directory.parent) not in Path("/proc/mounts").read_text()


@needs_namespaces
def test_a_failed_program_is_an_error_with_its_last_lines(container: Container) -> None:
    container.start()
    with pytest.raises(ToolError, match=r"Could not make a database: nsenter ended with status 3:\nno space"):
        container.run(["/bin/sh", "-c", "echo no space >&2; exit 3"], "make a database", timeout=30)


@needs_namespaces
def test_mounts_that_are_refused_are_an_error_with_what_to_do(container: Container) -> None:
    (container.directory.parent / "tree/srv").rmdir()
    with pytest.raises(LabError, match=r"could not be started: (?s:.*)CAP_SYS_ADMIN(?s:.*)mount"):
        container.start()
    assert container.process is None


def test_a_program_is_not_run_in_a_container_that_ended(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="does not run: vpmem cloud up"):
        Container(tmp_path, tmp_path).run(["true"], "do nothing", timeout=1)


def test_an_ordinary_user_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UnsupportedError, match=r"The cloud needs root(?s:.*)CAP_SYS_ADMIN"):
        require_root()


def test_a_missing_program_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UnsupportedError, match="unshare is not installed here: apt-get install util-linux"):
        require_root()


def test_the_last_lines_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_lines(log) == "(no log)"
    log.write_bytes(b"")
    assert last_lines(log) == "(empty)"
    log.write_text("".join(f"line {number} {'x' * 90}\n" for number in range(10000)))
    assert [line.split()[1] for line in last_lines(log, 3).splitlines()] == ["9997", "9998", "9999"]
