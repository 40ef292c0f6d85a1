"""A guest's console over libvirt's stream, in whose place a stand-in answers as libvirt's client does."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import libvirt
import pytest

from VpmemLibrary.errors import BusyError, GuestError, LibvirtError
from VpmemLibrary.guest.channel.console_line import ConsoleLine
from VpmemLibrary.guest.channel.libvirt_session import translated
from VpmemLibrary.transport.serial.transport import SerialTransport

WOULD_BLOCK = -2


def libvirt_error(code: int, text: str) -> libvirt.libvirtError:
    error = libvirt.libvirtError(text)
    error.err = (code, 10, text, 2, text, None, None, -1, -1)
    return error


class Stream:
    """A stream without blocking: what is to be read, and how much of what is written is taken at a time."""

    def __init__(self) -> None:
        self.to_read: list[Any] = []
        self.taken = bytearray()
        self.takes: list[Any] = []
        self.callback: Callable[..., None] | None = None
        self.aborted = 0

    def eventAddCallback(self, events: int, callback: Callable[..., None], opaque: object) -> None:  # noqa: N802
        assert events & libvirt.VIR_STREAM_EVENT_READABLE
        self.callback = callback

    def eventRemoveCallback(self) -> None:  # noqa: N802
        self.callback = None

    def recv(self, size: int) -> Any:
        data = self.to_read.pop(0) if self.to_read else WOULD_BLOCK
        if isinstance(data, Exception):
            raise data
        return data

    def send(self, data: bytes) -> int:
        takes = self.takes.pop(0) if self.takes else len(data)
        if isinstance(takes, Exception):
            raise takes
        self.taken += data[: max(takes, 0)]
        return int(takes)

    def abort(self) -> None:
        self.aborted += 1

    def comes(self, *items: Any, events: int = 1) -> None:
        """Have libvirt's event loop find something."""
        self.to_read += items
        if self.callback is not None:
            self.callback(self, events, None)


class Link:
    """The connection, the domain and the maker of streams in one."""

    host = "192.0.2.13"

    def __init__(self, refusal: Exception | None = None) -> None:
        self.stream = Stream()
        self._refusal = refusal

    def act(self, name: str, action: str, work: Callable[[Any], Stream]) -> Stream:
        with translated(action):
            return work(self)

    def connect(self) -> Link:
        return self

    def newStream(self, flags: int) -> Stream:  # noqa: N802
        assert flags == libvirt.VIR_STREAM_NONBLOCK
        return self.stream

    def openConsole(self, device: str | None, stream: Stream, flags: int) -> None:  # noqa: N802
        assert not flags & libvirt.VIR_DOMAIN_CONSOLE_FORCE, "nobody is thrown out"
        if self._refusal is not None:
            raise self._refusal


def line_over(link: Any) -> ConsoleLine:
    return ConsoleLine(link, "a")


def test_what_comes_is_received_whole_and_in_its_order() -> None:
    link = Link()
    line = line_over(link)
    assert line.receive(0.01) == b""
    link.stream.comes(b"\0\xff", b"more")
    assert line.receive(1) == b"\0\xffmore"
    threading.Timer(0.05, link.stream.comes, [b"later"]).start()
    assert line.receive(10) == b"later"


def test_a_guest_that_prints_for_ever_neither_fills_the_memory_nor_holds_libvirt_s_event_loop() -> None:
    class Endless(Stream):
        read = 0

        def recv(self, size: int) -> bytes:
            self.read += 1
            return b"%07d\n" % self.read * (size // 8)

    link = Link()
    link.stream = Endless()
    line = line_over(link)
    for _ in range(3):
        link.stream.comes()
    kept = line.receive(1)
    assert len(kept) == 1 << 20
    assert kept.endswith(b"%07d\n" % link.stream.read), "the last bytes are kept"


def test_what_is_sent_is_sent_again_where_there_is_no_room_for_it() -> None:
    link = Link()
    link.stream.takes = [WOULD_BLOCK, 3, WOULD_BLOCK]
    data = bytes(range(256)) * 9
    line_over(link).send(data, 10)
    assert bytes(link.stream.taken) == data


def test_a_console_that_takes_nothing_is_reported() -> None:
    link = Link()
    link.stream.takes = [WOULD_BLOCK] * 1000
    with pytest.raises(GuestError, match=r"accepted no input for 0\.1 s"):
        line_over(link).send(b"x", 0.1)


@pytest.mark.parametrize("end", [b"", libvirt_error(38, "Cannot recv data: Connection reset by peer")])
def test_the_end_of_a_console_is_told_after_what_came_before(end: Any) -> None:
    link = Link()
    line = line_over(link)
    link.stream.comes(b"last words", end)
    assert line.receive(1) == b"last words"
    with pytest.raises(GuestError, match="console of guest a is gone"):
        line.receive(1)
    with pytest.raises(GuestError, match="console of guest a is gone"):
        line.send(b"x", 1)
    assert link.stream.callback is None


def test_a_connection_that_breaks_while_typing_is_told() -> None:
    link = Link()
    link.stream.takes = [libvirt_error(38, "internal error: client socket is closed")]
    with pytest.raises(GuestError, match="gone: internal error: client socket is closed"):
        line_over(link).send(b"x", 1)


def test_a_hang_up_is_an_end() -> None:
    link = Link()
    line = line_over(link)
    link.stream.comes(events=libvirt.VIR_STREAM_EVENT_HANGUP)
    with pytest.raises(GuestError, match="gone"):
        line.receive(1)


def test_a_console_that_somebody_holds_is_told_and_nobody_is_thrown_out() -> None:
    held = libvirt_error(9, "operation failed: Active console session exists for this domain")
    with pytest.raises(BusyError, match=r"Another session has the serial console of guest a on 192\.0\.2\.13"):
        line_over(Link(held))


def test_another_refusal_keeps_libvirt_s_code_and_is_a_ping_without_an_answer() -> None:
    link = Link(libvirt_error(55, "Requested operation is not valid: domain is not running"))
    with pytest.raises(LibvirtError, match="domain is not running") as caught:
        line_over(link)
    assert caught.value.code == 55
    assert not SerialTransport("a", lambda: line_over(link)).ping()


def test_letting_go_twice_is_harmless() -> None:
    link = Link()
    line = line_over(link)
    line.close()
    line.close()
    assert link.stream.aborted == 1
