"""Run commands as root through sudo, sudo-rs or doas, without a password.

A shell that runs as root starts the command. Before that, the shell prints a marker line on standard output and on
standard error. The marker line shows that sudo started the shell, even if sudo prints other text first, in any
language. Without the marker line, sudo refused.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

from msgspec.structs import replace

from VpmemLibrary.errors import AccessDeniedError
from VpmemLibrary.transport.base import ENVIRONMENT, EXTRA_PATH, CommandResult, Stream, checked_argv
from VpmemLibrary.visible import block, one_line

_MARK = f"vpmem-{secrets.token_hex(8)}"
"""The start of every marker line. It is random, so a program on a host cannot know it in advance."""

_SHOWN = 1000
_SHOWN_COMMAND = 200
_LONGEST_NOISE = 1 << 16
_CHUNK = 1 << 16

# This script runs as root. $0 is the mark. sudo and doas may reset the environment and the umask, so the script sets
# them. The script is a single line, so that `_refusal` can find it in a message of sudo that repeats the command.
# The trap runs only if `exec` fails. If a second shell fails too, the cause is the noexec option of sudo.
_AS_ROOT = (
    "PATH=${PATH:+$PATH:}"
    f"{EXTRA_PATH}:/usr/bin:/bin "
    + " ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
    + f"; export PATH {' '.join(ENVIRONMENT)}; umask 022; echo $0 started; echo $0 started >&2; "
    "trap '/bin/sh -c : 2>/dev/null || echo $0 noexec >&2' EXIT; "
    'exec "$@"'
)

# This script runs as the user. $1 is the mark, $2 is the script for root, and the other arguments are the command. Root
# needs neither sudo nor doas. If both are installed, the script uses doas only if sudo refuses and doas does not.
_START = r"""
mark=$1 script=$2 user=$(id -u) program=none
shift 2
[ "$user" != 0 ] || exec /bin/sh -c "$script" "$mark" "$@"
works() { "$1" -n -u root -- /bin/sh -c : </dev/null >/dev/null 2>&1; }
command -v sudo >/dev/null && program=sudo
if command -v doas >/dev/null; then
    if [ "$program" = none ] || { ! works sudo && works doas; }; then program=doas; fi
fi
echo "$mark asked $program $user ${LOGNAME:-$USER}" >&2
[ "$program" != none ] || exit 127
exec "$program" -n -u root -- /bin/sh -c "$script" "$mark" "$@"
"""

_ASKED = re.compile(rf"^{_MARK} asked (sudo|doas|none) ([0-9]*) ?(.*)$".encode(), re.MULTILINE)
_STARTED = re.compile(rf"^{_MARK} started\n".encode(), re.MULTILINE)
_NOEXEC = f"{_MARK} noexec\n".encode()
_CANNOT_EXECUTE = 126
_NOT_STARTED = rb"(\1 had not started the command: try `\1 -n -u root true` there)"
_PLAIN_USER = r"[A-Za-z_][A-Za-z0-9_-]*"


def elevated(argv: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `argv` as root.

    The command uses sudo if sudo is installed, else doas. If both are installed, but only doas works without a
    password, the command uses doas. If the user is root, the command uses neither.

    Example: ``require_started_as_root(transport.run(elevated(["ndctl", "list"])))``.
    """
    return ("/bin/sh", "-c", _START, "sh", _MARK, _AS_ROOT, *checked_argv(argv))


def without_marker_lines(result: CommandResult) -> CommandResult:
    """Return the result of a command from `elevated`, without the marker lines and without earlier text from sudo.

    If sudo or doas did not start the command, a line in standard error reports this.
    """
    stderr = _ASKED.sub(_NOT_STARTED, _own(result.stderr), count=1)
    return replace(result, stdout=_own(result.stdout), stderr=stderr)


def require_started_as_root(result: CommandResult) -> CommandResult:
    """Return the same result as `without_marker_lines`. Raise if the command did not run as root.

    Raises:
        AccessDeniedError: The host has neither sudo nor doas, sudo or doas refused the command, or sudo forbids the
            shell to start programs (noexec). The message of a refusal has the output of sudo, and the configuration
            line that allows the command.
    """
    if _STARTED.search(result.stderr) is None:
        raise AccessDeniedError(_refusal(result))
    own = without_marker_lines(result)
    if own.exit_status == _CANNOT_EXECUTE and own.stderr.endswith(_NOEXEC):
        raise AccessDeniedError(
            f"sudo{f' on {own.host}' if own.host else ''} lets a shell run as root, but forbids the shell to start "
            "programs. Remove noexec (or the tag NOEXEC) and intercept for this user from sudoers (sudo -l shows "
            f"them), or log in as root.\ncommand: {block(_short(own.command))}"
        )
    return own


class ElevatedStream:
    """The stream of an elevated command, without the text that sudo and the shell printed before the command began."""

    def __init__(self, inner: Stream) -> None:
        self._inner = inner
        self._unread = b""
        self._started = False

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the stream was closed.
        """
        self._inner.send(data)

    def recv(self, size: int) -> bytes:
        """Return at most `size` bytes as soon as some arrive, or ``b""`` at the end, or if sudo refused.

        Raises:
            OSError: The stream was closed.
        """
        while not self._started:
            data = self._inner.recv(_CHUNK)
            self._unread += data
            if not data or len(self._unread) > _LONGEST_NOISE + _CHUNK:
                self._unread = b""
                return b""
            if (started := _STARTED.search(self._unread)) is not None:
                self._started = True
                self._unread = self._unread[started.end() :]
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        return self._inner.recv(size)

    def close(self) -> None:
        """Close the command's standard input. End the command if it keeps running."""
        self._inner.close()


def _own(output: bytes) -> bytes:
    started = _STARTED.search(output)
    return output if started is None else output[started.end() :]


def _short(command: str) -> str:
    return command if len(command) <= _SHOWN_COMMAND else f"{command[:_SHOWN_COMMAND]} ..."


def _refusal(result: CommandResult) -> str:
    """Return the message for a command that did not run as root: the reason, and what to do."""
    place = f" on {result.host}" if result.host else ""
    asked = _ASKED.search(result.stderr)
    said = result.stderr if asked is None else result.stderr[asked.end() :]
    text = said.decode("utf-8", "replace").replace(_AS_ROOT, "...").replace(_MARK, "...").strip()
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
    answer = f"It exited {result.exit_status} and printed: {block(text) or '(nothing)'}"
    last = f"command: {block(_short(result.command))}"
    if asked is None:
        return f"The shell{place} did not start a command as root. {answer}\n{last}"
    program, uid, name = (each.decode("utf-8", "replace") for each in asked.groups())
    user = name if re.fullmatch(_PLAIN_USER, name) else f"#{uid}"
    if program == "none":
        return (
            f"There is neither sudo nor doas{place}, so {one_line(name) or user} cannot run a command as root. Install "
            f"sudo and let {user} use it without a password, or log in as root.\n{last}"
        )
    if program == "doas":
        rule = f"put the line `permit nopass {user if user == name else uid} as root` at the end of /etc/doas.conf"
    else:
        rule = (
            f"put the line `{user} ALL=(root) NOPASSWD: ALL` in /etc/sudoers.d/vpmem (visudo -f "
            f"/etc/sudoers.d/vpmem), and `Defaults:{user} !requiretty` too if sudo wants a terminal"
        )
    return (
        f"{program}{place} did not run a command as root without a password. {answer}\nTo allow it, {rule}. "
        f"A rule for single commands must name /bin/sh, which starts every command of this library. To find a locked "
        f"or expired account, run `chage -l {user}`. Or log in as root.\n{last}"
    )
