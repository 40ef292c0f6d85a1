"""Wait until a guest answers. At a timeout, report the guest's state and the end of its console log and QEMU log."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from VpmemLibrary.errors import GuestError, LibvirtError, VpmemError
from VpmemLibrary.guest.channel.channels import GuestChannel
from VpmemLibrary.guest.channel.console import Console, Panic
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.guest.domain.states import ALIVE
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.host.reboot import boot_id
from VpmemLibrary.polling import attempts
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT
from VpmemLibrary.visible import block

_PANIC_LINES = 10
_PANIC_POLL = 0.5
_PANIC_WRITTEN = 3.0
"""Seconds to wait until a kernel that panics has written the panic to the console."""

_CONSOLE_EVERY = 5.0
"""Seconds between two checks for a panic on the console. Each check costs a command on the host."""

_REBOOTED_TIMEOUT = 2.0
"""Seconds to wait for one answer during a reboot."""

_NEEDED: dict[str, str] = {
    GuestChannel.agent: "qemu-guest-agent must run in the guest, on the channel org.qemu.guest_agent.0 of its XML",
    GuestChannel.ssh: "an SSH server must run in the guest, and the guest's host must reach its address",
    GuestChannel.serial: "a login or a shell must run in the guest on its first serial port",
}
"""The program that must run in the guest, for each channel of this library. Messages show it."""

_NEEDED_BY_OTHERS = "the program that the channel connects to must run in the guest"
"""The requirement for a channel that another project implements. Messages show it."""


def wait_until_ready(guest: Guest, timeout: float) -> None:
    """Wait until a guest answers through its channel.

    Args:
        guest: The guest.
        timeout: Seconds.

    Raises:
        GuestError: The guest ended, panicked, or did not answer within `timeout`. The message has the last console
            lines.
        AgentRefusedError: The guest's agent refuses to run commands. The message says what to change.
        AccessDeniedError: The guest rejects the login.
    """
    _wait(guest, timeout, "ready", guest.answers)


def wait_until_rebooted(guest: Guest, before: str, timeout: float) -> None:
    """Wait until a guest answers with a boot id other than `before`.

    Args:
        guest: The guest.
        before: The boot id before the reboot.
        timeout: Seconds.

    Raises:
        GuestError: The guest ended, panicked, or no new boot answered within `timeout`. The message has the last
            console lines.
    """

    def rebooted() -> bool:
        with contextlib.suppress(VpmemError):  # the channel may fail during the reboot
            return guest.answers(_REBOOTED_TIMEOUT) and current_boot_id(guest) != before
        return False

    _wait(guest, timeout, "rebooted", rebooted)


def current_boot_id(guest: Guest) -> str:
    """Return the id of the current boot, from the guest's kernel.

    Raises:
        GuestError: The guest does not answer.
        UnreadableOutputError: The answer is not a boot id.
    """
    return boot_id(guest.transport, timeout=DEFAULT_TIMEOUT)


def failure_text(guest: Guest, failure: str, panic: Panic | None = None) -> str:
    """Return a message about a guest that failed, with the end of its console's log and of QEMU's log.

    Args:
        guest: The guest.
        failure: What happened to the guest, as the rest of a sentence: ``did not shut down within 60 s``.
        panic: The panic on the console, which the message has instead of the console's end.
    """
    text = f"Guest {guest.name} on {guest.link.host} {failure}."
    with contextlib.suppress(LibvirtError):  # the console's path is in the XML of the domain, which may be gone
        if panic:
            console = f"at the panic:\n{panic.around}"
        else:
            console = f"ends with:\n{guest.console.tail() or '(it wrote nothing, or has no console log)'}"
        log = guest.host.run(["tail", "-n", "5", f"/var/log/libvirt/qemu/{guest.name}.log"])
        qemu = f"ends with:\n{log.text.strip() or '(nothing)'}"
        return f"{text}\nIts console {block(console)}\nQEMU's log {block(qemu)}"
    return text


def _wait(guest: Guest, timeout: float, wanted: str, done: Callable[[], bool]) -> None:
    """Wait until `done` is true. Raise at once if the guest ends or its kernel panics."""
    with libvirt_deadline(timeout) as deadline:
        next_console = time.monotonic() + _CONSOLE_EVERY
        console = guest.console
        start = console.size() if guest.boot_console_start is None else guest.boot_console_start
        for attempt in guest.attempts(wanted, deadline):
            if done():
                guest.boot_console_start = None
                return
            state, reason = guest.state_and_reason()
            attempt.state = f"it is {state}{reason}"
            if state not in ALIVE:
                raise GuestError(failure_text(guest, f"is {state}{reason} instead of {wanted}"))
            if time.monotonic() >= next_console:
                if panic := _panic(console, start):
                    raise GuestError(failure_text(guest, f"panicked instead of being {wanted}: {panic.line}", panic))
                next_console = time.monotonic() + _CONSOLE_EVERY
        if panic := _panic(console, start):
            found = f"panicked: {panic.line}"
        else:
            needed = _NEEDED.get(guest.channel, _NEEDED_BY_OTHERS)
            found = (
                f"is {''.join(guest.state_and_reason())} and does not answer. To answer through the channel "
                f"{guest.channel}, {needed}. If the guest is still booting, pass a longer timeout"
            )
        raise GuestError(failure_text(guest, f"was not {wanted} within {timeout:g} s: it {found}", panic))


def _panic(console: Console, start: int) -> Panic | None:
    """Return the panic on the console, or None. Wait until the kernel has also written the lines after the panic."""
    panic = None
    for _ in attempts("the kernel to report its panic", timeout=_PANIC_WRITTEN, interval=_PANIC_POLL):
        panic = console.panic(start, _PANIC_LINES)
        if panic is None or panic.whole:
            break
    return panic
