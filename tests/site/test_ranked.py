"""The documents that were last read with the lowest and the highest loss."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from pellucid.look.show import Shown
from pellucid.site.data import Site
from pellucid.site.numbers import LOSS
from pellucid.store import metrics
from tests.site.conftest import watched
from tests.site.reading import value


def last_readings(folder: Path) -> dict[int, tuple[int, int, float]]:
    """Of each document its last step, the tokens read there, and their mean loss, row by row."""
    last: dict[int, list[tuple[int, int, float]]] = {}
    for batch in metrics.rows(folder, "segments"):
        for row in batch.to_pylist():
            own = last.setdefault(row["document"], [])
            if own and own[0][0] < row["step"]:
                own.clear()
            own.append((row["step"], row["tokens"], row["loss_sum"]))
    return {
        document: (own[0][0], size, math.fsum(one[2] for one in own) / size)
        for document, own in last.items()
        for size in [sum(one[1] for one in own)]
    }


def test_the_lists_are_those_of_the_table(finished: Path) -> None:
    made, readings = value(Site(finished), "ranked"), last_readings(finished)
    known = {number: one for number, one in readings.items() if one[1] >= made["least"]}
    assert len(readings) > len(known) > 10
    ascending = sorted(known, key=lambda number: known[number][2])
    assert [row["document"] for row in made["lowest"]] == ascending[:10]
    assert [row["document"] for row in made["highest"]] == ascending[:-11:-1]
    for row in (*made["lowest"], *made["highest"]):
        step, tokens, loss = known[row["document"]]
        assert (row["step"], row["tokens"]) == (step, tokens)
        assert abs(row["loss"] - loss * LOSS) <= 0.51
        assert row["id"] == Shown(finished).documents.get(row["document"])["id"]


def test_the_page_leads_to_them(browser: Any, finished: Path) -> None:
    made = value(Site(finished), "ranked")
    with watched(browser, finished, "file") as at:
        page = at.open("data.html")
        tables = page.get_by_role("region", name="loss at the last reading")
        assert tables.count() == 2
        first = tables.nth(1).locator("tbody tr").first
        assert f"{made['highest'][0]['loss'] / LOSS:.3f}" in first.inner_text()
        first.locator("a").first.click()
        page.wait_for_selector("main:not([aria-busy]) pre.text")
        assert page.locator("h1").inner_text() == made["highest"][0]["id"]
        assert at.wrong == []
