"""Cutting a host's power and giving it back, by commands of the machine that the tests run on."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from VpmemLibrary.errors import CommandError, CommandTimeoutError, UnreachableError, UnsupportedError
from VpmemLibrary.host.control import require_variables, run_control
from VpmemLibrary.host.reboot import boot_id, own_boot_id, wait_for_another_boot
from VpmemLibrary.transport.base import Transport

_POLL = 0.2
_ANSWER = 2.0


@dataclass(frozen=True, slots=True)
class PowerControl:
    """What switches a host off and on, without asking the host.

    Args:
        off: A command that cuts its power and returns when it is cut, e.g. ``ipmitool -E ... chassis power off``.
        on: A command that gives it power again.
        variables: For each environment variable that the commands get the variable that has the value.
    """

    off: tuple[str, ...] = field(repr=False)  # a password may be among the arguments
    on: tuple[str, ...] = field(repr=False)
    variables: Mapping[str, str] = field(default_factory=dict)


def cut_power(host: Transport, control: PowerControl, *, timeout: float) -> str:
    """Cut a host's power and wait until it does not answer any more.

    Args:
        host: The way to the host; its connection is ended.
        control: What cuts the power.
        timeout: Seconds until the host must be gone.

    Returns:
        The id of the boot that ended.

    Raises:
        UnsupportedError: It is the machine that this process runs on.
        InvalidValueError: An environment variable that the command gets is not set; nothing was done.
        CommandError: The command failed, or succeeded and the host answers all the same.
        UnreachableError: The host did not answer before.
    """
    require_variables(control.variables)
    before = boot_id(host)
    if before == own_boot_id():
        raise UnsupportedError("The power of the machine that the tests run on is not cut: the run would end with it.")
    deadline = time.monotonic() + timeout
    failure = "The host's power could not be cut"
    ordered = run_control(control.off, control.variables, timeout=timeout, failure=failure)
    while _answers(host):
        if time.monotonic() > deadline:
            raise CommandError(ordered, f"{host.name} still answers, {timeout:g} s after its power should be cut")
        time.sleep(_POLL)
    host.close()
    return before


def restore_power(host: Transport, control: PowerControl, before: str, *, timeout: float) -> float:
    """Give a host its power again and wait until it answers from another boot.

    Args:
        host: The way to the host; it connects anew by itself.
        control: What gives it power.
        before: The id of the boot that ended.
        timeout: Seconds until it must answer.

    Returns:
        How many seconds it took.

    Raises:
        InvalidValueError: An environment variable that the command gets is not set.
        CommandError: The command failed.
        UnreachableError: It did not answer from another boot in time.
    """
    started = time.monotonic()
    run_control(control.on, control.variables, timeout=timeout, failure="The host was not given power")
    wait_for_another_boot(host, before, timeout=timeout - (time.monotonic() - started), after="power was restored")
    return time.monotonic() - started


def _answers(host: Transport) -> bool:
    try:
        boot_id(host, timeout=_ANSWER)
    except CommandTimeoutError:
        host.close()  # a machine that went without a word leaves a connection that never answers
        return False
    except UnreachableError:
        return False
    return True
