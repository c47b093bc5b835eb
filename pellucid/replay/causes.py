"""Known causes, each tried as an experiment: the step is taken again with one thing changed, and
where that makes the other side's entry bit for bit, the cause is proven."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from pellucid import counts
from pellucid.errors import MachineLacks, NotFinite
from pellucid.kernels import library
from pellucid.operations import native
from pellucid.recipe import Recipe
from pellucid.record import digests, merkle
from pellucid.recorder import row_leaves
from pellucid.replay import blame, tracing
from pellucid.replay.again import Again, with_constant, with_update
from pellucid.replay.inputs import cores
from pellucid.replay.ledgers import differing
from pellucid.replay.tracing import Around
from pellucid.schedule import learning_rate
from pellucid.train.events import Batch, Groups

PHASES = ("order", "forward", "backward", "schedule", "optimizer", "record")
# Pairs of rows at most, in a batch and with each near it: those of 256 rows, all. Seconds.
_TRIED = 1 << 16
PROVEN, FITS, UNKNOWN = "proven", "fits", "unknown"


@dataclass(frozen=True, slots=True)
class Cause:
    """What explains a difference, and how sure that is: proven (its bits were
    made again), fits, or unknown."""

    name: str
    certainty: str
    words: str
    operation: dict[str, Any] | None = None
    microbatch: int | None = None
    batch: Batch | None = None  # The one that made the bits, where it is another.
    tensor: blame.Tensor | None = None  # The gradient that made them.

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "certainty": self.certainty, "detail": self.words}


@dataclass(frozen=True, slots=True)
class Question:
    """A step as this machine takes it, and the entry, made elsewhere, that is to be explained."""

    again: Again
    found: dict[str, Any]
    target: dict[str, Any]
    stored: Groups | None  # The other side's state after the step, or its weights.
    # Of the two recipes that differ, with the other side's value under "b".
    fields: list[dict[str, Any]]
    other: Recipe | None  # The recipe that made the entry, where it is another.
    states: list[tuple[str, Groups]]  # Earlier states, in words and arrays.

    @property
    def phase(self) -> str:
        return phase_of(differing(self.found, self.target))


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """One thing that may have been otherwise; `changed` gives what Again.take is to be told."""

    name: str
    words: str
    changed: Callable[[Around], dict[str, Any]]
    under: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext
    passing: tuple[str, ...] = ()  # Fields of the entry that the experiment says nothing of.
    operation: dict[str, Any] | None = None  # Known without a trace.
    microbatch: int | None = None
    tensor: blame.Tensor | None = None


def phase_of(fields: list[str]) -> str:
    """The part of a step at which entries begin to differ; "record" where
    what it computed is the same."""
    if "batch" in fields:
        return "order"
    if "state" not in fields:
        return "record"
    if {"loss", "segments"} & set(fields):
        return "forward"
    if {"grad_norm", "microbatches"} & set(fields):
        return "backward"
    return "schedule" if "lr" in fields else "optimizer"


def proven(question: Question, hypotheses: Iterator[Hypothesis], tried: list[str]) -> Cause | None:
    """The first hypothesis that makes the other side's bits; `tried` gets the
    names of all that were tried."""
    for one in hypotheses:
        _note(tried, one)
        entry = experiment(question, one)
        if entry and not set(differing(entry, question.target)) - set(one.passing):
            operation = one.operation or operation_of(question, one)
            microbatch = (
                one.microbatch if operation is None else operation.get("microbatch", one.microbatch)
            )
            batch = one.changed(tracing.plain).get("batch")
            return Cause(one.name, PROVEN, one.words, operation, microbatch, batch, one.tensor)
    return None


def _note(tried: list[str], hypothesis: Hypothesis) -> None:
    if hypothesis.name not in tried:
        tried.append(hypothesis.name)


def experiment(question: Question, hypothesis: Hypothesis) -> dict[str, Any]:
    """The entry that the step makes under a hypothesis; empty where it is not finite."""
    try:
        with hypothesis.under():
            return question.again.take(**hypothesis.changed(tracing.plain)).entry
    except NotFinite:
        return {}


def operation_of(question: Question, hypothesis: Hypothesis) -> dict[str, Any] | None:
    """The first operation at which the step and the step under the hypothesis part."""
    recipe = hypothesis.changed(tracing.plain).get("recipe", question.again.recipe)
    if recipe.train.arithmetic != question.again.recipe.train.arithmetic:
        return {
            "name": "every operation: another arithmetic",
            "phase": question.phase,
            "microbatch": None,
        }
    plain, other = tracing.Trace(), tracing.Trace()
    question.again.take(ops=question.again.operations(plain), watch=plain.watch)
    with hypothesis.under():
        changed = {"ops": question.again.operations(other), **hypothesis.changed(other)}
        question.again.take(watch=other.watch, **changed)
    fork = tracing.parting(plain, other)
    return fork.as_json() if fork else None


def hypotheses(question: Question) -> Iterator[Hypothesis]:
    """What may be the cause, the likeliest first, by the phase at which the entries part."""
    phase = question.phase
    if phase == "order":
        yield from _batches(question)
    if phase in ("order", "forward"):
        yield from _stale(question, ("", "weights"))
    if phase == "schedule":
        yield from _rates(question)
    if phase in ("optimizer", "schedule"):
        yield from _constants(question)
        yield from _stale(question, ("optimizer's state",))
    if phase in ("forward", "backward") or (phase == "optimizer" and question.again.native):
        yield from _denormals(question)
    if phase in ("forward", "backward", "optimizer") and not question.again.native:
        yield from _torch(question)


# ---- the recipe --------------------------------------------------------------------------------


def recipes(question: Question) -> Iterator[Hypothesis]:
    """One field of the other recipe in ours, and then all of them: which makes the difference?"""
    for one in question.fields:
        recipe = with_field(question.again.recipe, one["field"], one["b"])
        if recipe is not None:
            words = f"{one['field']} is {one['a']} in one recipe and {one['b']} in the other, and that alone does it"
            yield _under(recipe, words)
    if question.other is not None and _same_state(question, question.other):
        names = ", ".join(one["field"] for one in question.fields)
        yield _under(
            question.other,
            f"the recipes differ in {names}, and no single one of these does it alone",
        )


def _same_state(question: Question, recipe: Recipe) -> bool:
    """Whether a recipe's state has the tensors of ours."""
    own, vocabulary = question.again.recipe, question.again.inputs.vocabulary
    return counts.state(recipe, vocabulary) == counts.state(own, vocabulary)


