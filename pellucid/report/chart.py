"""Curves as SVG: lines with bands, levels and marks on two linear axes.

A chart is of a size that a telephone shows whole. Every number is written with few digits, so that
one record gives one file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from pellucid.terminal import printable

WIDTH, HEIGHT = 360, 230
_LEFT, _RIGHT, _BOTTOM = 46, 10, 34  # Around the field, for the numbers of the axes.
_LETTER, _ROW = 6.3, 14  # Of a legend: about the width of a letter, and the height of a row.
_NAME = 32  # Characters of a name.
_TITLE = 48  # Characters of a title: about as many as the width has room for.
COLOURS = 8
_TICKS = 5
_LARGEST = 1e300  # A float64 holds sums of such values.


class Line(NamedTuple):
    """A curve; its points are finite, and its band has a low and a high value for each x."""

    name: str
    points: Sequence[tuple[float, float]]
    band: Sequence[tuple[float, float, float]] = ()


class Level(NamedTuple):
    """A value that does not depend on x, as a line of its own."""

    name: str
    value: float


class Chart(NamedTuple):
    title: str
    y: str  # What the vertical axis counts.
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    marks: Sequence[float] = ()  # Places on the x axis: steps of incidents.


def installed(name: str) -> str:
    """A file that is installed with this room: a style or a template."""
    return resources.files("pellucid.report").joinpath(name).read_text("utf-8")


def alone(chart: Chart) -> str:
    """A chart as a file of its own, on light or dark paper."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{svg(chart, installed("chart.css"))}\n'


def svg(chart: Chart, css: str = "") -> str:
    """A chart as an element. css: for a file of its own, which has no page around it."""
    legend = list(_legend(chart))
    top = 24 + _ROW * (1 + max((row for _, row, _, _ in legend), default=-1))
    field = _Field.of(chart, top)
    inside = f"<style>\n{css}</style>" if css else ""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" viewBox="0 0 {WIDTH} {HEIGHT}"'
            f' role="img" aria-label="{_text(described(chart), 500)}">{inside}',
            f'<rect class="paper" width="{WIDTH}" height="{HEIGHT}"/>',
            f'<text class="title" x="6" y="15">{_text(_fitting(chart.title), _TITLE)}</text>',
            *_axes(field, chart.y),
            *(
                f'<path class="mark" d="M{field.x(at)} {top}V{field.bottom}"/>'
                for at in _within(chart.marks, field)
            ),
            *(_level(field, number, level) for number, level in enumerate(chart.levels)),
            *(
                piece
                for number, line in enumerate(chart.lines)
                for piece in _line(field, number, line)
            ),
            *(_entry(*entry) for entry in legend),
            "</svg>",
        ]
    )


def described(chart: Chart) -> str:
    """A chart in words, for who does not see it."""
    parts = [f"{chart.title}, {chart.y} by step."]
    for line in chart.lines:
        if line.points:
            (first, a), (last, b) = line.points[0], line.points[-1]
            more = f", {number(b)} at step {number(last)}" if len(line.points) > 1 else ""
            parts.append(f"{line.name}: {number(a)} at step {number(first)}{more}.")
    parts += [f"{level.name}: {number(level.value)}." for level in chart.levels]
    return " ".join(parts)


def number(value: float) -> str:
    """A number with the digits that a reader needs."""
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e15 else f"{value:.4g}"


