"""The numbers of a run as CSV files and as TensorBoard events are those of its tables."""

from __future__ import annotations

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pellucid.errors import FolderTaken, NotTrained, TensorboardMissing
from pellucid.record import digests
from pellucid.sql.exported import ORDERS, export_numbers
from pellucid.store import layout, metrics
from pellucid.store.home import home
from pellucid.store.ledger import LedgerFile
from tests.conftest import make_run, pellucid
from tests.release.evaluating import evaluate
from tests.serving import serving


def read_csv(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / f"{name}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def recorded(run: Path, name: str) -> list[dict[str, Any]]:
    return pq.read_table(run / layout.METRICS / f"{name}.parquet").to_pylist()


def read_events(folder: Path) -> dict[str, list[tuple[int, float, float]]]:
    """Step, value and time of every dot of every curve, as TensorBoard itself reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    opened.Reload()
    return {
        tag: [(event.step, event.value, event.wall_time) for event in opened.Scalars(tag)]
        for tag in opened.Tags()["scalars"]
    }


@pytest.mark.parametrize("name", ["steps", "sources", "validation"])
def test_a_csv_file_has_the_bits_of_its_table(name: str, finished: Path, tmp_path: Path) -> None:
    counts = export_numbers(finished, "csv", tmp_path / "out")
    table, read = recorded(finished, name), read_csv(tmp_path / "out", name)
    assert len(read) == len(table) == counts[name] > 0
    for row, told in zip(table, read, strict=True):
        for column, value in row.items():
            assert type(value)(told[column]) == value
            if isinstance(value, float):
                assert float(told[column]).hex() == value.hex()
    if name == "sources":
        assert [float(one["loss"]) for one in read] == [
            one["loss_sum"] / one["tokens"] for one in table
        ]


def test_a_csv_file_has_the_bits_of_the_evaluations(release: Path, tmp_path: Path) -> None:
    made = evaluate(release, [6, 12])
    export_numbers(release, "csv", tmp_path / "out")
    told = {
        (int(row["n"]), int(row["step"]), row["number"]): digests.float_bits(float(row["value"]))
        for row in read_csv(tmp_path / "out", "evaluations")
    }
    assert told == {
        (n, entry["step"], name): bits
        for n, entry in enumerate(made[1:], 1)
        for name, bits in entry["numbers"].items()
    }


def test_a_csv_file_has_the_bits_of_the_ledger(finished: Path, tmp_path: Path) -> None:
    export_numbers(finished, "csv", tmp_path / "out")
    entries = [body for body in LedgerFile(finished).between(1, 13) if body["kind"] == "step"]
    read = read_csv(tmp_path / "out", "steps")
    assert len(entries) == len(read) == 13
    for entry, told in zip(entries, read, strict=True):
        for number in ("loss", "lr", "grad_norm", "weight_norm"):
            assert digests.float_bits(float(told[number])) == entry[number]


def test_tensorboard_reads_the_same_numbers_in_float32(finished: Path, tmp_path: Path) -> None:
    export_numbers(finished, "tensorboard", tmp_path / "out")
    read, expected = read_events(tmp_path / "out"), dict[str, list[tuple[int, float]]]()
    for name in ("steps", "sources", "validation"):
        for row in recorded(finished, name):
            if name == "sources":
                row["loss"] = row["loss_sum"] / row["tokens"]
                row["weight"] = 1
            where = f"/{row['source']}" if "source" in row else ""
            for column in row.keys() - {"step", "source", "phase"}:
                dots = expected.setdefault(f"{name}/{column}{where}", [])
                dots.append((row["step"], float(np.float32(row[column]))))
    assert {tag: [dot[:2] for dot in dots] for tag, dots in read.items()} == expected
    times = [time for _, _, time in read["steps/loss"]]
    assert times == np.cumsum([row["seconds"] for row in recorded(finished, "steps")]).tolist()


@pytest.mark.parametrize("kind", ["csv", "tensorboard"])
def test_the_same_files_come_of_the_same_run_and_of_its_url(
    kind: str, finished: Path, tmp_path: Path
) -> None:
    export_numbers(finished, kind, tmp_path / "out")
    with serving(finished) as server:
        export_numbers(home(server.url), kind, tmp_path / "far")
    for path in (tmp_path / "out").iterdir():
        assert path.read_bytes() == (tmp_path / "far" / path.name).read_bytes()
    export_numbers(finished, kind, tmp_path / "out")  # The folder holds just this.
    (tmp_path / "out" / "notes").write_text("mine")
    with pytest.raises(FolderTaken):
        export_numbers(finished, kind, tmp_path / "out")


def test_abandoned_steps_are_told_by_the_incident_alone(rolled_back: Path, tmp_path: Path) -> None:
    export_numbers(rolled_back, "csv", tmp_path / "out")
    read = read_csv(tmp_path / "out", "steps")
    kept = [body for body in LedgerFile(rolled_back).between(1, 13) if body["kind"] == "step"]
    assert [int(one["step"]) for one in read] == list(range(1, 14))
    assert [float(one["loss"]) for one in read] == [
        digests.bits_float(body["loss"]) for body in kept
    ]
    assert max(float(one["loss"]) for one in read) < 20
    (incident,) = read_csv(tmp_path / "out", "incidents")
    body = LedgerFile(rolled_back).rollbacks[0]
    assert (incident["step"], incident["back_to"], incident["rule"]) == ("11", "8", "loss")
    assert float(incident["value"]) == digests.bits_float(body["value"]) > 20


def test_a_run_in_progress_gives_what_its_tables_hold(rolled_back: Path, tmp_path: Path) -> None:
    """Killed between the ledger's entry of a rollback and the removal of the abandoned rows."""
    run = Path(shutil.copytree(rolled_back, tmp_path / "run"))
    lines = (run / layout.LEDGER).read_bytes().splitlines(keepends=True)
    end = next(at for at, line in enumerate(lines) if json.loads(line)["kind"] == "incident")
    (run / layout.LEDGER).write_bytes(b"".join(lines[: end + 1]))
    metrics.Metrics(run).forget_after(8)
    abandoned = layout.abandoned(run, 1) / layout.METRICS
    for name in metrics.TABLES:
        part = run / layout.METRICS / name / f"{11:012}.parquet"
        if part.parent.is_dir():
            shutil.copy(abandoned / f"{name}.parquet", part)
    assert max(row["step"] for batch in metrics.rows(run, "steps") for row in batch.to_pylist()) > 8
    counts = export_numbers(run, "csv", tmp_path / "out")
    export_numbers(run, "tensorboard", tmp_path / "events")
    assert counts["steps"] == 8 and counts["incidents"] == 1
    assert [int(one["step"]) for one in read_csv(tmp_path / "out", "steps")] == list(range(1, 9))
    dots = read_events(tmp_path / "events")
    assert {step for curve in dots.values() for step, _, _ in curve} == set(range(9))


def test_before_training_there_are_no_numbers(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(NotTrained):
        export_numbers(make_run(tmp_path / "run", corpus), "csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_tensorboard_the_error_names_the_command(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard.summary.writer.record_writer", None)
    with pytest.raises(TensorboardMissing, match=re.escape('pip install "pellucid[tensorboard]"')):
        export_numbers(finished, "tensorboard", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_verb_writes_them(finished: Path, tmp_path: Path) -> None:
    said = pellucid("export", finished, "--as", "csv", "--to", tmp_path / "out").stdout
    assert said == f"the numbers of 13 steps are in {tmp_path / 'out'}\n"
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == sorted(ORDERS)
    told = pellucid(
        "export", finished, "--as", "tensorboard", "--to", tmp_path / "events", "--json"
    )
    assert json.loads(told.stdout)["rows"]["steps"] == 13
    wrong = pellucid("export", finished, "--as", "xml", "--to", tmp_path / "x", check=2)
    assert "hf, state, csv, tensorboard" in wrong.stderr
    step = ("--step", 3, "--as", "csv", "--to", tmp_path / "x")
    assert "--as csv writes all steps" in pellucid("export", finished, *step, check=2).stderr
