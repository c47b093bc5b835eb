"""The bytes of a release, before it exists: what each file will hold, with
zeros for what nobody knows yet.

Hashes and floats have one length whatever they say, so the ledger's and the anchors' bytes are
exact where the data is prepared. Numbers get longer as a run goes on; the steps are counted in
spans within which none does."""

from __future__ import annotations

import bisect
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

from pellucid import counts, huggingface
from pellucid.optimizers.base import Kept
from pellucid.plan.facts import Facts
from pellucid.recipe import Anchors, Recipe
from pellucid.record import chain, entries
from pellucid.record.arithmetics import ARITHMETICS
from pellucid.schedule import Schedule
from pellucid.store import anchors, metrics, tensors

ZEROS = "0" * 64
# Of Parquet, as in the demo: bytes a row, and what each column of each row group takes
# besides. Within about a third.
_ROW = {
    "steps": 55.0,
    "sequences": 11.3,
    "segments": 10.7,
    "sources": 10.0,
    "validation": 56.0,
    "microbatches": 14.0,
}
_COLUMN = 115
_NO_TENSORS = entries.StateRoots(0, {"weights": {}})
_ROOT = 36  # Bytes of a gradient root: 64 hex digits, compressed.


@dataclass(frozen=True)
class Storage:
    """The sizes of a run's files."""

    recipe: Recipe
    facts: Facts

    @cached_property
    def _schedule(self) -> Schedule:
        return self.recipe.schedule

    # ---- which steps ----------------------------------------------------------------------------

    def entry(self, step: int) -> int:
        """The number of a step's entry in the ledger; the genesis is step 0's."""
        before = (self.recipe.validation.every, self.recipe.checkpoints.every)
        return step + sum((step - 1) // every + 1 for every in before)

    def _spans(self) -> Iterator[tuple[int, int]]:
        """All steps, in spans (first, last) within which no number that is
        written gets another digit."""
        steps = self.recipe.train.steps
        validated = lambda k: self.recipe.scheduled(self.recipe.validation.every, k)  # noqa: E731
        numbers: list[Callable[[int], int]] = [
            lambda k: k,
            self._schedule.tokens,
            self.entry,
            lambda k: self.entry(k) + 1,
            lambda k: self.entry(k) + 1 + validated(k),
        ]
        begins = {0}
        for number in numbers:
            for digits in range(1, len(str(number(steps)))):
                begins.add(bisect.bisect_left(range(steps), 10**digits, key=number))
        for first, past in pairwise([*sorted(begins), steps + 1]):
            yield first, past - 1

    def _count(self, span: tuple[int, int], every: int, due: Callable[[int], bool]) -> int:
        """How many steps of a span are multiples of `every`, or the last
        step or a power of two and due."""
        first, last = span
        steps = self.recipe.train.steps
        special = {steps, *(1 << bit for bit in range(steps.bit_length()))}
        more = sum(1 for step in special if first <= step <= last and step % every and due(step))
        return last // every - (first - 1) // every + more

    def validations(self, span: tuple[int, int]) -> int:
        every = self.recipe.validation.every
        return self._count(span, every, lambda step: self.recipe.scheduled(every, step))

    def checkpoints(self, span: tuple[int, int]) -> int:
        every = self.recipe.checkpoints.every
        return self._count(span, every, lambda step: self.recipe.scheduled(every, step))

    def anchors(self, span: tuple[int, int]) -> int:
        return self._count(span, self.recipe.placement.anchors.every, self.recipe.anchored)

    def both(self, span: tuple[int, int]) -> int:
        """Steps that have an anchor and a checkpoint: their weights are on disk once."""
        recipe = self.recipe
        every = math.lcm(recipe.checkpoints.every, recipe.placement.anchors.every)
        return self._count(
            span,
            every,
            lambda k: recipe.anchored(k) and recipe.scheduled(recipe.checkpoints.every, k),
        )

    # ---- one file -------------------------------------------------------------------------------

    @cached_property
    def _frame(self) -> _Frame:
        """Once for a model, not at every step that is asked about: it
        may have thousands of layers."""
        return _frame(self.recipe, self.facts.vocabulary)

    def placed(self, policy: Anchors) -> Storage:
        """The same run with its anchors elsewhere: no tensor is another for it."""
        placement = self.recipe.placement.model_copy(update={"anchors": policy})
        storage = Storage(self.recipe.model_copy(update={"placement": placement}), self.facts)
        vars(storage)["_frame"] = self._frame
        return storage

    @cached_property
    def _config(self) -> dict[str, Any]:
        return huggingface.architecture(
            self.recipe.model, self.facts.vocabulary, self.facts.document_token
        )

    def _about(self, step: int) -> dict[str, Any]:
        """What an anchor says of itself, its tensors left out."""
        place = {"step": step, "tokens": str(self._schedule.tokens(step)), "n": self.entry(step)}
        return anchors.about({**place, "weights": ZEROS, "state": ZEROS}, _NO_TENSORS)

    def weights(self, step: int) -> int:
        """model.safetensors."""
        return self._frame.weights.with_metadata(anchors.weights_metadata(self._about(step)))

    def anchor(self, step: int) -> int:
        """An anchor's folder: weights, the optimizer's tensors, anchor.json."""
        about, frame = self._about(step), self._frame
        optimizer = frame.optimizer.with_metadata(anchors.optimizer_metadata(about))
        return self.weights(step) + optimizer + _json(about) + frame.chunks

    def checkpoint(self, step: int) -> int:
        """A checkpoint's folder: weights, tokenizer and descriptions."""
        return self.weights(step) + self._descriptions(step)

    def _descriptions(self, step: int) -> int:
        identity = self.recipe.fork.identity(self._about(step))
        described = huggingface.descriptions(self._config, self.facts.document, identity)
        return sum(_json(value) for value in described.values()) + self.facts.tokenizer_bytes

    def step_line(self, step: int) -> int:
        """A step's line in the ledger."""
        tokens = self._schedule.tokens(step)
        body = entries.step(
            number=step,
            tokens_so_far=tokens,
            row_leaves=[],
            microbatches=[],
            segments=[],
            loss=0.0,
            lr=0.0,
            grad_norm=0.0,
            weight_norm=0.0,
            after=entries.StateRoots(step, {"weights": {}}),
        )
        return len(_line(self.entry(step), body))

    # ---- all of them ----------------------------------------------------------------------------

    def ledger(self) -> int:
        """record/ledger.jsonl. On native arithmetic the genesis names the
        stack besides, about 120 bytes."""
        recipe, total = self.recipe, 0
        sources = [
            {"source": s, "loss_sum": 0.0, "tokens": t, "bytes": b}
            for s, t, b in self.facts.validation
        ]
        for first, last in self._spans():
            steps, entry = last - first + 1 - (first == 0), self.entry(first)
            validation = _line(entry + 1, entries.validation(first, sources))
            place = entry + 1 + recipe.scheduled(recipe.validation.every, first)
            checkpoint = _line(place, entries.checkpoint(first, "", "", {}))
            total += steps * self.step_line(first)
            total += self.validations((first, last)) * len(validation) + self.checkpoints(
                (first, last)
            ) * len(checkpoint)
        # Behind the last step's validation and checkpoint.
        place = self.entry(recipe.train.steps) + 3
        return total + self._genesis() + len(_line(place, entries.end(recipe.train.steps)))

    def _genesis(self) -> int:
        roots = entries.StateRoots(0, {"weights": {}})
        body = entries.genesis(
            recipe=bytes(32),
            recipe_version=self.recipe.version,
            arithmetic=ARITHMETICS[self.recipe.train.arithmetic].name,
            pipeline=self.recipe.data.pipeline,
            data=ZEROS,
            tokenizer=ZEROS,
            initial=roots,
            stack=None,
        )
        return len(_line(0, body))

    def all_checkpoints(self) -> int:
        return sum(self.checkpoints(span) * self.checkpoint(span[0]) for span in self._spans())

    def all_anchors(self) -> int:
        """All anchors, without the weights that a checkpoint of their step holds already."""
        return sum(
            self.anchors(span) * self.anchor(span[0]) - self.both(span) * self.weights(span[0])
            for span in self._spans()
        )

    def final(self) -> int:
        """The final checkpoint in the run folder itself; its weights are the last checkpoint's."""
        return self._descriptions(self.recipe.train.steps)

    def metrics(self) -> int:
        """The tables: estimated."""
        recipe, everything = self.recipe, (0, self.recipe.train.steps)
        sequences, sources = (
            sum(phase.steps * phase.batch for phase in recipe.phases),
            len(self.facts.validation),
        )
        rows = {
            "steps": recipe.train.steps,
            "sequences": sequences,
            "segments": sequences * self.facts.segments,
            "sources": sum(
                phase.steps * min(phase.batch, len(recipe.data.sources)) for phase in recipe.phases
            ),
            "validation": self.validations(everything) * sources,
            "microbatches": sum(
                phase.steps * (phase.batch // phase.microbatch) for phase in recipe.phases
            ),
        }
        groups = sum(
            len(metrics.TABLES[name]) * -(-number // metrics.GROUP) for name, number in rows.items()
        )
        roots = rows["microbatches"] * _ROOT * (recipe.record.commitment == "microbatches")
        return int(
            sum(_ROW[name] * number for name, number in rows.items()) + roots + groups * _COLUMN
        )

    def total(self) -> dict[str, int]:
        """Bytes on disk by what they are; the code archive and README, under
        a megabyte, are not counted."""
        return {
            "ledger": self.ledger(),
            "anchors": self.all_anchors(),
            "checkpoints": self.all_checkpoints() + self.final(),
            "metrics": self.metrics(),
            "tokenizer": self.facts.tokenizer_bytes,
            **self.facts.data,
        }


@dataclass(frozen=True, slots=True)
class _File:
    """A safetensors file but for its metadata."""

    description: int  # Bytes of its JSON with none.
    content: int

    def with_metadata(self, metadata: dict[str, str]) -> int:
        length = self.description + len(json.dumps(metadata, separators=(",", ":"))) - len("{}")
        return 8 + length + -length % 8 + self.content


class _Frame(NamedTuple):
    """What is of one size whatever the step."""

    weights: _File
    optimizer: _File
    chunks: int  # Bytes of the chunks' digests in anchor.json.


def _frame(recipe: Recipe, vocabulary: int) -> _Frame:
    state = counts.state(recipe, vocabulary)
    entry = {"tokens": "0", "n": 0, "weights": ZEROS, "state": ZEROS}
    empty = {
        group: {n: entries.Content(*tensor, ()) for n, tensor in kept.items()}
        for group, kept in state.items()
    }
    named = anchors.about(entry, entries.StateRoots(0, empty))
    listed = sum(
        _listed(math.prod(tensor.shape)) for kept in state.values() for tensor in kept.values()
    )
    weights, optimizer = _file(state["weights"]), _file(anchors.flat(state))
    return _Frame(
        weights, optimizer, _json(named) - _json(anchors.about(entry, _NO_TENSORS)) + listed
    )


def _file(kept: Mapping[str, Kept]) -> _File:
    described = {
        name: (tensor.dtype, tensor.shape, counts.size(tensor)) for name, tensor in kept.items()
    }
    return _File(
        len(tensors.description(described, {})), sum(size for *_, size in described.values())
    )


def _listed(elements: int) -> int:
    """Bytes that a tensor's chunks take in anchor.json, beyond those of an empty list: a digest
    a line, eight blanks before it; the list's end behind six. Counted, for a plan may be of a
    model with millions of chunks."""
    chunks = -(-elements // entries.CHUNK)
    return chunks * len(f'\n        "{ZEROS}",') - len(",") + len("\n      ")


def _line(n: int, body: dict[str, Any]) -> bytes:
    """The n-th line of a ledger."""
    return chain.line_of({"prev": ZEROS, "n": n, "log": ZEROS, **body})


def _json(value: object) -> int:
    """Bytes of a file that store.files.write_json makes."""
    return len(json.dumps(value, indent=2, ensure_ascii=True)) + 1


@dataclass(frozen=True, slots=True)
class Spacing:
    """What one spacing of anchors costs and gives."""

    every: int
    anchors: int
    bytes: int
    # Steps to take again to audit a step, over all steps alike; to materialise it, one fewer.
    expected: float
    worst: int


def spacing(storage: Storage, every: int) -> Spacing:
    """The same run with anchors every so many steps."""
    recipe = storage.recipe
    policy = recipe.placement.anchors.model_copy(update={"every": every})
    placed = storage.placed(policy)
    distances = gaps(recipe.train.steps, policy)
    replayed = sum(number * gap * (gap + 1) // 2 for gap, number in distances.items())
    everything = (0, recipe.train.steps)
    return Spacing(
        every,
        placed.anchors(everything),
        placed.all_anchors(),
        replayed / recipe.train.steps,
        max(distances),
    )


def gaps(steps: int, policy: Anchors) -> Counter[int]:
    """Distances from an anchor to the next, and how often each occurs: whole
    periods, some cut by powers of two."""
    every = policy.every
    distances = Counter({every: steps // every})
    if steps % every:
        distances[steps % every] += 1
    cuts: dict[int, list[int]] = {}
    for power in (1 << bit for bit in range(steps.bit_length() * policy.powers_of_two)):
        if power % every and power != steps:
            cuts.setdefault(power - power % every, []).append(power)
    for first, inner in cuts.items():
        places = [first, *inner, min(first + every, steps)]
        distances[places[-1] - first] -= 1
        distances.update(b - a for a, b in pairwise(places))
    return +distances
