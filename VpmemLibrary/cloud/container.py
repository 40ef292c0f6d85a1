"""The container of the control plane: the tree with a state directory, in mount and PID namespaces of its own.

The first process of the container is the one process of the state directory. If it ends for any reason, the kernel
kills all other processes of the container. So no process remains, not even a daemon that a service started.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from VpmemLibrary.errors import LabError, UnsupportedError
from VpmemLibrary.lab.paths import private_directory
from VpmemLibrary.lab.process import Process, find_process, kill_process, record_child, start_process
from VpmemLibrary.lab.tools import run_tool
from VpmemLibrary.polling import poll

STATE = "/srv"
"""The state directory, as the processes of the container see it."""

_LOG = "container.log"
_ENTERED = "container.ready"
_ENTER = f"""set -eu
tree=$1 state=$2
mount --bind "$tree" "$tree"
mount -o remount,bind,ro "$tree"
mount --rbind /dev "$tree/dev"
mount -t proc proc "$tree/proc"
mount --rbind /sys "$tree/sys"
mount -t tmpfs -o mode=1777 tmp "$tree/tmp"
mount -t tmpfs -o mode=0755 run "$tree/run"
mount --bind "$state" "$tree{STATE}"
: >"$state/{_ENTERED}"
exec sleep infinity
"""
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": "/root"}
_ENTER_SECONDS = 30.0
_POLL = 0.05


def require_root() -> None:
    """Check that this process may make a container.

    Raises:
        UnsupportedError: This process is not root, or a program is missing.
    """
    if os.geteuid() != 0:
        raise UnsupportedError(
            "The cloud needs root: its control plane runs in mount and PID namespaces of its own. Run this command "
            "with sudo, or as root in a container that has CAP_SYS_ADMIN (docker run --privileged)."
        )
    for program in ("unshare", "nsenter", "chroot"):
        if shutil.which(program) is None:
            raise UnsupportedError(f"{program} is not installed here: apt-get install util-linux coreutils")


class Container:
    """The container of a state directory, running or not.

    Args:
        directory: The state directory.
        tree: The root directory of the tree. The processes of the container cannot change it.
    """

    def __init__(self, directory: Path, tree: Path) -> None:
        self.directory = directory
        self._tree = tree

    @property
    def process(self) -> Process | None:
        """The first process of the container, if it runs."""
        return find_process(self.directory)

    def start(self) -> None:
        """Start the container without any service.

        Raises:
            LabError: The namespaces or the mounts were refused. The message has the output.
        """
        ready = self.directory / _ENTERED
        ready.unlink(missing_ok=True)
        command = [
            *("unshare", "--mount", "--propagation", "private", "--pid", "--fork"),
            *("sh", "-c", _ENTER, "sh", str(self._tree), str(self.directory)),
        ]
        parent = start_process(self.directory, command, self.directory / _LOG, _ENVIRONMENT)

        def entered() -> bool:
            if parent.poll() is not None:
                raise LabError(self._refused(f"unshare ended with status {parent.returncode}"))
            return ready.exists()

        try:
            try:
                record_child(self.directory, parent)
            except LabError as error:  # it ended before it was recorded
                raise LabError(self._refused(str(error))) from error
            poll(
                entered,
                "the container of the cloud",
                timeout=_ENTER_SECONDS,
                interval=_POLL,
                failure=lambda _: LabError(self._refused(f"it was not ready within {_ENTER_SECONDS:g} s")),
            )
        except BaseException:
            self.kill()
            raise

    def kill(self) -> None:
        """Kill all processes of the container, and wait until they have ended.

        Raises:
            LabError: A process does not end.
        """
        kill_process(self.directory)

    def run(
        self, argv: Sequence[str], purpose: str, *, timeout: float, environment: Mapping[str, str] | None = None
    ) -> None:
        """Run a program in the container to its end. `purpose` is for messages, e.g. ``make the database``.

        Raises:
            ToolError: The program failed, or did not end in time. The message has the last lines of its output.
        """
        run_tool(
            self._command(argv),
            purpose,
            timeout=timeout,
            umask=0o077,
            environment={**_ENVIRONMENT, **(environment or {})},
            inherit=False,
        )

    def start_service(self, name: str, argv: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start a program in the container as the service `name`. Its output goes to the service's log."""
        directory = private_directory(self.service_directory(name))
        start_process(directory, self._command(argv), self.log(name), {**_ENVIRONMENT, **(environment or {})})

    def service(self, name: str) -> Process | None:
        """Return a service's process if it runs: the nsenter outside the container, which ends with the service."""
        return find_process(self.service_directory(name))

    def service_directory(self, name: str) -> Path:
        """Return the directory with the record of a service's process."""
        return self.directory / "services" / name

    def log(self, name: str) -> Path:
        """Return the log of a service."""
        return private_directory(self.directory / "log") / f"{name}.log"

    def _command(self, argv: Sequence[str]) -> list[str]:
        process = self.process
        if process is None:
            raise LabError(f"The container of the cloud in {self.directory} does not run: vpmem cloud up")
        return ["nsenter", "--target", str(process.pid), "--mount", "--pid", "chroot", str(self._tree), *argv]

    def _refused(self, reason: str) -> str:
        said = last_lines(self.directory / _LOG)
        return (
            f"The container of the cloud could not be started: {reason}. Mount and PID namespaces need root, and in a "
            f"container CAP_SYS_ADMIN (docker run --privileged). Its output:\n{said}"
        )


def last_lines(path: Path, lines: int = 15) -> str:
    """Return the last lines of a log, for messages."""
    try:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 200 * (lines + 5), 0))
            text = file.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return "(no log)"
    return "\n".join(text.strip().splitlines()[-lines:]) or "(empty)"
