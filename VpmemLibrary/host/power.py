"""Cut a host's power and restore it, by commands that run on the controller."""

from __future__ import annotations

import time
from collections.abc import Mapping

from msgspec import Struct, field

from VpmemLibrary.errors import CommandError, CommandTimeoutError, UnreachableError, UnsupportedError
from VpmemLibrary.host.control import require_variables, run_control
from VpmemLibrary.host.reboot import boot_id, own_boot_id, wait_for_another_boot
from VpmemLibrary.polling import poll
from VpmemLibrary.record import hide_fields
from VpmemLibrary.transport.base import Transport

_POLL = 0.2
_ANSWER = 2.0


@hide_fields("off", "on")  # the arguments may contain a password
class PowerControl(Struct, frozen=True):
    """The commands that switch a host off and on from outside the host.

    Args:
        off: A command that returns after the power is cut, e.g. ``ipmitool -E ... chassis power off``.
        on: A command that restores the power.
        variables: The environment variables of the commands; see `control.passed_on`.
    """

    off: tuple[str, ...]
    on: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)


def cut_power(host: Transport, control: PowerControl, *, timeout: float) -> str:
    """Cut a host's power and wait until the host no longer answers.

    Args:
        host: The transport to the host. Its connection is closed.
        control: The commands that switch the host.
        timeout: Maximum seconds until the host stops answering.

    Returns:
        The id of the boot that ended.

    Raises:
        UnsupportedError: The host is the controller.
        InvalidValueError: An environment variable of the command is not set. Nothing was done.
        CommandError: The command failed, or it succeeded and the host still answers.
        UnreachableError: The host did not answer before the power cut.
    """
    require_variables(control.variables)
    before = boot_id(host)
    if before == own_boot_id():
        raise UnsupportedError("This host runs the tests. Its power was not cut, because the run would end.")
    started = time.monotonic()
    failure = "The host's power could not be cut"
    ordered = run_control(control.off, control.variables, timeout=timeout, failure=failure)
    poll(
        lambda: not _answers(host),
        f"{host.name} to lose its power",
        timeout=timeout - (time.monotonic() - started),
        interval=_POLL,
        failure=lambda _: CommandError(ordered, f"{host.name} still answers {timeout:g} s after the power cut"),
    )
    host.close()
    return before


def restore_power(host: Transport, control: PowerControl, before: str, *, timeout: float) -> float:
    """Restore a host's power and wait until the host answers from a new boot.

    Args:
        host: The transport to the host. It reconnects by itself.
        control: The commands that switch the host.
        before: The id of the boot that ended.
        timeout: Maximum seconds until the host answers.

    Returns:
        The seconds until the host answered.

    Raises:
        InvalidValueError: An environment variable of the command is not set.
        CommandError: The command failed.
        UnreachableError: The host did not answer from a new boot within `timeout`.
    """
    started = time.monotonic()
    run_control(control.on, control.variables, timeout=timeout, failure="The host's power could not be restored")
    wait_for_another_boot(host, before, timeout=timeout - (time.monotonic() - started), after="power was restored")
    return time.monotonic() - started


def _answers(host: Transport) -> bool:
    try:
        boot_id(host, timeout=_ANSWER)
    except CommandTimeoutError:
        host.close()  # a machine that lost its power leaves a connection that never answers
        return False
    except UnreachableError:
        return False
    return True
