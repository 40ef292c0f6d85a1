"""Unix sockets below directories of any depth."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from pathlib import Path

import pytest

from VpmemLibrary.errors import ControllerError
from VpmemLibrary.guest.channel.relay import Relay
from VpmemLibrary.transport.short_path import socket_directory


@pytest.fixture
def deep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory for temporary files whose path is longer than a unix socket's may be."""
    path = tmp_path / ("workspace" * 20)
    path.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return path


def test_a_directory_for_temporary_files_that_is_short_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    made = socket_directory("socket")
    assert made.parent == tmp_path
    assert stat.S_IMODE(made.stat().st_mode) == 0o700


def test_a_relay_works_below_a_deep_directory_and_leaves_nothing(deep: Path) -> None:
    relay = Relay(lambda: pytest.fail("nothing connects"))
    try:
        assert len(os.fsencode(relay.path)) <= 107
        assert stat.S_IMODE(relay.path.parent.stat().st_mode) == 0o700
    finally:
        relay.close()
    assert not relay.path.parent.exists()
    assert list(deep.iterdir()) == []


@pytest.mark.parametrize("length", [106, 107, 108])
def test_the_limit_is_the_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    first = socket_directory("s")
    name = "s" * (length - len(os.fsencode(first)) - 1)
    made = socket_directory(name)
    assert (made.parent == tmp_path) is (length <= 107)
    if length <= 107:
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(made / name))
    else:
        made.rmdir()


def test_the_runtime_directory_comes_before_tmp(deep: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = tmp_path / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    assert socket_directory("socket").parent == runtime
    assert list(deep.iterdir()) == []


def test_no_directory_at_all_is_reported_with_what_was_tried(deep: Path) -> None:
    with pytest.raises(ControllerError, match=r"workspace.*more than 107 bytes.*/tmp: .*TMPDIR=/tmp"):
        socket_directory("s" * 200)
    assert list(deep.iterdir()) == []
