"""What a report is made of, before it is Markdown or HTML.

A plain string is somebody else's, and both show it as text. Words of the report itself say so."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pellucid.report.chart import Chart

MOST_ROWS = 100  # Of a table; the numbers of --json have all.


class Words(str):
    """Text of the report itself, in which `code` is code."""

    __slots__ = ()


Cell = str


class Table(NamedTuple):
    """Rows of cells, of which the first `texts` are aligned to the left."""

    caption: Cell
    head: tuple[Cell, ...]
    rows: list[tuple[Cell, ...]]
    texts: int = 1

    @property
    def shown(self) -> list[tuple[Cell, ...]]:
        return self.rows[:MOST_ROWS]

    @property
    def more(self) -> int:
        """Rows that are not shown."""
        return max(0, len(self.rows) - MOST_ROWS)


class Paragraph(NamedTuple):
    """Parts of sentences, one behind the other."""

    parts: tuple[Cell, ...]


class Picture(NamedTuple):
    """A chart and the name of its file, without its ending."""

    name: str
    chart: Chart


class Pictures(NamedTuple):
    """Charts beside each other."""

    charts: list[Picture]


class Command(NamedTuple):
    """A command, and what it does."""

    line: str
    does: Words


Block = Table | Paragraph | Pictures


@dataclass
class Section:
    """A part of a report with a title: what it shows, the commands that check or compute it again,
    and its numbers for --json."""

    title: Cell
    blocks: list[Block] = field(default_factory=list)
    checks: list[Command] = field(default_factory=list)
    numbers: dict[str, Any] = field(default_factory=dict)


class Report(NamedTuple):
    title: str
    lead: Paragraph
    sections: list[Section]

    @property
    def pictures(self) -> list[Picture]:
        blocks = (block for section in self.sections for block in section.blocks)
        return [one for block in blocks if isinstance(block, Pictures) for one in block.charts]


def say(*parts: Cell) -> Paragraph:
    return Paragraph(parts)


def missing(title: str, what: str, command: str) -> Section:
    """A section whose data the run does not have yet, and the command that makes them."""
    made = Command(command, Words("makes what is missing"))
    return Section(Words(title), [say(Words(what))], [made])
