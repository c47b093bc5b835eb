"""What two runs differ in before their first step: recipes, data, where a fork begins, the first
state."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid import changes
from pellucid.errors import PellucidError
from pellucid.inputs import Inputs, first_state
from pellucid.recipe import Recipe
from pellucid.recipe import load as load_recipe
from pellucid.replay import blame, corpora, experiments, ledgers, origin
from pellucid.replay.experiments import Cause
from pellucid.replay.explain import Difference, published
from pellucid.replay.ledgers import Parting
from pellucid.store import layout
from pellucid.store.ledger import LedgerFile


@dataclass(frozen=True, slots=True)
class Side:
    """A run that takes part; inputs is None where it cannot be computed here."""

    name: str
    folder: Path
    recipe: Recipe
    ledger: LedgerFile
    inputs: Inputs | None


def side_of(name: str, folder: Path, result: Difference) -> Side:
    recipe, ledger = load_recipe(folder), LedgerFile(folder)
    try:
        inputs = Inputs.load(folder, recipe)
    except PellucidError as error:
        result.say(f"{name} cannot be computed here: {error.name}: {error}")
        inputs = None
    return Side(name, folder, recipe, ledger, inputs)


def beginnings(side_a: Side, side_b: Side, result: Difference) -> list[str]:
    """What differs before the first step: recipes, data, tokenizer, arithmetic, initial state."""
    result.recipe = changes.differences(side_a.recipe, side_b.recipe)
    fork = _fork(side_a, side_b)
    if fork:  # Where a fork begins is said once, and is no difference of what it computes.
        rest = (field for field in result.recipe if not field["field"].startswith(origin.PLACE))
        result.recipe = [*rest]
        result.say(f"{fork.name} is a fork of the other run after step {fork.ledger.first}.")
    for field in result.recipe:
        result.say(
            f"The recipes differ: {field['field']} is {ledgers.both(field['a'], field['b'])}."
        )
    if fork:
        result.recipe += _mistakes_of_fork(fork, side_b if fork is side_a else side_a, result)
    genesis_a, genesis_b = side_a.ledger.genesis, side_b.ledger.genesis
    begins = ledgers.differing(genesis_a, genesis_b)
    if side_a.ledger.first != side_b.ledger.first:
        begins = _later_beginnings(side_a, side_b, begins, result)
    if fork:
        begins = [
            name
            for name in begins
            if name not in origin.GENESIS and (name != "recipe" or result.recipe)
        ]
        if not begins:
            result.say(
                "The fork changes nothing, so it can only repeat the steps of the other run."
            )
    for name in begins:
        if name not in ("recipe", "weights", "state", "step", "tokens", "parent"):
            shown = [ledgers.shown(name, genesis.get(name)) for genesis in (genesis_a, genesis_b)]
            result.say(f"The beginnings differ: {name} is {shown[0]} in A and {shown[1]} in B.")
    if "data" in begins and all(
        (side.folder / layout.DATA_MANIFEST).is_file() for side in (side_a, side_b)
    ):
        result.document = published(
            result, lambda: corpora.first_document(side_a.folder, side_b.folder)
        )
        if result.document:
            names = ", ".join(result.document["fields"])
            result.say(f"The first document that differs is {result.document['id']} (in {names}).")
    return begins


def _fork(side_a: Side, side_b: Side) -> Side | None:
    """The one of two runs that is a fork of the other."""
    pairs = ((side_a, side_b), (side_b, side_a))
    return next(
        (side for side, parent in pairs if side.ledger.genesis.get("parent") == parent.ledger.head),
        None,
    )


def _mistakes_of_fork(fork: Side, parent: Side, result: Difference) -> list[dict[str, Any]]:
    """The fields of a fork's recipe that are not what the parent gives, in the form of
    result.recipe: the parent's side has the value that the parent gives."""
    if not parent.ledger.first <= fork.recipe.first <= parent.ledger.steps_done:
        return []  # The parent has no such state, which is said instead.
    if fork.inputs is None or parent.inputs is None:
        result.say(f"fork.cursors and fork.rows of {fork.name} are not checked.")
    order = fork.inputs.order if fork.inputs else None
    mistakes = origin.mistakes(fork.recipe, order, parent.recipe, parent.inputs)
    for field, own, given in mistakes:
        where = f"after step {fork.recipe.first}"
        result.say(f"{field} is {own} in {fork.name}, but {parent.name} gives {given} {where}.")
    first = fork.name == "A"
    return [
        {"field": field, "a": own if first else given, "b": given if first else own}
        for field, own, given in mistakes
    ]


def _later_beginnings(
    side_a: Side, side_b: Side, begins: list[str], result: Difference
) -> list[str]:
    """What differs at the first state that two runs both have, where
    one begins after a later step."""
    earlier, later = sorted((side_a, side_b), key=lambda side: side.ledger.first)
    first = later.ledger.first
    if not _fork(side_a, side_b):
        result.say(f"{later.name} begins after step {first} of another run.")
    reached = first <= earlier.ledger.steps_done
    equal = reached and earlier.ledger.step(first)["state"] == later.ledger.genesis["state"]
    states = ("weights", "state")
    return [name for name in begins if name not in states] + ([] if equal else ["state"])


def initial(side_a: Side, side_b: Side, begins: list[str], result: Difference) -> None:
    """The states before the first step differ: the recipes say why, and the
    initial values which tensors."""
    genesis = [
        {name: side.ledger.genesis.get(name) for name in begins} for side in (side_a, side_b)
    ]
    result.parts(Parting(max(side_a.ledger.first, side_b.ledger.first), "genesis", *genesis))
    if side_a.inputs is None or side_b.inputs is None or side_a.ledger.first != side_b.ledger.first:
        return
    states = [first_state(inputs) for inputs in (side_a.inputs, side_b.inputs)]
    reproduced = [
        state.roots().state.hex() == side.ledger.genesis["state"]
        for state, side in zip(states, (side_a, side_b), strict=True)
    ]
    result.agreement(*reproduced)
    result.tensors = blame.differing(states[0].groups(), states[1].groups())
    result.operation = {
        "name": "initial_values",
        "phase": "before the first step",
        "microbatch": None,
    }
    names = [
        field["field"]
        for field in result.recipe
        if field["field"].partition(".")[0] in ("seed", "model")
    ]
    names += (
        ["the size of the vocabulary"]
        if side_a.inputs.vocabulary != side_b.inputs.vocabulary
        else []
    )
    if all(reproduced) and names:
        description = (
            f"the initial state follows from the recipe, and these differ: {', '.join(names)}"
        )
        result.cause = Cause("recipe", experiments.PROVEN, description)
