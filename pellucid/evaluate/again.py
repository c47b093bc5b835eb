"""Answers of a run's evaluations, computed again from its states."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, groupby, islice
from typing import Any, NamedTuple

from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import EvaluationBroken, RequestUnfit
from pellucid.evaluate.asking import answers
from pellucid.evaluate.scoring import Scorer
from pellucid.inputs import Inputs
from pellucid.measured import stored
from pellucid.record.evaluations import Line
from pellucid.replay.choose import chosen
from pellucid.replay.materialise import Watch, walk
from pellucid.store import layout


class Again(NamedTuple):
    """Examples that were asked again, of all that the run's evaluations have."""

    asked: list[Answered]
    of: int


class Answered(NamedTuple):
    """An example of an evaluation, asked again."""

    entry: Mapping[str, Any]
    line: Line
    same: bool

    def as_json(self) -> dict[str, Any]:
        about = {key: self.entry[key] for key in ("n", "step", "task")}
        return {**about, "example": self.line.example.name, "same": self.same}


def ask_again(inputs: Inputs, count: int, seed: int, watch: Watch) -> Again:
    """As many examples of all evaluations of the run's states as asked for, drawn by the seed. No
    task's code or template is read: a line holds the request that was made.

    Raises EvaluationBroken, StateDiffers, LedgerDiffers."""
    entries = stored.of_run(inputs.folder)
    sizes = [sum(1 for _ in stored.lines(inputs.folder, entry)) for entry in entries]
    picked = _picked(inputs, entries, sizes, count, seed)
    steps = sorted({entry["step"] for entry, _ in picked})
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    given = []
    for state in walk(inputs, steps, watch, keep=True):
        scorer = Scorer.of(state, tokenizer, inputs.recipe)
        own = (place for place in picked if place[0]["step"] == state.step)
        for _, places in groupby(own, lambda place: place[0]["n"]):
            given += _asked(inputs, scorer, [*places])
        state.model.train()
    return Again(given, sum(sizes))


def _asked(
    inputs: Inputs, scorer: Scorer, own: Sequence[tuple[Mapping[str, Any], Line]]
) -> Iterator[Answered]:
    """Examples of one entry."""
    try:
        computed = [*answers(scorer, (line.example.request for _, line in own))]
    except RequestUnfit as error:
        n = own[0][0]["n"]
        path = inputs.folder / layout.examples(n)
        raise EvaluationBroken(path=path, entry=n, detail=str(error)) from error
    for (entry, line), answer in zip(own, computed, strict=True):
        # As spelled: 0.0 and -0.0 are equal, and have other bits.
        yield Answered(entry, line, answer.spelled() == line.answer.spelled())


def _picked(
    inputs: Inputs,
    entries: Sequence[Mapping[str, Any]],
    sizes: Sequence[int],
    count: int,
    seed: int,
) -> list[tuple[Mapping[str, Any], Line]]:
    """Examples drawn by the seed, by entry and place. sizes: how many each entry has."""
    ends = [*accumulate(sizes)]
    numbers = chosen(seed, f"evaluations {inputs.recorded().head}", sum(sizes))
    drawn = sorted(number - 1 for number in islice(numbers, min(count, sum(sizes))))
    picked = []
    for entry, size, end in zip(entries, sizes, ends, strict=True):
        places = {number - end + size for number in drawn if end - size <= number < end}
        if places:
            lines = enumerate(stored.lines(inputs.folder, entry))
            picked += [(entry, line) for place, line in lines if place in places]
    return picked
