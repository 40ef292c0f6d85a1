"""Leases that a host's own kernel keeps: a file a key, locked by one process on the host that ends with the connection.

The process is a bash that takes commands on its standard input, which is the worker's connection. It holds every lease
of that worker on that host, so a claim costs neither a process nor a session. When the worker is killed, its machine
loses its network, or the host reboots, the kernel frees the locks; nobody has to notice. The files outlive it, so that
the next holder knows that something was left.

It needs ``bash`` (4.3) and ``flock`` (util-linux) on the host. A controller that vanishes without closing its
connection (no power, no route) is noticed by the host's sshd, after its ``ClientAliveInterval`` or TCP's keepalive.

Who reboots the host says so first (`HostLeases.keep`): what it holds is then kept for it by the records, for a while,
as the kernel that comes up knows of no locks.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

from VpmemLibrary.errors import UnreachableError
from VpmemLibrary.host.transport import CommandResult, Transport
from VpmemLibrary.inventory.leases import Entry, Holder, LeaseLostError, LeasesHeldError, Taken, checked_key

if TYPE_CHECKING:
    from VpmemLibrary.host.transport import Stream

DIRECTORY = "/var/lib/vpmem/leases"
"""Where the records are: on a disk, so that what a host held when it went down is known when it is up again."""

_ANSWER_TIMEOUT = 90.0
_CHUNK = 1 << 16
_END = "."

# All is done under one lock, the gate, so that a look never gets in the way of a claim and no file is removed while
# another opens it. Whoever holds the gate only does so for a moment. Records have no blanks (they are URL-encoded).
_HOLDER = r"""
LC_ALL=C
umask 077
directory=$1 me=$2 token=$3
mkdir -p -- "$directory" && cd -- "$directory" || exit 1
declare -A held

enter() { exec {gate}<>.gate && flock -w 60 "$gate" || { echo "the gate of $directory stays shut" >&2; exit 1; }; }
leave() { exec {gate}>&-; }
record_of() { record=; [[ -s $1 ]] && IFS= read -r record <"$1"; }
write_record() { printf -v now '%(%s)T' -1; printf '%s\n' "$me&since=$now$2" >"$1"; }
# Whether the record is kept for its holder while the host boots; a clock that was set back ends it.
is_kept() {
    local from until
    [[ $record == *"&kept="* ]] || return 1
    IFS=- read -r from until <<<"${record##*&kept=}"
    printf -v now '%(%s)T' -1
    ((from <= now && now < until))
}
# A worker that shares what another of its run keeps may take it again at once.
is_kept_from_me() {
    is_kept || return
    [[ $record != *"&token=$token&"* ]] || return
    [[ $1 != shared || ${record%%&*} != "${me%%&*}" ]]
}
lock() { exec {fd}<>"$1" || exit 1; flock -n "$2" "$fd" && return; exec {fd}>&-; return 1; }
state_of() {
    record_of "$1"
    if [[ $record == *"&unfit="* ]]; then state=unfit
    elif [[ ${held[$1]+x} ]]; then state=held
    elif lock "$1" -x; then
        exec {fd}>&-
        state=left
        if is_kept; then state=kept; fi
    else state=held
    fi
}
tell() { state_of "$1"; [[ -z $record ]] || echo "entry $1 $state $record"; }

# left: what a dead holder left; empty where others that live have it as well.
try() {
    local fd alone=1
    [[ ! ${held[$1]+x} ]] || return 1
    if ! lock "$1" -x; then
        [[ $2 == shared ]] && lock "$1" -s || return 1
        alone=
    elif [[ $2 == shared ]]; then
        flock -s "$fd"
    fi
    record_of "$1"
    if [[ $record == *"&unfit="* ]] || { [[ $alone ]] && is_kept_from_me "$2"; }; then exec {fd}>&-; return 1; fi
    left=${alone:+$record}
    held[$1]=$fd
}
close_one() { local fd=${held[$1]}; exec {fd}>&-; unset "held[$1]"; }

