"""What the ledger's entries say. One function makes each kind; docs/format.md describes them.

Floats enter as hex bits, 64-bit integers as decimal strings, digests as hex.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pellucid.record import digests, merkle

FORMAT = 1
CHUNK = 1 << 16  # Elements of a tensor that one digest covers; its last chunk is shorter.
# Bytes of an element, by the name of its type as safetensors has it.
WIDTHS = {
    **dict.fromkeys(("F8_E4M3", "F8_E5M2"), 1),
    **dict.fromkeys(("BF16", "F16", "U16"), 2),
    **dict.fromkeys(("F32", "U32"), 4),
    **dict.fromkeys(("F64", "I64"), 8),
}
# What `roots` may name: objects that a recipe makes a run commit to.
ROOTS = ("base", "evaluation", "objective", "reference", "rollouts")
# What each field of a step's entry is written as, in order. An exponent of all ones
# would be an infinity or a NaN.
DIGEST, FLOAT, DECIMAL = digests.DIGEST, "(?![7f]ff)[0-9a-f]{16}", "[1-9][0-9]{0,18}"
STEP = {
    "tokens": DECIMAL,
    **dict.fromkeys(("batch", "microbatches", "segments"), DIGEST),
    **dict.fromkeys(("loss", "lr", "grad_norm", "weight_norm"), FLOAT),
    **dict.fromkeys(("weights", "state"), DIGEST),
}
_NUMBER = "[1-9][0-9]{0,17}"
_STEP_LINE = re.compile(
    rf'\{{"prev":"(?P<prev>{DIGEST})","n":(?P<n>{_NUMBER}),"log":"(?P<log>{DIGEST})"'
    rf',"kind":"(?P<kind>step)","step":(?P<step>{_NUMBER})'
    + "".join(f',"{name}":"(?P<{name}>{written})"' for name, written in STEP.items())
    + rf'(?:,"branch":(?P<branch>{_NUMBER}))?\}}\n'
).fullmatch


@dataclass(frozen=True, slots=True)
class Segment:
    """Neighbouring targets of a row that belong to one document and have one weight."""

    row: int
    document: int
    start: int  # The first of its targets, 0 .. T-1.
    tokens: int
    weight: int  # Of each of its targets.
    loss_sum: float  # Nats, the exactly rounded sum over its targets.


@dataclass(frozen=True, slots=True)
class Microbatch:
    """What one microbatch contributed; gradient_root is empty unless the recipe commits to it."""

    tokens: int  # Its targets …
    weight: int  # … and the sum of their weights.
    loss_sum: float  # Nats, over all targets, whatever their weights.
    objective: float  # Its part of what the step minimises, before that is divided.
    gradient_root: bytes = b""

    def leaf(self, index: int) -> bytes:
        sums = (self.tokens, self.weight, self.loss_sum, self.objective)
        return digests.microbatch_leaf(index, *sums, self.gradient_root)


@dataclass(frozen=True, slots=True)
class Content:
    """What a tensor's leaf is made of besides its group and name."""

    dtype: str  # As safetensors names it.
    shape: tuple[int, ...]
    chunks: tuple[bytes, ...]  # The BLAKE3 digest of each CHUNK of elements.

    def leaf(self, group: str, name: str) -> bytes:
        return digests.tensor_leaf(
            group, name, self.dtype, self.shape, digests.content_root(self.chunks)
        )


def group_root(group: str, tensors: Mapping[str, Content]) -> bytes:
    """The root over the tensors of a group, by their names."""
    return digests.group_root(
        {name: content.leaf(group, name) for name, content in tensors.items()}
    )


@dataclass(frozen=True)
class StateRoots:
    """The digests of a full training state."""

    step: int
    tensors: Mapping[str, Mapping[str, Content]]  # Group -> tensor name -> what is hashed of it.

    @cached_property
    def groups(self) -> dict[str, bytes]:
        return {group: group_root(group, tensors) for group, tensors in self.tensors.items()}

    @property
    def weights(self) -> bytes:
        return self.groups["weights"]

    @cached_property
    def state(self) -> bytes:
        return digests.state_root(self.step, self.groups)


