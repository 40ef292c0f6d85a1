"""The log-in protocol of SSH (RFC 4252, 4256): one request after the other, each with a deadline.

Paramiko's own handler signs in the thread that reads from the connection, so that a key that does not sign ends the
connection; and it does not say what a host answered to a request that it refused.
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from dataclasses import dataclass

import paramiko

from VpmemLibrary.transport.ssh.wire import Reader, packed

_SERVICE_REQUEST, _SERVICE_ACCEPT = 5, 6
_REQUEST, _FAILURE, _SUCCESS, _BANNER = 50, 51, 52, 53
_MORE, _REPLY = 60, 61
_POLL = 0.5
_SERVICE = "ssh-connection"
_YES, _NO = b"\1", b"\0"


class EndedError(Exception):
    """The host ended the connection."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a host answered to a request.

    Args:
        success: Whether the user is logged in.
        partial: Whether the request was accepted and the host wants another method as well.
        methods: The methods that can go on.
        more: What the host asks, for a request that it neither refused nor accepted.
    """

    success: bool = False
    partial: bool = False
    methods: tuple[str, ...] = ()
    more: bytes | None = None


class UserAuth:
    """Sends requests to log in, and takes paramiko's place as the handler of their answers.

    Args:
        transport: The connection, with its keys exchanged.
        user: Who logs in.
        answer_timeout: Seconds that each answer may take.
    """

    def __init__(self, transport: paramiko.Transport, user: str, answer_timeout: float) -> None:
        self._transport = transport
        self._user = user
        self._timeout = answer_timeout
        self._answers: queue.SimpleQueue[Answer | None] = queue.SimpleQueue()
        self._accepted = False
        self.banner: bytes | None = None
        self._handler_table: dict[int, Callable[[paramiko.Message], None]] = {
            _SERVICE_ACCEPT: lambda _: self._answers.put(Answer()),
            _FAILURE: self._on_failure,
            _SUCCESS: self._on_success,
            _BANNER: self._on_banner,
            _MORE: lambda message: self._answers.put(Answer(more=message.asbytes())),
        }
        transport.auth_handler = self  # type: ignore[assignment]  # it has what paramiko asks of its own handler

    def is_authenticated(self) -> bool:
        """Whether the user is logged in; paramiko asks."""
        return self._accepted

    def get_username(self) -> str:
        """Who logs in; paramiko asks."""
        return self._user

    def abort(self) -> None:
        """Note that the connection is gone; paramiko calls this."""
        self._answers.put(None)

    def accepted_algorithms(self) -> tuple[str, ...]:
        """Return the algorithms of signatures that the host said it accepts; none if it said nothing."""
        said = self._transport.server_extensions.get("server-sig-algs", b"")  # type: ignore[attr-defined]
        text = said.decode("utf-8", "replace") if isinstance(said, bytes) else said
        return tuple(algorithm for algorithm in text.split(",") if algorithm)

    def begin(self) -> None:
        """Ask for the log-in service.

        Raises:
            EndedError: The host ended the connection.
            TimeoutError: The host did not answer.
        """
        self._send(_SERVICE_REQUEST, packed("ssh-userauth"))
        self._wait()

    def request(self, method: str, fields: bytes = b"") -> Answer:
        """Return the answer to a request to log in.

        Args:
            method: The method, e.g. ``password``.
            fields: The method's own fields.

        Raises:
            EndedError: The host ended the connection.
            TimeoutError: The host did not answer.
        """
        self._send(_REQUEST, packed(self._user, _SERVICE, method) + fields)
        return self._wait()

    def password(self, password: str) -> Answer:
        """Return the answer to a password."""
        return self.request("password", _NO + packed(password.encode("utf-8", "surrogateescape")))

    def takes_key(self, algorithm: str, blob: bytes) -> Answer:
        """Return the answer to the question whether a key would be accepted; it asks for `more` if so."""
        return self.request("publickey", _NO + packed(algorithm, blob))

    def signed(self, algorithm: str, blob: bytes, sign: Callable[[bytes], bytes]) -> Answer:
        """Return the answer to a key with a signature.

        Args:
            algorithm: The algorithm of the key or certificate.
            blob: The key or certificate.
            sign: Returns the signature of bytes. What it raises is raised.
        """
        fields = _YES + packed(algorithm, blob)
        head = packed(self._transport.session_id or b"") + bytes([_REQUEST])
        signature = sign(head + packed(self._user, _SERVICE, "publickey") + fields)
        return self.request("publickey", fields + packed(signature))

    def reply(self, answers: list[str]) -> Answer:
        """Return what follows the answers to a host's questions (keyboard-interactive)."""
        texts = [answer.encode("utf-8", "surrogateescape") for answer in answers]
        self._send(_REPLY, len(texts).to_bytes(4, "big") + packed(*texts))
        return self._wait()

    def _send(self, kind: int, fields: bytes) -> None:
        message = paramiko.Message()
        message.add_bytes(bytes([kind]) + fields)
        if not self._transport.is_active():
            raise EndedError
        try:
            self._transport._send_message(message)  # type: ignore[attr-defined]  # as paramiko's own handler
        except (OSError, EOFError) as error:
            raise EndedError from error

    def _wait(self) -> Answer:
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
        self._transport._auth_trigger()  # type: ignore[attr-defined]  # delayed compression starts
        self._answers.put(Answer(success=True))

    def _on_failure(self, message: paramiko.Message) -> None:
        reader = Reader(message.asbytes())
        methods = tuple(method for method in reader.text().split(",") if method)
        self._answers.put(Answer(partial=reader.take(1) != _NO, methods=methods))

    def _on_banner(self, message: paramiko.Message) -> None:
        self.banner = Reader(message.asbytes()).string()
