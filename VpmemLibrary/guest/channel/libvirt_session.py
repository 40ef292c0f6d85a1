"""One connection to a host's libvirt, over the host's own transport.

libvirt's client connects to a unix socket of this process (`relay.py`). The relay carries the bytes to libvirt's daemon
on the host. So host key, credentials and connection are those of the transport. There is no second login, and no user's
known_hosts file is changed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import quote

from VpmemLibrary.errors import CommandTimeoutError, InvalidValueError, LibvirtError, VpmemError
from VpmemLibrary.guest.channel.relay import Relay
from VpmemLibrary.host.libvirt_daemon import READ_ONLY_ADVICE, SYSTEM, Daemon, complaint
from VpmemLibrary.transport.base import Transport
from VpmemLibrary.transport.controller import require_descriptors

if TYPE_CHECKING:
    import libvirt

_DESCRIPTORS = 32
"""The descriptors that must be free for a connection. Without one, GLib, which libvirt uses, ends the process."""

_KEEPALIVE = (5, 6)
_COMPLAINT_TIMEOUT = 15.0
_CUT = 38  # VIR_ERR_SYSTEM_ERROR, libvirt's code for a broken connection
_RPC = 39  # VIR_ERR_RPC
_NO_DRIVER = 5  # VIR_ERR_NO_CONNECT
_REFUSED = frozenset({1, 45, 79, 89, 94})
"""The daemon's error codes for a user that polkit rejects.

VIR_ERR_AUTH_FAILED, VIR_ERR_AUTH_CANCELLED and VIR_ERR_AUTH_UNAVAILABLE; also VIR_ERR_INTERNAL_ERROR and
VIR_ERR_DBUS_SERVICE, if the daemon cannot ask polkit.
"""

_DENIED = frozenset({29, 88})  # VIR_ERR_OPERATION_DENIED, VIR_ERR_ACCESS_DENIED
_ADVICE = {
    "virtio-pmem memory device info is not handled yet": (
        "This libvirt runs no guest with a virtio-pmem device. Fix: libvirt 9.4 or newer, or an nvdimm."
    ),
    "revert to external snapshot not supported yet": (
        "This libvirt reverts no guest to a snapshot with its memory in a file. Fix: libvirt 9.9 or newer."
    ),
}
"""The advice for errors of libvirt 9.0 (Debian 12). The versions are those of libvirt's NEWS."""
_RETRY = 1.0
_SHOWN = 200
_LOG = logging.getLogger(__name__)


class _RefusedError(LibvirtError):
    """The daemon answered, and rejects this user."""