class _Field(NamedTuple):
    """Where values stand: between two steps and two values, and below `top`."""

    first: float
    last: float
    low: float
    high: float
    top: int

    @classmethod
    def of(cls, chart: Chart, top: int) -> _Field:
        xs = [x for line in chart.lines for x, _ in line.points] or [0.0]
        ys = [y for line in chart.lines for _, y in line.points]
        ys += [y for line in chart.lines for _, *both in line.band for y in both]
        ys += [level.value for level in chart.levels]
        ends = (min(ys, default=0.0), max(ys, default=1.0))
        low, high = (max(-_LARGEST, min(end, _LARGEST)) for end in ends)
        room = (high / 20 - low / 20) or max(abs(high), 1.0) / 20
        return cls(min(xs), max(xs), low - room, high + room, top)

    @property
    def bottom(self) -> int:
        return HEIGHT - _BOTTOM

    def x(self, value: float) -> str:
        share = (value - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return _short(_LEFT + share * (WIDTH - _LEFT - _RIGHT))

    def y(self, value: float) -> str:
        # Divided first: the difference of the largest numbers is none.
        whole = self.high / 2 - self.low / 2
        share = (self.high / 2 - value / 2) / whole
        return _short(self.top + share * (self.bottom - self.top))


def ticks(low: float, high: float, most: int = _TICKS) -> list[float]:
    """Round numbers between two numbers, at most so many and one more."""
    size = high / most - low / most
    if not 1e-300 < size < _LARGEST:
        return [low]
    power = 10.0 ** math.floor(math.log10(size))
    step = next(power * one for one in (1, 2, 5, 10) if power * one >= size * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [(first + place) * step for place in range(count)] or [low]


def _axes(field: _Field, name: str) -> Iterator[str]:
    for value in ticks(field.low, field.high):
        y = field.y(value)
        yield f'<path class="grid" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'
        yield f'<text class="end" x="{_LEFT - 4}" y="{y}" dy="3.5">{_tick(value, field)}</text>'
    whole = [value for value in ticks(field.first, field.last, 4) if value == int(value)]
    for value in whole:
        x = field.x(value)
        yield f'<text class="middle" x="{x}" y="{field.bottom + 13}">{number(value)}</text>'
    yield f'<path class="axis" d="M{_LEFT} {field.top}V{field.bottom}H{WIDTH - _RIGHT}"/>'
    yield f'<text x="6" y="{HEIGHT - 6}">{_text(name, 40)}</text>'
    yield f'<text class="end" x="{WIDTH - _RIGHT}" y="{HEIGHT - 6}">step</text>'


def _tick(value: float, field: _Field) -> str:
    if abs(value) < (field.high - field.low) * 1e-9:
        return "0"
    size = max(abs(field.low), abs(field.high))
    return f"{value:.2g}" if size < 1e-3 or size >= 1e7 else number(float(f"{value:.6g}"))


def _within(marks: Sequence[float], field: _Field) -> list[float]:
    return [at for at in marks if field.first <= at <= field.last]


def _level(field: _Field, place: int, level: Level) -> str:
    y = field.y(level.value)
    return f'<path class="level d{place % 4}" d="M{_LEFT} {y}H{WIDTH - _RIGHT}"/>'


def _line(field: _Field, place: int, line: Line) -> Iterator[str]:
    colour = f"c{place % COLOURS}"
    if len(line.band) == 1:  # A bar: an area needs two steps.
        ((x, low, high),) = line.band
        yield f'<path class="line {colour}" d="M{field.x(x)} {field.y(low)}V{field.y(high)}"/>'
    elif line.band:
        there = [f"{field.x(x)} {field.y(high)}" for x, _, high in line.band]
        back = [f"{field.x(x)} {field.y(low)}" for x, low, _ in reversed(line.band)]
        yield f'<path class="band {colour}" d="M{" ".join([*there, *back])}Z"/>'
    points = [f"{field.x(x)} {field.y(y)}" for x, y in line.points]
    if points:
        dash = f" d{place // COLOURS % 4}" if place >= COLOURS else ""
        yield f'<path class="line {colour}{dash}" d="M{" ".join(points)}"/>'
    if len(points) <= 40:
        for point in points:
            x, y = point.split()
            yield f'<circle class="dot {colour}" cx="{x}" cy="{y}" r="2.2"/>'


def _legend(chart: Chart) -> Iterator[tuple[float, int, str, str]]:
    """Place, row, class and name of each line and level; rows are broken where they are full. None
    where there is only one line."""
    named = [(f"line c{place % COLOURS}", line.name) for place, line in enumerate(chart.lines)]
    named += [(f"level d{place % 4}", level.name) for place, level in enumerate(chart.levels)]
    at, row = 6.0, 0
    for kind, name in named if len(named) > 1 else []:
        short = printable(name, _NAME)
        size = 22 + len(short) * _LETTER + 10
        if at + size > WIDTH and at > 6:
            at, row = 6.0, row + 1
        yield at, row, kind, short
        at += size


def _entry(at: float, row: int, kind: str, name: str) -> str:
    y = 29 + _ROW * row
    swatch = f'<path class="{kind}" d="M{_short(at)} {y - 3.5}h18"/>'
    return f'{swatch}<text x="{_short(at + 22)}" y="{y}">{_text(name, _NAME + 2)}</text>'


def _text(text: str, characters: int) -> str:
    """Somebody else's string in an element or an attribute."""
    return escape(printable(text, characters).replace("\n", " "), quote=True)


def _fitting(title: str) -> str:
    return title if len(title) <= _TITLE else f"{title[: _TITLE - 1]}…"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
