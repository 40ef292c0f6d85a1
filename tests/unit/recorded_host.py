"""A host that answers with output recorded from ndctl 81, daxctl 81 and kernel 6.12 (tests/data/ndctl)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from guarded import Act, is_installation, unwrapped, used
from msgspec.structs import replace

from VpmemLibrary.errors import CommandTimeoutError
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

DATA = Path(__file__).parents[1] / "data" / "ndctl"


def recorded(state: str, version: str = "81") -> CommandResult:
    """Return what a recorded command left."""
    data = json.loads((DATA / f"ndctl-{version}_{state}.json").read_text())
    return CommandResult(
        argv=tuple(data["argv"]),
        exit_status=data["exit_status"],
        stdout="\n".join(data["stdout"]).encode(),
        stderr="\n".join(data["stderr"]).encode(),
        seconds=0.1,
        host="recorded",
    )


def left(status: int, stdout: str = "", stderr: str = "") -> CommandResult:
    """Return what a made-up command left."""
    return CommandResult(("sh",), status, stdout.encode(), stderr.encode(), 0.1, "recorded")


class RecordedHost(LocalTransport):
    """A transport that answers each command by the first answer whose words are all in it.

    Args:
        answers: For each answer the words that are in its command, and what it leaves: results or the names of recorded
            states, the last one again and again. A status of -15 is a command that was ended at its timeout.
        users: Who uses all that there is, one a line: acts on what must be unused are refused.
    """

    def __init__(self, answers: dict[str, str | CommandResult | list[str | CommandResult]], *, users: str = "") -> None:
        super().__init__(name="recorded")
        self.asked: list[tuple[str, ...]] = []
        self.acts: list[Act] = []
        self._users = users
        self._answers = {
            tuple(words.split()): list(given) if isinstance(given, list) else [given]
            for words, given in answers.items()
        }

    @property
    def changes(self) -> list[str]:
        """The commands that the guard ran, without it."""
        return [" ".join(act.command) for act in self.acts]

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        if is_installation(argv):
            return left(0)
        if act := unwrapped(argv):
            if act.unused and self._users:
                return used(self._users)
            self.acts.append(act)
            argv = act.command
        self.asked.append(tuple(argv))
        line = " ".join(argv)
        for words, results in self._answers.items():
            if all(word in line for word in words):
                given = results.pop(0) if len(results) > 1 else results[0]
                result = replace(recorded(given) if isinstance(given, str) else given, argv=tuple(argv))
                if result.exit_status == -15:
                    raise CommandTimeoutError(result, f"It did not end within {timeout:g} s and was ended")
                return result
        raise AssertionError(f"not expected: {line}")
