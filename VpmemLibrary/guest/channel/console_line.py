"""A guest's serial console as a two-way byte channel, over the host's libvirt connection."""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

from VpmemLibrary.errors import BusyError, GuestError, LibvirtError
from VpmemLibrary.guest.channel.libvirt_link import LibvirtLink
from VpmemLibrary.polling import poll
from VpmemLibrary.transport.deadline import Call

if TYPE_CHECKING:
    import libvirt

_CHUNK = 1 << 16
_SENT_AT_ONCE = 1 << 10
_WOULD_BLOCK = -2  # returned by libvirt-python's streams that have nothing to read, or no room to write
_POLL = 0.02
_AT_ONCE = 256
"""The most chunks to read per event. A guest may print without end, and all guests share libvirt's event loop."""

_KEPT = 1 << 20
"""How many of the last bytes to keep for a reader. A guest may print without end while nobody reads."""

_LETS_GO = 3.0
"""Seconds in which libvirt must release the console. Its connection may be gone, or libvirt may not answer."""

_OPERATION_FAILED = 9  # VIR_ERR_OPERATION_FAILED
_HELD = "Active console session exists"


class ConsoleLine:
    """The serial console of a running guest. Nobody else can open it until `close`.

    Args:
        link: The host's libvirt connection.
        name: The guest's name.

    Raises:
        BusyError: Another session has the console open.
        LibvirtError: There is no such guest, or it is not running.
    """

    def __init__(self, link: LibvirtLink, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._data = bytearray()
        self._ended = ""
        self._closed = False
        self._stream = self._open(link)

    def send(self, data: bytes, timeout: float) -> None:
        """Send data to the console.

        Args:
            data: The data.
            timeout: Seconds in which the guest must accept all data.

        Raises:
            GuestError: The console is gone, or did not accept all data within `timeout`.
        """
        deadline = time.monotonic() + timeout
        while data:
            chunk = data[:_SENT_AT_ONCE]
            sent = poll(
                lambda chunk=chunk: self._send_now(chunk),  # type: ignore[misc]
                f"the serial console of guest {self._name} to accept input",
                timeout=deadline - time.monotonic(),
                interval=_POLL,
                failure=lambda _: GuestError(
                    f"The serial console of guest {self._name} accepted no input for {timeout:g} s."
                ),
            )
            data = data[sent:]

    def receive(self, timeout: float) -> bytes:
        """Return the bytes that the guest wrote to the console.

        Args:
            timeout: Seconds to wait for data.

        Returns:
            The bytes, at most the last 1 MiB; empty if none came.

        Raises:
            GuestError: The console is gone.
        """
        with self._changed:
            if not self._data and not self._ended:
                self._changed.wait(timeout)
            data = bytes(self._data)
            self._data.clear()
        if not data:
            self._require_open()
        return data

    def close(self) -> None:
        """Release the console. Closing twice is harmless."""
        import libvirt  # noqa: PLC0415

        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(libvirt.libvirtError):  # the stream may have ended already
            self._stream.eventRemoveCallback()
        Call(self._stream.abort).wait(_LETS_GO)

    def _send_now(self, data: bytes) -> int | None:
        """Return how many bytes the console accepted; None if it has no room now."""
        import libvirt  # noqa: PLC0415

        self._require_open()
        try:
            sent: int = self._stream.send(data)
        except libvirt.libvirtError as error:
            raise GuestError(f"The serial console of guest {self._name} is gone: {error}.") from error
        return None if sent == _WOULD_BLOCK else sent

    def _open(self, link: LibvirtLink) -> libvirt.virStream:
        import libvirt  # noqa: PLC0415

        def open_console(domain: libvirt.virDomain) -> libvirt.virStream:
            stream = domain.connect().newStream(libvirt.VIR_STREAM_NONBLOCK)
            domain.openConsole(None, stream, 0)
            return stream

        try:
            stream = link.act(self._name, f"open the console of guest {self._name}", open_console)
        except LibvirtError as error:
            if error.code == _OPERATION_FAILED and _HELD in error.text:
                raise BusyError(
                    f"Another session has the serial console of guest {self._name} on {link.host} open, and libvirt "
                    "allows only one. End the other session, e.g. its `virsh console`."
                ) from error
            raise
        events = libvirt.VIR_STREAM_EVENT_READABLE | libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR
        stream.eventAddCallback(events, self._event, None)
        return stream

    def _event(self, stream: libvirt.virStream, events: int, _: Any) -> None:
        """Store the received bytes. libvirt's event loop calls this method."""
        import libvirt  # noqa: PLC0415

        with self._changed:
            try:
                for _ in range(_AT_ONCE):
                    data = stream.recv(_CHUNK)
                    if not data or not isinstance(data, bytes):
                        break
                    self._data += data
                    del self._data[:-_KEPT]
                if data == b"":
                    self._end("it ended")
            except libvirt.libvirtError as error:
                self._end(error.get_error_message() or str(error))
            if events & (libvirt.VIR_STREAM_EVENT_HANGUP | libvirt.VIR_STREAM_EVENT_ERROR):
                self._end("it ended")
            self._changed.notify_all()

    def _end(self, reason: str) -> None:
        import libvirt  # noqa: PLC0415

        self._ended = self._ended or reason
        with contextlib.suppress(libvirt.libvirtError):  # an ended stream would report events without end
            self._stream.eventRemoveCallback()

    def _require_open(self) -> None:
        if self._ended:
            raise GuestError(f"The serial console of guest {self._name} is gone: {self._ended}.")