def _under(recipe: Recipe, words: str) -> Hypothesis:
    return Hypothesis("recipe", words, lambda around: {"recipe": recipe})


def with_field(recipe: Recipe, name: str, value: Any) -> Recipe | None:
    """The recipe with one field changed that is of training or of a function of the
    model; None for other fields."""
    section, _, key = name.partition(".")
    if name in ("train.frozen", "optimizer.kind"):
        return None  # It would need another state.
    of_model = name in ("model.rope_theta", "model.norm_epsilon", "model.attention")
    if of_model or section in ("train", "optimizer", "record"):
        inner = getattr(recipe, section).model_copy(update={key: value})
        return recipe.model_copy(update={section: inner})
    return recipe.model_copy(update={"seed": value}) if name == "seed" else None


# ---- the batch ---------------------------------------------------------------------------------


def _batches(question: Question) -> Iterator[Hypothesis]:
    """Rows of the batch in another place, or rows of a step near it,
    that have the recorded root."""
    again, wanted = question.again, bytes.fromhex(question.target["batch"])
    recipe, batch = again.recipe, again.batch
    leaves = row_leaves(batch, recipe)
    rows, tree = range(len(leaves)), merkle.Levels(leaves)
    for one, other in itertools.islice(_pairs(len(leaves)), _TRIED):
        if tree.root_with({one: leaves[other], other: leaves[one]}) == wanted:
            order = list(rows)
            order[one], order[other] = other, one
            words = (
                f"rows {one} and {other} of the batch were swapped: {_sequences(batch, one, other)}"
            )
            yield _batch("swapped", words, _taken(batch, batch, order), again, one)
    for step in range(max(again.recipe.first + 1, again.number - 2), again.number + 3):
        if step == again.number or recipe.schedule.at(step) != recipe.schedule.at(again.number):
            continue  # Of another phase it has other rows.
        near = again.batch_of(step)
        theirs = row_leaves(near, recipe)
        if merkle.root(theirs) == wanted:
            words = f"the batch is that of step {step}"
            yield _batch(
                "batch of another step",
                words,
                _taken(near, near, list(rows), again.number),
                again,
                0,
            )
        every = ((row, row) for row in rows)
        crossed = (
            pair for one, other in _pairs(len(leaves)) for pair in ((one, other), (other, one))
        )
        for row, other in itertools.islice(itertools.chain(every, crossed), _TRIED):
            if tree.root_with({row: theirs[other]}) == wanted:
                mixed = _taken(batch, near, [other if row == r else None for r in rows])
                words = f"row {row} held {near.named(other)}, row {other} of step {step}"
                yield _batch("another row", words, mixed, again, row)


