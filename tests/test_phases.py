"""Phases: three recipes of the field in small, and what each of them must keep
true across its boundaries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pellucid.data.order import Order
from pellucid.data.streams import Shards
from pellucid.errors import ForkUnfit, RecipeInvalid
from pellucid.fork import fork
from pellucid.inputs import Inputs
from pellucid.look.life import life_of_block, life_of_step
from pellucid.look.show import Shown
from pellucid.new import new
from pellucid.recipe import load, parse
from pellucid.record import digests
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.audit import audit_step
from pellucid.run import run
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile
from pellucid.trace.where import Traced
from pellucid.train import loop
from tests.conftest import SETTINGS, finish, pellucid, spiking, write_corpus
from tests.test_run import Interrupt

QUICK = [
    *SETTINGS,
    "model.layers=1",
    "train.warmup=0",
    "validation.every=4",
    "checkpoints.every=20",
]
# Crystal (arXiv:2312.06550): text alone; text with code that is seen twice; code
# of the web with a little text.
CRYSTAL = """[
  {name = "text", steps = 4, shares = {text = 1}, batch = 4, schedule = "cosine"},
  {name = "code", steps = 5, shares = {text = 1, code = 2}, batch = 6, \
   microbatch = 3, warmup = 1, lr = 2e-3},
  {name = "web", steps = 3, weights = {text = 1, code = 3}, batch = 2, \
   microbatch = 1, lr = 1e-3, schedule = "linear"},
]"""
# OLMo 2 (arXiv:2501.00656): long pretraining, then the learning rate goes to zero
# over a mixture of better texts.
OLMO = """[
  {name = "pretrain", steps = 6, warmup = 2, schedule = "wsd"},
  {name = "anneal", steps = 6, lr = 1e-3, schedule = "linear", \
   final_lr = 0.0, shares = {text = 1, code = 1},
   start = {code = "again"}},
]"""
# Longer contexts at the end, as many models have them: the base of the rotary
# embedding grows, the batch shrinks.
LONGER = """[
  {name = "short", steps = 5, context = 8, batch = 8, microbatch = 4},
  {name = "long", steps = 4, context = 32, batch = 2, microbatch = 2, \
   rope_theta = 500000.0, lr = 1e-3},
]"""


def quiet(*_: object) -> None:
    pass


def phased(folder: Path, place: Path, phases: str, steps: int, *settings: str) -> Path:
    sources = [place / "text", place / "code"]
    if not sources[0].exists():
        write_corpus(sources[0], 30)
        write_corpus(sources[1], 16, 40)
        for path in sources[1].iterdir():
            path.write_text(path.read_text(encoding="utf-8").upper(), encoding="utf-8")
    flat = " ".join(phases.split())
    new(
        folder,
        list(map(str, sources)),
        "1M",
        [*QUICK, f"train.steps={steps}", f"phase={flat}", *settings],
    )
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("phases")


@pytest.fixture(scope="module")
def crystal(place: Path) -> Path:
    folder = finish(phased(place / "crystal", place, CRYSTAL, 12))
    publish(folder)
    return folder


@pytest.fixture(scope="module")
def olmo(place: Path) -> Path:
    return finish(phased(place / "olmo", place, OLMO, 12))


@pytest.fixture(scope="module")
def longer(place: Path) -> Path:
    return finish(phased(place / "longer", place, LONGER, 9, "data.block=32"))


def opened(folder: Path) -> Inputs:
    return Inputs.load(folder, load(folder))


def targets(folder: Path, first: int, last: int) -> list[tuple[str, int, int, int]]:
    """(source, pass, block, place) of every target of some steps, in order."""
    inputs, found = opened(folder), []
    for step in range(first, last + 1):
        batch = inputs.batch(step)
        columns = (
            batch.sources_B,
            batch.epochs_B.tolist(),
            batch.blocks_B.tolist(),
            batch.starts_B.tolist(),
        )
        for source, epoch, block, start in zip(*columns, strict=True):
            found += [
                (source, epoch, block, start + at) for at in range(batch.tokens_BS.shape[1] - 1)
            ]
    return found


def steps_of(folder: Path, first: int, last: int) -> list[dict[str, Any]]:
    kept = (one for one in LedgerFile(folder).between(first, last) if one["kind"] == "step")
    return [
        {name: value for name, value in one.items() if name not in ("prev", "n", "log")}
        for one in kept
    ]


# ---- three recipes -----------------------------------------------------------------------------


def test_crystal_verifies_and_a_step_of_each_phase_replays(crystal: Path) -> None:
    assert verify(crystal, quiet).problems == []
    inputs = opened(crystal)
    for step in (2, 4, 5, 9, 10, 12):
        assert audit_step(inputs, step, quiet).ok
    table = pq.read_table(crystal / "metrics/steps.parquet").to_pydict()
    assert table["phase"] == ["text"] * 4 + ["code"] * 5 + ["web"] * 3
    assert (
        table["tokens"][-1]
        == 32 * (4 * 4 + 5 * 6 + 3 * 2)
        == int(steps_of(crystal, 12, 12)[0]["tokens"])
    )
    # Each phase has its own way of the learning rate, from its own first step.
    assert table["lr"][4] == 2e-3 and table["lr"][9] > table["lr"][10] > table["lr"][11]
    shown = Shown(crystal)
    for step, rows, sources in (
        (4, 4, {"text"}),
        (5, 6, {"text", "code"}),
        (12, 2, {"text", "code"}),
    ):
        about = shown.step(step)
        assert len(about["rows"]) == rows and {one["source"] for one in about["rows"]} <= sources
    counts = pq.read_table(crystal / "metrics/sequences.parquet").to_pylist()
    code = sum(one["source"] == "code" for one in counts if 5 <= one["step"] <= 9)
    assert code == 2 * 30 // 3


def test_annealing_begins_its_better_texts_with_a_whole_pass(olmo: Path) -> None:
    assert verify(olmo, quiet).problems == []
    inputs = opened(olmo)
    for step in (6, 7, 12):
        assert audit_step(inputs, step, quiet).ok
    assert digests.bits_float(LedgerFile(olmo).step(12)["lr"]) == 0.0
    before, after = targets(olmo, 1, 6), targets(olmo, 7, 12)
    code = [one for one in after if one[0] == "code"]
    assert (
        any(one[0] == "code" for one in before)
        and code[0][1] == 1
        and len({one[2] for one in code}) > 3
    )
    own = [[one[1:] for one in some if one[0] == "text"] for some in (before, after)]
    assert not set(own[0]) & set(own[1]), "the text goes on where it was"


def test_a_longer_context_verifies_replays_and_is_found(longer: Path) -> None:
    assert verify(longer, quiet).problems == []
    publish(longer)
    assert verify(longer, quiet).problems == []
    inputs = opened(longer)
    for step in (1, 5, 6, 9):
        assert audit_step(inputs, step, quiet).ok
    assert [inputs.batch(step).tokens_BS.shape for step in (5, 6)] == [(8, 9), (2, 33)]
    seen = targets(longer, 1, 9)
    assert len(set(seen)) == len(seen) == 5 * 64 + 4 * 64, (
        "no target twice, though the rows changed"
    )
    configs = [
        json.loads((longer / place / "config.json").read_text())
        for place in ("checkpoints/step0", ".")
    ]
    assert [one["rope_theta"] for one in configs] == [10000.0, 500000.0]
    assert {one["max_position_embeddings"] for one in configs} == {32}
    # What show, where and life tell of a block that both phases trained on.
    shown = Shown(longer)
    times = {number: shown.block(number)["steps"] for number in range(shown.shards.blocks)}
    rows = {
        (step, row["row"]): (row["block"], row["start"])
        for step in (3, 8)
        for row in shown.step(step)["rows"]
    }
    for place, (block, start) in rows.items():
        (one,) = [one for one in times[block] if (one["step"], one["row"]) == place]
        assert (one["start"], one["context"]) == (start, 8 if place[0] == 3 else 32)
    for step in (3, 8):
        life = life_of_step(inputs, step, [step - 1], quiet)
        assert [one["loss_sum"] for one in life.seen] == life.moments[0].sums
    block = rows[3, 0][0]
    assert len(life_of_block(inputs, block, [2], quiet).windows) == 4
    piece = max(shown.step(8)["rows"][0]["segments"], key=lambda one: len(one["text"]))
    hits = Traced(longer).where(piece["text"][1:-1])["hits"]
    assert any(
        time["step"] == 8
        for hit in hits
        for one in (hit, *hit["continues"])
        for time in one["steps"]
    )


@pytest.mark.parametrize("step", [5, 6])
def test_killed_at_a_boundary_it_ends_with_the_same_bits(
    step: int, longer: Path, place: Path, tmp_path: Path
) -> None:
    folder = phased(tmp_path / "longer", place, LONGER, 9, "data.block=32")
    with pytest.raises(KeyError):
        run(folder, Interrupt(step, KeyError()))
    assert LedgerFile(finish(folder)).head == LedgerFile(longer).head


# ---- forks -------------------------------------------------------------------------------------


def forked(
    parent: Path, target: Path, step: int, *settings: str, without: tuple[str, ...] = ()
) -> Path:
    fork(opened(parent), step, target, list(settings), list(without), quiet)
    return target


@pytest.mark.parametrize("step", [2, 4, 6, 9])
def test_an_unchanged_fork_takes_the_very_rows_of_its_parent(
    step: int, crystal: Path, tmp_path: Path
) -> None:
    folder = finish(forked(crystal, tmp_path / "same", step))
    assert steps_of(folder, step + 1, 12) == steps_of(crystal, step + 1, 12)
    assert verify(folder, quiet).problems == []


def test_a_fork_at_the_boundary_of_a_phase_that_begins_again_is_its_parent(
    olmo: Path, tmp_path: Path
) -> None:
    for step in (6, 8):
        folder = forked(olmo, tmp_path / f"at{step}", step)
        assert targets(folder, step + 1, 12) == targets(olmo, step + 1, 12)


def test_a_fork_that_halves_the_batch_sees_exactly_its_parents_next_targets(
    olmo: Path, tmp_path: Path
) -> None:
    phases = OLMO.replace(
        '"pretrain", steps = 6,', '"pretrain", steps = 10, batch = 2, microbatch = 1,'
    )
    folder = forked(
        olmo, tmp_path / "half", 2, "train.steps=16", f"phase={' '.join(phases.split())}"
    )
    assert targets(folder, 3, 10) == targets(olmo, 3, 6)
    finish(folder)
    assert verify(folder, quiet).problems == []
    # The tokens of its entries go on from its parent's.
    assert (
        int(steps_of(folder, 3, 3)[0]["tokens"]) == int(steps_of(olmo, 2, 2)[0]["tokens"]) + 2 * 32
    )
    again = forked(folder, tmp_path / "again", 4)
    assert targets(again, 5, 16) == targets(folder, 5, 16), "and a fork of it goes on from there"


def test_a_fork_that_lengthens_the_context_goes_on_behind_what_was_seen(
    longer: Path, tmp_path: Path
) -> None:
    phases = LONGER.replace('"short", steps = 5', '"short", steps = 3').replace(
        '"long", steps = 4', '"long", steps = 6'
    )
    folder = forked(longer, tmp_path / "sooner", 3, f"phase={' '.join(phases.split())}")
    before, after = targets(longer, 1, 3), targets(folder, 4, 9)
    assert not set(before) & set(after)
    finish(folder)
    assert verify(folder, quiet).problems == []
    with pytest.raises(
        ForkUnfit, match=r"blocks of 32 targets, and a longer context needs longer blocks"
    ):
        forked(longer, tmp_path / "no", 3, "data.block=64")


def test_a_fork_after_the_last_phase_is_told_which_steps_to_add(olmo: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeInvalid, match=r"no step is left after step 12; .*--step K") as caught:
        forked(olmo, tmp_path / "ended", 12)
    assert "phase.anneal.steps: is 6, the last of train.steps = 12" in str(caught.value)
    _, *settings = str(caught.value).removesuffix(".").split(" --set ")
    assert settings == ["phase.anneal.steps=12", "train.steps=18"]
    assert load(forked(olmo, tmp_path / "more", 12, *settings)).first == 12


def test_a_fork_that_changes_the_mixture_or_goes_without_a_source(
    olmo: Path, tmp_path: Path
) -> None:
    seen = set(targets(olmo, 1, 3))
    heavier = forked(olmo, tmp_path / "heavier", 3, "data.sources.code.weight=5")
    assert not seen & set(targets(heavier, 4, 6))
    sources = [one[0] for one in targets(heavier, 4, 6)]
    assert sources.count("code") > sources.count("text")
    without = forked(olmo, tmp_path / "without", 3, without=("code",))
    after = targets(without, 4, 12)
    assert {one[0] for one in after} == {"text"} and not seen & set(after)


def test_a_fork_behind_a_rollback_goes_on_where_its_parent_did(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = OLMO.replace("steps = 6", "steps = 9", 1)
    settings = [
        "guards.window=8",
        "guards.back=3",
        'guards.loss.action="rollback"',
        "train.steps=15",
    ]
    folder = phased(tmp_path / "guarded", place, phases, 15, *settings)
    monkeypatch.setattr(loop, "training_step", spiking(loop.training_step, 10))
    finish(folder)
    monkeypatch.undo()
    ledger = LedgerFile(folder)
    assert ledger.history.rollbacks == ((10, 7),), "from the second phase into the first"
    assert verify(folder, quiet).problems == []
    inputs = opened(folder)
    for step in (7, 8, 10, 15):
        assert audit_step(inputs, step, quiet).ok
    for step in (7, 9, 11):
        child = forked(folder, tmp_path / f"child{step}", step)
        assert targets(child, step + 1, 15) == targets(folder, step + 1, 15)
    child = finish(forked(folder, tmp_path / "child", 7))
    expected = [
        {key: value for key, value in one.items() if key != "branch"}
        for one in steps_of(folder, 8, 15)
    ]
    assert steps_of(child, 8, 15) == expected
    assert verify(child, quiet).problems == []


# ---- what does not fit is named ----------------------------------------------------------------

PLAIN = (
    'version = 4\nname = "a"\ndata.sources = [{name = "s"}, '
    '{name = "t", weight = 0}]\nmodel.context = 32\n'
)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (
            'train.steps = 9\nphase = [{name = "a", steps = 4}]',
            r"train\.steps: is 9, .* have 4 .* train\.steps=4",
        ),
        (
            'phase = [{name = "a", steps = 200}, {name = "a", steps = 1}]',
            "two phases have the same name",
        ),
        (
            'phase = [{name = "a", steps = 200, weights = {x = 1}}]',
            r"phase\.a\.weights names x, .* \(sources: s, t\)",
        ),
        (
            'phase = [{name = "a", steps = 200, weights = {t = 0}}]',
            "no source has a row in the phase a",
        ),
        (
            'phase = [{name = "a", steps = 200, weights = {s = 1}, shares = {s = 1}}]',
            "has both weights and shares",
        ),
        (
            'phase = [{name = "a", steps = 200, context = 64}]',
            r"model\.context: is 32, .* --set model\.context=64",
        ),
        (
            'phase = [{name = "a", steps = 200, context = 12}]',
            r"phase\.a\.context: .* --set phase\.a\.context=4",
        ),
        (
            'phase = [{name = "a", steps = 200, batch = 10}]',
            r"phase\.a\.microbatch: .* --set phase\.a\.microbatch=10",
        ),
        (
            'train.steps = 5\nphase = [{name = "a", steps = 5}]',
            r"phase\.a\.warmup: .* --set phase\.a\.warmup=0",
        ),
        (
            'phase = [{name = "a", steps = 200, decay = 3}]',
            r"phase\.a\.decay: .* belongs to schedule",
        ),
        ("data.block = 40", r"data\.block: .* --set data\.block=64"),
        (
            'phase = [{name = "a", steps = 200, batch = 4611686018427387904, microbatch = 1}]',
            "2\\^62 targets or more",
        ),
        ('phase = [{name = "a", steps = 200, lrs = 1.0}]', r"did you mean phase\.lr\?"),
    ],
)
def test_phases_that_do_not_fit_name_the_field_and_a_value(text: str, wrong: str) -> None:
    with pytest.raises(Exception, match=wrong):
        parse((PLAIN + text).encode(), "recipe.toml")


def test_a_field_of_a_phase_is_set_by_its_name(place: Path, tmp_path: Path) -> None:
    folder = phased(tmp_path / "set", place, CRYSTAL, 12)
    from pellucid.changes import change_recipe

    change_recipe(folder, ["phase.code.lr=5e-4"])
    assert [one.lr for one in load(folder).phases][1] == 5e-4
    with pytest.raises(RecipeInvalid, match="there is no phase named nowhere"):
        change_recipe(folder, ["phase.nowhere.lr=5e-4"])


def test_a_source_without_a_block_to_train_on_is_named(olmo: Path) -> None:
    shards = Shards.open(olmo)
    text, code = shards.train
    code.blocks = 0
    shards.train = [text, code]
    with pytest.raises(RecipeInvalid, match="code has no whole block of 32 targets to train on"):
        Order.of(olmo, load(olmo), shards)


def test_plan_and_show_tell_the_phases(crystal: Path) -> None:
    plan = json.loads(pellucid("plan", crystal, "--no-calibration", "--json").stdout)
    assert [one["name"] for one in plan["run"]["phases"]] == ["text", "code", "web"]
    assert plan["run"]["tokens"] == 32 * (16 + 30 + 6) and plan["step"]["phase"] == "code"
    assert plan["storage"]["ledger"] == (crystal / layout.LEDGER).stat().st_size
    assert "phase     web, 2 rows of 32 targets" in pellucid("show", crystal, "step", "12").stdout
    assert np.isfinite(plan["run"]["flops"])
