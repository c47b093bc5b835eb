"""Is this ledger the complete record of a run of this recipe? A verdict
over its entries, without IO."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from pellucid.record import arithmetics, chain, digests, entries
from pellucid.record.chain import Entry
from pellucid.record.columns import Steps
from pellucid.record.guards import QUANTITIES, Guards, Rules
from pellucid.record.history import History, rolls_back, with_branch

_DIGESTS = {
    "genesis": ("recipe", "data", "tokenizer", "weights", "state"),
    "step": tuple(name for name, written in entries.STEP.items() if written == entries.DIGEST),
    "checkpoint": ("root",),
    "merge": ("weights", "state"),
}
# Every field that an entry may have, in order; in brackets those that it may lack.
# Incidents say what the rules give.
_FIELDS = {
    "genesis": "kind format arithmetic pipeline recipe_version recipe data tokenizer weights state"
    " (stack) (step) (tokens) (parent) (roots)",
    "step": "kind step " + " ".join(entries.STEP) + " (roots)",
    "incident": "kind step rule (quantity) value (limit) (width) action (to) (passed_over)",
    "validation": "kind step sources",
    "checkpoint": "kind step root",
    "end": "kind step",
    "stack": "kind step stack",
    "merge": "kind step parents weights state",
}
_PARENT = ["head", "step", "weights"]
_STACK_CPU, _STACK_CUDA = (
    ("torch", "device", "cpu_capability", "threads"),
    ("torch", "device", "cuda"),
)
_SOURCE = ["source", "loss_sum", "tokens", "bytes"]
_OPTIONAL = (
    "format",
    "pipeline",
    "recipe_version",
    "step",
    "branch",
)  # Counts, where an entry has them.
_ROLLBACK = ("to", "passed_over", "branch")
_COUNTS = 10**18  # Every count is lower.
_MOST_NATS = 1e300  # Of all sources: a float64 must hold the sum.
_FLOATS = tuple(name for name, written in entries.STEP.items() if written == entries.FLOAT)
_DECIMAL, _FINITE, _THREADS = (
    re.compile(pattern).fullmatch for pattern in (entries.DECIMAL, entries.FLOAT, "[1-9][0-9]{0,3}")
)


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
    tokens: Callable[[int], int]  # Targets so far, of a step …
    tokens_of: Callable[[int, int], np.ndarray]  # … and of the steps from one to another, uint64.
    validates: Callable[[int], bool]
    checkpoints: Callable[[int], bool]
    learning_rate: Callable[[int], float]
    genesis: Mapping[str, Any]  # What else the genesis must say, field by field.
    rules: Rules  # What decides about incidents.
    first: int = 0  # The step whose state the run begins with.


def judge(path: str, blocks: Iterable[Entry | Steps], plan: Plan) -> Iterator[Problem]:
    """Every problem of a ledger, in order."""
    course = Course(plan)
    for entry in _one_by_one(blocks, course):
        due = course.due
        if entry.problem:
            yield Problem("LedgerBroken", _place(path, entry, due), entry.problem)
            if not entry.body:
                course.pass_over()
                continue
        if due is None:
            yield Problem("LedgerBroken", _place(path, entry, due), "follows the end of the run")
            return
        body = entry.body
        elsewhere = body.get("kind") != due[0] or body.get("step", 0) != due[1]
        if elsewhere and not course.interrupted(body):
            detail = f"is a {said(body.get('kind'))} of step {said(body.get('step', 0))}"
            yield Problem("LedgerIncomplete", _place(path, entry, due), detail)
            return
        wrong = [*_wrong(body, plan, entry.known), *course.wrong(body)]
        for detail in wrong:
            yield Problem("LedgerBroken", _place(path, entry, due), detail)
        course.took(body, sound=not wrong)
    if course.due is not None:
        kind, step = course.due[:2]
        yield Problem(
            "LedgerIncomplete",
            f"{path}: after step {course.step}",
            f"the {kind} of step {step} is missing",
        )
    elif course.stopped:
        detail = f"the run stopped there by its own rule on {course.stopped}"
        yield Problem("LedgerIncomplete", f"{path}: after step {course.step}", detail)


def _one_by_one(blocks: Iterable[Entry | Steps], course: Course) -> Iterator[Entry]:
    """The entries that are looked at alone: all but those that the course accepts together."""
    for read in blocks:
        if isinstance(read, Entry):
            yield read
        else:
            yield from read.entries(course.accept(read))


def said(value: object) -> str:
    """What a release says, short and without control characters."""
    return repr(value)[:100]


def _place(path: str, entry: Entry, due: tuple[Any, ...] | None) -> str:
    if due is None:
        return f"{path}: entry {entry.n}"
    return (
        f"{path}: entry {entry.n}, "
        + ("" if due[0] == "step" else f"{due[0]} of ")
        + f"step {due[1]}"
    )


class Course:
    """What a complete ledger has next, by the recipe and by what it has so far."""

    def __init__(self, plan: Plan) -> None:
        self._plan, self._guards = plan, Guards(plan.rules, History.begun(plan.first))
        self.step, self.stopped = plan.first, ""
        # Kind, step, and of an incident all that it has to say.
        self._due: deque[tuple[str, int, dict[str, Any]]] = deque([("genesis", plan.first, {})])

    @property
    def due(self) -> tuple[str, int, dict[str, Any]] | None:
        return self._due[0] if self._due else None

    def interrupted(self, body: dict[str, Any]) -> bool:
        """Whether an entry says that what was due came to no end, as a step or a validation may."""
        if body.get("kind") != "incident" or self._due[0][0] not in ("step", "validation"):
            return False
        quantity, value = str(body.get("quantity")), str(body.get("value"))
        if (
            body.get("rule") != "not_finite"
            or quantity not in QUANTITIES
            or value not in ("nan", "inf", "-inf")
        ):
            return False
        self._due = deque(
            [("incident", self.step, self._guards.not_finite(self.step, quantity, value))]
        )
        return True

    def wrong(self, body: dict[str, Any]) -> list[str]:
        """What is wrong with an entry in this place."""
        kind, _, exact = self._due[0]
        branch = self._guards.history.branch
        if kind == "incident":
            expected = with_branch(exact, branch)
            names = [name for name in {**expected, **body} if name not in chain.PLACE]
            return [
                f"{said(name)[1:-1]} is {said(body.get(name))}, "
                f"and the recipe's rules give {expected.get(name)!r}"
                for name in names
                if body.get(name) != expected.get(name)
            ]
        if body.get("branch", 0) != branch:
            return [f"branch is {said(body.get('branch', 0))}, not {branch}"]
        return []

    def took(self, body: dict[str, Any], sound: bool) -> None:
        """Go on from an entry; one that is not sound decides nothing."""
        kind, step, exact = self._due.popleft()
        if kind in ("genesis", "step"):
            self._step(step, self._guards.step(body) if kind == "step" and sound else [])
        elif exact.get("action") == "rollback":
            self._guards.roll_back(exact)
            self.step = exact["to"]
            self._due.append(self._next(exact["to"]))
        elif exact.get("action") == "stop":
            self.stopped = exact["rule"]

    def accept(self, steps: Steps) -> int:
        """Take as many of these entries as are due and wholly as the recipe
        gives them; returns how many."""
        plan, first = self._plan, steps.first
        if (
            self.due is None
            or self._due[0][:2] != ("step", first)
            or steps.branch != self._guards.history.branch
        ):
            return 0
        last = min(first + len(steps) - 1, plan.steps)
        numbers = range(first, last + 1)
        rates = np.array([plan.learning_rate(step) for step in numbers])
        tokens = plan.tokens_of(first, last)
        count = len(numbers)
        sound = (steps.tokens[:count] == tokens) & (
            steps.floats("lr")[:count].view("i8") == rates.view("i8")
        )
        if not sound.all():
            count = int(sound.argmin())
        values_NQ = np.empty((count, len(self._guards.quantities)))
        for column, name in enumerate(self._guards.quantities):
            values_NQ[:, column] = steps.floats(name)[:count]
        for step, own in zip(numbers[:count], values_NQ.tolist(), strict=True):
            incidents = self._guards.values(step, own)
            # Where another entry stands between this step's and the next, or should.
            if incidents or plan.validates(step) or plan.checkpoints(step) or step == plan.steps:
                self._due.popleft()
                self._step(step, incidents)
                return step - first + 1
        self.step = first + count - 1
        self._due[0] = self._next(self.step)
        return count

    def _step(self, step: int, incidents: list[dict[str, Any]]) -> None:
        """Go on from a step's entry, which the guards answered so."""
        self.step = step
        for incident in incidents:
            self._due.append(("incident", step, incident))
        if not incidents or incidents[-1]["action"] == "note":
            self._follow(step)

    def pass_over(self) -> None:
        """Go on from an entry that cannot be read."""
        if self._due:
            self.took({}, sound=False)

    def _follow(self, step: int) -> None:
        if self._plan.validates(step):
            self._due.append(("validation", step, {}))
        if self._plan.checkpoints(step):
            self._due.append(("checkpoint", step, {}))
        self._due.append(self._next(step))

    def _next(self, step: int) -> tuple[str, int, dict[str, Any]]:
        return ("step", step + 1, {}) if step < self._plan.steps else ("end", step, {})


