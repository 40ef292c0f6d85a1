"""Users of this machine that a test makes, each with a login shell, and an sshd that lets all of them in."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from msgspec.structs import replace
from openssh_server import OpensshServer

from VpmemLibrary.transport.ssh.transport import SshSettings


class LoginUser:
    """One user, removed when it is closed.

    Args:
        name: What its name begins with: two runs of the tests make users of their own.
        shell: Its login shell.
    """

    def __init__(self, name: str, shell: str) -> None:
        self.name = f"{name}-{os.getpid()}"
        self.home = Path(tempfile.mkdtemp(prefix=f"{self.name}-"))
        subprocess.run(["useradd", "-M", "-d", str(self.home), "-s", shell, "-p", "*", self.name], check=True)
        self.home.chmod(0o755)
        shutil.chown(self.home, self.name)

    def write(self, path: str, text: str) -> None:
        """Write a file into its home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    def forget(self) -> None:
        """Remove what is in its home."""
        for entry in self.home.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()

    def close(self) -> None:
        """Remove it and its home."""
        number = pwd.getpwnam(self.name).pw_uid
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.uids().real == number:
                    process.kill()
                    process.wait(10)
        subprocess.run(["userdel", self.name], check=True)
        shutil.rmtree(self.home)


@contextlib.contextmanager
def sshd(**more: object) -> Iterator[OpensshServer]:
    """An sshd in a directory that every user can read.

    Args:
        more: More of its configuration.
    """
    directory = Path(tempfile.mkdtemp(prefix="vpmem-sshd-"))
    directory.chmod(0o755)
    server = OpensshServer(directory, **more)
    try:
        yield server
    finally:
        server.close()
        shutil.rmtree(directory)


def settings(server: OpensshServer, user: LoginUser) -> SshSettings:
    """How a user is reached."""
    return replace(server.settings(), user=user.name, connect_timeout=15)


def can_make_users() -> bool:
    """Whether this process may make users."""
    return os.getuid() == 0 and shutil.which("useradd") is not None
