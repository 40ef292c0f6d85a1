"""The doctor against real programs: OpenSSH's sshd, login shells, sudo, doas, disk images, and this machine."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.cli.main import main
from VpmemLibrary.doctor import account, reach
from VpmemLibrary.doctor.diagnosis import diagnose
from VpmemLibrary.doctor.facts import read_doctor_facts
from VpmemLibrary.doctor.findings import Finding, Verdict
from VpmemLibrary.doctor.image import FILES, check_image
from VpmemLibrary.doctor.libvirt import LibvirtFacts
from VpmemLibrary.doctor.reach import Account, Link, judge_sessions, read_account, refused
from VpmemLibrary.errors import AccessDeniedError, HostKeyError, UnreachableError
from VpmemLibrary.host.facts import HostFacts
from VpmemLibrary.host.hosts_entry import LOCAL, HostEntry
from VpmemLibrary.host.libvirt_daemon import Daemon
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.prefixed import PrefixedTransport
from VpmemLibrary.transport.ssh.query_shell import is_query
from VpmemLibrary.transport.ssh.settings import SshSettings

needs_sshd = pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)")
needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user or mount")
ME = pwd.getpwuid(os.getuid()).pw_name


def the(found: Sequence[Finding], check: str) -> Finding:
    (one,) = [each for each in found if each.check == check]
    return one


Opener = Callable[..., HostEntry]


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Opener]:
    """What starts an sshd with more settings, and returns how it is reached."""
    numbers = itertools.count()
    with contextlib.ExitStack() as stack:

        def start(**more: object) -> HostEntry:
            directory = tmp_path / str(next(numbers))
            directory.mkdir()
            server = OpensshServer(directory, **more)
            stack.callback(server.close)
            settings = server.settings()
            return HostEntry(
                "rack1",
                settings.address,
                port=settings.port,
                user=settings.user,
                key_file=settings.key_file,
                known_hosts=settings.known_hosts,
            )

        yield start


def way(entry: HostEntry) -> tuple[list[Finding], list[Finding], Account]:
    """Return what is found about the log-in and the sessions of a host, and its account."""
    transport = reach.plain_transport_to(entry)
    link = Link(replace(transport.settings, use_agent=False))  # type: ignore[attr-defined]  # the transport is SSH's
    try:
        return link.log_in(), link.count_sessions(), link.ask_account()
    finally:
        link.close()


@needs_sshd
def test_a_good_host_is_reached(sshd: Opener) -> None:
    found, sessions, login = way(sshd(MaxSessions=10))
    assert {each.check: each.verdict for each in found} == dict.fromkeys(("address", "host key", "log-in"), Verdict.ok)
    assert "ssh-ed25519 SHA256:" in the(found, "host key").found
    assert the(found, "log-in").found.startswith(f"user {ME} by ")
    assert "key" in the(found, "log-in").found.partition(" by ")[2]
    assert the(sessions, "sessions").verdict is Verdict.ok
    assert login.ran
    assert login.shell == pwd.getpwuid(os.getuid()).pw_shell


@needs_sshd
@pytest.mark.parametrize(("limit", "verdict"), [(1, Verdict.warning), (2, Verdict.warning), (9, Verdict.warning)])
def test_few_sessions_are_counted(sshd: Opener, limit: int, verdict: Verdict) -> None:
    _, sessions, login = way(sshd(MaxSessions=limit))
    one = the(sessions, "sessions")
    assert one.verdict is verdict
    assert f"sshd allows {limit} for each connection" in one.found
    assert "MaxSessions 10" in one.fix
    assert login.ran  # the account is asked in one of the sessions that were counted


@needs_sshd
def test_noise_around_a_command_is_found(sshd: Opener) -> None:
    noisy = "echo welcome to rack1; echo stty: not a terminal >&2; /bin/sh; echo goodbye"
    _, _, login = way(sshd(ForceCommand=noisy))
    noise = the(list(account.check_shell(login)), "noise")
    assert noise.verdict is Verdict.warning
    assert "standard output: welcome to rack1" in noise.found
    assert "standard error: stty: not a terminal" in noise.found
    assert "after the command: goodbye" in noise.found
    assert noise.fix


@needs_sshd
def test_an_account_that_runs_no_shell_is_a_problem(sshd: Opener) -> None:
    _, _, login = way(sshd(ForceCommand="/bin/echo This account is for backups only"))
    (one,) = account.check_shell(login)
    assert one.verdict is Verdict.problem
    assert "This account is for backups only" in one.found


@needs_sshd
def test_an_unknown_host_key_is_a_problem_with_its_command(sshd: Opener, tmp_path: Path) -> None:
    (tmp_path / "none").write_text("")
    diagnosis = diagnose(replace(sshd(), known_hosts=tmp_path / "none"))
    assert [each.check for each in diagnosis.findings] == ["address", "host key"]
    assert the(diagnosis.findings, "host key").fix.startswith("echo ")
    assert not diagnosis.passed


@needs_sshd
def test_a_refused_log_in_is_a_problem(sshd: Opener, tmp_path: Path) -> None:
    other = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other)], check=True)
    diagnosis = diagnose(replace(sshd(), key_file=other))
    one = the(diagnosis.findings, "log-in")
    assert one.verdict is Verdict.problem
    assert one.fix.startswith("ssh-copy-id -p ")


def test_a_host_that_does_not_answer_is_a_problem() -> None:
    diagnosis = diagnose(HostEntry("rack1", "127.0.0.1", port=1))
    (one,) = diagnosis.findings
    assert (one.check, one.verdict) == ("address", Verdict.problem)
    assert one.fix == "ssh -v -p 1 root@127.0.0.1 true"


def test_a_password_that_is_not_set_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_PASSWORD", raising=False)
    (one,) = diagnose(HostEntry("rack1", "127.0.0.1", password_env="NO_SUCH_PASSWORD")).findings
    assert (one.check, one.verdict) == ("settings", Verdict.problem)
    assert "NO_SUCH_PASSWORD" in one.found


@pytest.mark.parametrize(
    ("error", "check", "fix"),
    [
        (HostKeyError("The key is unknown.\necho key >> known_hosts"), "host key", "echo key >> known_hosts"),
        (AccessDeniedError("Refused.\nkey a: refused\npassword: none"), "log-in", "ssh-copy-id -p 22 qa@192.0.2.13"),
        (UnreachableError("No answer."), "address", "ssh -v -p 22 qa@192.0.2.13 true"),
    ],
)
def test_each_failure_is_reported_at_its_step(error: Exception, check: str, fix: str) -> None:
    found = refused(SshSettings("192.0.2.13", user="qa"), error)  # type: ignore[arg-type]
    assert found[-1].check == check
    assert found[-1].fix == fix
    assert all(each.verdict is Verdict.ok for each in found[:-1])
    assert all("\n" not in str(each) for each in found)


def test_ten_sessions_are_enough() -> None:
    assert judge_sessions(10).verdict is Verdict.ok
    assert judge_sessions(0).verdict is Verdict.problem


# Login shells


def asked(command: Sequence[str], **environment: str) -> Account:
    """Run the script of the account as sshd does: a login shell gets one command line, and the script as input."""
    mark = "vpmem-0123456789abcdef"
    done = subprocess.run(
        command,
        input=reach._SCRIPT.replace("VPMEM_MARK", mark).encode(),
        capture_output=True,
        check=False,
        env={**os.environ, **environment},
        timeout=60,
    )
    return read_account(done.stdout, done.stderr, mark)


RC = {
    "bash": "BASH_ENV",
    "zsh": ".zshenv",
    "tcsh": ".tcshrc",
    "fish": ".config/fish/config.fish",
    "ksh": "",
    "dash": "",
}


@pytest.mark.parametrize("shell", sorted(RC))
def test_every_login_shell_is_asked(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    rc = tmp_path / (RC[shell] or "none")
    rc.parent.mkdir(parents=True, exist_ok=True)
    rc.write_text("echo welcome\n")
    where = {"BASH_ENV": str(rc)} if shell == "bash" else {}
    login = asked([shell, "-c", "/bin/sh"], HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / ".config"), **where)
    assert login.ran
    assert login.user == ME
    found = list(account.check_shell(replace(login, facts={**login.facts, "passwd": f"x:x:0:0::/:/bin/{shell}"})))
    assert the(found, "login shell").verdict is Verdict.ok
    noise = the(found, "noise")
    if not RC[shell]:
        assert noise.verdict is Verdict.ok
        return
    assert noise.verdict is Verdict.warning
    assert "standard output: welcome" in noise.found
    assert noise.fix.startswith("sed -i '1i ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh", "fish"])
def test_the_command_against_noise_silences_the_shell(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    rc = tmp_path / (".bashrc" if shell == "bash" else RC[shell])
    rc.parent.mkdir(parents=True, exist_ok=True)
    rc.write_text("echo welcome\n")
    fix = account.quiet(f"/usr/bin/{shell}")
    subprocess.run(["sh", "-c", fix], check=True, env={**os.environ, "HOME": str(tmp_path)})
    where = {"BASH_ENV": str(rc)} if shell == "bash" else {}
    login = asked([shell, "-c", "/bin/sh"], HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path / ".config"), **where)
    assert login.ran
    assert login.before == ""


def test_a_directory_that_an_rc_file_changes_is_found(tmp_path: Path) -> None:
    rc = tmp_path / "rc"
    rc.write_text("cd /\n")
    login = asked(["bash", "-c", "/bin/sh"], BASH_ENV=str(rc), HOME=str(tmp_path))
    one = the(list(account.check_shell(login)), "directory")
    assert one.verdict is Verdict.warning
    assert "start in /, not in" in one.found


def test_a_missing_home_is_found_and_is_no_noise_of_the_shell(tmp_path: Path) -> None:
    home = f"{tmp_path}/away"
    login = asked(["/bin/sh"], HOME=home)
    login = replace(login, complaints=f"Could not chdir to home directory {home}: No such file or directory\n")
    found = list(account.check_shell(login))
    assert the(found, "noise").verdict is Verdict.ok
    assert f"the home {home} does not exist, so commands start in " in the(found, "directory").found
    assert the(found, "directory").fix.startswith(f"As root: mkhomedir_helper {ME}")


def test_a_start_up_file_that_loses_the_path_hides_nothing() -> None:
    login = asked(["/bin/sh"], PATH="/nowhere")
    assert (login.user, login.facts["sudo"].partition("\n")[0] == "absent") == (ME, shutil.which("sudo") is None)


def test_a_sudo_that_hangs_is_no_fault_of_the_login_shell(tmp_path: Path) -> None:
    (tmp_path / "sudo").write_text("#!/bin/sh\nsleep 600\n")
    (tmp_path / "sudo").chmod(0o755)
    login = asked(["/bin/sh"], PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert the(list(account.check_shell(login)), "login shell").verdict is Verdict.ok
    (one,) = account.check_elevation(replace(login, facts={**login.facts, "uid": "1000", "doas": "absent"}), sudo=True)
    assert "it did not end within 4 s" in one.found


def test_a_question_that_hangs_is_named() -> None:
    (one,) = account.check_shell(Account({"user": "qa", "sudo": ""}))
    assert one.verdict is Verdict.problem
    assert "it runs /bin/sh, but its answer to the question 'sudo' did not arrive" in one.found


@fuzz
@fuzzed
@given(st.binary(max_size=200), st.binary(max_size=200))
def test_fuzz_what_a_login_shell_prints(stdout: bytes, stderr: bytes) -> None:
    mark = "vpmem-1"
    for text in (stdout, mark.encode() + b"\n" + stdout, mark.encode() + b"\nuser\0a\0end\0end\0" + stdout):
        login = read_account(text, stderr, mark)
        found = [*account.check_shell(login), *account.check_elevation(login, sudo=True)]
        assert all("\n" not in str(each) for each in found)


# Becoming root


@needs_root
@pytest.mark.parametrize("program", ["sudo", "doas"])
def test_a_refusal_of_the_real_program_is_found(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    nobody = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "/bin/sh"]
    login = asked(nobody)
    assert login.facts[program].startswith("refused")
    if program == "doas":  # as on a host without sudo
        login = replace(login, facts={**login.facts, "sudo": "absent"})
    (one,) = account.check_elevation(login, sudo=True)
    assert one.verdict is Verdict.problem
    assert one.found.startswith(f"{program} does not run commands of nobody without a password: ")
    assert ("NOPASSWD: ALL" if program == "sudo" else "permit nopass nobody") in one.fix


@needs_root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed")
def test_sudo_that_works_is_found() -> None:
    (one,) = account.check_elevation(asked(["/bin/sh"]), sudo=True)
    assert one.verdict is Verdict.ok


@needs_root
@pytest.mark.skipif(shutil.which("sudo") is None, reason="sudo is not installed")
@pytest.mark.parametrize(
    ("rules", "logs"),
    [
        ("Defaults:nobody log_output\nnobody ALL=(root) NOPASSWD: ALL", True),
        ("nobody ALL=(root) NOPASSWD: LOG_OUTPUT: ALL", True),
        ("Defaults:nobody !log_output\nnobody ALL=(root) NOPASSWD: ALL", False),
    ],
)
def test_a_sudo_that_logs_outputs_is_found(rules: str, logs: bool) -> None:
    file = Path(f"/etc/sudoers.d/vpmem-log{os.getpid()}")
    file.write_text(f"{rules}\n")
    file.chmod(0o440)
    try:
        login = asked(["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "/bin/sh"])
    finally:
        file.unlink()
    found = list(account.check_elevation(login, sudo=True))
    assert the(found, "root").verdict is Verdict.ok
    assert [each.check for each in found] == (["root", "sudo log"] if logs else ["root"])


@pytest.mark.parametrize(
    ("facts", "sudo", "verdict", "text"),
    [
        ({"uid": "0"}, False, Verdict.ok, "is root"),
        ({"uid": "1000", "sudo": "works"}, False, Verdict.problem, "host_sudo = yes"),
        ({"uid": "1000", "sudo": "absent", "doas": "absent"}, True, Verdict.problem, "neither sudo nor doas"),
        (
            {"uid": "1000", "sudo": "refused\nsudo: sorry, you must have a tty to run sudo"},
            True,
            Verdict.problem,
            "!requiretty",
        ),
        ({"uid": "1000", "sudo": "refused\nsudo: il est nécessaire"}, True, Verdict.problem, "NOPASSWD: ALL"),
        ({"uid": "1000", "sudo": "refused", "user": "a b"}, True, Verdict.problem, "without a password"),
        ({"uid": "1000", "sudo": "absent", "doas": "works"}, True, Verdict.ok, "doas runs commands"),
    ],
)
def test_how_commands_become_roots(facts: dict[str, str], sudo: bool, verdict: Verdict, text: str) -> None:
    (one,) = account.check_elevation(Account({"user": "qa", **facts, "end": "end"}), sudo=sudo)
    assert one.verdict is verdict
    assert text in str(one)


@pytest.mark.skipif(shutil.which("visudo") is None, reason="sudo is not installed")
@pytest.mark.parametrize("said", ["sudo: a password is required", "sudo: sorry, you must have a tty to run sudo"])
def test_the_lines_for_sudoers_are_valid(said: str, tmp_path: Path) -> None:
    command = account.permit("qa", "sudo", said).removeprefix("As root: ").replace("/etc/sudoers.d", str(tmp_path))
    subprocess.run(["sh", "-c", command.partition(" && visudo")[0]], check=True)
    subprocess.run(["visudo", "-c", "-f", str(tmp_path / "vpmem-qa")], check=True, capture_output=True)


# Guest images


@pytest.mark.skipif(not shutil.which("mkfs.ext4") or not shutil.which("debugfs"), reason="e2fsprogs is not installed")
@pytest.mark.parametrize("partitioned", [False, True])
def test_the_rules_in_a_real_image_are_read(tmp_path: Path, partitioned: bool) -> None:
    if partitioned and not shutil.which("sfdisk"):
        pytest.skip("sfdisk is not installed")
    root = tmp_path / "root" / "etc" / "sysconfig"
    root.mkdir(parents=True)
    (root / "qemu-ga").write_text('FILTER_RPC_ARGS="--allow-rpcs=guest-ping,guest-sync"\n')
    image = tmp_path / "guest image.img"
    system = tmp_path / "system"
    system.write_bytes(b"")
    os.truncate(system, 8 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", "-d", str(tmp_path / "root"), str(system)], check=True)
    if partitioned:
        image.write_bytes(bytes(1 << 20) + system.read_bytes() + bytes(1 << 20))
        subprocess.run(
            ["sfdisk", "-q", str(image)], input=b"label: gpt\nstart=2048, size=16384\n", check=True, capture_output=True
        )
    else:
        image = system
    before = image.read_bytes()
    (one,) = check_image(LocalTransport(), str(image), HostFacts())
    assert one.verdict is Verdict.problem
    assert "refuses guest-exec, guest-exec-status" in one.found
    assert "because of /etc/sysconfig/qemu-ga" in one.found
    assert image.read_bytes() == before


def test_another_image_is_read_by_libguestfs(tmp_path: Path) -> None:
    image = tmp_path / "guest.qcow2"
    image.write_bytes(b"QFI\xfb")
    fake = tmp_path / "bin" / "guestfish"
    fake.parent.mkdir()
    fake.write_text(
        '#!/bin/sh\necho "$@" >"$0.args"\ngrep -q "cat /etc/qemu-ga" || exit 1\n'
        'printf "== /etc/qemu/qemu-ga.conf\\n[general]\\nblock-rpcs = guest-exec\\n"\n'
    )
    fake.chmod(0o755)
    transport = LocalTransport(environment={"PATH": f"{fake.parent}:{os.environ['PATH']}"})
    # The environment's own PATH comes last, so that the fake is found through a shell that sets it.
    through = PrefixedTransport(transport, ["env", f"PATH={fake.parent}:{os.environ['PATH']}"])
    (one,) = check_image(through, str(image), HostFacts())
    assert one.verdict is Verdict.problem
    assert (tmp_path / "bin" / "guestfish.args").read_text().split() == ["--ro", "--inspector", "--add", str(image)]


def test_an_image_that_is_absent_is_reported() -> None:
    (one,) = check_image(LocalTransport(), "/no/such.img", HostFacts())
    assert "there is no /no/such.img" in one.found
    assert all(each.startswith("/etc/") for each in FILES)


# This machine as a whole


class Recording(LocalTransport):
    """This machine, with every command written down."""

    commands: list[tuple[str, ...]]

    def __init__(self, **_: object) -> None:
        super().__init__()
        self.commands = []

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        self.commands.append(tuple(argv))
        return super().run(argv, timeout=timeout, stdin=stdin)


def test_every_check_of_this_machine_has_its_line_and_every_command_only_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    recording = Recording()
    monkeypatch.setattr("VpmemLibrary.doctor.diagnosis.transport_to", lambda _: recording)
    diagnosis = diagnose(HostEntry("here", LOCAL), guest_image="/no/such.img")
    checks = [each.check for each in diagnosis.findings]
    expected = ["address", "login shell", "noise", "root", "commands", "kernel", "ndctl", "guard", "locks"]
    expected += ["libvirt socket", "libvirt relay", "libvirt answers", "confinement", "leases", "clock", "guest image"]
    assert [check for check in checks if check in expected] == expected
    assert all(
        each.fix for each in diagnosis.findings if each.verdict is Verdict.problem and "could not" not in each.found
    )
    changing = [argv for argv in recording.commands if not is_query(argv)]
    # What only reads, too: the check of commands, and what asks libvirt's daemon for its complaint.
    assert all(argv[0] == "printf" or "virt-ssh-helper" in argv[2] for argv in changing), changing


@needs_root
def test_the_scripts_of_the_doctor_run_on_a_file_system_that_cannot_be_written() -> None:
    frozen = ["unshare", "--mount", "--", "sh", "-c", 'mount -o remount,bind,ro / && exec "$@"', "sh"]
    probe = subprocess.run([*frozen, "touch", "/vpmem-probe"], capture_output=True, check=False, text=True)
    if "Read-only file system" not in probe.stderr:
        pytest.skip(f"no read-only file system can be had here: {probe.stderr.strip()}")
    there = read_doctor_facts(LocalTransport())
    read_only = read_doctor_facts(PrefixedTransport(LocalTransport(), frozen))
    volatile = {"now", "run", "lease_directory", "locks"}
    assert {k: v for k, v in read_only.values.items() if k not in volatile} == {
        k: v for k, v in there.values.items() if k not in volatile
    }
    assert asked([*frozen, "/bin/sh"]).ran


def test_one_question_that_fails_hides_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise KeyError("facts")

    monkeypatch.setattr("VpmemLibrary.doctor.diagnosis.read_doctor_facts", fail)
    findings = diagnose(HostEntry("here", LOCAL)).findings
    broken = [each for each in findings if each.found == "could not be checked: 'facts'"]
    assert {each.check for each in broken} >= {"guard", "locks", "libvirt relay", "leases", "clock"}
    assert the(findings, "kernel").verdict is Verdict.ok
    assert the(findings, "login shell").verdict is Verdict.ok


# The command


def test_the_command_prints_a_line_a_finding_and_exits_with_1() -> None:
    done = CliRunner().invoke(main, ["doctor", "127.0.0.1", "--port", "1"])
    assert done.exit_code == 1
    first, last = done.stdout.splitlines()
    assert first.startswith("problem  address: ")
    assert first.endswith("fix: ssh -v -p 1 root@127.0.0.1 true")
    assert last.startswith("Host 127.0.0.1: 0 ok, 0 warning, 1 problem (")


def test_the_command_prints_json_for_machines() -> None:
    done = CliRunner().invoke(main, ["doctor", "127.0.0.1", "--port", "1", "--json"])
    assert done.exit_code == 1
    told = json.loads(done.stdout)
    assert (told["host"], told["passed"]) == ("127.0.0.1", False)
    assert [(each["check"], each["verdict"]) for each in told["findings"]] == [("address", "problem")]


def test_a_wrong_command_line_exits_with_2() -> None:
    assert CliRunner().invoke(main, ["doctor", "--port", "x"]).exit_code == 2
    assert CliRunner().invoke(main, ["doctor", "--hosts", "/no/such/file"]).exit_code == 2


def test_libvirt_is_asked_by_the_daemon_of_the_hosts_file(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(_transport: object, daemon: Daemon) -> LibvirtFacts:
        asked.append(daemon.uri)
        return LibvirtFacts("11.3.0")

    monkeypatch.setattr("VpmemLibrary.doctor.diagnosis.ask_libvirt", ask)
    diagnose(HostEntry("here", "local", libvirt_uri="qemu:///session"))
    assert asked == ["qemu:///session"]
