"""A report as Markdown, beside a folder of its pictures."""

from __future__ import annotations

from pellucid.cards.markdown import escape
from pellucid.report.blocks import (
    Block,
    Cell,
    Command,
    Paragraph,
    Pictures,
    Report,
    Section,
    Table,
    Words,
)
from pellucid.report.chart import described

PICTURES = "pictures"
MARK = "<!-- made by pellucid report -->"  # The first line: such a folder may be written again.
_MOST = 300  # Characters of a cell.


def markdown(report: Report) -> str:
    parts = [f"{MARK}\n# {escape(report.title)}", _paragraph(report.lead)]
    parts += [part for section in report.sections for part in _section(section)]
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"## {_cell(section.title)}", *map(_block, section.blocks)]
    return [*parts, _checks(section.checks)] if section.checks else parts


def _block(block: Block) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Pictures):
        return "\n".join(
            f"![{_cell(described(one.chart))}]({PICTURES}/{one.name}.svg)" for one in block.charts
        )
    return _paragraph(block)


def _paragraph(paragraph: Paragraph) -> str:
    text = "".join(map(_cell, paragraph.parts))
    # "0. a" of somebody else would begin a list.
    begins = text[:1].isalnum() or text[:1] in ("-", "+", "=")
    return f"&#{ord(text[0])};{text[1:]}" if begins and _is_foreign(paragraph) else text


def _is_foreign(paragraph: Paragraph) -> bool:
    return not isinstance(paragraph.parts[0], Words)


def _table(table: Table) -> str:
    width = len(table.head)
    marks = ["---"] * table.texts + ["--:"] * (width - table.texts)
    rows = [table.head, tuple(marks), *table.shown]
    lines = [f"| {' | '.join(cells)} |" for cells in _cells(rows)]
    more = [f"\n{table.more:,} more rows are in the output of `--json`."] if table.more else []
    return "\n".join([f"**{_cell(table.caption)}**\n", *lines, *more])


def _cells(rows: list[tuple[Cell, ...]]) -> list[list[str]]:
    head, marks, *others = rows
    return [[*map(_cell, head)], [*marks], *([*map(_cell, row)] for row in others)]


def _cell(cell: Cell) -> str:
    if isinstance(cell, Words):
        return str(cell)
    return escape(cell if len(cell) <= _MOST else f"{cell[:_MOST]} …")


def _checks(checks: list[Command]) -> str:
    width = max(len(one.line) for one in checks)
    lines = [f"{one.line:<{width}}  # {one.does}" for one in checks]
    return "\n".join(["Commands:\n", "```", *lines, "```"])
