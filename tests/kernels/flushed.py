"""Kernels where denormals are flushed: run by test_environment.py in a process
of its own, which this changes.

The argument is a library that switches flushing on when it is loaded. Exits 77 where it does not.
"""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import torch

from pellucid.kernels import calls, library
from tests.kernels import reference
from tests.kernels.values import NORMAL, assert_same, tensor

HOW = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-30, "weight_decay": 0.1, "step": 3}


def flushes() -> bool:
    half = np.full(1, NORMAL, np.float32) * np.float32(0.5)
    return half.view(np.uint32)[0] == 0


def tiny(seed: int, *shape: int) -> np.ndarray:
    """The products of two are denormal."""
    return np.random.default_rng(seed).uniform(-(2.0**-68), 2.0**-68, shape).astype(np.float32)


def has_denormals(results: tuple) -> bool:
    return any(((np.abs(one) > 0) & (np.abs(one) < NORMAL)).any() for one in results)


a, b, x, w = tiny(1, 70, 300), tiny(2, 300, 40), tiny(3, 50, 40), tiny(4, 30, 40)
targets = np.arange(50) % 30
row = tiny(5, 40, 30), tiny(6, 40, 30), tiny(7, 40, 30), np.abs(tiny(8, 40, 30))
places = *reference.rotary_table(50, 8, 1e4), np.zeros((1, 50), np.int32)
q, k, v = (tiny(seed, 1, 50, 1, 8) for seed in (9, 10, 11))
qkv = q * np.float32(2.0**68), k * np.float32(2.0**68), v


def wanted() -> dict[str, tuple]:
    o = reference.attention(*qkv, *places)[0]
    p, m, v = reference.adamw(*row, clip_factor=np.float32(1), **HOW)
    return {
        "product": (reference.matmul(a, b),),
        "gram": (reference.matmul(a, a.T),),
        "norm": (reference.rms_norm(x, w[0], 1e-40),),
        "swiglu": (reference.swiglu(x, x),),
        "loss": reference.loss(x, w, targets, 1e-20, 1e-20),
        "attention": (o, *reference.attention_backward(*qkv, o, o, *places)),
        "adamw": (p, m, v, reference.norm([p])),
    }


def computed() -> dict[str, tuple]:
    small = torch.full((len(targets),), 1e-20)
    inputs = *map(tensor, qkv), calls.Places(*map(tensor, places))
    forward = calls.attention(*inputs)
    p, _, m, v = moved = tuple(map(tensor, row))
    norm = calls.adamw(calls.AdamW(clip=1.0, **HOW), [moved])
    return {
        "product": (calls.product(tensor(a), tensor(b)),),
        "gram": (calls.gram(tensor(a)),),
        "norm": calls.norm(tensor(x), tensor(w[0]), 1e-40)[:1],
        "swiglu": (calls.swiglu(tensor(x), tensor(x)),),
        "loss": calls.loss(tensor(x), tensor(w), torch.from_numpy(targets), (small, small)),
        "attention": (forward[0], *calls.attention_backward(*inputs, forward, forward[0])),
        "adamw": (p, m, v, norm),
    }


def main() -> None:
    right = wanted()
    without = {name for name, results in right.items() if not has_denormals(results)}
    assert without == {"norm", "adamw"} and not flushes(), "theirs are on the way"
    ctypes.CDLL(sys.argv[1])
    if not flushes():
        sys.exit(77)
    library.set_threads(2)
    for _ in range(20):
        got = computed()
        assert flushes(), "the caller's own mode is put back"
        for name, results in got.items():
            for one, other in zip(results, right[name], strict=True):
                assert_same(one, other, name)


if __name__ == "__main__":
    main()
