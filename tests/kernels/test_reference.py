"""That the reference is right, so that it cannot be wrong together with the kernels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.kernels import reference
from tests.kernels.reference import fma32

SINGLES = st.floats(width=32, allow_nan=False, allow_infinity=False)
BIG = np.float32(2**24)  # BIG + 1 is BIG: whether a 1 survives tells the order of a sum.


def normal(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def bits(x: np.ndarray) -> list[int]:
    return np.ascontiguousarray(x, np.float32).view(np.uint32).ravel().tolist()


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype == np.float32 and a.shape == b.shape and bits(a) == bits(b)


def close(got: np.ndarray, wanted: torch.Tensor | np.ndarray, ulps: float) -> None:
    """got is f32 and within so many units of 2^-24 of the largest value wanted."""
    wanted = wanted.detach().numpy() if isinstance(wanted, torch.Tensor) else wanted
    assert got.dtype == np.float32 and got.shape == wanted.shape
    error = np.abs(got - wanted).max() / np.abs(wanted).max() * 2**24
    assert error <= ulps, f"{error} ulps"


def doubles(*arrays: np.ndarray) -> list[torch.Tensor]:
    return [torch.from_numpy(array.astype(np.float64)).requires_grad_() for array in arrays]


# fma32


def rounded(exact: Fraction, zero: float) -> float:
    """The f32 nearest to a number; an exact zero has the sign of `zero`."""
    if exact == 0:
        return zero
    exponent = exact.numerator.bit_length() - exact.denominator.bit_length()
    exponent -= abs(exact) < Fraction(2) ** exponent
    assert Fraction(2) ** exponent <= abs(exact) < Fraction(2) ** (exponent + 1)
    quantum = Fraction(2) ** max(exponent - 23, -149)
    value = round(exact / quantum) * quantum  # Halfway cases to the even one.
    if abs(value) >= 2**128:
        return math.copysign(math.inf, exact)
    return math.copysign(float(value), exact)


def exact_fma(a: float, b: float, c: float) -> float:
    product_sign = math.copysign(1, a) * math.copysign(1, b)
    zeros = (a == 0 or b == 0) and c == 0
    minus_zero = zeros and product_sign == math.copysign(1, c) == -1
    return rounded(Fraction(a) * Fraction(b) + Fraction(c), -0.0 if minus_zero else 0.0)


def assert_exact(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> None:
    got = fma32(a, b, c)
    wanted = [exact_fma(*values) for values in zip(a.tolist(), b.tolist(), c.tolist(), strict=True)]
    wrong = np.flatnonzero(got.view(np.uint32) != np.array(wanted, np.float32).view(np.uint32))
    assert not wrong.size, [
        (a[i].hex(), b[i].hex(), c[i].hex(), got[i], wanted[i]) for i in wrong[:3].tolist()
    ]


def singles(generator: np.random.Generator, count: int, low: int, high: int) -> np.ndarray:
    """Random significands, often nearly all zeros or ones; exponent fields from low
    up to high, 0 for denormals."""
    significand = generator.integers(0, 2**23, count)
    small = generator.integers(-3, 4, count) % 2**23
    significand = np.where(generator.random(count) < 0.4, small, significand)
    field = generator.integers(low, high, count)
    sign = generator.integers(0, 2, count)
    return (sign << 31 | field << 23 | significand).astype(np.uint32).view(np.float32)


@pytest.mark.parametrize(
    ("ab", "c"),
    [
        ((0, 255), (0, 255)),  # Anything.
        ((112, 142), (112, 142)),  # Like sizes.
        ((113, 117), (124, 128)),  # A product around half a unit of c's last place.
        ((50, 54), (0, 3)),  # The same among denormals.
        ((48, 66), (0, 3)),  # Results that are denormal, or become it.
        ((180, 191), (225, 255)),  # Around the largest.
        ((0, 1), (0, 1)),
    ],
)
def test_fma_is_exact_arithmetic_rounded_once(ab: tuple[int, int], c: tuple[int, int]) -> None:
    generator = np.random.default_rng(1)
    assert_exact(
        singles(generator, 2000, *ab), singles(generator, 2000, *ab), singles(generator, 2000, *c)
    )


def test_fma_where_the_product_cancels() -> None:
    generator = np.random.default_rng(2)
    a, b = singles(generator, 2000, 70, 180), singles(generator, 2000, 70, 180)
    c = -(a * b)
    assert_exact(a, b, c)
    assert_exact(a, b, np.nextafter(c, np.float32(0)))


def test_fma_next_to_midpoints() -> None:
    """What rounding to f64 first would get wrong: half a unit of c's last place, and
    2^-46 of that more or less."""
    up, down = np.float32(1 + 2**-23), np.float32(1 - 2**-23)
    factors = [
        (up, up),
        (up, down),
        (down, down),
        (np.float32(1), np.float32(1)),
        (-up, up),
        (-up, down),
    ]
    cases = [
        (
            x * np.float32(2.0**-shift),
            y * np.float32(2.0 ** (shift - 24 + exponent)),
            sign * significand,
        )
        for x, y in factors
        for shift, exponent in itertools.product((12, 30), (0, -60, 60, -120))
        for sign in (-1, 1)
        for significand in np.float32(2.0**exponent)
        * np.array([1, up, 2 - 2**-23, 1.5], np.float32)
    ]
    a, b, c = np.array(cases, np.float32).T.copy()
    assert_exact(a, b, c)
    with np.errstate(all="ignore"):
        twice = (a.astype(np.float64) * b + c).astype(np.float32)
    assert (twice != fma32(a, b, c)).any()


@settings(max_examples=300, deadline=None)
@given(SINGLES, SINGLES, SINGLES)
@example(0.0, 1.0, -0.0)
@example(-0.0, 1.0, -0.0)
@example(-0.0, 1.0, 0.0)
@example(2.0**-149, -(2.0**-149), -0.0)
@example(2.0**-149, 2.0**-149, 0.0)
@example(2.0**127, 2.0, -(2.0**104))
def test_fma_of_anything(a: float, b: float, c: float) -> None:
    assert_exact(*np.array([[a], [b], [c]], np.float32))


def test_fma_of_infinities_and_nan() -> None:
    inf, nan, one = math.inf, math.nan, 1.0
    cases = [
        (inf, one, one),
        (inf, 0.0, one),
        (-inf, one, inf),
        (one, one, -inf),
        (inf, inf, one),
        (one, nan, one),
    ]
    big = 3e38
    a, b, c = np.array([*cases, (big, big, -inf), (big, big, -big), (-big, big, big)], np.float32).T
    wanted = [inf, nan, nan, -inf, inf, nan, -inf, inf, -inf]
    np.testing.assert_array_equal(fma32(a, b, c), np.array(wanted, np.float32))


# Orders


def test_the_tree_of_lanes() -> None:
    for first, second in itertools.combinations(range(1, 32), 2):
        x = np.zeros(32, np.float32)
        x[0], x[first], x[second] = BIG, 1, 1
        # Two ones survive where they meet before they meet BIG: where both lanes reach
        # lane 0 in the same addition.
        i, j = first % 16, second % 16
        assert reference.lane_sum(x) == BIG + 2 * (i & -i == j & -j and i != 0)
        assert reference.lane_dot(x, np.ones_like(x)) == reference.lane_sum(x)


def test_what_is_absent_takes_no_part() -> None:
    x = np.array([np.nan, 3, -0.0, np.inf], np.float32)
    assert reference.lane_sum(x, np.array([False, True, False, False])) == 3
    ones, present = np.ones(4, np.float32), np.array([False, True, True, False])
    assert reference.product_sum(x, ones, present) == 3
    minus = np.array(-0.0, np.float32)
    assert bits(reference.product_sum(x, ones, np.zeros(4, bool), minus)) == bits(minus)
    assert reference.maximum(np.array([9, -5, -4, 9], np.float32), present) == -4
    assert bits(reference.maximum(np.array([-0.0, 0.0], np.float32))) == bits(minus)


def test_blocks_of_256() -> None:
    a = np.ones((1, 513), np.float32)
    a[0, 0] = BIG
    b = np.ones((513, 1), np.float32)
    assert reference.matmul(a[:, :256], b[:256]) == BIG
    assert reference.matmul(a, b) == BIG + 256
    assert reference.matmul(a[:, 1:257], b[:256], np.array([[BIG]])) == BIG + 256
    chosen = np.arange(513)[None] >= 254
    assert reference.matmul(a, b, present_MK=chosen) == 259


def test_the_first_block_is_the_total_and_not_added_to_zero() -> None:
    a, b = np.full((1, 1), -(2.0**-100), np.float32), np.full((1, 1), 2.0**-100, np.float32)
    assert bits(reference.matmul(a, b)) == [0x80000000]  # It underflows to -0.
    assert bits(reference.matmul(a, b, np.zeros((1, 1), np.float32))) == [0]


def test_the_tree_of_microbatches() -> None:
    class Term(str):
        def __add__(self, other: str) -> Term:
            return Term(f"({self}{other})".replace("'", ""))

    trees = [reference.tree_sum([Term(i) for i in range(count)]) for count in range(1, 8)]
    assert trees[:3] == ["0", "(01)", "((01)2)"]
    assert trees[3:] == ["((01)(23))", "(((01)(23))4)", "(((01)(23))(45))", "(((01)(23))((45)6))"]


# Functions


def test_exp() -> None:
    x = np.concatenate([-np.geomspace(1e-30, 87.3, 50_000), np.linspace(-87.3, 0, 50_000)]).astype(
        np.float32
    )
    x = x[x >= np.float32(-87.3)]
    wanted = np.exp(x.astype(np.float64))
    assert (np.abs(reference.exp(x) - wanted) / np.spacing(wanted.astype(np.float32))).max() < 1
    edges = np.array([0.0, -0.0, -87.31, -1e38, -np.inf], np.float32)
    assert same(reference.exp(edges), np.array([1, 1, 0, 0, 0], np.float32))
    assert np.isnan(reference.exp(np.array(np.nan, np.float32)))


def test_sigmoid() -> None:
    x = np.linspace(-87, 100, 50_001).astype(np.float32)
    wanted = 1 / (1 + np.exp(-x.astype(np.float64)))
    assert (np.abs(reference.sigmoid(x) - wanted) / wanted).max() < 3 * 2**-24
    assert reference.sigmoid(np.array([-np.inf, -0.0, np.inf], np.float32)).tolist() == [0, 0.5, 1]


def units(
    got: np.ndarray, exact: Callable[[mpmath.mpf], mpmath.mpf], x: np.ndarray, floor: float = 0.0
) -> float:
    """The largest error in units of the last place of the result, or of `floor`
    where the result is smaller."""
    assert got.dtype == np.float64
    with mpmath.workdps(40):
        wanted = [exact(mpmath.mpf(value)) for value in x.tolist()]
        return max(
            float(abs(mpmath.mpf(value) - right)) / math.ulp(max(abs(float(right)), floor))
            for value, right in zip(got.tolist(), wanted, strict=True)
        )


def test_functions_of_f64() -> None:
    generator = np.random.default_rng(3)
    x = np.concatenate(
        [2.0 ** generator.uniform(-1000, 1000, 300), generator.uniform(0.5, 2, 500), [1, 1.5, 1e4]]
    )
    assert units(reference.ln(x), mpmath.log, x) < 2
    x = np.concatenate(
        [generator.uniform(-700, 700, 300), generator.uniform(-20, 0, 300), [-700, -0.0, 0, 700]]
    )
    assert units(reference.exp64(x), mpmath.exp, x) < 2
    a = np.concatenate(
        [generator.uniform(0, 2**20, 300), generator.uniform(0, 10, 300), [0, np.pi / 2, np.pi]]
    )
    sine, cosine = reference.sincos(a)
    # The reduction of the angle is good to 2^-69 or so of n, not to the
    # last place of a result near 0.
    assert units(sine, mpmath.sin, a, floor=2.0**-3) < 2
    assert units(cosine, mpmath.cos, a, floor=2.0**-3) < 2


def test_power() -> None:
    assert [reference.power(3.0, t) for t in range(6)] == [1, 3, 9, 27, 81, 243]
    assert reference.power(0.999, 5) == 0.999 * ((0.999 * 0.999) * (0.999 * 0.999))
    assert abs(reference.power(0.95, 1000) / 0.95**1000 - 1) < 1e-12


# The model, against autograd in f64


def test_matmul() -> None:
    a, b, c = normal(1, 7, 600), normal(2, 600, 9), normal(3, 7, 9)
    wanted = a.astype(np.float64) @ b.astype(np.float64)
    close(reference.matmul(a, b), wanted, 16)
    close(reference.matmul(a, b, c), wanted + c, 16)


def test_embedding() -> None:
    tokens, E, dx = np.array([3, 1, 3, 0, 3]), normal(1, 5, 6), normal(2, 5, 6)
    (E64,) = doubles(E)
    x64 = E64[torch.from_numpy(tokens)]
    x64.backward(torch.from_numpy(dx.astype(np.float64)))
    close(reference.embedding(tokens, E), x64, 0)
    close(reference.embedding_backward(tokens, dx, 5), E64.grad, 2)
    assert same(reference.embedding_backward(tokens, dx, 5)[3], (dx[0] + dx[2]) + dx[4])
    minus = reference.embedding_backward(np.array([1]), np.full((1, 2), -0.0, np.float32), 2)
    assert np.signbit(minus).tolist() == [[False, False], [True, True]]


def test_rms_norm() -> None:
    x, w, dy, dp = normal(1, 9, 40), 1 + normal(2, 40) / 4, normal(3, 9, 40), normal(4, 9, 40)
    x64, w64 = doubles(x, w)
    y64 = x64 * torch.rsqrt((x64 * x64).mean(-1, keepdim=True) + 1e-2) * w64
    y64.backward(torch.from_numpy(dy.astype(np.float64)))
    close(reference.rms_norm(x, w, 1e-2), y64, 6)
    dx, dw = reference.rms_norm_backward(x, w, 1e-2, dy, None)
    close(dx, x64.grad, 6)
    close(dw, w64.grad, 6)
    dx, again = reference.rms_norm_backward(x, w, 1e-2, dy, dp)
    close(dx, x64.grad.numpy() + dp, 6)
    assert same(dw, again)


def rotated64(x: torch.Tensor, theta: float, start: int = 0) -> torch.Tensor:
    """x_..TC by complex numbers: another way than the reference's."""
    T, C = x.shape[-2:]
    frequencies = torch.tensor(theta, dtype=torch.float64) ** (
        -torch.arange(0, C, 2, dtype=torch.float64) / C
    )
    angles = torch.arange(start, start + T, dtype=torch.float64)[:, None] * frequencies
    turned = torch.complex(x[..., : C // 2], x[..., C // 2 :]) * torch.polar(
        torch.ones_like(angles), angles
    )
    return torch.cat([turned.real, turned.imag], -1)


def test_rotary_embedding() -> None:
    x, dx = normal(1, 2, 30, 8), normal(2, 2, 30, 8)
    cos, sin = reference.rotary_table(30, 8, 10_000.0)
    assert cos.shape == (30, 4) and (cos[0] == 1).all() and (sin[0] == 0).all()
    close(cos[:, 0], np.cos(np.arange(30.0)), 1)
    close(sin[:, 0], np.sin(np.arange(30.0)), 1)
    (x64,) = doubles(x)
    y64 = rotated64(x64, 10_000.0)
    y64.backward(torch.from_numpy(dx.astype(np.float64)))
    # An angle is an f32: up to 29, half a unit of 2^-19.
    close(reference.rotate(x, cos, sin), y64, 16)
    close(reference.rotate_backward(dx, cos, sin), x64.grad, 16)


@pytest.mark.parametrize("within", [False, True])
def test_attention(within: bool) -> None:
    B, T, H, K, C = 2, 37, 4, 2, 8
    q, k, v, do = (
        normal(1, B, T, H, C),
        normal(2, B, T, K, C),
        normal(3, B, T, K, C),
        normal(4, B, T, H, C),
    )
    first = np.zeros((B, T), int)
    if within:
        first[0, 5:] = 5
        first[0, 20:] = 20
        first[1, 36:] = 36
    table = reference.rotary_table(T, C, 500.0)
    q64, k64, v64 = doubles(q, k, v)
    j = torch.arange(T)
    seen = (torch.from_numpy(first)[:, :, None] <= j) & (j <= j[:, None])
    heads = [x.transpose(1, 2).repeat_interleave(H // x.shape[2], 1) for x in (q64, k64, v64)]
    scores = rotated64(heads[0], 500.0) @ rotated64(heads[1], 500.0).mT / math.sqrt(C)
    scores = scores.masked_fill(~seen[:, None], -torch.inf)
    o64 = (scores.softmax(-1) @ heads[2]).transpose(1, 2)
    o64.backward(torch.from_numpy(do.astype(np.float64)))

    o, m, g = reference.attention(q, k, v, *table, first)
    close(o, o64, 8)
    close(m, scores.amax(-1), 8)
    close(g, 1 / (scores - scores.amax(-1, keepdim=True)).exp().sum(-1), 8)
    dq, dk, dv = reference.attention_backward(q, k, v, o, do, *table, first)
    close(dq, q64.grad, 8)
    close(dk, k64.grad, 8)
    close(dv, v64.grad, 8)


def test_a_document_at_a_multiple_of_256_is_as_if_alone() -> None:
    """Lanes and blocks go by the position; those before the document are absent, not zeros."""
    B, T, H, K, C = 1, 270, 2, 1, 2
    q, k, v, do = (
        normal(1, B, T, H, C),
        normal(2, B, T, K, C),
        normal(3, B, T, K, C),
        normal(4, B, T, H, C),
    )
    first = np.where(np.arange(T) < 256, 0, 256)[None]
    cos, sin = reference.rotary_table(T, C, 500.0)
    o, m, g = reference.attention(q, k, v, cos, sin, first)
    gradients = reference.attention_backward(q, k, v, o, do, cos, sin, first)
    q, k, v, do, cos, sin = q[:, 256:], k[:, 256:], v[:, 256:], do[:, 256:], cos[256:], sin[256:]
    alone, m_alone, g_alone = reference.attention(q, k, v, cos, sin, first[:, 256:] - 256)
    assert same(alone, o[:, 256:]) and same(m_alone, m[..., 256:]) and same(g_alone, g[..., 256:])
    gradients_alone = reference.attention_backward(
        q, k, v, alone, do, cos, sin, first[:, 256:] - 256
    )
    assert all(same(b, a[:, 256:]) for a, b in zip(gradients, gradients_alone, strict=True))


def test_swiglu() -> None:
    a, u, dh = 4 * normal(1, 30, 30), normal(2, 30, 30), normal(3, 30, 30)
    a64, u64 = doubles(a, u)
    h64 = torch.nn.functional.silu(a64) * u64
    h64.backward(torch.from_numpy(dh.astype(np.float64)))
    close(reference.swiglu(a, u), h64, 4)
    da, du = reference.swiglu_backward(a, u, dh)
    close(da, a64.grad, 4)
    close(du, u64.grad, 4)


def test_loss() -> None:
    x, W, targets = normal(1, 12, 20), normal(2, 300, 20), np.arange(12) * 27
    weight = np.float32(1 / 12)
    x64, W64 = doubles(x, W)
    losses64 = torch.nn.functional.cross_entropy(
        x64 @ W64.T, torch.from_numpy(targets), reduction="none"
    )
    (losses64.sum() * float(weight)).backward()
    losses, log_sums, dx, dW = reference.loss(x, W, targets, weight, weight)
    close(log_sums, torch.logsumexp(x64 @ W64.T, 1), 8)
    close(losses, losses64, 8)
    close(dx, x64.grad, 12)
    close(dW, W64.grad, 12)
    x[3, 0] = np.nan
    losses, _, dx, _ = reference.loss(x, W, targets, weight, weight)
    assert (
        np.isnan(losses).tolist() == np.isnan(dx).all(1).tolist() == [row == 3 for row in range(12)]
    )


# The optimizer


def test_norm() -> None:
    tensors = [
        normal(seed, *shape) for seed, shape in enumerate([(100, 130), (64, 64), (7,), (4097,)])
    ]
    wanted = math.sqrt(math.fsum(float(x) ** 2 for tensor in tensors for x in tensor.ravel()))
    assert abs(reference.norm(tensors) / wanted - 1) < 1e-15
    assert reference.norm([np.array([3], np.float32), np.array([-4], np.float32)]) == 5


@pytest.mark.parametrize("shape", [(20, 30), (50,)])
def test_adamw(shape: tuple[int, ...]) -> None:
    options = {"lr": 1e-2, "weight_decay": 0.1, "eps": 1e-8, "betas": (0.9, 0.95)}
    p, m, v = normal(1, *shape), np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    (p64,) = doubles(p)
    optimizer = torch.optim.AdamW([p64], **options | {"weight_decay": 0.1 * (len(shape) > 1)})
    for step in range(1, 6):
        g = normal(10 + step, *shape)
        p64.grad = torch.from_numpy(g.astype(np.float64) * 0.5)
        optimizer.step()
        p, m, v = reference.adamw(
            p, g, m, v, step=step, lr=1e-2, beta1=0.9, beta2=0.95, epsilon=1e-8, weight_decay=0.1,
            clip_factor=np.float32(0.5),
        )  # fmt: skip
    close(p, p64, 5)
    close(m, optimizer.state[p64]["exp_avg"], 5)
    close(v, optimizer.state[p64]["exp_avg_sq"], 5)


def test_tiny_moments_become_zero() -> None:
    p, g = np.ones((1, 3), np.float32), np.zeros((1, 3), np.float32)
    moments = np.array([[2.0**-100, -(2.0**-100), -(2.0**-99)]], np.float32)
    options = {"lr": 0.0, "beta1": 0.9, "beta2": 0.9, "epsilon": 1e-8, "weight_decay": 0.0}
    _, m, v = reference.adamw(
        p, g, moments, np.abs(moments), step=1, clip_factor=np.float32(1), **options
    )
    assert bits(m)[:2] == bits(v)[:2] == [0, 0]
    assert m[0, 2] < 0 < v[0, 2]
