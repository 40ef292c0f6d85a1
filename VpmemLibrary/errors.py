"""The errors of this library.

Each message says what was wrong, shows the value, and says what is valid or what to do next. Robot Framework shows only
the message of a `VpmemError` (`ROBOT_SUPPRESS_NAME`), so the message must be complete without the name of the class.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from VpmemLibrary.visible import block, message, one_line

if TYPE_CHECKING:
    from VpmemLibrary.transport.base import CommandResult

_OPERATION_TIMEOUT = 68  # VIR_ERR_OPERATION_TIMEOUT


class VpmemError(Exception):
    """Base of every error that this library raises on purpose.

    The message shows control characters as numbers. Robot Framework never reads the message as HTML, even if parts of
    the message come from a host or a guest.

    Args:
        text: The message.
    """

    ROBOT_SUPPRESS_NAME = True

    def __init__(self, text: str = "") -> None:
        super().__init__(message(text))

    def add(self, more: str) -> None:
        """Add a line to the message: a fact that was found after the failure."""
        self.args = (message(f"{self}\n{more}"), *self.args[1:])


class InvalidValueError(VpmemError, ValueError):
    """An argument is invalid. Nothing was changed.

    Args:
        what: The name of the argument or setting, as the user knows it.
        value: The invalid value.
        valid: What would be valid, with an example.

    Example: ``InvalidValueError("size", "100M", "a multiple of 16MiB: 96MiB or 112MiB")``.
    """

    def __init__(self, what: str, value: object, valid: str) -> None:
        self.what = what
        self.value = value
        self.valid = valid
        super().__init__(f"{what} {value!r} cannot be used: expected {valid}.")


class NotFoundError(VpmemError, LookupError):
    """A namespace, region, host alias or guest of this name does not exist. The message lists the names that exist.

    Args:
        what: The kind of thing, e.g. ``namespace``.
        name: The name that was searched for.
        there: The names that exist.
        where: The host that was searched; empty if no host is involved.
    """

    def __init__(self, what: str, name: str, there: list[str], where: str = "") -> None:
        self.what = what
        self.name = name
        self.there = there
        place = f" on {where}" if where else ""
        known = f"There are: {', '.join(map(one_line, there))}." if there else "There is none."
        alike = difflib.get_close_matches(name, there, n=1, cutoff=0.8)
        meant = f" Did you mean {one_line(alike[0])}?" if alike else ""
        super().__init__(f"No {what} {name!r}{place}. {known}{meant}")


class GoneError(NotFoundError):
    """A thing that was listed before no longer exists. Nothing was changed.

    Args:
        called: The thing, e.g. ``Namespace mine (namespace0.1)``.
        where: Its host.
    """

    def __init__(self, called: str, where: str) -> None:
        super().__init__("thing", called, [], where)
        self.args = (
            message(
                f"{called} is no longer on {where}, so nothing was changed. List the namespaces and devices again."
            ),
        )


class AmbiguousError(VpmemError, LookupError):
    """A name matches more than one thing. The library does not guess which thing is meant."""


class UnreachableError(VpmemError, ConnectionError):
    """A host cannot be reached, or its connection broke."""


class HostKeyError(UnreachableError):
    """The host's key is unknown, revoked or changed. The connection was refused."""


class AccessDeniedError(UnreachableError):
    """The host answered and refused the credentials."""


class LoginShellError(UnreachableError):
    """The host accepts the user, but the user's login shell runs no commands, or loses their output.

    Args:
        text: The message.
        exit_status: The exit status of the login shell; None if the login shell may still run.
    """

    def __init__(self, text: str, exit_status: int | None = None) -> None:
        self.exit_status = exit_status
        super().__init__(text)


class ControllerError(VpmemError):
    """The controller (this machine) has no process, thread, descriptor or memory left. Nothing was sent to a host."""


