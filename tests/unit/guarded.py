"""What the guard's commands look like to a host that answers with recorded output: unwrapped, or refused."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from VpmemLibrary.pmem.guard import act, guard_path
from VpmemLibrary.transport.base import CommandResult

ACTS = act("any")[1]
"""Where the program ``acts.sh`` is on a host."""


@dataclass(frozen=True, slots=True)
class Act:
    """One guarded command.

    Args:
        targets: What it acts on, as option and identity, e.g. ``-n 413b338f-...``.
        leases: The records that must still be the caller's.
        unused: Whether nobody may use the targets.
        command: The command; ``acts destroy @namespace@`` for one of ``acts.sh``.
    """

    targets: tuple[str, ...]
    leases: tuple[str, ...]
    unused: bool
    command: tuple[str, ...]


def is_installation(argv: Sequence[str]) -> bool:
    """Whether a command puts the guard or its acts onto the host."""
    return tuple(argv[:2]) == ("sh", "-c") and argv[-1] in (guard_path(), ACTS)


def unwrapped(argv: Sequence[str]) -> Act | None:
    """Return the act that a command is; None for a command without a guard."""
    if tuple(argv[:2]) != ("sh", guard_path()):
        return None
    words = iter(argv[2:])
    targets, leases, unused = [], [], False
    for option in words:
        match option:
            case "--":
                break
            case "-u":
                unused = True
            case "-l":
                leases.append(f"{next(words)} {next(words)}")
            case _:
                targets.append(f"{option} {next(words)}")
    command = tuple(words)
    if command[:2] == ("sh", ACTS):
        command = ("acts", *command[2:])
    return Act(tuple(targets), tuple(leases), unused, command)


def refusal(reports: Iterable[str]) -> CommandResult:
    """Return what the guard leaves that refuses, e.g. for the report ``used process 7 (qemu)``."""
    lines = "".join(f"vpmem-guard: {report}\n" for report in reports)
    return CommandResult(("sh",), 113, b"", lines.encode(), 0.1, "recorded")


def used(users: str) -> CommandResult:
    """Return what the guard leaves that finds users, one a line."""
    return refusal(f"used {user}" for user in users.splitlines())
