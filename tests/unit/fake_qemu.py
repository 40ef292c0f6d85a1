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

_REFUSING_CODE = """
import json, socket, sys
server = socket.socket(socket.AF_UNIX)
server.bind("qmp.sock")
server.listen()
greeting = {"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "capabilities": []}}
while True:
    connection, _ = server.accept()
    try:
        connection.sendall(json.dumps(greeting).encode() + b"\\n")
        while chunk := connection.recv(4096):  # a command at a time; no newline ends it
            asked = json.loads(chunk)
            if asked["execute"] == "migrate-incoming":
                print("qemu-system-x86_64: Failed to set special registers: Invalid argument", file=sys.stderr)
                sys.exit(1)
            answer = {"return": {}, **({"id": asked["id"]} if "id" in asked else {})}
            connection.sendall(json.dumps(answer).encode() + b"\\n")
    except OSError:
        pass
"""

REFUSING_QEMU = [sys.executable, "-c", _REFUSING_CODE]
"""One that dies of the state that it is to restore, as QEMU does of one that another processor saved."""
