"""Run the commands of the hosts file on the controller: they switch hosts on and off, or add and remove CXL devices.

A command gets its password from an environment variable. Results and messages hide the values of these variables, and
the word after an option such as ``-P`` or ``--password``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from msgspec.structs import replace

from VpmemLibrary.errors import CommandTimeoutError, InvalidValueError
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

HIDDEN = "***"
"""The text that is shown instead of a secret."""

_TELLING = r"[\w-]*(?:pass|pwd|secret|token|key|credential)[\w-]*"

# The secret is the next word: after -P, -k and -y of ipmitool, -p of fence agents and redfishtool, -u of curl.
_BEFORE = re.compile(rf"-[Pkpuy]|--user|(?i:--?{_TELLING})", re.ASCII)

# The secret is the rest of the word: -Psecret, --password=secret, IPMI_PASSWORD=secret.
_BEGINNING = re.compile(rf"-P|--user=|(?i:{_TELLING}=)", re.ASCII)
_IN_URL = r"://[^/\s@:]*:([^/\s@]+)@"


def passed_on(what: str, words: Iterable[str]) -> dict[str, str]:
    """Return the environment variables of a command. Each name maps to the variable of this process that has the value.

    Args:
        what: The field of the hosts file and its section, for messages.
        words: The names of the command's variables, e.g. ``IPMI_PASSWORD``. If another variable has the value, write
            ``IPMI_PASSWORD=RACK1_PASSWORD``.

    Raises:
        InvalidValueError: A word has neither of these two forms.
    """
    variables = {}
    for word in words:
        name, _, source = word.partition("=")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*(=[A-Z_][A-Z0-9_]*)?", word):  # a password, for example
            valid = "names of environment variables, e.g. IPMI_PASSWORD or IPMI_PASSWORD=RACK1_PASSWORD, without values"
            raise InvalidValueError(what, HIDDEN, valid)
        variables[name] = source or name
    return variables


def require_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the environment variables of a command.

    Raises:
        InvalidValueError: A variable is not set, or is empty.
    """
    for source in variables.values():
        if not os.environ.get(source):
            raise InvalidValueError(
                "environment variable for a command of the hosts file",
                source,
                "a variable that is set on the machine that runs the tests",
            )
    return {name: os.environ[source] for name, source in variables.items()}


def run_control(argv: Sequence[str], variables: Mapping[str, str], *, timeout: float, failure: str) -> CommandResult:
    """Run a command of the hosts file on this machine. Hide its secrets.

    Args:
        argv: The command.
        variables: The environment variables of the command; see `passed_on`.
        timeout: Maximum seconds that the command may take.
        failure: What a failure of the command means, for the message.

    Returns:
        The result, with secrets hidden.

    Raises:
        InvalidValueError: A variable is not set. Nothing was run.
        CommandTimeoutError: The command did not end within `timeout`.
        CommandError: The command failed.
    """
    values = require_variables(variables)
    secrets = {*values.values(), *_secrets_in(argv)}
    try:
        result = LocalTransport(environment=values).run(argv, timeout=timeout)
    except CommandTimeoutError as error:
        raise CommandTimeoutError(_hidden(error.result, secrets), error.meaning) from None
    return _hidden(result, secrets).check(failure)


def _secrets_in(argv: Sequence[str]) -> Iterator[str]:
    """Return the secrets in a command, also those in a script among its arguments."""
    for words in (argv, *(word.split() for word in argv if re.search(r"\s", word))):
        for before, word in pairwise(words):
            if _BEFORE.fullmatch(before):
                yield word.strip("'\"")
        for word in words:
            if beginning := _BEGINNING.match(word):
                yield word[beginning.end() :].strip("'\"")
            yield from re.findall(_IN_URL, word)


def _hidden(result: CommandResult, secrets: set[str]) -> CommandResult:
    longest_first = sorted(filter(None, secrets), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in longest_first:
            text = text.replace(secret, HIDDEN)
        return text

    def hide_bytes(data: bytes) -> bytes:
        for secret in longest_first:
            data = data.replace(secret.encode("utf-8", "surrogateescape"), HIDDEN.encode())
        return data

    return replace(
        result,
        argv=tuple(hide(word) for word in result.argv),
        stdout=hide_bytes(result.stdout),
        stderr=hide_bytes(result.stderr),
    )
