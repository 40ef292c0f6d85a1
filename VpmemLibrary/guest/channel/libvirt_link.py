"""The libvirt of a host: every call to it ends by a deadline, and a connection on which one did not is given up."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

from VpmemLibrary.errors import LibvirtError, LibvirtTimeoutError
from VpmemLibrary.guest.channel.bounded import Call, limited, within
from VpmemLibrary.guest.channel.libvirt_session import LibvirtSession, translated
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, Transport

if TYPE_CHECKING:
    import libvirt

_POLL = 0.5
_ONE_TRY = 20.0
"""Seconds after which a new connection is tried: the daemon that took this one may have gone with the last boot."""

_CLOSING = 3.0
"""Seconds for a call that ends something that may have gone with its connection."""

_ABORTING = 5.0
_INTERRUPTED = 2.0
"""Seconds for libvirt to take the request to abort a job, and again to end the job: at the deadline, and after an
interruption, as Robot Framework's ``[Timeout]`` and Ctrl-C are to take effect within 5 seconds."""

Result = TypeVar("Result")


class LibvirtLink:
    """A host's libvirt. The connection is made by the first call, and made again when it is broken.

    Args:
        transport: The way to the host.
        uri: Connect to this URI directly instead; for libvirt's own test driver.
        daemon: Which daemon of the host: libvirt's system daemon by default.
        timeout: Returns the seconds that a call may take when its caller says nothing.

    Example::

        link = LibvirtLink(transport)
        link.call("list domains", lambda connection: connection.listAllDomains())
    """

    def __init__(
        self,
        transport: Transport,
        *,
        uri: str = "",
        daemon: Daemon = SYSTEM,
        timeout: Callable[[], float] = lambda: DEFAULT_TIMEOUT,
    ) -> None:
        self._timeout = timeout
        self._transport = transport
        self._uri = uri
        self._daemon = daemon
        self._lock = threading.Lock()
        self._session = LibvirtSession(transport, uri, daemon)

    @property
    def host(self) -> str:
        """The host's name in messages."""
        return self._transport.name

    def call(
        self, action: str, work: Callable[[libvirt.virConnect], Result], *, timeout: float | None = None
    ) -> Result:
        """Return what `work` returns of the connection; libvirt's errors become this library's.

        Args:
            action: What is being done, for the message: ``define guest a``.
            work: What to do with the connection, in another thread.
            timeout: Seconds that it may take, with connecting.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: libvirt did not answer in time; the connection was cut.
        """
        return self._call(action, lambda session: work(session.connection()), timeout)

    def act(
        self,
        name: str,
        action: str,
        work: Callable[[libvirt.virDomain], Result],
        *,
        timeout: float | None = None,
        abort: bool = False,
    ) -> Result:
        """Return what `work` returns of a domain; libvirt's errors become this library's.

        Args:
            name: The domain's name.
            action: What is being done, for the message: ``start guest a``.
            work: What to do with the domain, in another thread.
            timeout: Seconds that it may take, with connecting.
            abort: It is a job (a migration, a save) that is aborted when it does not end in time.

        Raises:
            LibvirtError: There is no such domain, or libvirt refused.
            LibvirtTimeoutError: libvirt did not answer in time; the connection was cut if aborting did not help.
        """
        cancel = (lambda session: session.domain(name).abortJob()) if abort else None
        return self._call(action, lambda session: work(session.domain(name)), timeout, cancel)

    def wait_until_it_answers(self, timeout: float) -> None:
        """Wait until libvirt answers: after a boot of its host SSH may answer before libvirt does.

        Args:
            timeout: Seconds.

        Raises:
            LibvirtError: It does not answer in time.
            UnreachableError: The host does not.
        """
        with within(timeout) as deadline:
            while True:
                try:
                    return self.call("connect", lambda _: None, timeout=_ONE_TRY)
                except LibvirtError:
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(_POLL)

    def close(self) -> None:
        """End the connection; ending it twice is harmless."""
        session = self._session
        try:
            Call(session.close).wait(_CLOSING)
        finally:
            self._drop(session)

    @contextlib.contextmanager
    def listening(self, name: str, event: int, tell: Callable[..., None]) -> Iterator[None]:
        """Call `tell` for each event of one kind about a domain, by the thread of libvirt's events.

        Args:
            name: The domain's name.
            event: A ``VIR_DOMAIN_EVENT_ID_*``.
            tell: What is called for each.

        Raises:
            LibvirtError: There is no such domain, or libvirt does not answer.
        """

        def register(session: LibvirtSession) -> tuple[LibvirtSession, libvirt.virConnect, int]:
            domain = session.domain(name)
            connection = domain.connect()
            return session, connection, connection.domainEventRegisterAny(domain, event, tell, None)

        session, connection, watch = self._call(f"listen to guest {name}", register)
        try:
            yield
        finally:
            if session is self._session:  # else the watch ended with its connection
                with contextlib.suppress(LibvirtError):
                    self._call(
                        f"stop listening to guest {name}",
                        lambda _: connection.domainEventDeregisterAny(watch),
                        _CLOSING,
                    )

    @contextlib.contextmanager
    def changes(self, name: str) -> Iterator[threading.Event]:
        """Return an event that is set whenever a domain, or the agent in it, changes its state.

        It is a hint to look again and never the only one: events end with the connection.

        Args:
            name: The domain's name.

        Raises:
            LibvirtError: There is no such domain, or libvirt does not answer.
        """
        import libvirt  # noqa: PLC0415

        changed = threading.Event()
        kinds = (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE)
        with contextlib.ExitStack() as stack:
            for kind in kinds:
                stack.enter_context(self.listening(name, kind, lambda *_: changed.set()))
            yield changed

    def _call(
        self,
        action: str,
        work: Callable[[LibvirtSession], Result],
        timeout: float | None = None,
        cancel: Callable[[LibvirtSession], object] | None = None,
    ) -> Result:
        seconds = limited(self._timeout() if timeout is None else timeout)
        session = self._session
        call = Call(lambda: work(session))
        try:
            in_time = call.wait(seconds)
        except BaseException:  # a keyword's own timeout, or Ctrl-C
            self._give_up(session, call, cancel, _INTERRUPTED)
            raise
        if not in_time:
            aborted = self._give_up(session, call, cancel, _ABORTING)
            if not (aborted and call.succeeded):
                raise LibvirtTimeoutError(action, self.host, seconds, aborted=aborted)
        with translated(action):
            return call.result()

    def _give_up(
        self,
        session: LibvirtSession,
        call: Call[Result],
        cancel: Callable[[LibvirtSession], object] | None,
        patience: float,
    ) -> bool:
        """Abort the job of a call, if there is one, and return whether that ended the call; else abandon the call."""
        ended = False
        try:
            if cancel is not None:
                Call(lambda: cancel(session)).wait(patience)
                ended = call.wait(patience)
        finally:
            if not ended:
                self._drop(session)
        return ended

    def _drop(self, session: LibvirtSession) -> None:
        with self._lock:
            if self._session is session:
                self._session = LibvirtSession(self._transport, self._uri, self._daemon)
        session.cut()
