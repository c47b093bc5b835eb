"""A curve of characters, for terminals: four dots high and two wide in every cell, by
Unicode's braille patterns."""

from __future__ import annotations

from collections.abc import Sequence

Point = tuple[float, float]  # Step and loss.

_BRAILLE = 0x2800
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # By row and column of a cell.
_MARK = "×"


def chart(
    curve: Sequence[Point], marks: Sequence[Point], width: int = 64, height: int = 12
) -> list[str]:
    """The curve joined by lines and the marks as crosses above it, on one scale, with
    both axes; at least one point.

    width and height count the characters of the field within the axes.
    """
    points = [*curve, *marks]
    left, right = min(x for x, _ in points), max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(point: Point, columns: int, rows: int) -> tuple[int, int]:
        x = (point[0] - left) / (right - left) if right > left else 0.5
        y = (high - point[1]) / (high - low) if high > low else 0.5
        return round(x * (columns - 1)), round(y * (rows - 1))

    cells = [[_BRAILLE] * width for _ in range(height)]
    dots = [place(point, width * 2, height * 4) for point in sorted(curve)]
    for a, b in zip(dots, dots[1:] or dots, strict=False):
        for x, y in _line(a, b):
            cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    field = [[" " if cell == _BRAILLE else chr(cell) for cell in row] for row in cells]
    for point in marks:
        x, y = place(point, width, height)
        field[y][x] = _MARK
    names = (
        {0: f"{high:.4g}", height - 1: f"{low:.4g}"} if high > low else {height // 2: f"{low:.4g}"}
    )
    edge = max(map(len, names.values()))
    lines = [f"{names.get(y, ''):>{edge}} │" + "".join(row) for y, row in enumerate(field)]
    begin, end = f"{left:,.0f}", f"{right:,.0f}"
    under = begin + f"{end:>{width - len(begin)}}" if right > left else f"{begin:^{width}}".rstrip()
    return [
        *(line.rstrip() for line in lines),
        " " * edge + " └" + "─" * width,
        " " * (edge + 2) + under,
    ]


def _line(a: tuple[int, int], b: tuple[int, int]) -> list[tuple[int, int]]:
    """The dots from a to b, one for each column or row, whichever are more."""
    length = max(abs(b[0] - a[0]), abs(b[1] - a[1]))
    if not length:
        return [a]
    return [
        (round(a[0] + (b[0] - a[0]) * i / length), round(a[1] + (b[1] - a[1]) * i / length))
        for i in range(length + 1)
    ]
