"""Known causes, each tried as an experiment: the step is taken again with one thing changed, and
where that makes the other side's entry bit for bit, the cause is proven."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from pellucid import counts
from pellucid.errors import MachineLacks
from pellucid.kernels import library
from pellucid.learning_rates import SCHEDULES
from pellucid.operations import native
from pellucid.recipe import Recipe
from pellucid.record import digests
from pellucid.replay import tracing
from pellucid.replay.again import Again, with_constant, with_update
from pellucid.replay.batches import batches
from pellucid.replay.experiments import (
    PROVEN,
    Cause,
    Hypothesis,
    Question,
    experiment,
    note,
    operation_of,
)
from pellucid.replay.ledgers import differing
from pellucid.replay.tracing import Around
from pellucid.schedule import learning_rate
from pellucid.train.processes import cores


def hypotheses(question: Question) -> Iterator[Hypothesis]:
    """What may be the cause, the likeliest first, by the phase at which the entries part."""
    phase = question.phase
    if phase == "order":
        yield from batches(question)
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
    for field in question.fields:
        recipe = with_field(question.again.recipe, field["field"], field["b"])
        if recipe is not None:
            description = (
                f"{field['field']} is {field['a']} in one recipe and {field['b']} in the other, "
                "which alone explains it"
            )
            yield _under(recipe, description)
    if question.other is not None and _same_state(question, question.other):
        names = ", ".join(field["field"] for field in question.fields)
        description = f"the recipes differ in {names}, and no single field explains the difference"
        if len(question.fields) == 1:
            description = f"the recipes differ in {names} alone"
        yield _under(question.other, description)


def _same_state(question: Question, recipe: Recipe) -> bool:
    """Whether a recipe's state has the tensors of ours."""
    own, vocabulary = question.again.recipe, question.again.inputs.vocabulary
    return counts.state(recipe, vocabulary) == counts.state(own, vocabulary)


def _under(recipe: Recipe, description: str) -> Hypothesis:
    return Hypothesis("recipe", description, lambda around: {"recipe": recipe})


def with_field(recipe: Recipe, name: str, value: Any) -> Recipe | None:
    """The recipe with one field changed that is of training or of a function of the
    model; None for other fields."""
    section, _, key = name.partition(".")
    if name in ("train.frozen", "optimizer.kind"):
        return None  # It would need another state.
    of_model = name in ("model.rope_theta", "model.norm_epsilon", "model.attention")
    if of_model or section in ("train", "optimizer", "objective", "record"):
        inner = getattr(recipe, section).model_copy(update={key: value})
        return recipe.model_copy(update={section: inner})
    return recipe.model_copy(update={"seed": value}) if name == "seed" else None


# ---- the state before --------------------------------------------------------------------------


def _stale(question: Question, parts: tuple[str, ...]) -> Iterator[Hypothesis]:
    """The state before the step, or its weights or what the optimizer keeps alone, were those of
    another step, or what it keeps was zero."""
    before = question.again.before
    weights = {"weights": before["weights"]}
    optimizer = {group: arrays for group, arrays in before.items() if group != "weights"}
    if "optimizer's state" in parts:
        zero = {
            group: {name: np.zeros_like(a) for name, a in arrays.items()}
            for group, arrays in optimizer.items()
        }
        description = "the optimizer's state before the step was zero: it was not restored"
        yield Hypothesis(
            "optimizer's state lost", description, lambda around: {"before": {**zero, **weights}}
        )
    for state_name, old in question.states:
        for part in parts:
            mixed = {**old, **{"optimizer's state": weights, "weights": optimizer, "": {}}[part]}
            description = (
                f"the {part or 'state'} before the step: {state_name}, not the state that the "
                "step before it left"
            )
            yield Hypothesis(
                "stale state", description, lambda around, mixed=mixed: {"before": mixed}
            )


# ---- schedule and optimizer --------------------------------------------------------------------


