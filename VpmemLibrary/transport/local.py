"""The machine that this process runs on."""

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
    Stream,
    checked_argv,
    read_through,
    shell_line,
    write_command,
)
from VpmemLibrary.transport.controller import too_little
from VpmemLibrary.transport.elevation import ElevatedStream, checked, elevated, plain
from VpmemLibrary.transport.ending import (
    HASTE,
    LIMIT,
    OUTPUT_IS_HELD,
    PATIENCE,
    end_command,
    failed,
    remaining,
    unknown,
)
from VpmemLibrary.transport.local_process import Execution, LocalStream
from VpmemLibrary.transport.tcp import connect_tcp

__all__ = ["LocalStream", "LocalTransport"]

# What a shell makes of a program that it cannot run; any other error is this machine's own.
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


class LocalTransport:
    """Commands on this machine, with the same behaviour as over SSH.

    Args:
        sudo: Run every command as root, through sudo or doas; see `elevation`.
        name: The machine's name in messages.
        environment: What commands find in their environment beside what this process has there.

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

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        stdin: bytes = b"",
    ) -> CommandResult:
        """Run a command to its end and return what it left, whatever its exit status.

        Args:
            argv: The command, one item an argument.
            timeout: Seconds after which the command and all that it started are ended.
            stdin: What the command reads.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            CommandTimeoutError: The command did not end in time. It was ended, or the message says that this was not
                seen. What it printed so far is in its result.
            OutputTooLargeError: The command printed more than `OUTPUT_LIMIT`. It was ended, as above.
            AccessDeniedError: sudo or doas did not run the command as root.
            ControllerError: This machine has no process or descriptor left for the command.
        """
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
            except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
                self._end(process.pid, HASTE, execution)
                raise
            if not ended:
                too_large = execution.too_large
                remains = self._end(process.pid, PATIENCE, execution)
                result = self._result(command, execution, stdin)
                raise failed(plain(result) if self._sudo else result, timeout, too_large=too_large, remains=remains)
            result = self._result(command, execution, stdin)
        return checked(result) if self._sudo else result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command and return its standard input and output as one stream.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            FileNotFoundError: There is no such program.
            ControllerError: This machine has no process or descriptor left for the command.
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
        """Open a TCP connection; see `Transport.connect`.

        Raises:
            UnreachableError: Nothing answers there.
        """
        return connect_tcp(address, port, timeout)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            CommandError: The file cannot be read.
            OutputTooLargeError: The file is larger than `OUTPUT_LIMIT`.
        """
        return read_through(self.run, path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file, whole or not at all: into a new file beside it, which then takes its name.

        Raises:
            CommandError: It cannot be written.
        """
        self.run(write_command(path, mode), stdin=data).check()

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _start(self, command: tuple[str, ...], stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
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
        """End a command with all that it started.

        Args:
            pid: The command's first process, which leads a session and a group of its own.
            seconds: How long the command has to obey each signal.
            execution: What reads the command's outputs meanwhile, and waits for its end.

        Returns:
            What is known of a command that was not seen to end; nothing if it was.
        """
        command = end_command(pid, seconds)
        try:
            process = self._start(command)
        except OSError as error:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signal.SIGKILL)
            ended = execution is not None and execution.wait(seconds, limited=False)
            return "" if ended else unknown(f"nothing could be started that looks ({error.strerror})", pid)
        with contextlib.closing(Execution(process, b"")) as ender:
            if execution is not None:
                execution.wait(2 * seconds, limited=False)
            if not ender.wait(LIMIT * seconds):
                return unknown(f"ending it took longer than {LIMIT * seconds:g} s", pid)
            remains = remaining(plain(self._result(command, ender, b"")), pid)
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
    """Return the status that a shell has for a program that cannot be run.

    Raises:
        ControllerError: It is not the program's fault.
    """
    status = _STATUSES.get(error.errno or 0)
    if status is None:
        raise too_little(f"start a command ({shell_line(command)})", error.strerror or str(error)) from error
    return status


def _is_for_shells(name: str) -> bool:
    """Whether a variable would change what a script does: a start-up file, a function, or an option of a shell."""
    return name in {"ENV", "BASH_ENV", "CDPATH", "SHELLOPTS", "BASHOPTS"} or name.startswith("BASH_FUNC_")
