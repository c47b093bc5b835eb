"""The tables that a notebook shows of a run, a step, a document."""

from __future__ import annotations

import html
from collections.abc import Mapping
from typing import Any

from pellucid.forked import fork_in_words
from pellucid.terminal import printable

_SHOWN = 500  # Characters of a text.


def fork_told(fork: dict[str, Any] | None) -> dict[str, object]:
    """The rows of a table that say that a run is a fork."""
    if not fork:
        return {}
    left_out = {"without": ", ".join(fork["without"])} if fork["without"] else {}
    return {"fork": fork_in_words(fork), **left_out}


def table(title: str, about: Mapping[str, object], text: str = "") -> str:
    """What a notebook shows: every string is somebody else's, and becomes text."""
    rows = "".join(
        f"<tr><th style='text-align:left'>{_html(name)}</th><td "
        f"style='text-align:left'>{_html(value)}</td></tr>"
        for name, value in about.items()
    )
    below = f"<pre style='white-space:pre-wrap'>{_html(text)}</pre>" if text else ""
    return f"<b>{_html(title)}</b><table>{rows}</table>{below}"


def _html(value: object) -> str:
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return html.escape(printable(text, _SHOWN))
