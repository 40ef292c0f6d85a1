"""One lab host for the tests that need one: of its own, so that a lab that runs already is left alone.

``VPMEM_TEST_HOSTS=hosts.dat`` takes the first host of a file instead.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import read_hosts
from VpmemLibrary.lab.lab import Lab
from VpmemLibrary.lab.progress import default_progress
from VpmemLibrary.lab.report import hosts_file

# A machine that emulates a lab host beside the tests is slow now and then; what is slow is not wrong.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

# Under nohup, programs that tests start would ignore SIGHUP as well, and SIGINT in the background of a script; what is
# handled is not inherited.
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def lab_hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The hosts file of the host that tests use."""
    given = os.environ.get("VPMEM_TEST_HOSTS")
    if given:
        yield Path(given)
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VPMEM_STATE", str(tmp_path_factory.mktemp("lab")))
        lab = Lab(default_progress())
        try:
            path = tmp_path_factory.mktemp("hosts") / "hosts.dat"
            path.write_text(hosts_file(lab.up(1)))
            patch.setenv("VPMEM_TEST_HOSTS", str(path))
            yield path
        finally:
            lab.down()


@pytest.fixture
def entry(lab_hosts: Path) -> HostEntry:
    """The host that tests use."""
    return read_hosts(lab_hosts)[0]


@pytest.fixture(scope="module", autouse=True)
def _a_lab_host_for_lab_tests(request: pytest.FixtureRequest) -> None:
    """Have the lab host before the first test of a module that is marked ``lab``."""
    if request.node.get_closest_marker("lab"):
        request.getfixturevalue("lab_hosts")


@pytest.fixture(autouse=True)
def _a_directory_of_leases(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the leases of unit tests in a directory of their own, never in the one that this machine's runs share."""
    if request.path.parent.name == "unit":
        monkeypatch.setattr("VpmemLibrary.leases.host_leases.DIRECTORY", str(tmp_path / "leases"))


@pytest.fixture(autouse=True)
def _no_ssh_configuration_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the SSH configuration of this machine and its user from the tests."""
    monkeypatch.setattr("VpmemLibrary.transport.ssh.config.USER_FILE", str(tmp_path / "no-ssh" / "config"))
    monkeypatch.setattr("VpmemLibrary.transport.ssh.config.SYSTEM_FILE", str(tmp_path / "no-ssh" / "ssh_config"))
