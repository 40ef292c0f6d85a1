"""Commands through login shells of every kind, over OpenSSH's own server, as users that the tests make."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from login_users import LoginUser, can_make_users, settings, sshd
from msgspec.structs import replace
from openssh_server import SSHD, OpensshServer

from VpmemLibrary.errors import CommandTimeoutError, InvalidValueError, LoginShellError, UnreachableError
from VpmemLibrary.leases.host_leases import HostLeases
from VpmemLibrary.leases.leases import Holder
from VpmemLibrary.transport.base import query
from VpmemLibrary.transport.ssh.login_shell import Start
from VpmemLibrary.transport.ssh.transport import SshTransport

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="sshd is not installed (package openssh-server)"),
    pytest.mark.skipif(not can_make_users(), reason="only root can make users with other login shells"),
]

# What a start-up file of a POSIX shell may do: print, fail, change what a command inherits, stand in its way.
_LOUD = """
echo hello on stdout; echo warning on stderr >&2
stty -a; tput cols; mesg n
printf 'no newline'; printf 'nor here' >&2
"""
_STRICT = """
set -eu
set -o noclobber; set -f
IFS=:
umask 077
cd /usr
export LC_ALL=de_DE.UTF-8 LANGUAGE=de LANG=de_DE.UTF-8 CDPATH=/usr PATH=/nowhere
alias cat=false
trap 'echo goodbye; echo goodbye >&2' EXIT
"""
_BASH = """
printf() { builtin echo not printf; }; cat() { builtin echo not cat; }; echo() { builtin printf 'not echo'; }
export -f printf cat echo
export BASH_ENV=~/.bashrc ENV=~/.bashrc SHELLOPTS
trap '' TERM PIPE
"""
_SHADOWS = """
exec() { echo not exec; }; sh() { echo not sh; }; alias exec=false; alias sh=false
"""
_FISH = """
echo hello on stdout; echo warning on stderr >&2; stty -a; printf 'no newline'
cd /usr; umask 077; set -gx LC_ALL de_DE.UTF-8; set -gx CDPATH /usr
alias sh false
function cat; echo not cat; end
function on_exit --on-event fish_exit; echo goodbye; end
"""
_TCSH = """
echo hello on stdout; /bin/sh -c 'echo warning on stderr >&2; printf "no newline"'; stty -a
cd /usr; umask 077; setenv LC_ALL de_DE.UTF-8; setenv CDPATH /usr; set path = (/nowhere); set noclobber; set noglob
alias sh false; alias cat echo not cat
"""


@dataclass(frozen=True)
class Shell:
    """A login shell, and what its start-up files may have.

    Args:
        program: The program.
        files: The texts of its start-up files, by a name for each kind.
        file: The name of the file.
    """

    program: str
    file: str = ".ssh/rc"
    files: dict[str, str] = field(default_factory=lambda: {"loud": _LOUD})

    @property
    def path(self) -> str | None:
        """Where it is; None if it is not installed."""
        return shutil.which(self.program)


SHELLS = {
    "dash": Shell("dash"),
    "bash": Shell(
        "bash",
        ".bashrc",
        {
            "loud": _LOUD,
            "strict": _STRICT,
            "functions": _BASH,
            "shadows": _SHADOWS,
            "zsh": "exec zsh",
            "dash": "exec dash",
            "ksh": "exec ksh",
            "all": _LOUD + _BASH + _STRICT,
        },
    ),
    "zsh": Shell(
        "zsh",
        ".zshenv",
        {"loud": _LOUD, "strict": _STRICT, "shadows": _SHADOWS, "bash": '[ -n "$SHLVL2" ] || SHLVL2=1 exec bash'},
    ),
    "ksh": Shell("ksh"),
    "mksh": Shell("mksh"),
    "fish": Shell("fish", ".config/fish/config.fish", {"loud": _FISH, "bash": "exec bash"}),
    "tcsh": Shell("tcsh", ".tcshrc", {"loud": _TCSH, "bash": "exec bash"}),
    "csh": Shell("bsd-csh", ".cshrc", {"loud": _TCSH}),
    "busybox": Shell("busybox"),
    "nushell": Shell("nu"),
    "xonsh": Shell("xonsh"),
    "elvish": Shell("elvish"),
    "rbash": Shell("rbash", ".bashrc", {"loud": _LOUD}),
}
KINDS = [(shell, kind) for shell, each in SHELLS.items() for kind in ("quiet", *each.files)]
EXECUTED = ("zsh", "dash", "ksh")

HOSTILE = [
    *("a b", "$(id)", "`id`", "'", '"', "\\", "\\'", "\n", "a\nb\n", "*", "~", "--", "-n", "é", "", "; exit 1", "!x"),
    *("!!", "{a,b}", "^x", "%1", "#", "&&", "\t", "\x01\x7f", os.fsdecode(b"\xff\xfe\x80"), "x" * 100_000),
]


@pytest.fixture(scope="module")
def server() -> Iterator[OpensshServer]:
    with sshd(PrintMotd="yes") as opened:
        yield opened


@pytest.fixture(scope="module")
def make_user() -> Iterator[Callable[[str], LoginUser]]:
    """What returns a user with a login shell, made once."""
    made: dict[str, LoginUser] = {}

    def make(path: str) -> LoginUser:
        if path not in made:
            made[path] = LoginUser(f"vpmem-t-{len(made)}", path)
        made[path].forget()
        return made[path]

    yield make
    for user in made.values():
        user.close()


def shell_path(name: str, directory: Path) -> str:
    """Return the path of a login shell, or skip if it is not installed. A link to it may be made in the directory."""
    path = SHELLS[name].path
    if path is None:
        pytest.skip(f"{SHELLS[name].program} is not installed")
    if name == "busybox":  # which is a shell under that name only
        link = directory / "ash"
        link.unlink(missing_ok=True)
        link.symlink_to(path)
        return str(link)
    return path


@pytest.mark.parametrize(("name", "kind"), KINDS, ids=lambda each: each)
def test_a_command_is_exact_through_any_login_shell(
    server: OpensshServer,
    make_user: Callable[[str], LoginUser],
    caplog: pytest.LogCaptureFixture,
    name: str,
    kind: str,
) -> None:
    if kind in EXECUTED and shutil.which(kind) is None:
        pytest.skip(f"{kind} is not installed")
    user = make_user(shell_path(name, server.directory))
    if kind != "quiet":
        user.write(SHELLS[name].file, SHELLS[name].files[kind])
    with caplog.at_level(logging.INFO, "VpmemLibrary"), SshTransport(settings(server, user)) as host:
        for command in (["printf", r"%s\0"], list(query(r'printf "%s\0" "$@"'))):
            result = host.run([*command, *HOSTILE]).check()
            assert result.stdout.split(b"\0")[:-1] == [os.fsencode(each) for each in HOSTILE]
            assert result.stderr == b""
        data = os.urandom(300_000)
        result = host.run(["tee", "/dev/stderr"], stdin=data)
        assert (result.stdout, result.stderr, result.exit_status) == (data, data, 0)
        for command in (["sh", "-c"], ["bash", "-c"], list(query("")[:2])):
            script = "# reads only\necho out; echo err >&2; exit 3"
            result = host.run([*command, script])
            assert (result.stdout, result.stderr, result.exit_status) == (b"out\n", b"err\n", 3)
        assert host.run(["sh", "-c", "kill -9 $$"]).exit_status == -9
        assert host.run(["cat"]).stdout == b""
        there = host.run(["sh", "-c", "pwd; umask; echo $LC_ALL; sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status"])
        assert there.lines[:3] == [str(user.home), "0022", "C"]
        assert int(there.lines[3], 16) & STANDARD_SIGNALS == 0
        assert host.run(["which", "blkid"]).exit_status in (0, 1)
        assert {"/sbin", "/usr/sbin", "/bin"} <= set(host.run(["sh", "-c", "echo $PATH"]).text.strip().split(":"))
        stream = host.stream(["cat"])
        stream.send(b"1")
        assert stream.recv(100) == b"1"
        stream.close()
        pid = user.home / "pid"
        with pytest.raises(CommandTimeoutError, match="and was ended"):
            host.run(["sh", "-c", 'echo $$ >"$1"; sleep 600; true', "sh", str(pid)], timeout=2)
        assert not Path(f"/proc/{pid.read_text().strip()}").exists()
    noted = [each for each in caplog.records if "prints text before each command" in each.message]
    assert len(noted) == 1 if "echo hello" in SHELLS[name].files.get(kind, "") else len(noted) <= (kind != "quiet")


# The mask of the signals that have names. The sshd of the tests may inherit others, which no program can reset.
STANDARD_SIGNALS = (1 << 31) - 1

REFUSING = {
    "nologin": ("/usr/sbin/nologin", "", "This account is currently not available"),
    "false": ("/bin/false", "", "exited 1. It printed nothing"),
    "own menu": ("/bin/cat", "", "runs no commands"),
    "endless": ("/bin/bash", "yes", "printed more than 1048576 bytes and ran no command"),
    "endless on stderr": ("/bin/bash", "yes >&2", "printed more than 1048576 bytes and ran no command"),
    "ends": ("/bin/bash", "echo expired; exit 1", "exited 1. It printed: expired"),
    "stdout lost": ("/bin/bash", "exec >/dev/null", "standard output is lost"),
    "stderr lost": ("/bin/bash", "exec 2>/dev/null", "standard error is lost"),
    "reads": ("/bin/bash", "cat >/dev/null", "read standard input"),
    "waits": ("/bin/bash", "sleep 600", "may wait for something"),
    "fish": ("/bin/bash", "exec fish", "must not run another shell"),
}


@pytest.mark.parametrize("case", REFUSING)
def test_a_login_shell_that_runs_no_command_is_named_with_its_answer(
    server: OpensshServer,
    make_user: Callable[[str], LoginUser],
    monkeypatch: pytest.MonkeyPatch,
    case: str,
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.transport._LOGIN_TIMEOUT", 2)
    path, text, message = REFUSING[case]
    if case == "fish" and shutil.which("fish") is None:
        pytest.skip("fish is not installed")
    user = make_user(path)
    user.write(".bashrc", text)
    with SshTransport(settings(server, user)) as host:
        for act in (lambda: host.run(["true"]), lambda: host.run(query("true")), lambda: host.stream(["cat"])):
            with pytest.raises(LoginShellError, match=message) as caught:
                act()
            assert f"user '{user.name}' on 127.0.0.1:{server.port}" in str(caught.value)


def test_options_that_a_start_up_file_exports_do_not_change_a_command(
    server: OpensshServer, make_user: Callable[[str], LoginUser]
) -> None:
    user = make_user("/bin/bash")
    user.write(".bashrc", "readonly TMOUT=1; shopt -s failglob; set -f; export TMOUT BASHOPTS SHELLOPTS\n")
    with SshTransport(settings(server, user)) as host:
        shown = host.run(["bash", "-c", 'echo "${TMOUT-none}"; echo /nowhere*; echo /et[c]'])
        assert (shown.lines, shown.stderr) == (["none", "/nowhere*", "/etc"], b"")


def test_a_process_in_the_background_that_keeps_the_output_is_named(
    server: OpensshServer, make_user: Callable[[str], LoginUser], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.ssh.transport._LOGIN_TIMEOUT", 2)
    user = make_user("/bin/bash")
    user.write(".bashrc", "sleep 600 & disown\n")
    with (
        SshTransport(settings(server, user)) as host,
        pytest.raises(LoginShellError, match=rf"user '{user.name}' on .* starts a process in the background"),
    ):
        host.run(["true"])


@pytest.mark.parametrize("command", ["internal-sftp", "echo 'only backups here'", "/usr/sbin/nologin"])
def test_a_forced_command_is_named(make_user: Callable[[str], LoginUser], command: str) -> None:
    with sshd(ForceCommand=command) as server:
        user = make_user("/bin/bash")
        with SshTransport(settings(server, user)) as host, pytest.raises(LoginShellError, match="no ForceCommand"):
            host.run(["true"])


def test_a_forced_command_that_runs_the_original_one_is_passed(make_user: Callable[[str], LoginUser]) -> None:
    with (
        sshd(ForceCommand="$SSH_ORIGINAL_COMMAND") as server,
        SshTransport(settings(server, make_user("/bin/bash"))) as host,
    ):
        assert host.run(["echo", "a  b"]).text == "a  b\n"


def test_an_argument_that_no_program_can_get_is_refused(
    server: OpensshServer, make_user: Callable[[str], LoginUser]
) -> None:
    with (
        SshTransport(settings(server, make_user("/bin/bash"))) as host,
        pytest.raises(InvalidValueError, match="UTF-8"),
    ):
        host.run(["echo", "\ud800"])


@pytest.mark.parametrize("limit", [1, 2])
def test_few_sessions_are_enough(
    make_user: Callable[[str], LoginUser], caplog: pytest.LogCaptureFixture, limit: int
) -> None:
    with sshd(MaxSessions=limit) as server, SshTransport(settings(server, make_user("/bin/bash"))) as host:
        with caplog.at_level(logging.INFO, "VpmemLibrary"):
            assert host.run(query("echo resident")).text == "resident\n"
            streams = [host.stream(["cat"]) for _ in range(2)]
            for stream in streams:
                stream.send(b"x")
                assert stream.recv(10) == b"x"
            for number in range(20):
                assert host.run(["echo", str(number)]).text == f"{number}\n"
                assert host.run(query(f"echo {number}")).text == f"{number}\n"
            assert host._connections.limit == limit
            with pytest.raises(CommandTimeoutError, match="and was ended"):
                host.run(["sleep", "600"], timeout=1)
            assert [host.connect("127.0.0.1", server.port).recv(4)] == [b"SSH-"]
            assert len(host._connections._connections) <= 4 // limit + 1
            for stream in streams:
                stream.close()
        assert sum("MaxSessions" in each.message for each in caplog.records) == 1


def test_no_session_at_all_is_an_error_that_names_the_setting(make_user: Callable[[str], LoginUser]) -> None:
    with sshd(MaxSessions=0) as server:
        user = make_user("/bin/bash")
        with (
            SshTransport(replace(settings(server, user), connect_timeout=2)) as host,
            pytest.raises(UnreachableError, match="Set MaxSessions 10 in its sshd_config"),
        ):
            host.run(["true"])


def test_leases_are_held_over_a_login_shell_that_prints(
    server: OpensshServer, make_user: Callable[[str], LoginUser]
) -> None:
    user = make_user("/bin/bash")
    user.write(".bashrc", _LOUD + _STRICT)
    with SshTransport(settings(server, user)) as host:
        leases = HostLeases(host, Holder.here("0123abcd", "5f0e"), directory=f"{user.home}/leases")
        assert [taken.key for taken in leases.take([["a"]])] == ["a"]
        host._connections.close()
        leases.require(["a"])  # over a new connection
        leases.release(["a"])
        leases.close()


def test_an_expired_password_is_no_fault_of_the_login_shell() -> None:
    start = Start("true", "rack1", "qa")
    start.stderr.feed(b"WARNING: Your password has expired.\nPassword change required but no TTY available.\n")
    assert "The password of user 'qa' on rack1 has expired" in str(start.failure(1))
    assert "chage -M -1 qa" in str(start.failure(1))
