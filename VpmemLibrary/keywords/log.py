"""What a reader of log.html sees: commands to paste, tables, and the chain from host to guest as a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from html import escape

from robot.api import logger

from VpmemLibrary.host.transport import DEFAULT_TIMEOUT, CommandResult, Connection, Stream, Transport
from VpmemLibrary.model import Namespace, Region

_CELL = "padding:2px 8px;border:1px solid #bbb;text-align:left;font-family:monospace"
_MARKED = _CELL + ";background:#fdd;color:#900;font-weight:bold"


def log_command(result: CommandResult) -> None:
    """Log a command as it can be pasted into a shell, its status and time; its output one level lower."""
    logger.info(f"{result.host}$ {result.command}\nexit status {result.exit_status}, {result.seconds:.3f} s")
    for name, text in (("stdout", result.text), ("stderr", result.error_text)):
        if text.strip():
            logger.debug(f"{name}: {text.rstrip()}")


def log_table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], *, marked: set[tuple[int, int]] | None = None
) -> None:
    """Log a table; the cells of `marked` (row, column) stand out."""
    marks = marked or set()
    lines = [f"<b>{escape(caption)}</b>", '<table style="border-collapse:collapse">']
    lines.append("<tr>" + "".join(f'<th style="{_CELL}">{escape(name)}</th>' for name in header) + "</tr>")
    for i, row in enumerate(rows):
        cells = (
            f'<td style="{_MARKED if (i, j) in marks else _CELL}">{escape(str(value))}</td>'
            for j, value in enumerate(row)
        )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    lines.append("</table>")
    logger.info("".join(lines), html=True)


def log_namespaces(caption: str, namespaces: Iterable[Namespace]) -> None:
    """Log namespaces as a table."""
    log_table(
        caption,
        ("device", "name", "mode", "map", "usable size", "align", "node", "state", "UUID"),
        (
            (
                n.dev,
                n.name or "-",
                n.mode or "-",
                n.map or "-",
                n.size,
                n.align or "-",
                n.device or "-",
                n.state or "active",
                n.uuid,
            )
            for n in namespaces
        ),
    )


def log_regions(caption: str, regions: Iterable[Region]) -> None:
    """Log regions as a table."""
    log_table(
        caption,
        ("region", "bus", "size", "available", "largest extent", "NUMA node", "DIMMs", "namespaces"),
        (
            (
                r.dev,
                r.provider,
                r.size,
                r.available_size,
                "-" if r.max_available_extent is None else r.max_available_extent,
                "-" if r.numa_node is None else r.numa_node,
                " ".join(r.dimms) or "-",
                len(r.namespaces),
            )
            for r in regions
        ),
    )


class LoggedTransport:
    """A transport whose commands are logged; in all else the transport it wraps.

    Args:
        inner: The transport.
        name: The machine's name in the log; the transport's own by default.
    """

    def __init__(self, inner: Transport, name: str = "") -> None:
        self._inner = inner
        self._name = name or inner.name

    @property
    def name(self) -> str:
        """The machine's name."""
        return self._name

    def run(self, argv: Sequence[str], *, timeout: float = DEFAULT_TIMEOUT, stdin: bytes = b"") -> CommandResult:
        """Run a command and log it."""
        result = self._inner.run(argv, timeout=timeout, stdin=stdin)
        result = replace(result, host=self._name)
        log_command(result)
        return result

    def stream(self, argv: Sequence[str]) -> Stream:
        """Start a command; its bytes are not logged."""
        return self._inner.stream(argv)

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Open a TCP connection from the machine; its bytes are not logged."""
        return self._inner.connect(address, port, timeout=timeout)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return self._inner.read_file(path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file."""
        self._inner.write_file(path, data, mode=mode)

    def close(self) -> None:
        """End the connection."""
        self._inner.close()
