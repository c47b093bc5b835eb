"""The first entry at which two ledgers part, wherever it is and however they begin."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.families import Llama
from pellucid.record import chain, digests, entries
from pellucid.replay import blame, ledgers
from pellucid.store import files, layout
from pellucid.store.ledger import LedgerFile

STEPS = 30


def step_body(step: int) -> dict[str, Any]:
    digest, bits = f"{step:064x}", digests.float_bits(float(step))
    values = {entries.DIGEST: digest, entries.FLOAT: bits, entries.DECIMAL: str(step)}
    return {
        "kind": "step",
        "step": step,
        **{name: values[written] for name, written in entries.STEP.items()},
    }


def validation_body(step: int) -> dict[str, Any]:
    source = {
        "source": "s",
        "loss_sum": digests.float_bits(float(step)),
        "tokens": "1",
        "bytes": "1",
    }
    return {"kind": "validation", "step": step, "sources": [source]}


def changed(body: dict[str, Any], field: str) -> dict[str, Any]:
    if body["kind"] == "validation":
        return body | {"sources": [body["sources"][0] | {"tokens": "2"}]}
    return body | {field: digests.float_bits(0.5) if field == "loss" else "f" + body[field][1:]}


def bodies(
    first: int | None = None, field: str = "state", kind: str = "step"
) -> list[dict[str, Any]]:
    """A ledger's entries; from step `first` on, the states differ, or in
    that step alone another field."""
    named = dict.fromkeys(("recipe", "data", "tokenizer", "weights", "state"), f"{0:064x}")
    about = {"format": 1, "arithmetic": "portable 1", "pipeline": 2, "recipe_version": 4}
    made: list[dict[str, Any]] = [{"kind": "genesis", **about, **named}]
    for step in range(1, STEPS + 1):
        other = first is not None and (step >= first if field == "state" else step == first)
        for one in ("step", "validation") if step % 3 == 0 else ("step",):
            body = step_body(step) if one == "step" else validation_body(step)
            if other and one == kind:
                body = changed(body, field)
            made.append(body)
    return [*made, {"kind": "end", "step": STEPS}]


def ledger(folder: Path, made: list[dict[str, Any]], seed: str = "") -> LedgerFile:
    if seed:
        made = [{**made[0], "recipe": seed * 64}, *made[1:]]
    lines = chain.lines_of(made, chain.LedgerTip())
    files.write_bytes(folder / layout.LEDGER, b"".join(lines))
    return LedgerFile(folder)


def parted(
    a: list[dict[str, Any]], b: list[dict[str, Any]], seed: str = ""
) -> ledgers.Parting | None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a", "b"):
            (Path(folder) / name / "record").mkdir(parents=True)
        return ledgers.first_difference(
            ledger(Path(folder) / "a", a), ledger(Path(folder) / "b", b, seed)
        )


@settings(deadline=None)
@given(
    first=st.integers(1, STEPS),
    field=st.sampled_from(["loss", "state"]),
    seed=st.sampled_from(["", "2"]),
)
def test_the_first_step_that_differs_is_found(first: int, field: str, seed: str) -> None:
    found = parted(bodies(), bodies(first, field), seed)
    assert found is not None and (found.step, found.kind, found.fields) == (first, "step", [field])


@settings(deadline=None)
@given(third=st.integers(1, STEPS // 3), cut=st.integers(1, STEPS))
def test_so_are_a_validation_and_an_end(third: int, cut: int) -> None:
    found = parted(bodies(), bodies(3 * third, "loss", "validation"))
    assert found is not None and (found.step, found.kind) == (3 * third, "validation")
    found = parted(bodies(), [one for one in bodies() if one.get("step", 0) < cut])
    assert found is not None and (found.step, found.kind, found.b) == (cut, "step", {})


def test_equal_ledgers_part_nowhere() -> None:
    assert parted(bodies(), bodies()) is None and parted(bodies(), bodies(), seed="2") is None


@given(
    shape=st.tuples(st.integers(2, 9), st.integers(2, 9)),
    row=st.integers(0, 8),
    column=st.integers(0, 8),
    bit=st.integers(0, 31),
)
def test_one_changed_bit_is_placed(shape: tuple[int, int], row: int, column: int, bit: int) -> None:
    row, column = row % shape[0], column % shape[1]
    array = np.ones(shape, np.float32)
    other = array.copy()
    other.view(np.uint32)[row, column] ^= np.uint32(1 << bit)
    (found,) = blame.differing({"weights": {"w": array}}, {"weights": {"w": other}})
    assert (found.elements, found.rows, found.columns, found.bit) == (
        1,
        (row, row),
        (column, column),
        bit,
    )
    assert not found.tile


def test_a_tile_is_told_from_scattered_elements_and_from_a_whole_tensor() -> None:
    array = np.zeros((12, 12), np.float32)
    tile, scattered, whole = array.copy(), array.copy(), array + 1
    tile[2:6, 3:7] = 1
    scattered[[0, 4, 11], [3, 11, 0]] = 1
    assert [blame.compare("weights", "w", array, one).tile for one in (tile, scattered, whole)] == [
        True,
        False,
        False,
    ]
    other = blame.compare("weights", "w", array, array.astype(np.float64))
    assert other.elements == other.of == 144


def test_zeros_of_two_signs_and_two_nans_are_told_apart() -> None:
    array = np.array([0.0, np.nan], np.float32)
    other = array.copy()
    assert blame.differing({"weights": {"w": array}}, {"weights": {"w": other}}) == []
    other[0] = -0.0
    assert len(blame.differing({"weights": {"w": array}}, {"weights": {"w": other}})) == 1


SHAPE = Llama(layers=11)


@pytest.mark.parametrize(
    ("first", "operation"),
    [
        ("model.layers.10.self_attn.q_proj.weight", "attention_backward"),
        ("model.layers.1.mlp.gate_proj.weight", "swiglu_backward"),
        ("model.layers.1.mlp.down_proj.weight", "norm_backward"),
        ("model.norm.weight", "loss or norm_backward"),
    ],
)
def test_gradients_wrong_from_one_weight_on_point_to_what_is_before_it(
    first: str, operation: str
) -> None:
    order = [reached.names for reached in blame.backward_order(SHAPE)]
    assert sorted(name for group in order for name in group) == sorted(SHAPE.tensors(300))
    start = next(index for index, group in enumerate(order) if first in group)
    wrong = [name for group in order[start:] for name in group]
    assert operation in blame.makers(wrong, SHAPE)
    assert blame.makers([first], SHAPE) == blame.maker(first)
