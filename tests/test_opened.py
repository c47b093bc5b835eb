"""A run in Python: what it gives agrees with the ledger, the order and the other
readers; the docs' code runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

import pellucid
from pellucid import opened
from pellucid.errors import (
    DocumentUnknown,
    EvaluationBroken,
    FolderNeeded,
    NotTrained,
    QueryInvalid,
    RunMissing,
    StageNotReady,
    StepUnknown,
)
from pellucid.look.show import Shown
from pellucid.record import digests
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import finish, make_run, spiking
from tests.conftest import pellucid as verb
from tests.release.evaluating import evaluate, rewrite
from tests.serving import serving

DOCS = Path(__file__).parents[1] / "docs/python.md"


@pytest.fixture(scope="module")
def run(finished: Path) -> opened.Run:
    return pellucid.open(finished)


def test_the_code_of_the_docs_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mymodel").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, str(DOCS), "exec"), names)  # noqa: S102 - these are our own docs.
    assert len(blocks) == 9 and names["state"].step == 7 and len(names["train"]) > 20
    assert names["table"].schema.names == ["source", "epoch", "loss"] and {"count", "hits"} <= set(
        names["answer"]
    )


def test_opening_and_importing_load_next_to_nothing(finished: Path) -> None:
    code = """
import sys, pellucid
assert not {"torch", "numpy", "pyarrow", "duckdb"} & set(sys.modules)
run = pellucid.open(sys.argv[1])
step = run.step(7)
step.batch(), step.documents(), step.segments(), run.document(0).steps()
run.verify(), run._repr_html_()
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(finished)], check=True)


def test_nothing_is_read_until_asked(release: Path) -> None:
    run = pellucid.open(release)
    shutil.rmtree(release / "data")
    assert run.step(7).loss > 0 and run.sql("SELECT count(*) AS n FROM steps").to_pylist() == [
        {"n": 13}
    ]
    with pytest.raises(StageNotReady):
        run.step(7).batch()


def test_a_release_behind_a_url_is_asked_alike(run: opened.Run, finished: Path) -> None:
    with serving(finished) as server:
        there = pellucid.open(server.url)
        assert there.head == run.head and there.step(7).entry == run.step(7).entry
        assert np.array_equal(there.step(7).batch(), run.step(7).batch())
        assert there.step(7).segments().equals(run.step(7).segments())
        assert (
            there.document(3).text == run.document(3).text
            and there.document(3).steps() == run.document(3).steps()
        )
        assert there.step(7).state().roots().state == run.step(7).state().roots().state
        assert there._repr_html_() == run._repr_html_() and server.url in repr(there)
        with pytest.raises(FolderNeeded):
            there.verify()


def test_a_folder_that_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunMissing):
        pellucid.open(tmp_path)


def test_a_run_before_its_first_step(tmp_path: Path, corpus: Path) -> None:
    run = pellucid.open(make_run(tmp_path / "run", corpus))
    assert run.recipe.train.steps == 13 and "step 0 of 13" in run._repr_html_()
    with pytest.raises(NotTrained):
        _ = run.head


def test_head_and_steps_are_those_of_the_ledger(run: opened.Run, finished: Path) -> None:
    ledger = LedgerFile(finished)
    assert run.head == ledger.head and (run.first, run.last, len(run)) == (0, 13, 13)
    assert [one.number for one in run] == list(range(1, 14))
    for one in run:
        entry = ledger.step(one.number)
        assert one.entry == entry and one.tokens == int(entry["tokens"]) == one.number * 128
        for name in ("loss", "lr", "grad_norm", "weight_norm"):
            assert getattr(one, name) == digests.bits_float(entry[name])
    assert run.step(7).digest == Shown(finished).step(7)["digest"] == ledger.step(8)["prev"]
    assert run.step("step7").number == run.step("7").number == 7
    assert run.status()["head"] == run.head and run.verify().ok


