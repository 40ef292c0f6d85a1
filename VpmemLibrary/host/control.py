"""Commands of the hosts file that run on the machine that the tests run on: they switch hosts, and their CXL devices.

Such a command may need a password. It gets one from an environment variable, and no password is shown: what follows an
option such as ``-P`` or ``--password`` and the values of those variables are hidden in the command and in its output.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from VpmemLibrary.errors import CommandTimeoutError, InvalidValueError
from VpmemLibrary.transport.base import CommandResult
from VpmemLibrary.transport.local import LocalTransport

HIDDEN = "***"
"""What is shown in the place of a secret."""

_TELLING = r"[\w-]*(?:pass|pwd|secret|token|key|credential)[\w-]*"

# The value is the next word: ipmitool has -P, -k and -y for secrets, fence agents and redfishtool -p, curl -u.
_BEFORE = re.compile(rf"-[Pkpuy]|--user|(?i:--?{_TELLING})", re.ASCII)

# The value is the rest of the word: -Psecret, --password=secret, IPMI_PASSWORD=secret.
_BEGINNING = re.compile(rf"-P|--user=|(?i:{_TELLING}=)", re.ASCII)
_IN_URL = re.compile(r"://[^/\s@:]*:([^/\s@]+)@")


def passed_on(where: str, field: str, words: Iterable[str]) -> dict[str, str]:
    """Return which environment variables a command gets: for each of its variables the one that has the value.

    Args:
        where: The section of the hosts file, for messages.
        field: The field of the section, for messages.
        words: For each variable its name, e.g. ``IPMI_PASSWORD``, or ``IPMI_PASSWORD=RACK1_PASSWORD`` where the value
            is in another variable.

    Raises:
        InvalidValueError: A word is none of that.
    """
    variables = {}
    for word in words:
        name, _, source = word.partition("=")
        if not re.fullmatch(r"[A-Z_][A-Z0-9_]*(=[A-Z_][A-Z0-9_]*)?", word):  # a value by mistake is no such name
            valid = "names of environment variables, e.g. IPMI_PASSWORD or IPMI_PASSWORD=RACK1_PASSWORD, and no value"
            raise InvalidValueError(f"{field} of {where}", HIDDEN, valid)
        variables[name] = source or name
    return variables


def require_variables(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the values of the environment variables that a command gets.

    Raises:
        InvalidValueError: One is not set, or is empty.
    """
    for source in variables.values():
        if not os.environ.get(source):
            raise InvalidValueError(
                "environment variable for a command of the hosts file", source, "one that is set where the tests run"
            )
    return {name: os.environ[source] for name, source in variables.items()}


def run_control(argv: Sequence[str], variables: Mapping[str, str], *, timeout: float, failure: str) -> CommandResult:
    """Run a command of the hosts file on this machine, and show no secret of it.

    Args:
        argv: The command.
        variables: For each environment variable that it gets the variable of this process that has the value.
        timeout: Seconds that it may take.
        failure: What its failure means.

    Returns:
        The result, with secrets hidden.

    Raises:
        InvalidValueError: A variable is not set; nothing was run.
        CommandTimeoutError: It did not end in time.
        CommandError: It failed.
    """
    values = require_variables(variables)
    secrets = {*values.values(), *_secrets_in(argv)}
    try:
        result = LocalTransport(environment=values).run(argv, timeout=timeout)
    except CommandTimeoutError as error:
        raise CommandTimeoutError(_hidden(error.result, secrets), error.meaning) from None
    return _hidden(result, secrets).check(failure)


def _secrets_in(argv: Sequence[str]) -> Iterator[str]:
    """Give what are secrets in a command, also in a script that is one of its arguments."""
    for words in (argv, *(word.split() for word in argv if re.search(r"\s", word))):
        for before, word in pairwise(words):
            if _BEFORE.fullmatch(before):
                yield word.strip("'\"")
        for word in words:
            if beginning := _BEGINNING.match(word):
                yield word[beginning.end() :].strip("'\"")
            yield from _IN_URL.findall(word)


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
