"""The curves of the site: what they take from the ledger while the tables are behind."""

from __future__ import annotations

import itertools
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from pellucid.site.curves import Curves, short
from pellucid.store import layout, metrics, parquet

IN_LEDGER = ("tokens", "loss", "lr", "grad_norm", "weight_norm")


def parts_up_to(folder: Path, step: int) -> None:
    """Leave the rows of a run as they lie on disk while it trains behind this step."""
    metrics.Metrics(folder).forget_after(step)


def steps_of(folder: Path) -> list[dict[str, Any]]:
    return [row for batch in metrics.rows(folder, "steps") for row in batch.to_pylist()]


@pytest.mark.parametrize("written", [-1, 0, 1, 6, 12])
def test_steps_whose_rows_are_not_on_disk_come_from_the_ledger(
    finished: Path, release: Path, written: int
) -> None:
    whole = Curves(finished, 0, 13, ["stones"]).series
    parts_up_to(release, written)
    curves = Curves(release, 0, 13, ["stones"])
    assert all((curves.series[name] == whole[name]).all() for name in IN_LEDGER)
    rest = slice(max(written, 0), None)
    assert np.isnan(curves.series["time"][rest]).all()
    seconds = [row["seconds"] for row in steps_of(finished)][: max(written, 0)]
    assert curves.series["time"][: max(written, 0)].tolist() == list(itertools.accumulate(seconds))
    assert len(curves.part(0, 0)["series"]["loss"]) == 13


def test_no_step_behind_the_last_one_is_taken(release: Path) -> None:
    """The ledger grows while the curves are read."""
    parts_up_to(release, 4)
    assert len(Curves(release, 0, 9, ["stones"]).series["loss"]) == 9


def test_without_a_ledger_there_is_nothing(release: Path) -> None:
    (release / layout.LEDGER).unlink()
    shutil.rmtree(release / layout.METRICS)
    assert Curves(release, 0, 0, ["stones"]).part(0, 0)["series"] == {}


LARGEST = np.finfo(np.float64).max


@pytest.mark.parametrize("value", [LARGEST, -LARGEST, 5e-324, 0.1, 1e16])
@pytest.mark.parametrize("steps", [3, 700])
def test_any_number_has_a_mean(value: float, steps: int) -> None:
    """Measured numbers are said: nothing keeps a table from holding the largest."""
    curves = Curves.__new__(Curves)
    curves.first, curves.steps, curves.series = 0, steps, {"speed": np.full(steps, value)}
    curves.abandoned = []
    for number in range(curves.parts(2)):
        for found in curves.part(2, number)["series"]["speed"]:
            assert found == [short(value)] * 3 == [pytest.approx(value, rel=1e-6)] * 3


def test_a_source_without_tokens_has_no_loss(release: Path) -> None:
    path = release / "metrics" / "sources.parquet"
    (batch,) = metrics.read(path, "sources")
    table = pa.Table.from_batches([batch])
    zeros = pa.array([0] * len(table), pa.int64())
    table = table.set_column(table.schema.get_field_index("tokens"), "tokens", zeros)
    path.unlink()
    with parquet.writer(path, metrics.TABLES["sources"]) as writer:
        writer.write_table(table.cast(metrics.TABLES["sources"]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Nothing is divided by no tokens.
        curves = Curves(release, 0, 13, ["stones"])
    assert np.isnan(curves.series["loss of stones"]).all()
