"""Section 2 of docs/arithmetic.md (`portable 1`) again: slow and obvious,
in NumPy, from that page alone.

The kernels are compared with it bit for bit, so nothing here is shared with them. Only elementwise
+, -, *, / and sqrt are used: they are IEEE-754's. Whatever has an order is a loop over the index
that is summed; everything else is vectorised.

Letters of shapes: B sequences, T positions, M rows, D width, H heads, K key-value heads, C
width of a head, F = C / 2, V vocabulary. In a product, M by K times K by N. Arrays are
float32 unless f64 is written."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

BLOCK = 256
SHORT_BLOCK = 64
LANES = 16
CHUNK = 4096

quiet = np.errstate(over="ignore", under="ignore", invalid="ignore", divide="ignore")


def f32(value: str | float) -> np.float32:
    """A constant as C writes it, which must be exact; or a number, rounded."""
    if not isinstance(value, str):
        return np.float32(value)
    constant = np.float32(float.fromhex(value))
    assert float(constant) == float.fromhex(value), f"{value} is no float32"
    return constant


def f64(value: str) -> np.float64:
    return np.float64(float.fromhex(value))


ZERO, ONE = f32(0), f32(1)


# 2.1 Building blocks


@quiet
def fma32(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """a·b + c rounded once, element by element."""
    a, b, c = np.asarray(a), np.asarray(b), np.asarray(c)
    assert a.dtype == b.dtype == c.dtype == np.float32
    # Exact: 48 bits, and no exponent of f64 is too small.
    product = a.astype(np.float64) * b.astype(np.float64)
    addend = c.astype(np.float64)
    total = np.asarray(product + addend)
    # TwoSum: total + error is the exact sum.
    part = total - product
    error = (product - (total - part)) + (addend - part)
    # Round to odd: of the two f64 around the exact sum the one whose last bit is 1. It is
    # on the right side of every midpoint between two f32, so the second rounding gives what
    # one rounding would have given.
    bits = total.view(np.int64)
    inexact = np.isfinite(total) & (error != 0)
    away_from_zero = (error > 0) == (total > 0)
    odd = np.where(inexact & (bits & 1 == 0), np.where(away_from_zero, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32)


def _everywhere(present: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(True if present is None else present, shape)


def _fold(lanes: np.ndarray) -> np.ndarray:
    """lanes_..16 -> sum_..: the tree 8, 4, 2, 1."""
    for half in (8, 4, 2, 1):
        lanes = lanes[..., :half] + lanes[..., half : 2 * half]
    return lanes[..., 0]


@quiet
def lane_sum(x_N: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
    """x_..N (f32 or f64), present_..N of bool -> sum_.."""
    present = _everywhere(present, x_N.shape)
    lanes = np.zeros((*x_N.shape[:-1], LANES), x_N.dtype)
    for i in range(x_N.shape[-1]):
        lane = lanes[..., i % LANES]
        lanes[..., i % LANES] = np.where(present[..., i], lane + x_N[..., i], lane)
    return _fold(lanes)


@quiet
def lane_dot(a_N: np.ndarray, b_N: np.ndarray) -> np.ndarray:
    """a_..N, b_..N -> sum_.."""
    a_N, b_N = np.broadcast_arrays(a_N, b_N)
    lanes = np.zeros((*a_N.shape[:-1], LANES), np.float32)
    for i in range(a_N.shape[-1]):
        lanes[..., i % LANES] = fma32(a_N[..., i], b_N[..., i], lanes[..., i % LANES])
    return _fold(lanes)


@quiet
def product_sum(
    a_N: np.ndarray,
    b_N: np.ndarray,
    present: np.ndarray | None = None,
    total: np.ndarray | None = None,
    length: int = BLOCK,
) -> np.ndarray:
    """a_..N, b_..N, present_..N of bool -> sum_.., accumulated into
    total_.. where that is given."""
    a_N, b_N = np.broadcast_arrays(a_N, b_N)
    *shape, N = a_N.shape
    present = _everywhere(present, a_N.shape)
    started = np.full(shape, total is not None)
    total = np.zeros(shape, np.float32) if total is None else total
    for start in range(0, N, length):
        block = np.zeros(shape, np.float32)
        some = np.full(shape, False)
        for k in range(start, min(start + length, N)):
            block = np.where(present[..., k], fma32(a_N[..., k], b_N[..., k], block), block)
            some = some | present[..., k]
        total = np.where(some, np.where(started, total + block, block), total)
        started = started | some
    assert started.all(), "a sum of nothing"
    return total


def matmul(
    a_MK: np.ndarray,
    b_KN: np.ndarray,
    c_MN: np.ndarray | None = None,
    present_MK: np.ndarray | None = None,
    length: int = BLOCK,
) -> np.ndarray:
    """a_..MK, b_..KN -> c_..MN; accumulated into c where that is given. Only the
    k of present_..MK take part."""
    if present_MK is not None:
        present_MK = present_MK[..., :, None, :]
    return product_sum(
        a_MK[..., :, None, :], b_KN.swapaxes(-1, -2)[..., None, :, :], present_MK, c_MN, length
    )


def maximum(x_N: np.ndarray, present: np.ndarray | None = None) -> np.ndarray:
    """x_..N, present_..N of bool -> max_.., by comparing from the first present one on."""
    present = _everywhere(present, x_N.shape)
    best, started = x_N[..., 0], present[..., 0]
    for j in range(1, x_N.shape[-1]):
        x = x_N[..., j]
        best = np.where(present[..., j] & (~started | (x > best)), x, best)
        started = started | present[..., j]
    return best


@quiet
def exp(x: np.ndarray) -> np.ndarray:
    """x <= 0 or NaN."""
    x = np.asarray(x)
    vanishes = x < f32("-0x1.5d3334p+6")
    x = np.where(vanishes, ZERO, x)
    n = fma32(x, f32("0x1.715476p+0"), f32("0x1.8p+23")) - f32("0x1.8p+23")
    r = fma32(n, f32("-0x1.62e43p-1"), x)
    r = fma32(n, f32("0x1.05c61p-29"), r)
    p = f32("0x1.6a241ap-10")
    for c in (
        "0x1.1239f2p-7",
        "0x1.5558f2p-5",
        "0x1.555492p-3",
        "0x1.fffffcp-2",
        "0x1p+0",
        "0x1p+0",
    ):
        p = fma32(p, r, f32(c))
    exponent = np.asarray(np.where(np.isnan(n), ZERO, n)).astype(np.int32)
    power_of_two = ((exponent + 127) << 23).view(np.float32)
    return np.where(vanishes, ZERO, p * power_of_two)


@quiet
def sigmoid(x: np.ndarray) -> np.ndarray:
    e = exp(-np.abs(x))
    d = ONE + e
    return np.where(x < 0, e, ONE) / d


@quiet
def ln(x: np.ndarray) -> np.ndarray:
    """f64; x > 0 and normal. NaN gives NaN."""
    half, exponent = np.frexp(np.asarray(x, np.float64))  # Exact: half in [1/2, 1).
    m, e = half * 2.0, (exponent - 1).astype(np.float64)
    large = m > f64("0x1.6a09e667f3bcdp+0")
    m, e = np.where(large, m / 2.0, m), np.where(large, e + 1.0, e)
    f = (m - 1.0) / (m + 1.0)
    z = f * f
    q = np.zeros_like(f)
    for k in range(21, 2, -2):
        q = (1.0 / k + q) * z
    return e * f64("0x1.62e42feep-1") + (2.0 * f + (2.0 * f * q + e * f64("0x1.a39ef35793c76p-33")))


def exp64(x: np.ndarray) -> np.ndarray:
    """f64; |x| <= 700."""
    x = np.asarray(x, np.float64)
    n = np.asarray(np.floor(x * f64("0x1.71547652b82fep+0") + 0.5))
    r = (x - n * f64("0x1.62e42feep-1")) - n * f64("0x1.a39ef35793c76p-33")
    s = np.ones_like(x)
    for k in range(13, 0, -1):
        s = 1.0 + (r * s) / k
    power_of_two = ((n.astype(np.int64) + 1023) << 52).view(np.float64)
    return s * power_of_two


def sincos(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """f64; 0 <= a < 2^20. The sine and the cosine."""
    a = np.asarray(a, np.float64)
    n = np.asarray(np.floor(a * f64("0x1.45f306dc9c883p-1") + 0.5))
    r = ((a - n * f64("0x1.921fb544p+0")) - n * f64("0x1.0b4611a6p-34")) - n * f64(
        "0x1.3198a2e037073p-69"
    )
    z = r * r
    q = np.zeros_like(z)
    for k in range(17, 2, -2):
        q = (1.0 / math.factorial(k) - q) * z
    sn = r - r * q
    q = np.zeros_like(z)
    for k in range(18, 1, -2):
        q = (1.0 / math.factorial(k) - q) * z
    cs = 1.0 - q
    quarter = n.astype(np.int64) % 4
    return np.choose(quarter, [sn, cs, -sn, -cs]), np.choose(quarter, [cs, -sn, -cs, sn])


def power(b: float, t: int) -> float:
    """f64; t >= 0."""
    y = 1.0
    while t > 0:
        if t % 2 == 1:
            y = y * b
        t //= 2
        if t > 0:
            b = b * b
    return y


# 2.2 The model


def embedding(tokens_M: np.ndarray, E_VD: np.ndarray) -> np.ndarray:
    """-> x_MD"""
    return E_VD[tokens_M]


@quiet
def embedding_backward(tokens_M: np.ndarray, dx_MD: np.ndarray, V: int) -> np.ndarray:
    """-> dE_VD"""
    dE_VD = np.zeros((V, dx_MD.shape[1]), np.float32)
    met = set()
    for token, dx_D in zip(tokens_M.tolist(), dx_MD, strict=True):
        dE_VD[token] = dE_VD[token] + dx_D if token in met else dx_D
        met.add(token)
    return dE_VD


def _inverse_rms(x_MD: np.ndarray, epsilon: float) -> np.ndarray:
    """-> r_M1"""
    ss_M = lane_dot(x_MD, x_MD)
    return (ONE / np.sqrt(ss_M / f32(x_MD.shape[1]) + f32(epsilon)))[:, None]


@quiet
def rms_norm(x_MD: np.ndarray, w_D: np.ndarray, epsilon: float) -> np.ndarray:
    """-> y_MD"""
    return (x_MD * _inverse_rms(x_MD, epsilon)) * w_D


@quiet
def rms_norm_backward(
    x_MD: np.ndarray, w_D: np.ndarray, epsilon: float, dy_MD: np.ndarray, dp_MD: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """-> dx_MD, dw_D. dp is the gradient that arrives past the norm; None where there is none."""
    r_M1 = _inverse_rms(x_MD, epsilon)
    t_MD = dy_MD * w_D
    s_M1 = lane_dot(t_MD, x_MD)[:, None]
    c_M1 = ((s_M1 * r_M1) * r_M1) / f32(x_MD.shape[1])
    u_MD = fma32(-c_M1, x_MD, t_MD)
    dx_MD = u_MD * r_M1 if dp_MD is None else fma32(u_MD, r_M1, dp_MD)
    return dx_MD, product_sum(dy_MD.T, (x_MD * r_M1).T, length=SHORT_BLOCK)


def rotary_table(T: int, C: int, theta: float) -> tuple[np.ndarray, np.ndarray]:
    """-> cos_TF, sin_TF"""
    i_F = np.arange(C // 2)
    f_F = exp64(-((2 * i_F).astype(np.float64) / C) * ln(np.float64(theta))).astype(np.float32)
    angle_TF = np.arange(T).astype(np.float32)[:, None] * f_F
    sin_TF, cos_TF = sincos(angle_TF.astype(np.float64))
    return cos_TF.astype(np.float32), sin_TF.astype(np.float32)


@quiet
def rotate(x_TC: np.ndarray, cos_TF: np.ndarray, sin_TF: np.ndarray) -> np.ndarray:
    """x_..TC -> x'_..TC"""
    a, b = np.split(x_TC, 2, axis=-1)
    return np.concatenate([fma32(-b, sin_TF, a * cos_TF), fma32(a, sin_TF, b * cos_TF)], axis=-1)


