"""Take and release leases on a host. Each lease is a locked file on the host.

One process on the host, the lease holder, holds all locks of a worker. It runs `lease_holder.sh` and reads requests
from the worker's connection, so a claim starts no extra process and no extra session. The kernel frees the locks when
the process ends: when the worker is killed, its machine loses the network, or the host reboots. The files remain. So
the next holder of a lease sees that the previous holder did not release it.

The host needs ``bash`` (4.3) and ``flock`` (util-linux). A lease counts as taken only after its record is on the disk.
The lease holder uses ``sync FILE`` of coreutils 8.24 or newer. An older ``sync`` syncs every file system instead.

A controller may vanish without closing its connection: it sleeps, or it loses its power or its route. The host's sshd
notices this after ``ClientAliveInterval`` times ``ClientAliveCountMax`` (off by default), or after TCP's keepalive (two
hours by default). Until then no other worker gets the leases of that controller. The same worker gets its leases back
at once when it reconnects, because its new lease holder ends the old lease holder.

Before a worker reboots the host, it calls `HostLeases.keep`. Then the records keep its leases for a limited time,
because locks do not survive a reboot.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import resources
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, quote_plus, urlencode

from msgspec import Struct

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
    is_host_or_region_key,
    run_of_key,
    seconds_of,
)
from VpmemLibrary.pmem.guard import LeaseProof
from VpmemLibrary.transport.base import CommandResult, Transport

if TYPE_CHECKING:
    from VpmemLibrary.transport.base import Stream

DIRECTORY = "/var/lib/vpmem/leases"
"""The directory of the records. It is on a disk, so a host that boots again knows which leases were held before."""

_PROGRAM = resources.files("VpmemLibrary.leases").joinpath("lease_holder.sh").read_text("ascii")
_ANSWER_TIMEOUT = 90.0
_GATE_TIMEOUT = 60.0
"""Seconds that a request waits on the host while the requests of other holders run."""

_CHUNK = 1 << 16
_LONGEST_ANSWER = 1 << 24
_LONGEST_REASON = 500
_END = "."
_READY = ["ready"]
_NO_SPACE = ("No space left on device", "Disk quota exceeded")
_KEYWORDS_THAT_RESERVE = "Reserve Host, Reserve Region or Open Host From File with free=True"

_TOOLS = r"""
for tool in bash flock; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 127; }
done
"""


class _Held(Struct):
    """A lease of this worker.

    Args:
        shared: Whether other workers may share the lease.
        fence: The fencing number of the lease.
        ending: The request that releases the lease, with its arguments, until the host answers; empty otherwise.
    """

    shared: bool
    fence: int
    ending: tuple[str, ...] = ()


class HostLeases:
    """The leases of one worker on one host, over the worker's connection.

    After the connection breaks or the host reboots, the next call renews the leases of this worker. If another worker
    had one of the leases meanwhile, the call raises `LeaseLostError` once. This worker then has only its run's own
    lease.

    Args:
        transport: The transport to the host.
        holder: The worker that takes the leases. Its token is unique.
        directory: The directory of the records on the host, as an absolute path. The default is `DIRECTORY`.

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
        """The worker that holds the leases."""
        return self._holder

    @property
    def held(self) -> Mapping[str, bool]:
        """The keys that this worker holds; see `Leases.held`."""
        return {key: lease.shared for key, lease in self._leases.items() if not lease.ending}

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot; see `Leases.take`.

        Raises:
            LeasesHeldError: A slot has no free key.
            LeaseLostError: This worker lost a lease now, or lost its host or region earlier and has not taken it again.
            LeaseSpaceError: The host has no space left for the records.
            LeaseRecordError: The host could not write the records.
            ToolMissingError: The host has no bash or no flock.
            UnreachableError: The host is unreachable.
        """
        words = [",".join(map(checked_key, keys)) for keys in slots]
        if "" in words:
            raise LeasesHeldError(words.index(""), [])
        with self._lock:
            if not all(is_host_or_region_key(key) for keys in slots for key in keys):
                self._refuse_lost()
            answer = self._ask("take", "shared" if shared else "alone", *words)
            if answer and answer[0][0] == "none":
                _, slot = self._checked_line(answer[0], 2)
                raise LeasesHeldError(int(slot), self._entries(answer[1:]))
            taken = []
            for line in answer:
                _, key, fence, record = self._checked_line(line, 4)
                self._leases[key] = _Held(shared, int(fence))
                self._forget_loss(key)
                taken.append(Taken(key, _holder(record) if record else None))
        return tuple(taken)

    def release(self, keys: Iterable[str]) -> None:
        """Release leases; see `Leases.release`."""
        wanted = [checked_key(key) for key in keys]
        with self._lock:
            if mine := [key for key in wanted if key in self.held]:
                self.require(mine)
                self._release(mine, "release")
        self._refuse_others(wanted, mine)

    def release_as_unfit(self, key: str, reason: str) -> None:
        """Release one lease and mark it as unfit; see `Leases.release_as_unfit`."""
        with self._lock:
            self.require([key])
            self._release([key], "release_as_unfit", quote_plus(reason[:_LONGEST_REASON]) or "unknown")

    def remove_stale(self, keys: Iterable[str]) -> None:
        """Remove the records that have no living holder; see `Leases.remove_stale`."""
        if wanted := [checked_key(key) for key in keys]:
            self._ask("remove_stale", *wanted)

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless this worker still holds leases; see `Leases.require`."""
        wanted = [checked_key(key) for key in keys]
        with self._lock:
            self._refuse_others(wanted, self.held)
            if wanted:
                self._handle_losses(self._ask("mine", *map(self._file, wanted)))

    def proofs(self) -> tuple[LeaseProof, ...]:
        """Return the proofs that this worker holds its leases; see `Leases.proofs`."""
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
        """Keep the leases of this worker while the host boots.

        Other workers then find these leases held, though the kernel has no lock. The next call that uses the leases
        takes them again.

        Args:
            seconds: How many seconds no other worker can take the leases, by the host's clock. 0 stops keeping them.

        Raises:
            LeaseLostError: This worker lost a lease.
            LeaseSpaceError: The host has no space left for the records.
            LeaseRecordError: The host could not write the records.
            UnreachableError: The host is unreachable.
        """
        with self._lock:
            if held := self.held:
                self._handle_losses(self._ask("keep", str(seconds), *map(self._file, held)))

    def close(self) -> None:
        """End the lease holder; see `Leases.close`."""
        with self._lock:
            self._leases.clear()
            self._drop()

    # Lost and released leases

    def _handle_losses(self, answer: Sequence[Sequence[str]]) -> None:
        """Raise if the host answered that leases are lost. Release all other leases, except the run's own lease.

        A run that lost its host is still alive. Without the run's own lease, the next run would treat this run as dead
        and destroy this run's guests and namespaces.
        """
        lost: dict[str, list[Sequence[str]]] = {}
        key = ""
        for line in answer:
            if line[0] == "lost":
                _, key = self._checked_line(line, 2)
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
        self._lost |= {key for key in (*gone, *others) if is_host_or_region_key(key)}
        if files:
            try:
                self._exchange(("drop", *files))
            except LeaseRecordError:
                self._drop()
            except UnreachableError:
                # The kernel freed the locks when the connection broke.
                pass
        text = [
            f"This worker lost its lease of {key} on {self._transport.name}: {_descriptions(gone[key])}."
            for key in gone
        ]
        text += [f"So it also released {', '.join(others)}."] if others else []
        text += [f"It can change nothing there until it calls {_KEYWORDS_THAT_RESERVE} again."] if self._lost else []
        raise LeaseLostError(" ".join(text))

    def _refuse_lost(self) -> None:
        if self._lost:
            raise LeaseLostError(
                f"This worker lost its lease of {', '.join(sorted(self._lost))} on {self._transport.name}. It can "
                f"change nothing there until it calls {_KEYWORDS_THAT_RESERVE} again."
            )

    def _forget_loss(self, key: str) -> None:
        """Forget the lost leases that a new lease replaces. Any region replaces a lost region."""
        if key == HOST_KEY:
            self._lost &= {each for each in self._lost if self._leases[key].shared and each != HOST_KEY}
        elif is_host_or_region_key(key):
            self._lost &= {HOST_KEY}

    def _refuse_others(self, wanted: Iterable[str], mine: Iterable[str]) -> None:
        if others := [key for key in wanted if key not in mine]:
            raise LeaseLostError(f"This worker does not hold {', '.join(others)} on {self._transport.name}.")

    def _release(self, keys: Sequence[str], request: str, *arguments: str) -> None:
        """Release leases that this worker held at the last check.

        If the connection breaks before the answer, the host may or may not have released the leases. Then the next
        connection sends the request again. A lease that is absent by then counts as released.
        """
        for key in keys:
            self._leases[key].ending = (request, *arguments)
        try:
            lost = self._exchange((request, *map(self._file, keys), *arguments))
        except UnreachableError:
            self._connect()
            return
        except LeaseRecordError:
            self._keep_held(keys)
            raise
        if lost:
            self._keep_held(keys)
            self._handle_losses(lost)
        for key in keys:
            del self._leases[key]

    def _keep_held(self, keys: Iterable[str]) -> None:
        for key in keys:
            self._leases[key].ending = ()

    # The connection

    def _ask(self, *words: str) -> list[list[str]]:
        """Send a request that may safely run twice, and return the answer.

        If the connection breaks during `take`, the second `take` reports that this worker left the leases of the first
        `take`.
        """
        with self._lock:
            self._connect()
            try:
                return self._exchange(words)
            except UnreachableError:
                # The connection broke after its last use.
                self._connect()
                return self._exchange(words)

    def _connect(self) -> None:
        """Start the lease holder on the host, unless it runs. Renew the leases of this worker."""
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
        except FileNotFoundError:
            # The host is this machine, and it has no bash.
            raise self._no_answer_error() from None
        try:
            ready = self._exchange(())
        except LeaseRecordError:
            self._drop()
            self._no_answer_error()
            raise
        # The host's shell may print text at login before the answer.
        if not ready or ready[-1] != _READY:
            self._drop()
            raise self._no_answer_error()

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
        self._handle_losses(answer)

    def _exchange(self, words: Sequence[str]) -> list[list[str]]:
        """Send a request and return the lines of the answer. Without `words`, only wait for an answer.

        Raises:
            LeaseRecordError: The host answered that the request failed.
            UnreachableError: There was no answer.
        """
        stream = self._stream
        if stream is None:
            raise UnreachableError(f"The lease holder on {self._transport.name} does not run.")
        with self._watched(stream):
            try:
                if words:
                    stream.send(" ".join(words).encode() + b"\n")
                lines = list(self._lines(stream))
            except (OSError, EOFError):
                lines = []
        if not lines or lines[-1] != _END:
            self._drop()
            raise self._no_answer_error()
        if len(lines) > 1 and lines[-2].startswith("error "):
            raise self._failed(lines[-2].removeprefix("error "))
        return [line.split(" ") for line in lines[:-1]]

    def _lines(self, stream: Stream) -> Iterator[str]:
        """Yield the lines of one answer, with the end mark last. If the lease holder ended, yield fewer lines."""
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
        """Close the stream if there is no answer in time, so that this worker does not wait forever."""
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

    # Answers

    def _no_answer_error(self) -> UnreachableError:
        """Return the error that there is no answer. Raise instead if the host has no bash or no flock."""
        found: CommandResult = self._transport.run(["sh", "-c", _TOOLS])
        if found.exit_status != 0:
            found.check(f"Leases cannot be held on {self._transport.name}")
        return UnreachableError(f"The lease holder on {self._transport.name} ended, or did not answer in time.")

    def _failed(self, text: str) -> LeaseRecordError:
        if text.endswith(_NO_SPACE):
            return LeaseSpaceError(
                f"There is no space left in {self._directory} on {self._transport.name}: free space there. No lease "
                f"was taken or released ({text})."
            )
        return LeaseRecordError(
            f"A request for leases on {self._transport.name} failed: {text}. No lease was taken or released."
        )

    def _checked_line(self, line: Sequence[str], count: int) -> Sequence[str]:
        if len(line) != count or not all(word.isascii() for word in line):
            raise self._failed(f"its lease holder sent the invalid answer {' '.join(line)!r}")
        return line

    def _entries(self, answer: Iterable[Sequence[str]]) -> tuple[Entry, ...]:
        entries = []
        for line in answer:
            _, key, name, state, record = self._checked_line(line, 5)
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


def _descriptions(entries: Iterable[Entry]) -> str:
    return (
        "; ".join(f"it is {entry.description}" for entry in entries)
        or "its record is gone, so another worker may have had it"
    )
