"""All bytes of a namespace, its info blocks and tables included: what its mode hides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError
from VpmemLibrary.host.ndctl import Ndctl, locked
from VpmemLibrary.host.ndctl_errors import checked
from VpmemLibrary.host.transport import Transport
from VpmemLibrary.model import Namespace
from VpmemLibrary.sizes import MiB, Size

_LARGEST_READ = MiB

# force_raw keeps the kernel from looking for an info block (drivers/nvdimm/claim.c), as ndctl's own check does it.
_OPEN = r"""
sys=/sys/bus/nd/devices/$1
echo 1 > "$sys/force_raw" && ndctl enable-namespace "$1" >&2 && ls "$sys/block"
"""
_CLOSE = r"""
ndctl disable-namespace "$1"
status=$?
echo 0 > "/sys/bus/nd/devices/$1/force_raw" && exit "$status"
"""


class RawBytes:
    """The bytes of a namespace from its first to its last.

    Args:
        transport: The way to the machine.
        path: The block device that they are.
        size: How many there are.
    """

    def __init__(self, transport: Transport, path: str, size: Size) -> None:
        self._transport = transport
        self.path = path
        self.size = size

    def read(self, offset: int, length: int) -> bytes:
        """Return a few bytes.

        Raises:
            InvalidValueError: The range lies outside, or is more than 1 MiB.
            CommandError: dd failed.
        """
        self._check_range(offset, length)
        copy = ["dd", f"if={self.path}", "bs=4096", f"skip={int(offset)}", f"count={int(length)}", "status=none"]
        result = self._transport.run([*copy, "iflag=skip_bytes,count_bytes"]).check()
        if len(result.stdout) != length:
            raise UnreadableOutputError(result, f"{length} bytes should have been read, not {len(result.stdout)}")
        return result.stdout

    def write(self, offset: int, data: bytes) -> None:
        """Write a few bytes and flush them.

        Raises:
            InvalidValueError: The range lies outside, or is more than 1 MiB.
            CommandError: dd failed.
        """
        self._check_range(offset, len(data))
        copy = ["dd", f"of={self.path}", "bs=4096", f"seek={int(offset)}", "oflag=seek_bytes", "status=none"]
        self._transport.run([*copy, "iflag=fullblock", "conv=notrunc,fsync"], stdin=data).check()

    def _check_range(self, offset: int, length: int) -> None:
        if offset < 0 or not 0 < length <= _LARGEST_READ or offset + length > self.size:
            raise InvalidValueError(
                "range",
                f"{length} bytes from {offset}",
                f"1 byte to {Size(_LARGEST_READ)}, within the {self.size} of {self.path}",
            )


@contextmanager
def raw_access(ndctl: Ndctl, namespace: Namespace) -> Iterator[RawBytes]:
    """Have all bytes of a disabled namespace at hand for a while; it is disabled again afterwards.

    Args:
        ndctl: The machine's ndctl.
        namespace: The namespace, as a fresh listing has it.

    Raises:
        InvalidValueError: It is active.
        CommandError: It could not be opened or closed.
    """
    if namespace.active:
        raise InvalidValueError("namespace", namespace.called, "a disabled one")
    opened = ndctl.run(locked(namespace.region, "sh", "-c", _OPEN, "sh", namespace.dev))
    try:
        block = checked(opened, f"open all bytes of {namespace.called}").text.strip()
        yield RawBytes(ndctl.transport, f"/dev/{block}", namespace.size)
    finally:
        closed = ndctl.run(locked(namespace.region, "sh", "-c", _CLOSE, "sh", namespace.dev))
    checked(closed, f"disable {namespace.called} again")
