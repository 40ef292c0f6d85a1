"""Run commands in a guest through its QEMU guest agent, with the interface of a transport.

An agent's answer may be missing, late, endless, or of any form. A guest-exec is sent once and never repeated. Requests
that only read are repeated until the deadline of the command.
"""

from __future__ import annotations

import base64
import contextlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn, TypeVar, cast

from msgspec import Struct

from VpmemLibrary.errors import (
    AgentRefusedError,
    CommandError,
    CommandTimeoutError,
    GuestError,
    LibvirtError,
    UnreadableOutputError,
    UnsupportedError,
    VpmemError,
)
from VpmemLibrary.guest.channel.agent_rules import AGENT_COMMANDS, refusal
from VpmemLibrary.guest.channel.libvirt_deadline import libvirt_deadline
from VpmemLibrary.polling import attempts, growing, poll
from VpmemLibrary.sizes import Size
from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    ENVIRONMENT,
    CommandResult,
    Connection,
    Stream,
    checked_argv,
)
from VpmemLibrary.transport.output import MOST_OUTPUT
from VpmemLibrary.transport.serial.ending import END_FUNCTION, overdue

AgentCall = Callable[[str, int], str]
"""Sends one agent command as JSON, with a timeout in seconds, and returns the answer as JSON."""

_ANSWER_TIMEOUT = 30
_STATUS_TIMEOUT = 120
"""Seconds to wait for the status of a command. If the answer comes later, the exit status is lost."""

_ENDING = 30.0
"""Seconds in which a command that timed out must end after it was killed."""

_LEAVING = 3.0
"""Seconds to kill a command after an interruption, e.g. by a keyword's own timeout."""

_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.25
_CHUNK = 1 << 20
_NOT_FOUND = 127
_NOT_KNOWN = -9
_SHOWN = 200
_ABSENT = ("No such file", "cannot find the file")
"""Parts of glib's error for a program that does not exist, on Linux and on Windows."""

_PROBE = ("sh", "-c", ":")
_PROBING = 30.0
"""Seconds for the agent to run an empty command, because an emulated guest may pause for some seconds."""

_WINDOWS = "mswindows"
_ANSWERED = 1  # VIR_ERR_INTERNAL_ERROR: libvirt's code for an error that the agent answered (qemu_agent.c)
_NEEDED = (
    " The guest must run qemu-guest-agent on the channel org.qemu.guest_agent.0. The domain's XML must have: "
    "<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>."
)
_TOO_LONG = "Unable to encode message payload"  # its code, VIR_ERR_RPC, also means other failures of a connection
_NOT_CONNECTED = "is not connected"

# VIR_ERR_AGENT_UNRESPONSIVE, VIR_ERR_AGENT_UNSYNCED, VIR_ERR_AGENT_COMMAND_TIMEOUT: no answer came. libvirt drops a
# late answer, and synchronises with the agent before the next command (qemu_agent.c, qemuAgentGuestSync).
_SILENT = (86, 97, 112)

# The agent is the parent of its commands and of this script. So a process with another parent is not a command of the
# agent.
_END = f'{END_FUNCTION}grep -q "^PPid:[[:blank:]]*$PPID$" "/proc/$1/status" && end "$1"'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

Kind = TypeVar("Kind")


class _SilentAgentError(GuestError):
    """The agent did not answer within the timeout."""


