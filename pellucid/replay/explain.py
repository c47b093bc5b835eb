"""Why a recorded step is not what it gives here: phase, microbatch, tensors,
operation, cause, in plain words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pellucid import machine
from pellucid.data.stage import Progress, silent
from pellucid.errors import PellucidError
from pellucid.recipe import Recipe
from pellucid.replay import blame, causes, corpora, experiments, flips, ledgers
from pellucid.replay.again import Again, Taken
from pellucid.replay.experiments import Cause, Question
from pellucid.replay.ledgers import Parting
from pellucid.train.events import Groups

States = list[tuple[str, Callable[[], Groups | None]]]  # In words, and how to read it.


@dataclass
class Difference:
    """What diff found. docs/diff.md tells the keys of as_json."""

    a: str
    b: str  # "here" where a run is held against this machine.
    equal: bool = True
    step: int | None = None
    kind: str = ""  # Of what differs first: "step", "validation", "genesis", "anchor" …
    fields: list[dict[str, Any]] = field(default_factory=list)
    phase: str = ""
    recipe: list[dict[str, Any]] = field(default_factory=list)
    document: dict[str, Any] | None = None
    rows: list[dict[str, Any]] = field(default_factory=list)
    microbatch: int | None = None
    tensors: list[blame.Tensor] = field(default_factory=list)
    operation: dict[str, Any] | None = None
    cause: Cause | None = None
    # This machine, with "A", "B", "both", "neither"; None where nothing was replayed.
    agrees: str | None = None
    tried: list[str] = field(default_factory=list)  # Known causes that were tried.
    # Nats per token of both, where both validated.
    validation: list[dict[str, Any]] = field(default_factory=list)
    environments: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        self.notes.append(text)

    def parts(self, parting: Parting) -> None:
        """The runs part here."""
        self.equal, self.step, self.kind = False, parting.step, parting.kind
        self.phase = experiments.phase_of(parting.fields) if parting.kind == "step" else ""
        self.fields = [
            {"field": name, "a": parting.a.get(name), "b": parting.b.get(name)}
            for name in parting.fields
        ]

    def agreement(self, a: bool, b: bool) -> None:
        self.agrees = {(True, True): "both", (True, False): "A", (False, True): "B"}.get(
            (a, b), "neither"
        )

    def as_json(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in self.__dataclass_fields__}
        plain["tensors"] = [tensor.as_json() for tensor in self.tensors]
        plain["cause"] = self.cause.as_json() if self.cause else None
        return plain | {"explanation": words(self)}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a run says of the step."""

    name: str  # "A" or "B".
    folder: Path
    entry: dict[str, Any]


Read = TypeVar("Read")


def published(result: Difference, read: Callable[[], Read]) -> Read | None:
    """What a run's tables tell, in bounded memory; None where they cannot be read, which
    is said: they only explain."""
    try:
        with machine.bounded_memory():
            return read()
    except PellucidError as error:
        result.say(f"Not read: {error.name}: {error}")
        return None


def explain(
    result: Difference,
    again: Again,
    taken: Taken,
    recorded: Recorded,
    states: States,
    search: Progress = silent,
    other: Recipe | None = None,
) -> None:
    """Why a recorded step is not what `again` gives; search hears how far a search for it is,
    other is the recipe by which it does, where that is another.

    Fills the result where nothing stands there yet.
    """
    if ledgers.differing(again.take().entry, taken.entry):
        result.cause = Cause(
            "this machine",
            experiments.PROVEN,
            "two replays of the step gave different results here: this machine is faulty",
        )
        return
    stored, description = blame.stored(recorded.folder, recorded.entry["step"], recorded.entry)
    result.say(f"Stored by {recorded.name}: {description}.")
    usable = [(name, state) for name, read in states if (state := read()) is not None]
    question = Question(
        again, taken.entry, recorded.entry, stored, result.recipe, other, usable, search
    )
    result.phase = question.phase
    _microbatch(result, question, taken, recorded)
    gradients = flips.isolated(question) if question.phase == "backward" else []
    if stored is not None and not result.tensors:
        result.tensors = gradients or blame.differing(taken.after, stored)
    cause = _cause(question, gradients, result.tried)
    if cause.tensor is not None and not result.tensors:
        result.tensors = [cause.tensor]
    if cause.batch is not None and not result.rows:
        result.rows = corpora.differing_rows(again.batch, cause.batch)
    result.cause = result.cause or cause
    result.operation = (
        result.operation or cause.operation or _operation(question, result.microbatch)
    )
    if cause.microbatch is not None:
        result.microbatch = cause.microbatch
    if result.microbatch is None and question.phase == "backward":
        result.say(_no_microbatch(question))


