"""Run the programs on this machine that make the lab's files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence

from VpmemLibrary.errors import LabError

_LINES = 15


class ToolError(LabError):
    """A program of this machine failed. `output` is its standard error."""

    def __init__(self, text: str, output: str = "") -> None:
        self.output = output
        super().__init__(text)


def run_tool(
    command: Sequence[str],
    purpose: str,
    *,
    timeout: float = 60,
    umask: int = -1,
    environment: Mapping[str, str] | None = None,
    inherit: bool = True,
) -> None:
    """Run a program to its end, at most `timeout` seconds. `purpose` is for messages, e.g. ``make a disk``.

    Without `inherit`, the program has only the variables of `environment`.

    Raises:
        ToolError: The program failed, or did not end in time.
    """
    try:
        result = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            env={**(os.environ if inherit else {}), **(environment or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
            timeout=timeout,
            umask=umask,
        )
    except subprocess.TimeoutExpired as error:
        raise ToolError(f"Could not {purpose}: {command[0]} did not end within {timeout:g} s.") from error
    if result.returncode != 0:
        output = "\n".join((result.stderr or result.stdout).strip().splitlines()[-_LINES:])
        raise ToolError(
            f"Could not {purpose}: {command[0]} ended with status {result.returncode}:\n{output}", result.stderr
        )