class _Reply(Struct, frozen=True):
    """An agent's answer. Its form is checked when a field is read.

    Args:
        name: The guest's name in messages.
        execute: The agent command.
        text: The whole answer, for messages.
        value: The value that the command returned.
    """

    name: str
    execute: str
    text: str
    value: object

    def whole(self, least: int, most: int) -> int:
        return self._number(self.value, "a number", least, most)

    def number(self, field: str, least: int, most: int) -> int:
        return self._number(self._field(field), f"a number {field!r}", least, most)

    def flag(self, field: str) -> bool:
        return self._checked(self._field(field), bool, f"{field!r} true or false")

    def octets(self, field: str) -> bytes:
        """Return the bytes of a base64 field; empty if the field is absent."""
        text = self._checked(self._field(field, ""), str, f"{field!r} in base64")
        try:
            return base64.b64decode(text, validate=True)
        except ValueError as error:
            raise self.unreadable(f"{field!r} in base64") from error

    def has(self, field: str) -> bool:
        return isinstance(self.value, dict) and field in self.value

    def unreadable(self, expected: str) -> GuestError:
        """Return the error for an answer of an unexpected form."""
        shown = self.text[:_SHOWN]
        return GuestError(f"The agent of {self.name} answered {self.execute} with {shown!r}: expected {expected}.")

    def _field(self, field: str, default: object = None) -> object:
        return self._checked(self.value, dict, f"an object with {field!r}").get(field, default)

    def _number(self, found: object, expected: str, least: int, most: int) -> int:
        number = self._checked(found, int, expected)
        if not least <= number <= most:
            raise self.unreadable(f"{expected} from {least} to {most}")
        return number

    def _checked(self, found: object, kind: type[Kind], expected: str) -> Kind:
        if isinstance(found, kind) and (kind is bool or not isinstance(found, bool)):  # in Python True is an int
            return found
        raise self.unreadable(expected)


class _Status(Struct, frozen=True):
    """The agent's status of a command.

    Args:
        exited: Whether the command ended.
        exit_status: The exit status; ``-N`` if signal N ended the command, -9 while the status is unknown.
        stdout: The standard output.
        stderr: The standard error output.
        truncated: Whether the agent dropped a part of the output.
    """

    exited: bool
    exit_status: int = _NOT_KNOWN
    stdout: bytes = b""
    stderr: bytes = b""
    truncated: bool = False