def _pairs(count: int) -> Iterator[tuple[int, int]]:
    """Every two of so many rows, those next to each other first."""
    return ((one, one + apart) for apart in range(1, count) for one in range(count - apart))


def _batch(name: str, words: str, batch: Batch, again: Again, row: int) -> Hypothesis:
    return Hypothesis(
        name, words, lambda around: {"batch": batch}, microbatch=row // again.phase.microbatch
    )


def _sequences(batch: Batch, *rows: int) -> str:
    return ", ".join(f"{batch.named(row)} belongs in row {row}" for row in rows)


def _taken(
    batch: Batch, other: Batch, order: list[int] | list[int | None], step: int | None = None
) -> Batch:
    """A batch of rows: row r is row order[r] of another batch, or, for None, as it was."""
    pick = [(batch, row) if place is None else (other, place) for row, place in enumerate(order)]
    return dataclasses.replace(
        batch,
        step=batch.step if step is None else step,
        blocks_B=np.array([one.blocks_B[row] for one, row in pick]),
        starts_B=np.array([one.starts_B[row] for one, row in pick]),
        firsts_B=np.array([one.firsts_B[row] for one, row in pick]),
        epochs_B=np.array([one.epochs_B[row] for one, row in pick]),
        sources_B=[one.sources_B[row] for one, row in pick],
        tokens_BS=np.stack([one.tokens_BS[row] for one, row in pick]),
        documents_BS=np.stack([one.documents_BS[row] for one, row in pick]),
    )


# ---- the state before --------------------------------------------------------------------------


def _stale(question: Question, parts: tuple[str, ...]) -> Iterator[Hypothesis]:
    """The state before the step, or its weights or what the optimizer keeps alone, were those of
    another step, or what it keeps was zero."""
    before = question.again.before
    weights = {"weights": before["weights"]}
    kept = {group: arrays for group, arrays in before.items() if group != "weights"}
    if "optimizer's state" in parts:
        zero = {
            group: {name: np.zeros_like(a) for name, a in arrays.items()}
            for group, arrays in kept.items()
        }
        told = "the optimizer's state before the step was zero: it was not restored"
        yield Hypothesis(
            "optimizer's state lost", told, lambda around: {"before": {**zero, **weights}}
        )
    for words, old in question.states:
        for part in parts:
            mixed = {**old, **{"optimizer's state": weights, "weights": kept, "": {}}[part]}
            told = (
                f"the {part or 'state'} before the step: {words}, not what the step before it left"
            )
            yield Hypothesis("stale state", told, lambda around, mixed=mixed: {"before": mixed})


