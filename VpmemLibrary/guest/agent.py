"""Commands inside a guest through its QEMU guest agent, with the face of a transport: a guest is a host too."""

from __future__ import annotations

import base64
import contextlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from VpmemLibrary.errors import (
    CommandTimeoutError,
    GuestError,
    LibvirtError,
    UnreadableOutputError,
    UnsupportedError,
)
from VpmemLibrary.guest.ending import END_FUNCTION
from VpmemLibrary.host.transport import (
    DEFAULT_TIMEOUT,
    ENVIRONMENT,
    CommandResult,
    Connection,
    Stream,
    checked_argv,
)

AgentCall = Callable[[str, int], str]
"""What sends one agent command as JSON with a timeout in seconds and returns the answer as JSON."""

_ANSWER_TIMEOUT = 30
_FIRST_WAIT = 0.02
_LONGEST_WAIT = 0.25
_CHUNK = 1 << 20
_NOT_FOUND = 127
_TOO_LONG = "Unable to encode message payload"  # VIR_ERR_RPC, which other failures of a connection are as well

_END = f'{END_FUNCTION}end "$1"'
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class AgentTransport:
    """Commands inside a guest.

    Args:
        name: The guest's name in messages.
        call: What sends an agent command and returns its answer.

    Example::

        AgentTransport("a", call).run(["ndctl", "list", "-B"]).check()
    """

    def __init__(self, name: str, call: AgentCall) -> None:
        self._name = name
        self._call = call

    @property
    def name(self) -> str:
        """The guest in messages and logs."""
        return f"guest {self._name}"

    def ping(self, timeout: float = 5) -> bool:
        """Whether the agent answers.

        Args:
            timeout: Seconds to wait for it; whole ones count.
        """
        try:
            self.command("guest-ping", timeout=max(1, int(timeout)))
        except GuestError:
            return False
        return True

    def command(
        self, execute: str, arguments: Mapping[str, object] | None = None, *, timeout: int = _ANSWER_TIMEOUT
    ) -> Any:
        """Send one agent command and return what it returned.

        Args:
            execute: Its name, e.g. ``guest-info``.
            arguments: Its arguments.
            timeout: Seconds to wait for the answer.

        Raises:
            GuestError: The agent does not answer or refused; the message has the mend.
        """
        request = {"execute": execute, **({"arguments": arguments} if arguments else {})}
        try:
            answer = self._call(json.dumps(request), timeout)
        except LibvirtError as error:
            if _TOO_LONG in error.text:
                # VIR_NET_MESSAGE_STRING_MAX of libvirt's src/rpc/virnetprotocol.x, and the agent's answer is in base64.
                raise GuestError(
                    f"What {self.name} answered to {execute} is longer than the 4 MiB of a libvirt message, which is "
                    "3 MiB of a command's output. Write it to a file in the guest."
                ) from error
            raise GuestError(
                f"The agent of {self.name} did not do {execute}: {error.text} (libvirt error code {error.code}). "
                "The guest must run qemu-guest-agent on a channel called org.qemu.guest_agent.0."
            ) from error
        return json.loads(answer).get("return")

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command in the guest to its end and return what it left, whatever its exit status.

        Args:
            argv: The command, one item an argument.
            timeout: Seconds after which the command is ended in the guest.
            stdin: What the command reads.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: It did not end in time; it was ended.
            GuestError: The agent does not answer.
        """
        command = checked_argv(argv)
        started = time.monotonic()
        arguments: dict[str, object] = {
            "path": command[0],
            "arg": list(command[1:]),
            "env": [f"PATH={_PATH}", *(f"{name}={value}" for name, value in ENVIRONMENT.items())],
            "capture-output": True,
        }
        if stdin:
            arguments["input-data"] = base64.b64encode(stdin).decode()
        try:
            pid = self.command("guest-exec", arguments)["pid"]
        except GuestError as error:
            if "No such file" not in str(error):
                raise
            return self._result(command, {"exitcode": _NOT_FOUND}, started, len(stdin), missing=command[0])
        try:
            status = self._wait(pid, started + timeout)
        except BaseException:  # a keyword's own timeout: leave no process behind, if the agent still answers
            with contextlib.suppress(GuestError):
                self._end(pid)
            raise
        if not status["exited"]:
            self._end(pid)
            status = self._wait(pid, time.monotonic() + _ANSWER_TIMEOUT)
            raise CommandTimeoutError(
                self._result(command, status, started, len(stdin)), f"It did not end within {timeout:g} s and was ended"
            )
        return self._result(command, status, started, len(stdin))

    def stream(self, argv: Sequence[str]) -> Stream:
        """Raise: the agent has no streams.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"The agent of {self.name} cannot stream a command: {' '.join(argv)}")

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:  # noqa: ARG002
        """Raise: the agent makes no connections.

        Raises:
            UnsupportedError: Always.
        """
        raise UnsupportedError(f"{address} port {port} cannot be reached through the agent of {self.name}")

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file in the guest.

        Raises:
            GuestError: It cannot be read.
        """
        handle = self.command("guest-file-open", {"path": path, "mode": "r"})
        try:
            parts = []
            while True:
                part = self.command("guest-file-read", {"handle": handle, "count": _CHUNK})
                parts.append(base64.b64decode(part["buf-b64"]))
                if part["eof"]:
                    return b"".join(parts)
        finally:
            self.command("guest-file-close", {"handle": handle})

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file in the guest, whole or not at all.

        Raises:
            GuestError: It cannot be written.
            CommandError: It could not take its place.
        """
        new = self.run(["mktemp", f"{path}.XXXXXX"]).check().text.strip()  # with mode 0600, whatever `mode` is
        try:
            handle = self.command("guest-file-open", {"path": new, "mode": "w"})
            try:
                for start in range(0, len(data), _CHUNK):
                    chunk = base64.b64encode(data[start : start + _CHUNK]).decode()
                    self.command("guest-file-write", {"handle": handle, "buf-b64": chunk})
                self.command("guest-file-flush", {"handle": handle})
            finally:
                self.command("guest-file-close", {"handle": handle})
            self.run(["chmod", f"{mode:o}", new]).check()
            self.run(["mv", "-f", "-T", "--", new, path]).check()
        except BaseException:
            with contextlib.suppress(GuestError):
                self.run(["rm", "-f", "--", new])
            raise

    def close(self) -> None:
        """Do nothing: the channel is the guest's."""

    def _wait(self, pid: int, deadline: float) -> dict[str, Any]:
        """Return the command's status once it ended, or its last one at the deadline."""
        pause = _FIRST_WAIT
        while True:
            status: dict[str, Any] = self.command("guest-exec-status", {"pid": pid})
            left = deadline - time.monotonic()
            if status["exited"] or left <= 0:
                return status
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_WAIT)

    def _end(self, pid: int) -> None:
        """End a command and all that it started: the agent puts it into no process group of its own."""
        end = {"path": "sh", "arg": ["-c", _END, "sh", str(pid)], "env": [f"PATH={_PATH}"], "capture-output": True}
        ender = self.command("guest-exec", end)["pid"]
        self._wait(ender, time.monotonic() + _ANSWER_TIMEOUT)

    def _result(
        self,
        command: tuple[str, ...],
        status: Mapping[str, Any],
        started: float,
        stdin_bytes: int,
        *,
        missing: str = "",
    ) -> CommandResult:
        result = CommandResult(
            argv=command,
            exit_status=-int(status["signal"]) if "signal" in status else int(status.get("exitcode", -9)),
            stdout=base64.b64decode(status.get("out-data", "")),
            stderr=f"{missing}: not found\n".encode() if missing else base64.b64decode(status.get("err-data", "")),
            seconds=time.monotonic() - started,
            host=self.name,
            stdin_bytes=stdin_bytes,
        )
        if status.get("out-truncated") or status.get("err-truncated"):
            raise UnreadableOutputError(result, "The agent keeps 16 MiB of a command's output: write it to a file")
        return result
