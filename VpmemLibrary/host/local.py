"""The machine that this process runs on."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from VpmemLibrary.errors import CommandTimeoutError
from VpmemLibrary.host.elevation import SUDO, checked_elevation
from VpmemLibrary.host.tcp import connect_tcp
from VpmemLibrary.host.transport import DEFAULT_TIMEOUT, ENVIRONMENT, EXTRA_PATH, CommandResult, checked_argv

_GRACE = 2.0
_NOT_FOUND = 127
_NOT_EXECUTABLE = 126


class LocalTransport:
    """Commands on this machine, with the same behaviour as over SSH.

    Args:
        sudo: Run every command through ``sudo -n``.
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
            CommandTimeoutError: It did not end in time; it was ended.
            AccessDeniedError: sudo asks for a password.
        """
        command = checked_argv(argv)
        started = time.monotonic()
        try:
            process = self._start(command)
        except OSError as error:
            return CommandResult(
                argv=command,
                exit_status=_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE,
                stdout=b"",
                stderr=f"{error.strerror}: {error.filename}\n".encode(),
                seconds=time.monotonic() - started,
                host=self._name,
            )
        try:
            stdout, stderr = process.communicate(stdin, timeout)
        except subprocess.TimeoutExpired:
            stdout, stderr = self._end(process)
            raise CommandTimeoutError(
                self._result(command, process, (stdout, stderr), time.monotonic() - started, len(stdin)),
                f"It did not end within {timeout:g} s and was ended",
            ) from None
        except BaseException:  # a keyword's own timeout or Ctrl-C: leave no process behind
            self._end(process)
            raise
        result = self._result(command, process, (stdout, stderr), time.monotonic() - started, len(stdin))
        return checked_elevation(result) if self._sudo else result

    def stream(self, argv: Sequence[str]) -> LocalStream:
        """Start a command and return its standard input and output as one stream.

        Raises:
            InvalidValueError: `argv` is not a list of texts.
            FileNotFoundError: There is no such program.
        """
        return LocalStream(self._start(checked_argv(argv), stderr=subprocess.DEVNULL))

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> socket.socket:
        """Open a TCP connection; see `Transport.connect`.

        Raises:
            UnreachableError: Nothing answers there.
        """
        return connect_tcp(address, port, timeout)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file.

        Raises:
            OSError: It cannot be read.
            CommandError: It cannot be read through sudo.
        """
        if self._sudo:
            return self.run(["cat", "--", path]).check().stdout
        return Path(path).read_bytes()

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file, whole or not at all: into a new file beside it, which then takes its name.

        Raises:
            OSError: It cannot be written.
            CommandError: It cannot be written through sudo.
        """
        if self._sudo:
            self.run(write_command(path, mode), stdin=data).check()
            return
        target = Path(path)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(temporary).chmod(mode)
            Path(temporary).replace(target)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Do nothing: there is no connection."""

    def _start(self, command: tuple[str, ...], stderr: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*SUDO, *command] if self._sudo else command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env={
                **os.environ,
                **ENVIRONMENT,
                **self._environment,
                "PATH": f"{os.environ.get('PATH', os.defpath)}:{EXTRA_PATH}",
            },
            start_new_session=True,
        )

    def _end(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        self._signal(process.pid, signal.SIGTERM)
        try:
            return process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired:
            self._signal(process.pid, signal.SIGKILL)
        try:
            return process.communicate(timeout=_GRACE)
        except subprocess.TimeoutExpired as error:  # a process in another session still holds the pipes
            return error.stdout or b"", error.stderr or b""

    def _signal(self, group: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._sudo:
                subprocess.run([*SUDO, "kill", f"-{int(number)}", "--", f"-{group}"], check=False, capture_output=True)
            else:
                os.killpg(group, number)

    def _result(
        self,
        command: tuple[str, ...],
        process: subprocess.Popen[bytes],
        output: tuple[bytes, bytes],
        seconds: float,
        stdin_bytes: int,
    ) -> CommandResult:
        return CommandResult(
            argv=command,
            exit_status=process.returncode if process.returncode is not None else -signal.SIGKILL,
            stdout=output[0],
            stderr=output[1],
            seconds=seconds,
            host=self._name,
            stdin_bytes=stdin_bytes,
        )


class LocalStream:
    """A running command's standard input and output."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        assert process.stdin is not None  # noqa: S101  it was asked for
        assert process.stdout is not None  # noqa: S101
        self._input = process.stdin.fileno()
        self._output = process.stdout.fileno()

    def send(self, data: bytes) -> None:
        """Send all of `data`.

        Raises:
            OSError: The command no longer reads, or the stream was closed.
        """
        view = memoryview(data)
        while view:
            view = view[os.write(self._input, view) :]

    def recv(self, size: int) -> bytes:
        """Return up to `size` bytes as they come; ``b""`` at the end.

        Raises:
            OSError: The stream was closed.
        """
        return os.read(self._output, size)

    def close(self) -> None:
        """End the command's standard input, then the command if it does not end by itself."""
        self._input = self._output = -1  # the numbers are soon another stream's
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


def write_command(path: str, mode: int) -> tuple[str, ...]:
    """Return the command that writes its standard input to a file, whole or not at all."""
    return ("sh", "-c", _WRITE, "sh", path, f"{mode:o}")


_WRITE = """
set -e
[ ! -d "$1" ] || { echo "$1 is a directory" >&2; exit 1; }
new=$(mktemp "$1.XXXXXX")
trap 'rm -f -- "$new"' EXIT
cat > "$new"
chmod "$2" "$new"
sync -- "$new" 2>/dev/null || sync
mv -f -- "$new" "$1"
trap - EXIT
"""