def malformed(body: dict[str, Any]) -> list[str]:
    """What an entry's fields are not, whatever the recipe: counts, digests, bits of
    finite floats, decimal numbers."""
    kind, wrong = body["kind"], _wrong_fields(body)
    if wrong:
        return wrong[:1]
    for field in _counts(body):
        value = body.get(field)
        if type(value) is not int or not 0 <= value < _COUNTS:  # true is 1 to Python.
            wrong.append(f"{field} is not an integer from 0 to {_COUNTS - 1}")
    for field in ("prev", "log", *_DIGESTS.get(kind, ())):
        value = body.get(field)
        if not digests.is_digest(value):
            wrong.append(f"{field} is not a digest")
    if kind in ("genesis", "stack"):
        wrong += _wrong_stack(body["stack"]) if "stack" in body else []
    if "roots" in body:
        wrong += _wrong_roots(body["roots"])
    if kind == "merge":
        wrong += _wrong_parents(body["parents"])
    if kind == "step":
        wrong += [
            f"{field} is not the bits of a finite float64"
            for field in _FLOATS
            if not _is_finite(body.get(field))
        ]
        if not isinstance(body.get("tokens"), str) or not _DECIMAL(body["tokens"]):
            wrong.append("tokens is not a decimal number")
    if kind == "validation":
        wrong += _wrong_validation(body)
    if kind == "incident":
        wrong += _wrong_incident(body)
    return wrong