@pytest.mark.parametrize("step", [14, -1, "x", "step07"])
def test_a_step_that_is_not_there(step: int | str, run: opened.Run) -> None:
    with pytest.raises(StepUnknown, match="from step 0 to step 13"):
        run.step(step)


def test_the_first_state_was_trained_on_nothing(run: opened.Run) -> None:
    first = run.step(0)
    assert first.tokens == 0 and first.entry["kind"] == "genesis" and first.segments().num_rows == 0
    assert first.state().step == 0 and "step 0" in first._repr_html_()
    for asked in (first.batch, first.documents, first.blocks, lambda: first.loss):
        with pytest.raises(StepUnknown, match="the first step is 1"):
            asked()


def test_the_batch_is_what_show_shows(run: opened.Run, finished: Path) -> None:
    shown = Shown(finished)
    for number in (1, 7, 13):
        step, expected = run.step(number), shown.step(number)["rows"]
        assert step.batch().shape == (4, 33) and step.batch().dtype == np.uint32
        assert step.batch().tolist() == [one["tokens"] for one in expected]
        assert [one.number for one in step.blocks()] == [one["block"] for one in expected]
        named = [piece["document"] for one in expected for piece in one["segments"]]
        assert [one.id for one in step.documents()] == list(dict.fromkeys(named))
        losses = [
            piece["loss"]
            for one in expected
            for piece in one["segments"]
            if piece["loss"] is not None
        ]
        assert step.segments().column("loss").to_pylist() == losses


def test_a_step_after_a_rollback_has_the_batch_it_was_trained_on(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = "guards.loss={action = 'rollback', deviations = 8.0, least = 0.1, width = 2}"
    settings = [
        "train.steps=14",
        "placement.anchors.every=4",
        loss,
        "guards.window=8",
        "guards.back=3",
    ]
    folder = make_run(tmp_path / "run", corpus, settings)
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 11, 12))
    run = pellucid.open(finish(folder))
    assert run.ledger.history.branch == 1
    for step in run:
        recorded = run.sql(f"SELECT block FROM sequences WHERE step = {step.number} ORDER BY row")
        assert [one.number for one in step.blocks()] == recorded.column("block").to_pylist()


def test_the_state_is_the_recorded_one(run: opened.Run) -> None:
    for number in (5, 7):
        step = run.step(number)
        assert step.state().roots().state.hex() == step.entry["state"]


def test_checkpoints_are_folders(run: opened.Run, finished: Path) -> None:
    assert (
        run.step(6).checkpoint() == finished / "checkpoints/step6"
        and run.step(7).checkpoint() is None
    )


def test_documents_and_blocks_name_each_other(run: opened.Run, finished: Path) -> None:
    document = run.step(7).documents()[0]
    assert (
        run.document(document.id).index == document.index
        and run.document(document.index).id == document.id
    )
    assert 7 in [one["step"] for one in document.steps()]
    assert [one["step"] for one in document.steps()] == sorted(
        one["step"] for one in document.steps()
    )
    assert {one["block"] for one in document.steps()} <= {one.number for one in document.blocks()}
    block = run.block(document.steps()[0]["block"])
    assert document.id in [one["document"] for one in block.segments()]
    assert block.tokens.shape == (33,) and block.source == document.source == "stones"
    assert block.steps() == Shown(finished).block(block.number)["steps"]
    assert document.tokens == Shown(finished).document(document.id)["tokens"]
    everything = list(run.documents())
    assert [one.index for one in everything] == list(range(40)) and everything[
        3
    ].text == run.document(3).text
    held_back = next(one for one in everything if one.split == "validation")
    assert held_back.steps() == [] and held_back.blocks() == []


def test_what_is_not_there(run: opened.Run) -> None:
    for name in ("stones/nothing.txt", 40, -1):
        with pytest.raises(DocumentUnknown):
            run.document(name)
    for number in (-1, 10**6):
        with pytest.raises(StepUnknown):
            run.block(number)


