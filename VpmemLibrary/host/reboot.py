"""Reboot a host and reconnect to it."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path

from VpmemLibrary.errors import (
    CommandError,
    CommandTimeoutError,
    UnreachableError,
    UnreadableOutputError,
    UnsupportedError,
)
from VpmemLibrary.polling import poll
from VpmemLibrary.transport.base import CommandResult, Transport

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""The file with the boot id. Every boot has a new id (kernel, Documentation/admin-guide/sysctl/kernel.rst)."""

_ID = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_POLL = 0.5
_ANSWER = 5.0


def boot_id(transport: Transport, *, timeout: float = _ANSWER) -> str:
    """Return the id of the machine's current boot.

    Raises:
        CommandError: The id cannot be read.
        UnreachableError: The machine does not answer.
        UnreadableOutputError: The machine's answer is not a boot id.
    """
    result = transport.run(["cat", BOOT_ID], timeout=timeout).check()
    found = result.text.strip()
    if not re.fullmatch(_ID, found):
        raise UnreadableOutputError(result, f"{BOOT_ID} has no boot id")
    return found


def reboot(transport: Transport, *, timeout: float) -> float:
    """Reboot a machine in an orderly way and wait until it answers from a new boot.

    Args:
        transport: The transport to the machine. It reconnects by itself.
        timeout: Maximum seconds until the machine answers again.

    Returns:
        The seconds until the machine answered.

    Raises:
        UnsupportedError: The machine is the controller.
        CommandError: The machine refused to reboot.
        UnreachableError: The machine did not answer from a new boot within `timeout`.
    """
    before = boot_id(transport)
    if before == own_boot_id():
        raise UnsupportedError("This host runs the tests. It was not rebooted, because the run would end.")
    started = time.monotonic()
    with suppress(UnreachableError):  # the connection may end before the answer: only a new boot id is proof
        _order(transport)
    wait_for_another_boot(transport, before, timeout=timeout, after="its reboot")
    return time.monotonic() - started


def wait_for_another_boot(transport: Transport, before: str, *, timeout: float, after: str) -> None:
    """Wait until a machine answers from a new boot.

    Args:
        transport: The transport to the machine. It reconnects by itself.
        before: The id of the previous boot.
        timeout: Maximum seconds until the machine answers.
        after: The event that made the machine boot, for the message.

    Raises:
        UnreachableError: The machine did not answer from a new boot within `timeout`.
    """

    def is_new_boot() -> bool:
        try:
            return boot_id(transport) != before
        except CommandTimeoutError:
            transport.close()  # a machine that lost its power leaves a connection that never answers
            raise

    def failure(error: Exception | None) -> UnreachableError:
        last = "it did not answer" if isinstance(error, CommandTimeoutError) else str(error)
        return UnreachableError(
            f"{transport.name} did not come back within {timeout:.3g} s after {after}: "
            f"{last if error else 'it still answered from the previous boot'}."
        )

    poll(
        is_new_boot,
        f"{transport.name} to come back after {after}",
        timeout=timeout,
        interval=_POLL,
        failure=failure,
        retry_on=(CommandError, UnreachableError),  # a machine that shuts down may fail to run a command
    )


def own_boot_id() -> str:
    """Return the id of the controller's current boot. Empty if its kernel has no boot id."""
    path = Path(BOOT_ID)
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _order(transport: Transport) -> CommandResult:
    return transport.run(["systemctl", "reboot"]).check("The machine refused to reboot")
