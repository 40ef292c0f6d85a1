"""Call the libvirt of a host. Each call has a deadline. At the deadline the connection is cut."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from VpmemLibrary.errors import LibvirtError, LibvirtTimeoutError
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline, limit_to_deadline
from VpmemLibrary.guest.channel.libvirt_session import LibvirtSession, translated
from VpmemLibrary.host.libvirt_daemon import SYSTEM, Daemon
from VpmemLibrary.polling import poll
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, Transport
from VpmemLibrary.transport.deadline import Call

if TYPE_CHECKING:
    import libvirt

_POLL = 0.5
_ONE_TRY = 20.0
"""Seconds until a new connection is tried, because the old connection may be to a daemon of the previous boot."""

_CLOSING = 3.0
"""Seconds for a call that closes a resource. The resource may have ended with its connection."""

_ABORTING = 5.0
_INTERRUPTED = 2.0
"""Seconds for libvirt to accept the abort of a job, and again for the job to end.

`_ABORTING` applies at the deadline, `_INTERRUPTED` after an interruption: Robot Framework's ``[Timeout]`` and Ctrl-C
must take effect within 5 seconds.
"""

Result = TypeVar("Result")


class LibvirtLink:
    """The libvirt of a host. The first call connects, and a call on a broken connection reconnects.

    Args:
        transport: The transport to the host.
        uri: Connect directly to this URI instead; for libvirt's own test driver.
        daemon: The daemon of the host: libvirt's system daemon by default.
        timeout: Returns the seconds for a call without its own timeout.

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
        """Run `work` on the connection and return its result. Errors of libvirt become errors of this library.

        Args:
            action: The action for the message: ``define guest a``.
            work: The calls on the connection, which another thread makes.
            timeout: Seconds for connecting and `work` together.

        Raises:
            LibvirtError: libvirt refused.
            LibvirtTimeoutError: libvirt did not answer within `timeout`. The connection was cut.
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
        """Run `work` on a domain and return its result. Errors of libvirt become errors of this library.

        Args:
            name: The domain's name.
            action: The action for the message: ``start guest a``.
            work: The calls on the domain, which another thread makes.
            timeout: Seconds for connecting and `work` together.
            abort: Whether `work` is a job (a migration, a save), which is aborted at the deadline.

        Raises:
            LibvirtError: There is no such domain, or libvirt refused.
            LibvirtTimeoutError: libvirt did not answer within `timeout`. The connection was cut unless the abort ended
                the job.
        """
        cancel = (lambda session: session.domain(name).abortJob()) if abort else None
        return self._call(action, lambda session: work(session.domain(name)), timeout, cancel)

    def wait_until_it_answers(self, timeout: float) -> None:
        """Wait until libvirt answers. After a boot of the host, SSH may answer before libvirt does.

        Args:
            timeout: Seconds.

        Raises:
            LibvirtError: libvirt did not answer within `timeout`.
            UnreachableError: The host did not answer.
        """
        with libvirt_deadline(timeout) as deadline:
            poll(
                lambda: self.call("connect", lambda _: True, timeout=_ONE_TRY),
                f"libvirt on {self.host} to answer",
                timeout=deadline - time.monotonic(),
                interval=_POLL,
                failure=lambda error: cast(LibvirtError, error),  # a call that returns ends the poll
                retry_on=LibvirtError,
            )

    def close(self) -> None:
        """Close the connection. Closing twice is harmless."""
        session = self._session
        try:
            Call(session.close).wait(_CLOSING)
        finally:
            self._drop(session)

    @contextlib.contextmanager
    def listening(self, name: str, event: int, notify: Callable[..., None]) -> Iterator[None]:
        """Call `notify` for each event of one kind about a domain while the ``with`` block runs.

        libvirt's event thread calls `notify`. `name` is the domain's name, and `event` a ``VIR_DOMAIN_EVENT_ID_*``.

        Raises:
            LibvirtError: There is no such domain, or libvirt does not answer.
        """

        def register(session: LibvirtSession) -> tuple[LibvirtSession, libvirt.virConnect, int]:
            domain = session.domain(name)
            connection = domain.connect()
            return session, connection, connection.domainEventRegisterAny(domain, event, notify, None)

        session, connection, watch = self._call(f"listen to guest {name}", register)
        try:
            yield
        finally:
            if session is self._session:  # otherwise the registration ended with its connection
                with contextlib.suppress(LibvirtError):
                    self._call(
                        f"stop listening to guest {name}",
                        lambda _: connection.domainEventDeregisterAny(watch),
                        _CLOSING,
                    )

    @contextlib.contextmanager
    def changes(self, name: str) -> Iterator[threading.Event]:
        """Return an event that is set when a domain, or the agent in it, changes its state.

        Use the event only as a hint to poll earlier, because events end when the connection ends.

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
        seconds = limit_to_deadline(self._timeout() if timeout is None else timeout)
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
        """If a call is a job, abort the call. If the call does not end, abandon it. Return whether the call ended."""
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
