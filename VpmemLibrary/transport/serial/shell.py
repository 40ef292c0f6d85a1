"""A shell on a serial console: find the shell, log in, and run commands in it.

A console may lose or damage any data. So this module sends a request again until its answer arrives, and requests a
damaged line of a result again. It fails only if the console stays silent, or if a command's complete result has not
arrived at the command's deadline.
"""

from __future__ import annotations

import base64
import contextlib
import re
import time
from typing import Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from VpmemLibrary.errors import AccessDeniedError, GuestError
from VpmemLibrary.transport.serial.ending import overdue
from VpmemLibrary.transport.serial.frames import (
    MOST_PARTS,
    Part,
    Reader,
    ScriptAnswer,
    checksum,
    file_lines,
    file_sum,
    new_nonce,
    packed,
    request_line,
    unpacked,
)
from VpmemLibrary.transport.serial.script import LEAVE, SCRIPT, UNASKED

_QUIET = 0.5
"""Seconds without a byte after which the console probably waits for input."""

_PATIENCE = 3.0
"""Seconds in which a waiting shell answers a line."""

_AGAIN = 5.0
"""Seconds of silence after which a request is sent again."""

_SILENT = 60.0
"""Seconds without an answer after which the shell is probably gone. An emulated guest may pause for a long time."""

_SETTING_UP = 180.0
"""Seconds in which a shell must accept the script. The script is typed, which is slow in an emulated guest."""

_ENDING = 30.0
"""Seconds in which an overdue command must end and its output so far must arrive."""

_TAKES = 30.0
"""Seconds in which a guest must accept typed input. A guest accepts nothing if its kernel does not read the line."""

_LEAVING = 3.0
_TRIES = 3
_FRUITLESS = 10
_AT_ONCE = 100
"""Lines of a result in one request."""

_TYPED = 600
"""Characters in one typed line. busybox's shell reads at most 1024 characters (its FEATURE_EDITING_MAX_LEN)."""

_TAIL = 1 << 13
_TAIL_LINES = 20
_SHOWN = 200
_NOT_KNOWN = -9

# The prompts of getty, login and PAM in the languages of their translations. Accented letters may have any encoding.
_LOGIN = re.compile(
    r"(?:\blogin|\busername|anmeldung|identifiant|usuario|логин|登录|登入|ログイン|로그인)\s?[:\uff1a]\s?$",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"(?:\bpassword(?: for [^\n]{1,80})?|passwort|kennwort|mot de passe|contrase.{1,2}a|senha|palavra-passe|wachtwoord|"
    r"\bhas.{1,2}o|heslo|l.{1,2}senord|adgangskode|passord|salasana|jelsz.{1,2}|parola|пароль|密[码碼]|口令|パスワード|"
    r"암호)\s?[:\uff1a]\s?$",
    re.IGNORECASE,
)
_REFUSED = re.compile(rb"login incorrect|authentication failure", re.IGNORECASE)
_HEADER = re.compile(rb"(-?[0-9]{1,3}) ([0-9]{1,9})")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]{0,1000}(?:\x07|\x1b\\)|[\x00-\x08\x0b-\x1f\x7f]")


_MESSAGES = re.compile(r"\[ *(?:[0-9]{1,9}\.[0-9]{1,9}|OK|FAILED|DEPEND|WARN|INFO|TIME) *\][^\n]{0,2000}\n?")
"""The messages of the kernel and of systemd, which may follow a prompt on the same line."""


class Line(Protocol):
    """A two-way byte connection to a console."""

    def send(self, data: bytes, timeout: float) -> None:
        """Send all of `data`.

        Raises:
            GuestError: The console is gone, or does not accept all data within `timeout` seconds.
        """

    def receive(self, timeout: float) -> bytes:
        """Return the received bytes, or ``b""`` if nothing arrived within `timeout` seconds.

        Raises:
            GuestError: The console is gone.
        """

    def close(self) -> None:
        """Disconnect from the console. A second call has no effect."""


