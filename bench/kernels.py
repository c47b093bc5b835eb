"""Our kernels beside PyTorch's, one operation at a time, in the shapes of the
two models of bench/shapes.py.

    python bench/kernels.py [--busy] [--pairs 20] [--models bits 30M] [--only
    product attention …] [--threads 2]

One process, the same number of threads for both. A pair is one measurement of ours and one of
PyTorch's, the first alternating; a measurement repeats the operation for some milliseconds
after one call that is not counted, because the first call wakes threads. PyTorch's OpenMP
threads spin for some milliseconds after their work, ours do not; so that nobody pays for
another's spinning there is a pause before every measurement, long enough for it to end. Results
are allocated anew by both, from memory that the process keeps, as it does in training:
otherwise it is chance which of them is given pages that have to be cleared first. The ratio is
PyTorch's seconds over ours: over 1, ours is faster.

--busy measures everything once more while another process keeps one core busy.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import measuring
import torch
import torch.nn.functional as F
from plain import angles, rotate
from shapes import EPSILON, MODELS, THETA, Shape
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, get_total_norm

from pellucid.kernels import calls, library

PAUSE = 0.015  # Seconds; GNU OpenMP's threads spin for 3 to 8 ms.
LEAST = 0.010  # Seconds a measurement takes at least.
KINDS = ("product", "attention", "loss", "update", "rows")


class Case(NamedTuple):
    """An operation of a model's step. flops is 0 where bytes are the limit."""

    kind: str
    name: str
    flops: float
    number: int  # Of such operations in a step.
    ours: Callable[[], object]
    theirs: Callable[[], object]


class Result(NamedTuple):
    """Seconds of one operation, a value a pair."""

    case: Case
    ours: list[float]
    theirs: list[float]

    def ratios(self) -> list[float]:
        return [theirs / ours for ours, theirs in zip(self.ours, self.theirs, strict=True)]

    def ratio(self) -> float:
        return statistics.median(self.ratios())


def timed(operation: Callable[[], object], repeat: int) -> float:
    """Seconds of one operation."""
    time.sleep(PAUSE)
    if repeat > 1:
        operation()
    started = time.perf_counter()
    for _ in range(repeat):
        operation()
    return (time.perf_counter() - started) / repeat


def measure(case: Case, pairs: int) -> Result:
    ours, theirs = case.ours, case.theirs
    timed(theirs, 1)
    repeat = max(1, math.ceil(LEAST / max(timed(ours, 2), 1e-7)))
    result = Result(case, [], [])
    for pair in range(pairs):
        for who in (0, 1) if pair % 2 else (1, 0):
            (result.theirs if who else result.ours).append(timed(theirs if who else ours, repeat))
    return result


def products(shape: Shape) -> Iterator[Case]:
    """Of every weight (N, K): y = x Wᵀ, dx = dy W, dW = dyᵀ x."""
    M = shape.tokens
    for name, (N, K, number) in shape.weights().items():
        x, w, dy = torch.randn(M, K), torch.randn(N, K), torch.randn(M, N)
        sides = {"forward": (x, w.t()), "input": (dy, w), "weight": (dy.t(), x)}
        for side, (a, b) in sides.items():
            what = f"{name} {side} {a.shape[0]}x{b.shape[1]}x{a.shape[1]}"
            yield Case(
                "product", what, 2.0 * M * N * K, number, *both(calls.product, torch.mm, a, b)
            )


def both(
    ours: Callable[..., object], theirs: Callable[..., object], *arguments: Any
) -> tuple[Callable[[], object], Callable[[], object]]:
    return lambda: ours(*arguments), lambda: theirs(*arguments)


