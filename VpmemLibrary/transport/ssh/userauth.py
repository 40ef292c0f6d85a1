"""The SSH log-in protocol (RFC 4252, 4256): send one request after the other, each with a deadline.

paramiko's own handler signs in the thread that reads from the connection, so the connection ends if signing fails. It
also hides the host's answer to a refused request.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable

import paramiko
from msgspec import Struct

from VpmemLibrary.transport.ssh.wire import Reader, packed

_SERVICE_REQUEST, _SERVICE_ACCEPT = 5, 6
_REQUEST, _FAILURE, _SUCCESS, _BANNER = 50, 51, 52, 53
_MORE, _REPLY = 60, 61
_POLL = 0.5
_SERVICE = "ssh-connection"
_YES, _NO = b"\1", b"\0"


class EndedError(Exception):
    """The host ended the connection."""


class LoginAnswer(Struct, frozen=True):
    """A host's answer to a request.

    Args:
        success: Whether the user is logged in.
        partial: Whether the request was accepted and the host requires another method as well.
        methods: The methods that can follow.
        more: The host's question, if the request was neither refused nor accepted.
    """

    success: bool = False
    partial: bool = False
    methods: tuple[str, ...] = ()
    more: bytes | None = None


class UserAuth:
    """Sends requests to log in. It replaces paramiko's handler for the answers."""

    def __init__(self, transport: paramiko.Transport, user: str, answer_timeout: float) -> None:
        self._transport = transport
        self._user = user
        self._timeout = answer_timeout
        self._answers: queue.SimpleQueue[LoginAnswer | None] = queue.SimpleQueue()
        self._accepted = False
        self.banner: bytes | None = None
        self._handler_table: dict[int, Callable[[paramiko.Message], None]] = {
            _SERVICE_ACCEPT: lambda _: self._answers.put(LoginAnswer()),
            _FAILURE: self._on_failure,
            _SUCCESS: self._on_success,
            _BANNER: self._on_banner,
            _MORE: lambda message: self._answers.put(LoginAnswer(more=message.asbytes())),
        }
        transport.auth_handler = self  # type: ignore[assignment]  # it has all methods of a handler that paramiko calls

    def is_authenticated(self) -> bool:
        """Return whether the user is logged in. paramiko calls this method."""
        return self._accepted

    def get_username(self) -> str:
        """Return the user's name. paramiko calls this method."""
        return self._user

    def abort(self) -> None:
        """Record that the connection is gone. paramiko calls this method."""
        self._answers.put(None)

    def accepted_algorithms(self) -> tuple[str, ...]:
        """Return the signature algorithms that the host accepts; empty if the host sent no list."""
        said = self._transport.server_extensions.get("server-sig-algs", b"")  # type: ignore[attr-defined]
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        return tuple(algorithm for algorithm in text.split(",") if algorithm)

    def begin(self) -> None:
        """Request the log-in service.

        Raises:
            EndedError: The host ended the connection.
            TimeoutError: The host did not answer.
        """
        self._send(_SERVICE_REQUEST, packed("ssh-userauth"))
        self._wait()

    def request(self, method: str, fields: bytes = b"") -> LoginAnswer:
        """Send a log-in request and return the answer.

        Raises:
            EndedError: The host ended the connection.
            TimeoutError: The host did not answer.
        """
        self._send(_REQUEST, packed(self._user, _SERVICE, method) + fields)
        return self._wait()

    def password(self, password: str) -> LoginAnswer:
        """Send a password and return the answer."""
        return self.request("password", _NO + packed(password.encode("utf-8", "surrogateescape")))

    def takes_key(self, algorithm: str, blob: bytes) -> LoginAnswer:
        """Ask whether the host would accept a key. If so, the answer has `more`."""
        return self.request("publickey", _NO + packed(algorithm, blob))

    def signed(self, algorithm: str, blob: bytes, sign: Callable[[bytes], bytes]) -> LoginAnswer:
        """Send a key with a signature and return the answer. An exception of `sign` is raised."""
        fields = _YES + packed(algorithm, blob)
        head = packed(self._transport.session_id or b"") + bytes([_REQUEST])
        signature = sign(head + packed(self._user, _SERVICE, "publickey") + fields)
        return self.request("publickey", fields + packed(signature))

    def reply(self, answers: list[str]) -> LoginAnswer:
        """Send the answers to a host's questions (keyboard-interactive). Return the host's next answer."""
        texts = [answer.encode("utf-8", "surrogateescape") for answer in answers]
        self._send(_REPLY, len(texts).to_bytes(4, "big") + packed(*texts))
        return self._wait()

    def _send(self, kind: int, fields: bytes) -> None:
        message = paramiko.Message()
        message.add_bytes(bytes([kind]) + fields)
        if not self._transport.is_active():
            raise EndedError
        try:
            self._transport._send_message(message)  # type: ignore[attr-defined]  # as in paramiko's own handler
        except (OSError, EOFError) as error:
            raise EndedError from error

    def _wait(self) -> LoginAnswer:
        deadline = time.monotonic() + self._timeout
        while (left := deadline - time.monotonic()) > 0:
            try:
                answer = self._answers.get(timeout=min(left, _POLL))
            except queue.Empty:
                if self._transport.is_active():
                    continue
                raise EndedError from None
            if answer is None:
                raise EndedError
            return answer
        raise TimeoutError

    def _on_success(self, _: paramiko.Message) -> None:
        self._accepted = True
        self._transport._auth_trigger()  # type: ignore[attr-defined]  # start delayed compression
        self._answers.put(LoginAnswer(success=True))

    def _on_failure(self, message: paramiko.Message) -> None:
        reader = Reader(message.asbytes())
        methods = tuple(method for method in reader.text().split(",") if method)
        self._answers.put(LoginAnswer(partial=reader.take(1) != _NO, methods=methods))

    def _on_banner(self, message: paramiko.Message) -> None:
        self.banner = Reader(message.asbytes()).string()
