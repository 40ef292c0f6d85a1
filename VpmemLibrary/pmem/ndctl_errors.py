"""Interpret ndctl's exit statuses.

ndctl exits with its negative errno, cut to eight bits: 240 is -EBUSY. The error texts of ndctl differ between versions.
The exit statuses do not differ.
"""

from __future__ import annotations

import errno

from VpmemLibrary.errors import CommandError, DeviceBusyError, NoSpaceError, ToolMissingError
from VpmemLibrary.transport.base import CommandResult

BAD_OPTION = 129
NOT_EXECUTABLE = 126
TOOL_MISSING = 127


def status_of(number: int) -> int:
    """Return the exit status that ndctl gives for an errno.

    Example: ``status_of(errno.EBUSY) == 240``.
    """
    return -number & 0xFF


NO_DEVICE = status_of(errno.ENODEV)
"""ndctl's exit status for a device that does not exist. ndctl also uses this status for a region without room."""

NO_ROOM = tuple(map(status_of, (errno.EAGAIN, errno.ENOSPC)))
"""ndctl's exit statuses for a create in a full or fragmented region. Versions 62 to 70 exit with EAGAIN."""

_ERRNO_OF = {
    "Device or resource busy": errno.EBUSY,
    "Invalid argument": errno.EINVAL,
    "No space left on device": errno.ENOSPC,
    "No such device": errno.ENODEV,
    "No such device or address": errno.ENXIO,
    "Operation not permitted": errno.EPERM,
    "Operation not supported": errno.EOPNOTSUPP,
    "Permission denied": errno.EACCES,
    "Resource temporarily unavailable": errno.EAGAIN,
}

_MEANINGS = {
    status_of(errno.EINVAL): "ndctl or the kernel does not accept these values (EINVAL)",
    status_of(errno.ENXIO): "the device does not answer, or does not support this (ENXIO)",
    NO_DEVICE: "there is no such device, or no device that supports this (ENODEV)",
    status_of(errno.EACCES): "ndctl needs root for this (EACCES)",
    status_of(errno.EPERM): "ndctl needs root for this (EPERM)",
    status_of(errno.EOPNOTSUPP): "the device does not support this (EOPNOTSUPP)",
    status_of(errno.EAGAIN): "there is no room now, or the device is not ready (EAGAIN)",
    status_of(errno.ENOTTY): "the device has no such command (ENOTTY)",
    status_of(errno.EIO): "the device failed: see the host's kernel log (EIO)",
    status_of(errno.ENOMEM): "the host has no free memory (ENOMEM)",
    status_of(errno.ETIMEDOUT): "the device did not answer in time (ETIMEDOUT)",
    NOT_EXECUTABLE: "the program cannot be run by this user",
    BAD_OPTION: "this version of ndctl does not know one of the options",
}


def meant_status(result: CommandResult) -> int:
    """Return the exit status of an ndctl command. Derive the status from stderr if the command exited with 1.

    Some commands of some versions exit with 1 for every failure. Then stderr ends with the C library's text for the
    errno. Commands run with ``LC_ALL=C``, so this text is English.
    """
    if result.exit_status != 1:
        return result.exit_status
    for line in reversed(result.error_text.splitlines()):
        words = line.rpartition(":")[2].strip()
        if words in _ERRNO_OF:
            return status_of(_ERRNO_OF[words])
    return 1


def checked(result: CommandResult, action: str) -> CommandResult:
    """Return the result of a successful ndctl command. Raise the error that matches the exit status otherwise.

    Args:
        result: The result of the ndctl command.
        action: The action for the message, e.g. ``create a namespace in region0``.

    Raises:
        ToolMissingError: ndctl is not installed.
        DeviceBusyError: The device is in use.
        NoSpaceError: There is no room.
        CommandError: The command failed for another reason.
    """
    status = meant_status(result)
    if status == 0:
        return result
    if status == TOOL_MISSING:
        tool = "ndctl" if result.argv[0] == "sh" else result.argv[0]  # the command is an act of acts.sh
        raise ToolMissingError(result, f"Could not {action}: {tool} is not installed, or not on the PATH")
    if status == status_of(errno.EBUSY):
        raise DeviceBusyError(result, f"Could not {action}: the device is in use (EBUSY)")
    if status == status_of(errno.ENOSPC):
        raise NoSpaceError(result, f"Could not {action}: there is no room (ENOSPC)")
    meaning = _MEANINGS.get(status)
    raise CommandError(result, f"Could not {action}" + (f": {meaning}" if meaning else ""))
