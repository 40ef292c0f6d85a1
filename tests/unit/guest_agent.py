"""A guest agent for tests: real processes and files of this machine, as QEMU's agent handles them."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from VpmemLibrary.errors import LibvirtError

NOT_CONNECTED = (86, "Guest agent is not responding: QEMU guest agent is not connected")
NOT_SYNCHRONISED = (
    86,
    "Guest agent is not responding: guest agent didn't respond to synchronization within '5' seconds",
)
NO_ANSWER = (112, "guest agent command timed out: guest agent didn't respond to command within '30' seconds")


class Agent:
    """What answers agent commands; it is the parent of the commands' processes, as the real one is.

    `before` and `after` are called with the name of each request, before and after the agent carries it out. An error
    that they raise replaces the answer.
    """

    def __init__(self) -> None:
        self.requests: list[str] = []
        self.timeouts: list[int] = []
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._files: dict[int, IO[bytes]] = {}

    def __call__(self, request: str, timeout: int) -> str:
        decoded = json.loads(request)
        execute, arguments = decoded["execute"], decoded.get("arguments", {})
        assert timeout >= 1, "libvirt takes 0 for: do not wait"
        self.requests.append(execute)
        self.timeouts.append(timeout)
        self.before(execute)
        result = getattr(self, execute.replace("-", "_"))(
            **{key.replace("-", "_"): arguments[key] for key in arguments}
        )
        self.after(execute)
        return json.dumps({"return": result})

    def close(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.communicate()
        for file in self._files.values():
            file.close()

    def guest_ping(self) -> dict[str, Any]:
        return {}

    def guest_exec(
        self, path: str, arg: list[str], env: list[str], capture_output: bool, input_data: str = ""
    ) -> dict[str, Any]:
        assert capture_output
        try:
            process = subprocess.Popen(
                [path, *arg],
                env=dict(each.split("=", 1) for each in env),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise LibvirtError("ask the agent", 1, f"Guest agent command failed: {error}") from error
        assert process.stdin is not None
        process.stdin.write(base64.b64decode(input_data))
        process.stdin.close()
        process.stdin = None
        self.processes[process.pid] = process
        return {"pid": process.pid}

    def guest_exec_status(self, pid: int) -> dict[str, Any]:
        process = self.processes.get(pid)
        if process is None:
            raise LibvirtError("ask the agent", 1, f"unable to execute QEMU agent command: PID {pid} does not exist")
        if process.poll() is None:
            return {"exited": False}
        out, err = process.communicate()
        del self.processes[pid]  # as the real agent does: the status of an ended command is returned once
        ended = {"signal": -process.returncode} if process.returncode < 0 else {"exitcode": process.returncode}
        return {
            "exited": True,
            **ended,
            **({"out-data": base64.b64encode(out).decode()} if out else {}),
            **({"err-data": base64.b64encode(err).decode()} if err else {}),
        }

    def guest_file_open(self, path: str, mode: str) -> int:
        try:
            file = Path(path).open(f"{mode}b")  # noqa: SIM115  closed by another request
        except OSError as error:
            raise LibvirtError("ask the agent", 1, f"failed to open file '{path}': {error}") from error
        self._files[file.fileno()] = file
        return file.fileno()

    def guest_file_read(self, handle: int, count: int) -> dict[str, Any]:
        data = self._files[handle].read(count)
        return {"count": len(data), "buf-b64": base64.b64encode(data).decode(), "eof": len(data) < count}

    def guest_file_write(self, handle: int, buf_b64: str) -> dict[str, Any]:
        return {"count": self._files[handle].write(base64.b64decode(buf_b64)), "eof": False}

    def guest_file_flush(self, handle: int) -> dict[str, Any]:
        self._files[handle].flush()
        os.fsync(handle)
        return {}

    def guest_file_close(self, handle: int) -> dict[str, Any]:
        self._files.pop(handle).close()
        return {}


def silence(answer: tuple[int, str] = NO_ANSWER) -> LibvirtError:
    """Return what libvirt raises when an agent does not answer; the texts are those of libvirt 11.3."""
    return LibvirtError("ask the agent", *answer)
