"""Every kernel gives the reference's bits, for any shape and value, on every
instruction set and number of threads."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid import philox
from pellucid.kernels import calls, library
from tests.kernels import reference
from tests.kernels.values import assert_same, tensor, values

Everywhere = Callable[..., None]
Case = tuple[Callable[[], object], tuple]  # A call, and what it has to return.

SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(1, 40)
SUMMED = SIZES | st.sampled_from([255, 256, 257, 511, 512, 513, 600])
FORMS = st.sampled_from(["rows", "columns", "part"])
some = settings(max_examples=60, deadline=None)


def seeds(seed: int) -> itertools.count[int]:
    """A seed for every array."""
    return itertools.count(1000 * seed)


# Matrix products


def laid_out(array: np.ndarray, form: str) -> torch.Tensor:
    if form == "columns":
        return tensor(array.T).t()
    if form == "part":  # Of a matrix that nothing else of may be read.
        whole = np.full(np.add(array.shape, (2, 3)), np.nan, np.float32)
        whole[1:-1, 1:-2] = array
        return tensor(whole)[1:-1, 1:-2]
    return tensor(array)


def product(
    seed: int,
    M: int,
    N: int,
    K: int,
    a_form: str = "rows",
    b_form: str = "rows",
    onto: bool = False,
) -> Case:
    new = seeds(seed)
    a, b = values(next(new), M, K), values(next(new), K, N)
    start = values(next(new), M, N) if onto else None
    given = laid_out(a, a_form), laid_out(b, b_form), None if start is None else tensor(start)
    return lambda: calls.product(*given), (reference.matmul(a, b, start),)


@some
@given(SEEDS, SIZES, SIZES, SUMMED, FORMS, FORMS, st.booleans())
def test_product(
    everywhere: Everywhere, seed: int, M: int, N: int, K: int, a_form: str, b_form: str, onto: bool
) -> None:
    everywhere(*product(seed, M, N, K, a_form, b_form, onto))


def gram(seed: int, M: int, K: int, form: str = "rows") -> Case:
    a = values(seed, M, K)
    given = laid_out(a, form)
    return lambda: calls.gram(given), (reference.matmul(a, a.T),)


@some
@given(SEEDS, SIZES, SUMMED, FORMS)
def test_gram(everywhere: Everywhere, seed: int, M: int, K: int, form: str) -> None:
    everywhere(*gram(seed, M, K, form))


@pytest.mark.parametrize("form", ["rows", "columns"])
@pytest.mark.parametrize("shape", [(300, 700), (96, 2100), (1030, 40), (721, 300)], ids=str)
def test_half_of_a_gram_has_the_bits_of_a_product(
    everywhere: Everywhere, shape: tuple[int, int], form: str
) -> None:
    """Of many parts, some wholly above the diagonal, and of what is symmetric already."""
    a = laid_out(np.random.default_rng(4).standard_normal(shape, np.float32), form)
    whole = calls.product(a, a.t())
    everywhere(lambda: calls.gram(a), (whole.numpy(),))
    assert torch.equal(whole, whole.t())
    again = calls.product(whole, whole)
    everywhere(lambda: calls.gram(whole), (again.numpy(),))


LARGE = [(280, 720, 260), (20, 1030, 60), (30, 70, 2100), (70, 3, 1100)]


@pytest.mark.parametrize("b_form", ["rows", "columns"])
@pytest.mark.parametrize("a_form", ["rows", "columns"])
@pytest.mark.parametrize("shape", LARGE, ids=str)
def test_a_product_of_many_parts(
    everywhere: Everywhere, shape: tuple[int, int, int], a_form: str, b_form: str
) -> None:
    """More rows, columns and terms than one task, one packing or one cache takes: an
    element is what it is alone."""
    M, N, K = shape
    a, b, chosen = values(1, M, K), values(2, K, N), np.random.default_rng(3)
    rows = np.unique([0, M - 1, *chosen.integers(M, size=6)])
    columns = np.unique([0, N - 1, *chosen.integers(N, size=6)])
    given = laid_out(a, a_form), laid_out(b, b_form)
    expected = reference.matmul(a[rows], b[:, columns], None)
    everywhere(lambda: calls.product(*given)[rows][:, columns].contiguous(), (expected,))


# Row by row


def norm(seed: int, M: int, D: int, epsilon: float) -> Case:
    new = seeds(seed)
    x, w = values(next(new), M, D), values(next(new), D)
    r = reference.quiet(reference._inverse_rms)(x, epsilon)[:, 0]
    return lambda: calls.norm(tensor(x), tensor(w), epsilon), (reference.rms_norm(x, w, epsilon), r)


def norm_backward(seed: int, M: int, D: int, epsilon: float, has_past: bool) -> Case:
    new = seeds(seed)
    x, w, dy = values(next(new), M, D), values(next(new), D), values(next(new), M, D)
    past = values(next(new), M, D) if has_past else None

    def call() -> tuple[torch.Tensor, ...]:
        r = calls.norm(tensor(x), tensor(w), epsilon)[1]
        return calls.norm_backward(
            tensor(x), tensor(w), r, tensor(dy), None if past is None else tensor(past)
        )

    return call, reference.rms_norm_backward(x, w, epsilon, dy, past)


EPSILONS = st.sampled_from([1e-12, 1e-5, 0.5])


@some
@given(SEEDS, SIZES, SIZES | st.sampled_from([64, 257]), EPSILONS)
def test_norm(everywhere: Everywhere, seed: int, M: int, D: int, epsilon: float) -> None:
    everywhere(*norm(seed, M, D, epsilon))


@some
@given(SEEDS, SUMMED, SIZES, EPSILONS, st.booleans())
def test_norm_backward(
    everywhere: Everywhere, seed: int, M: int, D: int, epsilon: float, has_past: bool
) -> None:
    everywhere(*norm_backward(seed, M, D, epsilon, has_past))


def swiglu(a: np.ndarray, u: np.ndarray) -> Case:
    return lambda: calls.swiglu(tensor(a), tensor(u)), (reference.swiglu(a, u),)


def swiglu_backward(a: np.ndarray, u: np.ndarray, dh: np.ndarray) -> Case:
    return lambda: calls.swiglu_backward(
        tensor(a), tensor(u), tensor(dh)
    ), reference.swiglu_backward(a, u, dh)


@some
@given(SEEDS, SIZES, SIZES, st.sampled_from([1, 100]))
def test_swiglu(everywhere: Everywhere, seed: int, M: int, F: int, scale: int) -> None:
    new = seeds(seed)
    with np.errstate(over="ignore"):
        a = values(next(new), M, F) * np.float32(scale)
    u, dh = values(next(new), M, F), values(next(new), M, F)
    everywhere(*swiglu(a, u))
    everywhere(*swiglu_backward(a, u, dh))


def test_the_exponential_inside_swiglu_for_a_hundred_thousand_gates(everywhere: Everywhere) -> None:
    edge = np.float32(87.3) + np.arange(-50, 50, dtype=np.float32) * np.float32(2**-17)
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    a = np.concatenate(
        [np.linspace(0, 110, 50_000).astype(np.float32), edge, powers, [np.float32(np.inf)]]
    )
    a = np.concatenate([a, -a])
    everywhere(*swiglu(a, np.ones_like(a)))
    everywhere(*swiglu_backward(a, np.ones_like(a), np.ones_like(a)))


# Attention


def documents(seed: int, B: int, T: int) -> np.ndarray:
    """lo(i): the first position of i's document; or anything that does not
    descend and is not after i."""
    generator = np.random.default_rng(seed)
    rows = []
    for _ in range(B):
        kind, positions = generator.integers(3), np.arange(T)
        begins = np.where(generator.random(T) < generator.choice([0.02, 0.3]), positions, 0)
        anything = np.minimum(generator.integers(0, T, T), positions)
        rows.append(np.maximum.accumulate([positions * 0, begins, anything][kind]))
    return np.array(rows, np.int32)


def attention_inputs(
    seed: int, B: int, T: int, H: int, K: int, C: int, finite: bool
) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
    """q, k, v; cosines, sines, lo; the gradient of the output."""
    new = seeds(seed)
    shapes = [(B, T, H, C), (B, T, K, C), (B, T, K, C), (B, T, H, C)]
    *qkv, do = (values(next(new), *shape, finite=finite) for shape in shapes)
    return qkv, [*reference.rotary_table(T, C, 10_000.0), documents(next(new), B, T)], do


def attention(seed: int, B: int, T: int, H: int, K: int, C: int, finite: bool = False) -> Case:
    qkv, places, _ = attention_inputs(seed, B, T, H, K, C, finite)

    def call() -> tuple[torch.Tensor, ...]:
        o, m, g = calls.attention(*map(tensor, qkv), calls.Places(*map(tensor, places)))
        return o, compared(m.numpy(), g.numpy()), g

    o, m, g = reference.attention(*qkv, *places)
    return call, (o, compared(m, g), g)


def compared(m: np.ndarray, g: np.ndarray) -> np.ndarray:
    """Maxima serve only to be subtracted before exp: the sign of a zero and a row with
    a NaN do not matter in them."""
    return np.where(np.isnan(g), g, m + np.float32(0))


def attention_backward(
    seed: int, B: int, T: int, H: int, K: int, C: int, finite: bool = False
) -> Case:
    qkv, places, do = attention_inputs(seed, B, T, H, K, C, finite)

    def call() -> tuple[torch.Tensor, ...]:
        inputs = (*map(tensor, qkv), calls.Places(*map(tensor, places)))
        return calls.attention_backward(*inputs, calls.attention(*inputs), tensor(do))

    o = reference.attention(*qkv, *places)[0]
    return call, reference.attention_backward(*qkv, o, do, *places)


HEADS = st.tuples(st.integers(1, 2), st.integers(1, 3)).map(
    lambda pair: (pair[0] * pair[1], pair[0])
)
WIDTHS = st.integers(1, 20).map(lambda half: 2 * half)
LENGTHS = st.integers(1, 70)


@some
@given(SEEDS, st.integers(1, 2), LENGTHS, HEADS, WIDTHS, st.booleans())
def test_attention(
    everywhere: Everywhere, seed: int, B: int, T: int, heads: tuple[int, int], C: int, finite: bool
) -> None:
    everywhere(*attention(seed, B, T, *heads, C, finite))
    everywhere(*attention_backward(seed, B, T, *heads, C, finite))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("T", "H", "K", "C"), [(300, 2, 1, 6), (520, 1, 1, 2), (21, 2, 2, 260)])
def test_attention_over_several_blocks(
    everywhere: Everywhere, seed: int, T: int, H: int, K: int, C: int
) -> None:
    everywhere(*attention(seed, 1, T, H, K, C, finite=True))
    everywhere(*attention_backward(seed, 1, T, H, K, C, finite=True))


@pytest.mark.parametrize(
    ("T", "C", "theta"), [(1, 2, 10_000.0), (300, 64, 10_000.0), (70, 6, 2.5), (4000, 10, 5e5)]
)
def test_rotary_table(T: int, C: int, theta: float) -> None:
    for got, wanted in zip(
        calls.rotary_table(T, C, theta), reference.rotary_table(T, C, theta), strict=True
    ):
        assert_same(got, wanted)


# The two ends


def loss(seed: int, M: int, V: int, D: int) -> Case:
    new = seeds(seed)
    x, w = values(next(new), M, D), values(next(new), V, D)
    draw = np.random.default_rng(next(new))
    targets = draw.integers(0, V, M)
    softmax, onehot = (draw.standard_normal(M).astype(np.float32) / M for _ in range(2))

    def call() -> tuple[torch.Tensor, ...]:
        given = tensor(x), tensor(w), tensor(targets)
        losses, log_sums, *nothing = calls.loss(*given)
        assert nothing == [None, None]
        both = tensor(softmax), tensor(onehot)
        alone = [calls.loss(*given, both, one)[2:] for one in ((True, False), (False, True))]
        assert alone[0][1] is None and alone[1][0] is None
        assert alone[0][0] is not None and alone[1][1] is not None
        return losses, log_sums, alone[0][0], alone[1][1], *calls.loss(*given, both)

    said = reference.loss(x, w, targets, softmax, onehot)
    return call, (*said, *said)


@some
@given(
    SEEDS, SIZES | st.sampled_from([257, 513]), SIZES | st.sampled_from([255, 256, 257, 300]), SIZES
)
def test_loss(everywhere: Everywhere, seed: int, M: int, V: int, D: int) -> None:
    everywhere(*loss(seed, M, V, D))


def test_loss_of_so_many_logits_that_they_are_held_in_parts(everywhere: Everywhere) -> None:
    everywhere(*loss(1, 270, 8200, 2))


def embed(seed: int, M: int, V: int, D: int) -> Case:
    tokens, e = np.random.default_rng(seed).integers(0, V, M), values(seed, V, D)
    return lambda: calls.embed(tensor(tokens), tensor(e)), (reference.embedding(tokens, e),)


def embed_backward(seed: int, M: int, V: int, D: int) -> Case:
    tokens, dx = np.random.default_rng(seed).integers(0, V, M), values(seed, M, D)
    wanted = reference.embedding_backward(tokens, dx, V)
    return lambda: calls.embed_backward(tensor(tokens), tensor(dx), V), (wanted,)


@some
@given(SEEDS, SUMMED, SIZES, SIZES)
def test_embedding(everywhere: Everywhere, seed: int, M: int, V: int, D: int) -> None:
    everywhere(*embed(seed, M, V, D))
    everywhere(*embed_backward(seed, M, V, D))


# The optimizer


def add(seed: int, *shape: int) -> Case:
    new = seeds(seed)
    a, b = values(next(new), *shape), values(next(new), *shape)
    with np.errstate(all="ignore"):
        return lambda: calls.add_into(tensor(a), tensor(b)), (a + b,)


@some
@given(SEEDS, SUMMED, SIZES)
def test_addition(everywhere: Everywhere, seed: int, M: int, N: int) -> None:
    everywhere(*add(seed, M, N))


def test_addition_is_in_place() -> None:
    a = torch.ones(3)
    assert calls.add_into(a, torch.ones(3)) is a and a.tolist() == [2, 2, 2]


SHAPES = (
    st.tuples(SIZES)
    | st.tuples(SIZES, SIZES)
    | st.sampled_from([(4095,), (64, 64), (4097,), (37, 1111)])
)


def norm_of(seed: int, shapes: list[tuple[int, ...]], finite: bool = False) -> Case:
    tensors = [values(seed + index, *shape, finite=finite) for index, shape in enumerate(shapes)]
    return lambda: calls.norm_of(list(map(tensor, tensors))), (reference.norm(tensors),)


@some
@given(SEEDS, st.lists(SHAPES, min_size=1, max_size=4))
def test_norm_of_everything(
    everywhere: Everywhere, seed: int, shapes: list[tuple[int, ...]]
) -> None:
    everywhere(*norm_of(seed, shapes))


def test_chunks_are_joined_by_the_tree() -> None:
    """Next to a square of 2^54 a 2 is lost and a 4 is not, so that every order
    shows. The root would hide it."""
    found = torch.empty(1, dtype=torch.float64)
    for chunks in range(1, 20):
        for big in range(chunks):
            x = np.zeros((chunks, 4096), np.float32)
            x[:, :2], x[big] = 1, 0
            x[big, 0] = 2**27
            assert (
                library.kernels().pellucid_sum_of_squares(x.size, x.ctypes.data, found.data_ptr())
                == 0
            )
            squares = [
                np.float64(2**54) if chunk == big else np.float64(2) for chunk in range(chunks)
            ]
            assert found.item() == reference.tree_sum(squares)


def adamw(
    seed: int,
    shapes: list[tuple[int, ...]],
    step: int,
    lr: float,
    clip: float,
    finite: bool = False,
) -> Case:
    new = seeds(seed)
    rows = [[values(next(new), *shape, finite=finite) for _ in range(4)] for shape in shapes]
    for row in rows:
        row[3] = np.abs(row[3])
    how = calls.AdamW(lr, 0.9, 0.95, 1e-8, 0.1, step, clip)

    def call() -> tuple[object, ...]:
        moved = [tuple(map(tensor, row)) for row in rows]
        norm = calls.adamw(how, moved)
        for (_, g, _, _), row in zip(moved, rows, strict=True):
            assert_same(g, row[1], "the gradient is only read")
        return *itertools.chain.from_iterable((p, m, v) for p, _, m, v in moved), norm

    options = {"lr": lr, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1}
    wanted = [
        reference.adamw(*row, step=step, clip_factor=np.float32(clip), **options) for row in rows
    ]
    return call, (*itertools.chain.from_iterable(wanted), reference.norm([p for p, _, _ in wanted]))


@some
@given(
    SEEDS,
    st.lists(SHAPES, min_size=1, max_size=3),
    st.integers(1, 5000),
    st.sampled_from([0.0, 1e-3, 0.5]),
    st.sampled_from([1.0, 1 / 3]),
)
def test_adamw(
    everywhere: Everywhere,
    seed: int,
    shapes: list[tuple[int, ...]],
    step: int,
    lr: float,
    clip: float,
) -> None:
    everywhere(*adamw(seed, shapes, step, lr, clip))


@pytest.mark.parametrize(
    ("std", "divisor_squared"), [(0.02, 0.0), (0.02, 8.0), (1.0, 24.0), (1e-30, 0.0)]
)
def test_initial_values_are_those_of_philox(std: float, divisor_squared: float) -> None:
    s = std / math.sqrt(divisor_squared) if divisor_squared else std
    for key, shape in [(0, (1,)), (philox.key_of(1, "initial x"), (37, 11)), (2**64 - 1, (4099,))]:
        wanted = philox.uniform_signed(key, 0, math.prod(shape)) * (s * math.sqrt(3.0))
        got = calls.initial_values(key, shape, std, divisor_squared)
        assert_same(got, wanted.astype(np.float32).reshape(shape))


def test_any_draw_can_be_asked_for_by_itself() -> None:
    key = philox.key_of(7, "initial x")
    whole, part = calls.initial_values(key, (64,), 1.0, 0.0), torch.empty(9)
    for start in range(0, 55, 3):
        assert (
            library.kernels().pellucid_initial_values(key, start, 9, 1.0, 0.0, part.data_ptr()) == 0
        )
        assert_same(part, whole[start : start + 9].numpy())


# Functions of f64


# No bit depends on what computes beside it
