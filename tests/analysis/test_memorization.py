"""What is told of memorization is what a plain loop over steps, rows and tokens finds."""

from __future__ import annotations

import json
import math
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from pellucid.analysis import memorization as analysis
from pellucid.analysis.memorization import Cell, Memorization, Row, matrix
from pellucid.errors import EvaluationBroken, TaskUnfit
from pellucid.evaluate.again import ask_again
from pellucid.evaluate.suite import memorization as task
from pellucid.evaluate.suite.memorization import Drawn
from pellucid.inputs import Inputs
from pellucid.look.show import Shown
from pellucid.measured import stored
from pellucid.measured.intervals import of_mean
from pellucid.recipe import load
from pellucid.record import evaluations
from pellucid.record.requests import Continue
from pellucid.release.publish import publish
from pellucid.release.verify import verify
from pellucid.replay.materialise import walk
from pellucid.store import files, layout
from pellucid.trace.words import Words
from tests.analysis.conftest import DRAWN, LAST, STEPS, evaluated
from tests.conftest import pellucid
from tests.release.evaluating import rewrite, seal_as_it_is


class Plain(NamedTuple):
    """A sequence at a step, as a plain loop has it."""

    name: str
    cluster: str
    step: int
    drawn: int | None  # The step that it was drawn from.
    seen: list[int]  # The steps up to this one that trained on it.
    copies: int
    exact: float
    share: float


def rows_of(inputs: Inputs) -> dict[int, list[list[tuple[int, int, int]]]]:
    """Of every step and row its ids, each with where it stands: block, place, id."""
    found = {}
    for step in range(1, LAST + 1):
        rows, T = inputs.order.rows(step), inputs.order.phase(step).context
        found[step] = [
            [
                (block, start + at, token)
                for at, token in enumerate(inputs.shards.ids(block, start, T).tolist())
            ]
            for block, start in zip(rows.blocks.tolist(), rows.starts.tolist(), strict=True)
        ]
    return found


def expected(folder: Path) -> list[Plain]:
    """Every sequence at every step that was asked: the model's answers by a pass over all tokens
    before each, the steps by looking at every row, the copies by looking at every text."""
    inputs, found = Inputs.load(folder, load(folder)), list[Plain]()
    rows, shown = rows_of(inputs), Shown(folder)
    train = [row["index"] for row in shown.list_documents() if row["split"] == "train"]
    texts = [shown.documents.text(index).encode() for index in train]
    words = Words.of(shown.tokenizer)
    assert words
    examples = task.memorization(inputs.recipe, inputs.shards, inputs.order, DRAWN).examples
    for state in walk(inputs, STEPS, lambda *_: None, keep=True):
        state.model.eval()
        for example in examples:
            assert isinstance(example.request, Continue) and isinstance(example.target, tuple)
            tokens = [*example.request.ids]
            for _ in range(DRAWN.tokens):
                with torch.no_grad():
                    logits_V = state.model(torch.tensor([tokens]))[0, -1]
                tokens.append(int(np.argmax(logits_V.numpy())))
            right = [a == b for a, b in zip(tokens[DRAWN.prompt :], example.target, strict=True)]
            place = re.fullmatch(r"step(\d+)/row(\d+)/at(\d+)", example.name)
            seen, drawn, copies = [], None, 0
            if place:
                drawn, row, at = map(int, place.groups())
                own = rows[drawn][row][at : at + DRAWN.length]
                assert [token for *_, token in own] == [*example.request.ids, *example.target]
                seen = [
                    step
                    for step in range(1, state.step + 1)
                    for other in rows[step]
                    if any(other[i : i + DRAWN.length] == own for i in range(len(other)))
                ]
                ids = [one for *_, one in own if one != shown.tokenizer.document_token]
                part = b"".join(words.words[one] for one in ids)  # It may cut a character.
                copies = sum(text.startswith(part, i) for text in texts for i in range(len(text)))
            found.append(
                Plain(
                    *(example.name, example.cluster, state.step, drawn, seen, copies),
                    *(float(all(right)), sum(right) / len(right)),
                )
            )
        state.model.train()
    return found


@pytest.fixture(scope="module")
def plain(memorised: Path) -> list[Plain]:
    return expected(memorised)


@pytest.fixture(scope="module")
def found(memorised: Path) -> Memorization:
    told = matrix(memorised)
    assert told is not None
    return told


def check(row: Row, asked: list[Plain]) -> None:
    """A row says of every step what these sequences have."""
    assert len(row.cells) == len(STEPS)
    for step, cell in zip(STEPS, row.cells, strict=True):
        own = [one for one in asked if one.step == step]
        if not own:
            assert cell is None
            continue
        assert isinstance(cell, Cell) and cell.step == step and cell.sequences == len(own)
        assert cell.seen == sum(bool(one.seen) for one in own)
        for name in ("exact", "share"):
            values = [getattr(one, name) for one in own]
            rate = getattr(cell, name)
            assert rate.value == math.fsum(values) / len(values)
            known = of_mean(values, [one.cluster for one in own])
            assert (rate.interval is None) == (known is None)
            if rate.interval and known:
                assert rate.interval[:2] == (max(0, known.low), min(1, known.high))


