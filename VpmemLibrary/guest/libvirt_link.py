"""The one libvirt connection of a host, over the host's own transport.

libvirt's client speaks to a unix socket of this process's own (`relay.py`), which carries the bytes to libvirt's daemon
on the host. So the host's key, the credentials and the connection are the transport's: there is no second log-in, and
nothing is written to anybody's known_hosts.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

from VpmemLibrary.errors import CommandTimeoutError, InvalidValueError, LibvirtError, VpmemError
from VpmemLibrary.guest.relay import Relay
from VpmemLibrary.host.transport import Transport

if TYPE_CHECKING:
    import libvirt

SYSTEM_URI = "qemu:///system"
_KEEPALIVE = (5, 6)
_COMPLAINT_TIMEOUT = 15.0
_POLL = 0.5

# virt-ssh-helper came with libvirt 6.8; without it a netcat that knows unix sockets does.
_DAEMON = r"""
command -v virt-ssh-helper >/dev/null && exec virt-ssh-helper "$1"
for socket in /run/libvirt/virtqemud-sock /run/libvirt/libvirt-sock; do
    [ -S "$socket" ] && exec nc -U "$socket"
done
echo "no virt-ssh-helper is installed and libvirt has no socket in /run/libvirt: is its daemon running?" >&2
exit 1
"""
_TO_DAEMON = ("sh", "-c", _DAEMON, "sh", SYSTEM_URI)

Result = TypeVar("Result")


class LibvirtLink:
    """A connection to a host's libvirt, made with the first call and made anew after libvirt restarted.

    Args:
        transport: The way to the host.
        uri: Connect to this URI directly instead; for libvirt's own test driver.

    Example::

        link = LibvirtLink(transport)
        link.call("list domains", lambda connection: connection.listAllDomains())
    """

    def __init__(self, transport: Transport, *, uri: str = "") -> None:
        self._transport = transport
        self._uri = uri
        self._lock = threading.RLock()
        self._connection: libvirt.virConnect | None = None
        self._relay: Relay | None = None

    @property
    def host(self) -> str:
        """The host's name in messages."""
        return self._transport.name

    def connection(self) -> libvirt.virConnect:
        """Return the live connection.

        Raises:
            LibvirtError: libvirt does not answer.
        """
        with self._lock:
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

        with self._lock:
            if self._connection is not None:
                try:
                    return self._connection.lookupByName(name)
                except libvirt.libvirtError:
                    if _answers(self._connection):
                        raise
            return self.connection().lookupByName(name)

    def call(self, action: str, work: Callable[[libvirt.virConnect], Result]) -> Result:
        """Return what `work` returns of the connection; libvirt's errors become this library's.

        Args:
            action: What is being done, for the message: ``define guest a``.
            work: What to do with the connection.

        Raises:
            LibvirtError: libvirt refused.
        """
        with translated(action):
            return work(self.connection())

    def wait_until_it_answers(self, timeout: float) -> None:
        """Wait until libvirt answers: after a boot of its host SSH may answer before libvirt does.

        Args:
            timeout: Seconds.

        Raises:
            LibvirtError: It does not answer in time.
            UnreachableError: The host does not.
        """
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.connection()
            except LibvirtError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(_POLL)
            else:
                return

    def close(self) -> None:
        """End the connection and its relay; ending it twice is harmless."""
        import libvirt  # noqa: PLC0415

        with self._lock:
            connection, self._connection = self._connection, None
            relay, self._relay = self._relay, None
            try:
                if connection is not None:
                    with contextlib.suppress(libvirt.libvirtError):  # it may be broken, which is why it is ended
                        connection.close()
            finally:
                if relay is not None:
                    relay.close()

    @contextlib.contextmanager
    def listening(self, name: str, event: int, tell: Callable[..., None]) -> Iterator[None]:
        """Have events of one kind about a domain told, by the thread of libvirt's events.

        Args:
            name: The domain's name.
            event: A ``VIR_DOMAIN_EVENT_ID_*``.
            tell: What is called for each.

        Raises:
            libvirt.libvirtError: There is no such domain, or libvirt does not answer.
        """
        domain = self.domain(name)
        connection = domain.connect()
        watch = connection.domainEventRegisterAny(domain, event, tell, None)
        try:
            yield
        finally:
            _deregister(connection, watch)

    @contextlib.contextmanager
    def changes(self, name: str) -> Iterator[threading.Event]:
        """Have an event that is set whenever a domain, or the agent in it, changes its state.

        It is a hint to look again and never the only one: events end with the connection.

        Args:
            name: The domain's name.

        Raises:
            libvirt.libvirtError: There is no such domain, or libvirt does not answer.
        """
        import libvirt  # noqa: PLC0415

        changed = threading.Event()
        kinds = (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE)
        with contextlib.ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(self.listening(name, kind, lambda *_: changed.set()))
            yield changed

    def _open(self) -> libvirt.virConnect:
        import libvirt  # noqa: PLC0415

        _prepare_libvirt()
        if self._uri:
            with translated(f"connect to {self._uri}"):
                return libvirt.open(self._uri)
        relay = self._relay = Relay(lambda: self._transport.stream(_TO_DAEMON))
        try:
            connection = libvirt.open(f"qemu+unix:///system?mode=legacy&socket={quote(str(relay.path))}")
            connection.setKeepAlive(*_KEEPALIVE)
        except BaseException as error:
            self._relay = None
            relay.close()
            if relay.failure is not None:
                raise relay.failure from error
            if isinstance(error, libvirt.libvirtError):
                raise self._refusal(error) from error
            raise
        return connection

    def _refusal(self, error: libvirt.libvirtError) -> LibvirtError:
        """Return why there is no connection: libvirt's client sees only its end, the host knows the reason."""
        text = error.get_error_message() or str(error)
        with contextlib.suppress(CommandTimeoutError):  # then the daemon takes connections, and libvirt's text is all
            complaint = self._transport.run(_TO_DAEMON, timeout=_COMPLAINT_TIMEOUT).error_text.strip()
            text = f"{text}. The host says: {complaint}" if complaint else text
        return LibvirtError(f"connect to {SYSTEM_URI} on {self.host}", error.get_error_code() or 0, text)


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
        raise LibvirtError(action, error.get_error_code() or 0, error.get_error_message() or str(error)) from error
    except VpmemError:
        raise
    except ValueError as error:
        raise InvalidValueError("text for libvirt", action, f"text without a NUL byte ({error})") from None


def _answers(connection: libvirt.virConnect) -> bool:
    """Whether the daemon is still there: libvirt's own `isAlive` may not have noticed that it went."""
    import libvirt  # noqa: PLC0415

    try:
        return bool(connection.isAlive() == 1 and connection.getLibVersion())
    except libvirt.libvirtError:  # a new connection tells what is wrong, if anything is
        return False


def _deregister(connection: libvirt.virConnect, watch: int) -> None:
    import libvirt  # noqa: PLC0415

    with contextlib.suppress(libvirt.libvirtError):  # the watch ended with its connection
        connection.domainEventDeregisterAny(watch)


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
                libvirt.virEventRunDefaultImpl()

        _loop = threading.Thread(target=run, name="libvirt events", daemon=True)
        _loop.start()
