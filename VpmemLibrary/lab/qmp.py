"""Send QMP commands to the QEMU of a lab host, one after another, by plain function calls.

The ``qemu.qmp`` package implements the protocol. This module only hides its event loop. The synchronous client of that
package (``qemu.qmp.legacy``) connects and closes without a timeout, so a stopped QEMU would block the caller forever.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from VpmemLibrary.errors import LabError

if TYPE_CHECKING:
    from qemu.qmp import QMPClient

DEFAULT_TIMEOUT = 30.0


class Monitor:
    """A connection to QEMU's QMP socket at `path`.

    Example::

        with Monitor(directory / "qmp.sock") as monitor:
            monitor.execute("query-status")

    Raises:
        LabError: No process answers on the socket.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._loop = asyncio.new_event_loop()
        self._client: QMPClient | None = None

    def __enter__(self) -> Self:
        from qemu.qmp import QMPClient, QMPError  # noqa: PLC0415

        client = QMPClient("vpmem-lab")
        try:
            connection = connect_unix(self._path)
            self._loop.run_until_complete(asyncio.wait_for(client.connect(connection), DEFAULT_TIMEOUT))
        except (OSError, QMPError, TimeoutError) as error:
            self._loop.close()
            raise LabError(f"QEMU's monitor at {self._path} does not answer: {error}.") from error
        self._client = client
        return self

    def __exit__(self, *_: object) -> None:
        from qemu.qmp import QMPError  # noqa: PLC0415

        try:
            if self._client is not None:
                self._loop.run_until_complete(asyncio.wait_for(self._client.disconnect(), DEFAULT_TIMEOUT))
        except (OSError, EOFError, QMPError, TimeoutError):
            pass  # QEMU has ended, and closed its end of the connection
        finally:
            self._client = None
            self._loop.close()

    def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = DEFAULT_TIMEOUT
    ) -> Any:
        """Run a QMP command and return its result.

        Raises:
            LabError: QEMU refused the command, or did not answer within `timeout` seconds.
        """
        from qemu.qmp import QMPError  # noqa: PLC0415

        assert self._client is not None  # noqa: S101  entered
        call = self._client.execute(command, dict(arguments or {}))
        try:
            return self._loop.run_until_complete(asyncio.wait_for(call, timeout))
        except TimeoutError as error:
            raise LabError(f"QEMU did not answer {command} within {timeout:g} s.") from error
        except QMPError as error:
            raise LabError(f"QEMU refused {command}: {error}.") from error


def connect_unix(path: Path) -> socket.socket:
    """Connect to a unix socket. Its path may be longer than the 107 bytes that the kernel allows.

    Raises:
        OSError: No process listens on the socket.
    """
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(f"/proc/self/fd/{directory}/{path.name}")
    except BaseException:
        connection.close()
        raise
    finally:
        os.close(directory)
    return connection
