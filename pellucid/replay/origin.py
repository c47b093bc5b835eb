"""Where a fork begins in the data: computed from its parent, to write it and to check it."""

from __future__ import annotations

from pellucid.data.order import Order
from pellucid.inputs import Inputs
from pellucid.recipe import Recipe
from pellucid.schedule import Start, Stretch, stretch_of

# Fields of a recipe, and of a genesis, that say where a fork begins.
PLACE = tuple(f"fork.{name}" for name in ("parent", "step", "state", "tokens", "cursors", "rows"))
GENESIS = ("recipe_version", "step", "tokens", "parent")


def start(inputs: Inputs, own: Order, step: int) -> Start:
    """Where the first step of a fork begins, from the parent's inputs and the fork's own order.

    If the fork mixes the same sources in rows of the same context, it takes the very rows that the
    parent would take next. Otherwise it begins with the targets behind those that the parent saw.
    The cursors and rows with which `own` begins have no effect.
    """
    parent = inputs.order
    following, cursors = stretch_of(parent.stretches, step + 1), seen(inputs, step)
    if _kind(own.stretches[0], own, step) == _kind(following, parent, step):
        return Start(following.cursors, following.row(step + 1))
    if _rolled_back_to(inputs, step) or own.schedule.begun(step + 1) != step:
        return Start(cursors)
    return Start(own.route.entered(step + 1, cursors))


def seen(inputs: Inputs, step: int) -> tuple[int, ...]:
    """The targets of each source that the parent saw before a fork after a step begins; behind a
    rollback to this very step, what the rollback passed over too."""
    stretches = inputs.order.stretches
    if _rolled_back_to(inputs, step):
        return stretch_of(stretches, step + 1).cursors
    return stretch_of(stretches, step).cursors_after(step)


def mistakes(
    fork: Recipe, own: Order | None, parent: Recipe, inputs: Inputs | None
) -> list[tuple[str, object, int]]:
    """Each field that says where a fork begins and is not what the parent gives: its dotted key,
    the fork's value and the right one.

    own is the fork's order and inputs are the parent's. If one is None, or the sources differ,
    only the tokens are compared.
    """
    fields, step = fork.fields(), fork.first
    given = {"fork.tokens": parent.schedule.tokens(step)}
    names = [source.name for source in parent.data.sources]
    if own and inputs and names == [source.name for source in fork.data.sources]:
        begun = start(inputs, own, step)
        for name, cursor in zip(names, begun.cursors, strict=True):
            given[f"fork.cursors.{name}"] = cursor
        given["fork.rows"] = begun.rows
    return [(key, fields[key], value) for key, value in given.items() if fields[key] != value]


def _rolled_back_to(inputs: Inputs, step: int) -> bool:
    span = inputs.history.at(step + 1)
    return span.branch > 0 and span.after == step


def _kind(stretch: Stretch, order: Order, step: int) -> tuple[object, ...]:
    """What decides which rows follow a step, but for the cursors."""
    begins = order.schedule.begun(step + 1) == step
    again = stretch.phase.again if begins and any(stretch.phase.again) else ()
    return stretch.mixture, stretch.phase.context, again
