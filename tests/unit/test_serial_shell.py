"""Commands by a shell on a serial console: a real shell on a real terminal, with a noisy kernel."""

from __future__ import annotations

import base64
import gzip
import os
import re
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from console_line import PtyLine, soon
from fake_clock import FakeClock, fake_clock
from hypothesis import given, settings
from hypothesis import strategies as st

from VpmemLibrary.errors import (
    AccessDeniedError,
    CommandTimeoutError,
    GuestError,
    ToolMissingError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.serial.frames import checksum
from VpmemLibrary.transport.serial.script import FIRST, PART
from VpmemLibrary.transport.serial.shell import Ended, SerialShell
from VpmemLibrary.transport.serial.transport import SerialTransport

SHELLS = [["sh"], ["bash", "--norc", "-i"], ["busybox", "ash"], ["zsh"], ["mksh"], ["ksh"], ["tcsh"], ["csh"], ["fish"]]
PASSWORD = "correct horse"

# As getty and login do it: a prompt, a name, a password that is not echoed, a shell.
LOGIN = """
import getpass, os, subprocess, sys
while True:
    user = input("\\r\\nguest login: ")
    if not user.strip():
        continue
    if getpass.getpass("Password: ") == "correct horse" and user == "qa":
        subprocess.run(["sh"])
    else:
        print("Login incorrect")
"""


class Bench:
    """A console, the way into it, and the directory that the shell keeps its files in."""

    def __init__(self, line: PtyLine, directory: Path, **options: str) -> None:
        self.line = line
        self.directory = directory
        self.transport = SerialTransport("g", lambda: line, **options)  # type: ignore[arg-type]  # user and password


Make = Callable[..., Bench]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    made: list[Bench] = []

    def make(argv: list[str], noise: float = 0, **options: str) -> Bench:
        bench = Bench(PtyLine(argv, noise=noise, environment={"TMPDIR": str(tmp_path)}), tmp_path, **options)
        made.append(bench)
        return bench

    yield make
    for bench in made:
        bench.line.close()


def available(argv: list[str]) -> list[str]:
    if shutil.which(argv[0]) is None:
        pytest.skip(f"{argv[0]} is not installed here")
    return argv


@pytest.mark.parametrize("argv", SHELLS, ids=lambda argv: argv[0])
def test_any_shell_runs_commands_as_a_host_does(make: Make, argv: list[str]) -> None:
    run = make(available(argv)).transport.run
    assert run(["printf", "%s|", "a b", "$HOME", "'\"`;\n", "é"]).text == "a b|$HOME|'\"`;\n|é|"
    result = run(["sh", "-c", "cat; echo no >&2; exit 7"], stdin=b"\0\xff\n")
    assert (result.exit_status, result.stdout, result.stderr) == (7, b"\0\xff\n", b"no\n")
    assert [run(["sh", "-c", f"kill -{number} $$"]).exit_status for number in (9, 15)] == [-9, -15]
    assert run(["sh", "-c", "exit 143"]).exit_status == 143
    assert run(["sh", "-c", "echo $LC_ALL; pwd"]).text == "C\n/\n"
    with pytest.raises(ToolMissingError):
        run(["no-such-program"]).check()


def test_it_has_the_face_of_a_transport(make: Make, tmp_path: Path) -> None:
    transport = make(["sh"]).transport
    assert isinstance(transport, Transport)
    path = str(tmp_path / "a file")
    transport.write_file(path, bytes(range(256)) * 8, mode=0o640)
    assert transport.read_file(path) == bytes(range(256)) * 8
    assert Path(path).stat().st_mode & 0o777 == 0o640
    with pytest.raises(UnsupportedError, match="cannot stream"):
        transport.stream(["cat"])
    with pytest.raises(UnsupportedError, match="through the serial console"):
        transport.connect("::1", 22)


def test_nothing_that_a_kernel_writes_in_between_changes_a_byte(make: Make) -> None:
    bench = make(["sh"], noise=0.5)
    data = os.urandom(40_000)
    assert bench.transport.run(["cat"], stdin=data).stdout == data
    assert [bench.transport.run(["echo", str(number)]).text for number in range(10)] == [f"{n}\n" for n in range(10)]


def test_what_is_damaged_on_the_way_in_is_sent_again(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.serial.shell._AGAIN", 0.3)
    bench = make(["sh"])
    assert bench.transport.ping()
    send = bench.line.send
    damaged: list[bytes] = []

    def lossy(data: bytes, timeout: float) -> None:
        if data.startswith(b": ") and len(damaged) < 6 and len(bench.line.sent) % 3 == 0:
            damaged.append(data)
            data = data[:-5] + b"\n"
        send(data, timeout)

    bench.line.send = lossy  # type: ignore[method-assign]
    data = os.urandom(3_000)
    assert all(bench.transport.run(["cat"], stdin=data).stdout == data for _ in range(3))
    assert damaged


def test_a_timeout_ends_the_command_with_its_children_and_leaves_the_shell(make: Make, tmp_path: Path) -> None:
    transport = make(["sh"]).transport
    pids = tmp_path / "pids"
    script = 'trap "" INT TERM; echo part; echo $$ >"$1"; while :; do sleep 1; done'
    with pytest.raises(CommandTimeoutError, match="did not end within 1 s") as caught:
        transport.run(["sh", "-c", script, "sh", str(pids)], timeout=1)
    assert caught.value.result.stdout == b"part\n"
    assert caught.value.result.exit_status == -9
    assert not Path(f"/proc/{pids.read_text().strip()}").exists()
    assert transport.run(["echo", "still there"]).text == "still there\n"


def test_a_keyword_s_own_timeout_leaves_no_command_behind(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transport = make(["sh"]).transport
    pids = tmp_path / "pids"
    wait = SerialShell._wait

    class Interrupted(BaseException):
        pass

    def interrupted(self: SerialShell, run: object, deadline: float) -> bool:
        wait(self, run, time.monotonic() + 0.5)  # type: ignore[arg-type]  # its own record
        raise Interrupted

    monkeypatch.setattr(SerialShell, "_wait", interrupted)
    with pytest.raises(Interrupted):
        transport.run(["sh", "-c", 'echo $$ >"$1"; exec sleep 600', "sh", str(pids)])
    monkeypatch.setattr(SerialShell, "_wait", wait)
    assert transport.run(["echo", "still there"]).text == "still there\n"
    assert not Path(f"/proc/{pids.read_text().strip()}").exists()


def test_the_shell_is_given_back_as_it_was_found(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make(["sh"])
    monkeypatch.setattr(bench.line, "close", lambda: None)
    assert bench.line.echoes()
    bench.transport.run(["true"])
    assert not bench.line.echoes()
    assert len(list(bench.directory.iterdir())) == 1
    bench.transport.close()
    bench.transport.close()
    assert soon(bench.line.echoes)
    assert list(bench.directory.iterdir()) == []


def test_a_script_that_an_ended_process_left_there_is_ended(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.serial.shell._PATIENCE", 0.6)
    bench = make(["sh"])
    assert bench.transport.ping()
    assert SerialTransport("g", lambda: bench.line).run(["echo", "mine now"]).text == "mine now\n"


def test_a_half_typed_line_of_somebody_s_is_not_run(make: Make, tmp_path: Path) -> None:
    bench = make(["sh"])
    bench.line.send(f"touch {tmp_path}/trap".encode(), 1)
    assert bench.transport.run(["echo", "hi"]).text == "hi\n"
    assert not (tmp_path / "trap").exists()


def test_a_log_in_is_done_where_the_console_asks_for_it(make: Make) -> None:
    bench = make([sys.executable, "-c", LOGIN], user="qa", password=PASSWORD)
    assert bench.transport.run(["echo", "in"]).text == "in\n"
    assert PASSWORD.encode() not in bench.line.seen


@pytest.mark.parametrize(
    ("password", "message"), [("wrong secret", "refused user 'qa'"), (None, "asks for a password of user 'qa'")]
)
def test_a_log_in_that_is_refused_says_so_and_shows_no_password(make: Make, password: str | None, message: str) -> None:
    bench = make([sys.executable, "-c", LOGIN], user="qa", password=password)
    with pytest.raises(AccessDeniedError, match=message) as caught:
        bench.transport.run(["true"])
    assert "wrong secret" not in str(caught.value)
    assert "guest login" in str(caught.value)


@pytest.mark.parametrize(
    ("login", "password"),
    [
        ("debian login: ", "Passwort: "),
        ("identifiant : ", "Mot de passe : "),
        ("host login: ", "Contraseña: "),
        ("login\uff1a", "密码\uff1a"),
        ("\x1b[1mlogin: \x1b[0m\x1b[K", "Password for qa@EXAMPLE.ORG: \x1b]0;host\x07"),
    ],
)
def test_a_log_in_of_another_language_is_understood(make: Make, login: str, password: str) -> None:
    program = LOGIN.replace("guest login: ", login).replace('"Password: "', f'"{password}"')
    bench = make([sys.executable, "-X", "utf8", "-c", program], user="qa", password=PASSWORD)
    assert bench.transport.run(["echo", "in"]).text == "in\n"


def test_a_log_in_is_done_while_the_kernel_writes_after_each_prompt(make: Make) -> None:
    message = "[    1.234567] nd_pmem: region0\\r\\n[  OK  ] Started a unit.\\r\\n[    2.345678] nd_pm"
    program = LOGIN.replace("login: ", f"login: {message}").replace("Password: ", f"Password: {message}")
    bench = make([sys.executable, "-c", program], user="qa", password=PASSWORD)
    assert bench.transport.run(["echo", "in"]).text == "in\n"


def test_a_password_that_has_expired_is_reported_at_once(make: Make) -> None:
    expired = "getpass.getpass('Your password has expired.\\nCurrent password: '); sys.exit()"
    program = LOGIN.replace('subprocess.run(["sh"])', expired)
    bench = make([sys.executable, "-c", program], user="qa", password=PASSWORD)
    with pytest.raises(AccessDeniedError, match=r"another password.*expired(.*\n)*.*has expired"):
        bench.transport.run(["true"])


def test_a_console_without_a_shell_is_reported_with_its_last_lines(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.serial.transport._START", 1)
    monkeypatch.setattr("VpmemLibrary.transport.serial.shell._PATIENCE", 0.5)
    bench = make(["sh", "-c", "echo 'Kernel panic - not syncing: No working init found.'; exec sleep 600"])
    with pytest.raises(GuestError, match=r"No shell answers.* of guest g\..*\n(.*\n)*.*No working init found"):
        bench.transport.run(["true"])


def test_a_ping_of_a_console_without_a_shell_fails_softly(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("VpmemLibrary.transport.serial.shell._PATIENCE", 0.5)
    assert not make(["sleep", "600"]).transport.ping(0.5)


def test_a_shell_that_lacks_a_tool_is_reported_which(make: Make, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "stty", "mktemp", "base64", "md5sum", "rm", "cat", "sed", "wc"):
        (tools / name).symlink_to(str(shutil.which(name)))
    bench = make(["env", f"PATH={tools}", "sh"])
    with pytest.raises(GuestError, match="lacks paste, ls, xargs, tr, mkdir"):
        bench.transport.run(["true"])


def test_a_console_that_ends_is_reported_and_the_next_command_connects_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[PtyLine] = []

    def connect() -> PtyLine:
        lines.append(PtyLine(["sh"], environment={"TMPDIR": str(tmp_path)}))
        return lines[-1]

    transport = SerialTransport("g", connect)
    assert transport.run(["echo", "one"]).text == "one\n"
    os.kill(lines[0].pid, 9)
    with pytest.raises(GuestError, match="gone"):
        transport.run(["echo", "two"])
    assert transport.run(["echo", "three"]).text == "three\n"
    transport.close()
    assert len(lines) == 2


# Guests whose shell sends anything. The code under test goes by a fake clock.

MODULE = "VpmemLibrary.transport.serial.shell"
RESULT = gzip.compress(b"0 3\nhi\n")


class LyingLine:
    """A console whose guest sends its answers one after the other, and the last answer again and again.

    Args:
        clock: The clock, which each answer moves on.
        answers: What comes. ``NONCE`` stands for the session's nonce, ``NUMBER`` for the last request's number.
        seconds: How long each answer takes.
    """

    def __init__(self, clock: FakeClock, *answers: bytes, seconds: float = 1.0) -> None:
        self.requests: list[bytes] = []
        self._clock = clock
        self._answers = list(answers)
        self._seconds = seconds
        self.closed = False

    def send(self, data: bytes, timeout: float) -> None:
        assert timeout > 0
        self.requests.append(data)

    def receive(self, timeout: float) -> bytes:
        self._clock.now += min(timeout, self._seconds) if self._answers else timeout
        if not self._answers or timeout < self._seconds:
            return b""
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        _, nonce, _, number, *_ = self.requests[-1].split()
        return answer.replace(b"NONCE", nonce).replace(b"NUMBER", number)

    def close(self) -> None:
        self.closed = True


def answered(text: str, number: str = "NUMBER") -> bytes:
    """Return the line of an answer to the last request, which has a number of one digit."""
    return f"@NONCE {len(text) + 2} {number} {text} .\n".encode()


def part(number: int, index: int, data: bytes) -> bytes:
    text = base64.b64encode(data)
    return b"#NONCE %06d %b %d %b .\n" % (number, checksum(text).encode(), FIRST + index, text)


def run_on(line: LyingLine, *, timeout: float = 3, stdin: bytes = b"") -> Ended:
    shell = SerialShell(line, "guest evil")
    shell._packing = "gzip -c"  # what `start` finds out
    return shell.run("true", stdin, timeout)


def test_a_shell_that_answers_as_the_script_does_is_understood() -> None:
    with fake_clock(MODULE) as clock:
        ended = run_on(
            LyingLine(clock, answered("started"), part(1, 0, RESULT) + answered("done 1"), answered("shown"))
        )
    assert ended == Ended(0, b"hi\n", b"")


def test_frames_of_other_numbers_do_not_put_the_deadline_off() -> None:
    with fake_clock(MODULE) as clock:
        before = clock.now
        line = LyingLine(clock, b"@NONCE 14 999999 running .\n")
        ended = run_on(line)
        assert clock.now - before < 40
    assert not ended.seen
    assert (
        ended.overdue
        == "It did not end within 3 s, and was not seen to end: the guest did not report the end within 30 s"
    )


def test_a_result_that_never_becomes_whole_does_not_put_the_deadline_off() -> None:
    parts = [part(1, index, b"x") + answered("shown") for index in range(1000)]
    with fake_clock(MODULE) as clock:
        before = clock.now
        ended = run_on(LyingLine(clock, answered("started"), answered("done 40000", "1"), *parts))
        assert clock.now - before < 40
    assert ended.overdue == "It ended, but its output did not arrive within 3 s"


def test_input_that_does_not_arrive_in_time_is_reported_and_nothing_is_run() -> None:
    with fake_clock(MODULE) as clock:
        before = clock.now
        line = LyingLine(clock)
        ended = run_on(line, stdin=b"x")
        assert clock.now - before < 10
    assert ended.overdue == "Its input was not sent within 3 s; it was not run"
    assert not [request for request in line.requests if b" run " in request]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("done 999999999999", "it has '999999999999' lines, but at most 46604 are accepted"),
        ("done 46605", "it has '46605' lines"),
        ("done x", "it has 'x' lines"),
        ("done -1", "it has '-1' lines"),
        ("done", "it has '' lines"),
        ("done " + "9" * 5000, "it has '999"),
        ("failed", "the guest gave no reason"),
        ("failed no room", "could not send a command's result: no room"),
    ],
    ids=lambda text: text[:20],
)
def test_an_odd_word_about_a_result_is_an_error_that_shows_it(words: str, message: str) -> None:
    with fake_clock(MODULE) as clock, pytest.raises(GuestError, match=re.escape(message)) as caught:
        run_on(LyingLine(clock, answered("started"), answered(words, "1"), seconds=0.1))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (gzip.compress(bytes((16 << 20) + 1)), "has more than 16MiB, so it cannot be read"),
        (b"no gzip", "cannot be unpacked by gzip"),
        (RESULT[:-3], "end of a command's result is missing. It came over the serial console of guest evil."),
        (gzip.compress(b""), "begins with b''"),
        (gzip.compress(b"0 4\nhi\n"), "begins with b'0 4'"),
        (gzip.compress(b"x 3\nhi\n"), "begins with b'x 3'"),
        (gzip.compress(b"0 3 3\nhi\n"), "begins with b'0 3 3'"),
        (gzip.compress(b"0 " + b"9" * 5000 + b"\nhi\n"), "begins with b'0 999"),
    ],
    ids=["bomb", "no gzip", "no end", "empty", "size", "status", "three words", "digits"],
)
def test_a_result_that_is_none_is_an_error(result: bytes, message: str) -> None:
    parts = [part(1, index, result[at : at + PART]) for index, at in enumerate(range(0, len(result), PART))]
    whole = b"".join(parts) + answered(f"done {len(parts)}", "1")
    with fake_clock(MODULE) as clock, pytest.raises(GuestError, match=re.escape(message)):
        run_on(LyingLine(clock, answered("started"), whole, answered("shown"), seconds=0.1))


def silent(timeout: float) -> bytes:
    time.sleep(timeout)
    return b""


def test_a_shell_whose_command_was_not_seen_to_end_is_not_used_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make(["sh"])
    assert bench.transport.ping()
    closed = []
    monkeypatch.setattr(bench.line, "close", lambda: closed.append(True))
    monkeypatch.setattr(f"{MODULE}._ENDING", 0.5)
    monkeypatch.setattr(bench.line, "receive", silent)
    with pytest.raises(CommandTimeoutError, match="was not seen to end"):
        bench.transport.run(["true"], timeout=0.5)
    assert closed


WORDS = st.sampled_from(
    ["started", "damaged", "running", "done 0", "done 1", "done 3", "shown", "ended", "1", "failed"]
)
NUMBERS = st.sampled_from(["NUMBER", "1", "2", "999999"])
LIES = st.one_of(
    st.builds(answered, WORDS | st.text(max_size=20), NUMBERS),
    st.builds(part, st.integers(0, 3), st.integers(0, 4), st.binary(max_size=400) | st.just(RESULT)),
    st.binary(max_size=100),
)


@settings(max_examples=200)
@given(
    st.lists(st.lists(LIES, max_size=3).map(b"".join), max_size=8), st.sampled_from([0.01, 1.0]), st.binary(max_size=9)
)
def test_any_answer_of_a_shell_raises_only_errors_of_the_library_and_in_time(
    lies: list[bytes], seconds: float, stdin: bytes
) -> None:
    with fake_clock(MODULE) as clock:
        before = clock.now
        line = LyingLine(clock, *lies, seconds=seconds)
        try:
            run_on(line, stdin=stdin)
        except VpmemError as error:
            assert str(error)
        assert clock.now - before < 60
        assert len(line.requests) < 10_000


@settings(max_examples=200)
@given(st.lists(LIES, max_size=8), st.sampled_from([0.01, 1.0]))
def test_any_text_on_a_console_is_no_shell_within_a_bounded_time(lies: list[bytes], seconds: float) -> None:
    with fake_clock(MODULE) as clock:
        before = clock.now
        with pytest.raises(VpmemError):
            SerialShell(LyingConsole(clock, *lies, seconds=seconds), "guest evil").start("root", "secret", 5)
        assert clock.now - before < 400


class LyingConsole(LyingLine):
    """A console whose guest echoes what is typed, and then sends anything."""

    def receive(self, timeout: float) -> bytes:
        typed = self.requests[-1] if self.requests else b""
        self.requests = [b": x y 1"]
        return typed + super().receive(timeout)