def _wrong_fields(body: dict[str, Any]) -> list[str]:
    """That an entry has every field of its kind, in order, and no other."""
    listed = f"prev n log {_FIELDS.get(body['kind'], 'kind')} (branch)".split()
    needed = [name for name in listed if name[0] != "("]
    known = [name.strip("()") for name in listed]
    wrong = [
        f"has the field {said(name)}, which entries of the kind {said(body['kind'])} do not have"
        for name in body
        if name not in known
    ]
    wrong += [f"{name} is not there" for name in needed if name not in body]
    if body.get("branch") == 0 and not isinstance(body["branch"], bool):
        wrong.append("says branch 0, which no entry says")
    if not wrong and list(body) != [name for name in known if name in body]:
        wrong.append("has its fields in another order")
    return wrong


def _wrong_incident(body: dict[str, Any]) -> list[str]:
    spike = body.get("rule") in ("loss", "grad_norm")
    texts = ("rule", "action") if spike else ("rule", "action", "quantity", "value")
    wrong = [f"{field} is not a word" for field in texts if not isinstance(body.get(field), str)]
    if spike:
        bits = [field for field in ("value", "limit") if not _is_finite(body.get(field))]
        wrong += [f"{field} is not the bits of a finite float64" for field in bits]
        wrong += [] if type(body.get("width")) is int else ["width is not an integer"]
    return wrong


def _counts(body: dict[str, Any]) -> list[str]:
    """The fields of an entry that are counts."""
    needed = [] if body["kind"] == "genesis" else ["step"]
    needed += _ROLLBACK if rolls_back(body) else ()
    return ["n", *dict.fromkeys([*needed, *(field for field in _OPTIONAL if field in body)])]


