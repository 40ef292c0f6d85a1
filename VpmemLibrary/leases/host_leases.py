"""Leases that a host's own kernel keeps: a file for each lease, locked by one process that ends with the connection.

The process is the program `lease_holder.sh`, which reads requests from the worker's connection. It holds every lease of
that worker on that host, so a claim costs no process and no session. The kernel frees the locks when the worker is
killed, when its machine loses its network, or when the host reboots. The files stay, so the next holder sees that
something was left.

The host needs ``bash`` (4.3) and ``flock`` (util-linux). A record is on the disk before its lease counts as taken: by
``sync FILE`` of coreutils 8.24 or newer, or by ``sync`` of every file system where ``sync`` takes no files.

A controller that vanishes without closing its connection (it sleeps, it lost its power or its route) is noticed by the
host's sshd: after ``ClientAliveInterval`` times ``ClientAliveCountMax``, which is off by default, or after TCP's
keepalive, which takes two hours by default. Until then nobody else gets its leases. The worker itself gets them back at
once when it reconnects, because its new process ends the old one.

A worker that reboots the host says so first (`HostLeases.keep`). The records then keep its leases for a time, because
the kernel that boots knows no locks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, urlencode

from VpmemLibrary.errors import LeaseLostError, UnreachableError
from VpmemLibrary.leases.leases import (
    HOST_KEY,
    Entry,
    Holder,
    LeaseRecordError,
    LeasesHeldError,
    LeaseSpaceError,
    Taken,
    checked_key,
    is_place_key,
    run_of_key,
    seconds_of,
)
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.transport.base import CommandResult, Transport

if TYPE_CHECKING:
    from VpmemLibrary.transport.base import Stream

DIRECTORY = "/var/lib/vpmem/leases"
"""Where the records are: on a disk, so that a host that boots again knows what was held when it went down."""

_PROGRAM = resources.files("VpmemLibrary.leases").joinpath("lease_holder.sh").read_text("ascii")
_ANSWER_TIMEOUT = 90.0
_GATE_TIMEOUT = 60.0
"""Seconds that a request waits on the host while other holders' requests run."""

_CHUNK = 1 << 16
_LONGEST_ANSWER = 1 << 24
_LONGEST_REASON = 500
_END = "."
_READY = ["ready"]
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_HOW_TO_TAKE_AGAIN = "Hold Host, Hold Region or Open Free Host From File"

_TOOLS = r"""
for tool in bash flock; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 127; }
done
"""


@dataclass(slots=True)
class _Held:
    """A lease of this worker.

    Args:
        shared: Whether others may share it.
        fence: Its fencing number.
        ending: The request that gives it back, with its arguments, until the host has answered the request.
    """

    shared: bool
    fence: int
    ending: tuple[str, ...] = ()


