"""The SSH transport against a real sshd, and its cost beside bare paramiko."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from host_under_test import lab_settings
from msgspec.structs import replace

from VpmemLibrary.errors import AccessDeniedError, CommandTimeoutError, HostKeyError
from VpmemLibrary.transport.ssh.transport import SshTransport

pytest_plugins = ["host_under_test"]
pytestmark = pytest.mark.lab

ROUNDS = 30


def test_a_command_over_openssh(lab_transport: SshTransport) -> None:
    result = lab_transport.run(["sh", "-c", "cat; echo err >&2; exit 3"], stdin=b"in")
    assert (result.exit_status, result.stdout, result.stderr) == (3, b"in", b"err\n")
    assert lab_transport.run(["sh", "-c", "kill -TERM $$"]).exit_status == -15
    assert lab_transport.run(["no-such-program"]).exit_status == 127


def test_a_timeout_leaves_no_process_on_the_host(lab_transport: SshTransport) -> None:
    with pytest.raises(CommandTimeoutError):
        lab_transport.run(["sh", "-c", "sleep 4711 & sleep 4711; true"], timeout=1)
    found = lab_transport.run(["sh", "-c", "grep -lsz '^4711$' /proc/[0-9]*/cmdline"])
    assert found.stdout == b""


def test_a_run_costs_little_beside_bare_paramiko(lab_transport: SshTransport) -> None:
    """The library's own share of a command is less than paramiko's and sshd's: a ratio, as the host is emulated."""
    lab_transport.run(["/bin/true"])
    transport = lab_transport._connections.transport()  # the same connection for both

    def bare() -> None:
        channel = transport.open_session()
        channel.exec_command("exec /bin/true")
        channel.recv_exit_status()
        channel.close()

    def timed(action: Callable[[], object]) -> float:
        started = time.perf_counter()
        action()
        return time.perf_counter() - started

    pairs = [(timed(lambda: lab_transport.run(["/bin/true"])), timed(bare)) for _ in range(ROUNDS)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(f"run {ours * 1000:.2f} ms, bare paramiko {theirs * 1000:.2f} ms")
    assert ours < 2 * theirs


def test_an_unknown_host_key_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "known_hosts"
    empty.touch()
    with SshTransport(replace(lab_settings(), known_hosts=empty)) as host, pytest.raises(HostKeyError, match="SHA256:"):
        host.run(["true"])


def test_a_wrong_user_is_refused(tmp_path: Path) -> None:
    with (
        SshTransport(replace(lab_settings(), user="nobody", use_agent=False)) as host,
        pytest.raises(AccessDeniedError, match="'nobody'"),
    ):
        host.run(["true"])
