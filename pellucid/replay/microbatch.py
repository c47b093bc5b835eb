"""The audit of one microbatch: the state before its step, forward and backward, and
its leaf under the ledger's root.

It proves the tokens, the loss and the gradient of that microbatch. What the step made of the
gradients (their sum, the clipping, the update) only the whole step proves."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import FormatInvalid, MicrobatchUncommitted, MicrobatchUnknown, StepUnknown
from pellucid.inputs import Inputs
from pellucid.record import entries
from pellucid.record.digests import is_digest
from pellucid.record.entries import Microbatch
from pellucid.recorder import microbatches_in
from pellucid.replay.checked import Checked
from pellucid.replay.materialise import Watch, materialise, require_step
from pellucid.store import layout, metrics
from pellucid.train.state import State
from pellucid.train.step import microbatch_of, microbatch_step, objective_of_step, rows_of


@dataclass(frozen=True, slots=True)
class Proof(Checked):
    """What the audit of one microbatch found."""

    step: int
    microbatch: int
    of: int  # Microbatches in the step.
    root: str  # That the ledger records over the step's microbatches.
    expected: str  # The leaf published …
    actual: str  # … and the one computed here.
    seconds: float  # Of the microbatch alone …
    materialise_seconds: float  # … and of having the state before its step.


def require_committed(inputs: Inputs, step: int) -> None:
    """Raises MicrobatchUncommitted where the ledger binds no microbatch's gradient."""
    commitment = inputs.recipe.record.commitment
    if commitment != "microbatches":
        raise MicrobatchUncommitted(path=inputs.folder, found=commitment, step=step)


def count_of(inputs: Inputs, step: int) -> int:
    """Microbatches of a step."""
    phase = inputs.recipe.schedule.at(step)
    return phase.batch // phase.microbatch


def audit_microbatch(inputs: Inputs, step: int, index: int, watch: Watch) -> Proof:
    """Audit one microbatch of a step.

    Raises StepUnknown, MicrobatchUncommitted, MicrobatchUnknown, and what materialising
    the state before it raises."""
    require_step(inputs, step, taken=True)
    require_committed(inputs, step)
    if not 0 <= index < count_of(inputs, step):
        raise MicrobatchUnknown(index=index, step=step, count=count_of(inputs, step))
    rows = published(inputs.folder, step)
    if not rows:
        detail = (
            "a running run writes these rows at every anchor; a finished run without them is "
            "incomplete"
        )
        raise StepUnknown(what=f"Step {step} of metrics/microbatches", detail=detail)
    started = time.perf_counter()
    state = materialise(inputs, step - 1, watch)
    ready = time.perf_counter()
    computed = taken_again(inputs, state, index)
    return _compare(
        inputs, step, index, rows, computed, (time.perf_counter() - ready, ready - started)
    )


def taken_again(inputs: Inputs, state: State, index: int) -> Microbatch:
    """One microbatch of the step after the state's. Leaves its gradients in the model."""
    recipe = inputs.recipe
    batch, phase = inputs.batch(state.step + 1), recipe.schedule.at(state.step + 1)
    state.model.zero_grad(set_to_none=True)
    step_objective = objective_of_step(batch, phase)
    result = microbatch_step(state.model, batch, index, recipe, phase, step_objective)
    return microbatch_of(result, step_objective.use.of(rows_of(index, phase)), recipe)


def published(folder: Path, step: int) -> list[Microbatch]:
    """What the metrics say of a step's microbatches; nothing before the rows are
    written. Raises FormatInvalid."""
    rows = [tuple(row.values()) for row in metrics.of_step(folder, "microbatches", step)]
    if not all(_sound(*row) for row in rows):
        path = folder / layout.METRICS / "microbatches"
        raise FormatInvalid(path=path, detail=f"has rows of step {step} that are not microbatches")
    return microbatches_in(rows)


def _sound(*row: object) -> bool:
    """Whether a row can be a leaf at all: no nulls, nothing negative, hex."""
    _, index, tokens, weight, loss_sum, objective, root = row
    counts = all(type(number) is int and number >= 0 for number in (index, tokens, weight))
    sums = type(loss_sum) is float and type(objective) is float
    return counts and sums and (root == "" or is_digest(root))


def _compare(
    inputs: Inputs,
    step: int,
    index: int,
    rows: list[Microbatch],
    computed: Microbatch,
    seconds: tuple[float, float],
) -> Proof:
    root, problems = inputs.recorded().step(step)["microbatches"], []
    published_root = entries.microbatches_root(rows).hex()
    if published_root != root:
        table = f"{layout.METRICS}/microbatches"
        problems.append(
            f"step {step}: {table} gives the root {published_root}, and the ledger records {root}"
        )
    expected = _leaf(index, rows[index]) if index < len(rows) else ""
    for field in ("tokens", "weight", "loss_sum", "objective", "gradient_root") if expected else ():
        shown = [_shown(getattr(row, field)) for row in (computed, rows[index])]
        if shown[0] != shown[1]:
            problems.append(
                f"step {step}, microbatch {index}: {field} is {shown[0]}, recorded {shown[1]}"
            )
    actual = _leaf(index, computed)
    return Proof(
        step,
        index,
        count_of(inputs, step),
        root,
        expected,
        actual,
        *seconds,
        problems=tuple(problems),
    )


def _leaf(index: int, row: Microbatch) -> str:
    return row.leaf(index).hex()


def _shown(value: float | bytes) -> str:
    return value.hex() if isinstance(value, bytes | float) else str(value)
