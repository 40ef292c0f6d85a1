"""Access all bytes of a namespace, including the info blocks and tables that its mode hides."""

from __future__ import annotations

from VpmemLibrary.errors import (
    BusyError,
    InvalidValueError,
    LeaseLostError,
    NotFoundError,
    UnreadableOutputError,
    VpmemError,
)
from VpmemLibrary.pmem.guard import NAMESPACE, act, namespace_target
from VpmemLibrary.pmem.ndctl import Ndctl
from VpmemLibrary.pmem.ndctl_errors import checked
from VpmemLibrary.pmem.records import Namespace
from VpmemLibrary.sizes import MiB, Size
from VpmemLibrary.transport.base import CommandResult

_LARGEST = MiB


class RawBytes:
    """Read and write all bytes of a disabled namespace.

    Each act enables the namespace without its info block and disables it again.

    Args:
        ndctl: The machine's ndctl.
        namespace: The namespace's record from a fresh listing.

    Raises:
        InvalidValueError: The namespace is active.
    """

    def __init__(self, ndctl: Ndctl, namespace: Namespace) -> None:
        if namespace.active:
            raise InvalidValueError("namespace", namespace.called, "a disabled namespace")
        self._ndctl = ndctl
        self._namespace = namespace

    def read(self, offset: int, length: int) -> bytes:
        """Return up to 1 MiB of the namespace.

        Raises:
            InvalidValueError: The range is outside the namespace, or is more than 1 MiB.
            NotFoundError: The namespace no longer exists.
            BusyError: The namespace has become active.
            CommandError: A tool failed.
        """
        self._check_range(offset, length)
        result = self._act("read", offset, length)
        if len(result.stdout) != length:
            raise UnreadableOutputError(result, f"{len(result.stdout)} bytes were read instead of {length}")
        return result.stdout

    def write(self, offset: int, data: bytes) -> None:
        """Write up to 1 MiB to the namespace and flush the bytes.

        Raises:
            InvalidValueError: The range is outside the namespace, or is more than 1 MiB.
            NotFoundError: The namespace no longer exists. Nothing was changed.
            BusyError: The namespace has become active. Nothing was changed.
            CommandError: A tool failed.
        """
        self._check_range(offset, len(data))
        self._act("write", offset, stdin=data)

    def _act(self, verb: str, *numbers: int, stdin: bytes = b"") -> CommandResult:
        target = namespace_target(self._namespace)
        command = act(verb, NAMESPACE, *(str(int(number)) for number in numbers))
        try:
            result = self._ndctl.change(command, target, must_be_unused=True, stdin=stdin)
        except (BusyError, LeaseLostError, NotFoundError):  # the act did not start
            raise
        except BaseException as error:
            self._close(error)
            raise
        return checked(result, f"{verb} raw bytes of {self._namespace.called}")

    def _close(self, error: BaseException) -> None:
        """Clean up after an act that could not clean up itself: the act was killed, or its end is unknown."""
        try:
            closed = self._ndctl.change(act("close", NAMESPACE), namespace_target(self._namespace))
            checked(closed, f"disable {self._namespace.called} again")
        except VpmemError as failure:
            more = f"The namespace may still be enabled without its mode (force_raw): {failure}"
            if isinstance(error, VpmemError):
                error.add(more)
            else:
                error.add_note(more)

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or not 0 < length <= _LARGEST or offset + length > self._namespace.size:
            raise InvalidValueError(
                "range",
                f"{length} bytes from {offset}",
                f"1 byte to {Size(_LARGEST)}, within the {self._namespace.size} of {self._namespace.called}",
            )
