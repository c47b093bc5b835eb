"""Bytes predicted beside bytes written by a finished run: equal."""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.data.streams import Shards
from pellucid.inputs import Inputs
from pellucid.plan.facts import Facts, facts
from pellucid.plan.storage import Storage, gaps, spacing
from pellucid.recipe import Anchors, Recipe, load
from pellucid.replay.materialise import nearest
from pellucid.store import layout
from tests.conftest import make_run


@pytest.fixture(scope="module")
def storage(finished: Path) -> Storage:
    recipe = load(finished)
    return Storage(recipe, facts(finished, recipe))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_every_anchor_and_checkpoint_has_the_bytes_predicted(
    finished: Path, storage: Storage
) -> None:
    anchored = layout.steps_in(finished / layout.ANCHORS)
    kept = layout.steps_in(finished / layout.CHECKPOINTS)
    assert anchored == [0, 1, 2, 4, 5, 8, 10, 13] and kept == [0, 6, 12, 13]
    for step in anchored:
        assert storage.anchor(step) == size(layout.anchor(finished, step))
    for step in kept:
        assert storage.checkpoint(step) == size(layout.checkpoint(finished, step))
    everything = (0, 13)
    assert storage.anchors(everything) == len(anchored) and storage.checkpoints(everything) == len(
        kept
    )
    assert storage.both(everything) == len({*anchored} & {*kept})


def test_the_ledger_has_the_bytes_predicted(finished: Path, storage: Storage) -> None:
    content = (finished / layout.LEDGER).read_bytes()
    assert storage.ledger() == len(content)
    lines = dict(enumerate(content.splitlines(keepends=True)))
    assert all(len(lines[storage.entry(step)]) == storage.step_line(step) for step in range(1, 14))


def test_the_release_has_the_bytes_predicted(finished: Path, storage: Storage) -> None:
    found = storage.total()
    linked: dict[int, int] = {}
    for place in (layout.ANCHORS, layout.CHECKPOINTS):
        for path in (finished / place).rglob("*"):
            if path.is_file():
                linked[path.stat().st_ino] = path.stat().st_size
    final = [
        "config.json",
        "generation_config.json",
        "tokenizer_config.json",
        "pellucid.json",
        "tokenizer.json",
    ]
    of_final = sum((finished / name).stat().st_size for name in final)
    assert found["anchors"] + found["checkpoints"] == sum(linked.values()) + of_final
    assert found["documents"] == size(finished / "data/documents")
    assert found["shards"] == size(finished / "data/shards")
    assert found["index"] == size(finished / "trace")
    measured = size(finished / layout.METRICS)
    assert abs(found["metrics"] / measured - 1) < 0.35  # Parquet: estimated.


def test_before_the_data_is_prepared_only_what_is_assumed_differs(
    corpus: Path, tmp_path: Path, storage: Storage
) -> None:
    folder = make_run(tmp_path / "small", corpus)
    recipe = load(folder)
    known = facts(folder, recipe)
    assert known.assumed and not storage.facts.assumed
    early = Storage(recipe, known)
    assert storage.facts.vocabulary == known.vocabulary == 300
    assert early.all_anchors() == storage.all_anchors()
    assert abs(early.ledger() - storage.ledger()) < 50  # The validation's counts have other digits.


def test_the_index_is_foretold_before_it_is_made(finished: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    shutil.rmtree(folder / "trace")
    recipe = load(folder)
    shards = Shards.open(folder)
    tokens = sum(stream.tokens for stream in (*shards.train, *shards.validation))
    expected = size(finished / "trace") - (finished / "trace/manifest.json").stat().st_size
    # Counts, a key and its place in the top of the second piece, which holds the validation split.
    second = 4 * 300 + 2 * 32
    assert abs(facts(folder, recipe).data["index"] - expected) <= second
    assert expected > 4 * tokens
    without = recipe.model_copy(
        update={"placement": recipe.placement.model_copy(update={"trace": False})}
    )
    assert "index" not in facts(folder, without).data


def variant(
    recipe: Recipe, steps: int, validation: int, checkpoints: int, anchors: int, powers: bool
) -> Recipe:
    policy = Anchors(every=anchors, powers_of_two=powers)
    return recipe.model_copy(
        update={
            "train": recipe.train.model_copy(update={"steps": steps}),
            "validation": recipe.validation.model_copy(update={"every": validation}),
            "checkpoints": recipe.checkpoints.model_copy(update={"every": checkpoints}),
            "placement": recipe.placement.model_copy(update={"anchors": policy}),
        }
    )


periods = st.integers(1, 150)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 400), periods, periods, periods, st.booleans())
def test_spans_and_gaps_are_those_of_counting_every_step(
    finished_facts: Facts,
    recipe: Recipe,
    steps: int,
    validation: int,
    checkpoints: int,
    anchors: int,
    powers: bool,
) -> None:
    recipe = variant(recipe, steps, validation, checkpoints, anchors, powers)
    storage, everything = Storage(recipe, finished_facts), range(steps + 1)
    anchored = [step for step in everything if recipe.anchored(step)]
    kept = [step for step in everything if recipe.scheduled(checkpoints, step)]
    assert storage.anchors((0, steps)) == len(anchored) and storage.checkpoints((0, steps)) == len(
        kept
    )
    shared = sum(storage.weights(step) for step in anchored if step in kept)
    assert storage.all_anchors() == sum(map(storage.anchor, anchored)) - shared
    assert storage.all_checkpoints() == sum(map(storage.checkpoint, kept))
    apart = [b - a for a, b in pairwise(anchored)]
    assert gaps(steps, recipe.placement.anchors) == Counter(apart)
    replayed = [step - max(a for a in anchored if a < step) for step in everything[1:]]
    found = spacing(storage, anchors)
    assert (found.expected, found.worst) == (sum(replayed) / steps, max(replayed))


@pytest.fixture(scope="module")
def recipe(finished: Path) -> Recipe:
    return load(finished)


@pytest.fixture(scope="module")
def finished_facts(storage: Storage) -> Facts:
    return storage.facts


def test_the_steps_to_replay_are_those_an_audit_takes(finished: Path, storage: Storage) -> None:
    inputs = Inputs.load(finished, storage.recipe)
    taken = [step - (nearest(inputs, step - 1) or 0) for step in range(1, 14)]
    found = spacing(storage, 5)
    assert (found.expected, found.worst) == (sum(taken) / 13, max(taken))


def test_a_run_of_a_quintillion_steps_is_counted_at_once(
    recipe: Recipe, finished_facts: Facts
) -> None:
    long = variant(recipe, 2**63 - 1, 10**6, 10**6, 10**6, powers=True)
    storage = Storage(long, finished_facts)
    assert storage.ledger() > 600 * (2**63 - 1)
    assert storage.anchors((0, 2**63 - 1)) > 2**63 // 10**6
    assert spacing(storage, 10**6).worst == 10**6
