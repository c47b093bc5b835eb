from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.record import chain, digests, entries, verdict
from pellucid.record.guards import Rules

STEPS = 6
RULES = Rules((), 64, "stop", 50, 3)
TOKENS = lambda s: 100 * s  # noqa: E731
TOKENS_OF = lambda first, last: 100 * np.arange(first, last + 1, dtype=np.uint64)  # noqa: E731
PLAN = verdict.Plan(
    "ab" * 32,
    STEPS,
    TOKENS,
    TOKENS_OF,
    lambda s: s % 3 == 0,
    lambda s: s in (0, STEPS),
    lambda s: s / 8,
    {"pipeline": 2},
    RULES,
)


def bodies() -> list[dict[str, Any]]:
    digest = "cd" * 32
    out: list[dict[str, Any]] = []
    for step in range(STEPS + 1):
        if step == 0:
            named = dict.fromkeys(("data", "tokenizer", "weights", "state"), digest)
            about = {"format": 1, "arithmetic": "portable 1", "pipeline": 2, "recipe_version": 4}
            out.append({"kind": "genesis", **about, "recipe": PLAN.recipe, **named})
        else:
            body = {"kind": "step", "step": step, **dict.fromkeys(entries.STEP, digest)}
            floats = {
                name: digests.float_bits(1.5) for name in ("loss", "grad_norm", "weight_norm")
            }
            out.append(
                body | {"tokens": str(step * 100), "lr": digests.float_bits(step / 8), **floats}
            )
        if PLAN.validates(step):
            out.append({"kind": "validation", "step": step, "sources": []})
        if PLAN.checkpoints(step):
            out.append({"kind": "checkpoint", "step": step, "root": digest})
    return [*out, {"kind": "end", "step": STEPS}]


def judged(changed: list[dict[str, Any]]) -> list[verdict.Problem]:
    tip, lines = chain.LedgerTip(), chain.lines_of(changed, chain.LedgerTip())
    return list(verdict.judge("ledger", chain.read(lines, tip), PLAN))


def with_change(change: Callable[[list[dict[str, Any]]], object]) -> list[verdict.Problem]:
    entries = bodies()
    change(entries)
    return judged(entries)


def at(entries: list[dict[str, Any]], step: int) -> dict[str, Any]:
    return next(body for body in entries if body["kind"] == "step" and body["step"] == step)


def test_a_complete_ledger_has_no_problem() -> None:
    assert judged(bodies()) == []


def test_each_way_of_being_incomplete_is_named() -> None:
    entries = bodies()
    for place in range(len(entries)):
        problems = judged(entries[:place] + entries[place + 1 :])
        assert problems and problems[0].error == "LedgerIncomplete", entries[place]
    assert "the end of step 6 is missing" in judged(entries[:-1])[0].detail
    assert judged([])[0].error == "LedgerIncomplete"


def test_what_follows_the_end_is_named() -> None:
    assert (
        "follows the end"
        in with_change(lambda entries: entries.append({"kind": "step", "step": 7}))[0].detail
    )


def test_wrong_fields_name_their_step() -> None:
    changes = {
        "lr": lambda e: at(e, 4).update(lr=digests.float_bits(0.51)),
        "tokens": lambda e: at(e, 4).update(tokens="401"),
        "loss": lambda e: at(e, 4).update(loss="7ff8000000000000"),
        "grad_norm": lambda e: at(e, 4).update(grad_norm="7ff0000000000000"),
        "weight_norm": lambda e: at(e, 4).update(weight_norm=1),
        "state": lambda e: at(e, 4).update(state="XY" * 32),
        "batch": lambda e: at(e, 4).pop("batch"),
    }
    for field, change in changes.items():
        problems = with_change(change)
        assert len(problems) == 1, field
        assert ", step 4" in problems[0].where and problems[0].detail.startswith(field)