class HostLeases:
    """The leases of one host, as one worker has them over its connection.

    If the connection breaks, or the host reboots, the next use renews what this worker held. If another worker had one
    of the leases meanwhile, that is reported once, and this worker then has nothing there but its run's own lease.

    Args:
        transport: The way to the host.
        holder: Who holds the leases; its token is a worker's own.
        directory: Where the records are on the host: an absolute path; `DIRECTORY` by default.

    Example: ``HostLeases(transport, Holder.here("0123abcd", "5f0e")).take([[namespace.label_uuid]])``.
    """

    def __init__(self, transport: Transport, holder: Holder, *, directory: str = "") -> None:
        self._transport = transport
        self._holder = holder
        self._directory = directory or DIRECTORY
        self._lock = threading.RLock()
        self._stream: Stream | None = None
        self._unread = bytearray()
        self._leases: dict[str, _Held] = {}
        self._lost: set[str] = set()

    @property
    def holder(self) -> Holder:
        """The worker."""
        return self._holder

    @property
    def held(self) -> Mapping[str, bool]:
        """The keys that this worker holds; see `Leases.held`."""
        return {key: lease.shared for key, lease in self._leases.items() if not lease.ending}

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot; see `Leases.take`.

        Raises:
            LeasesHeldError: A slot has no free key.
            LeaseLostError: This worker lost a lease, or lost its host or region earlier and did not take it again.
            LeaseSpaceError: The host has no space left for the records.
            LeaseRecordError: The host could not write the records.
            ToolMissingError: The host has no bash or no flock.
            UnreachableError: The host cannot be reached.
        """
        words = [",".join(map(checked_key, keys)) for keys in slots]
        if "" in words:
            raise LeasesHeldError(words.index(""), [])
        with self._lock:
            if not all(is_place_key(key) for keys in slots for key in keys):
                self._refuse_lost()
            answer = self._ask("take", "shared" if shared else "alone", *words)
            if answer and answer[0][0] == "none":
                _, slot = self._words(answer[0], 2)
                raise LeasesHeldError(int(slot), self._entries(answer[1:]))
            taken = []
            for line in answer:
                _, key, fence, record = self._words(line, 4)
                self._leases[key] = _Held(shared, int(fence))
                self._took_again(key)
                taken.append(Taken(key, _holder(record) if record else None))
        return tuple(taken)

    def release(self, keys: Iterable[str]) -> None:
        """Give leases back; see `Leases.release`."""
        wanted = [checked_key(key) for key in keys]
        with self._lock:
            if mine := [key for key in wanted if key in self.held]:
                self.require(mine)
                self._give_back(mine, "release")
        self._refuse_others(wanted, mine)

    def give_up(self, key: str, reason: str) -> None:
        """Give one lease back as unfit; see `Leases.give_up`."""
        with self._lock:
            self.require([key])
            self._give_back([key], "give_up", quote_plus(reason[:_LONGEST_REASON]) or "unknown")

    def mended(self, keys: Iterable[str]) -> None:
        """Remove records that nobody holds; see `Leases.mended`."""
        if wanted := [checked_key(key) for key in keys]:
            self._ask("mend", *wanted)

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless this worker still holds leases; see `Leases.require`."""
        wanted = [checked_key(key) for key in keys]
        with self._lock:
            self._refuse_others(wanted, self.held)
            if wanted:
                self._lose(self._ask("mine", *map(self._file, wanted)))

    def proofs(self) -> tuple[LeaseProof, ...]:
        """Return what proves on the host that this worker holds its leases; see `Leases.proofs`."""
        with self._lock:
            self._refuse_lost()
            return tuple(
                LeaseProof(key, self._path(self._file(key)), f"&token={self._holder.token}&fence={lease.fence}&")
                for key, lease in self._leases.items()
                if not lease.ending
            )

    def entries(self) -> tuple[Entry, ...]:
        """Return every record of the host; see `Leases.entries`."""
        return self._entries(self._ask("entries"))

    def keep(self, seconds: int) -> None:
        """Keep what this worker holds while the host boots: others find it held, though no kernel has a lock.

        The worker's next use of its leases takes them again.

        Args:
            seconds: How long others leave the leases alone, by the host's own clock; 0 to keep them no longer.

        Raises:
            LeaseLostError: This worker lost a lease.
            LeaseSpaceError: The host has no space left for the records.
            LeaseRecordError: The host could not write the records.
            UnreachableError: The host cannot be reached.
        """
        with self._lock:
            if held := self.held:
                self._lose(self._ask("keep", str(seconds), *map(self._file, held)))

    def close(self) -> None:
        """End the holder; see `Leases.close`."""
        with self._lock:
            self._leases.clear()
            self._drop()

    # Losing and giving back

    def _lose(self, answer: Sequence[Sequence[str]]) -> None:
        """Raise if the host answered that leases are lost, and give up all others but the run's own.

        A run that lost its host is still alive. If its own lease went as well, the next run's set-up would destroy its
        guests and namespaces as a dead run's.
        """
        lost: dict[str, list[Sequence[str]]] = {}
        key = ""
        for line in answer:
            if line[0] == "lost":
                _, key = self._words(line, 2)
                lost[key] = []
            else:
                lost.setdefault(key, []).append(line)
        gone = {key: self._entries(lines) for key, lines in lost.items() if self._leases.pop(key, None)}
        if not gone:
            return
        others = [key for key in self._leases if not run_of_key(key)]
        files = [self._file(key) for key in others]
        for key in others:
            del self._leases[key]
        self._lost |= {key for key in (*gone, *others) if is_place_key(key)}
        if files:
            try:
                self._exchange(("drop", *files))
            except LeaseRecordError:
                self._drop()
            except UnreachableError:
                pass  # the locks went with the connection
        text = [f"This worker lost its lease of {key} on {self._transport.name}: {_told(gone[key])}." for key in gone]
        text += [f"So it gave up {', '.join(others)} as well."] if others else []
        text += [f"Nothing is changed there until it calls {_HOW_TO_TAKE_AGAIN} again."] if self._lost else []
        raise LeaseLostError(" ".join(text))

    def _refuse_lost(self) -> None:
        if self._lost:
            raise LeaseLostError(
                f"This worker lost its lease of {', '.join(sorted(self._lost))} on {self._transport.name}. Nothing is "
                f"changed there until it calls {_HOW_TO_TAKE_AGAIN} again."
            )

    def _took_again(self, key: str) -> None:
        """Forget what was lost if a lease that was taken stands for it: any region does for a region."""
        if key == HOST_KEY:
            self._lost &= {each for each in self._lost if self._leases[key].shared and each != HOST_KEY}
        elif is_place_key(key):
            self._lost &= {HOST_KEY}

    def _refuse_others(self, wanted: Iterable[str], mine: Iterable[str]) -> None:
        if others := [key for key in wanted if key not in mine]:
            raise LeaseLostError(f"This worker does not hold {', '.join(others)} on {self._transport.name}.")

    def _give_back(self, keys: Sequence[str], request: str, *arguments: str) -> None:
        """End leases that were held a moment ago.

        If the connection breaks before the answer, the request may have been done. Then the next connection does what
        is left of the request, and a lease that is gone by then was given back.
        """
        for key in keys:
            self._leases[key].ending = (request, *arguments)
        try:
            lost = self._exchange((request, *map(self._file, keys), *arguments))
        except UnreachableError:
            self._connect()
            return
        except LeaseRecordError:
            self._stay(keys)
            raise
        if lost:
            self._stay(keys)
            self._lose(lost)
        for key in keys:
            del self._leases[key]

    def _stay(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._leases[key].ending = ()

    # The connection

    def _ask(self, *words: str) -> list[list[str]]:
        """Return the answer to a request that may be made twice.

        A second `take` after a broken connection finds what the first one took as left by this worker itself.
        """
        with self._lock:
            self._connect()
            try:
                return self._exchange(words)
            except UnreachableError:  # the connection broke since the last use
                self._connect()
                return self._exchange(words)

    def _connect(self) -> None:
        """Start a holder on the host, unless there is one, that has the leases of this worker."""
        if self._stream is not None:
            return
        self._start()
        try:
            self._renew()
        except LeaseRecordError:
            self._drop()
            raise

    def _start(self) -> None:
        who = {"run": self._holder.run_id, "worker": self._holder.worker, "controller": self._holder.controller}
        arguments = (self._directory, urlencode(who), self._holder.token, f"{_GATE_TIMEOUT:g}")
        self._unread.clear()
        try:
            self._stream = self._transport.stream(["bash", "--norc", "-c", _PROGRAM, "vpmem-leases", *arguments])
        except FileNotFoundError:  # this machine itself has no bash
            raise self._gone() from None
        try:
            ready = self._exchange(())
        except LeaseRecordError:
            self._drop()
            self._gone()
            raise
        if not ready or ready[-1] != _READY:  # what the host's shell prints at a login may come first
            self._drop()
            raise self._gone()

    def _renew(self) -> None:
        if not self._leases:
            return
        answer = self._exchange(
            (
                "renew",
                *(f"{'shared' if each.shared else 'alone'}:{key}:{each.fence}" for key, each in self._leases.items()),
            )
        )
        lost = {line[1] for line in answer if line[0] == "lost"}
        for key, (request, *arguments) in [(key, each.ending) for key, each in self._leases.items() if each.ending]:
            if key not in lost:
                self._exchange((request, self._file(key), *arguments))
            del self._leases[key]
        self._lose(answer)

    def _exchange(self, words: Sequence[str]) -> list[list[str]]:
        """Send a request, or nothing, and return the lines of the answer.

        Raises:
            LeaseRecordError: The host answered that the request failed.
            UnreachableError: There was no answer.
        """
        stream = self._stream
        if stream is None:
            raise UnreachableError(f"The holder of leases on {self._transport.name} is not there.")
        with self._watched(stream):
            try:
                if words:
                    stream.send(" ".join(words).encode() + b"\n")
                lines = list(self._lines(stream))
            except (OSError, EOFError):
                lines = []
        if not lines or lines[-1] != _END:
            self._drop()
            raise self._gone()
        if len(lines) > 1 and lines[-2].startswith("error "):
            raise self._failed(lines[-2].removeprefix("error "))
        return [line.split(" ") for line in lines[:-1]]

    def _lines(self, stream: Stream) -> Iterator[str]:
        """Give the lines of one answer, its end the last, or fewer if the holder ended."""
        size = 0
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                yield line.decode("utf-8", "replace")
                if line == _END.encode():
                    return
            elif size < _LONGEST_ANSWER and (data := stream.recv(_CHUNK)):
                size += len(data)
                self._unread += data
            else:
                return

    @contextmanager
    def _watched(self, stream: Stream) -> Iterator[None]:
        """End the stream if there is no answer in time, so that a host that hangs is not waited for without end."""
        watch = threading.Timer(_ANSWER_TIMEOUT, stream.close)
        watch.daemon = True
        watch.start()
        try:
            yield
        finally:
            watch.cancel()

    def _drop(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    # What the host answers

    def _gone(self) -> UnreachableError:
        """Return the error that there is no answer, or raise one if the host has no bash or no flock."""
        found: CommandResult = self._transport.run(["sh", "-c", _TOOLS])
        if found.exit_status != 0:
            found.check(f"Leases cannot be held on {self._transport.name}")
        return UnreachableError(f"The holder of leases on {self._transport.name} ended, or did not answer in time.")

    def _failed(self, text: str) -> LeaseRecordError:
        if text.endswith(_NO_SPACE):
            return LeaseSpaceError(
                f"There is no space left in {self._directory} on {self._transport.name}: free space there. No lease "
                f"was taken or given back ({text})."
            )
        return LeaseRecordError(f"Leases failed on {self._transport.name}: {text}. No lease was taken or given back.")

    def _words(self, line: Sequence[str], count: int) -> Sequence[str]:
        if len(line) != count or not all(word.isascii() for word in line):
            raise self._failed(f"its holder answered {' '.join(line)!r}, which is no answer")
        return line

    def _entries(self, answer: Iterable[Sequence[str]]) -> tuple[Entry, ...]:
        entries = []
        for line in answer:
            _, key, name, state, record = self._words(line, 5)
            fields = _fields(record)
            entries.append(
                Entry(
                    key,
                    _holder(record),
                    held=state in ("held", "kept"),
                    unfit=fields.get("unfit", "") if state == "unfit" else "",
                    kept_until=seconds_of(fields.get("kept", "").partition("-")[2]) if state == "kept" else 0,
                    path=self._path(name),
                )
            )
        return tuple(entries)

    def _file(self, key: str) -> str:
        return f"{key}@{self._holder.token}" if self._leases[key].shared else key

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}"


def _holder(record: str) -> Holder:
    fields = _fields(record)
    return Holder(
        fields.get("run", ""),
        fields.get("worker", ""),
        fields.get("controller", ""),
        fields.get("token", ""),
        seconds_of(fields.get("since", "")),
    )


def _fields(record: str) -> dict[str, str]:
    return dict(parse_qsl(record, keep_blank_values=True))


def _told(entries: Iterable[Entry]) -> str:
    return "; ".join(f"it is {entry.told}" for entry in entries) or "its record is gone, so others may have had it"
