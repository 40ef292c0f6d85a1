"""A program that stands for QEMU: it sends the greeting of its monitor, and runs until it is ended."""

from __future__ import annotations

import sys

_CODE = """
import socket, sys, time
open("arguments", "a").write(" ".join(sys.argv[1:]) + chr(10))
server = socket.socket(socket.AF_UNIX)
server.bind("qmp.sock")
server.listen()
server.accept()[0].send(b"{}")
time.sleep(600)
"""

FAKE_QEMU = [sys.executable, "-c", _CODE]
"""The start of its command; it writes its arguments, a line for each start, to the file `arguments`."""
