"""One function for each kernel: tensors are checked, results allocated, and C
called. Nothing is computed here.

Tensors are float32 on the CPU without gaps, unless said otherwise; what is not raises
TensorUnfit. Memory that runs out raises MemoryError. The orders of all sums are in
docs/arithmetic.md, section 2."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import TensorUnfit
from pellucid.kernels import library

_INT64, _INT32, _FLOAT32 = torch.int64, torch.int32, torch.float32


def _check(
    operation: str, dtype: torch.dtype = _FLOAT32, **tensors: tuple[Tensor, tuple[int, ...]]
) -> None:
    """Each tensor has the shape wanted, the dtype, no gaps, and lies in the CPU's memory."""
    for name, (tensor, shape) in tensors.items():
        plain = tensor.layout == torch.strided and tensor.is_cpu and tensor.dtype == dtype
        if not plain or tensor.shape != shape or not tensor.is_contiguous() or tensor.numel() == 0:
            found = (
                f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device} "
                f"with strides {_strides(tensor)}"
            )
            wanted = f"{dtype} {tuple(shape)} on the CPU, not empty, without gaps"
            raise TensorUnfit(operation=operation, name=name, found=found, wanted=wanted)


def _sizes(operation: str, name: str, tensor: Tensor, count: int) -> tuple[int, ...]:
    """The shape of a tensor that sets the shapes of others: of so many dimensions."""
    if tensor.dim() != count:
        wanted = f"of {count} dimension{'s' * (count > 1)}"
        raise TensorUnfit(
            operation=operation, name=name, found=f"of shape {tuple(tensor.shape)}", wanted=wanted
        )
    return tuple(tensor.shape)


def empty(*shape: int, dtype: torch.dtype = _FLOAT32) -> Tensor:
    """Memory for a result: what torch's defaults are set to does not matter."""
    return torch.empty(shape, dtype=dtype, device="cpu")


def _strides(tensor: Tensor) -> object:
    return tensor.stride() if tensor.layout == torch.strided else tensor.layout


def _run(name: str, *arguments: int | float | None) -> None:
    if getattr(library.kernels(), f"pellucid_{name}")(*arguments):
        raise MemoryError(f"the kernel {name} could not have its working memory")


def _matrix(operation: str, name: str, x: Tensor) -> None:
    plain = x.layout == torch.strided and x.dim() == 2 and x.dtype == _FLOAT32 and x.is_cpu
    if not plain or x.numel() == 0 or 1 not in x.stride():
        found = f"{x.dtype} {tuple(x.shape)} on {x.device} with strides {_strides(x)}"
        wanted = "a float32 matrix on the CPU whose rows or whose columns have no gaps"
        raise TensorUnfit(operation=operation, name=name, found=found, wanted=wanted)


def product(a_MK: Tensor, b_KN: Tensor, start_MN: Tensor | None = None) -> Tensor:
    """start + A·B, shape (M, N); A and B may be transposed views."""
    _matrix("product", "a", a_MK)
    _matrix("product", "b", b_KN)
    (M, K), (K2, N) = a_MK.shape, b_KN.shape
    if K != K2:
        raise TensorUnfit(
            operation="product", name="b", found=f"of {K2} rows", wanted=f"of {K} rows"
        )
    if start_MN is not None:
        _check("product", start=(start_MN, (M, N)))
    out_MN = empty(M, N)
    start = None if start_MN is None else start_MN.data_ptr()
    a, b = (a_MK.data_ptr(), *a_MK.stride()), (b_KN.data_ptr(), *b_KN.stride())
    _run("product", M, N, K, *a, *b, start, out_MN.data_ptr())
    return out_MN


def gram(a_MK: Tensor) -> Tensor:
    """A·Aᵀ, shape (M, M), in the bits of product; A may be a transposed
    view. Half of it is computed."""
    _matrix("gram", "a", a_MK)
    M, K = a_MK.shape
    out_MM = empty(M, M)
    _run("gram", M, K, a_MK.data_ptr(), *a_MK.stride(), out_MM.data_ptr())
    return out_MM


