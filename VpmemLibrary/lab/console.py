"""Use a lab host's serial console in this terminal."""

from __future__ import annotations

import os
import select
import socket
import sys
import termios
import tty

from VpmemLibrary.errors import LabError
from VpmemLibrary.lab.qemu_host import QemuHost
from VpmemLibrary.lab.qmp import connect_unix

_LEAVE = b"\x1d"
_CHUNK = 4096


def use_console(qemu: QemuHost) -> None:
    """Pass bytes between this terminal and the console until the user presses Ctrl-] or the host ends.

    Raises:
        LabError: The host does not run, another process uses its console, or this process has no input or output.
    """
    try:
        console = connect_unix(qemu.console_socket)
    except OSError as error:
        raise LabError(f"The console of {qemu.name} does not answer: {error.strerror}.") from error
    if sys.stdin is None or sys.stdout is None:
        console.close()
        raise LabError("The console needs a standard input and a standard output, and one of them is closed.")
    print(f"console of {qemu.name}; Ctrl-] leaves it", file=sys.stderr)
    terminal = sys.stdin.fileno()
    saved = termios.tcgetattr(terminal) if os.isatty(terminal) else None
    try:
        if saved is not None:
            tty.setraw(terminal)
        sources: list[socket.socket | int] = [console, terminal]
        while True:
            ready, _, _ = select.select(sources, [], [])
            if console in ready:
                printed = console.recv(_CHUNK)
                if not printed:
                    return
                os.write(sys.stdout.fileno(), printed)
            if terminal in ready:
                typed = os.read(terminal, _CHUNK)
                if not typed:
                    return
                before, leave, _ = typed.partition(_LEAVE)
                console.sendall(before)
                if leave:
                    return
    finally:
        if saved is not None:
            termios.tcsetattr(terminal, termios.TCSADRAIN, saved)
        console.close()
