"""Tables of shares over steps, as lines for a terminal and as an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

_COLUMNS = 8  # Steps that lines have room for.
_WIDTH, _HEIGHT, _LEFT = 62, 20, 150  # Of a cell, and of the names; pixels.
_LOW, _HIGH = (247, 251, 255), (8, 81, 156)  # Colours of 0 and of the largest share.


class Heat(NamedTuple):
    """A cell: a share, and what tells it from others."""

    value: float
    mark: str = ""  # "" "*" "~": one sign behind the number; "*" is hatched, "~" has a dashed edge.


class Section(NamedTuple):
    """Rows under a heading, each a name and a cell for every step."""

    heading: str
    rows: Sequence[tuple[str, Sequence[Heat | None]]]


def lines(steps: Sequence[int], sections: Sequence[Section]) -> list[str]:
    """A line for each row, with as many steps as there is room for: the last one, and others at
    even distances."""
    shown = _spread(len(steps))
    names = [name for one in sections for name in (one.heading, *(row[0] for row in one.rows))]
    width = max(map(len, names)) + 2
    written = list[str]()
    for one in sections:
        head = "".join(f"{steps[place]:>9,} " for place in shown)
        written.append(f"{one.heading:<{width}}{head}".rstrip())
        for name, cells in one.rows:
            row = "".join(_written(cells[place]) for place in shown)
            written.append(f"  {name:<{width - 2}}{row}".rstrip())
    return written


def _written(cell: Heat | None) -> str:
    return f"{'-':>9} " if cell is None else f"{cell.value:>9.3f}{cell.mark or ' '}"


def _spread(count: int) -> list[int]:
    if count <= _COLUMNS:
        return [*range(count)]
    return [(count - 1) * place // (_COLUMNS - 1) for place in range(_COLUMNS)]


def svg(title: str, steps: Sequence[int], sections: Sequence[Section], legend: str) -> str:
    """The same as a picture, with all steps. The darkest colour is that of the largest share."""
    cells = [cell for one in sections for _, row in one.rows for cell in row if cell]
    largest = max((cell.value for cell in cells), default=0.0) or 1.0
    drawn, y = [_text(8, 20, title, size=14)], 34
    for one in sections:
        y += _HEIGHT
        drawn.append(_text(8, y - 6, one.heading, weight="bold"))
        drawn += [
            _text(_LEFT + place * _WIDTH + _WIDTH // 2, y - 6, f"{step:,}", anchor="middle")
            for place, step in enumerate(steps)
        ]
        for name, row in one.rows:
            drawn.append(_text(16, y + 14, name))
            for place, cell in enumerate(row):
                if cell:
                    drawn.append(_drawn(_LEFT + place * _WIDTH, y, cell, largest))
            y += _HEIGHT
        y += 8
    drawn.append(_text(8, y + 14, legend))
    words = max(6 * len(legend), 8 * len(title))  # About as wide as these letters.
    width, height = max(_LEFT + len(steps) * _WIDTH, words) + 16, y + 24
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        'font-family="sans-serif" font-size="11">'
        '<defs><pattern id="unseen" width="6" height="6" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><path d="M0 0V6" stroke="#999" stroke-width="1.5"/>'
        '</pattern></defs><rect width="100%" height="100%" fill="white"/>'
        f"{''.join(drawn)}</svg>\n"
    )


def _drawn(x: int, y: int, cell: Heat, largest: float) -> str:
    part = min(max(cell.value / largest, 0.0), 1.0)
    colour = ",".join(str(round(a + (b - a) * part)) for a, b in zip(_LOW, _HIGH, strict=True))
    place = f'x="{x + 1}" y="{y + 1}" width="{_WIDTH - 2}" height="{_HEIGHT - 2}"'
    edge = ' stroke="#333" stroke-dasharray="3 2"' if cell.mark == "~" else ""
    hatch = f'<rect {place} fill="url(#unseen)"/>' if cell.mark == "*" else ""
    ink = "white" if part > 0.5 and cell.mark != "*" else "black"
    number = _text(x + _WIDTH // 2, y + 14, f"{cell.value:.3f}", anchor="middle", fill=ink)
    return f'<rect {place} fill="rgb({colour})"{edge}/>{hatch}{number}'


def _text(x: int, y: int, words: str, **how: object) -> str:
    names = {"anchor": "text-anchor", "weight": "font-weight", "size": "font-size"}
    styled = "".join(f' {names.get(key, key)}="{value}"' for key, value in how.items())
    return f'<text x="{x}" y="{y}"{styled}>{escape(words)}</text>'
