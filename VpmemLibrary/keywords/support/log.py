"""Write log.html: messages, commands to paste, tables and drawings.

Only this module logs. Text from outside is logged only through `logger`, a table or a drawing. `logger` makes special
characters visible. Tables and drawings escape the text as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from msgspec.structs import replace
from robot.api import logger as _robot

from VpmemLibrary.pmem.records import Namespace, Region
from VpmemLibrary.transport.base import DEFAULT_TIMEOUT, CommandResult, Connection, Stream, Transport
from VpmemLibrary.visible import as_html, block, message

_CELL = "padding:2px 8px;border:1px solid #bbb;text-align:left;font-family:monospace"
_MARKED = _CELL + ";background:#fdd;color:#900;font-weight:bold"

_LONGEST = 16 * 1024  # characters of a command, bytes of its output


class _Logger:
    """The messages of keywords: always text, never HTML."""

    def info(self, text: str, *, also_console: bool = False) -> None:
        """Log a message at level INFO. Show it on the console as well if `also_console` is set."""
        _robot.info(message(text), also_console=also_console)

    def debug(self, text: str) -> None:
        """Log a message at level DEBUG."""
        _robot.debug(message(text))

    def warn(self, text: str) -> None:
        """Log a message at level WARN, which is also shown on the console and at the top of log.html."""
        _robot.warn(message(text))


logger = _Logger()
"""The logger of keywords. Use it instead of Robot's own logger."""


def log_command(result: CommandResult) -> None:
    """Log a command in a form that can be pasted into a shell, with its status and time.

    The output is logged one level lower. Only the beginning of a long command or of a long output is logged. Further
    lines are indented, so that output cannot be mistaken for a line of this log.
    """
    command = result.command if len(result.command) <= _LONGEST else f"{result.command[:_LONGEST]} ..."
    logger.info(f"{result.host}$ {block(command)}\nexit status {result.exit_status}, {result.seconds:.3f} s")
    for name, output in (("stdout", result.stdout), ("stderr", result.stderr)):
        # Cut first: output may be many megabytes, and Robot drops messages below the log level only later.
        text = output[:_LONGEST].decode("utf-8", "replace").rstrip()
        part = f", the first {_LONGEST} of {len(output)} bytes" if len(output) > _LONGEST else ""
        if text.strip():
            logger.debug(f"{name}{part}: {block(text)}")


def log_drawing(drawing: str) -> None:
    """Log a drawing of `VpmemLibrary.keywords.support.drawing`."""
    _robot.info(drawing, html=True)


def log_table(
    caption: str, header: Sequence[str], rows: Iterable[Sequence[object]], *, marked: set[tuple[int, int]] | None = None
) -> None:
    """Log a table. Highlight the cells in `marked`, which are pairs of row and column."""
    marks = marked or set()
    lines = [f"<b>{_cell(caption)}</b>", '<table style="border-collapse:collapse">']
    lines.append("<tr>" + "".join(f'<th style="{_CELL}">{_cell(name)}</th>' for name in header) + "</tr>")
    for i, row in enumerate(rows):
        cells = (
            f'<td style="{_MARKED if (i, j) in marks else _CELL}">{_cell(value)}</td>' for j, value in enumerate(row)
        )
        lines.append("<tr>" + "".join(cells) + "</tr>")
    lines.append("</table>")
    _robot.info("".join(lines), html=True)


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
    """A transport that logs its commands. In all other ways it works as the transport that it wraps.

    Args:
        inner: The transport.
        name: The machine's name in the log. The default is the transport's own name.
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
        """Start a command. Do not log its bytes."""
        return self._inner.stream(argv)

    def connect(self, address: str, port: int, *, timeout: float = DEFAULT_TIMEOUT) -> Connection:
        """Open a TCP connection from the machine. Do not log its bytes."""
        return self._inner.connect(address, port, timeout=timeout)

    def read_file(self, path: str) -> bytes:
        """Return the bytes of a file."""
        return self._inner.read_file(path)

    def write_file(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a file."""
        self._inner.write_file(path, data, mode=mode)

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()


def _cell(value: object) -> str:
    return as_html(str(value))