class AgentTransport:
    """A transport into a guest through its agent.

    Args:
        name: The guest's name in messages.
        call: Sends an agent command and returns its answer.

    Example::

        AgentTransport("a", call).run(["ndctl", "list", "-B"]).check()
    """

    def __init__(self, name: str, call: AgentCall) -> None:
        self._name = name
        self._call = call
        self._silent = False

    @property
    def name(self) -> str:
        """The guest's name in messages and logs."""
        return f"guest {self._name}"

    def ping(self, timeout: float = 5) -> bool:
        """Return whether the agent answers and runs a command. The library needs both to use the guest.

        Args:
            timeout: Seconds to wait for an answer, rounded down to whole seconds, at least 1.

        Raises:
            AgentRefusedError: The agent answers but refuses to run commands. The message says what to change.
            UnsupportedError: The guest runs Windows and has no POSIX shell.
        """
        try:
            self._ask("guest-ping", timeout=max(1, int(timeout)))
            if self.run(_PROBE, timeout=max(timeout, _PROBING)).exit_status == 0:
                return True
        except AgentRefusedError as error:
            error.add(self._details())
            raise
        except (GuestError, CommandError):
            return False
        if self._system() == _WINDOWS:
            raise UnsupportedError(
                f"The agent of {self._name} cannot run `sh`, because the guest runs Windows. The library inspects "
                "guests with a POSIX shell. Boot a Linux guest."
            )
        return False

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command in the guest until it ends, and return its result, for any exit status.

        The command is sent to the agent once. If the agent does not answer, the request for the status is repeated
        until `timeout`, because a guest under load may be slow.

        Args:
            argv: The command, one item for each argument.
            timeout: Seconds after which the command is killed in the guest.
            stdin: The standard input of the command.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: The command did not end within `timeout`. The message says whether it was killed.
            GuestError: The agent does not answer, or its answer cannot be read.
        """
        command = checked_argv(argv)
        started = time.monotonic()
        deadline = started + timeout
        arguments: dict[str, object] = {
            "path": command[0],
            "arg": list(command[1:]),
            "env": [f"PATH={_PATH}", *(f"{name}={value}" for name, value in ENVIRONMENT.items())],
            "capture-output": True,
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        try:
            pid = self._start(arguments, deadline)
        except AgentRefusedError:
            raise
        except GuestError as error:
            if not any(text in str(error) for text in _ABSENT):
                raise
            absent = _Status(exited=True, exit_status=_NOT_FOUND, stderr=f"{command[0]}: not found\n".encode())
            return self._result(command, absent, started, len(stdin))
        try:
            status = self._wait(pid, deadline)
        except BaseException:  # e.g. a keyword's own timeout: end the process, if the agent still answers
            with contextlib.suppress(VpmemError), libvirt_deadline(_LEAVING):
                self._end(pid, time.monotonic() + _LEAVING)
            raise
        if status is None or not status.exited:
            self._give_up(command, pid, timeout, started, len(stdin))
        result = self._result(command, status, started, len(stdin))
        if status.truncated:
            raise UnreadableOutputError(
                result, "The agent keeps only 16 MiB of a command's output. Write the output to a file"
            )
        return result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Raise, because the agent has no streams.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"The agent of {self.name} cannot stream a command. Use SSH to run: {' '.join(argv)}")

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:  # noqa: ARG002
        """Raise, because the agent cannot open connections.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"The agent of {self.name} cannot connect to {address} port {port}. Use SSH.")

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file in the guest: at most 16 MiB, within a minute.

        If the agent refuses to open files, a command in the guest reads the file.

        Raises:
            GuestError: The file cannot be read, is larger than 16 MiB, or the read takes more than a minute.
            CommandError: The command could not read the file.
        """
        deadline = time.monotonic() + DEFAULT_TIMEOUT
        try:
            handle = self._open(path, "r")
        except AgentRefusedError:
            return self.run(["cat", "--", path]).check().stdout
        try:
            data = bytearray()
            while True:
                read = {"handle": handle, "count": _CHUNK}
                part = self._ask("guest-file-read", read, timeout=_seconds(deadline))
                octets = part.octets("buf-b64")
                data += octets
                if len(data) > MOST_OUTPUT:
                    raise GuestError(
                        f"{path} in {self.name} is larger than {Size(MOST_OUTPUT)}. Read it in parts, with a command."
                    )
                if part.flag("eof"):
                    return bytes(data)
                if not octets or len(octets) > _CHUNK:
                    raise part.unreadable(f"1 to {_CHUNK} bytes, or the end of the file")
                if time.monotonic() > deadline:
                    raise GuestError(
                        f"{path} in {self.name} was not read within {DEFAULT_TIMEOUT:g} s: the agent sent only "
                        f"the first {Size(len(data))}."
                    )
        finally:
            self._ask("guest-file-close", {"handle": handle})

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file in the guest atomically: the whole file or nothing.

        Raises:
            GuestError: The file cannot be written.
            CommandError: The new file could not replace the old file.
        """
        new = self.run(["mktemp", f"{path}.XXXXXX"]).check().text.strip()  # mktemp always sets mode 0600
        try:
            self._fill(new, data)
            self.run(["chmod", f"{mode:o}", new]).check()
            self.run(["mv", "-f", "-T", "--", new, path]).check()
        except BaseException:
            with contextlib.suppress(VpmemError):
                self.run(["rm", "-f", "--", new])
            raise

    def _fill(self, path: str, data: bytes) -> None:
        """Write data into an existing, empty file."""
        chunks = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        try:
            handle = self._open(path, "w")
        except AgentRefusedError:
            for chunk in chunks:
                self.run(["sh", "-c", 'exec cat >>"$1"', "sh", path], stdin=chunk).check()
            self.run(["sync"]).check()
            return
        try:
            for chunk in chunks:
                written = self._ask("guest-file-write", {"handle": handle, "buf-b64": base64.b64encode(chunk).decode()})
                written.number("count", len(chunk), len(chunk))
            self._ask("guest-file-flush", {"handle": handle})
        finally:
            self._ask("guest-file-close", {"handle": handle})

    def close(self) -> None:
        """Do nothing, because the agent's channel belongs to the guest."""

    # Requests to the agent

    def _ask(
        self, execute: str, arguments: Mapping[str, object] | None = None, *, timeout: int = _ANSWER_TIMEOUT
    ) -> _Reply:
        """Send one agent command, once, and return its answer.

        Raises:
            _SilentAgentError: No answer came within `timeout`.
            GuestError: The agent refused, or its answer cannot be read.
        """
        request = {"execute": execute, **({"arguments": arguments} if arguments else {})}
        try:
            answer = self._call(json.dumps(request), timeout)
        except LibvirtError as error:
            if error.code not in _SILENT and (refused := refusal(self._name, execute, error.text)):
                self._silent = False
                raise refused from error
            if _TOO_LONG in error.text:
                # VIR_NET_MESSAGE_STRING_MAX in libvirt's src/rpc/virnetprotocol.x. The agent's answer is in base64.
                raise GuestError(
                    f"The answer of {self.name} to {execute} is longer than 4 MiB, the limit of libvirt (3 MiB of a "
                    "command's output). Write the output to a file in the guest."
                ) from error
            self._silent = error.code in _SILENT
            raise (_SilentAgentError if self._silent else GuestError)(
                f"The agent of {self.name} did not run {execute}: {error.text} (libvirt error code {error.code})."
                f"{'' if error.code == _ANSWERED and _NOT_CONNECTED not in error.text else _NEEDED}"
            ) from error
        self._silent = False
        try:
            decoded = json.loads(answer)
        except (ValueError, RecursionError):  # a number with too many digits raises ValueError too
            decoded = None
        reply = _Reply(self.name, execute, answer, decoded)
        if isinstance(decoded, dict) and isinstance(wrong := decoded.get("error"), dict):
            reason = str(wrong.get("desc") or wrong.get("class"))[:_SHOWN]
            raise refusal(self._name, execute, reason) or GuestError(
                f"The agent of {self.name} did not run {execute}: {reason}."
            )
        if not reply.has("return"):
            raise reply.unreadable("a JSON object with 'return'")
        return _Reply(self.name, execute, answer, decoded["return"])

    def _ask_again(self, execute: str, arguments: Mapping[str, object], deadline: float) -> _Reply:
        """Send an agent command that only reads. Repeat it while no answer comes, until the deadline."""
        lost = False

        def ask() -> _Reply:
            nonlocal lost
            try:
                return self._ask(execute, arguments, timeout=_seconds(deadline, _STATUS_TIMEOUT))
            except _SilentAgentError:
                lost = True
                raise
            except GuestError as error:
                if lost:
                    error.add(f"An earlier answer to {execute} was lost. It may have had the result of the command.")
                raise

        return poll(
            ask,
            f"the agent of {self._name} to answer {execute}",
            timeout=deadline - time.monotonic(),
            interval=_LONGEST_WAIT,
            failure=lambda error: cast(_SilentAgentError, error),  # an answer ends the poll
            retry_on=_SilentAgentError,
        )

    def _details(self) -> str:
        """Describe the agent for a message: its version, and the commands of this library that are disabled in it."""
        try:
            answer = self._ask("guest-info", timeout=_ANSWER_TIMEOUT).value
        except VpmemError:  # the agent may refuse guest-info as well
            return "The agent does not report which commands it allows (guest-info)."
        listed = answer.get("supported_commands") if isinstance(answer, dict) else None
        commands = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        disabled = [str(each.get("name")) for each in commands if each.get("enabled") is False]
        refused = [name for name in AGENT_COMMANDS if name in disabled]
        version = str(answer.get("version", "of an unknown version"))[:_SHOWN] if isinstance(answer, dict) else ""
        return (
            f"The agent is qemu-guest-agent {version}. By its own report it refuses: {', '.join(refused) or 'nothing'}."
        )

    def _system(self) -> str:
        """Return the id of the guest's operating system, e.g. ``debian``; empty if the agent does not report it."""
        try:
            answer = self._ask("guest-get-osinfo").value
        except VpmemError:
            return ""
        return str(answer.get("id", "")) if isinstance(answer, dict) else ""

    def _start(self, arguments: Mapping[str, object], deadline: float) -> int:
        """Start a command in the guest, and return its process id."""
        if self._silent:  # first get any answer: the result of guest-exec to a silent agent would be unknown
            self._ask_again("guest-ping", {}, deadline)
        try:
            reply = self._ask("guest-exec", arguments, timeout=_seconds(deadline, _STATUS_TIMEOUT))
        except _SilentAgentError as error:
            if _NOT_CONNECTED not in str(error):
                error.add("It is unknown whether the guest started the command. The command was not sent again.")
            raise
        return reply.number("pid", 1, 1 << 31)

    def _open(self, path: str, mode: str) -> int:
        return self._ask("guest-file-open", {"path": path, "mode": mode}).whole(0, 1 << 62)

    def _status(self, pid: int, deadline: float) -> _Status:
        reply = self._ask_again("guest-exec-status", {"pid": pid}, deadline)
        if not reply.flag("exited"):
            return _Status(exited=False)
        if reply.has("signal"):
            exit_status = -reply.number("signal", 1, 127)
        else:
            exit_status = reply.number("exitcode", -1 << 31, 1 << 32)
        truncated = any(reply.has(field) and reply.flag(field) for field in ("out-truncated", "err-truncated"))
        return _Status(True, exit_status, reply.octets("out-data"), reply.octets("err-data"), truncated)

    def _wait(self, pid: int, deadline: float) -> _Status | None:
        """Return a command's status when it ends, or its last status at the deadline; None if the agent is silent."""
        status = None
        for _ in attempts(
            f"process {pid} of {self.name} to end",
            timeout=deadline - time.monotonic(),
            interval=growing(_FIRST_WAIT, _LONGEST_WAIT, 1.5),
        ):
            try:
                status = self._status(pid, deadline)
            except _SilentAgentError:
                return None
            if status.exited:
                break
        return status

    def _end(self, pid: int, deadline: float) -> _Status | None:
        """Kill a command and each of its descendants. The agent starts no process group that could be killed at once.

        Returns:
            The status afterwards; None if the agent does not answer.
        """
        end = {"path": "sh", "arg": ["-c", _END, "sh", str(pid)], "env": [f"PATH={_PATH}"], "capture-output": True}
        self._wait(self._start(end, deadline), deadline)
        return self._wait(pid, deadline)

    def _give_up(
        self, command: tuple[str, ...], pid: int, timeout: float, started: float, stdin_bytes: int
    ) -> NoReturn:
        """Kill a command that timed out, and raise. The error says whether the command ended."""
        try:
            status, unseen = self._end(pid, time.monotonic() + _ENDING), "the agent does not answer"
        except GuestError as error:
            status, unseen = None, str(error)
        if status is not None and not status.exited:
            unseen = f"it still ran {_ENDING:g} s after it was killed"
        exit_status = status.exit_status if status is not None and status.exited else None
        result = self._result(command, status or _Status(exited=False), started, stdin_bytes)
        raise CommandTimeoutError(result, overdue(timeout, exit_status, unseen))

    def _result(self, command: tuple[str, ...], status: _Status, started: float, stdin_bytes: int) -> CommandResult:
        return CommandResult(
            argv=command,
            exit_status=status.exit_status,
            stdout=status.stdout,
            stderr=status.stderr,
            seconds=time.monotonic() - started,
            host=self.name,
            stdin_bytes=stdin_bytes,
        )


def _seconds(deadline: float, most: int = _ANSWER_TIMEOUT) -> int:
    """Return the timeout of an answer in whole seconds, as libvirt requires; at least 1."""
    return max(1, min(most, math.ceil(deadline - time.monotonic())))