class CommandError(VpmemError):
    """A tool failed. The message has the command, the exit status and stderr.

    Args:
        result: The result of the command.
        meaning: What the exit status means and how to fix the cause, if known.
    """

    def __init__(self, result: CommandResult, meaning: str = "") -> None:
        self.result = result
        self.meaning = meaning
        super().__init__(result.describe(meaning))


class CommandTimeoutError(CommandError):
    """A command did not end within its timeout. The message says whether the command may still run."""


class OutputTooLargeError(CommandError):
    """A command printed more bytes than the library keeps. The message says whether the command may still run."""


class ToolMissingError(CommandError):
    """The command's program is not installed on the host."""


class UnreadableOutputError(CommandError):
    """A tool exited 0, but its output does not have the documented format."""


class OutOfSpaceError(VpmemError):
    """There is not enough space. The message says how much space there is. Nothing was changed."""


class NoSpaceError(CommandError, OutOfSpaceError):
    """A tool reported that there is not enough space."""


class BusyError(VpmemError):
    """The device is in use. The message names its user. Nothing was changed."""


class DeviceBusyError(CommandError, BusyError):
    """A tool reported that the device is in use."""


class ForeignError(VpmemError):
    """This run did not create the thing that it should change or destroy, and `foreign=True` was not given."""


class LeaseLostError(VpmemError):
    """A worker lost a lease. Its connection broke, and another worker may have acquired the lease since then."""


class UnsupportedError(VpmemError):
    """The host, its tools or the device do not support the request."""


class GuestError(VpmemError):
    """A guest failed to do what was requested: for example to start, to answer or to stop."""


class AgentRefusedError(GuestError, UnsupportedError):
    """A guest's agent answered and refused a command: the command is not allowed, not possible, or unknown."""


class LibvirtError(VpmemError):
    """Libvirt refused a request. The error has libvirt's error code and text.

    Args:
        action: The action that failed, e.g. ``define guest 'a'``.
        code: The ``VIR_ERR_*`` number. Match on this number, because the texts differ between versions.
        text: Libvirt's own text.
    """

    def __init__(self, action: str, code: int, text: str) -> None:
        self.action = action
        self.code = code
        self.text = text
        super().__init__(f"libvirt could not {action}: {block(text)} (libvirt error code {code}).")


class LibvirtTimeoutError(LibvirtError):
    """Libvirt did not answer in time.

    Args:
        action: The action that failed, e.g. ``define guest 'a'``.
        host: The host on which libvirt runs.
        seconds: How many seconds the library waited.
        aborted: Whether libvirt aborted the job on request. If not, the connection to libvirt was cut.
    """

    def __init__(self, action: str, host: str, seconds: float, *, aborted: bool = False) -> None:
        self.host = host
        self.seconds = seconds
        super().__init__(action, _OPERATION_TIMEOUT, f"it did not end within {seconds:g} s on {host}")
        self.add(
            "The job was aborted."
            if aborted
            else "The call was abandoned, so it may still take effect later. The next call connects to libvirt again. "
            f"Run `systemctl status libvirtd virtqemud` on {host}. Find out whether QEMU or libvirt hangs (state D or "
            "T): `ps -eo pid,stat,wchan:32,args | grep -E 'libvirtd|qemu'`."
        )


class ViewsDisagreeError(VpmemError, AssertionError):
    """The views of one device differ. The message is a table of the views."""


class ContentDiffersError(VpmemError, AssertionError):
    """The bytes of a device or file are not the expected bytes. The message says where and how many bytes differ."""


class DamagedError(VpmemError, AssertionError):
    """Metadata on the media is broken. The message says what is wrong with the metadata."""


class LabError(VpmemError):
    """The built-in lab failed to do what was requested."""


class CloudError(VpmemError):
    """A cloud refused a request, or did not answer."""


class CloudForbiddenError(CloudError):
    """The policy of a cloud forbids a request to the user, or the cloud does not offer the service to the user."""


class CloudUnavailableError(CloudError):
    """A service of a cloud did not answer, or answered with an error of its own. A later request may succeed."""
