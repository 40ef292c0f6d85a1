"""Running commands through sudo, which must never ask."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile

from VpmemLibrary.errors import AccessDeniedError
from VpmemLibrary.host.transport import CommandResult

SUDO = ("sudo", "-n", "--")
"""sudo that fails rather than asks for a password."""

_SUDO_FAILED = 1
_COMMAND_NOT_FOUND = 127


def checked_elevation(result: CommandResult) -> CommandResult:
    """Return what the command itself left, or raise sudo's own failure.

    sudo exits 1 for its own failures, as a command may do; its texts under ``LC_ALL=C`` tell them apart.

    Raises:
        AccessDeniedError: sudo asks for a password or does not allow the command.
    """
    if result.exit_status != _SUDO_FAILED or not result.stderr.startswith(b"sudo: "):
        return result
    for line in takewhile(_is_sudos, result.error_text.splitlines()):  # it may first complain of the host's name
        if line.endswith(": command not found"):
            return replace(result, exit_status=_COMMAND_NOT_FOUND)
        if "password" in line or "not allowed" in line or "may not run" in line:
            raise AccessDeniedError(
                f"sudo on {result.host} refused to run a command: {line}. Allow it without a password "
                f"(NOPASSWD in /etc/sudoers.d), or log in as root.\ncommand: {result.command}"
            )
    return result


def _is_sudos(line: str) -> bool:
    return line.startswith("sudo: ")
