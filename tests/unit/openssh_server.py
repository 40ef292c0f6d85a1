"""OpenSSH's own server on a port of the loopback interface, which can be stopped as a host is that hangs."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil

from VpmemLibrary.transport.ssh.transport import SshSettings

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


class OpensshServer:
    """An sshd that lets this user in by a key.

    Args:
        directory: Where its keys and its configuration are; keys that are there already are used.
        more: More of its configuration, e.g. ``MaxSessions=1``.
    """

    def __init__(self, directory: Path, **more: object) -> None:
        assert SSHD is not None
        self.directory = directory
        for name in ("host_key", "user_key"):
            if not (directory / name).exists():
                subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(directory / name)], check=True)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        (directory / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {(directory / 'host_key.pub').read_text()}")
        settings = {
            "ListenAddress": "127.0.0.1",
            "Port": self.port,
            "HostKey": directory / "host_key",
            "AuthorizedKeysFile": directory / "user_key.pub",
            "PidFile": "none",
            "PermitRootLogin": "prohibit-password",
            "StrictModes": "no",
            "UsePAM": "no",
            **more,
        }
        (directory / "config").write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where it separates its privileges; a service makes it
        self._process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", str(directory / "config")], stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
        )
        self._wait()

    def settings(self) -> SshSettings:
        """How it is reached."""
        return SshSettings(
            "127.0.0.1",
            port=self.port,
            user=pwd.getpwuid(os.getuid()).pw_name,
            key_file=self.directory / "user_key",
            known_hosts=self.directory / "known_hosts",
            use_agent=False,
            connect_timeout=2,
        )

    def stop(self) -> None:
        """Stop all of its processes, but none of its commands."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let its processes go on."""
        self._signal(signal.SIGCONT)

    def close(self) -> None:
        """End it and its sessions."""
        self.go_on()
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        server = psutil.Process(self._process.pid)
        for process in (server, *server.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):  # a session may end at any time
                if process.name().startswith("sshd"):
                    process.send_signal(number)

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 5).close()
            except ConnectionRefusedError:
                assert time.monotonic() < deadline
                assert self._process.poll() is None, "sshd ended by itself"
                time.sleep(0.02)
            else:
                return
