"""Steps read together say of every ledger, sound or not, what steps read one by one say."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid.record import chain, columns, digests, entries, verdict
from pellucid.record.guards import Guards, Rule, Rules
from pellucid.record.history import History, with_branch
from pellucid.store import log

STEPS = 130
RULES = Rules(
    (Rule("loss", "rollback", 4.0, 0.1, 1), Rule("grad_norm", "note", 4.0, 0.1, 2)), 8, "stop", 5, 3
)
TOKENS = lambda s: 100 * s  # noqa: E731
TOKENS_OF = lambda first, last: 100 * np.arange(first, last + 1, dtype=np.uint64)  # noqa: E731
PLAN = verdict.Plan(
    "ab" * 32,
    STEPS,
    TOKENS,
    TOKENS_OF,
    lambda s: s % 50 == 0,
    lambda s: s == STEPS,
    lambda s: s / 8,
    {"pipeline": 2},
    rules=RULES,
)
DIGEST = "cd" * 32
OF_STEP = ("batch", "microbatches", "segments", "weights", "state")


def step_body(step: int, rates: random.Random) -> dict[str, Any]:
    spike = 9.0 if rates.random() < 0.02 else 1.0
    floats = {
        "loss": spike + rates.random() / 99,
        "lr": step / 8,
        "grad_norm": spike,
        "weight_norm": 3.5,
    }
    values = {"tokens": str(step * 100), **dict.fromkeys(OF_STEP, DIGEST)}
    values |= {name: digests.float_bits(value) for name, value in floats.items()}
    return {"kind": "step", "step": step, **{name: values[name] for name in entries.STEP}}


def bodies(seed: int) -> list[dict[str, Any]]:
    """A complete ledger, with the incidents that its losses give."""
    draws, guards = random.Random(seed), Guards(RULES, History.begun(0))
    named = dict.fromkeys(("data", "tokenizer", "weights", "state"), DIGEST)
    about = {"format": 1, "arithmetic": "portable 1", "pipeline": 2, "recipe_version": 4}
    genesis = {"kind": "genesis", **about, "recipe": PLAN.recipe, **named}
    out = [genesis, {"kind": "validation", "step": 0, "sources": []}]
    step = 0
    while step < STEPS:
        step += 1
        body = with_branch(step_body(step, draws), guards.history.branch)
        out.append(body)
        incidents = guards.step(body)
        out += [with_branch(incident, guards.history.branch) for incident in incidents]
        if incidents and incidents[-1]["action"] == "rollback":
            guards.roll_back(incidents[-1])
            step = incidents[-1]["to"]
        elif incidents and incidents[-1]["action"] == "stop":
            return out
        elif PLAN.validates(step):
            out.append(
                with_branch(
                    {"kind": "validation", "step": step, "sources": []}, guards.history.branch
                )
            )
    out.append(
        with_branch({"kind": "checkpoint", "step": STEPS, "root": DIGEST}, guards.history.branch)
    )
    return [*out, with_branch({"kind": "end", "step": STEPS}, guards.history.branch)]


def lines_of(changed: list[dict[str, Any]]) -> list[bytes]:
    return list(chain.lines_of(changed, chain.LedgerTip()))


def blocks_of(lines: list[bytes], draws: random.Random) -> Iterator[bytes]:
    while lines:
        size = draws.randrange(1, 80)
        yield b"".join(lines[:size])
        lines = lines[size:]


def agree(lines: list[bytes], draws: random.Random) -> list[verdict.Problem]:
    """The problems, which are the same whichever way the lines are read."""
    alone = list(
        verdict.judge("ledger", chain.read(lines, chain.LedgerTip(), entries.step_of), PLAN)
    )
    assert (
        list(
            verdict.judge("ledger", columns.read(blocks_of(lines, draws), chain.LedgerTip()), PLAN)
        )
        == alone
    )
    return alone


def test_a_complete_ledger_is_read_together_and_has_no_problem() -> None:
    read = list(columns.read([b"".join(lines_of(bodies(1)))], chain.LedgerTip()))
    together = sum(len(block) for block in read if isinstance(block, columns.Steps))
    assert together > 100 and len(read) + together > STEPS
    rollbacks = 0
    for seed in range(12):
        own = bodies(seed)
        rollbacks += sum(body.get("action") == "rollback" for body in own)
        if own[-1]["kind"] == "end":
            assert agree(lines_of(own), random.Random(seed)) == []
    assert rollbacks >= 3


def _edit(own: list[dict[str, Any]], draws: random.Random) -> None:
    """Something else in an entry, with the chain made to fit again."""
    body = draws.choice([entry for entry in own if entry["kind"] == "step"])
    name = draws.choice([*entries.STEP, "step", "branch", "kind", "more"])
    body[name] = draws.choice(
        [
            0,
            7,
            "7",
            "0100",
            "1" * 19,
            DIGEST,
            "Cd" * 32,
            "7ff0000000000000",
            "fff8000000000001",
            "4022000000000000",
            "é",
        ]
    )


def _flip(lines: list[bytes], draws: random.Random) -> None:
    place = draws.randrange(len(lines))
    line = bytearray(lines[place])
    line[draws.randrange(len(line))] ^= 1 << draws.randrange(8)
    lines[place] = bytes(line)


def _move(lines: list[bytes], draws: random.Random) -> None:
    first, second = draws.randrange(len(lines)), draws.randrange(len(lines))
    lines[first], lines[second] = lines[second], lines[first]


def _drop(lines: list[bytes], draws: random.Random) -> None:
    del lines[draws.randrange(len(lines))]


def _cut(lines: list[bytes], draws: random.Random) -> None:
    lines[-1] = lines[-1][: draws.randrange(1, len(lines[-1]))]


@pytest.mark.parametrize("seed", range(10))
def test_another_log_is_found_at_its_entry(seed: int) -> None:
    draws, own, tip, lines = random.Random(seed), bodies(seed), chain.LedgerTip(), []
    changed = draws.randrange(len(own))
    for n, body in enumerate(own):
        place = tip.place() | ({"log": "0" * 63 + "1"} if n == changed else {})
        lines.append(chain.line_of(place | body))
        tip.take(lines[-1])
    problems = [problem for problem in agree(lines, draws) if "root over" in problem.detail]
    assert [(problem.error, f"entry {changed}" in problem.where) for problem in problems] == [
        ("LedgerBroken", True)
    ]


@pytest.mark.parametrize("name", ["n", "step"])
def test_a_number_is_spelled_in_digits(name: str) -> None:
    """A colon stands ten behind the zero: `10:` would be 110."""
    tip, lines, spelling = chain.LedgerTip(), [], f'"{name}":10:,'.encode()
    for body in bodies(1):
        line = chain.line_of(tip.place() | body)
        lines.append(line.replace(f'"{name}":110,'.encode(), spelling))
        tip.take(lines[-1])
    changed = sum(spelling in line for line in lines)
    problems = [
        problem for problem in agree(lines, random.Random(1)) if "is not JSON" in problem.detail
    ]
    assert len(problems) == changed > 0


@pytest.mark.parametrize("seed", range(60))
def test_wrong_ledgers_have_the_same_problems(seed: int) -> None:
    draws = random.Random(seed)
    own = bodies(seed)
    for _ in range(draws.randrange(3)):
        _edit(own, draws)
    lines = lines_of(own)
    for _ in range(draws.randrange(1, 3)):
        draws.choice([_flip, _flip, _move, _drop, _cut])(lines, draws)
    lines = io.BytesIO(b"".join(lines)).readlines()  # A flipped line break makes one line of two.
    assert agree(lines, draws) != []


def test_a_ledger_on_disk_is_read_in_blocks_of_whole_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ledger.jsonl"
    lines = lines_of(bodies(1))
    path.write_bytes(b"".join(lines))
    monkeypatch.setattr(log, "_BLOCK", 1000)
    assert list(verdict.judge("ledger", log.read_together(path), PLAN)) == []
    path.write_bytes(b"".join(lines[:-1]) + b"x" * (chain.MAX_LINE + 5000))
    problems = list(verdict.judge("ledger", log.read_together(path), PLAN))
    assert [problem.error for problem in problems][:1] == [
        "LedgerBroken"
    ] and "longer than" in problems[0].detail
