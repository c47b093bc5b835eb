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
from pellucid.learning_rates import cos_pi, learning_rate
from pellucid.operations import portable
from pellucid.phases import planned
from pellucid.record import chain, digests, elements, entries, evaluations, merkle, rows
from pellucid.train.state import initial_values

PATH = Path(__file__).parents[2] / "docs" / "vectors.json"
VECTORS = json.loads(PATH.read_bytes())


def _recipe(given: dict[str, Any]) -> recipe.Recipe:
    return recipe.parse(given["toml"].encode(), "a vector")


def _segments(given: list[dict[str, Any]]) -> list[entries.Segment]:
    summed: list[dict[str, Any]] = [
        one | {"loss_sum": digests.bits_float(one["loss_sum"])} for one in given
    ]
    return [entries.Segment(**one) for one in summed]


def _segments_leaf(given: list[dict[str, Any]]) -> str:
    return digests.segments_leaf(
        (s.document, s.start, s.tokens, s.weight, s.loss_sum) for s in _segments(given)
    ).hex()


def _chain(bodies: list[dict[str, Any]]) -> dict[str, Any]:
    tip = chain.LedgerTip()
    return {"lines": [line.decode() for line in chain.lines_of(bodies, tip)], "head": tip.digest}


def _merkle_path(given: dict[str, Any]) -> list[str]:
    leaves = [merkle.leaf(one.encode()) for one in given["leaves"]]
    path = merkle.Levels(leaves).path(given["index"], given.get("neighbours", 1))
    return [sibling.hex() for _, sibling in path]


def _examples(given: list[dict[str, Any]]) -> dict[str, Any]:
    examples = evaluations.Examples()
    assert [examples.take(digests.canonical(one) + b"\n") for one in given] == [""] * len(given)
    return {"results": examples.tree.root().hex(), "numbers": examples.numbers()}


def _line(body: dict[str, Any]) -> str:
    return chain.line_of(body).decode()


def _roots(given: dict[str, str]) -> str:
    body = entries.step(
        number=1,
        tokens_so_far=1,
        row_leaves=[],
        microbatches=[],
        segments=[],
        **dict.fromkeys(("loss", "lr", "grad_norm", "weight_norm"), 0.0),
        after=entries.StateRoots(1, {"weights": {}}),
        roots={name: bytes.fromhex(root) for name, root in given.items()},
    )
    return _line({"roots": body["roots"]})


def _microbatch_leaf(given: dict[str, Any]) -> str:
    sums = (digests.bits_float(given[name]) for name in ("loss_sum", "objective"))
    counts = (given["index"], given["tokens"], given["weight"])
    return digests.microbatch_leaf(*counts, *sums, bytes.fromhex(given["gradient_root"])).hex()


def _tensor_leaf(given: dict[str, Any]) -> dict[str, Any]:
    content = bytes.fromhex(given["content"]) * given["repeated"]
    array = np.frombuffer(content, elements.DTYPES[given["dtype"]]).reshape(given["shape"])
    chunks = tuple(digests.content_digest(chunk) for chunk in elements.chunks_of(array))
    leaf = entries.Content(elements.dtype_of(array), array.shape, chunks).leaf(
        given["group"], given["name"]
    )
    root = digests.content_root(chunks)
    return {
        "blake3": [chunk.hex() for chunk in chunks],
        "content_root": root.hex(),
        "leaf": leaf.hex(),
    }


def _parts(given: list[dict[str, Any]]) -> list[bytes]:
    return [
        rows.part_leaf(
            digests.salt(one["seed"], "document", one["document"]),
            rows.Part(one["document"], one["first"], np.array(one["ids"], np.uint32)),
        )
        for one in given
    ]


def _row_leaf(given: dict[str, Any]) -> str:
    weights, positions = (tuple(map(tuple, given[name])) for name in ("weights", "positions"))
    use = rows.Use(weights, tuple(given["attention"]), positions, int(given["group"]))
    return rows.row_leaf(
        given["block"], given["start"], given["ids"], use, _parts(given["parts"])
    ).hex()


def _block_leaf(given: dict[str, Any]) -> str:
    return rows.block_leaf(int(given["number"]), given["ids"], _parts(given["parts"])).hex()


def _order(given: dict[str, Any]) -> dict[str, Any]:
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
        {key: tuple(one) if isinstance(one, list) else one for key, one in p.items()}
        for p in given["phases"]
    ]
    phases = schedule.Schedule([schedule.Phase(**plain, **one) for one in values])
    order = Order(given["seed"], given["sources"], given["block"], phases, given["without"])
    rows = order.along(given["rollbacks"]).rows(given["step"])
    return {name: column.tolist() for name, column in rows._asdict().items()}