class Ended(Struct, frozen=True):
    """The result of a command.

    Args:
        status: The exit status; ``-N`` if signal N ended the command.
        stdout: Standard output.
        stderr: Standard error.
        overdue: A message about a command that exceeded its timeout; empty if the command ended in time.
        seen: Whether the guest reported the end of the command.
    """

    status: int = _NOT_KNOWN
    stdout: bytes = b""
    stderr: bytes = b""
    overdue: str = ""
    seen: bool = True


class _LateError(GuestError):
    """The deadline of a request passed."""


class _Run(Struct):
    """A running command."""

    number: int
    count: int | None = None
    parts: dict[int, bytes] = field(default_factory=dict)
    shown: bool = False
    trouble: str = ""

    def take(self, item: ScriptAnswer | Part) -> None:
        """Keep an answer or a part that belongs to this command."""
        if item.number != self.number:  # a part that is sent again has its command's number
            return
        if isinstance(item, Part):
            self.parts[item.index] = item.data
        elif item.words[:1] == ("done",):
            count = " ".join(item.words[1:])
            if re.fullmatch("[0-9]{1,6}", count) and int(count) <= MOST_PARTS:
                self.count = int(count)
            else:
                self.trouble = f"it has {count[:_SHOWN]!r} lines, but at most {MOST_PARTS} are accepted"
        elif item.words[:1] == ("failed",):
            self.trouble = " ".join(item.words[1:]) or "the guest gave no reason"
        elif item.words[:1] == ("shown",):
            self.shown = True

    @property
    def over(self) -> bool:
        return self.count is not None or bool(self.trouble)

    @property
    def missing(self) -> list[int]:
        return [index for index in range(self.count or 0) if index not in self.parts]


