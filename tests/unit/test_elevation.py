"""Commands as root through the sudo, sudo-rs and doas of this machine, and through stand-ins for what they may say."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import AccessDeniedError, CommandTimeoutError
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.elevation import ElevatedStream, elevated, require_started_as_root, without_marker_lines
from VpmemLibrary.transport.local import LocalTransport
from VpmemLibrary.transport.ssh.transport import SshTransport

USER = f"vpmem-qa{os.getpid()}"
SUDOERS = Path(f"/etc/sudoers.d/{USER}")
DOAS_CONF = Path("/etc/doas.conf")
DAEMONS = ("LC_ALL=C", "LANG=C")
GERMAN = ("LC_ALL=C.UTF-8", "LANGUAGE=de")

needs_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can make a user and rules for sudo")


class Someone:
    """A user of this machine who has only some of the programs that run commands as root.

    Args:
        tools: The directory that is the user's whole PATH.
    """

    def __init__(self, tools: Path) -> None:
        self.tools = tools
        self.environment: Sequence[str] = DAEMONS
        self.around: Sequence[str] = ()
        self.give("id")

    def give(self, program: str, real: str = "") -> None:
        """Give the user a program of this machine, by a name."""
        path = shutil.which(real or program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{real or program} is not installed here")
        (self.tools / program).symlink_to(path)

    def stand_in(self, program: str, script: str) -> None:
        """Give the user a program of ours by a name; it gets as arguments what the real one would."""
        (self.tools / program).write_text(f"#!/bin/sh\n{script}\n")
        (self.tools / program).chmod(0o755)

    def left(self, *argv: str, timeout: float = 60) -> CommandResult:
        """Return what an elevated command leaves, as it is."""
        identity = pwd.getpwnam(USER)
        whole = LocalTransport(name="rack1").run(
            [
                *self.around,
                "setpriv",
                f"--reuid={identity.pw_uid}",
                f"--regid={identity.pw_gid}",
                "--clear-groups",
                "env",
                "-i",
                f"PATH={self.tools}",
                f"LOGNAME={USER}",
                *self.environment,
                *elevated(argv),
            ],
            timeout=timeout,
        )
        return replace(whole, argv=argv)

    def run(self, *argv: str) -> CommandResult:
        """Return what a command leaves that the user runs as root."""
        return require_started_as_root(self.left(*argv))


@pytest.fixture(scope="module")
def user() -> Iterator[None]:
    subprocess.run(["useradd", "--system", "--no-create-home", "--shell", "/bin/sh", USER], check=True)
    subprocess.run(["usermod", "--password", "*", USER], check=True)  # sshd and PAM take "!" for a locked account
    yield
    subprocess.run(["userdel", USER], check=True, capture_output=True)


@pytest.fixture
def someone(user: None) -> Iterator[Someone]:
    tools = Path(subprocess.run(["mktemp", "-d"], check=True, capture_output=True, text=True).stdout.strip())
    tools.chmod(0o755)  # the user must get there, and tmp_path is root's own
    yield Someone(tools)
    shutil.rmtree(tools)


@pytest.fixture
def sudoers() -> Iterator[Path]:
    if not SUDOERS.parent.is_dir():
        pytest.skip("sudo is not installed here")
    yield SUDOERS
    SUDOERS.unlink(missing_ok=True)


@pytest.fixture
def doas_conf() -> Iterator[Path]:
    kept = DOAS_CONF.read_bytes() if DOAS_CONF.exists() else None
    yield DOAS_CONF
    if kept is None:
        DOAS_CONF.unlink(missing_ok=True)
    else:
        DOAS_CONF.write_bytes(kept)


def allow(path: Path, *lines: str) -> None:
    """Write the rules of sudo, sudo-rs or doas."""
    path.write_text("".join(f"{line}\n" for line in lines))
    path.chmod(stat.S_IRUSR)


SHOW = ("sh", "-c", 'echo "$(id -u) $LC_ALL $*"; echo complaint >&2; exit 7', "sh", "a b", "'", '"$x')


@needs_root
@pytest.mark.parametrize("program", ["sudo", "sudo-rs"])
@pytest.mark.parametrize(
    "rules",
    [
        [f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL"],
        [f"{USER} ALL=(root) NOPASSWD: /bin/sh, /usr/bin/sh"],
        [f"Defaults:{USER} use_pty", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"Defaults:{USER} env_reset, secure_path=/nonexistent", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"{USER} ALL=(ALL) ALL", f"{USER} ALL=(root) NOPASSWD: ALL"],
    ],
)
def test_a_command_is_run_as_root_with_its_arguments_outputs_and_status(
    someone: Someone, sudoers: Path, program: str, rules: list[str]
) -> None:
    someone.give("sudo", program)
    allow(sudoers, *rules)
    result = someone.run(*SHOW)
    assert (result.stdout, result.stderr, result.exit_status) == (b"0 C a b ' \"$x\n", b"complaint\n", 7)
    assert someone.run("no-such-program").exit_status == 127


@needs_root
@pytest.mark.parametrize(
    "rules",
    [
        [f"Defaults:{USER} lecture=always", f"Defaults:{USER} log_output", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"Defaults:{USER} runas_default=nobody", f"{USER} ALL=(ALL) NOPASSWD: ALL"],
        [f"Defaults:{USER} !env_reset, !use_pty, logfile=/dev/null", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"Defaults:{USER} !authenticate", f"{USER} ALL=(root) ALL"],
        [f"Defaults:{USER} umask=0077, umask_override", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"Defaults:{USER} targetpw, passwd_tries=1, closefrom=3", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"Defaults:{USER} intercept, log_subcmds", f"{USER} ALL=(root) NOPASSWD: ALL"],
    ],
)
def test_other_settings_of_sudo_change_nothing(someone: Someone, sudoers: Path, rules: list[str]) -> None:
    someone.give("sudo")
    allow(sudoers, *rules)
    result = someone.run(*SHOW)
    assert (result.stdout, result.stderr, result.exit_status) == (b"0 C a b ' \"$x\n", b"complaint\n", 7)
    assert someone.run("sh", "-c", "umask").text == "0022\n"


@needs_root
@pytest.mark.parametrize(
    "rules",
    [
        [f"Defaults:{USER} noexec", f"{USER} ALL=(root) NOPASSWD: ALL"],
        [f"{USER} ALL=(root) NOPASSWD: NOEXEC: ALL"],
    ],
)
def test_a_sudo_whose_shell_starts_no_program_is_named(someone: Someone, sudoers: Path, rules: list[str]) -> None:
    someone.give("sudo")
    allow(sudoers, *rules)
    with pytest.raises(AccessDeniedError, match=r"sudo on rack1 lets a shell .* Remove noexec"):
        someone.run("true")


@needs_root
def test_a_command_that_cannot_be_executed_is_not_the_fault_of_sudo(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")
    allow(sudoers, f"{USER} ALL=(root) NOPASSWD: ALL")
    result = someone.run("/etc/passwd")
    assert result.exit_status == 126
    assert b"vpmem-" not in result.stderr.partition(b": ")[2]


@needs_root
@pytest.mark.parametrize("program", ["sudo", "sudo-rs"])
@pytest.mark.parametrize("environment", [DAEMONS, GERMAN])
@pytest.mark.parametrize(
    "rules",
    [
        pytest.param([], id="not in sudoers"),
        pytest.param([f"{USER} ALL=(ALL:ALL) ALL"], id="a password"),
        pytest.param([f"{USER} ALL=(root) NOPASSWD: /usr/bin/true, PASSWD: ALL"], id="some without a password"),
        pytest.param([f"{USER} ALL=(root) NOPASSWD: /usr/bin/true"], id="some commands only"),
        pytest.param([f"{USER} ALL=(root) NOPASSWD: ALL, !/bin/sh, !/usr/bin/sh, !/usr/bin/dash"], id="no shell"),
        pytest.param([f"{USER} ALL=(nobody) NOPASSWD: ALL"], id="another user than root"),
    ],
)
def test_a_refusal_names_the_rule_that_allows_it(
    someone: Someone, sudoers: Path, program: str, environment: Sequence[str], rules: list[str]
) -> None:
    someone.give("sudo", program)
    someone.environment = environment
    allow(sudoers, *rules)
    with pytest.raises(AccessDeniedError) as caught:
        someone.run("sh", "-c", "echo text of the command")
    message = str(caught.value)
    assert message.startswith(
        "sudo on rack1 did not run a command as root without a password. It exited 1 and printed: "
    )
    assert f"`{USER} ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d/vpmem" in message
    assert "A rule for single commands must name /bin/sh" in message
    assert "echo text of the command" in message
    assert "(nothing)" not in message
    assert " asked sudo" not in message
    assert "export PATH" not in message
    assert len(message) < 2000


@needs_root
def test_a_terminal_that_sudo_wants_is_named(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")
    allow(sudoers, f"Defaults:{USER} requiretty", f"{USER} ALL=(root) NOPASSWD: ALL")
    with pytest.raises(AccessDeniedError, match=f"`Defaults:{USER} !requiretty` too if sudo wants a terminal"):
        someone.run("true")


@needs_root
def test_an_account_that_expired_is_named(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")
    allow(sudoers, f"{USER} ALL=(root) NOPASSWD: ALL")
    subprocess.run(["chage", "-E", "1", USER], check=True)
    try:
        with pytest.raises(AccessDeniedError, match=f"`chage -l {USER}`"):
            someone.run("true")
    finally:
        subprocess.run(["chage", "-E", "-1", USER], check=True)


@needs_root
def test_a_host_name_that_sudo_cannot_resolve_changes_nothing(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")
    someone.around = ("unshare", "--uts", "sh", "-c", 'hostname unresolved.invalid && exec "$@"', "sh")
    allow(sudoers, f"{USER} ALL=(root) NOPASSWD: ALL")
    left = someone.left("sh", "-c", "echo complaint >&2; exit 1")
    assert b"unresolved.invalid" in left.stderr
    assert (require_started_as_root(left).stderr, left.exit_status) == (b"complaint\n", 1)
    allow(sudoers)
    with pytest.raises(AccessDeniedError, match=r"unresolved\.invalid"):
        someone.run("true")


@needs_root
def test_what_a_command_says_in_the_words_of_sudo_is_its_own(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")
    allow(sudoers, f"{USER} ALL=(root) NOPASSWD: ALL")
    result = someone.run("sh", "-c", "echo 'sudo: a password is required' >&2; exit 1")
    assert (result.stderr, result.exit_status) == (b"sudo: a password is required\n", 1)


@needs_root
def test_doas_is_used_where_there_is_no_sudo(someone: Someone, doas_conf: Path) -> None:
    someone.give("doas")
    allow(doas_conf, f"permit nopass {USER} as root")
    result = someone.run(*SHOW)
    assert (result.stdout, result.stderr, result.exit_status) == (b"0 C a b ' \"$x\n", b"complaint\n", 7)
    for rule in ("permit :nobody", f"permit {USER} as root", f"permit nopass {USER} as root cmd /usr/bin/true"):
        allow(doas_conf, rule)
        with pytest.raises(AccessDeniedError, match=rf"^doas on rack1 .*\n.*`permit nopass {USER} as root`"):
            someone.run("true")


@needs_root
def test_of_sudo_and_doas_the_one_is_used_that_lets_the_user_in(
    someone: Someone, sudoers: Path, doas_conf: Path
) -> None:
    someone.give("sudo")
    someone.give("doas")
    allow(sudoers)
    allow(doas_conf, f"permit nopass {USER} as root")
    assert b" asked doas " in someone.left("true").stderr
    assert someone.run("id", "-u").text == "0\n"
    allow(sudoers, f"{USER} ALL=(root) NOPASSWD: ALL")
    assert b" asked sudo " in someone.left("true").stderr
    allow(sudoers)
    allow(doas_conf, "permit :nobody")
    with pytest.raises(AccessDeniedError, match=r"^sudo on rack1"):
        someone.run("true")


@needs_root
def test_a_host_without_either_is_named(someone: Someone) -> None:
    with pytest.raises(AccessDeniedError, match=f"There is neither sudo nor doas on rack1, so {USER} cannot run a"):
        someone.run("true")


@needs_root
def test_root_needs_no_sudo(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "id").symlink_to(str(shutil.which("id")))
    (tmp_path / "sudo").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "sudo").chmod(0o755)
    for path in (str(tmp_path), "/usr/bin:/bin"):
        monkeypatch.setenv("PATH", path)
        local = LocalTransport(sudo=True)
        assert local.run(["id", "-u"]).check().text == "0\n"
        stream = local.stream(["cat"])
        stream.send(b"to root")
        assert stream.recv(100) == b"to root"
        stream.close()


# What sudo prints through PAM, or a wrapper of a site: on either output, in any language, with any exit status.

REFUSALS = [
    "echo 'sudo: interactive authentication is required' >&2; exit 1",
    "echo 'sudo-rs: I am sorry vpmem-qa. I am afraid I cannot do that' >&2; exit 1",
    "echo 'sudo: Ein Passwort ist notwendig' >&2; exit 1",
    "printf 'sudo: パスワードが必要です\\n' >&2; exit 1",
    "printf '\\377\\376 not text \\000\\n' >&2; exit 1",
    "echo 'sudo: /usr/bin/sudo must be owned by uid 0 and have the setuid bit set' >&2; exit 1",
    "echo 'sudo: error while loading shared libraries: libsudo_util.so.0' >&2; exit 127",
    "kill -KILL $$",
    'printf "%s\\n" "Sorry, user vpmem-qa is not allowed to execute $*" >&2; exit 1',
    "head -c 2000000 /dev/zero | tr '\\0' x >&2; exit 1",
    "exit 0",
    "exit 126",
]


@needs_root
@pytest.mark.parametrize("script", REFUSALS)
def test_whatever_is_said_without_starting_the_command_is_a_refusal(someone: Someone, script: str) -> None:
    someone.give("head")
    someone.give("tr")
    someone.stand_in("sudo", script)
    with pytest.raises(AccessDeniedError, match=r"^sudo on rack1 .*") as caught:
        someone.run("true", "\nvpmem-started\n")
    assert "NOPASSWD: ALL" in str(caught.value)
    assert len(str(caught.value)) < 8000


@needs_root
def test_what_sudo_prints_before_the_command_on_either_output_is_left_out(someone: Someone) -> None:
    someone.stand_in("sudo", 'echo Last login; printf "lecture \\377" >&2; echo >&2; shift 4; exec "$@"')
    result = someone.run("sh", "-c", r"printf '\000\n'; printf '\377' >&2")
    assert (result.stdout, result.stderr) == (b"\0\n", b"\xff")


@needs_root
def test_a_sudo_that_hangs_is_named(someone: Someone) -> None:
    someone.give("sleep")
    someone.stand_in("sudo", "exec sleep 60")
    with pytest.raises(CommandTimeoutError) as caught:
        someone.left("true", timeout=2)
    assert without_marker_lines(caught.value.result).stderr == (
        b"(sudo had not started the command: try `sudo -n -u root true` there)\n"
    )


class Chunks:
    """A stream that gives what it was given."""

    def __init__(self, *chunks: bytes) -> None:
        self._chunks = list(chunks)
        self.closed = False

    def send(self, data: bytes) -> None:
        self._chunks.append(data)

    def recv(self, _: int) -> bytes:
        return self._chunks.pop(0) if self._chunks else b""

    def close(self) -> None:
        self.closed = True


def test_a_stream_begins_with_what_the_command_printed() -> None:
    started = checked_mark()
    whole = b"Last login: today\n" + started + b"\nbinary\0"
    for cut in range(len(whole)):
        stream = ElevatedStream(Chunks(*filter(None, (whole[:cut], whole[cut:]))))
        received = b""
        while data := stream.recv(3):
            received += data
        assert received == b"\nbinary\0"


def test_a_stream_whose_command_was_not_started_ends() -> None:
    assert ElevatedStream(Chunks(b"Sorry\n")).recv(10) == b""
    endless = ElevatedStream(Chunks(*[b"x" * 65536] * 1000))
    assert endless.recv(10) == b""


def checked_mark() -> bytes:
    """Return the line that proves that a command was started."""
    return LocalTransport().run(["/bin/sh", "-c", elevated(["true"])[5], elevated(["true"])[4], "true"]).stdout


@needs_root
@pytest.mark.skipif(SSHD is None, reason="sshd is not installed here")
def test_over_ssh_commands_queries_streams_and_endings_are_roots(someone: Someone, sudoers: Path) -> None:
    someone.give("sudo")  # skips where it is missing
    directory = someone.tools / "sshd"
    directory.mkdir()
    server = OpensshServer(directory)
    try:
        settings = replace(server.settings(), user=USER, sudo=True)
        with SshTransport(settings) as host:
            with pytest.raises(AccessDeniedError, match=f"{USER} ALL=.root. NOPASSWD: ALL"):
                host.run(["id", "-u"])
            with pytest.raises(AccessDeniedError, match=f"{USER} ALL=.root. NOPASSWD: ALL"):
                host.run(["sh", "-c", "# reads only\nid -u"])
            refused = host.stream(["cat"])
            assert refused.recv(10) == b""
            refused.close()
            allow(sudoers, f"Defaults:{USER} use_pty", f"{USER} ALL=(root) NOPASSWD: ALL")
            assert host.run(["id", "-u"]).check().text == "0\n"
            for _ in range(2):
                result = host.run(["sh", "-c", "# reads only\nid -u; echo $LC_ALL >&2"]).check()
                assert (result.text, result.stderr) == ("0\n", b"C\n")
            stream = host.stream(["sh", "-c", "id -u; cat"])
            stream.send(b"\0binary")
            received = b""
            while len(received) < 9:
                received += stream.recv(100)
            assert received == b"0\n\0binary"
            stream.close()
            with pytest.raises(CommandTimeoutError, match="and was ended") as caught:
                host.run(["sh", "-c", "echo $$; sleep 600"], timeout=3)
            pid = int(caught.value.result.stdout)
            deadline = time.monotonic() + 30
            while Path(f"/proc/{pid}").exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
    finally:
        server.close()