def _overridden(question: Question, name: str, description: str, **overrides: float) -> Hypothesis:
    """The optimizer was told something else than the step says."""
    recipe = with_update(question.again.recipe, **overrides)
    return Hypothesis(
        name,
        description,
        lambda around: {"recipe": recipe},
        passing=("lr",) if "lr" in overrides else (),
    )


def _rates(question: Question) -> Iterator[Hypothesis]:
    """The recorded learning rate itself; in words, what it would be the rate of."""
    schedule, step, recorded = (
        question.again.recipe.schedule,
        question.again.number,
        question.target["lr"],
    )
    lr, own = digests.bits_float(recorded), digests.bits_float(question.found["lr"])
    description = f"the learning rate was {lr!r}, and the recipe's schedule gives {own!r}"
    for near in range(max(0, step - 3), min(step + 3, schedule.steps) + 1):
        if near != step and digests.float_bits(schedule.learning_rate(near)) == recorded:
            description += (
                f": it is that of step {near}, so the schedule was {abs(step - near)} step(s) off"
            )
    for kind in SCHEDULES:
        if kind != schedule.at(step).schedule:
            with_kind = dataclasses.replace(schedule.at(step), schedule=kind)
            if (
                digests.float_bits(learning_rate(with_kind, step - schedule.begun(step)))
                == recorded
            ):
                description += f"; a {kind} schedule gives it"
    yield _overridden(question, "learning rate", description, lr=lr)


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
            description = f"the optimizer took {name} = {value}, and the recipe says {own[name]}"
            changed = with_constant(recipe, name, value)
            yield Hypothesis(name, description, lambda around, changed=changed: {"recipe": changed})
    for count in (step - 1, step + 1):
        if count:
            yield _overridden(
                question,
                "bias correction",
                f"the optimizer counted step {step} as {count}",
                step=count,
            )
    norm = digests.bits_float(question.target["grad_norm"])
    if norm > train.clip:
        yield _overridden(question, "clipping", "the gradients were not clipped", clip=1.0)
        description = (
            "the gradients were clipped by clip / (norm + 1e-6), as torch's clip_grad_norm_ does"
        )
        yield _overridden(question, "clipping", description, clip=train.clip / (norm + 1e-6))


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
    model = tuple(name for name in tracing.MODEL if name != "embed")  # It copies.
    for chosen in [*((name,) for name in names), model]:
        subject = f"the operation {chosen[0]}" if len(chosen) == 1 else "the whole model"
        exp = ", whose exp is another polynomial" if set(chosen) & set(_EXPONENTIALS) else ""
        makes = f"torch {torch.__version__} makes these bits here"
        description = f"{subject} was computed by PyTorch's own arithmetic{exp} ({makes})"
        yield Hypothesis("another arithmetic", description, _with_torch(question.again, chosen))
    description = "exp was another polynomial: swiglu, attention and loss are bit for bit PyTorch's"
    yield Hypothesis("another arithmetic", description, _with_torch(question.again, _EXPONENTIALS))


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
    cos, sin = (torch.cat((half, half), dim=-1) for half in rotary)
    return native.attention(q, k, v, (cos, sin), first).contiguous()


# ---- this machine ------------------------------------------------------------------------------


def machine(question: Question, tried: list[str]) -> Cause | None:
    """Whether this machine gives the same bits by independent code: each other
    instruction set, with one thread."""
    for hypothesis in _paths(question.again):
        note(tried, hypothesis)
        entry = experiment(question, hypothesis)
        if differing(entry, question.found):
            reproduced = not differing(entry, question.target)
            result = "the record is right" if reproduced else "neither gives the recorded bits"
            description = f"{hypothesis.description}: {result}"
            return Cause(hypothesis.name, PROVEN, description, operation_of(question, hypothesis))
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
        description = (
            f"this machine gives other bits with {own} and {threads} thread(s) than with {name} "
            "and one"
        )
        yield Hypothesis("this machine", description, lambda around: {}, _on(name, threads))


def _on(name: str, threads: int) -> Callable[[], contextlib.AbstractContextManager[None]]:
    return lambda: tracing.instruction_set(name, threads)
