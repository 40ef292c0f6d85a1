"""A lab host's port stays its own while the host is off."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from VpmemLibrary.lab import ports


def test_the_port_is_none_that_the_kernel_hands_out() -> None:
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    found = {ports.free_port() for _ in range(20)}
    assert len(found) > 1
    assert not any(low <= port <= high for port in found)


def test_the_port_of_a_host_that_is_off_is_not_given_to_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "_CANDIDATES", range(30000, 30002))
    assert {ports.free_port({30000}) for _ in range(10)} == {30001}


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert not ports.is_free(port)
        monkeypatch.setattr(ports, "_CANDIDATES", range(port, port + 1))
        assert ports.free_port() != port


def test_where_the_kernel_hands_out_all_ports_it_is_asked_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "range").write_text("1024\t65535\n")
    monkeypatch.setattr(ports, "_EPHEMERAL", tmp_path / "range")
    assert ports.is_free(ports.free_port())
