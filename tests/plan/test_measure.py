"""The same steps under every axis; what differs, what dies and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pellucid import machine
from pellucid.errors import CommandInvalid, MemoryTooSmall, RunBusy
from pellucid.plan import measure
from pellucid.plan.measure import Axis, axes, broken, failed
from pellucid.recipe import load
from pellucid.store import files, layout, log
from pellucid.store.ledger import LedgerFile
from tests.conftest import finish, make_run, pellucid

SKIPPED = ["compile", "isa", "threads"]


def silent(what: str, done: int, total: int, unit: str) -> None: ...


def test_a_sealed_release_is_measured_and_left_as_it_is(finished: Path) -> None:
    before = (finished / layout.JOURNAL).read_bytes()
    found = json.loads(
        pellucid("plan", finished, "--measure", "--skip", "compile", "--json").stdout
    )
    rows = {row["name"]: row for row in found["axes"]}
    assert (
        found["data"] == "own"
        and not found["noted"]
        and (finished / layout.JOURNAL).read_bytes() == before
    )
    ledger = LedgerFile(finished)
    recorded = [ledger.step(step)["state"] for step in (1, 2, 3)]
    assert {"killed and resumed", "native, eager", "instruction set scalar"} <= set(rows)
    for row in rows.values():
        assert (row["states"] == recorded) == (row["arithmetic"] == "portable")
        assert row["seconds"] > 0 and row["peak"] > 10**7
        assert (row["differs_at"] == 0) == (row["arithmetic"] == "portable")


def test_an_unsealed_run_notes_it_in_its_journal(corpus: Path, tmp_path: Path) -> None:
    folder = finish(make_run(tmp_path / "small", corpus), "documents")
    out = pellucid(
        "plan", folder, "--measure", "--steps", 2, *(w for s in SKIPPED for w in ("--skip", s))
    ).stdout
    assert "generated tokens" in out and "the same" in out and "different from step 1 on" in out
    assert max(map(len, out.splitlines())) <= 100
    entry = list(log.read(folder / layout.JOURNAL))[-1]
    assert entry.problem is None and entry.body["kind"] == "measure" and entry.body["steps"] == "2"
    assert entry.body["killed and resumed"]["bits"] == "equal"
    assert entry.body["native, eager"]["bits"] == "differ at step 1"
    with files.locked(folder), pytest.raises(RunBusy):
        measure.measure(folder, 2, [*SKIPPED, "native", "resume"], silent)


def one(kind: str, **changes: object) -> Axis:
    fields: dict[str, Any] = {"arithmetic": "portable", "threads": 1} | changes
    return Axis(kind, kind, **fields)


def test_promised_bits_that_differ_fail(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pellucid.cli.plan import plan
    from pellucid.errors import BitsDiffer

    wrong = one("threads", arithmetic="native")
    monkeypatch.setattr(measure, "axes", lambda recipe: [one(""), wrong])
    with pytest.raises(BitsDiffer, match="under threads"):
        plan(finished, measured=True, steps=2)
    assert "DIFFERENT, though promised, from step 1 on" in capsys.readouterr().out


def test_an_axis_that_dies_is_named_and_the_others_are_measured(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pellucid.cli.plan import plan
    from pellucid.errors import MeasuringFailed

    monkeypatch.setattr(
        measure, "axes", lambda recipe: [one(""), one("isa", isa="vax"), one("resume", killed=True)]
    )
    found = measure.measure(finished, 2, [], silent)
    assert [bool(row["failed"]) for row in found["axes"]] == [False, True, False]
    assert "MachineLacks" in found["axes"][1]["failed"] and found["axes"][2]["differs_at"] == 0
    assert broken(found) == [] and len(failed(found)) == 1
    with pytest.raises(MeasuringFailed, match="vax"):
        plan(finished, measured=True, steps=2)
    assert "not measured" in capsys.readouterr().out


def test_a_stored_state_that_is_not_the_killed_ones_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second process holds what it restores against the root that the first one told."""
    parts = measure._parts

    def changed(axis, steps):
        return [p | ({} if p["die"] else {"state": "0" * 64}) for p in parts(axis, steps)]

    monkeypatch.setattr(measure, "_parts", changed)
    monkeypatch.setattr(measure, "axes", lambda recipe: [one("resume", killed=True)])
    assert "StateDiffers" in measure.measure(finished, 2, [], silent)["axes"][0]["failed"]


def test_what_cannot_be_measured_is_refused(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CommandInvalid, match="--skip takes threads, isa"):
        measure.measure(finished, 3, ["speed"], silent)
    with pytest.raises(CommandInvalid, match="--steps 1"):
        measure.measure(finished, 1, [], silent)
    monkeypatch.setattr(machine, "memory", lambda: 1 << 20)
    with pytest.raises(MemoryTooSmall):
        measure.measure(finished, 3, [], silent)


def test_axes_follow_the_recipe(finished: Path) -> None:
    recipe = load(finished)
    portable = axes(recipe)
    assert portable[0].threads == 1 and all(
        axis.keeps == (axis.arithmetic == "portable") for axis in portable
    )
    assert {axis.isa for axis in portable if axis.kind == "isa"} == set(
        measure.instruction_sets()[1:]
    )
    native = axes(
        recipe.model_copy(
            update={"train": recipe.train.model_copy(update={"arithmetic": "native"})}
        )
    )
    assert [axis.kind for axis in native if axis.keeps] == ["", "processes", "resume"]
    assert "portable" in [axis.kind for axis in native] and "isa" not in [
        axis.kind for axis in native
    ]
    assert {axis.kind for axis in [*portable, *native]} - {""} == set(measure.KINDS)
