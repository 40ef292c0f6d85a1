"""Receive the events of DIMMs from ``ndctl monitor``.

``ndctl monitor`` first reports each DIMM that has a value beyond a threshold. Then it reports each event of the
firmware. It also enables the temperature alarm of each DIMM's controller, which changes the DIMM's settings (ndctl 81).
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from enum import StrEnum

from msgspec import Struct, field

from VpmemLibrary.errors import InvalidValueError, VpmemError
from VpmemLibrary.polling import poll
from VpmemLibrary.transport.base import Stream, Transport
from VpmemLibrary.visible import block, one_line

_POLL = 0.05
_CHUNK = 1 << 16
_MOST = 1 << 20

_WATCHING = b'{"watching":true}'

# ndctl buffers its standard output, but flushes a log file after each event. So this script prints the log file. ndctl
# first reports the values beyond their thresholds. Then ndctl waits in epoll (the system calls 232 and 281 on x86, 22
# and 441 elsewhere). The script now adds the line `{"watching":true}` to the log: all later events are new. Then the
# script removes the names of its files, so a killed monitor leaves no files. The monitor ends when the standard input
# of the script ends.
_SCRIPT = r"""
directory=$(mktemp -d) || exit
trap 'rm -rf "$directory"' EXIT
: >"$directory/log"
: >"$directory/said"
exec 5<"$directory/said"
ndctl monitor --log="$directory/log" "$@" </dev/null >"$directory/said" 2>&1 &
monitor=$!
tail -n +1 -f "$directory/log" 2>/dev/null &
tail=$!
while kill -0 "$monitor" 2>/dev/null; do
    read -r call _ <"/proc/$monitor/syscall"
    case $call in 232 | 281 | 22 | 441) break ;; esac
    sleep 0.1
done
echo '{"watching":true}' >>"$directory/log"
rm -rf "$directory"
(while kill -0 "$monitor" 2>/dev/null; do sleep 0.2; done; cat <&5; kill "$tail") 2>/dev/null &
watch=$!
cat >/dev/null
kill "$watch" "$monitor" "$tail" 2>/dev/null
"""


class DimmEventKind(StrEnum):
    """A kind of event, under ndctl's name (``ndctl monitor --dimm-event``)."""

    spares = "dimm-spares-remaining"
    """The spare capacity is below its threshold."""
    media_temperature = "dimm-media-temperature"
    """The temperature of the media is above its threshold."""
    controller_temperature = "dimm-controller-temperature"
    """The temperature of the controller is above its threshold."""
    health_state = "dimm-health-state"
    """The health state changed."""
    unclean_shutdown = "dimm-unclean-shutdown"
    """The last shutdown was dirty."""


class DimmEvent(Struct, frozen=True):
    """One event of a DIMM.

    Args:
        dimm: The DIMM's name.
        kinds: The kinds of the event, under ndctl's names.
        health: The DIMM's health at that moment, as ndctl lists it, e.g. ``temperature_celsius``.
    """

    dimm: str
    kinds: tuple[str, ...]
    health: Mapping[str, object] = field(default_factory=dict)


class DimmMonitor:
    """A running ``ndctl monitor`` on a host.

    Args:
        transport: The transport to the host. The monitor ends when the transport is closed.
        dimms: The names of the DIMMs to watch. The default is all DIMMs.

    Example::

        monitor = DimmMonitor(transport, ["nmem0"])
        monitor.wait("nmem0", DimmEventKind.health_state, timeout=60)
        monitor.close()
    """

    def __init__(self, transport: Transport, dimms: Sequence[str] = ()) -> None:
        self._host = transport.name
        options = [f"--dimm={' '.join(dimms)}"] if dimms else []  # ndctl uses only the last --dimm option
        self._stream: Stream = transport.stream(["sh", "-c", _SCRIPT, "sh", "--dimm-event=all", *options])
        self._printed = bytearray()
        self._ended = threading.Event()
        self._seen = 0
        threading.Thread(target=self._read, name="ndctl monitor", daemon=True).start()

    def _read(self) -> None:
        try:
            while len(self._printed) < _MOST and (data := self._stream.recv(_CHUNK)):
                self._printed += data
        except OSError:
            pass  # the stream was closed
        finally:
            self._ended.set()

    @property
    def events(self) -> tuple[DimmEvent, ...]:
        """All events so far, in order, without the reports at the monitor's start."""
        _, _, later = bytes(self._printed).partition(_WATCHING)
        return tuple(event for event in map(decode_event, later.split(b"\n")[:-1]) if event)

    def wait_until_watching(self, timeout: float) -> None:
        """Wait until the monitor watches the DIMMs.

        Raises:
            VpmemError: The monitor ended, or does not watch within `timeout`.
        """
        poll(
            lambda: self._require_running() and _WATCHING in self._printed,
            f"ndctl monitor on {self._host}",
            timeout=timeout,
            interval=_POLL,
            failure=lambda _: VpmemError(
                f"ndctl monitor on {self._host} did not watch its DIMMs within {timeout:g} s."
            ),
        )

    def wait(self, dimm: str, kind: str, *, timeout: float) -> DimmEvent:
        """Wait for an event of a DIMM, and return the event. Later calls return only events after this event.

        Args:
            dimm: The DIMM's name.
            kind: The kind of the event, under ndctl's name.
            timeout: Seconds.

        Raises:
            InvalidValueError: The kind of the event does not exist.
            VpmemError: The monitor ended. The message has its output.
            VpmemError: There was no such event within `timeout`. The message lists the other events.
        """
        if kind not in list(DimmEventKind):
            raise InvalidValueError("event", kind, ", ".join(DimmEventKind))

        def found() -> DimmEvent | None:
            ended = self._ended.is_set()
            for number, event in enumerate(self.events[self._seen :], self._seen + 1):
                if event.dimm == dimm and kind in event.kinds:
                    self._seen = number
                    return event
            if ended:
                self._require_running()
            return None

        def failure(_: Exception | None) -> Exception:
            others = "; ".join(f"{event.dimm}: {', '.join(event.kinds)}" for event in self.events) or "none"
            return VpmemError(
                f"ndctl monitor on {self._host} reported no {kind} of {dimm} within {timeout:g} s. Its events: {others}"
            )

        return poll(found, f"{kind} of {dimm}", timeout=timeout, interval=_POLL, failure=failure)

    def _require_running(self) -> bool:
        if self._ended.is_set():
            printed = bytes(self._printed).decode("utf-8", "replace").replace(_WATCHING.decode(), "").strip()
            raise VpmemError(f"ndctl monitor on {self._host} ended. It printed: {block(printed) or '(nothing)'}")
        return True

    def close(self) -> None:
        """End the monitor. A second call has no effect."""
        self._stream.close()


def decode_event(line: bytes) -> DimmEvent | None:
    """Return the event in a line of ndctl's log. Return None if the line has no event."""
    try:
        listed = json.loads(line)
    except (ValueError, RecursionError):
        return None
    match listed:
        case {"event": Mapping() as event, "dimm": {"dev": str(dev), **rest}}:
            kinds = tuple(one_line(str(name)) for name, value in event.items() if value is True)
            health = rest.get("health")
            return DimmEvent(one_line(dev), kinds, health if isinstance(health, Mapping) else {})
    return None
