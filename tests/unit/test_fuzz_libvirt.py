"""What a host and its libvirt may say of a connection: a daemon, a fix, or an error of this library."""

from __future__ import annotations

from collections.abc import Sequence

import libvirt
import pytest
from fuzz import fuzz, fuzzed
from hypothesis import given
from hypothesis import strategies as st

from VpmemLibrary.errors import InvalidValueError, LibvirtError
from VpmemLibrary.guest.channel.libvirt_session import LibvirtSession, translated
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon, complaint
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

# As printed by systemd 252 and 257, virt-ssh-helper of libvirt 9.0, netcat-openbsd 1.219, ncat 7.93, socat 1.7.4.
LINES = [
    b"user qa",
    b"user ",
    b"user",
    b"denied /run/libvirt/libvirt-sock",
    b"denied ",
    b"usable /run/libvirt/libvirt-sock",
    b"there /run/libvirt/libvirt-sock",
    *(b"unit Id=" + name for name in (b"libvirtd.service", b"libvirtd.socket", b"virtqemud.socket", b"")),
    *(b"unit LoadState=" + state for state in (b"loaded", b"masked", b"not-found", b"error", b"")),
    *(b"unit ActiveState=" + state for state in (b"active", b"failed", b"inactive", b"activating", b"")),
    b"unit ",
    b"unit =",
    b"error: cannot connect to '/run/libvirt/libvirt-sock': Permission denied",
    b"virt-ssh-helper: could not proxy traffic: internal error: EOF on stdin",
    b"nc: unix connect failed: Connection refused",
    b"Ncat: No such file or directory.",
]
TEXT = st.lists(st.sampled_from(LINES) | st.binary(max_size=30), max_size=14).map(b"\n".join)
URI = st.lists(
    st.sampled_from(["qemu", "+unix", "://", "/", "system", "session", "?", "socket=", "&", "#", "[", "%2f", "%", "\0"])
    | st.text(max_size=4),
    max_size=9,
).map("".join)


@fuzz
@fuzzed
@given(
    TEXT,
    st.integers(-64, 255),
    st.booleans(),
    st.sampled_from(["", "/srv/sock"]),
    st.sampled_from(["system", "session"]),
)
def test_a_host_gets_advice_or_none(text: bytes, status: int, refused: bool, socket: str, kind: str) -> None:
    left = CommandResult(("sh",), status, text, text, 0.1, "rack1")
    advice = Daemon(kind, socket).advice(left, refused=refused)
    assert len(advice) < 600 + len(text)
    assert len(complaint(left)) < 12_000
    if refused:
        assert "usermod -aG libvirt" in advice


@fuzz
@fuzzed
@given(URI)
def test_a_uri_is_a_daemon_or_is_refused(uri: str) -> None:
    try:
        daemon = Daemon.of(uri)
    except InvalidValueError:
        return
    assert Daemon.of(daemon.uri) == daemon
    assert daemon.socket == "" or daemon.socket.startswith("/")


class _Answer(libvirt.libvirtError):  # type: ignore[misc]
    """An error as libvirt leaves it: any of its parts may be missing."""

    def __init__(self, code: int | None, text: str | None) -> None:
        super().__init__("virConnectOpen() failed")
        self.err = (code, 0, text, 0, None, None, None, 0, 0) if code is not None else None


class _Host(LocalTransport):
    """A host that says the same of whatever it is asked."""

    def __init__(self, said: bytes) -> None:
        super().__init__(name="rack1")
        self._said = said

    def run(self, argv: Sequence[str], *, timeout: float = 60, stdin: bytes = b"") -> CommandResult:
        return CommandResult(tuple(argv), 0, self._said, self._said, 0.1, self.name)


@fuzz
@fuzzed
@given(
    st.none() | st.integers(0, 1 << 31) | st.sampled_from([1, 5, 29, 38, 45, 79, 88, 89, 94]),
    st.none() | st.text(max_size=300),
    TEXT,
    st.booleans(),
    st.booleans(),
)
def test_an_error_of_libvirt_becomes_one_of_this_library(
    code: int | None, text: str | None, said: bytes, answered: bool, was_cut: bool
) -> None:
    error = _Answer(code, text)
    with pytest.raises(LibvirtError, match=r"^libvirt could not start guest a"), translated("start guest a"):
        raise error
    session = LibvirtSession(_Host(said), "", SYSTEM)
    refusal = session._refusal(error, ("sh",), answered=answered, was_cut=was_cut)
    assert str(refusal).startswith("libvirt could not connect to qemu:///system on rack1: ")
    assert len(str(refusal)) < 15_000
