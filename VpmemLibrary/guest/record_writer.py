"""A writer inside a guest: it stores one record after the other, and tells of each once it is flushed.

It tells on the guest's serial console, whose log on the host outlives the guest. A line there costs a guest under
emulation more than a record does, so it is short.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field

from VpmemLibrary.content.records import RECORD, RecordStream, RecordVerdict
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.content.target import TargetKind, look_at
from VpmemLibrary.errors import GuestError, InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.channel.console import READ_AT_ONCE
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.prediction import backing_offset
from VpmemLibrary.sizes import KiB, MiB
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT
from VpmemLibrary.transport.serial.transport import SLOWEST

SERIAL = "/dev/ttyS0"
"""The guest's first serial line, whose log libvirt keeps on the host."""

_POLL = 0.1
_READS = 16
_BLOCK = 4 * KiB

# Prints where in its region the node's bytes begin, as the kernel has both; then the writer goes on by itself.
#
# A block device's node is kept open, as the kernel writes its page cache back when its last user closes it; without
# flushes its writing back after some seconds is put off as well. A device-DAX node is written through a mapping: daxio
# flushes the processor's caches by itself (libpmem, pmem_persist).
_WRITER = r"""
kind=$1 node=$2 records=$3 count=$4 size=$5 offset=$6 serial=$7 tag=$8 flush=$9
case $kind in
    block) own=/sys/class/block/${node##*/}/device ;;
    devdax) own=/sys/bus/dax/devices/${node##*/} ;;
esac
region=$(readlink -f "$own") || exit
while :; do case ${region##*/} in region*) break ;; '') exit 1 ;; *) region=${region%/*} ;; esac; done
own=$(cat "$own/resource") && region=$(cat "$region/resource") || exit
echo $((own - region))

gzip -dc >"$records" || exit
put_on_block() { dd if="$records" of="$node" bs="$size" skip="$1" seek="$((offset / size + $1))" count=1 $flags; }
put_on_devdax() { daxio -i "$records" -k $((size * $1)) -o "$node" -s $((offset + size * $1)) -l "$size"; }
case $kind in
    block)
        blocks="bs=4096 seek=$((offset / 4096)) count=$((count * size / 4096))"
        dd if=/dev/zero of="$node" $blocks conv=notrunc,fsync oflag=direct
        ;;
    devdax) daxio -z -o "$node" -s "$offset" -l $((count * size)) ;;
esac 2>"$records.said" || { cat "$records.said" >&2; exit 1; }
[ "$kind" != block ] || exec 9<"$node" || exit
flags="conv=notrunc,fsync oflag=direct"
[ "$flush" ] || { flags=conv=notrunc; echo 0 >/proc/sys/vm/dirty_writeback_centisecs; }
i=0
while [ "$i" -lt "$count" ]; do
    "put_on_$kind" "$i" 2>"$records.said" || { cat "$records.said"; break; }
    echo "vpmem:$tag:$i"
    i=$((i + 1))
done >"$serial" 2>&1 </dev/null &
"""


