"""What ndctl's exit statuses mean.

ndctl exits with its negative errno cut to eight bits: 240 is -EBUSY. Its texts differ by version; the statuses do not.
"""

from __future__ import annotations

import errno

from VpmemLibrary.errors import CommandError, DeviceBusyError, NoSpaceError, ToolMissingError
from VpmemLibrary.host.transport import CommandResult

BAD_OPTION = 129
TOOL_MISSING = 127


def status_of(number: int) -> int:
    """Return the exit status that ndctl gives for an errno.

    Example: ``status_of(errno.EBUSY) == 240``.
    """
    return -number & 0xFF


NO_DEVICE = status_of(errno.ENODEV)
"""ndctl's word for a device that is not there, and as well for a region without room."""

_MEANINGS = {
    status_of(errno.EINVAL): "ndctl or the kernel does not take these values (EINVAL)",
    status_of(errno.ENXIO): "the device does not answer or cannot do this (ENXIO)",
    NO_DEVICE: "no such device, or no device that can do this (ENODEV)",
    status_of(errno.EACCES): "ndctl may not do this: it needs root (EACCES)",
    status_of(errno.EPERM): "ndctl may not do this: it needs root (EPERM)",
    status_of(errno.EOPNOTSUPP): "the device does not support this (EOPNOTSUPP)",
    BAD_OPTION: "this version of ndctl does not know one of the options",
}


def checked(result: CommandResult, action: str) -> CommandResult:
    """Return the result of an ndctl command that worked, or raise what its exit status means.

    Args:
        result: What ndctl left.
        action: What was being done, e.g. ``create a namespace in region0``.

    Raises:
        ToolMissingError: ndctl is not installed.
        DeviceBusyError: The device is in use.
        NoSpaceError: There is no room.
        CommandError: It failed in another way.
    """
    status = result.exit_status
    if status == 0:
        return result
    if status == TOOL_MISSING:
        tool = "ndctl" if result.argv[0] == "sh" else result.argv[0]  # an act of acts.sh
        raise ToolMissingError(result, f"Could not {action}: {tool} is not installed, or not on the PATH")
    if status == status_of(errno.EBUSY):
        raise DeviceBusyError(result, f"Could not {action}: it is in use (EBUSY)")
    if status == status_of(errno.ENOSPC):
        raise NoSpaceError(result, f"Could not {action}: there is no room (ENOSPC)")
    meaning = _MEANINGS.get(status)
    raise CommandError(result, f"Could not {action}" + (f": {meaning}" if meaning else ""))