@pytest.mark.parametrize(
    "changed",
    [
        {"loss_sum": "3ff00000"},
        {"loss_sum": "7ff0000000000000"},
        {"tokens": "+5"},
        {"tokens": " 5"},
        {"bytes": "0"},
        {"bytes": 5},
        {"source": None},
    ],
)
def test_a_validation_that_is_none_is_named(changed: dict[str, Any]) -> None:
    good = {"source": "a", "loss_sum": "3ff0000000000000", "tokens": "5", "bytes": "9"}

    def put(source: Any) -> list[verdict.Problem]:
        return with_change(
            lambda e: next(b for b in e if b["kind"] == "validation").update(sources=[source])
        )

    assert put(good) == []
    assert "'a'" in put(good | changed)[0].detail or changed.get("source", "") is None
    assert put(good | changed) and put("x") and put([good])


def test_a_stack_stands_where_bits_depend_on_it() -> None:
    assert "stack" in with_change(lambda entries: entries[0].update(stack={}))[0].detail
    assert (
        "stack" in with_change(lambda entries: entries[0].update(arithmetic="native 1"))[0].detail
    )


CPU = {"torch": "2.13", "device": "cpu", "cpu_capability": "AVX512", "threads": "2"}
CUDA = {"torch": "2.13", "device": "NVIDIA H200", "cuda": "13.0"}


@pytest.mark.parametrize("good", [CPU, CUDA])
def test_a_stack_has_the_keys_of_its_device_and_no_others(good: dict[str, str]) -> None:
    def put(stack: object) -> list[str]:
        problems = with_change(
            lambda entries: entries[0].update(arithmetic="native 1", stack=stack)
        )
        return [problem.detail for problem in problems]

    assert put(good) == []
    stacks = [
        {},
        good | {"accelerators": "1024"},
        dict(reversed(good.items())),
        CUDA | {"device": "cpu"},
    ]
    stacks += [{key: good[key] for key in good if key != left} for left in good]
    for stack in stacks:
        assert put(stack), stack
    assert put(good | {"torch": 2}) and put([*good]) and put(CPU | {"threads": "0"})


def test_another_recipe_is_named() -> None:
    assert (
        "recipe.toml" in with_change(lambda entries: entries[0].update(recipe="00" * 32))[0].detail
    )
    assert "pipeline is 1" in with_change(lambda entries: entries[0].update(pipeline=1))[0].detail
    assert "format" in with_change(lambda entries: entries[0].update(format=2))[0].detail


@given(st.integers(1, 10**17), st.data())
def test_a_step_told_from_its_line_is_what_json_gives_and_sound(
    step: int, data: st.DataObject
) -> None:
    """Whatever one character is changed to: taken for a step it is spelled and formed as one."""
    roots = {
        name: f"{step:064x}" for name, written in entries.STEP.items() if written == entries.DIGEST
    }
    floats = {
        name: digests.float_bits(1 / step)
        for name, written in entries.STEP.items()
        if written == entries.FLOAT
    }
    fields = {"tokens": str(step), **roots, **floats}
    branch = data.draw(st.sampled_from([{}, {"branch": 3}]))
    body = {"kind": "step", "step": step, **{name: fields[name] for name in entries.STEP}, **branch}
    place = {"prev": "0" * 64, "n": step, "log": "a" * 64}
    line = chain.line_of({**place, **body}).decode()
    assert entries.step_of(line.encode()) == json.loads(line) == {**place, **body}
    assert list(entries.step_of(line.encode()) or {}) == list(json.loads(line))
    at, character = (
        data.draw(st.integers(0, len(line) - 1)),
        data.draw(st.characters(codec="ascii")),
    )
    changed = line[:at] + character + line[at + 1 :]
    parsed = entries.step_of(changed.encode())
    if parsed is not None:
        assert parsed == json.loads(changed) and not verdict.malformed(parsed)
        assert chain.line_of(parsed).decode() == changed


ROOT = "ab" * 32
PLACE = {"prev": ROOT, "n": 3, "log": ROOT}