@quiet
def rotate_backward(dx_TC: np.ndarray, cos_TF: np.ndarray, sin_TF: np.ndarray) -> np.ndarray:
    """dx'_..TC -> dx_..TC"""
    da, db = np.split(dx_TC, 2, axis=-1)
    return np.concatenate(
        [fma32(db, sin_TF, da * cos_TF), fma32(-da, sin_TF, db * cos_TF)], axis=-1
    )


def _attention_scale(C: int) -> np.float32:
    return f32(np.float64(1) / np.sqrt(np.float64(C)))


def _per_head(x_BTKC: np.ndarray, heads: int) -> np.ndarray:
    """-> x_BHTC: head h reads key-value head floor(h / (H / K))."""
    return np.repeat(x_BTKC.swapaxes(1, 2), heads // x_BTKC.shape[2], axis=1)


def _probabilities(
    q_BHTC: np.ndarray, k_BHTC: np.ndarray, first_BT: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rotated q, scaled, and rotated k -> seen_B1TT, m_BHT, p_BHTT, g_BHT;
    the last T of TT are the keys."""
    j = np.arange(first_BT.shape[1])
    seen_B1TT = ((first_BT[:, :, None] <= j) & (j <= j[:, None]))[:, None]
    s_BHTT = matmul(q_BHTC, k_BHTC.swapaxes(-1, -2))
    m_BHT = maximum(s_BHTT, seen_B1TT)
    # NaN for a key that is not seen: if one ever took part it would show.
    p_BHTT = exp(np.where(seen_B1TT, s_BHTT - m_BHT[..., None], f32(np.nan)))
    return seen_B1TT, m_BHT, p_BHTT, ONE / lane_sum(p_BHTT, seen_B1TT)


@quiet
def attention(
    q_BTHC: np.ndarray,
    k_BTKC: np.ndarray,
    v_BTKC: np.ndarray,
    cos_TF: np.ndarray,
    sin_TF: np.ndarray,
    first_BT: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> o_BTHC, m_BHT, g_BHT. first_BT is lo(i), the first key that query i sees."""
    _, _, H, C = q_BTHC.shape
    q_BHTC = rotate(q_BTHC.swapaxes(1, 2), cos_TF, sin_TF) * _attention_scale(C)
    k_BHTC = rotate(_per_head(k_BTKC, H), cos_TF, sin_TF)
    seen_B1TT, m_BHT, p_BHTT, g_BHT = _probabilities(q_BHTC, k_BHTC, first_BT)
    o_BHTC = matmul(p_BHTT, _per_head(v_BTKC, H), present_MK=seen_B1TT) * g_BHT[..., None]
    return o_BHTC.swapaxes(1, 2), m_BHT, g_BHT


@quiet
def attention_backward(
    q_BTHC: np.ndarray,
    k_BTKC: np.ndarray,
    v_BTKC: np.ndarray,
    o_BTHC: np.ndarray,
    do_BTHC: np.ndarray,
    cos_TF: np.ndarray,
    sin_TF: np.ndarray,
    first_BT: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """-> dq_BTHC, dk_BTKC, dv_BTKC"""
    _, _, H, C = q_BTHC.shape
    group = H // k_BTKC.shape[2]
    scale = _attention_scale(C)
    q_BHTC = rotate(q_BTHC.swapaxes(1, 2), cos_TF, sin_TF) * scale
    k_BHTC = rotate(_per_head(k_BTKC, H), cos_TF, sin_TF)
    do_BHTC = do_BTHC.swapaxes(1, 2)
    seen_B1TT, _, p_BHTT, g_BHT = _probabilities(q_BHTC, k_BHTC, first_BT)
    P_BHTT = p_BHTT * g_BHT[..., None]
    D_BHT = lane_dot(do_BHTC, o_BTHC.swapaxes(1, 2))
    dP_BHTT = matmul(do_BHTC, _per_head(v_BTKC, H).swapaxes(-1, -2))
    S_BHTT = P_BHTT * (dP_BHTT - D_BHT[..., None])

    dq_BHTC = matmul(S_BHTT, k_BHTC, present_MK=seen_B1TT)
    by_key = seen_B1TT.swapaxes(-1, -2)
    dk_BKTC = dv_BKTC = None
    for head in range(group):  # The head-th of each group, for all key-value heads at once.
        S_BKTT, P_BKTT = (
            S_BHTT[:, head::group].swapaxes(-1, -2),
            P_BHTT[:, head::group].swapaxes(-1, -2),
        )
        dk_BKTC = matmul(S_BKTT, q_BHTC[:, head::group], dk_BKTC, by_key, SHORT_BLOCK)
        dv_BKTC = matmul(P_BKTT, do_BHTC[:, head::group], dv_BKTC, by_key, SHORT_BLOCK)
    dq_BHTC = rotate_backward(dq_BHTC * scale, cos_TF, sin_TF)
    dk_BKTC = rotate_backward(dk_BKTC, cos_TF, sin_TF)
    return dq_BHTC.swapaxes(1, 2), dk_BKTC.swapaxes(1, 2), dv_BKTC.swapaxes(1, 2)


@quiet
def swiglu(a: np.ndarray, u: np.ndarray) -> np.ndarray:
    """a the gate, u the up projection -> h"""
    return (a * sigmoid(a)) * u


@quiet
def swiglu_backward(a: np.ndarray, u: np.ndarray, dh: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> da, du"""
    s = sigmoid(a)
    du = dh * (a * s)
    t = fma32(a, ONE - s, ONE)
    return (dh * u) * (s * t), du


@quiet
def loss(
    x_MD: np.ndarray,
    W_VD: np.ndarray,
    targets_M: np.ndarray,
    softmax_M: np.ndarray | float,
    onehot_M: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """-> losses_M, log_sums_M, dx_MD, dW_VD, from the coefficients of every row."""
    softmax_M = np.broadcast_to(np.asarray(softmax_M, np.float32), targets_M.shape)
    onehot_M = np.broadcast_to(np.asarray(onehot_M, np.float32), targets_M.shape)
    logits_MV = matmul(x_MD, W_VD.T)
    is_target_MV = np.arange(W_VD.shape[0]) == targets_M[:, None]
    m_M = maximum(logits_MV)
    e_MV = exp(logits_MV - m_M[:, None])
    l_M = lane_sum(e_MV)
    target_M = np.take_along_axis(logits_MV, targets_M[:, None], axis=1)[:, 0]
    ln_M, m64_M = ln(l_M.astype(np.float64)), m_M.astype(np.float64)
    losses_M, log_sums_M = ln_M - (target_M.astype(np.float64) - m64_M), ln_M + m64_M
    dlogits_MV = e_MV * (softmax_M / l_M)[:, None]
    dlogits_MV = np.where(is_target_MV, dlogits_MV - onehot_M[:, None], dlogits_MV)
    said = losses_M.astype(np.float32), log_sums_M.astype(np.float32)
    return *said, matmul(dlogits_MV, W_VD), matmul(dlogits_MV.T, x_MD)


# 2.3 The optimizer


def tree_sum(terms: Sequence[np.ndarray]) -> np.ndarray:
    """The sum by the tree of microbatches. Whatever can be added: arrays, or numbers of f64."""
    sums: list[tuple[int, np.ndarray]] = []
    for term in terms:
        size, total = 1, term
        while sums and sums[-1][0] == size:
            _, left = sums.pop()
            size, total = 2 * size, left + total
        sums.append((size, total))
    _, total = sums.pop()
    while sums:
        _, left = sums.pop()
        total = left + total
    return total


@quiet
def norm(tensors: Sequence[np.ndarray]) -> float:
    """f64. The tensors in the order of their names."""
    total = None
    for tensor in tensors:
        # Exact.
        squares = tensor.reshape(-1).astype(np.float64) * tensor.reshape(-1).astype(np.float64)
        whole = squares.size // CHUNK * CHUNK
        chunks = list(lane_sum(squares[:whole].reshape(-1, CHUNK)))
        if whole < squares.size:
            chunks.append(lane_sum(squares[whole:]))
        total = tree_sum(chunks) if total is None else total + tree_sum(chunks)
    return float(np.sqrt(total))


@quiet
def adamw(
    p: np.ndarray,
    g: np.ndarray,
    m: np.ndarray,
    v: np.ndarray,
    *,
    step: int,
    lr: float,
    beta1: float,
    beta2: float,
    epsilon: float,
    weight_decay: float,
    clip_factor: np.float32,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, gradient, moments of one tensor in its own shape (no decay where it
    has one dimension) -> p, m, v."""
    a = f32(lr / (1.0 - power(beta1, step)))
    z = f32(1.0 / np.sqrt(np.float64(1.0 - power(beta2, step))))
    b1, n1 = f32(beta1), f32(1.0 - beta1)
    b2, n2 = f32(beta2), f32(1.0 - beta2)
    e = f32(epsilon)
    y = ONE if p.ndim == 1 else f32(1.0 - lr * weight_decay)
    tiny = f32("0x1p-100")
    g = g * f32(clip_factor)
    m = fma32(b1, m, n1 * g)
    m = np.where(np.abs(m) < tiny, ZERO, m)
    v = fma32(b2, v, n2 * (g * g))
    v = np.where(v < tiny, ZERO, v)
    return fma32(-a, m / fma32(np.sqrt(v), z, e), p * y), m, v
