"""Steps of a run asked the examples of tasks. Steps that are replayed from different stored states
need nothing of each other, so processes share them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pellucid import counts
from pellucid.data.tokenizer import Tokenizer
from pellucid.errors import EvaluationLost
from pellucid.evaluate.asking import answers
from pellucid.evaluate.scoring import Scorer
from pellucid.evaluate.task import Task
from pellucid.inputs import Inputs
from pellucid.measured import variants
from pellucid.record.evaluations import task_digest
from pellucid.record.requests import Answer, Request
from pellucid.replay.materialise import Watch, length, walk, way_to
from pellucid.replay.parallel import Tell, shared, workers
from pellucid.store import layout

WORTH = 5e11  # FLOPs of answers for which one more process is worth its start.
_REPLAYED, _ANSWERED = 0, 1  # Kinds of work that processes tell.

Told = Callable[[str, int, int], None]  # (of what, examples answered, of so many)


class Asked(NamedTuple):
    """What is asked of a step under one name."""

    task: str
    requests: Sequence[Request]
    letters: int  # Of all requests, about.


Waiting = Mapping[int, Sequence[Asked]]  # By step, ascending.


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
    others, as they get ready. Raises StepUnknown, StateDiffers, LedgerDiffers, RequestUnfit,
    EvaluationLost."""
    known = {(entry["weights"], variants.asked(entry)): entry for entry in done}
    ledger, made = inputs.recorded(), [_answered_by(task) for task in tasks]
    wanted = [_asked(task) for task in tasks]
    waiting = dict[int, list[int]]()  # Numbers of tasks.
    for step in steps:
        weights = ledger.step(step)["weights"]
        for number, task in enumerate(tasks):
            entries = (known.get((weights, one)) for one in made[number])
            if entry := next(filter(None, entries), None):
                yield Measured(step, task, [], entry)
            else:
                waiting.setdefault(step, []).append(number)
    left = {step: [wanted[number] for number in numbers] for step, numbers in waiting.items()}
    places = {step: iter(numbers) for step, numbers in waiting.items()}
    for step, given in _answered(inputs, left, watch, told):
        yield Measured(step, tasks[next(places[step])], given)


def _answered(
    inputs: Inputs, waiting: Waiting, watch: Watch, told: Told
) -> Iterator[tuple[int, list[Answer]]]:
    """Of every step the answers to each of its tasks, in their order."""
    parts = _parts(inputs, waiting)
    processes = min(workers(inputs, len(parts)), max(1, int(_flops(inputs, waiting) / WORTH)))
    if processes == 1:
        yield from _in_turn(inputs, waiting, watch, told)
        return
    steps = sum(length(inputs, [*part]) for part in parts)
    examples = sum(len(one.requests) for own in waiting.values() for one in own)

    def tell(done: list[int]) -> None:
        if done[_REPLAYED] < steps:
            watch(done[_REPLAYED], steps)
        told(f"{len(waiting)} steps", done[_ANSWERED], examples)

    each = shared(inputs.folder, processes, _of_part, parts, tell, EvaluationLost)
    yield from (given for _, given in each)


def _in_turn(
    inputs: Inputs, waiting: Waiting, watch: Watch, told: Told
) -> Iterator[tuple[int, list[Answer]]]:
    tokenizer = Tokenizer.load(inputs.folder / layout.TOKENIZER)
    for state in walk(inputs, [*waiting], watch, keep=True):
        for name, requests, _ in waiting[state.step]:
            scorer, given = Scorer.of(state, tokenizer, inputs.recipe), list[Answer]()
            for answer in answers(scorer, requests):
                given.append(answer)
                told(f"{name} of step {state.step}", len(given), len(requests))
            state.model.train()  # A walk goes on with it.
            yield state.step, given


def _of_part(inputs: Inputs, part: Waiting, tell: Tell) -> Iterator[tuple[int, list[Answer]]]:
    """What _in_turn gives, in a process of its own."""
    replayed = 0

    def watch(done: int, _: int) -> None:
        nonlocal replayed
        tell(_REPLAYED, done - replayed)
        replayed = done

    yield from _in_turn(inputs, part, watch, lambda *_: tell(_ANSWERED, 1))


def _parts(inputs: Inputs, waiting: Waiting) -> list[Waiting]:
    """The steps, cut where a replay begins with another stored state."""
    parts = dict[int | None, dict[int, Sequence[Asked]]]()
    for step, own in waiting.items():
        parts.setdefault(way_to(inputs, step).start, {})[step] = own
    return [*parts.values()]


def _flops(inputs: Inputs, waiting: Waiting) -> float:
    """About: a token has a letter or more, and each parameter a product and a sum for it."""
    letters = sum(one.letters for own in waiting.values() for one in own)
    return 2.0 * counts.parameters(inputs.recipe.model, inputs.vocabulary).total * letters


def _asked(task: Task) -> Asked:
    requests = [example.request for example in task.examples]
    return Asked(task.name, requests, sum(len(repr(request)) for request in requests))


def _answered_by(task: Task) -> tuple[variants.Asked, variants.Asked]:
    """What entries that answer a task asked."""
    digest = task_digest(task.examples)
    return variants.asked_by(task.name, digest, task.harness, task.settings)
