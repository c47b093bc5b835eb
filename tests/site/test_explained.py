"""What the pages explain: colours and words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.site.conftest import watched


def test_the_colours_of_a_step_are_told(browser: Any, finished: Path) -> None:
    """Each text has the colour whose lowest loss is the last one at or below its own."""
    with watched(browser, finished, "file") as at:
        page = at.open("step.html#3")
        bounds = [float(text) for text in page.locator("#colours .shade").all_inner_texts()]
        assert len(bounds) == 10 and bounds == sorted(bounds)
        for shown in page.locator(".segment .head .shade").all():
            colour = int(shown.get_attribute("class")[-1])
            loss = float(shown.inner_text())
            assert bounds[colour] - 0.006 <= loss
            assert colour == 9 or loss <= bounds[colour + 1] + 0.006
        assert at.wrong == []


def test_words_of_the_pages_are_explained(browser: Any, finished: Path) -> None:
    with watched(browser, finished, "file") as at:
        words = at.open("check.html").locator("tbody td:first-child").all_inner_texts()
        assert {"step", "anchor", "head", "ledger", "loss"} <= set(words)
        assert at.wrong == []
