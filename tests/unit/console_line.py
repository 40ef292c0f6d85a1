"""A console for tests: a real shell on a real terminal, with a kernel that writes whatever it likes in between."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import signal
import termios
import time
from collections.abc import Callable, Mapping, Sequence

from VpmemLibrary.errors import GuestError

NOISE = (
    b"\r\n[   12.345678] nd_pmem region0: some kernel message\r\n",
    b"[   99.000001] printk without an end",
    b"\r\n",
    b"@\x00\xff#",
)


class PtyLine:
    """The line to a program on a terminal of its own, as a console's.

    Args:
        argv: The program.
        noise: How many of a thousand bytes are followed by a message of the kernel's.
        environment: What its environment has besides this process's.
    """

    def __init__(self, argv: Sequence[str], *, noise: float = 0, environment: Mapping[str, str] | None = None) -> None:
        self.sent = bytearray()
        self.seen = bytearray()
        self._noise = noise / 1000
        self._random = random.Random(1)
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            with contextlib.suppress(BaseException):
                os.execvpe(argv[0], list(argv), {**os.environ, "PS1": "guest# ", **(environment or {})})
            os._exit(127)

    def send(self, data: bytes, timeout: float) -> None:
        self.sent += data
        assert all(len(line) < 4000 for line in data.split(b"\n")), "a terminal's line is shorter"
        os.write(self._terminal, data)

    def receive(self, timeout: float) -> bytes:
        if not select.select([self._terminal], [], [], max(timeout, 0))[0]:
            return b""
        try:
            data = os.read(self._terminal, 4096)
        except OSError as error:
            raise GuestError("The console is gone.") from error
        self.seen += data
        return self._disturbed(data)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.close(self._terminal)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)

    def echoes(self) -> bool:
        """Whether the terminal echoes what is typed."""
        return bool(termios.tcgetattr(self._terminal)[3] & termios.ECHO)

    def _disturbed(self, data: bytes) -> bytes:
        if not self._noise:
            return data
        disturbed = bytearray()
        for byte in data:
            disturbed.append(byte)
            if self._random.random() < self._noise:
                disturbed += self._random.choice(NOISE)
        return bytes(disturbed)


def soon(condition: Callable[[], bool]) -> bool:
    """Whether a condition holds within a while."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()