# ---- schedule and optimizer --------------------------------------------------------------------


def _told(question: Question, name: str, words: str, **told: float) -> Hypothesis:
    """The optimizer was told something else than the step says."""
    recipe = with_update(question.again.recipe, **told)
    return Hypothesis(
        name, words, lambda around: {"recipe": recipe}, passing=("lr",) if "lr" in told else ()
    )


def _rates(question: Question) -> Iterator[Hypothesis]:
    """The recorded learning rate itself; in words, what it would be the rate of."""
    schedule, step, wanted = (
        question.again.recipe.schedule,
        question.again.number,
        question.target["lr"],
    )
    lr, own = digests.bits_float(wanted), digests.bits_float(question.found["lr"])
    words = f"the learning rate was {lr!r}, and the recipe's schedule gives {own!r}"
    for other in range(max(0, step - 3), min(step + 3, schedule.steps) + 1):
        if other != step and digests.float_bits(schedule.learning_rate(other)) == wanted:
            words += (
                f": it is that of step {other}, so the schedule was {abs(step - other)} step(s) off"
            )
    for kind in ("cosine", "linear", "wsd"):
        if kind != schedule.at(step).schedule:
            with_kind = dataclasses.replace(schedule.at(step), schedule=kind)
            if digests.float_bits(learning_rate(with_kind, step - schedule.begun(step))) == wanted:
                words += f"; a {kind} schedule gives it"
    yield _told(question, "learning rate", words, lr=lr)


# Values in use elsewhere: the defaults of PyTorch, of GPT-3 and Llama, of T5, and none at all.
_USUAL = {
    "beta1": (0.9, 0.95, 0.8, 0.99, 0.0),
    "beta2": (0.999, 0.99, 0.95, 0.98, 0.9, 0.9999),
    "epsilon": (1e-8, 1e-6, 1e-5, 1e-7, 1e-10, 1e-15, 1e-12),
    "weight_decay": (0.0, 0.01, 0.1, 0.05, 0.2, 1e-4),
    "momentum": (0.95, 0.9, 0.99, 0.8, 0.0),
}


def _constants(question: Question) -> Iterator[Hypothesis]:
    """The optimizer with another constant that is in use elsewhere, another count
    of steps, another clipping."""
    recipe, step = question.again.recipe, question.again.number
    train, own = recipe.train, recipe.optimizer.model_dump()
    for name in (name for name in _USUAL if name in own):
        for value in (value for value in _USUAL[name] if value != own[name]):
            words = f"the optimizer took {name} = {value}, and the recipe says {own[name]}"
            changed = with_constant(recipe, name, value)
            yield Hypothesis(name, words, lambda around, changed=changed: {"recipe": changed})
    for other in (step - 1, step + 1):
        if other:
            yield _told(
                question,
                "bias correction",
                f"the optimizer counted step {step} as {other}",
                step=other,
            )
    norm = digests.bits_float(question.target["grad_norm"])
    if norm > train.clip:
        yield _told(question, "clipping", "the gradients were not clipped", clip=1.0)
        words = (
            "the gradients were clipped by clip / (norm + 1e-6), as torch's clip_grad_norm_ does"
        )
        yield _told(question, "clipping", words, clip=train.clip / (norm + 1e-6))


# ---- the arithmetic ----------------------------------------------------------------------------


@contextlib.contextmanager
def _flushing() -> Iterator[None]:
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _denormals(question: Question) -> Iterator[Hypothesis]:
    """Results flushed to zero where they are denormal; only if there are any."""
    again = question.again
    if again.native:
        yield Hypothesis(
            "denormals", "denormal numbers were flushed to zero", lambda around: {}, _flushing
        )
        return
    census = tracing.Denormals()
    again.take(ops=again.operations(census))
    operations = [
        *((name, tracing.only(name, tracing.flushed)) for name in census.found),
        ("", tracing.flushed),
    ]
    for name, around in operations if census.found else ():
        of = (
            f"the denormal results of {name} ({census.found[name]:,} in this step)"
            if name
            else "all denormal results"
        )
        yield Hypothesis("denormals", f"{of} were flushed to zero", _through(again, around))