def attention(shape: Shape) -> Iterator[Case]:
    """Rotary embedding and causal attention, forward, and forward and backward."""
    B, T, H, K, C = shape.batch, shape.context, shape.heads, shape.kv_heads, shape.head_width
    q, k, v, do = (torch.randn(B, T, heads, C) for heads in (H, K, K, H))
    places = calls.Places(*calls.rotary_table(T, C, THETA), torch.zeros(B, T, dtype=torch.int32))
    cos_TC, sin_TC = angles(T, C)

    def stock(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = rotate(q.transpose(1, 2), cos_TC, sin_TC), rotate(k.transpose(1, 2), cos_TC, sin_TC)
        out = F.scaled_dot_product_attention(
            q, k, v.transpose(1, 2), is_causal=True, enable_gqa=H != K
        )
        return out.transpose(1, 2)

    def ours_both() -> object:
        return calls.attention_backward(q, k, v, places, calls.attention(q, k, v, places), do)

    with_gradient = [x.clone().requires_grad_() for x in (q, k, v)]

    def stock_both() -> object:
        return torch.autograd.grad(stock(*with_gradient), with_gradient, do)

    each = shape.attention_flops() / shape.layers
    size = f"B{B} T{T} H{H} C{C}"
    yield Case(
        "attention",
        f"attention forward {size}",
        each,
        shape.layers,
        lambda: calls.attention(q, k, v, places),
        lambda: stock(q, k, v),
    )
    yield Case(
        "attention", f"attention both {size}", 3.5 * each, shape.layers, ours_both, stock_both
    )


def losses(shape: Shape) -> Iterator[Case]:
    """The output projection, the cross-entropy, and their gradients at once."""
    M, V, D = shape.tokens, shape.vocabulary, shape.width
    x, w, targets = torch.randn(M, D), torch.randn(V, D) / math.sqrt(D), torch.randint(V, (M,))
    with_gradient = [x.clone().requires_grad_(), w.clone().requires_grad_()]
    weights = torch.full((M,), 1 / M)

    def stock() -> object:
        return torch.autograd.grad(
            F.cross_entropy(F.linear(*with_gradient), targets), with_gradient
        )

    yield Case(
        "loss",
        f"loss, both {M}x{V}x{D}",
        6.0 * M * V * D,
        1,
        lambda: calls.loss(x, w, targets, (weights, weights)),
        stock,
    )


def updates(shape: Shape) -> Iterator[Case]:
    """Norm of the gradients, clipping, AdamW, norm of the weights."""
    D, sizes = (
        shape.width,
        [(N, K) for N, K, number in shape.weights().values() for _ in range(number)],
    )
    sizes += [(shape.vocabulary, D)] * (not shape.tied) + [(D,)] * (2 * shape.layers + 1)
    rows = [(torch.randn(s), torch.randn(s), torch.zeros(s), torch.zeros(s)) for s in sizes]

    def ours() -> object:
        clip = 1.0 / calls.norm_of([row[1] for row in rows])
        return calls.adamw(calls.AdamW(3e-4, 0.9, 0.95, 1e-8, 0.1, 10, clip), rows)

    parameters = [torch.nn.Parameter(p.clone()) for p, *_ in rows]
    for parameter, row in zip(parameters, rows, strict=True):
        parameter.grad = row[1].clone()
    optimizer = torch.optim.AdamW(
        parameters, lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True
    )

    def stock() -> object:
        clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return get_total_norm(parameters)

    yield Case(
        "update", f"norms and AdamW, {shape.parameters() / 1e6:.1f}M parameters", 0, 1, ours, stock
    )


def rows(shape: Shape) -> Iterator[Case]:
    """What goes row by row, or element by element."""
    M, D, Fw, V, number = shape.tokens, shape.width, shape.mlp_width, shape.vocabulary, shape.layers
    a, u, dh = torch.randn(M, Fw), torch.randn(M, Fw), torch.randn(M, Fw)
    with_gradient = [a.clone().requires_grad_(), u.clone().requires_grad_()]

    def swiglu_both() -> object:
        h = F.silu(with_gradient[0]) * with_gradient[1]
        return torch.autograd.grad(h, with_gradient, dh)

    yield Case(
        "rows",
        f"swiglu forward {M}x{Fw}",
        0,
        number,
        lambda: calls.swiglu(a, u),
        lambda: F.silu(a) * u,
    )
    yield Case(
        "rows",
        f"swiglu both {M}x{Fw}",
        0,
        number,
        lambda: (calls.swiglu(a, u), calls.swiglu_backward(a, u, dh)),
        swiglu_both,
    )

    x, w, dy, past = torch.randn(M, D), torch.randn(D), torch.randn(M, D), torch.randn(M, D)
    x_w = [x.clone().requires_grad_(), w.clone().requires_grad_()]

    def ours_norm() -> object:
        return calls.norm_backward(x, w, calls.norm(x, w, EPSILON)[1], dy, past)

    def stock_norm() -> object:
        dx, dw = torch.autograd.grad(F.rms_norm(x_w[0], (D,), x_w[1], EPSILON), x_w, dy)
        return dx + past, dw

    yield Case(
        "rows",
        f"norm forward {M}x{D}",
        0,
        2 * number + 1,
        lambda: calls.norm(x, w, EPSILON),
        lambda: F.rms_norm(x, (D,), w, EPSILON),
    )
    yield Case("rows", f"norm both {M}x{D}", 0, 2 * number + 1, ours_norm, stock_norm)

    tokens, e = torch.randint(V, (M,)), torch.randn(V, D)
    e_gradient = e.clone().requires_grad_()

    def ours_embed() -> object:
        return calls.embed(tokens, e), calls.embed_backward(tokens, dy, V)

    yield Case(
        "rows",
        f"embedding both {M} of {V}x{D}",
        0,
        1,
        ours_embed,
        lambda: torch.autograd.grad(F.embedding(tokens, e_gradient), e_gradient, dy),
    )


MAKERS = {
    "product": products,
    "attention": attention,
    "loss": losses,
    "update": updates,
    "rows": rows,
}


def line(result: Result) -> str:
    case, ours, theirs = (
        result.case,
        statistics.median(result.ours),
        statistics.median(result.theirs),
    )
    speed = (
        f"{case.flops / ours / 1e9:>8.1f} {case.flops / theirs / 1e9:>8.1f}"
        if case.flops
        else " " * 17
    )
    low, high = measuring.interval(result.ratios(), 2000)
    ratio = f"{result.ratio():>7.3f} ({low:.3f} to {high:.3f})"
    return (
        f"  {case.name:<44}{case.number:>3} {ours * 1e3:>9.3f} {theirs * 1e3:>9.3f} {speed} {ratio}"
    )


def summary(name: str, results: list[Result]) -> str:
    """The geometric mean of the ratios, weighted by how many FLOPs of a step
    each stands for, and the worst."""
    weights = [one.case.flops * one.case.number for one in results]
    total = sum(
        weight * math.log(one.ratio()) for one, weight in zip(results, weights, strict=True)
    )
    worst = min(results, key=Result.ratio)
    mean = math.exp(total / sum(weights))
    return (
        f"  {name}: weighted geometric mean {mean:.3f}, worst {worst.ratio():.3f} "
        f"({worst.case.name})"
    )


def run(models: list[str], kinds: list[str], pairs: int) -> None:
    others = measuring.Others()
    heads = f"{'ours ms':>9} {'torch ms':>9} {'GFLOP/s':>8} {'torch':>8}"
    for model in models:
        print(f"{model}{'':<{46 - len(model)}}{'×':>3} {heads}   ratio (95%)")
        for kind in kinds:
            results = []
            for case in MAKERS[kind](MODELS[model]):
                results.append(measure(case, pairs))
                print(line(results[-1]), flush=True)
            if kind == "product":
                print(summary(f"products of {model}", results), flush=True)
    print(others.line(), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--busy", action="store_true")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(arguments.threads)
    library.set_threads(arguments.threads)
    library.keep_memory()
    chosen = (arguments.models, arguments.only, arguments.pairs)
    isa = library.isa(library.kernels())
    print(
        f"{arguments.threads} threads each, {isa}, torch {torch.__version__}, {arguments.pairs} "
        "pairs"
    )
    run(*chosen)
    if arguments.busy:
        print("\nbeside a process that keeps one core busy")
        with measuring.busy_core():
            run(*chosen)


if __name__ == "__main__":
    main()
