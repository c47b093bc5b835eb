"""Is this ledger the complete record of a run of this recipe? A verdict over its entries, without IO."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from pellucid.record import digests, entries
from pellucid.record.chain import Entry

_DIGESTS = {
    "genesis": ("recipe", "data", "tokenizer", "weights", "state"),
    "step": ("batch", "microbatches", "segments", "weights", "state"),
    "checkpoint": ("root",),
}
_FLOATS = ("loss", "lr", "grad_norm", "weight_norm")
_HEX = re.compile(r"[0-9a-f]*")


class Problem(NamedTuple):
    """One thing that is wrong: the error's name, where it lies, and what is wrong there."""

    error: str
    where: str
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe says of its ledger."""

    recipe: str
    steps: int
    tokens_per_step: int
    validates: Callable[[int], bool]
    checkpoints: Callable[[int], bool]
    learning_rate: Callable[[int], float]


def judge(path: str, chain: Iterable[Entry], plan: Plan) -> Iterator[Problem]:
    """Every problem of a ledger, in order."""
    expected = _expected(plan)
    step = 0
    due: tuple[str, int] | None = None
    for entry in chain:
        due = next(expected, None)
        where = f"{path}: entry {entry.n}" + (f", {due[0]} of step {due[1]}" if due else "")
        if entry.problem:
            yield Problem("LedgerBroken", where, entry.problem)
            if not entry.body:
                continue
        if due is None:
            yield Problem("LedgerBroken", where, "follows the end of the run")
            return
        step = due[1]
        found = (entry.body.get("kind"), entry.body.get("step", 0))
        if found != due:
            yield Problem("LedgerIncomplete", where, f"is a {found[0]!r} of step {found[1]!r}")
            return
        for detail in _wrong(entry.body, plan):
            yield Problem("LedgerBroken", where, detail)
    if due is None or due[0] != "end":
        following = next(expected, ("end", step))
        yield Problem("LedgerIncomplete", f"{path}: after step {step}", f"the {following[0]} of step {following[1]} is missing")


def _expected(plan: Plan) -> Iterator[tuple[str, int]]:
    """The kinds of entries a complete ledger has, in order, each with its step."""
    for step in range(plan.steps + 1):
        yield ("step" if step else "genesis", step)
        if plan.validates(step):
            yield ("validation", step)
        if plan.checkpoints(step):
            yield ("checkpoint", step)
    yield ("end", plan.steps)


def _wrong(body: dict[str, Any], plan: Plan) -> Iterator[str]:
    kind = body["kind"]
    for field in _DIGESTS.get(kind, ()):
        if not _is_hex(body.get(field), 64):
            yield f"{field} is not a digest"
    if kind == "genesis":
        if body.get("recipe") != plan.recipe:
            yield f"recipe is {body.get('recipe')}, and recipe.toml has the digest {plan.recipe}"
        if body.get("format") != entries.FORMAT:
            yield f"format is {body.get('format')!r}, and this pellucid reads {entries.FORMAT}"
    if kind == "step":
        yield from _wrong_step(body, plan)


def _wrong_step(body: dict[str, Any], plan: Plan) -> Iterator[str]:
    for field in _FLOATS:
        bits = body.get(field)
        # An exponent of all ones is an infinity or a NaN; neither is ever committed.
        if not _is_hex(bits, 16) or (int(bits[:3], 16) & 0x7FF) == 0x7FF:
            yield f"{field} is not the bits of a finite float64"
    if body.get("tokens") != str(body["step"] * plan.tokens_per_step):
        yield f"tokens is {body.get('tokens')!r}, not {body['step'] * plan.tokens_per_step}"
    if body.get("lr") != digests.float_bits(plan.learning_rate(body["step"])):
        yield f"lr is {body.get('lr')}, which is not what the recipe's schedule gives"


def _is_hex(value: object, length: int) -> bool:
    return isinstance(value, str) and len(value) == length and _HEX.fullmatch(value) is not None


def journal(path: str, chain: Iterable[Entry]) -> Iterator[Problem]:
    """Every problem of a journal: only its chain binds it."""
    for entry in chain:
        if entry.problem:
            yield Problem("JournalBroken", f"{path}: entry {entry.n}", entry.problem)
