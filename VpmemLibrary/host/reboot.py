"""Rebooting a host and finding it again."""

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
from VpmemLibrary.transport.base import CommandResult, Transport

BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""Another one with every boot (kernel, Documentation/admin-guide/sysctl/kernel.rst)."""

_ID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_POLL = 0.5
_ANSWER = 5.0


def boot_id(transport: Transport, *, timeout: float = _ANSWER) -> str:
    """Return the id that the kernel gave this boot.

    Raises:
        CommandError: It cannot be read.
        UnreachableError: The machine does not answer.
        UnreadableOutputError: The machine's answer is not an id.
    """
    result = transport.run(["cat", BOOT_ID], timeout=timeout).check()
    found = result.text.strip()
    if not _ID.fullmatch(found):
        raise UnreadableOutputError(result, f"{BOOT_ID} has no boot id")
    return found


def reboot(transport: Transport, *, timeout: float) -> float:
    """Reboot a machine in good order and wait until it answers from another boot.

    Args:
        transport: The way to the machine; it connects anew by itself.
        timeout: Seconds until it must answer again.

    Returns:
        How many seconds it took.

    Raises:
        UnsupportedError: It is the machine that this process runs on.
        CommandError: The machine refused to reboot.
        UnreachableError: It did not answer from another boot in time.
    """
    before = boot_id(transport)
    if before == own_boot_id():
        raise UnsupportedError("The machine that the tests run on is not rebooted: the run would end with it.")
    started = time.monotonic()
    with suppress(UnreachableError):  # the connection may end before the answer: another boot id is the proof
        _order(transport)
    wait_for_another_boot(transport, before, timeout=timeout, after="its reboot")
    return time.monotonic() - started


def wait_for_another_boot(transport: Transport, before: str, *, timeout: float, after: str) -> None:
    """Wait until a machine answers from another boot.

    Args:
        transport: The way to the machine; it connects anew by itself.
        before: The id of the boot before.
        timeout: Seconds until it must answer.
        after: What made it boot, for the message.

    Raises:
        UnreachableError: It did not answer from another boot in time.
    """
    started = time.monotonic()
    last = "it still answered from the boot before"
    while time.monotonic() - started < timeout:
        try:
            if boot_id(transport) != before:
                return
        except CommandTimeoutError:
            transport.close()  # a machine that went without a word leaves a connection that never answers
            last = "it did not answer"
        except (CommandError, UnreachableError) as error:  # a machine that goes down may fail to run a command
            last = str(error)
        time.sleep(_POLL)
    raise UnreachableError(f"{transport.name} did not come back within {timeout:g} s after {after}: {last}.")


def own_boot_id() -> str:
    """Return the id of this machine's own boot; empty where the kernel gives none."""
    path = Path(BOOT_ID)
    return path.read_text(encoding="ascii").strip() if path.is_file() else ""


def _order(transport: Transport) -> CommandResult:
    return transport.run(["systemctl", "reboot"]).check("The machine refused to reboot")
