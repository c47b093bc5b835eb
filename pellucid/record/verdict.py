"""Is this ledger the complete record of a run of this recipe? A verdict over its entries, without IO."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from pellucid.record import digests, entries
from pellucid.record.chain import Entry

_DIGESTS = {
    "genesis": ("recipe", "data", "tokenizer", "weights", "state"),
    "step": ("batch", "microbatches", "segments", "weights", "state"),
    "checkpoint": ("root",),
}
_INTEGERS = ("format", "pipeline", "recipe_version")
_FLOATS = ("loss", "lr", "grad_norm", "weight_norm")
_STEP = (*_DIGESTS["step"], *_FLOATS)
_DECIMAL = re.compile(r"[1-9][0-9]{0,18}").fullmatch
_DIGEST = re.compile(r"[0-9a-f]{64}").fullmatch
# An exponent of all ones is an infinity or a NaN; neither is ever committed.
_FINITE = re.compile(r"(?![7f]ff)[0-9a-f]{16}").fullmatch
_SOUND = re.compile(r"(?:[0-9a-f]{64},){5}(?:(?![7f]ff)[0-9a-f]{16},){4}").fullmatch


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
    genesis: Mapping[str, Any]  # What else the genesis must say, field by field.


def judge(path: str, chain: Iterable[Entry], plan: Plan) -> Iterator[Problem]:
    """Every problem of a ledger, in order."""
    expected = _expected(plan)
    step = 0
    due: tuple[str, int] | None = None
    for entry in chain:
        due = next(expected, None)
        if entry.problem:
            yield Problem("LedgerBroken", _where(path, entry, due), entry.problem)
            if not entry.body:
                continue
        if due is None:
            yield Problem("LedgerBroken", _where(path, entry, due), "follows the end of the run")
            return
        step = due[1]
        found = (entry.body.get("kind"), entry.body.get("step", 0))
        if found != due:
            yield Problem(
                "LedgerIncomplete", _where(path, entry, due), f"is a {_said(found[0])} of step {_said(found[1])}"
            )
            return
        for detail in _wrong(entry.body, plan):
            yield Problem("LedgerBroken", _where(path, entry, due), detail)
    if due is None or due[0] != "end":
        following = next(expected, ("end", step))
        yield Problem(
            "LedgerIncomplete", f"{path}: after step {step}", f"the {following[0]} of step {following[1]} is missing"
        )


def _said(value: object) -> str:
    """What a release says, short and without control characters."""
    return repr(value)[:100]


def _where(path: str, entry: Entry, due: tuple[str, int] | None) -> str:
    if due is None:
        return f"{path}: entry {entry.n}"
    return f"{path}: entry {entry.n}, " + ("" if due[0] == "step" else f"{due[0]} of ") + f"step {due[1]}"


def _expected(plan: Plan) -> Iterator[tuple[str, int]]:
    """The kinds of entries a complete ledger has, in order, each with its step."""
    for step in range(plan.steps + 1):
        yield ("step" if step else "genesis", step)
        if plan.validates(step):
            yield ("validation", step)
        if plan.checkpoints(step):
            yield ("checkpoint", step)
    yield ("end", plan.steps)


def malformed(body: dict[str, Any]) -> list[str]:
    """What an entry's fields are not, whatever the recipe: digests, bits of finite floats, decimal numbers."""
    kind, wrong = body["kind"], []
    if kind == "step" and _sound(body):
        return wrong
    integers = (
        [(field, body.get(field, 0)) for field in _INTEGERS] if kind == "genesis" else [("step", body.get("step"))]
    )
    wrong += [
        f"{field} is not an integer" for field, value in integers if type(value) is not int
    ]  # True is 1 to Python.
    for field in _DIGESTS.get(kind, ()):
        value = body.get(field)
        if type(value) is not str or not _DIGEST(value):
            wrong.append(f"{field} is not a digest")
    if kind == "genesis" and not _words(body.get("stack", {})):
        wrong.append("stack is not an object of words")
    if kind == "step":
        wrong += [
            f"{field} is not the bits of a finite float64" for field in _FLOATS if not _is_finite(body.get(field))
        ]
        if not isinstance(body.get("tokens"), str) or not _DECIMAL(body["tokens"]):
            wrong.append("tokens is not a decimal number")
    if kind == "validation":
        wrong += _wrong_validation(body)
    return wrong


def _words(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(one, str) and len(one) < 200 for one in value.values())


def _wrong(body: dict[str, Any], plan: Plan) -> list[str]:
    kind, wrong = body["kind"], malformed(body)
    if kind == "genesis":
        if body.get("recipe") != plan.recipe:
            wrong.append(f"recipe is {_said(body.get('recipe'))}, and recipe.toml has the digest {plan.recipe}")
        if body.get("format") != entries.FORMAT:
            wrong.append(f"format is {_said(body.get('format'))}, and this pellucid reads {entries.FORMAT}")
        for field, value in plan.genesis.items():
            if body.get(field) != value:
                wrong.append(f"{field} is {_said(body.get(field))}, not {value!r}")
        if ("stack" in body) != str(body.get("arithmetic")).startswith("native"):
            wrong.append("stack stands in a genesis of native arithmetic, and in no other")
    if kind == "step":
        wrong += _wrong_step(body, plan)
    return wrong


def _sound(body: dict[str, Any]) -> bool:
    """Whether all fields of a step are well formed, at once: a million steps ask for it."""
    try:
        sound = _SOUND(",".join(map(body.__getitem__, _STEP)) + ",") and _DECIMAL(body["tokens"])
        return sound is not None and type(body["step"]) is int
    except (KeyError, TypeError):
        return False


def _is_finite(value: object) -> bool:
    return isinstance(value, str) and _FINITE(value) is not None


def _wrong_validation(body: dict[str, Any]) -> list[str]:
    sources = body.get("sources")
    if not isinstance(sources, list) or not all(isinstance(one, dict) for one in sources):
        return ["sources is not a list of objects"]
    wrong = []
    for one in sources:
        texts = [one.get(key) for key in ("source", "loss_sum", "tokens", "bytes")]
        if not all(isinstance(text, str) for text in texts) or not _is_finite(texts[1]):
            wrong.append(f"{_said(texts[0])} does not have a finite loss_sum, tokens and bytes")
        elif not all(_DECIMAL(text) for text in texts[2:]):
            wrong.append(f"{_said(texts[0])} has tokens or bytes that are no decimal numbers above 0")
    return wrong


def _wrong_step(body: dict[str, Any], plan: Plan) -> list[str]:
    wrong = []
    if body.get("tokens") != str(body["step"] * plan.tokens_per_step):
        wrong.append(f"tokens is {_said(body.get('tokens'))}, not {body['step'] * plan.tokens_per_step}")
    if body.get("lr") != digests.float_bits(plan.learning_rate(body["step"])):
        wrong.append(f"lr is {_said(body.get('lr'))}, which is not what the recipe's schedule gives")
    return wrong


def journal(path: str, chain: Iterable[Entry]) -> Iterator[Problem]:
    """Every problem of a journal: only its chain binds it."""
    for entry in chain:
        if entry.problem:
            yield Problem("JournalBroken", f"{path}: entry {entry.n}", entry.problem)
