"""Log a user in over SSH: choose the keys and methods and their order, and record the outcome of each attempt."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from msgspec import Struct

from VpmemLibrary.errors import AccessDeniedError, UnreachableError
from VpmemLibrary.transport.ssh.agent import AgentError, AgentSilentError
from VpmemLibrary.transport.ssh.identities import Identities, Identity
from VpmemLibrary.transport.ssh.protocol import HostTransport
from VpmemLibrary.transport.ssh.public_keys import plain_type
from VpmemLibrary.transport.ssh.settings import SshSettings
from VpmemLibrary.transport.ssh.signing import algorithm_for
from VpmemLibrary.transport.ssh.userauth import EndedError, LoginAnswer, UserAuth
from VpmemLibrary.transport.ssh.wire import Reader
from VpmemLibrary.visible import one_line

_KEYS_BEFORE_PASSWORD = 4
"""Maximum number of keys to try before the password. sshd ends the connection at the sixth refusal (MaxAuthTries), and
the password takes two attempts."""
_CONNECTIONS = 2
_MOST_QUESTIONS = 10  # rounds of keyboard-interactive
_SECOND_FACTOR = re.compile(r"code|otp|token|one.?time|factor|verif|duo|\bpin\b|challenge", re.IGNORECASE)
_NEW_PASSWORD = re.compile(r"new password|new unix password", re.IGNORECASE)
_PASSWORD_ROUNDS = 2
"""Rounds of questions that ask for the password, or for the current password when it has expired. Any later question
asks for a new password, in any language."""
_LONGEST_PROMPT = 200


class MoreToTryError(Exception):
    """The host ended the connection after several attempts. A new connection can make the remaining attempts."""


class _NotOfferedError(Exception):
    """An attempt is not possible. The text says why."""


class _Attempt(Struct, frozen=True):
    label: str
    method: str
    act: Callable[[UserAuth], LoginAnswer]
    agent: bool = False


class Login:
    """Logs a user in over one connection. A second connection may make the remaining attempts."""

    def __init__(self, settings: SshSettings, identities: Identities) -> None:
        self._settings = settings
        self._outcomes: list[str] = list(identities.problems)
        self._key_refused = False
        self._connections = 0
        self._accepted: list[_Attempt] = []
        named = [self._key(each) for each in identities.offers if each.named]
        others = [self._key(each) for each in identities.offers if not each.named]
        room = max(0, _KEYS_BEFORE_PASSWORD - len(named)) if settings.password is not None else len(others)
        self._pending = [*named, *others[:room], *self._passwords(), *others[room:]]

    def authenticate(self, transport: HostTransport) -> None:
        """Log in. paramiko calls this method after the key exchange.

        Raises:
            AccessDeniedError: The host refused all methods.
            UnreachableError: The host did not answer in time.
            MoreToTryError: The host ended the connection, and some attempts were not made yet.
        """
        self._connections += 1
        settings = self._settings
        self._pending = [*self._accepted, *self._pending]
        self._accepted.clear()
        auth = UserAuth(transport, settings.user, settings.connect_timeout)
        current = "the log-in"
        deadline = time.monotonic() + 2 * settings.connect_timeout
        try:
            auth.begin()
            answer = auth.request("none")
            while not answer.success:
                attempt = self._next(answer, deadline)
                self._pending.remove(attempt)
                current = attempt.label
                started = time.monotonic()
                answer = self._made(attempt, auth, answer)
                if attempt.agent:  # the deadline does not include the time in which a user confirms
                    deadline += time.monotonic() - started
            transport.logged_in_by, transport.outcomes = current, tuple(self._outcomes)
        except EndedError as error:
            raise self._ended(transport, current, auth.banner) from error
        except TimeoutError as error:
            raise UnreachableError(
                f"Host {settings.label} did not answer within {settings.connect_timeout:g} s while user "
                f"{settings.user!r} logged in ({current})."
            ) from error

    def _next(self, answer: LoginAnswer, deadline: float) -> _Attempt:
        attempt = next((each for each in self._pending if each.method in answer.methods), None)
        if attempt is None:
            raise self._denied(answer.methods)
        if time.monotonic() > deadline:
            raise TimeoutError
        return attempt

    def failed_again(self, error: Exception) -> AccessDeniedError:
        """Return the error for a log-in whose second connection failed with `error`."""
        self._outcomes.append(f"a second connection for the rest: {error}")
        return self._denied(())

    def _made(self, attempt: _Attempt, auth: UserAuth, before: LoginAnswer) -> LoginAnswer:
        """Make an attempt. Return the answer, which lists the methods that can follow."""
        try:
            answer = attempt.act(auth)
        except AgentError as error:
            self._note(attempt, str(error))
            if isinstance(error, AgentSilentError):  # the agent would not answer for other keys, either
                self._pending = [each for each in self._pending if not each.agent]
            return before
        except _NotOfferedError as error:
            self._note(attempt, str(error))
            return before
        if answer.success:
            return answer
        if answer.more is not None:
            self._note(attempt, "the host asks for a new password: log in once with ssh, and change it")
            return before
        if answer.partial:
            self._note(attempt, "accepted, but the host requires another method as well")
            self._accepted.append(attempt)
        else:
            self._note(attempt, "refused")
            self._key_refused |= attempt.method == "publickey"
        return answer

    def _note(self, attempt: _Attempt, outcome: str) -> None:
        self._outcomes.append(f"{attempt.label}: {outcome}")

    def _ended(self, transport: HostTransport, current: str, banner: bytes | None) -> Exception:
        why = f": {one_line(transport.ended)}" if transport.ended else ""
        if banner and (text := banner.decode("utf-8", "replace").strip()):  # PAM's reason, e.g. an expired account
            why += f" (the host said: {one_line(text[-_LONGEST_PROMPT:])})"
        if current == "the log-in":
            return UnreachableError(
                f"Host {self._settings.label} ended the connection before user {self._settings.user!r} could log "
                f"in{why}."
            )
        self._outcomes.append(f"{current}: the host ended the connection{why}")
        if self._pending and self._connections < _CONNECTIONS:
            # Try the password first, because the user gave the password. The library only found the remaining keys.
            self._pending.sort(key=lambda attempt: attempt.method == "publickey")
            return MoreToTryError(why)
        if self._pending:
            self._outcomes.append(
                f"{len(self._pending)} more: not tried, because the host allows no more attempts; give the right key "
                "as key_file"
            )
        return self._denied(())

    def _denied(self, methods: tuple[str, ...]) -> AccessDeniedError:
        settings = self._settings
        accepts = f" The host accepts: {', '.join(map(one_line, methods))}." if methods else ""
        keys = [each for each in self._pending if each.method == "publickey"]
        if not self._outcomes and not keys:
            missing = "no password or key_file was given, and neither an agent nor ~/.ssh has a key"
            if settings.password is not None:
                missing = "the host accepts no password"
            return AccessDeniedError(
                f"No key and no password can log in to {settings.label} as user {settings.user!r}: {missing}.{accepts}"
            )
        advice = (
            " Check the user's name, and that the key is in the user's authorized_keys." if self._key_refused else ""
        )
        not_tried = dict.fromkeys(each.label for each in self._pending if methods and each.method not in methods)
        lines = [
            *self._outcomes,
            *(f"{label}: not tried, because the host does not accept this method" for label in not_tried),
        ]
        tried = "".join(f"\n- {one_line(line)}" for line in lines)
        return AccessDeniedError(
            f"Host {settings.label} does not let user {settings.user!r} in.{accepts}{advice} Tried:{tried}"
        )

    def _key(self, identity: Identity) -> _Attempt:
        def act(auth: UserAuth) -> LoginAnswer:
            public = identity.public
            algorithm = algorithm_for(public.type, auth.accepted_algorithms())
            if algorithm is None:
                raise _NotOfferedError(
                    "not offered, the host accepts RSA keys with SHA-1 signatures only, which are not safe: use an "
                    "ed25519 key (ssh-keygen -t ed25519)"
                )
            if identity.in_agent:  # an agent may ask its user to confirm, so ask first whether the host accepts the key
                answer = auth.takes_key(algorithm, public.data)
                if answer.more is None:
                    return answer
            signing = plain_type(algorithm)
            return auth.signed(algorithm, public.data, lambda data: identity.signer.sign(data, signing))

        return _Attempt(str(identity), "publickey", act, identity.in_agent)

    def _passwords(self) -> list[_Attempt]:
        password = self._settings.password
        if password is None:
            return []
        return [
            _Attempt("the password", "password", lambda auth: auth.password(password)),
            _Attempt(
                "the password as the answer to the host's questions (keyboard-interactive)",
                "keyboard-interactive",
                lambda auth: _answered(auth, password),
            ),
        ]


def _answered(auth: UserAuth, password: str) -> LoginAnswer:
    """Answer a host's hidden questions with the password."""
    answer = auth.request("keyboard-interactive", bytes(8))  # no language, no submethods
    asked = 0
    for _ in range(_MOST_QUESTIONS):
        if answer.more is None:
            return answer
        replies = []
        prompts = _prompts(answer.more)
        asked += bool(prompts)
        for prompt, hidden in prompts:
            if hidden and (asked > _PASSWORD_ROUNDS or _NEW_PASSWORD.search(prompt)):
                raise _NotOfferedError(
                    f"the host asks {one_line(prompt[:_LONGEST_PROMPT]).strip()!r}: the password has expired. Log in "
                    "once with ssh, and change it"
                )
            if not hidden or _SECOND_FACTOR.search(prompt):
                raise _NotOfferedError(
                    f"the host asks {one_line(prompt[:_LONGEST_PROMPT]).strip()!r}, which only a person can answer: "
                    "use a key, or let the host ask this user for the password alone"
                )
            replies.append(password)
        answer = auth.reply(replies)
    raise _NotOfferedError(f"the host asked {_MOST_QUESTIONS} times")


def _prompts(message: bytes) -> list[tuple[str, bool]]:
    reader = Reader(message)
    try:
        for _ in range(3):  # name, instruction, language
            reader.string()
        return [(reader.text(), reader.take(1) == b"\0") for _ in range(reader.number())]
    except ValueError as error:
        raise _NotOfferedError("the host's question cannot be read") from error
