"""python -m tests.evaluate.answered: the digest of what a model answers, for the instruction set of
PELLUCID_ISA. Requests of every kind; the digest is over them, their likelihoods and their texts."""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np

from pellucid import operations, philox
from pellucid.evaluate.scoring import Asked, Scorer
from pellucid.record import digests
from pellucid.train.state import initial
from tests.families.test_families import VOCABULARY, recipe_of, scattered, shape_of

CONTEXT = 32


class Letters:
    """A tokenizer whose text says which tokens it is of."""

    document_token = 0

    def decode(self, tokens: list[int]) -> str:
        return "".join(chr(0x4E00 + token) for token in tokens)


def tokens(number: int, count: int) -> list[int]:
    drawn = philox.draws(philox.key_of(number, "test answers"), 0, count)
    return (drawn.astype(np.int64) % VOCABULARY).tolist()


def digest(threads: int, rows: int) -> str:
    recipe = recipe_of(shape_of("llama"), "portable")
    operations.of("portable", "cpu").configure("cpu", threads)
    state = initial(recipe, VOCABULARY)
    scattered(state.model)
    scorer = Scorer(state.model, Letters(), rows=rows)  # type: ignore[arg-type]
    asked = [
        Asked(tokens(n, 3 + 7 * n), [tokens(100 * n + m, 1 + m) for m in range(n % 4 + 1)])
        for n in range(10)
    ]
    asked += scorer.rolling(tokens(7, 3 * CONTEXT + 5))
    growing = [(tokens(n, 2 + 3 * n), (chr(0x4E00 + 7 * n),), 9) for n in range(12)]
    said: dict[str, Any] = {
        "asked": asked,
        "likelihoods": [*scorer.likelihoods(asked)],
        "growing": growing,
        "texts": [*scorer.generate(growing)],
    }
    return hashlib.sha256(digests.canonical(said)).hexdigest()


if __name__ == "__main__":
    for threads, rows in ((int(t), int(r)) for t, r in (a.split(",") for a in sys.argv[1:])):
        print(threads, rows, digest(threads, rows))
