"""Run pipelines on a machine and check the exit status of every stage."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from VpmemLibrary.errors import CommandError, ToolMissingError, UnreadableOutputError
from VpmemLibrary.pmem.guard import Guard, Target
from VpmemLibrary.transport.base import CommandResult

# The report of a stage. It starts with a line break, because another stage may have printed only a part of a line.
_STAGE = rb"\nstage ([0-9]+) ([0-9]+)\n"
_MISSING = 127

_SIGPIPE = 128 + 13
_CIPHER_OF_ENDED_READER = b"error writing output file"
"""The message of openssl if the program that reads its output has ended and SIGPIPE is ignored."""

SECOND_INPUT = "/dev/fd/3"
"""The path at which the later stages of a pipeline read the output of the command `beside`."""

SUBJECT = "\0"
"""Placeholder in a stage for the path of the pipeline's target. No path contains this character."""
_PACKAGES = {"openssl": "openssl", "daxio": "pmdk-tools on Debian, Ubuntu and SUSE, otherwise daxio"}


class Runner(Protocol):
    """Runs commands on a machine: a transport, or `Guarded`."""

    def run(self, argv: Sequence[str], *, timeout: float) -> CommandResult:
        """Run a command to its end. See `Transport.run`."""


class Guarded(Struct, frozen=True):
    """Runs commands as acts on one target.

    Args:
        guard: The guard of the machine.
        target: The target that the commands change.
        must_be_unused: Whether the target must not be in use.
    """

    guard: Guard
    target: Target
    must_be_unused: bool

    def run(self, argv: Sequence[str], *, timeout: float) -> CommandResult:
        """Run a command under the guard. See `Guard.run`."""
        return self.guard.run(argv, self.target, must_be_unused=self.must_be_unused, timeout=timeout)


def run_pipeline(
    runner: Runner,
    stages: Sequence[Sequence[str]],
    *,
    action: str,
    timeout: float,
    allowed: Sequence[int] = (),
    beside: Sequence[str] = (),
    subject: str = "",
    condition: str = "",
) -> CommandResult:
    """Run commands joined by pipes and return the output of the last command.

    A POSIX shell returns only the last command's status, so each stage reports its own status on stderr. If several
    stages failed, the last of them is the cause: after its end no program reads the output of the stages before it, so
    they fail too. A last stage that ends early with status 0 is no failure here. The caller checks the number of bytes
    that this stage copied.

    Args:
        runner: The transport to the machine, or a `Guarded`.
        stages: The commands, each as a sequence of arguments.
        action: What the pipeline does, for the message.
        timeout: Maximum seconds that the pipeline may take.
        allowed: The exit statuses of the last stage, other than 0, that mean success.
        beside: A command that runs at the same time as the first stage. The later stages read its output at
            `SECOND_INPUT`.
        subject: The path that replaces `SUBJECT`.
        condition: Shell text that runs first, with the subject as ``$1``. If it ends the shell, no stage runs.

    Raises:
        ToolMissingError: A program is not installed. The message names its package.
        CommandError: A stage failed.
        UnreadableOutputError: The shell did not report the status of every stage.
    """
    if beside:
        stages = [beside, *stages]
    report = r"printf '\nstage %s %s\n'"
    parts = [f"{{ {' '.join(map(_quoted, stage))}; {report} {number} $? >&2; }}" for number, stage in enumerate(stages)]
    if beside:
        # The first stage closes its copy of the second pipe. Otherwise `beside` would not end when its reader ends.
        other, first, *rest = parts
        script = f"{other} | {{ exec 3<&0; {' | '.join([first + ' </dev/null 3<&-', *rest])}; }}"
    else:
        script = " | ".join(parts)
    result = runner.run(["sh", "-c", condition + script, "sh", subject], timeout=timeout)
    statuses = {int(number): int(status) for number, status in re.findall(_STAGE, result.stderr)}
    if condition and not statuses:
        result.check(f"Could not {action}")
    last = len(stages) - 1
    clean = replace(
        result, stderr=re.sub(_STAGE, b"", result.stderr), exit_status=statuses.get(last, result.exit_status)
    )
    for number in range(last, -1, -1):
        status = statuses.get(number)
        if status is None:
            raise UnreadableOutputError(result, f"Could not {action}: {stages[number][0]} reported no exit status")
        if status == 0:
            continue
        if number == last and status in allowed:
            break  # the last stage may end early, and then the stages before it fail
        program = stages[number][0]
        if status == _SIGPIPE or (program == "openssl" and _CIPHER_OF_ENDED_READER in clean.stderr):
            break  # the next stage ended with 0 before it had read all output of this stage
        failed = replace(clean, exit_status=status)
        if status == _MISSING:
            package = _PACKAGES.get(program, program)
            raise ToolMissingError(failed, f"Could not {action}: {program} is not installed (package {package})")
        raise CommandError(failed, f"Could not {action}: {program} failed")
    return clean


def _quoted(argument: str) -> str:
    """Quote an argument for a shell. Split markers such as ``@node@``, so that the guard does not replace them."""
    return (
        '"$1"'.join(shlex.quote(part).replace("@", "@''") if part else "" for part in argument.split(SUBJECT)) or "''"
    )
