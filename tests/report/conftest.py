"""A parent, two forks that each go without a document, and evaluations of all of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import pytest

from pellucid.fork import fork
from pellucid.inputs import Inputs
from pellucid.look.show import Shown
from pellucid.recipe import load
from pellucid.store import layout
from tests.conftest import finish
from tests.report.made import choices, keep, texts

RIGHT = (1, 1, 0, 0, 1, 0, 1, 0)
NATS = (-5.0, -6.0, -7.0, -4.0, -9.0, -5.5, -6.5, -8.0)


class Family(NamedTuple):
    parent: Path
    forks: list[Path]
    without: list[str]


@pytest.fixture(scope="session")
def family(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Family:
    """Only to be read. The parent is not sealed, so that it can keep evaluations."""
    place = tmp_path_factory.mktemp("family")
    parent = Path(shutil.copytree(finished, place / "small"))
    (parent / layout.MANIFEST).unlink()
    shutil.rmtree(parent / layout.SITE)
    rows = [row for step in (9, 10) for row in Shown(parent).step(step)["rows"]]
    names = list(dict.fromkeys(row["segments"][0]["document"] for row in rows))[:2]
    forks = [place / f"without-{number}" for number in range(len(names))]
    for folder, name in zip(forks, names, strict=True):
        fork(Inputs.load(parent, load(parent)), 7, folder, [], [name], lambda *_: None)
        finish(folder)
    keep(parent, choices(), {7: RIGHT, 13: RIGHT})
    keep(parent, texts(), {13: NATS})
    keep(parent, choices("alone"), {13: RIGHT})
    for number, folder in enumerate(forks):
        keep(folder, choices(), {13: (*RIGHT[:6], 0, number)})
        keep(folder, texts(), {13: [nats - 1 - number / 10 - i / 9 for i, nats in enumerate(NATS)]})
    return Family(parent, forks, names)
