"""What a server sends before SSH begins: lines that are passed over, a refusal, or the words of another server.

RFC 4253, section 4.2, lets a server send other lines before its version. paramiko stops after a hundred of them, as
OpenSSH does after 1,024.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable
from typing import TypeVar

from VpmemLibrary.errors import AccessDeniedError, UnreachableError
from VpmemLibrary.transport.ssh.proxy import CommandConnection, Way
from VpmemLibrary.visible import one_line

MOST_LINES = 1024
LONGEST = 1 << 16
"""How many bytes before the version are read."""

_VERSION = b"SSH-"
_SHOWN = 200
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 2.0
_LOG = logging.getLogger(__name__)

_BUSY = (b"exceeded maxstartups",)
_PENALTY = (b"not allowed at this time",)

T = TypeVar("T")


class Greeting:
    """What a server sent before its version."""

    def __init__(self) -> None:
        self.before = bytearray()
        """The lines before the version."""
        self.begun = False
        """Whether the version has come."""
        self.ended = False
        """Whether the server closed the connection, or sent too much, before its version."""
        self._lines = 0

    def feed(self, data: bytes) -> bytes:
        """Return the part of `data` that is SSH's own; ``b""`` while there is none."""
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
        """Whether sshd refused the connection for its load, or nothing at all was said before the end."""
        text = bytes(self.before).lower()
        return self.ended and not self.begun and (not text.strip() or any(each in text for each in _BUSY))

    def describe(self, where: str) -> str:
        """Return what is wrong at an address and what to do; empty if SSH has begun or nothing was sent in time.

        Args:
            where: The address and the port.
        """
        text = one_line(bytes(self.before[:_SHOWN]).decode("utf-8", "replace").strip())
        if self.begun or not (self.ended or text):
            return ""
        if any(each in bytes(self.before).lower() for each in _PENALTY):
            return (
                f"sshd at {where} refuses connections from this machine for a while ({text}): logins from here have "
                "failed before. Wait, fix the credentials, or set PerSourcePenalties or PerSourcePenaltyExemptList in "
                "its sshd_config."
            )
        if self.is_refusal:
            said = f" ({text})" if text else ""
            return (
                f"The server at {where} closes each connection before SSH begins{said}. Too many log-ins at once: "
                "raise MaxStartups (or PerSourceMaxStartups) in its sshd_config. If it happens to a single log-in as "
                "well, see PerSourcePenalties there, /etc/hosts.deny, fail2ban, and whether sshd can start: sshd -t."
            )
        return f"Something other than SSH answers at {where}; it says: {text}. Check the port."


class GreetedConnection:
    """A connection from which what comes before SSH's version is taken.

    Args:
        connection: The connection.
        greeting: Takes it.
    """

    def __init__(self, connection: Way, greeting: Greeting) -> None:
        self._connection = connection
        self._greeting = greeting

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)

    def send(self, data: bytes) -> int:
        """Send some of `data`, and return how many bytes.

        Raises:
            OSError: The server closed the connection.
        """
        try:
            return self._connection.send(data)
        except TimeoutError:
            raise
        except OSError:
            with contextlib.suppress(OSError):  # it may have said why
                if not self._greeting.begun:
                    self._greeting.feed(self._connection.recv(LONGEST))
            self._greeting.ended = True
            raise

    def recv(self, size: int) -> bytes:
        """Return what comes, from the version on.

        Raises:
            TimeoutError: Nothing of it has come.
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
    """Makes connections, again if a server that is busy drops them before SSH begins.

    Args:
        dial: What opens the connection.
    """

    def __init__(self, dial: Callable[[str, int, float], Way]) -> None:
        self._dial = dial
        self._greeting = Greeting()

    def dial(self, address: str, port: int, timeout: float) -> Way:
        """Open the connection."""
        self._greeting = Greeting()
        connection = self._dial(address, port, timeout)
        if isinstance(connection, CommandConnection):  # it knows best why it ended
            return connection
        return GreetedConnection(connection, self._greeting)  # type: ignore[return-value]  # it has the same face

    def connected(self, connect: Callable[[], T], where: str, seconds: float) -> T:
        """Return the connection that `connect` makes with `dial`.

        Args:
            connect: What makes the connection.
            where: The address and the port.
            seconds: How long a server that drops connections is tried again.

        Raises:
            UnreachableError: It was not made; if the server said something else than SSH, the message has it.
        """
        deadline = time.monotonic() + seconds
        pause = _FIRST_PAUSE
        while True:
            self._greeting = Greeting()
            try:
                return connect()
            except AccessDeniedError:
                raise
            except UnreachableError as error:
                if self._greeting.is_refusal and time.monotonic() + pause < deadline:
                    _LOG.info("The server at %s drops a connection before SSH begins; it is tried again", where)
                    time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  many controllers must not try together
                    pause = min(2 * pause, _LONGEST_PAUSE)
                    continue
                if reason := self._greeting.describe(where):
                    raise UnreachableError(reason) from error
                raise
