"""Start a command through any login shell, and find the beginning of the command's own output.

sshd passes a command line to the user's login shell. This shell may be fish, tcsh, nushell or another shell. Its
start-up files may print text, change the directory or start a different shell. So the command line has no argument that
a shell could change: it only starts ``/bin/sh``. ``/bin/sh`` reads one line with the command from standard input. This
line prints a marker line with a random word on both outputs, and then executes the command. All output before the
marker lines is noise.

``/bin/sh`` may read more than one line from standard input. So this library sends the command's own standard input only
after the marker line has arrived.
"""

from __future__ import annotations

import re
import secrets

from VpmemLibrary.errors import LoginShellError
from VpmemLibrary.transport.base import ENVIRONMENT, EXTRA_PATH
from VpmemLibrary.visible import one_line

PLAIN = "exec /bin/sh"
"""The command line for all normal login shells. ``exec`` replaces the login shell, so it cannot print at its end."""

OTHERS = ("/bin/sh", "sh")
"""The command lines for a shell with another ``exec``, and for a shell that also refuses paths, such as rbash."""

WITH_SIGNALS = "exec /usr/bin/env --default-signal /bin/sh"
"""The command line for a shell that ignores signals, such as a shell written in Python. With another command line, the
command would ignore these signals too."""

NOISE_LIMIT = 1 << 20
"""Maximum bytes of output before a command begins."""

IGNORED_SIGNALS = "exec sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status"
"""The command that tests a command line. It prints the mask of the ignored signals in hexadecimal."""

_SHOWN = 400
_LONGEST_LINE = 128
_NOT_FOUND = 127
_EXPIRED = b"Password change required but no TTY available"
"""OpenSSH's sshd prints this text instead of running a command. The text is the same in every language."""

# Bash imports functions and options from the environment. The prelude removes them, because a function could replace a
# program. It also sets the directory and the umask of a new log-in, because a start-up file may have changed them.
_PRELUDE = (
    "set +euxvfC; "
    'case "${BASH_VERSION-}" in ?*) unset -f $(compgen -A function); export -n SHELLOPTS BASHOPTS ;; '
    "*) unset SHELLOPTS BASHOPTS ;; esac 2>/dev/null; "
    "unset ENV BASH_ENV CDPATH TMOUT; "
    f'PATH="${{PATH:+$PATH:}}{EXTRA_PATH}"; '
    f"export PATH {' '.join(f'{name}={value}' for name, value in ENVIRONMENT.items())}; "
    'umask 022; cd "${HOME:-/}" >/dev/null 2>&1 || cd /; '
    "vpmem_boot=; { read -r vpmem_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null; "
)


class Opening:
    """Skips the noise in one output. The command's own output begins after the marker line."""

    def __init__(self, word: str) -> None:
        self.noise = bytearray()
        """The output before the marker line."""
        self.found = False
        """Whether the marker line has arrived."""
        self.pid: int | None = None
        """The command's process id; None before the marker line has arrived."""
        self.boot = ""
        """The boot identifier of the host; empty if the marker line does not have it."""
        self._line = re.compile(rb"%s ([0-9]{1,10}) ?([0-9a-f-]{0,36})\n" % word.encode())

    @property
    def too_noisy(self) -> bool:
        """Whether the output has more than `NOISE_LIMIT` bytes without the marker line."""
        return not self.found and len(self.noise) > NOISE_LIMIT

    def feed(self, data: bytes) -> bytes:
        """Return the part of `data` that is the command's own output."""
        if self.found:
            return data
        if self.too_noisy:
            return b""
        start = max(0, len(self.noise) - _LONGEST_LINE)
        self.noise += data
        line = self._line.search(self.noise, start)
        if line is None:
            return b""
        rest = bytes(self.noise[line.end() :])
        self.found, self.pid, self.boot = True, int(line[1]), line[2].decode()
        del self.noise[line.start() :]
        return rest


class Start:
    """The start of one command: the line for ``/bin/sh``, and the openings of both outputs."""

    def __init__(self, command: str, host: str, user: str) -> None:
        self.host = host
        """The host's name."""
        self._user = user
        word = f"vpmem-{secrets.token_hex(8)}"
        self.stdout = Opening(f"{word}-out")
        """The opening of standard output."""
        self.stderr = Opening(f"{word}-err")
        """The opening of standard error."""
        marks = f'echo "{word}-out $$ $vpmem_boot"; echo "{word}-err $$" >&2; '
        self.script = f"{{ {_PRELUDE}{marks}{command}; }}\n".encode("utf-8", "surrogateescape")
        """The line that ``/bin/sh`` reads from its standard input."""

    @property
    def begun(self) -> bool:
        """Whether the command has begun: the marker lines of both outputs have arrived."""
        return self.stdout.found and self.stderr.found

    @property
    def too_noisy(self) -> bool:
        """Whether an output has too much noise; see `Opening.too_noisy`."""
        return self.stdout.too_noisy or self.stderr.too_noisy

    @property
    def noise(self) -> bytes:
        """The output before the command began, from both outputs."""
        return bytes(self.stdout.noise + self.stderr.noise)

    def failure(self, exit_status: int | None) -> LoginShellError:
        """Return the error for a command that has not begun. `exit_status` is the login shell's; None if unknown."""
        return LoginShellError(self._describe(exit_status), exit_status)

    def held(self, seconds: float) -> LoginShellError:
        """Return the error for a login shell whose background process keeps the command's outputs open."""
        return LoginShellError(
            f"The login shell of user {self._user!r} on {self.host} starts a process in the background. The process "
            f"keeps the output of every command open, here for more than {seconds:g} s. In the start-up files "
            "(.bashrc, config.fish, .tcshrc ...), start the process only in an interactive shell, or with "
            "</dev/null >/dev/null 2>&1. See: ps -u "
            f"{self._user} -o pid,etime,args",
            None,
        )

    def _describe(self, exit_status: int | None) -> str:
        noise = self.noise[-_SHOWN:] if self.too_noisy else self.noise[:_SHOWN]
        printed = f"It printed: {one_line(noise.decode('utf-8', 'replace').strip())}" if noise.strip() else ""
        who = f"The login shell of user {self._user!r} on {self.host}"
        look = f"See: ssh {self._user}@{self.host.partition(':')[0]} '{PLAIN}' </dev/null"
        if self.too_noisy:
            return (
                f"{who} printed more than {NOISE_LIMIT} bytes and ran no command. Let its start-up files (.bashrc, "
                f"config.fish, .tcshrc ...) print only if they run interactively. {printed}"
            )
        if self.stdout.found or self.stderr.found:
            other = "standard error" if self.stdout.found else "standard output"
            return (
                f"{who} runs commands, but their {other} is lost. Remove the redirection of {other} from its start-up "
                f"files (.bashrc, config.fish, .tcshrc ...). {printed}".rstrip()
            )
        if exit_status is None:
            return (
                f"{who} has not run the command. Its start-up files may wait for something, or run another shell: let "
                f"them do so only if they run interactively. {look}. {printed}".rstrip()
            )
        if _EXPIRED in noise:
            return (
                f"The password of user {self._user!r} on {self.host} has expired, so sshd runs no commands for "
                f"the user. Log in once with ssh -t, and change it; or let it not expire: chage -M -1 {self._user}. "
                f"{printed}"
            )
        return (
            f"{who} runs no commands: it exited {exit_status}. {printed or 'It printed nothing.'} The user needs a "
            "login shell that runs /bin/sh (see: getent passwd, chsh), and sshd no ForceCommand for the user. "
            "Start-up files must not run another shell, read standard input or exit unless they run interactively. "
            f"{look}"
        )
