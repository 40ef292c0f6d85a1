"""A writer inside a guest: it writes one record after another, and acknowledges each record after the flush.

The writer acknowledges on the guest's serial console. The console's log is on the host and survives the end of the
guest. In an emulated guest a line on the console takes longer than writing a record, so the line is short.
"""

from __future__ import annotations

import re

from msgspec import Struct, field

from VpmemLibrary.content.records import RECORD, RecordStream, RecordVerdict
from VpmemLibrary.content.store import ContentStore
from VpmemLibrary.content.target import TargetKind, inspect_path
from VpmemLibrary.errors import GuestError, InvalidValueError, UnreadableOutputError, UnsupportedError
from VpmemLibrary.guest.channel.console import READ_AT_ONCE
from VpmemLibrary.guest.domain.records import VpmemDevice
from VpmemLibrary.guest.guest import Guest
from VpmemLibrary.guest.inspection import node_of
from VpmemLibrary.guest.prediction import backing_offset
from VpmemLibrary.polling import poll
from VpmemLibrary.sizes import KiB, MiB
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, SLOWEST

SERIAL = "/dev/ttyS0"
"""The guest's first serial port. libvirt keeps its log on the host."""

_POLL = 0.1
_READS = 16
_BLOCK = 4 * KiB

# Prints the offset of the node's bytes in their region, computed from the kernel's addresses of both. Then the writer
# continues in the background.
#
# The node of a block device is kept open, because the kernel writes its page cache back when the last user closes it.
# Without flushes the kernel's periodic writeback is disabled as well. A device-DAX node is written through a mapping.
# daxio flushes the processor's caches itself (libpmem, pmem_persist).
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


class RecordWriter(Struct):
    """A writer that was started in a guest, and the records that it acknowledged.

    Args:
        guest: The guest.
        device: The device that the writer writes to.
        stream: The records of the writer.
        offset: The offset of the first record in the device's region.
        start: The position in the serial console's log where the next read starts.
        acknowledged: The record numbers read so far, in the order in which the guest acknowledged them. At most one
            more than the stream has records, so that a guest that acknowledges too many is noticed.
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
        """Return the record numbers acknowledged so far, in order. Keep them after the log is gone.

        Each call reads what was written since the last call, at most 16 MiB: a guest may write without end.
        """
        line = re.compile(rb"vpmem:%b:([0-9]{1,9})\r*" % _tag(self.stream).encode())
        for _ in range(_READS):
            data = self.guest.console.since(self.start)
            more = len(data) == READ_AT_ONCE
            whole = data.rfind(b"\n") + 1  # an incomplete line may be a wrong number: read it again
            self.start += whole or (len(data) if more else 0)
            numbers = [int(found[1]) for found in map(line.fullmatch, data[:whole].split(b"\n")) if found]
            self.acknowledged = (*self.acknowledged, *numbers)[: self.stream.count + 1]
            if not more:
                break
        return self.acknowledged

    def wait(self, count: int, timeout: float) -> None:
        """Wait until the writer has acknowledged `count` records.

        Args:
            count: The number of records.
            timeout: Seconds.

        Raises:
            GuestError: The writer acknowledged fewer records within `timeout`. The message has the last lines of the
                console.
        """
        poll(
            lambda: len(self.listen()) >= count,
            f"{count} records of {self}",
            timeout=timeout,
            interval=_POLL,
            failure=lambda _: GuestError(
                f"Only {len(self.acknowledged)} of {count} records were acknowledged within {timeout:g} s by {self}. "
                f"Its console ends with:\n{self.guest.console.tail()}"
            ),
        )

    def verdict(self, host: ContentStore) -> RecordVerdict:
        """Compare the records that the host reads in the device's backing with the acknowledged records.

        Args:
            host: The content store of the guest's host.

        Raises:
            CommandError: The backing cannot be read.
        """
        where = backing_offset(self.device, self.offset)
        length = int(self.stream.length)
        pieces = [host.read(self.device.path, where + at, min(MiB, length - at)) for at in range(0, length, MiB)]
        return RecordVerdict(self.stream.states(b"".join(pieces)), self.listen())


def start_writer(
    guest: Guest, device: VpmemDevice, stream: RecordStream, *, offset: int = 0, flush: bool = True
) -> RecordWriter:
    """Start a writer in a guest. It fills its range with zeros, then writes the records while the guest runs.

    Args:
        guest: The guest.
        device: The device. Its namespace in the guest is a block device or device DAX.
        stream: The records.
        offset: The offset of the first record in the namespace, a multiple of 4 KiB.
        flush: Whether each record is flushed before it is acknowledged. If false, the record may only be in the guest's
            page cache.

    Raises:
        InvalidValueError: The range is outside the device, the offset is not a multiple of 4 KiB, or `flush` is false
            for device DAX, which has no page cache.
        UnsupportedError: The device's node in the guest is a file, or the serial console has no log.
        CommandError: The guest has no POSIX shell, or cannot open the device.
        GuestError: The guest's agent does not answer.
    """
    if not guest.console.exists:
        raise UnsupportedError(
            f"The serial console of guest {guest.name} has no log, which the writer needs to report records."
        )
    node = node_of(guest, device)
    target = inspect_path(guest.transport, node)
    if target.kind is TargetKind.file:
        raise UnsupportedError(f"{node} in guest {guest.name} is a file. The writer needs a device node.")
    if target.kind is TargetKind.devdax and not flush:
        raise InvalidValueError(
            "flush", flush, f"True: {node} in guest {guest.name} is device DAX, which has no page cache"
        )
    if offset % _BLOCK:
        raise InvalidValueError("offset", offset, "a multiple of 4KiB")
    target.check_range(offset, stream.length)
    records = f"/run/vpmem-records-{stream.key.hex()}"
    start = guest.console.size()
    what = (target.kind, node, records, str(stream.count), str(RECORD), str(int(offset)), SERIAL, _tag(stream))
    command = ["sh", "-c", _WRITER, "sh", *what, "flush" if flush else ""]
    packed = stream.packed()
    timeout = DEFAULT_TIMEOUT + len(packed) / SLOWEST  # the transport may be the serial console
    result = guest.transport.run(command, stdin=packed, timeout=timeout).check()  # one command, because each is slow
    if not re.fullmatch("[0-9]{1,18}", begins := result.text.strip()):
        raise UnreadableOutputError(result, f"The offset of {node} in its region is unknown")
    return RecordWriter(guest, device, stream, int(begins) + offset, start)


def _tag(stream: RecordStream) -> str:
    """Return the tag that marks the lines of this stream's writer."""
    return stream.key.hex()[:6]