def test_the_matrix_is_that_of_a_plain_loop(found: Memorization, plain: list[Plain]) -> None:
    assert (found.prompt, found.tokens, found.steps) == (9, 7, tuple(STEPS))
    assert [row.name for row in found.ranges] == ["1-30", "31-60", "61-90", "91-120"]
    for row, (first, last) in zip(
        found.ranges, [(1, 30), (31, 60), (61, 90), (91, 120)], strict=True
    ):
        own = [one for one in plain if one.drawn and first <= one.drawn <= last]
        assert len(own) == 6 * len(STEPS)
        check(row, own)
    check(found.validation, [one for one in plain if one.drawn is None])
    states = [
        [cell.state for cell in row.cells if cell] for row in (*found.ranges, found.validation)
    ]
    assert states[0][0] == "none" and states[0][-1] == "all" and states[-1] == ["none"] * 4
    assert any("some" in row for row in states)


def test_the_tables_are_those_of_a_plain_loop(found: Memorization, plain: list[Plain]) -> None:
    trained = [one for one in plain if one.drawn]
    ever = [one for one in trained if one.seen]
    counts = Counter(len(one.seen) for one in trained)
    assert max(counts) > 2 and counts[0] and counts[1]
    names = {0: "not yet", 1: "1", 2: "2", 3: "3", 4: "4"}
    names |= {n: f"{low}-{high}" for low, high in ((5, 8), (9, 16)) for n in range(low, high + 1)}
    assert [row.name for row in found.times] == [*dict.fromkeys(names[n] for n in sorted(counts))]
    for row in found.times:
        check(row, [one for one in trained if names[len(one.seen)] == row.name])
    assert {row.name for row in found.recency} <= {"0-3", "4-15", "16-63"}
    for row in found.recency:
        low, high = map(int, row.name.split("-"))
        check(row, [one for one in ever if low <= one.step - one.seen[-1] <= high])
    assert found.copies is not None and {"1", "3"} <= {row.name for row in found.copies}
    for row in found.copies:
        check(row, [one for one in ever if row.name == str(one.copies)])


def test_the_model_learns_what_it_sees(found: Memorization) -> None:
    """Else nothing of the above would be seen."""
    last = [cell for row in found.ranges if (cell := row.cells[-1])]
    first = [cell for row in found.ranges if (cell := row.cells[0])]
    assert min(cell.share.value for cell in last) > max(cell.share.value for cell in first)
    assert any(0 < cell.exact.value < 1 for cell in last)


def test_what_is_kept_verifies_and_is_audited(mine: Path) -> None:
    publish(mine, site=False)
    assert verify(mine, lambda _: None).ok
    asked, _ = ask_again(Inputs.load(mine, load(mine)), 12, 1, lambda *_: None)
    assert len(asked) == 12 and all(one.same for one in asked)


def test_a_forged_number_or_token_of_a_line_is_named_by_verify(mine: Path) -> None:
    path = mine / layout.examples(4)
    whole = path.read_bytes()
    made = stored.entries(mine)
    entry = made[3]
    line = next(line for line in stored.lines(mine, entry) if not line.numbers["exact"])
    spelled = json.dumps(line.answer.spelled(), separators=(",", ":")).encode()
    right = json.dumps({"ids": line.example.target}, separators=(",", ":")).encode()
    for old, new in ((spelled, right), (b'"exact":"0000', b'"exact":"3ff0')):
        assert old in whole
        path.write_bytes(whole.replace(old, new, 1))
        seal_as_it_is(mine)
        (problem,) = verify(mine, lambda _: None).problems
        assert (problem.error, problem.where) == ("EvaluationDiffers", layout.examples(4))
        bodies = [
            one | {"sha256": files.sha256_file(path)} if one["n"] == 4 else one for one in made
        ]
        unchained = [{k: v for k, v in one.items() if k not in ("prev", "n")} for one in bodies]
        rewrite(mine, [evaluations.genesis(entry["head"]), *unchained])
        seal_as_it_is(mine)
        (problem,) = verify(mine, lambda _: None).problems
        assert problem.error == "EvaluationBroken" and problem.where.startswith(f"{path.name}:", 12)
        with pytest.raises(EvaluationBroken, match="other numbers than extraction gives"):
            matrix(mine)


