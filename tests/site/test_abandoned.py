"""Steps that a rollback abandoned, drawn in their place."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pellucid.record import digests
from pellucid.release.publish import publish
from pellucid.site import curves
from pellucid.site.check import check
from pellucid.site.curves import Curves, short
from pellucid.site.data import Site
from pellucid.site.pack import canonical, packed, unpacked
from pellucid.store.ledger import LedgerFile
from tests.site.conftest import passes_axe, watched

FIRST = "curves/level0/00000"


@pytest.fixture(scope="session")
def back(tmp_path_factory: pytest.TempPathFactory, rolled_back: Path) -> Path:
    """A release that went from step 11 back to step 8."""
    folder = Path(shutil.copytree(rolled_back, tmp_path_factory.mktemp("runs") / "back"))
    publish(folder)
    return folder


def test_the_curve_has_the_losses_of_the_ledger(back: Path) -> None:
    ledger = LedgerFile(back)
    (incident,) = ledger.rollbacks
    left = [
        short(digests.bits_float(entry["loss"]))
        for entry in ledger.abandoned(incident)
        if entry["kind"] == "step"
    ]
    part = json.loads(next(Site(back).pieces(FIRST)))
    assert part["series"]["abandoned 1"] == [None] * 8 + left + [None] * 2 and len(left) == 3
    assert left[2] > 50 > max(part["series"]["loss"])
    assert Site(back).overview["rollbacks"] == [{"branch": 1, "step": 11, "to": 8}]


def test_a_part_has_what_lies_in_it(back: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of four bins: the abandoned steps 9 to 11 lie in the third."""
    monkeypatch.setattr(curves, "BINS", 4)
    made = Curves(back, 0, 13, ["stones"])
    parts = {number: made.part(0, number)["series"] for number in range(made.parts(0))}
    assert [number for number, series in parts.items() if "abandoned 1" in series] == [2]
    assert [value is None for value in parts[2]["abandoned 1"]] == [False, False, False, True]
    mean, least, greatest = made.part(1, 0)["series"]["abandoned 1"][2]
    assert least < mean < greatest


def test_other_abandoned_losses_are_refused(back: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(back, tmp_path / "own"))
    path = own / f"site/data/{FIRST}.js"
    (piece,) = unpacked(path.read_bytes(), FIRST, 1 << 20, path)
    about = json.loads(piece)
    about["series"]["abandoned 1"][10] = 4.5
    path.write_bytes(packed(FIRST, [canonical(about)]))
    assert [(one.error, one.where) for one in check(own)] == [
        ("FileDiffers", f"site/data/{FIRST}.js")
    ]


def test_the_timeline_draws_them_and_the_keys_read_them(browser: Any, back: Path) -> None:
    with watched(browser, back, "file") as at:
        page = at.open("timeline.html")
        assert page.locator(".curve.faint").count() == 1
        legend = page.locator(".legend").first.inner_text()
        assert "abandoned: steps 9 to 11" in legend
        chart = page.locator("svg[role=application]").first
        assert "abandoned: steps 9 to 11 from " in chart.get_attribute("aria-label")
        chart.focus()
        for key in ["Home", *["ArrowRight"] * 10]:
            page.keyboard.press(key)
        told = page.locator("output.told").first.inner_text()
        assert told.startswith("step 11: Training loss ")
        assert ", abandoned: steps 9 to 11 " in told
        assert told.endswith(", rolled back from step 11 to step 8")
        assert at.wrong == []
    passes_axe(browser, back, "timeline.html")
