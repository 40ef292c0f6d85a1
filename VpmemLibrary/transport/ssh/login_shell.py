"""Starting a command through a login shell of any kind, and finding where the command's own output begins.

sshd passes a command line to the user's login shell, which may be fish, tcsh, nushell or any other, and whose start-up
files may print, change the directory or start another shell. So the command line has no argument that a shell could
change: it only becomes ``/bin/sh``. That shell reads one line from standard input, which holds the command. It prints a
line with a random word on both outputs and becomes the command. What was printed before these lines is noise.

``/bin/sh`` may read more from standard input than its line. So the command's own standard input is sent only after
the line with the random word has come.
"""

from __future__ import annotations

import re
import secrets

from VpmemLibrary.errors import LoginShellError
from VpmemLibrary.transport.base import ENVIRONMENT, EXTRA_PATH
from VpmemLibrary.visible import one_line

PLAIN = "exec /bin/sh"
"""The command line that every login shell runs; ``exec`` leaves no login shell that could print at its end."""

OTHERS = ("/bin/sh", "sh")
"""The same for a shell in which ``exec`` is something else, and for one that refuses paths as well, as rbash does."""

WITH_SIGNALS = "exec /usr/bin/env --default-signal /bin/sh"
"""The same for a shell that ignores signals, as one written in Python does: a command would ignore them as well."""

NOISE_LIMIT = 1 << 20
"""How many bytes may be printed before a command begins."""

IGNORED_SIGNALS = "exec sed -n 's/^SigIgn:[[:space:]]*//p' /proc/self/status"
"""The command that tries a command line: it prints a mask of the signals that are ignored, in hexadecimal."""

_SHOWN = 400
_LONGEST_LINE = 128
_NOT_FOUND = 127

# Bash imports functions and options from the environment; they must not take the place of programs. The directory and
# the creation mask are those of a fresh log-in, wherever a start-up file went.
_PRELUDE = (
    "set +euxvfC; "
    'case "${BASH_VERSION-}" in ?*) unset -f $(compgen -A function); export -n SHELLOPTS BASHOPTS ;; esac 2>/dev/null; '
    "unset ENV BASH_ENV CDPATH; "
    f'PATH="${{PATH:+$PATH:}}{EXTRA_PATH}"; '
    f"export PATH {' '.join(f'{name}={value}' for name, value in ENVIRONMENT.items())}; "
    'umask 022; cd "${HOME:-/}" >/dev/null 2>&1 || cd /; '
    "vpmem_boot=; { read -r vpmem_boot </proc/sys/kernel/random/boot_id; } 2>/dev/null; "
)


class Opening:
    """The part of one output up to the line after which the output is the command's own.

    Args:
        word: The random word that the line begins with.
    """

    def __init__(self, word: str) -> None:
        self.noise = bytearray()
        """What was printed before that line."""
        self.found = False
        """Whether the line has come."""
        self.pid: int | None = None
        """The command's process id; None before the line has come."""
        self.boot = ""
        """The identifier of the host's boot; empty if the line does not have it."""
        self._line = re.compile(rb"%s ([0-9]{1,10}) ?([0-9a-f-]{0,36})\n" % word.encode())

    @property
    def too_noisy(self) -> bool:
        """Whether more than `NOISE_LIMIT` was printed, and not that line."""
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
    """What is needed to start one command: the line for ``/bin/sh``, and the openings of both outputs.

    Args:
        command: The command for a POSIX shell, all of it quoted: the end of the line.
        host: The host's name.
        user: Who is logged in there.
    """

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
        """Whether the command has begun, as seen on both outputs."""
        return self.stdout.found and self.stderr.found

    @property
    def too_noisy(self) -> bool:
        """Whether so much was printed that the command is not waited for."""
        return self.stdout.too_noisy or self.stderr.too_noisy

    @property
    def noise(self) -> bytes:
        """What was printed before the command began, on both outputs."""
        return bytes(self.stdout.noise + self.stderr.noise)

    def failure(self, exit_status: int | None) -> LoginShellError:
        """Return why the command has not begun.

        Args:
            exit_status: The exit status of the login shell; None if it did not end.
        """
        return LoginShellError(self._describe(exit_status), exit_status)

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
        return (
            f"{who} runs no commands: it exited {exit_status}. {printed or 'It printed nothing.'} The user needs a "
            "login shell that runs /bin/sh (see: getent passwd, chsh), and sshd no ForceCommand for the user. "
            "Start-up files must not run another shell, read standard input or exit unless they run interactively. "
            f"{look}"
        )