def test_examples_of_another_order_are_left_out_and_forged_ones_named(mine: Path) -> None:
    path = mine / layout.examples(4)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))
    with pytest.raises(EvaluationBroken, match="asks other questions than its entry"):
        matrix(mine)
    evaluated(mine, [5], limit=9)  # Of a part, the latest: it is what counts.
    told = matrix(mine)
    assert told is not None and told.steps == (5,)
    assert sum(cell.sequences for row in told.ranges if (cell := row.cells[0])) == 8
    chain = mine / layout.EVALUATIONS
    chain.write_bytes(chain.read_bytes().replace(b'"version":1}', b'"version":9}'))
    with pytest.raises(EvaluationBroken):
        matrix(mine)


def test_a_run_without_such_evaluations_says_nothing(finished: Path) -> None:
    assert matrix(finished) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"prompt": 0},
        {"prompt": True},
        {"tokens": 5000},
        {"ranges": 101},
        {"sequences": 10_001},
        {"sequences": 10_000, "ranges": 3},
        {"limit": "3"},
        {"version": 2},
        {"more": 1},
        {"ranges": None},
    ],
)
def test_settings_that_no_reader_should_follow_are_not_followed(changed: dict[str, object]) -> None:
    settings = dict(DRAWN.settings(5))
    assert task.drawn_of(settings) == (DRAWN, 5)
    assert task.drawn_of(settings | changed) is None


def test_the_task_is_the_same_while_the_run_goes_on(memorised: Path) -> None:
    """The order tells of steps that are not trained yet."""
    shown = Shown(memorised)
    held = task.examples(shown.recipe, shown.shards, shown.order, DRAWN)
    inputs = Inputs.load(memorised, load(memorised))
    asked = task.memorization(inputs.recipe, inputs.shards, inputs.order, DRAWN)
    assert [one.example for one in held] == [*asked.examples]
    groups = [one.range for one in held[:10]]
    assert groups == [0, 1, 2, 3, None] * 2  # The first of them are spread over the run.
    named = [one.example.name for one in held]
    assert len(set(named)) == len(named)


def test_after_a_rollback_the_sequences_are_those_of_the_rows_that_steps_took(
    rolled_back: Path,
) -> None:
    inputs = Inputs.load(rolled_back, load(rolled_back))
    drawn, before = Drawn(9, 7, ranges=2, sequences=5), Shown(rolled_back).order
    made = [
        task.examples(inputs.recipe, inputs.shards, order, drawn)
        for order in (before, inputs.order)
    ]
    digests = {evaluations.task_digest(one.example for one in held) for held in made}
    assert len(digests) == 2
    for one in made[1]:
        if one.place and isinstance(one.example.request, Continue):
            row = inputs.batch(one.place.step).tokens_BS[one.place.row].tolist()
            at = one.place.first
            assert row[at : at + 9] == [*one.example.request.ids]


def test_all_tokens_of_a_sequence_are_of_one_document(memorised: Path) -> None:
    shown = Shown(memorised)
    for one in task.examples(shown.recipe, shown.shards, shown.order, DRAWN):
        if one.place:
            pieces = shown.shards.pieces(one.place.block, one.place.start, DRAWN.length - 1)
            assert [piece.document for piece in pieces] == [one.place.document]
            assert one.example.cluster == f"document {one.place.document}"


def test_documents_that_are_too_short_are_named(memorised: Path) -> None:
    shown = Shown(memorised)
    with pytest.raises(TaskUnfit, match="holds 4100 tokens of one document"):
        task.memorization(shown.recipe, shown.shards, shown.order, Drawn(4096, 4))


def test_by_default_a_sequence_fits_into_a_row(memorised: Path) -> None:
    assert Drawn.of(load(memorised)) == Drawn(16, 16, 10, 100)


def test_the_picture_and_the_lines_have_every_number(found: Memorization) -> None:
    for number in ("share", "exact"):
        drawn = analysis.picture(found, number)
        words = [one.text for one in ElementTree.fromstring(drawn).iter() if one.text]
        rows = (*found.ranges, found.validation, *found.times, *found.recency)
        for row in (*rows, *(found.copies or ())):
            assert row.name in words
            shown = {f"{getattr(cell, number).value:.3f}" for cell in row.cells if cell}
            assert shown <= set(words)
    text = "\n".join(analysis.lines(found))
    last = found.ranges[0].cells[-1]
    assert last and last.share.interval and f"{last.share.interval.low:.3f}" in text
    assert "validation" in text and "*" in text and "copies in the data" in text
    told = analysis.as_json(found)
    assert json.loads(json.dumps(told))["ranges"][0]["cells"][0]["sequences"] == 6


def test_the_verb_tells_the_cost_first_and_then_the_matrix(mine: Path) -> None:
    answer = pellucid(
        "evaluate", mine, "--tasks", "memorization", "--steps", f"0,{LAST}", "--limit", 22
    )
    assert "memorization: 22 sequences at 2 steps, 1,408 tokens" in answer.stderr
    assert "given 16 tokens of a sequence, asked for the next 16" in answer.stdout
    assert f"After step {LAST}" in answer.stdout
