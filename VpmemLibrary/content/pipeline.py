"""Pipelines on a machine, the exit status of every stage checked."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from VpmemLibrary.errors import CommandError, ToolMissingError, UnreadableOutputError
from VpmemLibrary.host.transport import CommandResult, Transport, shell_line

# A line of its own that begins with its own line break: another command may be in the middle of a line.
_STAGE = re.compile(rb"\nstage ([0-9]+) ([0-9]+)\n")
_MISSING = 127

SECOND_INPUT = "/dev/fd/3"
"""Where the later stages of a pipeline find what its command `beside` prints."""
_PACKAGES = {"openssl": "openssl", "daxio": "pmdk-tools on Debian 13, otherwise daxio"}


def run_pipeline(
    transport: Transport,
    stages: Sequence[Sequence[str]],
    *,
    action: str,
    timeout: float,
    allowed: Sequence[int] = (),
    beside: Sequence[str] = (),
) -> CommandResult:
    """Run commands joined by pipes and return what the last one printed.

    A POSIX shell tells only the last command's status; here each stage tells its own on stderr. The rightmost one that
    failed is the cause: the ones before it then fail for want of a reader.

    Args:
        transport: The way to the machine.
        stages: The commands, one item an argument.
        action: What is being done, for the message.
        timeout: Seconds that all of it may take.
        allowed: The statuses that the last stage may have and that are no failure.
        beside: A command that runs beside the first one; the later stages read what it prints at `SECOND_INPUT`.

    Raises:
        ToolMissingError: A program is not installed; the message says which package has it.
        CommandError: A stage failed.
        UnreadableOutputError: The shell did not tell the status of every stage.
    """
    if beside:
        stages = [beside, *stages]
    told = r"printf '\nstage %s %s\n'"
    parts = [f"{{ {shell_line(stage)}; {told} {number} $? >&2; }}" for number, stage in enumerate(stages)]
    if beside:
        # The first reader must not hold the second one's pipe, or that would not end when its reader does.
        other, first, *rest = parts
        script = f"{other} | {{ exec 3<&0; {' | '.join([first + ' </dev/null 3<&-', *rest])}; }}"
    else:
        script = " | ".join(parts)
    result = transport.run(["sh", "-c", script], timeout=timeout)
    statuses = {int(number): int(status) for number, status in _STAGE.findall(result.stderr)}
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
