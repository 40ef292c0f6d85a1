"""Small drawings for log.html: the backing of each device of a guest, and a comparison of values."""

from __future__ import annotations

from collections.abc import Sequence

from VpmemLibrary.visible import as_html

_BOX_WIDTH = 210
_BOX_HEIGHT = 46
_GAP = 34
_HEAD = 24
_LETTER = 6.6

_BAR_NAME = 420
_BAR_WIDTH = 300
_BAR_VALUE = 120
_BAR_STEP = 24


def chain_svg(heads: Sequence[str], chains: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Return a drawing with one row for each chain. Arrows join its boxes from left to right.

    Args:
        heads: The heading of each column, e.g. ``("region", "namespace", "device", "guest")``.
        chains: The boxes of each row. A box has a title and a line under the title.

    Example: ``chain_svg(("namespace", "guest"), [[("ns_0", "254MiB"), ("/dev/pmem0", "252MiB")]])``.
    """
    width = len(heads) * (_BOX_WIDTH + _GAP) - _GAP + 2
    height = _HEAD + len(chains) * (_BOX_HEIGHT + _GAP // 2) + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">',
        '<defs><marker id="vpmem-tip" markerWidth="8" markerHeight="8" refX="7" refY="4" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#555"/></marker></defs>',
    ]
    parts += [
        f'<text x="{_left(column) + 4}" y="15" fill="#777">{as_html(head)}</text>' for column, head in enumerate(heads)
    ]
    for row, chain in enumerate(chains):
        top = _HEAD + row * (_BOX_HEIGHT + _GAP // 2)
        for column, (title, line) in enumerate(chain):
            parts += _box(_left(column), top, title, line)
            if column:
                parts.append(_arrow(_left(column), top + _BOX_HEIGHT // 2))
    parts.append("</svg>")
    return "".join(parts)


def _left(column: int) -> int:
    return 1 + column * (_BOX_WIDTH + _GAP)


def _box(left: int, top: int, title: str, line: str) -> list[str]:
    return [
        f'<rect x="{left}" y="{top}" width="{_BOX_WIDTH}" height="{_BOX_HEIGHT}" rx="5" fill="#f4f8fb" stroke="#48a"/>',
        f'<text x="{left + 8}" y="{top + 19}" font-weight="bold">{as_html(_clip(title))}</text>',
        f'<text x="{left + 8}" y="{top + 36}" fill="#444">{as_html(_clip(line))}</text>',
    ]


def _arrow(right: int, middle: int) -> str:
    return (
        f'<line x1="{right - _GAP}" y1="{middle}" x2="{right - 1}" y2="{middle}" stroke="#555" '
        f'marker-end="url(#vpmem-tip)"/>'
    )


def _clip(text: str) -> str:
    letters = int((_BOX_WIDTH - 16) / _LETTER)
    return text if len(text) <= letters else text[: letters - 1] + "…"


def bars_svg(unit: str, bars: Sequence[tuple[str, float]]) -> str:
    """Return a drawing with one horizontal bar for each value. The longest bar has the full width.

    Args:
        unit: The unit of the values, e.g. ``MiB/s``.
        bars: The name and the value of each bar. Values are not negative.

    Example: ``bars_svg("MiB/s", [("host", 812.0), ("guest", 640.0)])``.
    """
    widest = max((value for _, value in bars), default=0) or 1
    height = len(bars) * _BAR_STEP + 2
    width = _BAR_NAME + _BAR_WIDTH + _BAR_VALUE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" role="img">'
    ]
    for row, (name, value) in enumerate(bars):
        top = row * _BAR_STEP
        length = round(value / widest * _BAR_WIDTH)
        parts += [
            f'<text x="{_BAR_NAME - 8}" y="{top + 15}" text-anchor="end" fill="#444">{as_html(name)}</text>',
            f'<rect x="{_BAR_NAME}" y="{top + 3}" width="{length}" height="16" rx="3" fill="#48a"/>',
            f'<text x="{_BAR_NAME + length + 6}" y="{top + 15}">{value:.0f} {as_html(unit)}</text>',
        ]
    parts.append("</svg>")
    return "".join(parts)