def genesis(
    *,
    recipe: bytes,
    recipe_version: int,
    arithmetic: str,
    pipeline: int,
    data: str,
    tokenizer: str,
    initial: StateRoots,
    stack: Mapping[str, str] | None,
    parent: tuple[int, int, str] | None = None,
    roots: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """The first entry: everything the run follows from.

    stack is None on portable arithmetic. parent is a fork's: the step it begins after, the
    targets seen by then, and its parent's head. roots: of ROOTS those that the recipe makes due.
    """
    body: dict[str, Any] = {
        "kind": "genesis",
        "format": FORMAT,
        "arithmetic": arithmetic,
        "pipeline": pipeline,
        "recipe_version": recipe_version,
        "recipe": recipe.hex(),
        "data": data,
        "tokenizer": tokenizer,
        "weights": initial.weights.hex(),
        "state": initial.state.hex(),
    }
    if stack is not None:
        body["stack"] = dict(stack)
    if parent is not None:
        body |= {"step": parent[0], "tokens": str(parent[1]), "parent": parent[2]}
    return body | _roots(roots)


def step(
    *,
    number: int,
    tokens_so_far: int,
    row_leaves: list[bytes],
    microbatches: list[Microbatch],
    segments: list[Segment],
    loss: float,
    lr: float,
    grad_norm: float,
    weight_norm: float,
    after: StateRoots,
    roots: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """One training step: what went in, what was lost, and the state it
    left. roots: as of genesis."""
    body = {
        "kind": "step",
        "step": number,
        "tokens": str(tokens_so_far),
        "batch": merkle.root(row_leaves).hex(),
        "microbatches": microbatches_root(microbatches).hex(),
        "segments": segments_root(segments, len(row_leaves)).hex(),
        "loss": digests.float_bits(loss),
        "lr": digests.float_bits(lr),
        "grad_norm": digests.float_bits(grad_norm),
        "weight_norm": digests.float_bits(weight_norm),
        "weights": after.weights.hex(),
        "state": after.state.hex(),
    }
    return body | _roots(roots)


def _roots(roots: Mapping[str, bytes] | None) -> dict[str, Any]:
    return {"roots": {name: roots[name].hex() for name in sorted(roots)}} if roots else {}


def step_fields(line: bytes) -> re.Match[str] | None:
    """The fields of a step's entry, and where each stands in its line, which is given with its line
    break and is written as `step` writes them, with every field sound; else None."""
    return _STEP_LINE(line.decode("latin-1"))  # Which takes any bytes; none but ASCII is matched.


def step_of(line: bytes) -> dict[str, Any] | None:
    """A step's entry from its line with its line break, where that is written as `step` writes them
    and every field is sound; else None.

    Many lines ask for it: decoding JSON, asking for its spelling and looking
    at each field takes longer."""
    match = step_fields(line)
    if match is None:
        return None
    body: dict[str, Any] = match.groupdict()
    body["n"], body["step"] = int(body["n"]), int(body["step"])
    if body["branch"] is None:
        del body["branch"]
    else:
        body["branch"] = int(body["branch"])
    return body


def segments_root(segments: list[Segment], rows: int) -> bytes:
    """The root over the rows of a batch, a leaf each."""
    by_row: list[list[tuple[int, int, int, int, float]]] = [[] for _ in range(rows)]
    for segment in segments:
        by_row[segment.row].append(
            (segment.document, segment.start, segment.tokens, segment.weight, segment.loss_sum)
        )
    return merkle.root(digests.segments_leaf(row) for row in by_row)


def microbatches_root(microbatches: list[Microbatch]) -> bytes:
    return merkle.root(microbatch.leaf(index) for index, microbatch in enumerate(microbatches))


def validation(number: int, sources: list[dict[str, Any]]) -> dict[str, Any]:
    """Validation at a step; each source: name, loss sum (nats), target tokens, UTF-8 bytes."""
    return {
        "kind": "validation",
        "step": number,
        "sources": [
            {
                "source": source["source"],
                "loss_sum": digests.float_bits(source["loss_sum"]),
                "tokens": str(source["tokens"]),
                "bytes": str(source["bytes"]),
            }
            for source in sources
        ],
    }


def checkpoint(
    number: int, weights: str, tokenizer: str, architecture: Mapping[str, Any]
) -> dict[str, Any]:
    """A published checkpoint: the root over its weights, its tokenizer and its architecture."""
    return {
        "kind": "checkpoint",
        "step": number,
        "root": checkpoint_root(weights, tokenizer, architecture).hex(),
    }


def checkpoint_root(weights: str, tokenizer: str, architecture: Mapping[str, Any]) -> bytes:
    parts = (
        bytes.fromhex(weights),
        bytes.fromhex(tokenizer),
        digests.of_value("architecture", architecture),
    )
    return merkle.root(merkle.leaf(b"pellucid checkpoint 1\0" + part) for part in parts)


def stack(number: int, stack: Mapping[str, str]) -> dict[str, Any]:
    """That training on native arithmetic goes on after a step on another stack."""
    return {"kind": "stack", "step": number, "stack": dict(stack)}


def merge(
    number: int, parents: Iterable[tuple[str, int, str]], weights: str, state: str
) -> dict[str, Any]:
    """That the states of other runs were joined after a step; parents: the head, the step
    and the weights root of each."""
    joined = [{"head": head, "step": step, "weights": root} for head, step, root in parents]
    return {"kind": "merge", "step": number, "parents": joined, "weights": weights, "state": state}


def incident(number: int, about: Mapping[str, Any]) -> dict[str, Any]:
    """What the guards decide after a step; about is theirs (record/guards.py)."""
    return {"kind": "incident", "step": number, **about}


def end(number: int) -> dict[str, Any]:
    return {"kind": "end", "step": number}
