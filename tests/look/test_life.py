"""The life of a text: what was recorded of it, what is computed, and how both are drawn."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from pellucid.cli.look import show
from pellucid.data.covered import covered
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import (
    CommandInvalid,
    DocumentUnknown,
    FormatInvalid,
    PlotMissing,
    StepUnknown,
    TextEmpty,
    TextInvalid,
)
from pellucid.inputs import Inputs
from pellucid.look.life import Life, life_of_block, life_of_document, life_of_step, life_of_text
from pellucid.look.plot import plot
from pellucid.look.show import Shown
from pellucid.recipe import load
from pellucid.record import digests
from pellucid.replay.materialise import materialise
from pellucid.store import anchors, cache, layout
from pellucid.store.ledger import LedgerFile
from pellucid.train import loop
from tests.conftest import finish, make_run, pellucid, spiking
from tests.forgery.forge import edit_table

ROOT = Path(__file__).parents[2]


def silent(done: int, total: int) -> None:
    assert 0 < done <= total


@pytest.fixture(scope="session")
def twice(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    """A run that comes to its second epoch. Only to be read."""
    settings = ["train.batch=16", "train.microbatch=8"]
    return finish(make_run(tmp_path_factory.mktemp("runs") / "twice", corpus, settings))


@pytest.fixture
def inputs(twice: Path) -> Inputs:
    return Inputs.load(twice, load(twice))


def documents(folder: Path, split: str) -> list[dict[str, Any]]:
    return [row for row in Shown(folder).list_documents() if row["split"] == split]


def sums(life: Life, window: int) -> dict[int, float]:
    return {one.step: one.sums[window] for one in life.moments}


# ---- what is recorded is what is computed ------------------------------------------------------


def test_what_each_epoch_recorded_is_the_loss_of_the_state_before_bit_for_bit(
    inputs: Inputs,
) -> None:
    name = documents(inputs.folder, "train")[3]["id"]
    life = life_of_document(inputs, name, range(13), silent)
    place = {one.block: index for index, one in enumerate(life.windows)}
    assert len(place) > 1 and {one["epoch"] for one in life.seen} == {0, 1}
    for one in life.seen:
        assert sums(life, place[one["block"]])[one["step"] - 1] == one["loss_sum"]
        assert one["tokens"] == int(life.windows[place[one["block"]]].counted_T.sum())


def test_a_block_and_a_whole_batch_too(inputs: Inputs) -> None:
    life = life_of_step(inputs, 7, [6, 7], silent)
    assert [one["loss_sum"] for one in life.seen] == life.moments[0].sums
    assert life.tokens == 16 * 32 and sum(life.moments[1].sums) < sum(life.moments[0].sums)
    mean = life.as_json()["at"][0]["loss"]
    assert mean == pytest.approx(
        digests.bits_float(LedgerFile(inputs.folder).step(7)["loss"]), rel=1e-12
    )
    for row in (0, 15):
        seen = life.seen[row]
        alone = life_of_block(inputs, seen["block"], [6], silent)
        assert alone.moments[0].sums == [seen["loss_sum"]] and seen in alone.seen


def test_a_document_s_epochs_are_the_sum_of_its_segments(twice: Path) -> None:
    about = Shown(twice).document(documents(twice, "train")[3]["id"])
    times = [time for one in about["blocks"] for time in one["steps"]]
    assert len(about["epochs"]) == 2
    for epoch in about["epochs"]:
        own = [one for one in times if one["epoch"] == epoch["epoch"]]
        assert epoch["times"] == len(own) and epoch["tokens"] == sum(one["tokens"] for one in own)
        assert epoch["loss"] == math.fsum(one["loss_sum"] for one in own) / epoch["tokens"]
        assert (epoch["first"], epoch["last"]) == (
            min(o["step"] for o in own),
            max(o["step"] for o in own),
        )


def test_every_target_of_a_document_counts_once(inputs: Inputs) -> None:
    """The documents that validation covers lose together what the ledger records of it."""
    (recorded,) = [
        one for one in LedgerFile(inputs.folder).of_kind("validation") if one["step"] == 5
    ]
    (source,) = recorded["sources"]
    loss_sum, tokens, others = 0.0, 0, 0
    (one,) = covered(inputs.shards, inputs.recipe)
    for row in documents(inputs.folder, "validation"):
        life = life_of_document(inputs, row["id"], [5], silent)
        assert life.seen == [] and all(one.block is None for one in life.windows)
        if row["index"] in one.documents:
            loss_sum, tokens = loss_sum + math.fsum(life.moments[0].sums), tokens + life.tokens
        else:
            others += life.tokens
    assert others > 0
    assert tokens == int(source["tokens"])
    assert loss_sum == pytest.approx(digests.bits_float(source["loss_sum"]), rel=1e-9)


def test_the_last_document_has_a_window_that_no_step_trained_on(inputs: Inputs) -> None:
    stream, about = inputs.shards.train[0], documents(inputs.folder, "train")[-1]
    life = life_of_document(inputs, about["id"], [9], silent)
    left = stream.tokens - 1 - stream.blocks * inputs.shards.block
    assert left > 0 and life.windows[-1].block is None and life.windows[-1].counted_T.sum() == left
    assert life.tokens == stream.length_of(about["index"])


# ---- any text ----------------------------------------------------------------------------------


def expected(inputs: Inputs, ids: list[int], step: int) -> float:
    """The sum of the losses of all but the first id, by torch, in one window."""
    model = materialise(inputs, step, silent).model
    with torch.no_grad():
        logits_TV = model(torch.tensor([ids[:-1]]))[0].double()
    return float(
        torch.nn.functional.cross_entropy(logits_TV, torch.tensor(ids[1:]), reduction="sum")
    )


def test_a_text_shorter_than_a_context(inputs: Inputs) -> None:
    tokenizer, text = Tokenizer.load(inputs.folder / layout.TOKENIZER), "light through 東京"
    ids = [tokenizer.document_token, *tokenizer.encode(text)]
    life = life_of_text(inputs, text, [9, 0, 4, 9], silent)
    assert [one.step for one in life.moments] == [0, 4, 9] and life.tokens == len(ids) - 1 < 32
    for one in life.moments:
        assert one.sums == [pytest.approx(expected(inputs, ids, one.step), rel=1e-5)]


def test_a_longer_text_is_cut_into_windows_that_share_one_token(inputs: Inputs) -> None:
    tokenizer, text = (
        Tokenizer.load(inputs.folder / layout.TOKENIZER),
        "the river bends where it shows " * 12,
    )
    ids = [tokenizer.document_token, *tokenizer.encode(text)]
    life = life_of_text(inputs, text, [9], silent)
    assert len(ids) > 70 and life.tokens == len(ids) - 1
    assert len(life.windows) == -(-(len(ids) - 1) // 32)
    for number, found in enumerate(life.moments[0].sums):
        cut = ids[number * 32 : number * 32 + 33]
        assert found == pytest.approx(expected(inputs, cut, 9), rel=1e-5)


def test_what_cannot_be_asked(inputs: Inputs) -> None:
    with pytest.raises(TextEmpty):
        life_of_text(inputs, "", [9], silent)
    with pytest.raises(TextInvalid):
        life_of_text(inputs, "a\udcffb", [9], silent)
    with pytest.raises(DocumentUnknown):
        life_of_document(inputs, "stones/none.txt", [9], silent)
    with pytest.raises(StepUnknown, match="Block 9999"):
        life_of_block(inputs, 9999, [9], silent)
    for step in (14, -1):
        with pytest.raises(StepUnknown, match=f"Step {step} is not in this run"):
            life_of_text(inputs, "x", [3, step], silent)
    with pytest.raises(StepUnknown):
        life_of_step(inputs, 0, [9], silent)


def test_states_replayed_are_kept_for_the_next_question(inputs: Inputs, own_cache: Path) -> None:
    told: list[tuple[int, int]] = []
    life_of_text(inputs, "water", [3, 6, 7], lambda *one: told.append(one))
    assert told == [(1, 3), (2, 3), (3, 3)]  # From the anchors of 2 and 5.
    assert len(list(own_cache.iterdir())) >= 3

    def never(*_: int) -> None:
        raise AssertionError("nothing is to be replayed")

    life_of_text(inputs, "stone", [3, 6, 7], never)


def test_a_walk_over_many_steps_takes_a_quarter_of_the_cache(
    inputs: Inputs, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = anchors.size_of(anchors.read(layout.anchor(inputs.folder, 5)))
    monkeypatch.setenv("PELLUCID_CACHE_BYTES", str(4 * 2 * size))
    life_of_text(inputs, "water", [3, 6, 7, 9, 11], silent)
    assert sorted(step for step, _ in cache.held()) == [9, 11]
    monkeypatch.setenv("PELLUCID_CACHE_BYTES", str(2 * size))
    life_of_text(inputs, "water", [3, 6, 7], silent)
    assert 7 in [step for step, _ in cache.held()]  # The last one is kept in any case.


# ---- what a run may hold -----------------------------------------------------------------------


def test_times_before_a_rollback_are_told_apart(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [
        "guards.window=8",
        "guards.back=3",
        "train.steps=14",
        'guards.loss.action="rollback"',
    ]
    folder = make_run(tmp_path / "guarded", corpus, settings)
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 12))
    finish(folder)
    inputs, shown = Inputs.load(folder, load(folder)), Shown(folder)
    number = int(shown.order.rows(12).blocks[1])  # As if nothing was rolled back.
    about = shown.block(number)
    assert about["steps"] == []
    (time,) = about["abandoned"]
    assert (time["step"], time["row"], time["epoch"], time["branch"]) == (12, 1, 0, 1) and time[
        "loss"
    ] > 100
    life = life_of_block(inputs, number, [9, 13], silent)
    assert life.seen == [] and 0 < life.moments[1].sums[0] / 32 < 10
    later = shown.step(13)["rows"][0]["block"]
    (seen,) = shown.block(later)["steps"]
    assert seen["step"] == 13
    assert life_of_block(inputs, later, [12], silent).moments[0].sums == [seen["loss_sum"]]
    out = pellucid("show", folder, "block", number).stdout
    assert (
        "not reached by this run" in out
        and "abandoned by a rollback: step 12 row 1, before branch 1" in out
    )


@pytest.mark.parametrize(
    ("column", "value"), [("loss_sum", math.nan), ("loss_sum", 1e308), ("tokens", 0)]
)
def test_recorded_losses_that_are_none_are_refused(
    release: Path, column: str, value: float
) -> None:
    (name, *_) = [
        row["id"]
        for row in documents(release, "train")
        if Shown(release).document(row["id"])["epochs"]
    ]
    edit_table(release / "metrics/segments.parquet", column, lambda _: value)
    with pytest.raises(FormatInvalid, match="are not segments of 32 targets"):
        Shown(release).document(name)


def test_a_run_that_is_not_trained_has_no_times(corpus: Path, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run", corpus)
    for stage in ("documents", "tokenizer", "shards"):
        finish(folder, stage)
    assert Shown(folder).block(3)["steps"] == []


# ---- the verb ----------------------------------------------------------------------------------


def test_show_draws_and_tells(twice: Path, tmp_path: Path) -> None:
    name = documents(twice, "train")[3]["id"]
    read = json.loads(pellucid("show", twice, "document", name, "--at", "every=4", "--json").stdout)
    assert [one["step"] for one in read["life"]["at"]] == [0, 4, 8, 12, 13]
    assert read["life"]["seen"] and read["life"]["tokens"] == read["tokens"]
    out = pellucid("show", twice, "document", name, "--plot", "-").stdout
    assert "epoch 1 loss " in out and "×" in out and "computed" not in out
    out = pellucid("show", twice, "text", "clear water", "--at", "0,step9", "--plot", "-").stdout
    assert re.search(r"at step 0   \d\.\d{4}\nat step 9   \d\.\d{4}\n", out)
    assert len(re.findall("[\u2801-\u28ff]", out)) >= 64
    picture = tmp_path / "life.png"
    pellucid("show", twice, "block", 5, "--at", "3,8", "--plot", picture)
    assert picture.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") and picture.read_bytes().endswith(
        b"IEND\xaeB`\x82"
    )
    assert list(tmp_path.glob("*.png")) == [picture]


@pytest.mark.parametrize(
    ("words", "options", "kind"),
    [
        (("text", "water"), {}, CommandInvalid),
        (("text", ""), {"at": "3"}, TextEmpty),
        (("text", "water"), {"at": "3,often"}, CommandInvalid),
        (("text", "water"), {"at": "every=0"}, CommandInvalid),
        (("text", "water"), {"at": "3,14"}, StepUnknown),
        (("documents",), {"at": "3"}, CommandInvalid),
        (("step", "3"), {"plot": "-"}, CommandInvalid),
        (("block", "3"), {"plot": "life.jpg"}, CommandInvalid),
    ],
)
def test_what_does_not_fit_is_named(
    words: tuple[str, ...], options: dict[str, str], kind: type[Exception], finished: Path
) -> None:
    with pytest.raises(kind):
        show([str(finished), *words], **options)


LIMIT = """
import resource
from pellucid import machine
from pellucid.cli import common
try:
    common.main()
