"""Run commands on the machine of this process."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence

from VpmemLibrary.transport.base import (
    DEFAULT_TIMEOUT,
    ENVIRONMENT,
    EXTRA_PATH,
    CommandResult,
    CommandTransport,
    Stream,
    checked_argv,
    shell_line,
)
from VpmemLibrary.transport.controller import too_little
from VpmemLibrary.transport.elevation import ElevatedStream, elevated, require_started_as_root, without_marker_lines
from VpmemLibrary.transport.ending import (
    HASTE,
    LIMIT,
    OUTPUT_IS_HELD,
    PATIENCE,
    end_command,
    ended_error,
    remaining_message,
    unknown_end_message,
)
from VpmemLibrary.transport.local_process import Execution, LocalStream, start_or_end
from VpmemLibrary.transport.tcp import connect_tcp

__all__ = ["LocalStream", "LocalTransport"]

# The exit status of a shell for a program that it cannot run, by the error. This machine causes all other errors.
_STATUSES = {
    errno.ENOENT: 127,
    errno.ENOTDIR: 127,
    errno.EACCES: 126,
    errno.EISDIR: 126,
    errno.ELOOP: 126,
    errno.ENAMETOOLONG: 126,
    errno.ENOEXEC: 126,
    errno.EPERM: 126,
    errno.ETXTBSY: 126,
}
_NO_STATUS = -signal.SIGKILL


class LocalTransport(CommandTransport):
    """Run commands on this machine, with the same behaviour as over SSH.

    Args:
        sudo: Run every command as root, through sudo or doas; see `elevation`.
        name: The machine's name in messages.
        environment: More environment variables for the commands, besides the variables of this process.

    Example::

        LocalTransport().run(["uname", "-r"]).check().text
    """

    def __init__(
        self, *, sudo: bool = False, name: str = "local", environment: Mapping[str, str] | None = None
    ) -> None:
        self._sudo = sudo
        self._name = name
        self._environment = environment or {}

    @property
    def name(self) -> str:
        """The machine's name in messages and logs."""
        return self._name

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command to its end; see `Transport.run`."""
        command = checked_argv(argv)
        started = time.monotonic()
        try:
            process = self._start(command)
        except OSError as error:
            return CommandResult(
                argv=command,
                exit_status=_status_of(error, command),
                stdout=b"",
                stderr=f"{error.strerror}: {error.filename}\n".encode(),
                seconds=time.monotonic() - started,
                host=self._name,
            )
        with contextlib.closing(Execution(process, stdin)) as execution:
            try:
                ended = execution.wait(timeout)
            except BaseException:  # a keyword timeout or Ctrl-C must leave no process behind
                self._end(process.pid, HASTE, execution)
                raise
            if not ended:
                too_large = execution.too_large
                remains = self._end(process.pid, PATIENCE, execution)
                result = self._result(command, execution, stdin)
                raise ended_error(
                    without_marker_lines(result) if self._sudo else result,
                    timeout,
                    too_large=too_large,
                    remains=remains,
                )
            result = self._result(command, execution, stdin)
        return require_started_as_root(result) if self._sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command; see `Transport.stream`.

        Raises:
            FileNotFoundError: The program does not exist.
        """
        command = checked_argv(argv)
        with contextlib.ExitStack() as stack:
            try:
                waker = os.eventfd(0)
                stack.callback(os.close, waker)
                process = self._start(command, stderr=subprocess.DEVNULL)
            except OSError as error:
                _status_of(error, command)
                raise
            stack.pop_all()
        stream = LocalStream(process, waker, lambda: self._end(process.pid, PATIENCE))
        return ElevatedStream(stream) if self._sudo else stream

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> socket.socket:
        """Open a TCP connection; see `Transport.connect`."""
        return connect_tcp(address, port, timeout)

    def _start(self, command: tuple[str, ...], stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return start_or_end(lambda: self._popen(command, stderr), lambda pid: self._end(pid, HASTE))

    def _popen(self, command: tuple[str, ...], stderr: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            elevated(command) if self._sudo else command,
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={
                **{name: value for name, value in os.environ.items() if not _is_for_shells(name)},
                **ENVIRONMENT,
                **self._environment,
                "PATH": f"{os.environ.get('PATH') or os.defpath}:{EXTRA_PATH}",
            },
            start_new_session=True,
        )

    def _end(self, pid: int, seconds: float, execution: Execution | None = None) -> str:
        """End a command and all its processes.

        Args:
            pid: The command's first process, which leads its session and process group.
            seconds: Seconds to wait after each signal.
            execution: Reads the command's outputs meanwhile, and waits for the command's end.

        Returns:
            A message if a process may still run; empty if the command has ended.
        """
        command = end_command(pid, seconds)
        try:
            process = self._start(command)
        except OSError as error:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            ended = execution is not None and execution.wait(seconds, limited=False)
            return (
                ""
                if ended
                else unknown_end_message(f"the command that ends it could not be started ({error.strerror})", pid)
            )
        with contextlib.closing(Execution(process, b"")) as ender:
            if execution is not None:
                execution.wait(2 * seconds, limited=False)
            if not ender.wait(LIMIT * seconds):
                return unknown_end_message(f"ending it took longer than {LIMIT * seconds:g} s", pid)
            remains = remaining_message(without_marker_lines(self._result(command, ender, b"")), pid)
        if not remains and execution is not None and not execution.wait(seconds, limited=False):
            return OUTPUT_IS_HELD
        return remains

    def _result(self, command: tuple[str, ...], execution: Execution, stdin: bytes) -> CommandResult:
        status = execution.process.returncode
        return CommandResult(
            argv=command,
            exit_status=_NO_STATUS if status is None else status,
            stdout=bytes(execution.stdout.data),
            stderr=bytes(execution.stderr.data),
            seconds=execution.seconds,
            host=self._name,
            stdin_bytes=len(stdin),
        )


def _status_of(error: OSError, command: tuple[str, ...]) -> int:
    """Return the exit status of a shell for a program that it cannot run.

    Raises:
        ControllerError: This machine causes the error, not the program.
    """
    status = _STATUSES.get(error.errno or 0)
    if status is None:
        raise too_little(f"start a command ({shell_line(command)})", error.strerror or str(error)) from error
    return status


def _is_for_shells(name: str) -> bool:
    """Return whether a variable changes how a shell runs a script: a start-up file, a function, or an option."""
    return name in {"ENV", "BASH_ENV", "CDPATH", "SHELLOPTS", "BASHOPTS"} or name.startswith("BASH_FUNC_")