def _cause(question: Question, gradients: list[blame.Tensor], tried: list[str]) -> Cause:
    if question.other is not None and (
        cause := experiments.proven(question, causes.recipes(question), tried)
    ):
        return cause
    if question.phase == "record":
        fields = ", ".join(ledgers.differing(question.found, question.target))
        equal_state = (
            "the state after the step is the state computed here, and only the entry differs"
        )
        description = f"{equal_state}, in {fields}: the record was edited or written differently"
        return Cause("record", experiments.PROVEN, description)
    cause = experiments.proven(question, causes.hypotheses(question), tried)
    if cause is None and question.phase in ("backward", "optimizer"):
        cause = experiments.proven(question, flips.flipped(question, gradients), tried)
    cause = cause or causes.machine(question, tried) or flips.fitting(question, gradients)
    return cause or Cause("unknown", experiments.UNKNOWN, "no known cause makes these bits")


def _microbatch(result: Difference, question: Question, taken: Taken, recorded: Recorded) -> None:
    """The first microbatch whose losses or gradients differ, where what is published tells it."""
    size = question.again.phase.microbatch
    count = question.again.phase.batch // size
    segments = published(
        result, lambda: ledgers.published_segments(recorded.folder, recorded.entry)
    )
    rows = (
        sorted({segment.row for segment in set(segments) ^ set(taken.segments)}) if segments else []
    )
    if rows and question.phase == "forward":
        result.microbatch = rows[0] // size
        result.say(f"The published losses differ in {_enumerated(rows, 'row')} of the batch.")
    elif count == 1:
        result.microbatch = 0 if question.phase in ("forward", "backward") else None
    elif question.phase == "backward":
        published_rows = (
            published(result, lambda: ledgers.gradient_roots(recorded.folder, recorded.entry)) or []
        )
        pairs = zip(published_rows, taken.microbatches, strict=False)
        differing = [index for index, (row, own) in enumerate(pairs) if row != own]
        result.microbatch = differing[0] if differing else None


def _no_microbatch(question: Question) -> str:
    if question.again.recipe.record.commitment == "steps":
        return (
            "No microbatch can be named: the recipe commits to whole steps (record.commitment "
            '= "steps").'
        )
    return "No microbatch can be named: their gradient roots are not published, or are equal."


def _enumerated(numbers: list[int], noun: str) -> str:
    shown = ", ".join(map(str, numbers[:8]))
    return f"{noun}{'s' * (len(numbers) > 1)} {shown}{', …' if len(numbers) > 8 else ''}"


_OPERATIONS = {
    "order": "the order or the shards",
    "forward": "forward: embed, norm, linears, attention, swiglu or loss",
    "backward": "backward, or the sum over microbatches",
    "schedule": "the learning rate's schedule",
    "optimizer": "the optimizer",
    "record": "none: the record alone differs",
}


def _operation(question: Question, microbatch: int | None) -> dict[str, Any]:
    """What the entry's fields alone say."""
    return {"name": _OPERATIONS[question.phase], "phase": question.phase, "microbatch": microbatch}


# ---- in words ----------------------------------------------------------------------------------