def test_sql_gives_an_arrow_table(run: opened.Run) -> None:
    table = run.sql("SELECT max(step) AS last FROM steps")
    assert isinstance(table, pa.Table) and table.to_pylist() == [{"last": 13}]
    with pytest.raises(QueryInvalid):
        run.sql("FROM run")


def test_where_and_trace_ask_the_index(run: opened.Run, finished: Path) -> None:
    from pellucid.trace.where import Traced

    text = run.step(2).documents()[0].text[10:60]
    found = run.where(text, limit=2)
    assert found == Traced(finished).where(text, limit=2) and found["count"] >= 1
    assert run.where(text.upper(), ignore_case=True)["count"] >= 1
    spans = run.trace("never seen, " + text, before=13, least=20)
    assert (
        spans == Traced(finished).trace("never seen, " + text, before=13, least=20)
        and spans["spans"]
    )


def test_reprs_tell_how_to_get_the_same_again(run: opened.Run, finished: Path) -> None:
    names = {"pellucid": pellucid}
    for one in (run.step(7), run.block(3), run.document(3)):
        again = eval(repr(one), names)
        assert type(again) is type(one) and repr(again) == repr(one)
    assert eval(repr(run), names).folder == finished


def test_a_notebook_shows_text_and_no_markup(run: opened.Run) -> None:
    for one in (run, run.step(7), run.block(3), run.document(3)):
        shown = one._repr_html_()
        assert shown.startswith("<b>") and "<table>" in shown
    assert run.head in run._repr_html_() and "loss" in run.step(7)._repr_html_()
    evil = "<script>x</script>\x1b[31m\u202e"
    row = dict.fromkeys(
        ("id", "source", "licence", "origin", "date", "split", "sha256", "text"), evil
    )
    document = opened.Document(run, {**row, "index": 0, "characters": 1, "bytes": 1})
    shown = document._repr_html_()
    assert shown.count("&lt;script&gt;x&lt;/script&gt;\ufffd[31m\ufffd") == 8
    assert "<script" not in shown and "\x1b" not in shown
    assert "\x1b" not in repr(document) and "\n" not in repr(document)
    document.text = "long " * 1000
    assert len(document._repr_html_()) < 3000


def test_evaluations_are_those_that_the_run_keeps(release: Path) -> None:
    assert pellucid.open(release).evaluations == []
    made = evaluate(release, [6, 12])
    rewrite(release, [*made[:2], made[2] | {"task": "<b>arc</b>"}])
    run = pellucid.open(release)
    first, last = run.evaluations
    assert (first.n, first.step, first.task, first.metric) == (1, 6, "arc_easy", "accuracy")
    assert first.settings == made[1]["settings"] and first.numbers["acc"] == 0.6
    assert (first.summary.number, first.summary.value, first.summary.examples) == ("acc", 0.6, 5)
    assert [line.example.name for line in last.examples()] == [f"doc {i}" for i in range(5)]
    assert run.status()["evaluations"] == 2 and "evaluations" in run._repr_html_()
    shown = last._repr_html_()
    assert "&lt;b&gt;arc" in shown and "<b>arc" not in shown and "0.600" in shown
    (release / layout.examples(2)).write_bytes(b"{}\n")
    with pytest.raises(EvaluationBroken):
        list(last.examples())


def test_status_and_show_tell_of_evaluations(release: Path) -> None:
    assert "evaluated" not in verb("status", release).stdout
    evaluate(release, [6, 12])
    assert "evaluated 2 times" in verb("status", release).stdout
    told = "evaluated arc_easy (lm-eval 0.4.9): acc 0.600, 95% interval 0.209-0.906, 5 examples"
    assert told in verb("show", release, "step12").stdout
    assert "evaluated" not in verb("show", release, "step13").stdout
    (about,) = json.loads(verb("show", release, "step6", "--json").stdout)["evaluations"]
    assert (about["task"], about["step"], about["value"]) == ("arc_easy", 6, 0.6)
