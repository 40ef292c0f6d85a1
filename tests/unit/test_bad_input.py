"""What a .robot file gets for a mistake: keywords run by Robot Framework, here, with tools that misbehave."""

from __future__ import annotations

import os
import socket
from io import StringIO
from pathlib import Path

import pytest
from robot.api import ExecutionResult
from robot.run import run as run_robot

LOCAL = "Open Local Host"


def message_of(tmp_path: Path, *steps: str, level: str = "INFO") -> str:
    """Run steps as one test, and return how it ended: its failure's text, or nothing if it passed."""
    suite = tmp_path / "suite.robot"
    body = "\n    ".join(steps)
    suite.write_text(
        "*** Settings ***\nLibrary    VpmemLibrary    timeout=2s\nTest Teardown    Close All Hosts\n\n"
        f"*** Test Cases ***\nTest\n    {body}\n"
    )
    output = tmp_path / "output.xml"
    quiet = {"log": None, "report": None, "stdout": StringIO(), "stderr": StringIO()}
    run_robot(str(suite), output=str(output), loglevel=level, **quiet)
    (test,) = ExecutionResult(str(output)).suite.tests
    return str(test.message)


def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """Put a tool of that behaviour before all others on the PATH."""
    directory = tmp_path / "bin"
    directory.mkdir(exist_ok=True)
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (
            "Create Namespace    region0    size=16GB",
            "Argument 'size' got value '16GB' that cannot be converted to Size",
        ),
        ("Create Namespace    region0    size=16G", "KiB, MiB, GiB, TiB"),
        ("Get Predicted Usable Size    -1", "whole bytes or a binary unit"),
        ("Create Namespace    region0    mode=dax", "Available: 'devdax', 'fsdax', 'raw' and 'sector'"),
        ("Create Namespace    region0    map=cpu", "'dev' and 'mem'"),
        ("Get Predicted Usable Size    8MiB", "size '8MiB' cannot be used"),
        ("Get Predicted Usable Size    64MiB    align=3MiB", "4KiB or 2MiB or 1GiB"),
        ("Get Predicted Usable Size    64MiB    mode=sector    sector_size=100", "512 or 520"),
        ("Run On Host    true", "No open host '(current)'. There is none."),
        ("Switch Host    nowhere", "No open host 'nowhere'. There is none."),
        ("Close Host    nowhere", "No open host 'nowhere'"),
        ("Open Host From File    absent.dat", "hosts file 'absent.dat' cannot be used"),
        ("Open Host    127.0.0.1    key_file=/absent/key", "/absent/key"),
        ("Open Host    host.invalid", "host.invalid"),
        ("Set Guest Image    kernel=k", "an absolute path on the host"),
        ("Set Guest Image", "either a kernel (with its initrd) or a disk"),
        ("Start Guest    a", "No open host"),
    ],
)
def test_without_a_host_a_mistake_is_reported(tmp_path: Path, step: str, expected: str) -> None:
    assert expected in message_of(tmp_path, step)


def test_an_alias_that_is_taken_is_refused_and_the_first_stays(tmp_path: Path) -> None:
    message = message_of(
        tmp_path,
        "Open Local Host    alias=a",
        "Open Local Host    alias=b",
        "TRY",
        "    Open Local Host    alias=a",
        "EXCEPT    *alias 'a' cannot be used*open: a, b*    type=GLOB",
        "    ${aliases} =    Get Open Hosts",
        "END",
        "Should Be Equal    ${aliases}    ${{['a', 'b']}}",
    )
    assert message == ""


def test_a_port_where_nothing_listens_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    message = message_of(tmp_path, f"Open Host    127.0.0.1    port={port}")
    assert "127.0.0.1" in message
    assert str(port) in message
    assert "refuses connections" in message


def test_a_password_reaches_no_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    monkeypatch.setenv("TEST_PASSWORD", "correct horse")
    message = message_of(
        tmp_path,
        "VAR    ${password: Secret}    %{TEST_PASSWORD}",
        f"Open Host    127.0.0.1    port={port}    password=${{password}}",
    )
    assert "refuses connections" in message
    assert "correct horse" not in (tmp_path / "output.xml").read_text()


