"""One connection to a host's libvirt, over the host's own transport.

libvirt's client speaks to a unix socket of this process's own (`relay.py`), which carries the bytes to libvirt's daemon
on the host. So the host's key, the credentials and the connection are the transport's: there is no second log-in, and
nothing is written to anybody's known_hosts.
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

if TYPE_CHECKING:
    import libvirt

_KEEPALIVE = (5, 6)
_COMPLAINT_TIMEOUT = 15.0
_CUT = 38  # VIR_ERR_SYSTEM_ERROR, as of a connection that broke
_RPC = 39  # VIR_ERR_RPC
_NO_DRIVER = 5  # VIR_ERR_NO_CONNECT
_REFUSED = frozenset({1, 45, 79, 89, 94})
"""What a daemon answers for whom polkit does not let in: VIR_ERR_AUTH_FAILED, _CANCELLED and _UNAVAILABLE, and
VIR_ERR_INTERNAL_ERROR and VIR_ERR_DBUS_SERVICE where it cannot ask polkit."""

_DENIED = frozenset({29, 88})  # VIR_ERR_OPERATION_DENIED, VIR_ERR_ACCESS_DENIED
_RETRY = 1.0
_SHOWN = 200
_LOG = logging.getLogger(__name__)


class _RefusedError(LibvirtError):
    """The daemon answered, and does not let this user in."""


class LibvirtSession:
    """A connection that is made when it is first needed, and made again after libvirt restarted.

    Every method but `cut` may block without end: it is to be called through `bounded.Call`.

    Args:
        transport: The way to the host.
        uri: Connect to this URI directly instead; for libvirt's own test driver.
        daemon: Which daemon of the host.
    """

    def __init__(self, transport: Transport, uri: str, daemon: Daemon = SYSTEM) -> None:
        self._transport = transport
        self._uri = uri
        self._daemon = daemon
        self._opening = threading.RLock()
        self._connection: libvirt.virConnect | None = None
        self._cutting = threading.Lock()  # never held while anything blocks, so that `cut` never does
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
        """Return a domain by its name; looking it up shows as well whether the connection still works.

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
        """End the connection and its relay; ending it twice is harmless."""
        import libvirt  # noqa: PLC0415

        with self._opening:
            connection, self._connection = self._connection, None
            with self._cutting:
                relay, self._relay = self._relay, None
            try:
                if connection is not None:
                    with contextlib.suppress(libvirt.libvirtError):  # it may be broken, which is why it is ended
                        connection.close()
            finally:
                if relay is not None:
                    relay.close()

    def cut(self) -> None:
        """Break the connection at once and for good, which makes the calls fail that wait for an answer."""
        with self._cutting:
            self._was_cut = True
            relay = self._relay
        if relay is not None:
            relay.cut()

    def _open(self) -> libvirt.virConnect:
        import libvirt  # noqa: PLC0415

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
        if was_cut:  # nobody waits for this call any more: it must not act
            relay.cut()
            raise LibvirtError(self._connecting, _CUT, "the connection was cut")
        try:
            socket = quote(os.fsencode(relay.path))
            connection = libvirt.open(f"qemu+unix:///{self._daemon.kind}?mode=legacy&socket={socket}")
            connection.setKeepAlive(*_KEEPALIVE)
        except BaseException as error:
            with self._cutting:
                self._relay = None
            was_cut = relay.is_cut  # by a deadline, or as the interpreter ends
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
        """Return why there is no connection: libvirt's client sees only its end, the host knows the reason."""
        code, text = error.get_error_code() or 0, error.get_error_message() or str(error)
        refused = answered and code in _REFUSED
        failure = (_RefusedError if refused else LibvirtError)(self._connecting, code, text)
        if was_cut:
            return failure
        if answered and not refused:
            if code == _NO_DRIVER:
                failure.add("Its daemon has no driver for QEMU: install libvirt-daemon-driver-qemu there.")
            return failure
        with contextlib.suppress(CommandTimeoutError):  # then the daemon takes connections: libvirt's text is all
            if not refused and (said := complaint(self._transport.run(command, timeout=_COMPLAINT_TIMEOUT))):
                failure.add(f"The host says: {said}")
            inspected = self._transport.run(self._daemon.inspecting(), timeout=_COMPLAINT_TIMEOUT)
            if advice := self._daemon.advice(inspected, refused=refused):
                failure.add(advice)
        return failure


@contextlib.contextmanager
def translated(action: str) -> Iterator[None]:
    """Turn an error of libvirt's into this library's.

    Args:
        action: What is being done.

    Raises:
        LibvirtError: With libvirt's code and text.
        InvalidValueError: A name or a path is no text that libvirt could take.
    """
    import libvirt  # noqa: PLC0415

    try:
        yield
    except libvirt.libvirtError as error:
        failure = LibvirtError(action, error.get_error_code() or 0, error.get_error_message() or str(error))
        if failure.code in _DENIED:
            failure.add(f"Perhaps {READ_ONLY_ADVICE}.")
        raise failure from error
    except VpmemError:
        raise
    except UnicodeDecodeError as error:
        text = f"its answer is not UTF-8: {error.object[:_SHOWN]!r}"
        raise LibvirtError(action, _RPC, text) from error
    except ValueError as error:
        raise InvalidValueError("text for libvirt", action, f"text without a NUL byte ({error})") from None


def _answers(connection: libvirt.virConnect) -> bool:
    """Whether the daemon is still there: libvirt's own `isAlive` may not have noticed that it went."""
    import libvirt  # noqa: PLC0415

    try:
        return bool(connection.isAlive() == 1 and connection.getLibVersion())
    except libvirt.libvirtError:  # a new connection tells what is wrong, if anything is
        return False


_prepared = threading.Lock()
_loop: threading.Thread | None = None


def _prepare_libvirt() -> None:
    """Start libvirt's event loop, one for the process, and keep libvirt from printing what is raised anyway."""
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
                except libvirt.libvirtError:  # e.g. no descriptor is left; without the loop no call would end
                    time.sleep(_RETRY)

        _loop = threading.Thread(target=run, name="libvirt events", daemon=True)
        _loop.start()
