"""The recipe's phases: tables [[phase]], each so many steps that are taken alike.

What a phase does not set is the plain field's: train.batch, model.context, the weights of the
sources. Without any phase the plain fields are the one phase of the run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from pellucid import learning_rates
from pellucid.learning_rates import SCHEDULES
from pellucid.objectives import Registered
from pellucid.schedule import Phase as Planned
from pellucid.sections import Count, Fraction, Name, Natural, Positive, Section, unfit

PLAIN = "train"  # The name of the one phase of a run that has no tables.


class Phase(Section):
    """So many steps that are taken alike."""

    name: Name
    steps: Count
    batch: Count | None = None  # Rows per step.
    microbatch: Count | None = None
    # Targets of a row; it divides data.block.
    context: Annotated[int, Field(ge=2, le=2**20)] | None = None
    rope_theta: Positive | None = None
    lr: Positive | None = None
    schedule: learning_rates.Name | None = None  # Over the phase's own steps.
    warmup: Natural | None = None  # Steps from the phase's begin.
    decay: Natural | None = None  # The last steps of the phase, for "wsd".
    final_lr: Fraction | None = None
    # How often each source is seen; those not named are not.
    weights: dict[Name, Natural] | None = None
    # Rows of each source among their sum, in place of weights.
    shares: dict[Name, Natural] | None = None
    # "again": with a whole pass.
    objective: Registered | None = None
    frozen: Annotated[tuple[str, ...], Field(max_length=64)] | None = (
        None  # Of the weights that train.frozen does not name.
    )
    start: dict[Name, Literal["continue", "again"]] = Field(default_factory=dict)


def planned(phase: Phase | None, recipe: Any) -> Planned:
    """A phase with all its fields; for None the one that the plain fields are."""
    sources, model, train = recipe.data.sources, recipe.model, recipe.train

    def of(name: str, section: Any) -> Any:
        own = getattr(phase, name, None)
        return getattr(section, name) if own is None else own

    names, schedule = [source.name for source in sources], of("schedule", train)
    weights = {source.name: source.weight for source in sources}
    shares: Mapping[str, int] = {}
    start: Mapping[str, str] = {}
    if phase is not None:
        weights = dict(phase.weights) if phase.weights is not None else weights
        shares, start = phase.shares or {}, phase.start
    return Planned(
        name=phase.name if phase else PLAIN,
        **{
            name: of(name, train)
            for name in ("steps", "batch", "microbatch", "lr", "warmup", "final_lr")
        },
        **{name: of(name, model) for name in ("context", "rope_theta")},
        schedule=schedule,
        # A decay belongs to "wsd": another schedule in a phase does not take the plain field's.
        decay=of("decay", train)
        if SCHEDULES[schedule].stable or phase is None
        else phase.decay or 0,
        weights=() if shares else tuple(weights.get(name, 0) for name in names),
        shares=tuple(shares.get(name, 0) for name in names) if shares else (),
        again=tuple(start.get(name) == "again" for name in names),
        objective=of("objective", recipe),
        frozen=train.frozen + ((phase.frozen or ()) if phase else ()),
    )


def check(tables: Sequence[Phase], names: Sequence[str], steps: int) -> None:
    """Raises the error of tables that do not fit each other or the sources:
    ValueError, or one with advice."""
    titles = [phase.name for phase in tables]
    if len(set(titles)) != len(titles):
        raise ValueError("two phases have the same name")
    total = sum(phase.steps for phase in tables)
    if tables and total != steps:
        raise unfit("train.steps", total, f"is {steps}, and the phases have {total} steps")
    for phase in tables:
        if phase.weights is not None and phase.shares is not None:
            raise ValueError(
                f"the phase {phase.name} has both weights and shares; remove weights or shares"
            )
        for field in ("weights", "shares", "start"):
            for name in getattr(phase, field) or {}:
                if name not in names:
                    known = ", ".join(names)
                    raise ValueError(
                        f"phase.{phase.name}.{field} names {name}, "
                        f"which is not a source (sources: {known})"
                    )


def _divisor(number: int, near: int) -> int:
    """The divisor that is nearest, of two as near the smaller one; looked for 2^16 numbers far."""
    near = min(near, number)
    tried = (one for far in range(1 << 16) for one in (near - far, near + far) if one > 0)
    return next((one for one in tried if number % one == 0), math.gcd(number, near))


def _stable() -> str:
    """The schedules that take a decay, in words."""
    return " or ".join(f'"{name}"' for name, decay in SCHEDULES.items() if decay.stable)


def check_planned(phase: Planned, block: int, alone: bool) -> None:
    """Raises the error of a phase with all its fields: ValueError, or one with advice. alone: the
    plain fields are the one phase."""
    name, steps = phase.name, phase.steps
    section, of = ("train", "") if alone else (f"phase.{name}", f" of the phase {name}")
    if phase.batch % phase.microbatch:
        detail = f"is {phase.microbatch}, but batch = {phase.batch}{of} is not a multiple of it"
        raise unfit(f"{section}.microbatch", _divisor(phase.batch, phase.microbatch), detail)
    if phase.decay > steps:
        raise unfit(
            f"{section}.decay", steps // 5, f"is {phase.decay}, longer than steps = {steps}{of}"
        )
    if phase.warmup + phase.decay > steps:
        detail = (
            f"is {phase.warmup}: with decay = {phase.decay} that is longer than steps = {steps}{of}"
        )
        raise unfit(f"{section}.warmup", min(steps // 10, steps - phase.decay), detail)
    if phase.decay and not SCHEDULES[phase.schedule].stable:
        raise unfit(
            f"{section}.decay",
            0,
            f"is {phase.decay}, and a decay belongs to schedule = {_stable()}",
        )
    if block % phase.context:
        key = "data.block" if alone else f"{section}.context"
        value = (
            -(-block // phase.context) * phase.context if alone else math.gcd(block, phase.context)
        )
        raise unfit(
            key,
            value,
            f"does not fit: a block of {block} targets is no multiple "
            f"of the context {phase.context}",
        )
    if not any(phase.shares or phase.weights):
        reason = (
            "every source has weight 0" if alone else f"no source has a row in the phase {name}"
        )
        raise ValueError(f"{reason}, so there is nothing to train on")