def norm(x_MD: Tensor, w_D: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """RMSNorm (arXiv:1910.07467): the result, and the factor of every row, shape (M,)."""
    M, D = _sizes("norm", "x", x_MD, 2)
    _check("norm", x=(x_MD, (M, D)), w=(w_D, (D,)))
    y_MD, r_M = empty(M, D), empty(M)
    _run("norm", M, D, x_MD.data_ptr(), w_D.data_ptr(), epsilon, y_MD.data_ptr(), r_M.data_ptr())
    return y_MD, r_M


def norm_backward(
    x_MD: Tensor, w_D: Tensor, r_M: Tensor, dy_MD: Tensor, past_MD: Tensor | None
) -> tuple[Tensor, Tensor]:
    """dx, with the gradient added that came past the norm, and dw."""
    M, D = _sizes("norm_backward", "x", x_MD, 2)
    past = dy_MD if past_MD is None else past_MD
    _check(
        "norm_backward",
        x=(x_MD, (M, D)),
        w=(w_D, (D,)),
        r=(r_M, (M,)),
        dy=(dy_MD, (M, D)),
        past=(past, (M, D)),
    )
    dx_MD, dw_D = empty(M, D), empty(D)
    pointers = [tensor.data_ptr() for tensor in (x_MD, w_D, r_M, dy_MD)]
    _run(
        "norm_backward",
        M,
        D,
        *pointers,
        None if past_MD is None else past.data_ptr(),
        dx_MD.data_ptr(),
        dw_D.data_ptr(),
    )
    return dx_MD, dw_D


def swiglu(a_MF: Tensor, u_MF: Tensor) -> Tensor:
    """silu(a)·u (arXiv:2002.05202)."""
    _check("swiglu", a=(a_MF, a_MF.shape), u=(u_MF, a_MF.shape))
    h_MF = empty(*a_MF.shape)
    _run("swiglu", a_MF.numel(), a_MF.data_ptr(), u_MF.data_ptr(), h_MF.data_ptr())
    return h_MF


def swiglu_backward(a_MF: Tensor, u_MF: Tensor, dh_MF: Tensor) -> tuple[Tensor, Tensor]:
    _check("swiglu_backward", a=(a_MF, a_MF.shape), u=(u_MF, a_MF.shape), dh=(dh_MF, a_MF.shape))
    da_MF, du_MF = empty(*a_MF.shape), empty(*a_MF.shape)
    pointers = [tensor.data_ptr() for tensor in (a_MF, u_MF, dh_MF, da_MF, du_MF)]
    _run("swiglu_backward", a_MF.numel(), *pointers)
    return da_MF, du_MF


@dataclass(frozen=True, slots=True)
class Places:
    """Where attention looks: cosines and sines of every position's angles, and
    the first key each query sees."""

    cos_TH: Tensor  # H = half the width of a head.
    sin_TH: Tensor
    first_BT: Tensor  # int32: not descending within a sequence, and never after the query itself.


def _attention_shape(
    operation: str, q: Tensor, k: Tensor, v: Tensor, places: Places
) -> tuple[int, ...]:
    B, T, H, C = _sizes(operation, "q", q, 4)
    K = _sizes(operation, "k", k, 4)[2]
    _check(operation, q=(q, (B, T, H, C)), k=(k, (B, T, K, C)), v=(v, (B, T, K, C)))
    _check(operation, cos=(places.cos_TH, (T, C // 2)), sin=(places.sin_TH, (T, C // 2)))
    _check(operation, _INT32, first=(places.first_BT, (B, T)))
    _check_heads(operation, H, K, C)
    first_BT = places.first_BT.numpy()
    if (
        (first_BT[:, 1:] < first_BT[:, :-1]).any()
        or (first_BT > range(T)).any()
        or (first_BT < 0).any()
    ):
        wanted = "positions that do not descend and do not lie after the query"
        raise TensorUnfit(operation=operation, name="first", found="otherwise", wanted=wanted)
    return B, T, H, K, C


def _check_heads(operation: str, heads: int, kv_heads: int, width: int) -> None:
    if width % 2 or heads % kv_heads:
        found = f"{heads} heads of {width}, {kv_heads} key-value heads"
        wanted = "heads a multiple of the key-value heads, and of even width"
        raise TensorUnfit(operation=operation, name="q", found=found, wanted=wanted)


def attention(
    q_BTHC: Tensor, k_BTKC: Tensor, v_BTKC: Tensor, places: Places
) -> tuple[Tensor, Tensor, Tensor]:
    """Causal attention over rotated queries and keys: the result, and each query's maximum and
    1 / sum, (B, H, T)."""
    B, T, H, _, C = shape = _attention_shape("attention", q_BTHC, k_BTKC, v_BTKC, places)
    o_BTHC, m_BHT, g_BHT = empty(B, T, H, C), empty(B, H, T), empty(B, H, T)
    tensors = (
        *(q_BTHC, k_BTKC, v_BTKC, places.cos_TH, places.sin_TH, places.first_BT),
        *(o_BTHC, m_BHT, g_BHT),
    )
    _run("attention", *shape, *(tensor.data_ptr() for tensor in tensors))
    return o_BTHC, m_BHT, g_BHT


def attention_kept(
    q_NHC: Tensor,
    k_NKC: Tensor,
    v_NKC: Tensor,
    angles: tuple[Tensor, Tensor],
    sees: int,
    longest: int,
    texts_G6: np.ndarray,
) -> Tensor:
    """Attention of the next positions of texts over what each keeps: kept.py makes the table of
    them, which C trusts (struct kept_text). The longest text has so many positions."""
    N, H, C = _sizes("attention_kept", "q", q_NHC, 3)
    K = _sizes("attention_kept", "k", k_NKC, 3)[1]
    kept, table = (N, K, C), (longest, C // 2)
    cos_TH, sin_TH = (angle[:longest] for angle in angles)
    _check("attention_kept", q=(q_NHC, (N, H, C)), k=(k_NKC, kept), v=(v_NKC, kept))
    _check("attention_kept", cos=(cos_TH, table), sin=(sin_TH, table))
    _check_heads("attention_kept", H, K, C)
    assert sees > 0, "a query sees itself"
    o_NHC = empty(N, H, C)
    tensors = (q_NHC, k_NKC, v_NKC, cos_TH, sin_TH)
    pointers = (*(tensor.data_ptr() for tensor in tensors), texts_G6.ctypes.data, o_NHC.data_ptr())
    _run("attention_kept", len(texts_G6), longest, H, K, C, sees, *pointers)
    return o_NHC


def attention_backward(
    q_BTHC: Tensor,
    k_BTKC: Tensor,
    v_BTKC: Tensor,
    places: Places,
    forward: tuple[Tensor, ...],
    do_BTHC: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dv; forward is what attention returned."""
    B, T, H, K, C = shape = _attention_shape("attention_backward", q_BTHC, k_BTKC, v_BTKC, places)
    if len(forward) != 3:
        found = f"{len(forward)} tensors"
        raise TensorUnfit(
            operation="attention_backward",
            name="forward",
            found=found,
            wanted="what attention returned",
        )
    o_BTHC, m_BHT, g_BHT = forward
    _check("attention_backward", o=(o_BTHC, (B, T, H, C)), do=(do_BTHC, (B, T, H, C)))
    _check("attention_backward", m=(m_BHT, (B, H, T)), g=(g_BHT, (B, H, T)))
    dq_BTHC, dk_BTKC, dv_BTKC = empty(B, T, H, C), empty(B, T, K, C), empty(B, T, K, C)
    tensors = (
        q_BTHC,
        k_BTKC,
        v_BTKC,
        places.cos_TH,
        places.sin_TH,
        places.first_BT,
        *forward,
        do_BTHC,
    )
    pointers = [tensor.data_ptr() for tensor in (*tensors, dq_BTHC, dk_BTKC, dv_BTKC)]
    _run("attention_backward", *shape, *pointers)
    return dq_BTHC, dk_BTKC, dv_BTKC


def rotary_table(positions: int, width: int, theta: float) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding (arXiv:2104.09864), each of
    shape (positions, width / 2)."""
    if not (1 <= positions <= 2**20 and width >= 2 and width % 2 == 0 and 0 < theta < math.inf):
        found, wanted = (
            f"{positions}, {width}, {theta}",
            "1 to 2^20, an even number and a finite one above 0",
        )
        raise TensorUnfit(
            operation="rotary_table", name="positions, width, theta", found=found, wanted=wanted
        )
    cos_TH, sin_TH = empty(positions, width // 2), empty(positions, width // 2)
    _run("rotary_table", positions, width, theta, cos_TH.data_ptr(), sin_TH.data_ptr())
    return cos_TH, sin_TH


def _check_ids(operation: str, name: str, ids_M: Tensor, count: int, vocabulary: int) -> None:
    _check(operation, _INT64, **{name: (ids_M, (count,))})
    array = ids_M.numpy()
    if not 0 <= array.min() <= array.max() < vocabulary:
        found, wanted = f"from {array.min()} to {array.max()}", f"from 0 to {vocabulary - 1}"
        raise TensorUnfit(operation=operation, name=name, found=found, wanted=wanted)


def loss(
    x_MD: Tensor,
    w_VD: Tensor,
    targets_M: Tensor,
    coefficients: tuple[Tensor, Tensor] | None = None,
    wanted: tuple[bool, bool] = (True, True),
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Cross-entropy of every row in nats, (M,), and its log-sum-exp, (M,). With coefficients, of
    the softmax and of the one-hot, (M,) each, also dx and dw where they are wanted: the gradient of
    a row's logits is softmax * the first - onehot * the second. Logits are never held whole."""
    (M, D), V = _sizes("loss", "x", x_MD, 2), _sizes("loss", "w", w_VD, 2)[0]
    _check("loss", x=(x_MD, (M, D)), w=(w_VD, (V, D)))
    _check_ids("loss", "targets", targets_M, M, V)
    if coefficients is not None:
        softmax_M, onehot_M = coefficients
        _check("loss", softmax=(softmax_M, (M,)), onehot=(onehot_M, (M,)))
    losses_M, log_sums_M = empty(M), empty(M)
    dx_MD = empty(M, D) if coefficients and wanted[0] else None
    dw_VD = empty(V, D) if coefficients and wanted[1] else None
    tensors = (*(coefficients or (None, None)), losses_M, log_sums_M, dx_MD, dw_VD)
    pointers = [None if tensor is None else tensor.data_ptr() for tensor in tensors]
    _run("loss", M, V, D, x_MD.data_ptr(), w_VD.data_ptr(), targets_M.data_ptr(), *pointers)
    return losses_M, log_sums_M, dx_MD, dw_VD


def ln(x: float) -> float:
    """The natural logarithm of a float64 (docs/arithmetic.md, section 1)."""
    return library.kernels().pellucid_function(0, x, 0.0)


def exp(x: float) -> float:
    """e to a float64 (docs/arithmetic.md, section 1)."""
    return library.kernels().pellucid_function(1, x, 0.0)


def embed(tokens_M: Tensor, e_VD: Tensor) -> Tensor:
    M, (V, D) = tokens_M.numel(), _sizes("embed", "e", e_VD, 2)
    _check("embed", e=(e_VD, (V, D)))
    _check_ids("embed", "tokens", tokens_M, M, V)
    x_MD = empty(M, D)
    _run("embed", M, D, tokens_M.data_ptr(), e_VD.data_ptr(), x_MD.data_ptr())
    return x_MD


def embed_backward(tokens_M: Tensor, dx_MD: Tensor, vocabulary: int) -> Tensor:
    """The gradient of the embedding, shape (V, D)."""
    M, D = _sizes("embed_backward", "dx", dx_MD, 2)
    _check("embed_backward", dx=(dx_MD, (M, D)))
    _check_ids("embed_backward", "tokens", tokens_M, M, vocabulary)
    de_VD = empty(vocabulary, D)
    _run(
        "embed_backward", M, vocabulary, D, tokens_M.data_ptr(), dx_MD.data_ptr(), de_VD.data_ptr()
    )
    return de_VD


def add_into(a: Tensor, b: Tensor) -> Tensor:
    """a becomes a + b."""
    _check("add", a=(a, a.shape), b=(b, a.shape))
    _run("add", a.numel(), a.data_ptr(), b.data_ptr(), a.data_ptr())
    return a


def axpby_into(x: Tensor, a: float, b: float = 0.0, y: Tensor | None = None) -> Tensor:
    """x becomes fma(a, x, b·y), a and b rounded to float32; without y it becomes a·x."""
    _check("axpby", x=(x, x.shape), y=(x if y is None else y, x.shape))
    _run("axpby", x.numel(), a, x.data_ptr(), b, None if y is None else y.data_ptr())
    return x


def _sums(operation: str, count: int) -> Tensor:
    """A float64 for each tensor's sum of squares."""
    if not count:
        raise TensorUnfit(
            operation=operation, name="tensors", found="empty", wanted="one or more tensors"
        )
    return empty(count, dtype=torch.float64)


def norm_of(tensors: list[Tensor]) -> float:
    """The Euclidean norm over all of them, float64."""
    sums = _sums("norm_of", len(tensors))
    for index, tensor in enumerate(tensors):
        _check("norm_of", x=(tensor, tensor.shape))
        _run("sum_of_squares", tensor.numel(), tensor.data_ptr(), sums.data_ptr() + 8 * index)
    return library.kernels().pellucid_norm_of(len(tensors), sums.data_ptr())


@dataclass(frozen=True, slots=True)
class AdamW:
    """The constants of a step (arXiv:1711.05101). clip is the factor on gradients."""

    lr: float
    beta1: float
    beta2: float
    epsilon: float
    weight_decay: float  # Of matrices; tensors of one dimension have none.
    step: int
    clip: float


ADAMW = ("weights", "gradient", "exp_avg", "exp_avg_sq")  # What adamw takes of each tensor.


def adamw(how: AdamW, tensors: list[tuple[Tensor, Tensor, Tensor, Tensor]]) -> float:
    """Move weights, exp_avg and exp_avg_sq of each row (ADAMW) in place;
    returns the new weights' norm."""
    sums = _sums("adamw", len(tensors))
    if how.step < 1:
        raise TensorUnfit(operation="adamw", name="step", found=how.step, wanted="1 or more")
    for index, (p, g, m, v) in enumerate(tensors):
        _check("adamw", p=(p, p.shape), g=(g, p.shape), m=(m, p.shape), v=(v, p.shape))
        decay = how.weight_decay if p.dim() > 1 else 0.0
        constants = (how.lr, how.beta1, how.beta2, how.epsilon, decay, how.step, how.clip)
        pointers = [tensor.data_ptr() for tensor in (p, g, m, v)]
        _run("adamw", p.numel(), *constants, *pointers, sums.data_ptr() + 8 * index)
    return library.kernels().pellucid_norm_of(len(tensors), sums.data_ptr())


def initial_values(key: int, shape: tuple[int, ...], std: float, divisor_squared: float) -> Tensor:
    """Uniform values with the standard deviation std / sqrt(divisor_squared), draw
    by draw under a Philox key."""
    out = empty(*shape)
    _run("initial_values", key, 0, out.numel(), std, divisor_squared, out.data_ptr())
    return out