def _initial_values(given: dict[str, Any]) -> list[str]:
    values = initial_values(portable, _recipe(given), given["tensor"], tuple(given["shape"]))
    return [struct.pack(">f", value).hex() for value in values.flatten().tolist()[: given["first"]]]


def _learning_rate(given: dict[str, Any]) -> list[str]:
    data = recipe.Data(sources=(recipe.Source(name="a"),))
    train = recipe.Train(**given["train"])
    phase = planned(None, recipe.Recipe(name="a", data=data, train=train))
    return [digests.float_bits(learning_rate(phase, step)) for step in given["steps"]]


def _philox(given: dict[str, Any]) -> list[str]:
    counter = np.array([[int(word, 16) for word in given["counter"]]], dtype=np.uint32)
    return [f"{word:08x}" for word in philox.philox(int(given["key"]), counter)[0].tolist()]


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "float_bits": lambda given: digests.float_bits(float(given)),
    "canonical": lambda given: digests.canonical(given).decode(),
    "value_digest": lambda given: digests.of_value(given["kind"], given["value"]).hex(),
    "merkle_root": lambda given: merkle.root(merkle.leaf(one.encode()) for one in given).hex(),
    "merkle_path": _merkle_path,
    "chain": _chain,
    "stack_entry": lambda given: _line(entries.stack(**given)),
    "merge_entry": lambda given: _line(entries.merge(**given)),
    "examples": _examples,
    "roots": _roots,
    "recipe_digest": lambda given: _recipe(given).digest().hex(),
    "tokenizer_digest": lambda given: tokenizer.digest_of(given).hex(),
    "salt": lambda given: digests.salt(
        given["seed"], given["kind"], *map(int, given["numbers"])
    ).hex(),
    "document_leaf": lambda given: digests.document_leaf(
        digests.salt(given["seed"], "document", given["index"]),
        *(given[name] for name in ("id", "licence", "origin", "date", "text")),
    ).hex(),
    "split": lambda given: documents.split_of(
        bytes.fromhex(given["sha256"]), given["validation_per_10000"]
    ),
    "validation_key": lambda given: str(documents.key_of(bytes.fromhex(given))),
    "documents_root": lambda given: documents.root_of(given).hex(),
    "part_leaf": lambda given: _parts([given])[0].hex(),
    "block_leaf": _block_leaf,
    "row_leaf": _row_leaf,
    "data_root": lambda given: roots.data_root(
        given["documents"],
        given["sources"],
        given["tokenizer"],
        given["streams"],
        given["pipeline"],
    ),
    "exact_sum": lambda given: digests.float_bits(
        math.fsum(digests.bits_float(bits) for bits in given)
    ),
    "segments_leaf": _segments_leaf,
    "segments_root": lambda given: entries.segments_root(
        _segments(given["segments"]), given["rows"]
    ).hex(),
    "microbatch_leaf": _microbatch_leaf,
    "tensor_leaf": _tensor_leaf,
    "group_root": lambda given: digests.group_root(
        {name: bytes.fromhex(leaf) for name, leaf in given.items()}
    ).hex(),
    "state_root": lambda given: digests.state_root(
        given["step"], {name: bytes.fromhex(root) for name, root in given["groups"].items()}
    ).hex(),
    "checkpoint_root": lambda given: entries.checkpoint_root(
        given["weights"], given["tokenizer"], given["architecture"]
    ).hex(),
    "philox_key": lambda given: str(philox.key_of(given["seed"], given["purpose"])),
    "philox": _philox,
    "draws": lambda given: philox.draws(
        int(given["key"]), int(given["start"]), given["count"]
    ).tolist(),
    "uniform_signed": lambda given: [
        digests.float_bits(value)
        for value in philox.uniform_signed(
            int(given["key"]), int(given["start"]), given["count"]
        ).tolist()
    ],
    "initial_values": _initial_values,
    "order": _order,
    "cos_pi": lambda given: digests.float_bits(cos_pi(digests.bits_float(given))),
    "learning_rate": _learning_rate,
}


@pytest.mark.parametrize(
    "vector", VECTORS, ids=[f"{i}-{vector['name']}" for i, vector in enumerate(VECTORS)]
)
def test_vector(vector: dict[str, Any]) -> None:
    assert FUNCTIONS[vector["name"]](vector["input"]) == vector["output"]


def test_every_function_has_a_vector() -> None:
    assert {vector["name"] for vector in VECTORS} == set(FUNCTIONS)