class SerialShell:
    """A session with the shell on a console. Call `start` before any other method."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self._name = name
        self._nonce = new_nonce()
        self._reader = Reader(self._nonce)
        self._text = b""
        self._tail = b""
        self._number = 0
        self._run: _Run | None = None
        self._packing = ""
        self._secret = ""

    def start(self, user: str, password: str | None, timeout: float) -> None:
        """Find a shell on the console, log in if the console asks for it, and start the script that reads requests.

        Args:
            user: The user for the log-in.
            password: The user's password; None if no password is needed.
            timeout: Seconds in which a shell must answer. The later steps may take longer.

        Raises:
            AccessDeniedError: The log-in was refused, or needs a password that was not given.
            GuestError: No shell answers, or the guest lacks a tool. The message has the last console lines.
        """
        self._secret = password or ""
        self._find_shell(user, password, time.monotonic() + timeout)
        self._type_script(time.monotonic() + _SETTING_UP)

    def run(self, script: str, stdin: bytes, timeout: float) -> Ended:
        """Run a shell script and return its result. End the script if it takes too long.

        Args:
            script: The script. A separate shell runs the script, and this library ends the script by ending that shell.
            stdin: The script's standard input.
            timeout: Seconds for all steps: to send the script and its input, to run the script, and to receive the
                result. Then this library ends the script and all its processes.

        Raises:
            GuestError: The console is gone or silent, the result cannot be read, or the guest has no space for a
                result.
        """
        deadline = time.monotonic() + timeout
        self._run = None
        try:
            try:
                run = self._begin(script.encode("utf-8", "surrogateescape"), stdin, deadline)
                if self._wait(run, deadline):
                    self._collect(run, deadline)
                    return self._result(run)
            except _LateError:
                pass
            return self._give_up(timeout)
        except BaseException:  # a keyword timeout must leave no process behind, if the shell still answers
            if self._run is not None and not self._run.over:
                with contextlib.suppress(GuestError):
                    self._ask("end", time.monotonic() + _LEAVING)
            raise

    def greet(self, timeout: float) -> None:
        """Wait for an answer of the shell.

        Raises:
            GuestError: The shell did not answer within `timeout` seconds.
        """
        self._ask("hello", time.monotonic() + timeout)

    def close(self) -> None:
        """Restore the shell to its earlier state and disconnect from the console. A second call has no effect."""
        with contextlib.suppress(GuestError):
            self._ask("quit", time.monotonic() + _LEAVING)
        self._line.close()

    # Finding a shell

    def _find_shell(self, user: str, password: str | None, deadline: float) -> None:
        probe = f" printf 'vpmem-%s-%s\\n' {self._nonce} shell\n".encode()
        shell = re.compile(f"vpmem-{self._nonce}-shell".encode())
        left_over = b""
        while True:
            self._type(b"\x15\n")  # Ctrl-U deletes a line that somebody has begun to type
            if self._waits_for(_PASSWORD):
                self._type(b"\n")
            if self._waits_for(_LOGIN):
                self._log_in(user, password)
            if not self._waits_for(_LOGIN) and not self._waits_for(_PASSWORD):
                self._line.send(left_over + probe, _TAKES)
                if self._shows(shell, _PATIENCE):
                    return
            if time.monotonic() > deadline:
                raise self._failure("No shell answers on the serial console")
            left_over = LEAVE.encode() + b"\n"  # an earlier process may have left its script running

    def _log_in(self, user: str, password: str | None) -> None:
        self._type(f"{user}\n".encode(), least=len(user) + 2)
        if not self._waits_for(_PASSWORD):
            return
        if password is None:
            self._line.send(b"\n", _TAKES)
            raise AccessDeniedError(
                self._with_console_text(
                    f"The serial console asks for a password of user {user!r}, but no password was given"
                )
            )
        self._type(f"{password}\n".encode(), least=3)
        if not self._text.strip():  # after a wrong password, login waits on purpose before it answers
            self._settle(_SILENT, least=3)
        if _REFUSED.search(self._text) or self._waits_for(_LOGIN):
            raise AccessDeniedError(self._with_console_text(f"The serial console refused user {user!r}"))
        if self._waits_for(_PASSWORD):
            self._line.send(b"\x03", _TAKES)
            raise AccessDeniedError(
                self._with_console_text(
                    f"The serial console asks user {user!r} for another password: the password has expired or is "
                    "wrong. Log in once and set a new password"
                )
            )

    def _type_script(self, deadline: float) -> None:
        script = "\n".join(line.strip() for line in SCRIPT.splitlines()).encode()  # each byte costs time
        text = base64.b64encode(script).decode()
        pieces = [text[start : start + _TYPED] for start in range(0, len(text), _TYPED)]
        names = [f"vpmem_{number}" for number in range(len(pieces))]
        whole = "".join(f"${name}" for name in names)
        self._line.send(f" vpmem_d=posix; printf 'vpmem-%s-%s\\n' {self._nonce} \"$vpmem_d\"\n".encode(), _TAKES)
        is_posix = self._shows(re.compile(f"vpmem-{self._nonce}-posix".encode()), _PATIENCE) is not None
        if not is_posix:  # fish, tcsh or another shell
            self._type(b"\x15 /bin/sh\n")  # Ctrl-U deletes the line: fish keeps a line that it refuses
        for _ in range(_TRIES):
            self._have_done("vpmem_d=; vpmem_s=$(stty -g 2>/dev/null); stty -echo 2>/dev/null", deadline)
            for name, piece in zip(names, pieces, strict=True):
                self._have_done(f"{name}={piece}", deadline)
            self._have_done(
                '[ -n "$vpmem_d" ] || vpmem_d=$(umask 077 && mktemp -d "${TMPDIR:-/tmp}/vpmem.XXXXXX"); '
                f'printf %s "{whole}" | base64 -d >"$vpmem_d/serve"; vpmem_c=$(md5sum <"$vpmem_d/serve")',
                deadline,
            )
            if self._have_done(":", deadline, show='"${vpmem_c%% *}"').startswith(checksum(script)):
                break
        else:
            raise self._failure("The shell on the serial console cannot write a script to $TMPDIR or /tmp with base64")
        self._line.send(
            f' sh "$vpmem_d/serve" {self._nonce} "$vpmem_d"; rm -rf "$vpmem_d"; stty "$vpmem_s" 2>/dev/null; '
            f"unset vpmem_d vpmem_s vpmem_c {' '.join(names)}{'' if is_posix else '; exit'}\n".encode(),
            _TAKES,
        )
        words = self._ask("hello", deadline, number=0).words
        if words[:1] != ("ready",):
            raise GuestError(f"The shell on the serial console of {self._name} lacks {', '.join(words[1:])}.")
        self._packing = " ".join(words[1:])

    def _have_done(self, command: str, deadline: float, show: str = "") -> str:
        """Type a command until the shell reports the command's end. Return the shell's output for `show`."""
        self._number += 1
        step = self._number
        sign = re.compile(f"vpmem-{self._nonce}-{step}-([0-9a-f]*)\\.".encode())
        line = f" {command}; printf 'vpmem-%s-%s-%s.\\n' {self._nonce} {step} {show}\n".encode()
        give_up = min(deadline, time.monotonic() + _SILENT)
        while time.monotonic() < give_up:
            self._text = b""
            self._line.send(line, _TAKES)
            if found := self._shows(sign, _AGAIN):
                return found[1].decode()
        raise self._failure("The shell on the serial console stopped answering")

    def _type(self, data: bytes, least: int = 1) -> None:
        self._text = b""
        self._line.send(data, _TAKES)
        self._settle(_PATIENCE, least)

    def _settle(self, timeout: float, least: int = 1) -> None:
        """Wait until at least `least` bytes have arrived and no more bytes follow."""
        deadline = time.monotonic() + timeout
        while (left := deadline - time.monotonic()) > 0:
            data = self._receive(min(left, _QUIET) if len(self._text) >= least else left)
            if not data and len(self._text) >= least:
                return

    def _shows(self, pattern: re.Pattern[bytes], timeout: float) -> re.Match[bytes] | None:
        deadline = time.monotonic() + timeout
        while True:
            if found := pattern.search(self._text):
                return found
            if (left := deadline - time.monotonic()) <= 0:
                return None
            self._receive(left)

    def _waits_for(self, prompt: re.Pattern[str]) -> bool:
        return prompt.search(_MESSAGES.sub("", _plain(self._text[-_TAIL:]))) is not None

    # Requests

    def _begin(self, script: bytes, stdin: bytes, deadline: float) -> _Run:
        for _ in range(_TRIES):
            lines = file_lines(packed(script, self._packing))
            at_once = lines[0] if len(lines) == 1 else ""
            stdin_lines = file_lines(packed(stdin, self._packing)) if stdin else []
            if (at_once or self._put("script", lines, deadline)) and self._put("stdin", stdin_lines, deadline):
                run = self._run = _Run(self._next())
                request = f"run {file_sum(script)} {file_sum(stdin)} {at_once}"
                if self._ask(request.strip(), deadline, number=run.number).words != ("damaged",):
                    return run
        raise self._failure("The serial console damages the data for the shell, or the guest has no space for the data")

    def _put(self, name: str, lines: list[str], deadline: float) -> bool:
        return all(
            self._ask(f"put {name} {index} {line}", deadline).words == (str(index + 1),)
            for index, line in enumerate(lines)
        )

    def _wait(self, run: _Run, deadline: float) -> bool:
        """Wait until the command has ended. Return False at the deadline."""
        poll = time.monotonic() + _AGAIN
        while not run.over:
            now = time.monotonic()
            if now >= deadline:
                return False
            if now >= poll:
                run.take(replace(self._ask("poll", deadline), number=run.number))
                poll = time.monotonic() + _AGAIN
            else:
                self._take(min(deadline, poll) - now)
        return True

    def _give_up(self, timeout: float) -> Ended:
        """End an overdue command, and return its result with a message about its end."""
        run, deadline = self._run, time.monotonic() + _ENDING
        if run is None:
            return Ended(overdue=f"Its input was not sent within {timeout:g} s; it was not run")
        if run.over:
            return Ended(overdue=f"It ended, but its output did not arrive within {timeout:g} s")
        try:
            self._end(run, deadline)
            self._collect(run, deadline)
        except _LateError:
            if not run.over:
                unseen = f"the guest did not report the end within {_ENDING:g} s"
                return Ended(overdue=overdue(timeout, None, unseen), seen=False)
            return Ended(overdue=f"{overdue(timeout, _NOT_KNOWN)}; its output did not arrive")
        ended = self._result(run)
        return replace(ended, overdue=overdue(timeout, ended.status))

    def _end(self, run: _Run, deadline: float) -> None:
        while not run.over:
            self._ask("end", deadline)
            self._wait(run, min(deadline, time.monotonic() + _PATIENCE))

    def _collect(self, run: _Run, deadline: float) -> None:
        if run.trouble:
            raise GuestError(
                f"The shell on the serial console of {self._name} could not send a command's result: {run.trouble}"
            )
        if (run.count or 0) <= UNASKED:
            while run.missing and not run.shown and self._take(min(_PATIENCE, deadline - time.monotonic())):
                pass
        fruitless = 0
        while missing := run.missing:
            self._ask("show " + " ".join(str(index + 1) for index in missing[:_AT_ONCE]), deadline)
            fruitless = fruitless + 1 if run.missing == missing else 0
            if fruitless == _FRUITLESS:
                raise self._failure("The serial console damages every line that the shell sends")

    def _result(self, run: _Run) -> Ended:
        """Return the result of a command. All parts of the result must have arrived."""
        try:
            whole = unpacked(b"".join(run.parts[index] for index in range(run.count or 0)), self._packing)
        except GuestError as error:
            raise GuestError(f"{error} It came over the serial console of {self._name}.") from error
        header, _, output = whole.partition(b"\n")
        found = _HEADER.fullmatch(header)
        if found is None or int(found[2]) > len(output):
            raise GuestError(
                f"A result on the serial console of {self._name} is invalid: it begins with {header[:_SHOWN]!r}."
            )
        size = int(found[2])
        return Ended(int(found[1]), output[:size], output[size:])

    def _ask(self, text: str, deadline: float, *, number: int | None = None) -> ScriptAnswer:
        """Send a request, several times if necessary, until its answer arrives.

        Args:
            text: The request.
            deadline: The latest time for the answer. Other lines from the shell do not extend the deadline.
            number: The request's number; a new number by default.

        Raises:
            _LateError: The answer did not arrive by the deadline.
            GuestError: The shell sends nothing any more, or the console is gone.
        """
        number = self._next() if number is None else number
        line = request_line(self._nonce, number, text)
        heard = again = now = time.monotonic()
        while now < deadline:
            if now - heard >= _SILENT:
                raise self._failure("The shell on the serial console stopped answering")
            if now >= again:
                self._line.send(line, min(_TAKES, deadline - now))
                again = time.monotonic() + _AGAIN
            for item in self._take(min(again, deadline) - time.monotonic()):
                heard = time.monotonic()
                again = heard + _AGAIN
                if isinstance(item, ScriptAnswer) and item.number == number:
                    return item
            now = time.monotonic()
        raise _LateError(self._with_console_text("The shell on the serial console did not answer in time"))

    def _next(self) -> int:
        self._number += 1
        return self._number

    def _take(self, timeout: float) -> list[ScriptAnswer | Part]:
        """Return the next answers and parts from the shell. Also pass them to the running command."""
        deadline = time.monotonic() + timeout
        while True:
            items = list(self._reader.feed(self._receive(max(0.0, deadline - time.monotonic()))))
            if self._run is not None:
                for item in items:
                    self._run.take(item)
            if items or time.monotonic() >= deadline:
                return items

    def _receive(self, timeout: float) -> bytes:
        data = self._line.receive(timeout)
        self._text = (self._text + data)[-_TAIL:]
        self._tail = (self._tail + data)[-_TAIL:]
        return data

    # Messages

    def _failure(self, what: str) -> GuestError:
        return GuestError(self._with_console_text(what))

    def _with_console_text(self, what: str) -> str:
        text = _plain(self._tail)
        if self._secret:
            text = text.replace(self._secret, "***")
        shown = [line[:_SHOWN] for line in text.splitlines() if line.strip() and self._nonce not in line][-_TAIL_LINES:]
        ends = "It shows no text." if not shown else "It ends with:\n" + "\n".join(shown)
        return f"{what.replace('serial console', f'serial console of {self._name}', 1)}. {ends}"


def _plain(data: bytes) -> str:
    """Return the text of a console without the codes for its terminal."""
    return _ESCAPES.sub("", data.decode("utf-8", "replace"))
