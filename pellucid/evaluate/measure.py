"""Steps of a run asked the examples of tasks, one state after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from pellucid.data.tokenizer import Tokenizer
from pellucid.evaluate.asking import answers
from pellucid.evaluate.scoring import Scorer
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.record.evaluations import Settings, task_digest
from pellucid.record.requests import Answer
from pellucid.replay.materialise import Watch, walk
from pellucid.store import layout
from pellucid.train.state import State

Told = Callable[[int, Task, int], None]  # (step, task, examples answered)


class Measured(NamedTuple):
    """A task asked of a step."""

    step: int
    task: Task
    answers: list[Answer]
    entry: dict[str, Any] | None = None  # Of an evaluation that has these answers already.


def measure(
    inputs: Inputs,
    tasks: Sequence[Task],
    steps: Sequence[int],
    watch: Watch,
    told: Told,
    done: Sequence[dict[str, Any]] = (),
) -> Iterator[Measured]:
    """Every task of every step: first what these entries hold, which is not asked again, then the
    others, steps ascending. Raises StepUnknown, StateDiffers, LedgerDiffers, RequestUnfit."""
    known = {_key(entry): entry for entry in done}
    ledger, digests = inputs.recorded(), [task_digest(one.examples) for one in tasks]
    waiting = dict[int, list[Task]]()
    for step in steps:
        weights = ledger.step(step)["weights"]
        for task, digest in zip(tasks, digests, strict=True):
            made = (*task.harness, task.name, _written(task.settings))
            if entry := known.get((weights, digest, *made)):
                yield Measured(step, task, [], entry)
            else:
                waiting.setdefault(step, []).append(task)
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    for state in walk(inputs, [*waiting], watch, keep=True):
        for task in waiting[state.step]:
            yield Measured(state.step, task, asked(inputs, state, tokenizer, task, told))


def asked(
    inputs: Inputs, state: State, tokenizer: Tokenizer, task: Task, told: Told
) -> list[Answer]:
    scorer, given = Scorer(state, tokenizer, inputs.recipe), list[Answer]()
    for answer in answers(scorer, (example.request for example in task.examples)):
        given.append(answer)
        told(state.step, task, len(given))
    state.model.train()  # A walk goes on with it.
    return given


def _key(entry: dict[str, Any]) -> tuple[object, ...]:
    made = (entry["harness"], entry["version"], entry["task"], _written(entry["settings"]))
    return (entry["weights"], entry["task_digest"], *made)


def _written(settings: Settings) -> str:
    return repr(sorted(settings.items()))