def _wrong_stack(stack: object) -> list[str]:
    if not isinstance(stack, dict) or not all(
        isinstance(value, str) and len(value) < 200 for value in stack.values()
    ):
        return ["stack is not an object of words"]
    if tuple(stack) != (_STACK_CPU if stack.get("device") == "cpu" else _STACK_CUDA):
        return [
            f"stack has other keys than {' '.join(_STACK_CPU)}, or on CUDA {' '.join(_STACK_CUDA)}"
        ]
    # A reader takes as many.
    return (
        []
        if _THREADS(stack.get("threads", "1"))
        else ["stack's threads is no number of at most four digits"]
    )


def _wrong_roots(roots: object) -> list[str]:
    if (
        not isinstance(roots, dict)
        or not roots
        or list(roots) != [name for name in entries.ROOTS if name in roots]
    ):
        return [
            f"roots is not an object of {', '.join(entries.ROOTS)}, in this order, "
            "with one of them at least"
        ]
    return (
        []
        if all(digests.is_digest(root) for root in roots.values())
        else ["roots holds what is not a digest"]
    )


def _wrong_parents(parents: object) -> list[str]:
    if (
        not isinstance(parents, list)
        or not parents
        or not all(isinstance(parent, dict) for parent in parents)
    ):
        return ["parents is not a list of objects, or has none"]
    for parent in parents:
        sound = (
            list(parent) == _PARENT
            and digests.is_digest(parent["head"])
            and digests.is_digest(parent["weights"])
        )
        if not sound or type(parent["step"]) is not int or not 0 <= parent["step"] < _COUNTS:
            return [f"a parent is not written as {', '.join(_PARENT)}: {said(parent)}"]
    return []


def _wrong(body: dict[str, Any], plan: Plan, known: bool) -> list[str]:
    kind, wrong = body["kind"], [] if known else malformed(body)
    if "roots" in body:
        wrong.append("roots is present, but no recipe of this version asks for it")
    if kind == "genesis":
        if body.get("recipe") != plan.recipe:
            wrong.append(
                f"recipe is {said(body.get('recipe'))}, "
                f"and recipe.toml has the digest {plan.recipe}"
            )
        if body.get("format") != entries.FORMAT:
            wrong.append(
                f"format is {said(body.get('format'))}, and this pellucid reads {entries.FORMAT}"
            )
        for field, value in plan.genesis.items():
            if body.get(field) != value:
                wrong.append(f"{field} is {said(body.get(field))}, not {value!r}")
        if ("stack" in body) != arithmetics.has_stack(body.get("arithmetic")):
            wrong.append("stack stands in a genesis of native arithmetic, and in no other")
    if kind == "step":
        wrong += _wrong_step(body, plan)
    return wrong


def _is_finite(value: object) -> bool:
    return isinstance(value, str) and _FINITE(value) is not None


def _wrong_validation(body: dict[str, Any]) -> list[str]:
    sources = body.get("sources")
    if not isinstance(sources, list) or not all(isinstance(source, dict) for source in sources):
        return ["sources is not a list of objects"]
    wrong = []
    for source in sources:
        texts = [source.get(key) for key in _SOURCE]
        if list(source) != _SOURCE:
            wrong.append(f"{said(texts[0])} has other fields than {', '.join(_SOURCE)}")
            continue
        if not all(isinstance(text, str) for text in texts) or not _is_finite(texts[1]):
            wrong.append(f"{said(texts[0])} does not have a finite loss_sum, tokens and bytes")
        elif not all(_DECIMAL(text) for text in texts[2:]):
            wrong.append(
                f"{said(texts[0])} has tokens or bytes that are no decimal numbers above 0"
            )
    if (
        not wrong
        and sum(abs(digests.bits_float(source["loss_sum"])) for source in sources) > _MOST_NATS
    ):
        wrong.append(f"sources have more than {_MOST_NATS} nats")
    return wrong


def _wrong_step(body: dict[str, Any], plan: Plan) -> list[str]:
    wrong = []
    if body.get("tokens") != str(plan.tokens(body["step"])):
        wrong.append(f"tokens is {said(body.get('tokens'))}, not {plan.tokens(body['step'])}")
    if body.get("lr") != digests.float_bits(plan.learning_rate(body["step"])):
        wrong.append(f"lr is {said(body.get('lr'))}, which is not what the recipe's schedule gives")
    return wrong
