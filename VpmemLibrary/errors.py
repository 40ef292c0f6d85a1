"""The errors of this library: each says what was wrong, the value, and what would be valid or what to do next.

Robot Framework shows only the message of a `VpmemError` (`ROBOT_SUPPRESS_NAME`), so a message must stand alone.
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

    Its message shows control characters as numbers and is never taken for HTML, wherever its parts are from.

    Args:
        text: The message.
    """

    ROBOT_SUPPRESS_NAME = True

    def __init__(self, text: str = "") -> None:
        super().__init__(message(text))

    def add(self, more: str) -> None:
        """Add a line to the message: what was found out after the failure."""
        self.args = (message(f"{self}\n{more}"), *self.args[1:])


class InvalidValueError(VpmemError, ValueError):
    """An argument that cannot be used; nothing was changed.

    Args:
        what: The name of the argument or setting, as the user knows it.
        value: What was given.
        valid: What would be valid, with an example.

    Example: ``InvalidValueError("size", "100M", "a multiple of 16MiB: 96MiB or 112MiB")``.
    """

    def __init__(self, what: str, value: object, valid: str) -> None:
        self.what = what
        self.value = value
        self.valid = valid
        super().__init__(f"{what} {value!r} cannot be used: expected {valid}.")


class NotFoundError(VpmemError, LookupError):
    """A named thing (namespace, region, host alias, guest) is not there; says what is.

    Args:
        what: The kind of thing, e.g. ``namespace``.
        name: The name that was asked for.
        there: The names that exist.
    """

    def __init__(self, what: str, name: str, there: list[str], where: str = "") -> None:
        self.what = what
        self.name = name
        self.there = there
        place = f" on {where}" if where else ""
        known = f"There are: {', '.join(map(one_line, there))}." if there else "There is none."
        alike = difflib.get_close_matches(name, there, n=1, cutoff=0.8)
        meant = f" Is {one_line(alike[0])} meant?" if alike else ""
        super().__init__(f"No {what} {name!r}{place}. {known}{meant}")


class GoneError(NotFoundError):
    """A thing that was listed is no longer there; nothing was changed.

    Args:
        called: The thing, e.g. ``Namespace mine (namespace0.1)``.
        where: Its host.
    """

    def __init__(self, called: str, where: str) -> None:
        super().__init__("thing", called, [], where)
        self.args = (message(f"{called} is no longer on {where}, so nothing was changed. List again what is there."),)


class AmbiguousError(VpmemError, LookupError):
    """A name stands for more than one thing, and picking one would be a guess."""


class UnreachableError(VpmemError, ConnectionError):
    """A host cannot be reached, or its connection broke."""


class HostKeyError(UnreachableError):
    """The host's key is unknown, revoked or has changed; the connection was refused."""


class AccessDeniedError(UnreachableError):
    """The host answered and refused the credentials."""


class LoginShellError(UnreachableError):
    """The host lets the user in, but the user's login shell runs no commands, or loses their output.

    Args:
        text: The message.
        exit_status: The exit status of the login shell; None if it was not seen to end.
    """

    def __init__(self, text: str, exit_status: int | None = None) -> None:
        self.exit_status = exit_status
        super().__init__(text)


class ControllerError(VpmemError):
    """This machine, the controller, has no process, thread, descriptor or memory left; nothing was asked of a host."""


class CommandError(VpmemError):
    """A tool failed: the message carries the command, the exit status and stderr.

    Args:
        result: What the command left.
        meaning: What the status means, and the mend, where known.
    """

    def __init__(self, result: CommandResult, meaning: str = "") -> None:
        self.result = result
        self.meaning = meaning
        super().__init__(result.describe(meaning))


class CommandTimeoutError(CommandError):
    """A command did not end within its timeout. The message says whether it was seen to end then."""


class OutputTooLargeError(CommandError):
    """A command printed more than is kept. The message says whether it was seen to end then."""


class ToolMissingError(CommandError):
    """The command's program is not installed on the host."""


class UnreadableOutputError(CommandError):
    """A tool exited 0 but printed what cannot be read as its documented output."""


class OutOfSpaceError(VpmemError):
    """There is no room for what was asked; the message says how much there is. Nothing was changed."""


class NoSpaceError(CommandError, OutOfSpaceError):
    """A tool found no room for what was asked."""


class BusyError(VpmemError):
    """The device is in use; the message says by whom. Nothing was changed."""


class DeviceBusyError(CommandError, BusyError):
    """A tool found the device in use."""


class ForeignError(VpmemError):
    """This run did not make the thing that was to be changed or destroyed, and was not told to do so all the same."""


class LeaseLostError(VpmemError):
    """A worker lost a lease: its connection broke, and another worker may have had the lease since."""


class UnsupportedError(VpmemError):
    """The host, its tools or the device cannot do this."""


class GuestError(VpmemError):
    """A guest did not do what it was asked to: did not start, answer, stop."""


class AgentRefusedError(GuestError, UnsupportedError):
    """A guest's agent answered and refused a command: it does not allow it, cannot do it, or has not got it."""


class LibvirtError(VpmemError):
    """Libvirt refused; carries libvirt's error code, domain and text.

    Args:
        action: What was being done, e.g. ``define guest 'a'``.
        code: The ``VIR_ERR_*`` number (texts vary by version: match on this).
        text: What libvirt said.
    """

    def __init__(self, action: str, code: int, text: str) -> None:
        self.action = action
        self.code = code
        self.text = text
        super().__init__(f"libvirt could not {action}: {block(text)} (libvirt error code {code}).")


class LibvirtTimeoutError(LibvirtError):
    """Libvirt did not answer in time.

    Args:
        action: What was being done, e.g. ``define guest 'a'``.
        host: The host whose libvirt it is.
        seconds: How long it was waited for.
        aborted: Whether libvirt ended the job when it was asked to; else the connection was cut.
    """

    def __init__(self, action: str, host: str, seconds: float, *, aborted: bool = False) -> None:
        self.host = host
        self.seconds = seconds
        super().__init__(action, _OPERATION_TIMEOUT, f"it did not end within {seconds:g} s on {host}")
        self.add(
            "The job was aborted."
            if aborted
            else "The call was abandoned and the connection to libvirt was cut; the next call connects again. Whether "
            f"the call takes effect later is not known. Look on {host} at `systemctl status libvirtd virtqemud`, and "
            "whether QEMU or libvirt hangs (state D or T): `ps -eo pid,stat,wchan:32,args | grep -E 'libvirtd|qemu'`."
        )


class ViewsDisagreeError(VpmemError, AssertionError):
    """The views of one device differ; the message is a table of them."""


class ContentDiffersError(VpmemError, AssertionError):
    """The bytes of a device or file are not the expected ones; the message says where and how many."""


class DamagedError(VpmemError, AssertionError):
    """Metadata on the media is broken; the message says what is wrong with it."""


class LabError(VpmemError):
    """The built-in lab could not do what it was asked."""
