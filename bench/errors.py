"""Rounding errors of our kernels beside PyTorch's float32, both against float64.

    python bench/errors.py [--seed 1] [--threads 2]

Every operation forward and backward, on random normal inputs in the shapes of real models. The
reference is the same formula in float64 by PyTorch on the same float32 inputs. The unit of a
row is the root mean square of PyTorch's own error of that quantity; columns give root mean
squares and largest errors in that unit. The bar: at most twice PyTorch's, in both. The exit
code tells whether all rows hold it."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from shapes import EPSILON, THETA
from torch import Tensor

from pellucid.kernels import calls, library
from pellucid.objectives import CrossEntropy, Minimised, Use
from pellucid.operations import native, portable

BAR = 2.0

# Quantities by name, of operations and inputs: the inputs are float32, or all of
# them float64 for the reference.
Quantities = dict[str, Tensor]
Operation = Callable[..., Quantities]


def gradients(y: Tensor, dy: Tensor | None, **inputs: Tensor) -> Quantities:
    found = torch.autograd.grad(y, list(inputs.values()), dy)
    return {f"d{name}": gradient for name, gradient in zip(inputs, found, strict=True)}


def linear(ops: ModuleType, x: Tensor, w: Tensor, dy: Tensor) -> Quantities:
    (y,) = ops.linears(x, w)
    return {"y": y, **gradients(y, dy, x=x, w=w)}


def three_linears(
    ops: ModuleType, x: Tensor, w1: Tensor, w2: Tensor, w3: Tensor, dy: Tensor
) -> Quantities:
    """Only the gradient of their common input, which accumulates."""
    y = torch.cat(ops.linears(x, w1, w2, w3), dim=-1)
    return gradients(y, dy, x=x)


def linear_add(ops: ModuleType, x: Tensor, w: Tensor, past: Tensor) -> Quantities:
    return {"y": ops.linear_add(x, w, past)}


def norm(ops: ModuleType, x: Tensor, w: Tensor, dy: Tensor) -> Quantities:
    _, y = ops.norm(x, w, EPSILON)
    return {"y": y, **gradients(y, dy, x=x, w=w)}


def swiglu(ops: ModuleType, a: Tensor, u: Tensor, dh: Tensor) -> Quantities:
    h = ops.swiglu(a, u)
    return {"h": h, **gradients(h, dh, a=a, u=u)}


def attention(
    ops: ModuleType, q: Tensor, k: Tensor, v: Tensor, do: Tensor, first: Tensor | None = None
) -> Quantities:
    """With the same float32 cosines and sines for all."""
    T, C = q.shape[1], q.shape[3]
    tables = [
        table if ops is portable else table.repeat(1, 2).to(q)
        for table in calls.rotary_table(T, C, THETA)
    ]
    o = ops.attention(q, k, v, (tables[0], tables[1]), first)
    return {"o": o, **gradients(o, do, q=q, k=k, v=v)}


def loss(ops: ModuleType, x: Tensor, w: Tensor, targets: Tensor) -> Quantities:
    weight = 1 / targets.numel()
    if ops is portable:
        use = Use(np.ones(targets.shape, np.uint32), np.zeros(0, np.uint64), None)
        said, objective = ops.loss(x, w, targets, Minimised(CrossEntropy(), use, targets.numel()))
        losses = torch.from_numpy(said.losses_BT)
    else:
        logits = F.linear(x, w).flatten(0, 1)
        losses = F.cross_entropy(logits, targets.flatten(), reduction="none").view_as(targets)
        objective = losses.sum() * weight
    return {"losses": losses, **gradients(objective, None, x=x, w=w)}


def embedding(ops: ModuleType, tokens: Tensor, e: Tensor, dx: Tensor) -> Quantities:
    return gradients(ops.embed(tokens, e), dx, e=e)


def adamw(
    ops: ModuleType, p: Tensor, g: Tensor, m: Tensor, v: Tensor, vector: Tensor
) -> Quantities:
    """A step of a matrix, and of a vector, which has no weight decay."""
    rows = [tuple(x.detach().clone() for x in (p, g, m, v.abs()))]
    rows.append(tuple(x.detach().clone() for x in (vector, g[0], m[0], v[0].abs())))
    ops.adamw(calls.AdamW(1e-3, 0.9, 0.95, 1e-8, 0.1, 10, 0.3), rows)
    return {"p": rows[0][0], "m": rows[0][2], "v": rows[0][3], "p of a vector": rows[1][0]}


def norms(ops: ModuleType, *tensors: Tensor) -> Quantities:
    """Of each tensor by itself, relative to its value."""
    values = [
        ops.norm_of([x.detach()]) / float(torch.linalg.vector_norm(x.detach().double()))
        for x in tensors
    ]
    return {"norm": torch.tensor(values, dtype=torch.float64)}


def rotary(ops: ModuleType, positions: Tensor) -> Quantities:
    T, C = len(positions), 64
    if positions.dtype == torch.float64:
        powers = torch.arange(0, C, 2, dtype=torch.float64) / C
        angles = torch.outer(positions.detach(), THETA**-powers)
        return {"cosines": angles.cos(), "sines": angles.sin()}
    cosines, sines = ops.rotary(T, C, THETA)
    return {"cosines": cosines[:, : C // 2], "sines": sines[:, : C // 2]}


def cases() -> Iterator[tuple[str, Operation, list[Tensor]]]:
    """An operation under a name with its float32 inputs."""
    yield from products()
    R = torch.randn
    yield "norm 4096x512", norm, [R(8, 512, 512), R(512), R(8, 512, 512)]
    yield "swiglu 4096x1408", swiglu, [R(8, 512, 1408) for _ in range(3)]
    yield from attentions()
    for V, D in ((4096, 256), (8192, 512)):
        inputs = [R(8, 512, D), R(V, D) / math.sqrt(D), torch.randint(V, (8, 512))]
        yield f"loss 4096x{V}x{D}", loss, inputs
    yield (
        "embedding 4096 of 512x256",
        embedding,
        [torch.randint(512, (8, 512)), R(512, 256), R(8, 512, 256)],
    )
    yield (
        "AdamW 1408x512",
        adamw,
        [R(1408, 512) * 0.02, R(1408, 512), R(1408, 512), R(1408, 512), R(512)],
    )
    yield "norms of 1408x512", norms, [R(1408, 512) for _ in range(16)]
    yield "rotary 2048x64", rotary, [torch.arange(2048.0)]


def products() -> Iterator[tuple[str, Operation, list[Tensor]]]:
    R = torch.randn
    for N, K in (
        (256, 256),
        (672, 256),
        (256, 672),
        (1408, 512),
        (512, 1408),
        (8192, 512),
        (512, 4096),
    ):
        yield f"linear 4096x{N}x{K}", linear, [R(8, 512, K), R(N, K) / math.sqrt(K), R(8, 512, N)]
    three = [R(512, 512) / math.sqrt(512) for _ in range(3)]
    yield "three linears 4096x512x512", three_linears, [R(8, 512, 512), *three, R(8, 512, 3 * 512)]
    yield (
        "linear into 4096x512x1408",
        linear_add,
        [R(8, 512, 1408), R(512, 1408) / math.sqrt(1408), R(8, 512, 512)],
    )


def attentions() -> Iterator[tuple[str, Operation, list[Tensor]]]:
    R = torch.randn
    for B, T, H, K, C in (
        (16, 256, 4, 4, 64),
        (4, 512, 8, 8, 64),
        (4, 512, 8, 2, 64),
        (1, 2048, 4, 4, 128),
    ):
        inputs = [R(B, T, heads, C) for heads in (H, K, K, H)]
        yield f"attention B{B} T{T} H{H} K{K} C{C}", attention, inputs
        if T == 512:
            first_T = (torch.arange(T) // 200 * 200).to(torch.int32)
            yield (
                f"attention within B{B} T{T} H{H} K{K} C{C}",
                attention,
                [*inputs, first_T.repeat(B, 1)],
            )


def evaluated(
    operation: Operation, ops: ModuleType, inputs: list[Tensor], dtype: torch.dtype
) -> Quantities:
    given = [x.to(dtype).requires_grad_() if x.is_floating_point() else x for x in inputs]
    return {name: value.detach().double() for name, value in operation(ops, *given).items()}


def rows(name: str, operation: Operation, inputs: list[Tensor]) -> Iterator[tuple[str, bool]]:
    """A line of the table for each quantity, and whether it holds the bar."""
    exact = evaluated(operation, native, inputs, torch.float64)
    ours, theirs = (evaluated(operation, ops, inputs, torch.float32) for ops in (portable, native))
    for quantity, reference in exact.items():
        (our_rms, our_max), (rms, most) = (errors(of[quantity], reference) for of in (ours, theirs))
        unit = rms or 1.0
        held = our_rms <= BAR * rms and our_max <= BAR * most
        columns = (
            f"{unit:>10.2e} {our_rms / unit:>9.2f} {our_max / unit:>9.2f} {most / unit:>10.2f}"
        )
        ratio = f"{our_max / (most or 1.0):>8.2f}"
        yield f"{name:<38}{quantity:<14}{columns} {ratio}{'' if held else '   OVER THE BAR'}", held


def errors(value: Tensor, reference: Tensor) -> tuple[float, float]:
    """Root mean square and largest."""
    difference = value - reference
    return float(difference.square().mean().sqrt()), float(difference.abs().max())


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(arguments.threads)
    library.set_threads(arguments.threads)
    print(f"{'':<52}{'unit':>10} {'ours rms':>9} {'ours max':>9} {'torch max':>10} {'max/max':>8}")
    held = []
    for case in cases():
        for line, fine in rows(*case):
            print(line, flush=True)
            held.append(fine)
    print(f"{sum(held)} of {len(held)} quantities within {BAR:g} times PyTorch's error")
    sys.exit(not all(held))


if __name__ == "__main__":
    main()