@dataclass(slots=True)
class RecordWriter:
    """A writer that was started in a guest, and what it has told.

    Args:
        guest: The guest.
        device: The device that it writes to.
        stream: Its records.
        offset: Where in the device's region the first record lies.
        start: Where in the log of the serial console the next bytes are read.
        acknowledged: The numbers that it acknowledged, in its order, as far as they were read; of a guest that
            acknowledges more numbers than there are records, one too many.
    """

    guest: Guest
    device: VpmemDevice
    stream: RecordStream
    offset: int
    start: int
    acknowledged: tuple[int, ...] = field(default=())

    def __str__(self) -> str:
        return f"the writer of {self.stream.seed!r} in guest {self.guest.name}"

    def listen(self) -> tuple[int, ...]:
        """Return the numbers that it acknowledged so far, in its order; they stay known when the log goes.

        Only what was written since the last call is read, and at most 16 MiB of it: a guest may write without end.
        """
        line = re.compile(rb"vpmem:%b:([0-9]{1,9})\r*" % _tag(self.stream).encode())
        for _ in range(_READS):
            data = self.guest.console_since(self.start)
            more = len(data) == READ_AT_ONCE
            whole = data.rfind(b"\n") + 1  # a line that is cut off could be another number: it is read again
            self.start += whole or (len(data) if more else 0)
            numbers = [int(found[1]) for found in map(line.fullmatch, data[:whole].split(b"\n")) if found]
            self.acknowledged = (*self.acknowledged, *numbers)[: self.stream.count + 1]
            if not more:
                break
        return self.acknowledged

    def wait(self, count: int, timeout: float) -> None:
        """Wait until it has told of so many records.

        Args:
            count: How many.
            timeout: Seconds.

        Raises:
            GuestError: It did not in time; has the last lines of the console.
        """
        deadline = time.monotonic() + timeout
        while len(self.listen()) < count:
            if time.monotonic() > deadline:
                raise GuestError(
                    f"Only {len(self.acknowledged)} of {count} records were acknowledged within {timeout:g} s by "
                    f"{self}. Its console ends with:\n{self.guest.console_tail()}"
                )
            time.sleep(_POLL)

    def verdict(self, host: ContentStore) -> RecordVerdict:
        """Return what is there of its records, as the host reads them in the device's backing.

        Args:
            host: The content of the guest's host.

        Raises:
            CommandError: It cannot be read.
        """
        where = backing_offset(self.device, self.offset)
        length = int(self.stream.length)
        pieces = [host.read(self.device.path, where + at, min(MiB, length - at)) for at in range(0, length, MiB)]
        return RecordVerdict(self.stream.states(b"".join(pieces)), self.listen())


def start_writer(
    guest: Guest, device: VpmemDevice, stream: RecordStream, *, offset: int = 0, flush: bool = True
) -> RecordWriter:
    """Have a guest write records to a device, from zeros on, until all are written or it ends.

    Args:
        guest: The guest.
        device: The device; its namespace in the guest is a block device, or device DAX.
        stream: The records.
        offset: Where in that the first one lies, a multiple of 4 KiB.
        flush: Whether each is flushed before it is told of; if not, the guest's page cache has it.

    Raises:
        InvalidValueError: The range lies outside the device, or does not begin with a block; or there is no page cache.
        UnsupportedError: The namespace has no bytes of its own to write to, or the serial console has no log.
        CommandError: The guest has no POSIX shell, or cannot open the device.
        GuestError: Its agent does not answer.
    """
    if not guest.has_console_log:
        raise UnsupportedError(f"The serial console of guest {guest.name} has no log: its records would not be known.")
    node = guest.node_of(device)
    target = look_at(guest.transport, node)
    if target.kind is TargetKind.file:
        raise UnsupportedError(f"{node} in guest {guest.name} is a file: records are written to a device.")
    if target.kind is TargetKind.devdax and not flush:
        raise InvalidValueError(
            "flush", flush, f"True: {node} in guest {guest.name} is device DAX, without a page cache"
        )
    if offset % _BLOCK:
        raise InvalidValueError("offset", offset, "a multiple of 4KiB")
    target.check_range(offset, stream.length)
    records = f"/run/vpmem-records-{stream.key.hex()}"
    start = guest.console_size()
    what = (target.kind, node, records, str(stream.count), str(RECORD), str(int(offset)), SERIAL, _tag(stream))
    command = ["sh", "-c", _WRITER, "sh", *what, "flush" if flush else ""]
    packed = stream.packed()
    timeout = DEFAULT_TIMEOUT + len(packed) / SLOWEST  # the guest may get them over its serial console
    result = guest.transport.run(command, stdin=packed, timeout=timeout).check()  # one command: each costs a lot
    if not re.fullmatch("[0-9]{1,18}", begins := result.text.strip()):
        raise UnreadableOutputError(result, f"Where {node} begins in its region is not known")
    return RecordWriter(guest, device, stream, int(begins) + offset, start)


def _tag(stream: RecordStream) -> str:
    """Return what tells the words of this stream's writer from those of another."""
    return stream.key.hex()[:6]
