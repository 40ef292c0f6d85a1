"""Find out the kind of the target at a path on a machine. Build the commands that read and write its bytes."""

from __future__ import annotations

import math
from enum import StrEnum

from msgspec import Struct

from VpmemLibrary.errors import InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.pmem.dax.test_bus import ON_TEST_BUS, mapping_refused
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import Transport, query

_LARGEST_CHUNK = 1 << 20

# The kind is checked first, because daxio creates a regular file if the path does not exist.
_SCRIPT = (
    ON_TEST_BUS
    + r"""
if [ -b "$1" ]; then
    echo "block $(blockdev --getsize64 "$1")"
elif [ -c "$1" ]; then
    number=$(stat -L -c '%t:%T' "$1")
    sys=/sys/dev/char/$((0x${number%:*})):$((0x${number#*:}))
    if [ "$sys/subsystem" -ef /sys/bus/dax ]; then
        size=
        read -r size <"$sys/size"
        if on_test_bus "$sys"; then echo "test-bus 0"; else echo "devdax $size"; fi
    else
        echo "character 0"
    fi
elif [ -f "$1" ]; then
    echo "file $(stat -L -c %s "$1")"
elif [ -e "$1" ]; then
    echo "other 0"
else
    echo "absent 0"
fi
"""
)


class TargetKind(StrEnum):
    """The kind of a path that holds bytes."""

    block = "block"
    devdax = "devdax"
    file = "file"


# The shell's test for each kind, and the command that prints the size of such a target.
_NOW = {
    TargetKind.block: ("-b", 'blockdev --getsize64 "$1"'),
    TargetKind.devdax: ("-c", """cat "/sys/dev/char/$(printf '%d:%d' $(stat -L -c '0x%t 0x%T' "$1"))/size\""""),
    TargetKind.file: ("-f", 'stat -L -c %s "$1"'),
}


class Target(Struct, frozen=True):
    """A block device, a device-DAX node or a file on a machine.

    Args:
        path: The path of the target.
        kind: The kind of the target.
        size: The size in bytes.
    """

    path: str
    kind: TargetKind
    size: Size

    def check_range(self, offset: int, length: int) -> None:
        """Raise unless the range is within the target.

        Raises:
            InvalidValueError: The range is empty or reaches outside the target.
        """
        if offset < 0:
            raise InvalidValueError("offset", offset, "0 or more")
        if length <= 0 or offset + length > self.size:
            raise InvalidValueError(
                "range",
                f"{Size(max(length, 0))} from {Size(offset)}",
                f"at least one byte, within the {self.size} ({int(self.size)} bytes) of {self.path}",
            )

    @property
    def condition(self) -> str:
        """Shell text that exits unless ``$1`` still has this kind and size."""
        test, size = _NOW[self.kind]
        seen = f"{self.kind} of {int(self.size)} bytes"
        return (
            f'[ {test} "$1" ] && [ "$({size})" = {int(self.size)} ] || '
            f'{{ echo "$1 is no longer a {seen}" >&2; exit 1; }}\n'
        )

    def reader(self, offset: int, length: int) -> tuple[str, ...]:
        """Return the command that prints a range. It reports on stderr how many bytes it copied."""
        if self.kind is TargetKind.devdax:
            return ("daxio", "-i", self.path, "-k", str(int(offset)), "-l", str(int(length)))
        flags = "skip_bytes,count_bytes,fullblock" + (",direct" if self.kind is TargetKind.block else "")
        place = (f"bs={chunk_of(length)}", f"skip={int(offset)}", f"count={int(length)}")
        return ("dd", f"if={self.path}", *place, f"iflag={flags}")

    def writer(self, offset: int, length: int) -> tuple[str, ...]:
        """Return the command that writes its standard input to a range and flushes it. It reports as `reader` does."""
        if self.kind is TargetKind.devdax:
            return ("daxio", "-o", self.path, "-s", str(int(offset)), "-l", str(int(length)))
        return ("dd", "iflag=fullblock", *self._output(offset, length))

    def zeroer(self, offset: int, length: int) -> tuple[str, ...]:
        """Return the command that writes zeros to a range and flushes it. It reports as `reader` does.

        The command uses no pipe, because a pipe takes more time than the write.
        """
        if self.kind is TargetKind.devdax:
            return ("daxio", "-z", "-o", self.path, "-s", str(int(offset)), "-l", str(int(length)))
        return ("dd", "if=/dev/zero", f"count={int(length) // chunk_of(length)}", *self._output(offset, length))

    def _output(self, offset: int, length: int) -> tuple[str, ...]:
        flags = "seek_bytes" + (",direct" if self.kind is TargetKind.block else "")
        place = (f"of={self.path}", f"bs={chunk_of(length)}", f"seek={int(offset)}")
        return (*place, f"oflag={flags}", "conv=notrunc,fsync")


def chunk_of(length: int) -> int:
    """Return the largest record size that divides a length, at most 1 MiB.

    So dd copies only whole records, and their number shows how much dd copied. busybox may print nothing else.
    """
    return math.gcd(int(length), _LARGEST_CHUNK)


def inspect_path(transport: Transport, path: str) -> Target:
    """Return the target at an absolute path on a machine.

    Raises:
        InvalidValueError: The path is not absolute, or does not exist.
        UnsupportedError: The path is neither a block device, a device-DAX node nor a file, or it is device DAX of a
            test bus.
    """
    if not path.startswith("/"):
        raise InvalidValueError("path", path, "an absolute path, e.g. /dev/pmem0")
    result = transport.run(query(_SCRIPT, path)).check()
    kind, _, size = result.text.strip().partition(" ")
    if kind == "absent":
        raise InvalidValueError("path", path, f"a path that exists on {transport.name}")
    if kind == "test-bus":
        raise mapping_refused(path, transport.name)
    if kind not in list(TargetKind):
        raise UnsupportedError(f"{path} on {transport.name} is neither a block device, a device-DAX node nor a file.")
    if not size.isdigit():
        raise UnreadableOutputError(result, f"The host did not report the size of {path}")
    return Target(path, TargetKind(kind), Size(int(size)))
