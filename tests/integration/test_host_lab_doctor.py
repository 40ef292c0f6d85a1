"""The doctor on a lab host: nothing is wrong, nothing is changed, it is quick, and each planted problem is found."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence

import pytest
from msgspec.structs import replace

from VpmemLibrary.doctor.diagnosis import diagnose
from VpmemLibrary.doctor.findings import Diagnosis, Finding, Verdict
from VpmemLibrary.host.host import Host
from VpmemLibrary.host.hosts_entry import HostEntry
from VpmemLibrary.host.hosts_file import transport_to
from VpmemLibrary.transport.base import Transport

pytestmark = pytest.mark.lab

QUICK = 10.0
"""Seconds that the doctor may take on a lab host, whose processor is emulated."""

SHARE = 8.0
"""How often a log-in and a look at the facts of a host fit into those seconds, on a machine that does nothing else."""

# What a look at the host itself leaves: log-ins, their journal, and what libvirt and systemd keep for running programs.
_STATE = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /var/log -o -path /var/cache/libvirt -o -path /tmp \) -prune \
    -o -printf '%p %m %u %s %T@\n' | grep -v -e '^/ ' -e '^/root ' -e '^/var/lib/systemd/' -e '^/etc ' | sort
ls /run /tmp
"""


def the(found: Sequence[Finding], check: str) -> Finding:
    (one,) = [each for each in found if each.check == check]
    return one


@pytest.fixture
def root(entry: HostEntry) -> Iterator[Transport]:
    """The host as root."""
    transport = transport_to(entry)
    yield transport
    transport.close()


@pytest.fixture
def user(root: Transport, entry: HostEntry) -> Iterator[HostEntry]:
    """A user of the host, who logs in by the key that root has, and has no right beside it."""
    name = f"qa{secrets.token_hex(3)}"
    # The password is one that none matches: with "!" the account would be locked.
    root.run(["useradd", "--create-home", "--shell", "/bin/bash", "--password", "*", name]).check()
    try:
        keys = 'install -d -m 700 -o "$0" /home/$0/.ssh && install -m 600 -o "$0" ~/.ssh/authorized_keys /home/$0/.ssh/'
        root.run(["bash", "-c", keys, name]).check()
        yield replace(entry, name=name, user=name)
    finally:
        root.run(["pkill", "--uid", name])
        root.run(["userdel", "--remove", name])


def through(entry: HostEntry, change: str) -> HostEntry:
    """Return the host as it is with a change that only its commands see."""
    return replace(entry, through=("unshare", "--mount", "--", "sh", "-c", f'{change} && exec "$@"', "sh"))


def test_nothing_is_wrong_with_a_lab_host_and_nothing_is_changed(entry: HostEntry, root: Transport) -> None:
    before = root.run(["sh", "-c", _STATE]).lines
    diagnosis = diagnose(entry)
    after = root.run(["sh", "-c", _STATE]).lines
    wrong = [str(each) for each in diagnosis.findings if each.verdict is Verdict.problem]
    assert wrong == []
    assert len(diagnosis.findings) > 25
    assert sorted(set(before) ^ set(after)) == []


def test_the_doctor_is_quick(entry: HostEntry) -> None:
    """The best of three counts. A machine that is busy slows down a log-in and a look at the facts just as well."""
    told = []
    for _ in range(3):
        started = time.monotonic()
        transport = transport_to(entry)
        Host(entry.name, transport).facts()
        transport.close()
        base = time.monotonic() - started
        diagnose(entry)
        took = time.monotonic() - started - base
        told.append(f"{took:.1f} s beside {base:.1f} s")
        if took < max(QUICK, SHARE * base):
            return
    pytest.fail(f"It took {', '.join(told)} for a log-in and the facts of a host")


def test_an_ordinary_user_without_sudo_is_found_out(user: HostEntry) -> None:
    found = diagnose(user).findings
    assert the(found, "root").verdict is Verdict.problem
    assert the(found, "login shell").verdict is Verdict.ok
    refused = diagnose(replace(user, sudo=True)).findings
    assert the(refused, "root").verdict is Verdict.problem
    assert the(refused, "kernel").verdict is Verdict.ok  # the other checks are made as the user


def test_a_noisy_rc_file_is_found_and_its_command_silences_it(user: HostEntry, root: Transport) -> None:
    home = f"/home/{user.user}"
    root.run(["sh", "-c", f"echo 'echo welcome; echo stty >&2; cd /' >{home}/.bashrc"]).check()
    found = diagnose(user).findings
    noise = the(found, "noise")
    assert noise.verdict is Verdict.warning
    assert "standard output: welcome; on standard error: stty" in noise.found
    assert f"{home}/.bashrc" in noise.found
    assert the(found, "directory").verdict is Verdict.warning
    root.run(["runuser", "-u", str(user.user), "--", "sh", "-c", f"cd && {noise.fix}"]).check()
    again = diagnose(user).findings
    assert the(again, "noise").verdict is Verdict.ok
    assert "directory" not in {each.check for each in again}


def test_a_login_shell_that_runs_nothing_is_found(user: HostEntry, root: Transport) -> None:
    root.run(["usermod", "--shell", "/usr/sbin/nologin", str(user.user)]).check()
    one = the(diagnose(user).findings, "login shell")
    assert one.verdict is Verdict.problem
    assert "not available" in one.found


PLANTED = [
    ('mount --bind /dev/null "$(command -v flock)"', "guard", Verdict.problem, "no flock"),
    ("mount -t tmpfs none /run/libvirt", "libvirt socket", Verdict.problem, "no socket in /run/libvirt"),
    ("mount -t tmpfs none /sys/bus/nd/devices", "region", Verdict.problem, "missing"),
    ("mount -t tmpfs -o size=1M none /run", "locks", Verdict.problem, "free"),
    ("mount -o remount,bind,ro /", "leases' directory", Verdict.problem, "cannot be written"),
    ('mount --bind /dev/null "$(command -v ndctl)"', "ndctl", Verdict.problem, "missing"),
]


@pytest.mark.parametrize(("change", "check", "verdict", "found"), PLANTED, ids=[each[1] for each in PLANTED])
def test_a_planted_problem_is_found(entry: HostEntry, change: str, check: str, verdict: Verdict, found: str) -> None:
    diagnosis = diagnose(through(entry, change))
    one = the(diagnosis.findings, check)
    assert one.verdict is verdict, str(one)
    assert found in one.found
    assert one.fix
    assert the(diagnosis.findings, "kernel").verdict is Verdict.ok


def test_few_sessions_are_found(entry: HostEntry, root: Transport) -> None:
    file = "/etc/ssh/sshd_config.d/99-doctor.conf"
    root.write_file(file, b"MaxSessions 2\n")
    try:
        root.run(["systemctl", "reload", "ssh"]).check()
        one = the(_settled(entry), "sessions")
        assert (one.verdict, "allows 2 for each connection" in one.found) == (Verdict.warning, True), str(one)
    finally:
        root.run(["rm", "-f", file]).check()
        root.run(["systemctl", "reload", "ssh"]).check()


def _settled(entry: HostEntry) -> Sequence[Finding]:
    """Return the findings once sshd has read its new settings; it takes no connections for a moment."""
    deadline = time.monotonic() + 30
    diagnosis: Diagnosis = diagnose(entry)
    while diagnosis.findings[0].verdict is not Verdict.ok and time.monotonic() < deadline:
        diagnosis = diagnose(entry)
    return diagnosis.findings