def words(result: Difference) -> list[str]:
    """The whole finding, a sentence or two a line."""
    side = "here" if result.b == "here" else "B"
    if result.equal:
        return [
            *result.notes,
            f"{result.a} and what is computed here are the same: "
            "every entry of the ledger is equal."
            if side == "here"
            else "A and B are the same run: every entry of the ledger is equal.",
        ]
    lines = list(result.notes)
    if result.step is not None:
        lines.insert(0, f"The first difference is at step {result.step} ({result.kind}).")
        lines[1:1] = [_field_words(entry, side) for entry in result.fields]
    if result.agrees and side != "here":
        lines.append(_AGREES[result.agrees])
    if result.phase in _BEGINS:
        lines.append(_BEGINS[result.phase])
    if result.microbatch is not None:
        lines.append(f"Microbatch: {result.microbatch}.")
    lines += _tensor_words(result.tensors)
    if result.operation:
        lines.append(f"Operation: {_operation_words(result.operation)}.")
    if result.cause:
        lines.append(f"Cause, {_CERTAIN[result.cause.certainty]}: {result.cause.description}.")
    lines += [_validation_words(entry) for entry in result.validation[-4:]]
    return lines + _environment_words(result)


def _validation_words(entry: dict[str, Any]) -> str:
    return (
        f"Validation at step {entry['step']}: {entry['a']:.4f} nats per token in A, "
        f"{entry['b']:.4f} in B."
    )


def _tensor_words(tensors: list[blame.Tensor]) -> list[str]:
    if len(tensors) <= 4:
        return [f"Tensor: {tensor.words}." for tensor in tensors]
    groups = [tensor.group for tensor in tensors]
    counts = ", ".join(f"{groups.count(group)} of {group}" for group in dict.fromkeys(groups))
    return [f"Tensors: {len(tensors)} differ ({counts}); the first: {tensors[0].words}."]


def _field_words(entry: dict[str, Any], side_b: str) -> str:
    a, b = (ledgers.shown(entry["field"], entry[side]) for side in "ab")
    return f"  {entry['field']}: {a} in A, {b} {side_b if side_b == 'here' else 'in B'}"


_AGREES = {
    "A": "A replay of the step on this machine agrees with A.",
    "B": "A replay of the step on this machine agrees with B.",
    "both": "A replay on this machine gives both, each from its own recipe and data.",
    "neither": "A replay of the step on this machine agrees with neither record.",
}
_BEGINS = {
    "order": "The batch of the step differs.",
    "forward": "The forward pass differs: losses of the same batch.",
    "backward": "The losses are equal and the gradients are not: backward, or their sum.",
    "schedule": "Losses and gradients are equal; the learning rate is not.",
    "optimizer": (
        "Losses, gradient norm and learning rate are equal; the result of the optimizer is not."
    ),
    "record": "The computation of the step is the same.",
}
_CERTAIN = {
    experiments.PROVEN: "proven",
    experiments.FITS: "which fits but is not proven",
    experiments.UNKNOWN: "not found",
}


def _operation_words(operation: dict[str, Any]) -> str:
    text = str(operation["name"])
    if operation.get("about"):
        text += f", {operation['about']}"
    if operation.get("phase"):
        text += f" ({operation['phase']})"
    if operation.get("differing"):
        text += f": first by its {operation['by']}, {', '.join(operation['differing'][:3])}"
    return text


def _environment_words(result: Difference) -> list[str]:
    side = "here" if result.b == "here" else "in B"
    code = [
        entry["what"].removeprefix("code ")
        for entry in result.environments
        if entry["what"].startswith("code ")
    ]
    lines = [
        f"  {entry['what']}: {entry['a']} in A, {entry['b']} {side}"
        for entry in result.environments
        if not entry["what"].startswith("code ")
    ]
    if code:
        lines.append(f"  code that differs: {', '.join(code[:6])}{', …' if len(code) > 6 else ''}")
    return (
        ["The environments differ:", *lines]
        if lines
        else ["The environments in the journals are equal."]
    )