def test_a_secret_on_standard_input_is_in_no_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEST_PASSWORD", "correct horse")
    message = message_of(
        tmp_path,
        "VAR    ${password: Secret}    %{TEST_PASSWORD}",
        LOCAL,
        "${result} =    Run On Host    sh    -c    cat | wc -c    stdin=${password}",
        "Should Be Equal As Integers    ${result.text}    13",
        "Run On Host    sh    -c    cat >/dev/null; exit 1    stdin=${password}",
        level="TRACE",
    )
    assert "exit status: 1" in message
    assert "Arguments: [" in (tmp_path / "output.xml").read_text()
    assert "correct horse" not in (tmp_path / "output.xml").read_text()


def test_an_entry_of_a_hosts_file_shows_no_secret_in_the_log(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.dat"
    commands = "".join(f"host_{what} = tool -P s3cret\n" for what in ("power_off", "power_on", "cxl_add", "cxl_remove"))
    hosts.write_text(f"[a]\nhost_address = local\n{commands}")
    message = message_of(
        tmp_path,
        f"${{entry}} =    Get Host Entry    {hosts}",
        "Log    ${entry}",
        f"Open Host From File    {hosts}",
        level="TRACE",
    )
    output = (tmp_path / "output.xml").read_text()
    assert message == ""
    assert "HostEntry(name='a'" in output
    assert "s3cret" not in output


def test_a_long_output_is_logged_in_part(tmp_path: Path) -> None:
    assert message_of(tmp_path, LOCAL, "Run On Host    sh    -c    yes | head -c 5000000", level="DEBUG") == ""
    output = (tmp_path / "output.xml").read_text()
    assert "stdout, the first 16384 of 5000000 bytes: y" in output
    assert len(output) < 100_000


def test_a_missing_program_is_named(tmp_path: Path) -> None:
    message = message_of(tmp_path, LOCAL, "Run On Host    no-such-program    --flag")
    assert "no-such-program is not installed there" in message
    assert "no-such-program --flag" in message


def test_a_program_that_fails_gives_command_status_and_stderr(tmp_path: Path) -> None:
    message = message_of(tmp_path, LOCAL, "Run On Host    sh    -c    echo broken >&2; exit 7")
    assert "sh -c 'echo broken >&2; exit 7'" in message
    assert "exit status: 7" in message
    assert "stderr: broken" in message


def test_a_program_that_hangs_is_ended(tmp_path: Path) -> None:
    message = message_of(tmp_path, LOCAL, "Run On Host    sleep    600    timeout=0.3s")
    assert "did not end within 0.3 s and was ended" in message
    assert "sleep 600" in message


def test_another_status_than_the_expected_one_fails(tmp_path: Path) -> None:
    assert "The exit status should be 3" in message_of(tmp_path, LOCAL, "Run On Host    false    expected_status=3")
    assert message_of(tmp_path, LOCAL, "Run On Host    false    expected_status=1") == ""
    assert message_of(tmp_path, LOCAL, "Run On Host    false    expected_status=${None}") == ""


def test_ndctl_that_prints_nothing_means_that_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, "ndctl", "exit 0")
    message = message_of(tmp_path, LOCAL, "${regions} =    Get Regions", "Should Be Empty    ${regions}")
    assert message == ""
    message = message_of(tmp_path, LOCAL, "Get Namespace    ns_0")
    assert "No namespace 'ns_0' on local. There is none." in message
    message = message_of(tmp_path, LOCAL, "Create Namespace    region0    size=64MiB")
    assert "No region 'region0' on local. There is none." in message
    message = message_of(tmp_path, LOCAL, "Get Region With Largest Free Extent")
    assert "has no region" in message


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'not json'", "not json"),
        ("echo '[{\"provider\":'", "provider"),
        ("echo no >&2; exit 2", "exit status: 2"),
        ("kill -9 $$", "exit status: -9"),
    ],
)
def test_ndctl_that_misbehaves_is_reported_with_its_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str
) -> None:
    tool(tmp_path, monkeypatch, "ndctl", script)
    message = message_of(tmp_path, LOCAL, "Get Regions")
    assert expected in message
    assert "ndctl list" in message


def test_a_host_without_ndctl_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool(tmp_path, monkeypatch, "ndctl", "exit 127")
    assert "ndctl is not installed" in message_of(tmp_path, LOCAL, "Get Regions")


def test_a_guest_without_an_image_is_refused(tmp_path: Path) -> None:
    message = message_of(tmp_path, LOCAL, "Define Guest")
    assert "guest image '' cannot be used" in message
    assert "Set Guest Image" in message
