"""No bit depends on the number of threads, on what is computed beside, or on who calls."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from pellucid.kernels import calls, library
from tests.kernels.test_calls import (
    Case,
    Everywhere,
    adamw,
    add,
    attention,
    attention_backward,
    attention_inputs,
    embed,
    embed_backward,
    gram,
    loss,
    norm,
    norm_backward,
    norm_of,
    product,
    swiglu,
    swiglu_backward,
)
from tests.kernels.values import assert_same, tensor, values

BIG: dict[str, Callable[[], Case]] = {
    "product": lambda: product(1, 130, 70, 513),
    "gram": lambda: gram(1, 130, 513),
    "gram of a transposed": lambda: gram(1, 130, 513, "columns"),
    "product of a transposed onto": lambda: product(
        2, 129, 200, 260, "columns", "columns", onto=True
    ),
    "norm": lambda: norm(3, 131, 200, 1e-5),
    "norm backward": lambda: norm_backward(4, 600, 70, 1e-5, has_past=True),
    "swiglu": lambda: swiglu(20 * values(5, 50_001, finite=True), values(6, 50_001)),
    "swiglu backward": lambda: swiglu_backward(
        values(7, 50_001), values(8, 50_001), values(9, 50_001)
    ),
    "attention": lambda: attention(10, 3, 90, 6, 3, 10, finite=True),
    "attention backward": lambda: attention_backward(11, 3, 90, 6, 3, 10, finite=True),
    "loss": lambda: loss(12, 300, 130, 40),
    "embed": lambda: embed(13, 700, 90, 33),
    "embed backward": lambda: embed_backward(14, 700, 150, 33),
    "add": lambda: add(15, 50_001),
    "norm of": lambda: norm_of(16, [(150, 331), (7,), (90, 100)], finite=True),
    "adamw": lambda: adamw(17, [(150, 331), (77,), (90, 100)], 7, 1e-2, 0.5, finite=True),
}


@pytest.mark.parametrize("name", BIG)
def test_no_bit_depends_on_the_number_of_threads(everywhere: Everywhere, name: str) -> None:
    everywhere(*BIG[name](), threads=(1, 2, 3, 4))


def test_a_row_is_the_same_alone(everywhere: Everywhere) -> None:
    a, b, w = (
        tensor(values(1, 61, 513, finite=True)),
        tensor(values(2, 513, 40)),
        tensor(values(3, 40, 513)),
    )
    targets = torch.arange(61) % 40
    products, norms = calls.product(a, b), calls.norm(a, w[0], 1e-5)
    halves = torch.full((61,), 0.5)
    losses, log_sums, dx, _ = calls.loss(a, w, targets, (halves, halves))
    for rows in [slice(0, 1), slice(17, 18), slice(60, 61), slice(5, 29)]:
        few = a[rows]
        everywhere(lambda few=few: calls.product(few, b), (products[rows].numpy(),))
        everywhere(
            lambda few=few: calls.norm(few, w[0], 1e-5), tuple(one[rows].numpy() for one in norms)
        )
        wanted = losses[rows].numpy(), log_sums[rows].numpy(), dx[rows].numpy()
        half = halves[rows]
        everywhere(
            lambda few=few, y=targets[rows], half=half: calls.loss(few, w, y, (half, half))[:3],
            wanted,
        )


def test_a_sequence_is_the_same_alone(everywhere: Everywhere) -> None:
    inputs, (cos, sin, first), _ = attention_inputs(1, 3, 40, 4, 2, 10, finite=True)
    q, k, v = map(tensor, inputs)
    o, _, g = calls.attention(q, k, v, calls.Places(*map(tensor, (cos, sin, first))))
    for b in range(3):
        places = calls.Places(*map(tensor, (cos, sin, first[b : b + 1])))
        alone = [one[b : b + 1] for one in (q, k, v)]
        wanted = o[b : b + 1].numpy(), g[b : b + 1].numpy()
        everywhere(lambda alone=alone, places=places: calls.attention(*alone, places)[::2], wanted)


def test_callers_on_several_threads_do_not_disturb_each_other() -> None:
    a, b = tensor(values(1, 70, 300)), tensor(values(2, 300, 50))
    x, w, targets = tensor(values(3, 90, 20)), tensor(values(4, 50, 20)), torch.arange(90) % 50
    jobs = [
        lambda: (calls.product(a, b),),
        lambda: (calls.product(b.t(), a.t()),),
        lambda: calls.loss(x, w, targets, (torch.full((90,), 0.1), torch.full((90,), 0.2))),
        lambda: calls.norm(x, w[0], 1e-5),
    ]
    library.set_threads(2)
    wanted = [job() for job in jobs]
    with ThreadPoolExecutor(4) as pool:
        for index, got in enumerate(pool.map(lambda index: jobs[index % 4](), range(200))):
            for one, right in zip(got, wanted[index % 4], strict=True):
                assert_same(one, right.numpy())
    library.set_threads(1)