except SystemExit as ended:
    print(ended.code, resource.getrlimit(resource.RLIMIT_DATA)[0] == machine.MEMORY)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux obeys RLIMIT_DATA")
@pytest.mark.parametrize(("words", "bound"), [((), True), (("--at", "13"), False)])
def test_memory_is_bound_where_nothing_is_computed(
    words: tuple[str, ...], bound: bool, finished: Path
) -> None:
    command = [sys.executable, "-c", LIMIT, "show", str(finished), "block", "3", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] in (f"None {bound}", f"0 {bound}"), done.stderr


def test_a_picture_without_matplotlib(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PlotMissing, match=re.escape('pip install "pellucid[plot]"')):
        plot(tmp_path / "life.png", "x", [(0, 1.0)], [])
    assert list(tmp_path.glob("*.png")) == []
    # It is told before anything is computed.
    monkeypatch.setattr("pellucid.look.life.life_of_text", None)
    with pytest.raises(PlotMissing):
        show([str(finished), "text", "x"], at="3", plot=str(tmp_path / "life.png"))


def test_a_picture_of_a_name_that_looks_like_mathematics(tmp_path: Path) -> None:
    plot(tmp_path / "life.png", r"document $\frac{1}$ 東京", [], [(3, 1.5)])
    assert (tmp_path / "life.png").read_bytes().startswith(b"\x89PNG")


def test_the_example_of_the_page_runs(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (example,) = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/life.md").read_text(encoding="utf-8"), re.DOTALL
    )
    (tmp_path / "demo").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    for old, new in (
        ("sympy/sympy/core/add.py", documents(finished, "train")[3]["id"]),
        ("900", "13"),
    ):
        assert old in example
        example = example.replace(old, new)
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True)
    assert done.returncode == 0 and re.search(r"^13 \d\.\d+$", done.stdout, re.MULTILINE), (
        done.stderr
    )