def _through(again: Again, inner: Around) -> Callable[[Around], dict[str, Any]]:
    """Every operation through `inner`, with the tracer, if any, outside of it."""

    def changed(outer: Around) -> dict[str, Any]:
        return {
            "ops": again.operations(
                lambda name, f, args: outer(name, tracing.wrapped(inner, name, f), args)
            )
        }

    return changed


_EXPONENTIALS = ("swiglu", "attention", "loss")


def _torch(question: Question) -> Iterator[Hypothesis]:
    """One operation, or all of the model's, computed by PyTorch: its exp, its order of sums."""
    names = ("swiglu", "attention", "loss", "norm", "linears", "linear_add")
    whole = tuple(name for name in tracing.MODEL if name != "embed")  # It copies.
    for chosen in [*((name,) for name in names), whole]:
        what = f"the operation {chosen[0]}" if len(chosen) == 1 else "the whole model"
        exp = ", whose exp is another polynomial" if set(chosen) & set(_EXPONENTIALS) else ""
        makes = f"torch {torch.__version__} makes these bits here"
        words = f"{what} was computed by PyTorch's own arithmetic{exp} ({makes})"
        yield Hypothesis("another arithmetic", words, _with_torch(question.again, chosen))
    words = "exp was another polynomial: swiglu, attention and loss are bit for bit PyTorch's"
    yield Hypothesis("another arithmetic", words, _with_torch(question.again, _EXPONENTIALS))


def _with_torch(again: Again, chosen: tuple[str, ...]) -> Callable[[Around], dict[str, Any]]:
    def changed(around: Around) -> dict[str, Any]:
        ops = again.operations(around)
        for name in chosen:
            function = _torch_attention if name == "attention" else getattr(native, name)
            vars(ops)[name] = tracing.wrapped(around, name, function)
        return {"ops": ops}

    return changed


def _torch_attention(q: Any, k: Any, v: Any, rotary: Any, first: Any) -> Any:
    """Torch wants the angles of both halves of a head."""
    cos, sin = (torch.cat((one, one), dim=-1) for one in rotary)
    return native.attention(q, k, v, (cos, sin), first).contiguous()


# ---- this machine ------------------------------------------------------------------------------


def machine(question: Question, tried: list[str]) -> Cause | None:
    """Whether this machine gives the same bits by independent code: each other
    instruction set, with one thread."""
    for one in _paths(question.again):
        _note(tried, one)
        entry = experiment(question, one)
        if differing(entry, question.found):
            right = not differing(entry, question.target)
            words = f"{one.words}: {'the record is right' if right else 'neither gives the recorded bits'}"
            return Cause(one.name, PROVEN, words, operation_of(question, one))
    return None


def _paths(again: Again) -> Iterator[Hypothesis]:
    if again.native:
        return  # Genesis fixes instruction set and threads of native bits.
    threads = again.recipe.placement.threads or cores()
    own = library.isa(library.kernels())
    for name in library.KNOWN:
        if name == own or (name == "software" and own != "scalar"):
            continue  # Software fma is many times slower and differs from scalar in nothing else.
        try:
            with tracing.instruction_set(name, threads):
                pass
        except MachineLacks:
            continue
        words = f"this machine gives other bits with {own} and {threads} thread(s) than with {name} and one"
        yield Hypothesis("this machine", words, lambda around: {}, _on(name, threads))


def _on(name: str, threads: int) -> Callable[[], contextlib.AbstractContextManager[None]]:
    return lambda: tracing.instruction_set(name, threads)