class LibvirtSession:
    """A connection that is opened on first use, and opened again after libvirt restarted.

    Every method except `cut` may block without end, so call it through `Call`.

    Args:
        transport: The transport to the host.
        uri: Connect directly to this URI instead; for libvirt's own test driver.
        daemon: The daemon of the host.
    """

    def __init__(self, transport: Transport, uri: str, daemon: Daemon = SYSTEM) -> None:
        self._transport = transport
        self._uri = uri
        self._daemon = daemon
        self._opening = threading.RLock()
        self._connection: libvirt.virConnect | None = None
        self._cutting = threading.Lock()  # not held during blocking calls, so `cut` never blocks
        self._relay: Relay | None = None
        self._was_cut = False

    def connection(self) -> libvirt.virConnect:
        """Return the live connection.

        Raises:
            LibvirtError: libvirt does not answer.
        """
        with self._opening:
            if self._connection is None or not _answers(self._connection):
                self.close()
                self._connection = self._open()
            return self._connection

    def domain(self, name: str) -> libvirt.virDomain:
        """Return a domain by its name. The lookup also shows whether the connection still works.

        Raises:
            libvirt.libvirtError: There is no such domain, or libvirt does not answer.
        """
        import libvirt  # noqa: PLC0415

        with self._opening:
            if self._connection is not None:
                try:
                    return self._connection.lookupByName(name)
                except libvirt.libvirtError:
                    if _answers(self._connection):
                        raise
            return self.connection().lookupByName(name)

    def close(self) -> None:
        """Close the connection and its relay. Closing twice is harmless."""
        import libvirt  # noqa: PLC0415

        with self._opening:
            connection, self._connection = self._connection, None
            with self._cutting:
                relay, self._relay = self._relay, None
            try:
                if connection is not None:
                    with contextlib.suppress(libvirt.libvirtError):  # the connection may already be broken
                        connection.close()
            finally:
                if relay is not None:
                    relay.close()

    def cut(self) -> None:
        """Break the connection at once and permanently. All calls that wait for an answer then fail."""
        with self._cutting:
            self._was_cut = True
            relay = self._relay
        if relay is not None:
            relay.cut()

    def _open(self) -> libvirt.virConnect:
        import libvirt  # noqa: PLC0415

        require_descriptors(_DESCRIPTORS, self._connecting)
        _prepare_libvirt()
        if self._uri:
            return libvirt.open(self._uri)
        try:
            return self._connect(read_only=False)
        except _RefusedError as refused:
            try:
                connection = self._connect(read_only=True)
            except VpmemError:
                raise refused from None
            _LOG.warning("%s", refused)
            return connection

    def _connect(self, *, read_only: bool) -> libvirt.virConnect:
        import libvirt  # noqa: PLC0415

        command = self._daemon.connecting(read_only=read_only)
        relay = Relay(lambda: self._transport.stream(command))
        with self._cutting:
            self._relay = relay
            was_cut = self._was_cut
        if was_cut:  # the caller abandoned this call, so it must not act
            relay.cut()
            raise LibvirtError(self._connecting, _CUT, "the connection was cut")
        try:
            socket = quote(os.fsencode(relay.path))
            connection = libvirt.open(f"qemu+unix:///{self._daemon.kind}?mode=legacy&socket={socket}")
            connection.setKeepAlive(*_KEEPALIVE)
        except BaseException as error:
            with self._cutting:
                self._relay = None
            was_cut = relay.is_cut  # at a deadline, or when the interpreter exits
            answered = relay.answered
            relay.close()
            if relay.failure is not None:
                raise relay.failure from error
            if isinstance(error, libvirt.libvirtError):
                raise self._refusal(error, command, answered=answered, was_cut=was_cut) from error
            raise
        return connection

    @property
    def _connecting(self) -> str:
        return f"connect to {self._daemon.uri} on {self._transport.name}"

    def _refusal(
        self, error: libvirt.libvirtError, command: tuple[str, ...], *, answered: bool, was_cut: bool
    ) -> LibvirtError:
        """Return the error for a failed connection, with the reason that the host gives."""
        code, text = error.get_error_code() or 0, error.get_error_message() or str(error)
        refused = answered and code in _REFUSED
        failure = (_RefusedError if refused else LibvirtError)(self._connecting, code, text)
        if was_cut:
            return failure
        if answered and not refused:
            if code == _NO_DRIVER:
                failure.add("libvirt there has no driver for QEMU: install libvirt-daemon-driver-qemu on the host.")
            return failure
        with contextlib.suppress(CommandTimeoutError):  # a timeout means that the daemon accepts connections
            if not refused and (said := complaint(self._transport.run(command, timeout=_COMPLAINT_TIMEOUT))):
                failure.add(f"The host reports: {said}")
            inspected = self._transport.run(self._daemon.inspecting(), timeout=_COMPLAINT_TIMEOUT)
            if advice := self._daemon.advice(inspected, refused=refused):
                failure.add(advice)
        return failure


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Convert errors of libvirt into errors of this library.

    Args:
        action: The action for the message.

    Raises:
        LibvirtError: libvirt failed. The error has libvirt's code and text.
        InvalidValueError: libvirt does not accept a name or a path.
    """
    import libvirt  # noqa: PLC0415

    try:
        yield
    except libvirt.libvirtError as error:
        failure = LibvirtError(action, error.get_error_code() or 0, error.get_error_message() or str(error))
        if failure.code in _DENIED:
            failure.add(f"A possible reason: {READ_ONLY_ADVICE}.")
        for pattern, advice in _ADVICE.items():
            if pattern in failure.text:
                failure.add(advice)
        raise failure from error
    except VpmemError:
        raise
    except UnicodeDecodeError as error:
        text = f"its answer is not UTF-8: {error.object[:_SHOWN]!r}"
        raise LibvirtError(action, _RPC, text) from error
    except ValueError as error:
        raise InvalidValueError("text for libvirt", action, f"text without a NUL byte ({error})") from None


def _answers(connection: libvirt.virConnect) -> bool:
    """Return whether the daemon still answers. libvirt's own `isAlive` may not have noticed that the daemon ended."""
    import libvirt  # noqa: PLC0415

    try:
        return bool(connection.isAlive() == 1 and connection.getLibVersion())
    except libvirt.libvirtError:  # a new connection will report the problem
        return False


_prepared = threading.Lock()
_loop: threading.Thread | None = None


def _prepare_libvirt() -> None:
    """Start libvirt's event loop once for the process. Stop libvirt from printing errors, which are raised anyway."""
    import libvirt  # noqa: PLC0415

    global _loop  # noqa: PLW0603  libvirt allows one event loop a process
    with _prepared:
        if _loop is not None:
            return
        libvirt.registerErrorHandler(lambda *_: None, None)
        libvirt.virEventRegisterDefaultImpl()

        def run() -> None:
            while True:
                try:
                    libvirt.virEventRunDefaultImpl()
                except libvirt.libvirtError:  # e.g. no free file descriptor; without the loop no call would end
                    time.sleep(_RETRY)

        _loop = threading.Thread(target=run, name="libvirt events", daemon=True)
        _loop.start()
