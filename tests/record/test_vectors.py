"""docs/vectors.json against our functions: it fails when an algorithm of the format changes.

Each vector has a name, an input and an output. docs/format.md and docs/arithmetic.md say what each
name means; another implementation can be held against the same file."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pellucid import philox, recipe, schedule
from pellucid.data import documents, roots, tokenizer
from pellucid.data.order import Order
from pellucid.learning_rates import cos_pi
from pellucid.operations import portable
from pellucid.phases import planned
from pellucid.record import chain, digests, elements, entries, evaluations, merkle, rows
from pellucid.schedule import learning_rate
from pellucid.train.state import initial_values

PATH = Path(__file__).parents[2] / "docs" / "vectors.json"
VECTORS = json.loads(PATH.read_bytes())


def _recipe(argument: dict[str, Any]) -> recipe.Recipe:
    return recipe.parse(argument["toml"].encode(), "a vector")


def _segments(argument: list[dict[str, Any]]) -> list[entries.Segment]:
    summed: list[dict[str, Any]] = [
        segment | {"loss_sum": digests.bits_float(segment["loss_sum"])} for segment in argument
    ]
    return [entries.Segment(**segment) for segment in summed]


def _segments_leaf(argument: list[dict[str, Any]]) -> str:
    return digests.segments_leaf(
        (s.document, s.start, s.tokens, s.weight, s.loss_sum) for s in _segments(argument)
    ).hex()


def _chain(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    tip = chain.LedgerTip()
    return {"lines": [line.decode() for line in chain.lines_of(bodies, tip)], "head": tip.digest}


def _merkle_path(argument: dict[str, Any]) -> list[str]:
    leaves = [merkle.leaf(text.encode()) for text in argument["leaves"]]
    path = merkle.Levels(leaves).path(argument["index"], argument.get("neighbours", 1))
    return [sibling.hex() for _, sibling in path]


def _examples(argument: dict[str, Any]) -> dict[str, Any]:
    examples, lines = evaluations.Examples(argument["metric"]), argument["lines"]
    taken = [examples.take(digests.canonical(example) + b"\n") for example in lines]
    assert taken == [""] * len(lines)
    return {"results": examples.tree.root().hex(), "numbers": examples.numbers()}


def _line(body: dict[str, Any]) -> str:
    return chain.line_of(body).decode()


def _roots(argument: dict[str, str]) -> str:
    body = entries.step(
        number=1,
        tokens_so_far=1,
        row_leaves=[],
        microbatches=[],
        segments=[],
        **dict.fromkeys(("loss", "lr", "grad_norm", "weight_norm"), 0.0),
        after=entries.StateRoots(1, {"weights": {}}),
        roots={name: bytes.fromhex(root) for name, root in argument.items()},
    )
    return _line({"roots": body["roots"]})


def _microbatch_leaf(argument: dict[str, Any]) -> str:
    sums = (digests.bits_float(argument[name]) for name in ("loss_sum", "objective"))
    counts = (argument["index"], argument["tokens"], argument["weight"])
    return digests.microbatch_leaf(*counts, *sums, bytes.fromhex(argument["gradient_root"])).hex()


def _tensor_leaf(argument: dict[str, Any]) -> dict[str, Any]:
    content = bytes.fromhex(argument["content"]) * argument["repeated"]
    array = np.frombuffer(content, elements.DTYPES[argument["dtype"]]).reshape(argument["shape"])
    chunks = tuple(digests.content_digest(chunk) for chunk in elements.chunks_of(array))
    leaf = entries.Content(elements.dtype_of(array), array.shape, chunks).leaf(
        argument["group"], argument["name"]
    )
    root = digests.content_root(chunks)
    return {
        "blake3": [chunk.hex() for chunk in chunks],
        "content_root": root.hex(),
        "leaf": leaf.hex(),
    }


def _parts(argument: list[dict[str, Any]]) -> list[bytes]:
    return [
        rows.part_leaf(
            digests.salt(part["seed"], "document", part["document"]),
            rows.Part(part["document"], part["first"], np.array(part["ids"], np.uint32)),
        )
        for part in argument
    ]


def _row_leaf(argument: dict[str, Any]) -> str:
    weights, positions = (tuple(map(tuple, argument[name])) for name in ("weights", "positions"))
    use = rows.Use(weights, tuple(argument["attention"]), positions, int(argument["group"]))
    return rows.row_leaf(
        argument["block"], argument["start"], argument["ids"], use, _parts(argument["parts"])
    ).hex()


def _block_leaf(argument: dict[str, Any]) -> str:
    return rows.block_leaf(
        int(argument["number"]), argument["ids"], _parts(argument["parts"])
    ).hex()


def _order(argument: dict[str, Any]) -> dict[str, Any]:
    plain = {
        "microbatch": 1,
        "rope_theta": 1e4,
        "lr": 1.0,
        "schedule": "cosine",
        "warmup": 0,
        "decay": 0,
        "final_lr": 0,
    }
    values = [
        {key: tuple(item) if isinstance(item, list) else item for key, item in p.items()}
        for p in argument["phases"]
    ]
    phases = schedule.Schedule([schedule.Phase(**plain, **phase) for phase in values])
    order = Order(
        argument["seed"], argument["sources"], argument["block"], phases, argument["without"]
    )
    rows = order.along(argument["rollbacks"]).rows(argument["step"])
    return {name: column.tolist() for name, column in rows._asdict().items()}


def _initial_values(argument: dict[str, Any]) -> list[str]:
    values = initial_values(
        portable, _recipe(argument), argument["tensor"], tuple(argument["shape"])
    )
    return [
        struct.pack(">f", value).hex() for value in values.flatten().tolist()[: argument["first"]]
    ]


def _learning_rate(argument: dict[str, Any]) -> list[str]:
    data = recipe.Data(sources=(recipe.Source(name="a"),))
    train = recipe.Train(**argument["train"])
    phase = planned(None, recipe.Recipe(name="a", data=data, train=train))
    return [digests.float_bits(learning_rate(phase, step)) for step in argument["steps"]]


def _philox(argument: dict[str, Any]) -> list[str]:
    counter = np.array([[int(word, 16) for word in argument["counter"]]], dtype=np.uint32)
    return [f"{word:08x}" for word in philox.philox(int(argument["key"]), counter)[0].tolist()]


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "float_bits": lambda argument: digests.float_bits(float(argument)),
    "canonical": lambda argument: digests.canonical(argument).decode(),
    "value_digest": lambda argument: digests.of_value(argument["kind"], argument["value"]).hex(),
    "merkle_root": lambda argument: merkle.root(
        merkle.leaf(text.encode()) for text in argument
    ).hex(),
    "merkle_path": _merkle_path,
    "chain": _chain,
    "stack_entry": lambda argument: _line(entries.stack(**argument)),
    "merge_entry": lambda argument: _line(entries.merge(**argument)),
    "examples": _examples,
    "roots": _roots,
    "recipe_digest": lambda argument: _recipe(argument).digest().hex(),
    "tokenizer_digest": lambda argument: tokenizer.digest_of(argument).hex(),
    "salt": lambda argument: digests.salt(
        argument["seed"], argument["kind"], *map(int, argument["numbers"])
    ).hex(),
    "document_leaf": lambda argument: digests.document_leaf(
        digests.salt(argument["seed"], "document", argument["index"]),
        *(argument[name] for name in ("id", "licence", "origin", "date", "text")),
    ).hex(),
    "split": lambda argument: documents.split_of(
        bytes.fromhex(argument["sha256"]), argument["validation_per_10000"]
    ),
    "validation_key": lambda argument: str(documents.key_of(bytes.fromhex(argument))),
    "documents_root": lambda argument: documents.root_of(argument).hex(),
    "part_leaf": lambda argument: _parts([argument])[0].hex(),
    "block_leaf": _block_leaf,
    "row_leaf": _row_leaf,
    "data_root": lambda argument: roots.data_root(
        argument["documents"],
        argument["sources"],
        argument["tokenizer"],
        argument["streams"],
        argument["pipeline"],
    ),
    "exact_sum": lambda argument: digests.float_bits(
        math.fsum(digests.bits_float(bits) for bits in argument)
    ),
    "segments_leaf": _segments_leaf,
    "segments_root": lambda argument: entries.segments_root(
        _segments(argument["segments"]), argument["rows"]
    ).hex(),
    "microbatch_leaf": _microbatch_leaf,
    "tensor_leaf": _tensor_leaf,
    "group_root": lambda argument: digests.group_root(
        {name: bytes.fromhex(leaf) for name, leaf in argument.items()}
    ).hex(),
    "state_root": lambda argument: digests.state_root(
        argument["step"], {name: bytes.fromhex(root) for name, root in argument["groups"].items()}
    ).hex(),
    "checkpoint_root": lambda argument: entries.checkpoint_root(
        argument["weights"], argument["tokenizer"], argument["architecture"]
    ).hex(),
    "philox_key": lambda argument: str(philox.key_of(argument["seed"], argument["purpose"])),
    "philox": _philox,
    "draws": lambda argument: philox.draws(
        int(argument["key"]), int(argument["start"]), argument["count"]
    ).tolist(),
    "uniform_signed": lambda argument: [
        digests.float_bits(value)
        for value in philox.uniform_signed(
            int(argument["key"]), int(argument["start"]), argument["count"]
        ).tolist()
    ],
    "initial_values": _initial_values,
    "order": _order,
    "cos_pi": lambda argument: digests.float_bits(cos_pi(digests.bits_float(argument))),
    "learning_rate": _learning_rate,
}


@pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{i}-{vector['name']}" for i, vector in enumerate(VECTORS)]
)
def test_vector(vector: dict[str, Any]) -> None:
    assert FUNCTIONS[vector["name"]](vector["input"]) == vector["output"]


def test_every_function_has_a_vector() -> None:
    assert {vector["name"] for vector in VECTORS} == set(FUNCTIONS)
