"""Pipelines on a machine, the exit status of every stage checked."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from VpmemLibrary.errors import CommandError, ToolMissingError, UnreadableOutputError
from VpmemLibrary.pmem.guard import Guard, Target
from VpmemLibrary.transport.base import CommandResult

# A line of its own that begins with its own line break: another command may be in the middle of a line.
_STAGE = re.compile(rb"\nstage ([0-9]+) ([0-9]+)\n")
_MISSING = 127

SECOND_INPUT = "/dev/fd/3"
"""Where the later stages of a pipeline find what its command `beside` prints."""

SUBJECT = "\0"
"""Stands in a stage for the path that the pipeline is about; no path contains it."""
_PACKAGES = {"openssl": "openssl", "daxio": "pmdk-tools on Debian, Ubuntu and SUSE, otherwise daxio"}


class Runner(Protocol):
    """Runs commands on a machine: a transport, or `Guarded`."""

    def run(self, argv: Sequence[str], *, timeout: float) -> CommandResult:
        """Run a command to its end; see `Transport.run`."""


@dataclass(frozen=True, slots=True)
class Guarded:
    """Runs commands as acts on one target.

    Args:
        guard: The guard of the machine.
        target: What the commands change.
        unused: Whether nobody may use it.
    """

    guard: Guard
    target: Target
    unused: bool

    def run(self, argv: Sequence[str], *, timeout: float) -> CommandResult:
        """Run a command; see `Guard.run`."""
        return self.guard.run(argv, self.target, unused=self.unused, timeout=timeout)


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
    """Run commands joined by pipes and return what the last one printed.

    A POSIX shell tells only the last command's status; here each stage tells its own on stderr. The rightmost one that
    failed is the cause: the ones before it then fail for want of a reader.

    Args:
        runner: The way to the machine.
        stages: The commands, one item an argument.
        action: What is being done, for the message.
        timeout: Seconds that all of it may take.
        allowed: The statuses that the last stage may have and that are no failure.
        beside: A command that runs beside the first one; the later stages read what it prints at `SECOND_INPUT`.
        subject: The path that `SUBJECT` stands for.
        condition: Shell text that runs first; it ends the shell if nothing may be done. The subject is ``$1``.

    Raises:
        ToolMissingError: A program is not installed; the message says which package has it.
        CommandError: A stage failed.
        UnreadableOutputError: The shell did not tell the status of every stage.
    """
    if beside:
        stages = [beside, *stages]
    told = r"printf '\nstage %s %s\n'"
    parts = [f"{{ {' '.join(map(_quoted, stage))}; {told} {number} $? >&2; }}" for number, stage in enumerate(stages)]
    if beside:
        # The first reader must not hold the second one's pipe, or that would not end when its reader does.
        other, first, *rest = parts
        script = f"{other} | {{ exec 3<&0; {' | '.join([first + ' </dev/null 3<&-', *rest])}; }}"
    else:
        script = " | ".join(parts)
    result = runner.run(["sh", "-c", condition + script, "sh", subject], timeout=timeout)
    statuses = {int(number): int(status) for number, status in _STAGE.findall(result.stderr)}
    if condition and not statuses:
        result.check(f"Could not {action}")
    last = len(stages) - 1
    clean = replace(result, stderr=_STAGE.sub(b"", result.stderr), exit_status=statuses.get(last, result.exit_status))
    for number in range(last, -1, -1):
        status = statuses.get(number)
        if status is None:
            raise UnreadableOutputError(result, f"Could not {action}: {stages[number][0]} told no exit status")
        if status == 0:
            continue
        if number == last and status in allowed:
            break  # it may have ended before it had read all, which fails the stages before it
        failed = replace(clean, exit_status=status)
        program = stages[number][0]
        if status == _MISSING:
            package = _PACKAGES.get(program, program)
            raise ToolMissingError(failed, f"Could not {action}: {program} is not installed there (package {package})")
        raise CommandError(failed, f"Could not {action}: {program} failed")
    return clean


def _quoted(argument: str) -> str:
    """Return an argument for a shell; marks of the guard in it, such as ``@node@``, are not whole for the guard."""
    return (
        '"$1"'.join(shlex.quote(part).replace("@", "@''") if part else "" for part in argument.split(SUBJECT)) or "''"
    )