def test_roots_stand_before_the_branch_and_are_refused_where_none_is_due() -> None:
    roots = {"base": ROOT, "rollouts": ROOT}
    for kind in ("genesis", "step"):
        body = next(entry for entry in bodies() if entry["kind"] == kind)
        assert not verdict.malformed({**PLACE, **body, "roots": roots, "branch": 1})
        assert (
            "another order" in verdict.malformed({**PLACE, **body, "branch": 1, "roots": roots})[0]
        )
        problems = with_change(
            lambda own, kind=kind: next(o for o in own if o["kind"] == kind).update(roots=roots)
        )
        assert [(problem.error, "asks for it" in problem.detail) for problem in problems] == [
            ("LedgerBroken", True)
        ]
    problems = with_change(lambda own: own[-1].update(roots=roots))
    assert "which entries of the kind 'end' do not have" in problems[0].detail


@pytest.mark.parametrize(
    "roots",
    [
        {},
        [],
        None,
        "x",
        {"base": ROOT[1:]},
        {"base": 1},
        {"other": ROOT},
        {"rollouts": ROOT, "base": ROOT},
    ],
)
def test_other_roots_are_malformed(roots: Any) -> None:
    body = {**PLACE, **bodies()[0], "roots": roots}
    assert "roots" in verdict.malformed(body)[0]


def test_a_stack_and_a_merge_are_known_and_never_due() -> None:
    stack = entries.stack(2, CPU)
    merge = entries.merge(2, [(ROOT, 7, ROOT), (ROOT, 0, ROOT)], ROOT, ROOT)
    for body in (stack, merge):
        assert not verdict.malformed({**PLACE, **body}) and not verdict.malformed(
            {**PLACE, **body, "branch": 1}
        )
        problems = with_change(lambda own, body=body: own.insert(own.index(at(own, 2)) + 1, body))
        assert (
            problems[0].error == "LedgerIncomplete"
            and f"is a '{body['kind']}' of step 2" in problems[0].detail
        )


@pytest.mark.parametrize(
    "change",
    [
        {"parents": []},
        {"parents": {}},
        {"parents": [7]},
        {"parents": [{"head": ROOT, "step": 1}]},
        {"parents": [{"step": 1, "head": ROOT, "weights": ROOT}]},
        {"parents": [{"head": ROOT, "step": True, "weights": ROOT}]},
        {"parents": [{"head": ROOT, "step": -1, "weights": ROOT}]},
        {"parents": [{"head": ROOT, "step": 1, "weights": ROOT, "state": ROOT}]},
        {"parents": [{"head": ROOT, "step": 1, "weights": "7"}]},
        {"weights": "7"},
        {"state": None},
        {"step": -1},
    ],
)
def test_other_merges_are_malformed(change: dict[str, Any]) -> None:
    merge = entries.merge(2, [(ROOT, 7, ROOT)], ROOT, ROOT)
    assert verdict.malformed({**PLACE, **merge, **change})


@pytest.mark.parametrize(
    "stack", [[], "cpu", {"threads": 2}, {"threads": "12345"}, {"device": "x" * 200}]
)
def test_other_stacks_are_malformed(stack: Any) -> None:
    assert "stack" in verdict.malformed({**PLACE, "kind": "stack", "step": 2, "stack": stack})[0]


def test_every_maker_writes_what_is_not_malformed() -> None:
    after = entries.StateRoots(4, {"weights": {}})
    about = {
        "recipe": bytes(32),
        "recipe_version": 1,
        "arithmetic": "native 1",
        "pipeline": 1,
        "data": ROOT,
    }
    roots = {"rollouts": bytes(32), "base": bytes(32)}
    genesis = entries.genesis(
        **about, tokenizer=ROOT, initial=after, stack=CUDA, parent=(4, 400, ROOT), roots=roots
    )
    nothing: dict[str, list[Any]] = {"row_leaves": [], "microbatches": [], "segments": []}
    floats = dict.fromkeys(("loss", "lr", "grad_norm", "weight_norm"), 1.5)
    step = entries.step(number=4, tokens_so_far=400, **nothing, **floats, after=after, roots=roots)
    for body in (genesis, step):
        assert list(body)[-1] == "roots" and list(body["roots"]) == ["base", "rollouts"]
        assert not verdict.malformed({**PLACE, **body})
    assert "roots" not in entries.step(
        number=4, tokens_so_far=400, **nothing, **floats, after=after
    )
