"""A report as one HTML file: no scripts, pictures inside, light or dark as the reader's screen."""

from __future__ import annotations

import base64
import hashlib
import re

from jinja2 import Environment
from markupsafe import Markup, escape

from pellucid.report.blocks import Block, Cell, Paragraph, Pictures, Report, Table, Words
from pellucid.report.chart import Chart, installed, svg
from pellucid.terminal import printable

_MOST = 500  # Characters of a cell.
_KINDS = {Table: "table", Pictures: "pictures", Paragraph: "paragraph"}
_CODE = re.compile("`([^`]*)`")


def page(report: Report) -> str:
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"cell": _cell, "drawn": _drawn, "kind": _kind}
    style = f"\n{installed('chart.css')}{installed('page.css')}"
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    template = environment.from_string(installed("page.html"))
    return template.render(report=report, style=Markup(style), digest=digest)


def _kind(block: Block) -> str:
    return _KINDS[type(block)]


def _cell(cell: Cell) -> Markup:
    """A cell as text; of the report's own words, with their code."""
    if not isinstance(cell, Words):
        return escape(printable(cell, _MOST))
    parts = _CODE.split(cell)
    coded = (Markup("<code>{}</code>").format(part) for part in parts[1::2])
    plain = map(escape, parts[::2])
    return Markup("").join(
        piece for pair in zip(plain, [*coded, ""], strict=True) for piece in pair
    )


def _drawn(chart: Chart) -> Markup:
    """A chart, whose strings are escaped where it is drawn."""
    return Markup(svg(chart))
