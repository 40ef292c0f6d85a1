"""A client of the SSH agent (draft-ietf-sshm-ssh-agent) with a deadline for each answer."""

from __future__ import annotations

import os
import socket
import time

from msgspec import Struct

from VpmemLibrary.transport.controller import shortage
from VpmemLibrary.transport.ssh.public_keys import PublicKey
from VpmemLibrary.transport.ssh.wire import Reader, packed

_REQUEST_IDENTITIES = 11
_IDENTITIES = 12
_SIGN = 13
_SIGNATURE = 14
_FAILURE = 5
_LONGEST = 256 << 10  # same limit as ssh
_MOST_KEYS = 2048  # same limit as ssh
_FLAGS = {"rsa-sha2-256": 2, "rsa-sha2-512": 4}


class AgentError(Exception):
    """A request to the agent failed. The text says why."""


class AgentSilentError(AgentError):
    """The agent did not answer in time."""


class AgentKey(Struct, frozen=True):
    """A key in an agent, with the comment of its owner."""

    agent: Agent
    public: PublicKey
    comment: str

    def sign(self, data: bytes, algorithm: str) -> bytes:
        """Return a signature in the format of SSH.

        Raises:
            AgentError: The agent did not sign.
        """
        return self.agent.sign(self.public, data, algorithm)


class Agent:
    """An SSH agent at a socket. An answer may take `timeout` seconds: a signature may need a touch by the user."""

    def __init__(self, path: str, timeout: float) -> None:
        self._path = path
        self._timeout = timeout

    @classmethod
    def find(cls, path: str, timeout: float) -> Agent | None:
        """Return the agent at a path, or the agent that the environment names. Return None if both are absent."""
        path = path or os.environ.get("SSH_AUTH_SOCK", "")
        return cls(path, timeout) if path else None

    def keys(self) -> list[AgentKey]:
        """Return the agent's keys in the agent's order.

        Raises:
            AgentError: The agent does not answer, or its answer is invalid.
            ControllerError: This machine has no descriptor left.
        """
        kind, answer = self._ask(bytes([_REQUEST_IDENTITIES]))
        if kind != _IDENTITIES:
            raise AgentError(f"it did not list its keys (answer {kind})")
        keys = []
        try:
            reader = Reader(answer)
            if (number := reader.number()) > _MOST_KEYS:
                raise AgentError(f"it says that it has {number} keys")
            for _ in range(number):
                blob, comment = reader.string(), reader.text()
                keys.append(AgentKey(self, PublicKey(Reader(blob).text(), blob), comment))
        except ValueError as error:
            raise AgentError("its list of keys cannot be read") from error
        return keys

    def sign(self, key: PublicKey, data: bytes, algorithm: str) -> bytes:
        """Return a signature by one of the agent's keys.

        Raises:
            AgentError: The agent did not sign.
            ControllerError: This machine has no descriptor left.
        """
        flags = _FLAGS.get(algorithm, 0)
        kind, answer = self._ask(bytes([_SIGN]) + packed(key.data, data) + flags.to_bytes(4, "big"))
        if kind != _SIGNATURE:
            raise AgentError(
                "the agent did not sign" if kind == _FAILURE else f"the agent did not sign (answer {kind})"
            )
        try:
            signature = Reader(answer).string()
            if (used := Reader(signature).text()) != algorithm:
                raise AgentError(f"the agent signed with {used}, not with {algorithm}")
        except ValueError as error:
            raise AgentError("the agent's signature cannot be read") from error
        return signature

    def _ask(self, request: bytes) -> tuple[int, bytes]:
        deadline = time.monotonic() + self._timeout
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(self._timeout)
                connection.connect(self._path)
                connection.sendall(packed(request))
                length = int.from_bytes(_receive(connection, 4, deadline), "big")
                if not 0 < length <= _LONGEST:
                    raise AgentError(f"{self._path} does not speak the agent's protocol")
                answer = _receive(connection, length, deadline)
        except TimeoutError as error:
            waits = " (it may wait for a touch or a confirmation by its user)" if request[0] == _SIGN else ""
            raise AgentSilentError(f"no answer within {self._timeout:g} s{waits}") from error
        except OSError as error:
            if short := shortage(f"ask the SSH agent at {self._path}", error):
                raise short from error
            raise AgentError(f"nothing answers at {self._path} ({error.strerror or error})") from error
        return answer[0], answer[1:]


def _receive(connection: socket.socket, size: int, deadline: float) -> bytes:
    received = b""
    while len(received) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        part = connection.recv(size - len(received))
        if not part:
            raise AgentError("it closed the connection without an answer")
        received += part
    return received