take() {
    local mode=$1 number=0 slot key found
    local -a taken=() empty=()
    local -A before=()
    shift
    for slot; do
        found=
        for key in ${slot//,/ }; do
            if try "$key" "$mode"; then found=$key; break; fi
        done
        if [[ -z $found ]]; then
            for key in "${taken[@]}"; do
                close_one "$key"
                [[ -s $key ]] || empty+=("$key")
            done
            [[ ${#empty[@]} -eq 0 ]] || rm -f -- "${empty[@]}"
            echo "none $number"
            for key in ${slot//,/ }; do tell "$key"; done
            return
        fi
        taken+=("$found")
        before[$found]=$left
        number=$((number + 1))
    done
    for key in "${taken[@]}"; do
        write_record "$key"
        echo "taken $key ${before[$key]}"
    done
}
renew() {
    local fd
    record_of "$2"
    if [[ $record == *"&token=$token&"* ]] && lock "$2" "$1"; then
        held[$2]=$fd
        [[ $record != *"&kept="* ]] || printf '%s\n' "${record%%&kept=*}" >"$2"
    else echo "lost $2"
    fi
}
keep() {
    local seconds=$1 key
    shift
    printf -v now '%(%s)T' -1
    for key; do write_record "$key" "&kept=$now-$((now + seconds))"; done
    sync -- "$@" || sync  # or a host that loses its power comes up without them
}
release() {
    local key fd
    local -a gone=()
    for key; do
        fd=${held[$key]}
        if [[ -z $fd ]]; then echo "lost $key"; continue; fi
        if flock -n -x "$fd"; then gone+=("$key"); fi
    done
    [[ ${#gone[@]} -eq 0 ]] || rm -f -- "${gone[@]}"
    for key; do [[ ! ${held[$key]+x} ]] || close_one "$key"; done
}
give_up() {
    if [[ ! ${held[$1]+x} ]]; then echo "lost $1"; return; fi
    write_record "$1" "&unfit=$2"
    close_one "$1"
}
mend() {
    local key
    local -a gone=()
    for key; do
        [[ -e $key && ! ${held[$key]+x} ]] || continue
        if lock "$key" -x; then
            record_of "$key"
            is_kept_from_me alone || gone+=("$key")
            exec {fd}>&-
        fi
    done
    [[ ${#gone[@]} -eq 0 ]] || rm -f -- "${gone[@]}"
}
mine() { local key; for key; do [[ ${held[$key]+x} ]] || echo "lost $key"; done; }
entries() { local key; for key in [0-9a-z]*; do [[ ! -e $key ]] || tell "$key"; done; }

while IFS=' ' read -r -a words; do
    enter
    "${words[@]}"
    leave
    echo .
done
"""

_WHY = r"""
for tool in bash flock; do
    command -v "$tool" >/dev/null || { echo "$tool is not installed" >&2; exit 127; }
done
mkdir -p -- "$1" && [ -w "$1" ]
"""


class HostLeases:
    """The leases of one host, as one worker has them over its connection.

    After the connection broke or the host rebooted, the next use takes again what this worker held: that is told as
    lost if anybody had it in between.

    Args:
        transport: The way to the host.
        holder: Who holds them.
        directory: Where the records are on the host.

    Example: ``HostLeases(transport, Holder.here("0123abcd", "5f0e")).take([[namespace.label_uuid]])``.
    """

    def __init__(self, transport: Transport, holder: Holder, *, directory: str = DIRECTORY) -> None:
        self._transport = transport
        self._holder = holder
        self._directory = directory
        self._lock = threading.RLock()
        self._stream: Stream | None = None
        self._unread = bytearray()
        self._holds: dict[str, bool] = {}

    def take(self, slots: Sequence[Sequence[str]], *, shared: bool = False) -> tuple[Taken, ...]:
        """Take one lease for each slot; see `Leases.take`.

        Raises:
            LeasesHeldError: A slot has no free key.
            LeaseLostError: What was held went with a connection that broke.
            ToolMissingError: The host has no bash or no flock.
            UnreachableError: The host cannot be reached.
        """
        words = [",".join(map(checked_key, keys)) for keys in slots]
        if "" in words:
            raise LeasesHeldError(words.index(""), [])
        answer = self._ask("take", "shared" if shared else "alone", *words)
        if answer and answer[0][0] == "none":
            raise LeasesHeldError(int(answer[0][1]), _entries(answer[1:]))
        taken = [Taken(words[1], _holder(words[2]) if words[2] else None) for words in answer]
        self._holds |= {each.key: shared for each in taken}
        return tuple(taken)

    def release(self, keys: Iterable[str]) -> None:
        """Give leases back; see `Leases.release`."""
        wanted = [checked_key(key) for key in keys]
        if wanted:
            answer = self._ask("release", *wanted)
            for key in wanted:
                self._holds.pop(key, None)
            _refuse_lost(answer)

    def give_up(self, key: str, reason: str) -> None:
        """Give one lease back as unfit; see `Leases.give_up`."""
        answer = self._ask("give_up", checked_key(key), urlencode({"": reason})[1:] or "unknown")
        self._holds.pop(key, None)
        _refuse_lost(answer)

    def mended(self, keys: Iterable[str]) -> None:
        """Remove records that nobody holds; see `Leases.mended`."""
        self._ask("mend", *map(checked_key, keys))

    def require(self, keys: Iterable[str]) -> None:
        """Raise unless leases are still held; see `Leases.require`."""
        _refuse_lost(self._ask("mine", *map(checked_key, keys)))

    def entries(self) -> tuple[Entry, ...]:
        """Return every record of the host; see `Leases.entries`."""
        return _entries(self._ask("entries"))

    def keep(self, seconds: int) -> None:
        """Keep what this worker holds for it while the host boots: others find it held, though no kernel has a lock.

        It is this worker's at its next use afterwards.

        Args:
            seconds: For how long others leave it alone, by the host's own clock; 0 keeps it no longer.

        Raises:
            LeaseLostError: Something was no longer held.
            UnreachableError: The host cannot be reached.
        """
        if held := list(self._holds):
            self._ask("keep", str(seconds), *held)

    def close(self) -> None:
        """End the holder; see `Leases.close`."""
        with self._lock:
            self._holds.clear()
            self._drop()

    def _ask(self, *words: str) -> list[list[str]]:
        with self._lock:
            self._connect()
            try:
                return self._exchange(words)
            except UnreachableError:  # it went since the last use: what it held is taken again, or told as lost
                self._connect()
                return self._exchange(words)

    def _connect(self) -> None:
        """Have a holder on the host that holds what this one should hold."""
        if self._stream is not None:
            return
        record = {
            "run": self._holder.run_id,
            "worker": self._holder.worker,
            "controller": self._holder.controller,
            "token": self._holder.token,
        }
        self._unread.clear()
        holder = ["bash", "-c", _HOLDER, "vpmem-leases", self._directory, urlencode(record), self._holder.token]
        try:
            self._stream = self._transport.stream(holder)
        except FileNotFoundError:  # this machine itself has no bash
            raise self._gone() from None
        lost = []
        for key, shared in dict(self._holds).items():
            if self._exchange(("renew", "-s" if shared else "-x", key)):
                lost.append(key)
                del self._holds[key]
        if lost:
            raise LeaseLostError(
                f"The connection to {self._transport.name} broke, and with it went the lease of {', '.join(lost)}: "
                "somebody else may have had it since."
            )

    def _exchange(self, words: Sequence[str]) -> list[list[str]]:
        stream = self._stream
        if stream is None:
            raise UnreachableError(f"The holder of leases on {self._transport.name} is not there.")
        with self._watched(stream):
            try:
                stream.send(" ".join(words).encode() + b"\n")
                lines = list(self._lines(stream))
            except (OSError, EOFError):
                lines = []
        if not lines or lines[-1] != _END:
            self._drop()
            raise self._gone()
        return [line.split(" ") for line in lines[:-1]]

    def _lines(self, stream: Stream) -> Iterator[str]:
        """Give the lines of one answer, its end the last, or fewer where the holder ended."""
        while True:
            line, newline, rest = self._unread.partition(b"\n")
            if newline:
                self._unread = rest
                yield line.decode("utf-8", "replace")
                if line == _END.encode():
                    return
            elif data := stream.recv(_CHUNK):
                self._unread += data
            else:
                return

    @contextmanager
    def _watched(self, stream: Stream) -> Iterator[None]:
        """End the stream if nothing comes for long, so that a host that hangs is no wait without end."""
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

    def _gone(self) -> UnreachableError:
        """Return why there is no answer; raise what says it better."""
        found: CommandResult = self._transport.run(["sh", "-c", _WHY, "sh", self._directory])
        if found.exit_status != 0:
            found.check(f"Leases cannot be held on {self._transport.name}")
        return UnreachableError(f"The holder of leases on {self._transport.name} ended, or did not answer in time.")


def _holder(record: str) -> Holder:
    fields = _fields(record)
    since = fields.get("since", "")
    return Holder(
        fields.get("run", ""),
        fields.get("worker", ""),
        fields.get("controller", ""),
        fields.get("token", ""),
        int(since) if since.isdigit() else 0,
    )


def _entries(answer: Iterable[Sequence[str]]) -> tuple[Entry, ...]:
    return tuple(
        Entry(
            key,
            _holder(record),
            held=state in ("held", "kept"),
            unfit=_fields(record).get("unfit", "") if state == "unfit" else "",
            kept_until=int(_fields(record)["kept"].partition("-")[2]) if state == "kept" else 0,
        )
        for _, key, state, record in answer
    )


def _fields(record: str) -> dict[str, str]:
    return dict(parse_qsl(record, keep_blank_values=True))


def _refuse_lost(answer: Sequence[Sequence[str]]) -> None:
    if answer:
        raise LeaseLostError(f"Not held, or not any more: {', '.join(words[1] for words in answer)}.")
