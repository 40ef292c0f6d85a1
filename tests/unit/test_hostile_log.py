"""What Robot Framework writes when a host has hostile names: no script in log.html, no escape on the console."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from lxml import etree, html

import VpmemLibrary
from VpmemLibrary.cli.doctor import print_diagnosis
from VpmemLibrary.cli.main import main
from VpmemLibrary.doctor.findings import Diagnosis, problem
from VpmemLibrary.host.preflight import Preflight, PreflightItem, PreflightStatus
from VpmemLibrary.lab.progress import LiveBar, PlainLines
from VpmemLibrary.lab.report import status_text

PACKAGE = Path(VpmemLibrary.__file__).parent
SCRIPT = "<img src=x onerror=alert(1)>"
NAMES = (
    f"*HTML*{SCRIPT}",
    f"*html* {SCRIPT}",
    f"{SCRIPT}\x1b]0;PWNED\x07\x1b[2J\r",
    "x\nnamespace0.0 is free\u202e\u0085",
)
GUEST = ("kernel", "initrd", "command_line")
TABLE = {"div", "b", "table", "tr", "th", "td"}
SUITE = """\
*** Settings ***
Library    VpmemLibrary
Suite Setup    Open Local Host    *HTML*<b>

*** Test Cases ***
No Such Namespace
    Get Namespace    nowhere

A Failure That Begins With The Name
    Rename Namespace    namespace0.0    new    foreign=True

An Assertion
    Get Namespace Property    namespace0.0    name    ==    another

An Assertion With A Text Of Its Own
    Get Namespace Property    namespace0.0    name    ==    another    {value}

A Namespace That Should Not Be There
    Namespace Should Not Exist    namespace0.0

A Command That Fails
    Run On Host    sh    -c    cat "$NAME" >&2; cat "$NAME"; exit 3

A Table
    [Documentation]    Passes, and logs the name in a table of HTML.
    Get Regions
"""


def listing(name: str) -> list[dict[str, Any]]:
    namespace = {"dev": "namespace0.0", "mode": "raw", "size": 1 << 26, "name": name, "blockdev": "pmem0"}
    region = {"dev": "region0", "size": 1 << 30, "available_size": 1 << 29, "namespaces": [namespace]}
    return [{"dev": "ndbus0", "provider": name, "regions": [region]}]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_runs_nowhere(tmp_path: Path, name: str) -> None:
    (tmp_path / "listing.json").write_text(json.dumps(listing(name)))
    (tmp_path / "name").write_text(name)
    tool = tmp_path / "ndctl"
    tool.write_text(f"#!/bin/sh\ncat {tmp_path}/listing.json\n")
    tool.chmod(0o755)
    (tmp_path / "suite.robot").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "robot", "--loglevel", "TRACE", "--outputdir", tmp_path, tmp_path / "suite.robot"],
        env={
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "PYTHONPATH": str(PACKAGE.parent),
            "NAME": str(tmp_path / "name"),
        },
        capture_output=True,
        check=False,
    )
    output = etree.parse(tmp_path / "output.xml")
    ended = [test.get("status") for test in output.iterfind(".//test/status")]
    assert ended == ["FAIL"] * (len(ended) - 1) + ["PASS"], done.stdout.decode()
    messages = [*output.iter("msg"), *output.iter("status")]
    assert any("img src=x" in (each.text or "") or "is free" in (each.text or "") for each in messages)
    for each in messages:
        text = each.text or ""
        if each.get("html") == "true":
            assert {tag.tag for tag in html.fromstring(f"<div>{text}</div>").iter()} <= TABLE
        assert not text.strip().upper().startswith("*HTML*")
        assert not text.startswith("namespace0.0 is free")
    for status in output.iter("status"):
        assert "\nnamespace0.0 is free" not in (status.text or "")
    assert printable((done.stdout + done.stderr).decode())


def printable(text: str) -> bool:
    return all(character.isprintable() or character == "\n" for character in text)


def test_the_command_line_shows_hostile_text_as_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hosts = tmp_path / "hosts.dat"
    hosts.write_text("[a]\nhost_address = local\nhost_user = [bold]x\x1b[2J\u202e\n")
    shown = CliRunner().invoke(main, ["hosts", str(hosts)]).output
    assert r"[bold]x\x1b[2J\u202e" in shown
    item = PreflightItem(
        "kernel", PreflightStatus.too_old, "4\x1b[2J\n- KVM is missing", "a newer one", "Install\x07 it."
    )
    preflight = Preflight("a", (item,))
    assert len(preflight.describe().splitlines()) == 2
    print_diagnosis(Diagnosis("a\x1b[2J\nb", (problem("[red]x\x1b[2J", "4\x1b[2J\nok  KVM", "Install\x07 it."),), 0.1))
    PlainLines().note("boots\x1b[2J")
    with LiveBar().step("[red]starts\x1b[2J", 1):
        pass
    status = {
        "hosts": [],
        "unfinished": ["/x\nno lab host\x1b[2J"],
        "network": None,
        "cache": [],
        "guest": dict.fromkeys(GUEST, ""),
    }
    assert len(status_text(status).splitlines()) == 3
    captured = capsys.readouterr()
    assert r"boots\x1b[2J" in captured.err
    assert r"[red]starts\x1b[2J" in captured.err
    for text in (shown, preflight.describe(), captured.out, captured.err, status_text(status)):
        assert printable(text)


def test_only_one_module_logs_and_only_it_logs_html() -> None:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path == PACKAGE / "keywords" / "support" / "log.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "robot.api":
                assert "logger" not in {each.name for each in node.names}, path
            if isinstance(node, ast.keyword):
                assert node.arg != "html", path
