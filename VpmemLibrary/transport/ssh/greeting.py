"""Read the text that a server sends before SSH begins: lines to skip, a refusal, or the text of another kind of server.

RFC 4253, section 4.2, lets a server send other lines before its version. paramiko accepts a hundred of these lines,
OpenSSH accepts 1,024.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Callable, Iterator
from typing import TypeVar

from VpmemLibrary.errors import AccessDeniedError, UnreachableError
from VpmemLibrary.polling import attempts, growing
from VpmemLibrary.transport.ssh.proxy import CommandConnection, Way
from VpmemLibrary.visible import one_line

MOST_LINES = 1024
LONGEST = 1 << 16
"""Maximum bytes before the version."""

_VERSION = b"SSH-"
_SHOWN = 200
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0
_LOG = logging.getLogger(__name__)

_BUSY = (b"exceeded maxstartups",)
_PENALTY = (b"not allowed at this time",)

T = TypeVar("T")


class Greeting:
    """The data that a server sent before its version."""

    def __init__(self) -> None:
        self.before = bytearray()
        """The lines before the version."""
        self.begun = False
        """Whether the version has arrived."""
        self.ended = False
        """Whether the server closed the connection, or sent too much data, before its version."""
        self._lines = 0

    def feed(self, data: bytes) -> bytes:
        """Return the part of `data` that belongs to SSH; ``b""`` before SSH has begun."""
        if self.begun or self.ended:
            return data if self.begun else b""
        line_start = self.before.rfind(b"\n") + 1
        self.before += data
        while True:
            if self.before.startswith(_VERSION, line_start):
                rest = bytes(self.before[line_start:])
                del self.before[line_start:]
                self.begun = True
                return rest
            end = self.before.find(b"\n", line_start)
            if end < 0:
                break
            line_start = end + 1
            self._lines += 1
        self.ended = self._lines > MOST_LINES or len(self.before) > LONGEST
        return b""

    @property
    def is_refusal(self) -> bool:
        """Whether sshd refused the connection because of its load, or closed it without sending anything."""
        text = bytes(self.before).lower()
        return self.ended and not self.begun and (not text.strip() or any(each in text for each in _BUSY))

    def describe(self, where: str) -> str:
        """Return what is wrong and what to do; empty if SSH has begun, or if the server sent nothing in time.

        `where` is the address in the text.
        """
        text = one_line(bytes(self.before[:_SHOWN]).decode("utf-8", "replace").strip())
        if self.begun or not (self.ended or text):
            return ""
        if any(each in bytes(self.before).lower() for each in _PENALTY):
            return (
                f"sshd at {where} refuses connections from this machine for a while ({text}): log-ins from here "
                "failed before. Wait, fix the credentials, or set PerSourcePenalties or PerSourcePenaltyExemptList in "
                "its sshd_config."
            )
        if self.is_refusal:
            said = f" ({text})" if text else ""
            return (
                f"The server at {where} closes each connection before SSH begins{said}. If there are too many log-ins "
                "at once, raise MaxStartups (or PerSourceMaxStartups) in its sshd_config. If a single log-in fails as "
                "well, see PerSourcePenalties there, /etc/hosts.deny, fail2ban, and whether sshd can start: sshd -t."
            )
        return f"The server at {where} is no SSH server. It sent: {text}. Check the port."


class GreetedConnection:
    """A connection without the data that comes before SSH's version."""

    def __init__(self, connection: Way, greeting: Greeting) -> None:
        self._connection = connection
        self._greeting = greeting

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def send(self, data: bytes) -> int:
        """Send some of `data`. Return how many bytes were sent.

        Raises:
            OSError: The server closed the connection.
        """
        try:
            return self._connection.send(data)
        except TimeoutError:
            raise
        except OSError:
            with contextlib.suppress(OSError):  # the server may have sent the reason
                if not self._greeting.begun:
                    self._greeting.feed(self._connection.recv(LONGEST))
            self._greeting.ended = True
            raise

    def recv(self, size: int) -> bytes:
        """Return received bytes, beginning with the version.

        Raises:
            TimeoutError: No bytes arrived in time, or only bytes before the version.
        """
        greeting = self._greeting
        if greeting.begun:
            return self._connection.recv(size)
        try:
            data = self._connection.recv(size)
        except TimeoutError:
            raise
        except OSError:
            greeting.ended = True
            raise
        greeting.ended |= not data
        if rest := greeting.feed(data):
            return rest
        if greeting.ended:
            return b""
        raise TimeoutError


class Greeter:
    """Makes connections. Connects again if a busy server closes the connection before SSH begins."""

    def __init__(self, dial: Callable[[str, int, float], Way]) -> None:
        self._dial = dial
        self._greeting = Greeting()

    def dial(self, address: str, port: int, timeout: float) -> Way:
        """Open the connection."""
        self._greeting = Greeting()
        connection = self._dial(address, port, timeout)
        if isinstance(connection, CommandConnection):  # its own explanation of its end is better
            return connection
        return GreetedConnection(connection, self._greeting)  # type: ignore[return-value]  # it has the same methods

    def connected(self, connect: Callable[[], T], where: str, seconds: float) -> T:
        """Return the connection that `connect` makes with `dial`. Retry if the server closes connections.

        Raises:
            UnreachableError: No connection was made. If the server sent something other than SSH, the message has
                that text.
        """
        failure = UnreachableError()
        for _ in attempts(f"{where} to accept a connection", timeout=seconds, interval=_pauses()):
            self._greeting = Greeting()
            try:
                return connect()
            except AccessDeniedError:
                raise
            except UnreachableError as error:
                failure = error
                if not self._greeting.is_refusal:
                    break
            _LOG.info("The server at %s closed a connection before SSH began; connecting again", where)
        if reason := self._greeting.describe(where):
            raise UnreachableError(reason) from failure
        raise failure


def _pauses() -> Iterator[float]:
    """Yield growing pauses of random length, so that many controllers do not retry at the same time."""
    return (pause * random.uniform(0.5, 1.0) for pause in growing(_FIRST_PAUSE, _LONGEST_PAUSE))  # noqa: S311
